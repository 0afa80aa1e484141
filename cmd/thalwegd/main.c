/* thalwegd: the STUN and TURN server. Start, and the parts of its life that signals begin. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "config.h"
#include "helper.h"
#include "log.h"
#include "metrics.h"
#include "rt/os.h"
#include "rt/server.h"
#include "sandbox.h"
#include "systemd.h"
#include "upgrade.h"
#include "version.h"

static const char usage[] =
    "usage: thalwegd [options]\n"
    "\n"
    "A STUN and TURN server. Options have coturn's names where they mean the same,\n"
    "and a turnserver.conf works (-c FILE). Without any option it makes up a user and\n"
    "a certificate and says what clients need.\n"
    "Example: thalwegd -L 192.0.2.7 -u alice:secret -r example.org\n\n";

enum {
    FILES_WANTED = 1 << 20, /* each allocation takes one or two */
    TICK_MS = 2000,         /* how often the database, bans and the clock are looked at */
    DRAIN_TICK_MS = 100,
    ADDRESSES_LATER_MS = 50, /* addresses come and go in groups */
};

static struct daemon {
    int argc;
    char **argv;
    struct options *options;
    struct config *config;
    struct db *db;
    struct tw_rt_server *server;
    struct metrics_extra extra;
    uv_loop_t *loop;
    uv_signal_t term, interrupt, hangup, upgrade;
    uv_timer_t tick, drain, addresses;
    uv_poll_t routes;
    tw_time drain_until; /* 0: not draining */
    bool stale;          /* a change of addresses has not been followed yet */

    uv_poll_t heir;   /* the channel to our successor */
    int heir_fd;      /* -1: none */
    bool retired;     /* it has our listeners */
    uv_poll_t elder;  /* the channel to who was before us */
    int elder_fd;     /* -1: nobody */
} d = { .heir_fd = -1, .elder_fd = -1 };

/* --- configuration, again and again --------------------------------------------------------- */

static void say(const char *line)
{
    log_line(TW_INFO, "%s", line);
}

/* Takes a configuration made from these options. The old one stays when that fails. */
static bool configure(struct options *o)
{
    struct config *next = calloc(1, sizeof(*next));
    if (!next)
        return false;
    bool ok = config_make(next, o, d.db, helper_open, d.config);
    next->relay.draining = d.drain_until > 0;
    if (ok && tw_rt_server_configure(d.server, &next->relay, next->tls)) {
        log_line(TW_ERROR, "listening and relay addresses and ports can only be changed by a "
                           "restart");
        ok = false;
    }
    struct config *old = ok ? d.config : next;
    if (ok)
        d.config = next;
    config_free(old);
    free(old);
    return ok;
}

static void reload(void)
{
    struct options *o = calloc(1, sizeof(*o));
    struct log_config log = { .open_file = helper_append };
    systemd_notify("RELOADING=1");
    bool ok = o && options_read(o, d.argc, d.argv, helper_open) && configure(o);
    if (ok) {
        options_free(d.options);
        free(d.options);
        d.options = o;
        log = (struct log_config){ o->log_file, o->log_format && !strcmp(o->log_format, "json"),
                                   (unsigned)o->log_rate, helper_append };
        (void)log_open(&log);
        atomic_fetch_add(&d.extra.reloads, 1);
        log_line(TW_INFO, "configuration read again");
        config_say_limits(d.config, say);
    } else {
        if (o)
            options_free(o);
        free(o);
        atomic_fetch_add(&d.extra.reload_failures, 1);
        log_line(TW_ERROR, "the new configuration was not taken; the old one goes on. What is wrong "
                           "with it is on standard error");
    }
    systemd_notify("READY=1");
}

static void on_tick(uv_timer_t *t)
{
    int64_t offset = tw_rt_unix_offset();
    int64_t drift = offset - d.config->relay.unix_offset;
    bool expired = d.config->ban_expiry && d.config->ban_expiry <= offset + tw_rt_now() / TW_SEC;
    (void)t;
    if (!(d.db && db_changed(d.db)) && !expired && drift >= -1 && drift <= 1 && !d.stale)
        return;
    if (configure(d.options))
        d.stale = false;
    else
        atomic_fetch_add(&d.extra.reload_failures, 1);
}

/* --- this machine's addresses --------------------------------------------------------------- */

static void on_addresses(uv_timer_t *t)
{
    (void)t;
    d.stale = !configure(d.options);
    if (d.stale)
        log_line(TW_ERROR, "cannot follow a change of this machine's addresses yet");
}

static void on_routes(uv_poll_t *p, int status, int events)
{
    uint8_t ignored[8192];
    (void)status, (void)events;
    int fd;
    if (uv_fileno((uv_handle_t *)p, &fd))
        return;
    while (recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0) {
    }
    uv_timer_start(&d.addresses, on_addresses, ADDRESSES_LATER_MS, 0);
}

static void watch_addresses(void)
{
    struct sockaddr_nl nl = { .nl_family = AF_NETLINK,
                              .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (struct sockaddr *)&nl, sizeof(nl))) {
        log_line(TW_WARN, "changes of this machine's addresses are seen at SIGHUP only: %s",
                 strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    uv_poll_init(d.loop, &d.routes, fd);
    uv_poll_start(&d.routes, UV_READABLE, on_routes);
}

/* --- the end -------------------------------------------------------------------------------- */

static void on_drain(uv_timer_t *t)
{
    struct tw_rt_server_stats st;
    (void)t;
    tw_rt_server_stats(d.server, &st);
    if (st.allocations && tw_rt_now() < d.drain_until)
        return;
    if (st.allocations)
        log_line(TW_INFO, "%u allocations have not ended in time", st.allocations);
    uv_stop(d.loop);
}

static void drain(void)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(d.server, &st);
    d.drain_until = tw_rt_now() + (tw_time)d.options->drain_timeout * TW_SEC;
    atomic_store(&d.extra.draining, true);
    systemd_notify("STOPPING=1");
    log_line(TW_INFO, "no new allocations; waiting up to %lu s for %u to end",
             d.options->drain_timeout, st.allocations);
    (void)!configure(d.options);
    uv_timer_start(&d.drain, on_drain, 0, DRAIN_TICK_MS);
}

/* --- a successor ------------------------------------------------------------------------------ */

static void on_heir(uv_poll_t *p, int status, int events)
{
    char what = 0;
    (void)p, (void)status, (void)events;
    ssize_t n = recv(d.heir_fd, &what, 1, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n == 1 && what == 'h') {
        tw_rt_server_retire(d.server, true);
        d.retired = true;
        if (upgrade_give(d.heir_fd, d.server))
            return;
    }
    if (n == 1 && what == 'r') {
        log_line(TW_INFO, "the successor works; this one ends with its last allocation");
        uv_poll_stop(&d.heir);
        drain();
        return;
    }
    log_line(TW_ERROR, "the successor has failed; this one goes on");
    uv_poll_stop(&d.heir);
    close(d.heir_fd);
    d.heir_fd = -1;
    if (d.retired)
        tw_rt_server_retire(d.server, false);
    d.retired = false;
}

static void upgrade(void)
{
    int pair[2];
    if (d.heir_fd >= 0 || d.drain_until || d.elder_fd >= 0) {
        log_line(TW_ERROR, "a take-over is under way already");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        log_line(TW_ERROR, "no channel to a successor: %s", strerror(errno));
        return;
    }
    bool ok = helper_successor(pair[1]);
    close(pair[1]);
    if (!ok) {
        log_line(TW_ERROR, "cannot start a successor: %s", strerror(errno));
        close(pair[0]);
        return;
    }
    log_line(TW_INFO, "starting a successor");
    d.heir_fd = pair[0];
    uv_poll_init(d.loop, &d.heir, d.heir_fd);
    uv_poll_start(&d.heir, UV_READABLE | UV_DISCONNECT, on_heir);
}

static void on_elder(uv_poll_t *p, int status, int events)
{
    char what;
    (void)p, (void)status, (void)events;
    if (recv(d.elder_fd, &what, 1, MSG_DONTWAIT) != 0)
        return;
    log_line(TW_INFO, "the server before this one has ended");
    uv_poll_stop(&d.elder);
    close(d.elder_fd);
    d.elder_fd = -1;
    tw_rt_server_elder_gone(d.server);
}

static void on_signal(uv_signal_t *handle, int number)
{
    switch (number) {
    case SIGHUP:
        reload();
        break;
    case SIGUSR2:
        upgrade();
        break;
    case SIGTERM:
        if (!d.drain_until && d.options->drain_timeout) {
            drain();
            break;
        }
        /* fall through */
    default:
        log_line(TW_INFO, "stopping on signal %d", number);
        uv_stop(handle->loop);
        break;
    }
}

/* --- telling -------------------------------------------------------------------------------- */

static void say_where(const struct config *c)
{
    char a[TW_ADDR_STRLEN], b[TW_ADDR_STRLEN];
    for (uint32_t i = 0; i < c->relay.listener_n; i++) {
        struct tw_addr l = tw_rt_server_listener(d.server, i);
        log_line(TW_INFO, "listening on udp %s", tw_addr_format(&l, a));
    }
    for (unsigned i = 0; i < c->tcp_n; i++) {
        struct tw_addr l = tw_rt_server_tcp_listener(d.server, i);
        log_line(TW_INFO, "listening on tcp %s", tw_addr_format(&l, a));
    }
    for (uint32_t i = 0; i < c->relay.relay_n && !c->relay.no_turn; i++) {
        const struct tw_relay_addr *r = &c->relay.relays[i];
        if (r->external.family)
            log_line(TW_INFO, "relaying on %s, known as %s", tw_addr_format(&r->ip, a),
                     tw_addr_format(&r->external, b));
        else
            log_line(TW_INFO, "relaying on %s", tw_addr_format(&r->ip, a));
    }
    if (c->tls && c->self_signed)
        log_line(TW_INFO, "TLS and DTLS with a self-signed certificate; name a real one with --cert "
                          "and --pkey");
    if (c->relay.behaviour_n)
        log_line(TW_INFO, "behaviour discovery (RFC 5780) is answered");
    config_say_limits(c, say);
}

/* What a WebRTC application's list of ICE servers wants. */
static void say_made_up(const struct config *c)
{
    char a[TW_ADDR_STRLEN];
    printf("Nothing is configured, so a user was made up. Give this to clients:\n\n{\"urls\":[");
    for (unsigned i = 0; i < c->tcp_n; i++) {
        struct tw_addr l = tw_rt_server_tcp_listener(d.server, i);
        bool secure = l.port == d.options->tls_port;
        tw_addr_format(&l, a);
        printf("%s\"%s:%s?transport=udp\",\"%s:%s?transport=tcp\"", i ? "," : "",
               secure ? "turns" : "turn", a, secure ? "turns" : "turn", a);
    }
    printf("],\"username\":\"%s\",\"credential\":\"%s\"}\n\n", CONFIG_MADE_UP_USER, c->made_up);
    struct tw_addr first = tw_rt_server_tcp_listener(d.server, 0);
    printf("Try it:\n  thalweg turn -u %s -w %s turn:%s\n\n", CONFIG_MADE_UP_USER, c->made_up,
           tw_addr_format(&first, a));
    fflush(stdout);
}

static void say_stats(void)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(d.server, &st);
#define LINE(name, text)                                                                          \
    if (st.relay.name)                                                                            \
        log_line(TW_INFO, "%llu %s", (unsigned long long)st.relay.name, text);
    TW_RELAY_COUNTERS(LINE)
#undef LINE
#define LINE(name, text)                                                                          \
    if (st.rt.name)                                                                               \
        log_line(TW_INFO, "%llu %s", (unsigned long long)st.rt.name, text);
    TW_RT_COUNTERS(LINE)
#undef LINE
    if (st.tx.dropped)
        log_line(TW_INFO, "%llu datagrams the system would not send",
                 (unsigned long long)st.tx.dropped);
}

/* --- the start -------------------------------------------------------------------------------- */

/* A port left to the system is the one that the elder had. */
static void settle_ports(struct config *c, const struct upgrade *u)
{
    unsigned udp = 0, tcp = 0;
    for (unsigned i = 0; i < u->socket_n; i++) {
        bool is_udp = u->sockets[i].type == SOCK_DGRAM;
        unsigned at = is_udp ? udp++ : tcp++;
        if (is_udp && at < c->relay.listener_n && !c->relay.listeners[at].port)
            c->relay.listeners[at].port = u->sockets[i].addr.port;
        if (!is_udp && at < c->tcp_n && !c->tcp[at].port)
            c->tcp[at].port = u->sockets[i].addr.port;
    }
}

static bool start_server(struct config *c, const struct options *o)
{
    static struct upgrade u;
    char text[TW_ADDR_STRLEN];
    int bad;
    struct tw_rt_server_config cfg = {
        .relay = &c->relay, .tcp = c->tcp, .tcp_n = c->tcp_n, .no_udp = o->no_udp,
        .no_tcp = o->no_tcp, .no_tls = o->no_tls, .no_dtls = o->no_dtls, .tls = c->tls,
        .limits = { (uint32_t)o->connections, (uint32_t)o->handshakes, (uint32_t)o->half_open },
        .workers = c->workers, .gro = !o->no_gro,
        .trace = log_trace(o->verbose ? TW_DEBUG : TW_INFO), .inherited = u.sockets,
    };
    struct tw_rt_heir heir = { &u.legacy, u.heirs };
    if (d.elder_fd >= 0) {
        if (!upgrade_take(d.elder_fd, &u)) {
            log_line(TW_ERROR, "the server to take over from does not answer");
            return false;
        }
        cfg.workers = c->workers = u.legacy.workers;
        settle_ports(c, &u);
    } else {
        u.socket_n = systemd_sockets(u.sockets, UPGRADE_SOCKETS);
    }
    cfg.inherited_n = u.socket_n;
    int err = tw_rt_server_start_heir(&cfg, d.elder_fd >= 0 ? &heir : NULL, &d.server, &bad);
    if (!err)
        return true;
    const char *why = err == TW_ESYS ? strerror(errno) : tw_strerror(err);
    if (bad >= 0) {
        bool udp = (uint32_t)bad < c->relay.listener_n;
        const struct tw_addr *at = udp ? &c->relay.listeners[bad]
                                       : &c->tcp[(uint32_t)bad - c->relay.listener_n];
        log_line(TW_ERROR, "cannot listen on %s %s: %s", udp ? "udp" : "tcp",
                 tw_addr_format(at, text), why);
    } else {
        log_line(TW_ERROR, "cannot start: %s", why);
    }
    return false;
}

static bool start_metrics(const struct options *o, const struct config *c)
{
    enum { DEFAULT_PORT = 9641 };
    struct tw_addr at = tw_addr_v4(127, 0, 0, 1, 0);
    if (!o->prometheus)
        return true;
    if (o->prometheus_address && tw_addr_parse(o->prometheus_address, 0, &at))
        return false;
    at.port = (uint16_t)(o->prometheus_port ? o->prometheus_port : DEFAULT_PORT);
    return metrics_start(&at, d.server, c->workers, &d.extra);
}

static void watch_signal(uv_signal_t *s, int number)
{
    uv_signal_init(d.loop, s);
    uv_signal_start(s, on_signal, number);
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void run(void)
{
    watch_signal(&d.term, SIGTERM);
    watch_signal(&d.interrupt, SIGINT);
    watch_signal(&d.hangup, SIGHUP);
    watch_signal(&d.upgrade, SIGUSR2);
    uv_timer_init(d.loop, &d.drain);
    uv_timer_init(d.loop, &d.addresses);
    uv_timer_init(d.loop, &d.tick);
    uv_timer_start(&d.tick, on_tick, TICK_MS, TICK_MS);
    watch_addresses();
    if (d.elder_fd >= 0) {
        uv_poll_init(d.loop, &d.elder, d.elder_fd);
        uv_poll_start(&d.elder, UV_READABLE | UV_DISCONNECT, on_elder);
        upgrade_say(d.elder_fd, 'r');
    }
    char ready[64];
    snprintf(ready, sizeof(ready), "READY=1\nMAINPID=%ld", (long)getpid());
    systemd_notify(ready);
    uv_run(d.loop, UV_RUN_DEFAULT);
    uv_walk(d.loop, close_handle, NULL);
    uv_run(d.loop, UV_RUN_DEFAULT);
    uv_loop_close(d.loop);
}

/* From here on nothing needs rights that the server gives up. */
static bool give_up_rights(const struct options *o)
{
    if (o->proc_group && !o->proc_user) {
        log_line(TW_ERROR, "--proc-group goes with --proc-user");
        return false;
    }
    if (o->proc_user && !sandbox_become(o->proc_user, o->proc_group))
        return false;
    if (!o->proc_user && geteuid() == 0)
        log_line(TW_INFO, "running as root; --proc-user makes it somebody else once it has started");
    return o->no_sandbox || sandbox_enter();
}

static int serve(void)
{
    const struct options *o = d.options;
    unsigned long files = tw_rt_raise_files(FILES_WANTED);
    if (files < 65536)
        log_line(TW_WARN, "only %lu open files are allowed, so at most about that many "
                          "allocations; raise the limit (LimitNOFILE=)", files);
    if (!start_server(d.config, o))
        return EXIT_FAILURE;
    say_where(d.config);
    if (d.config->made_up[0])
        say_made_up(d.config);
    bool ok = start_metrics(o, d.config);
    if (ok && o->pidfile && !helper_write_pid(o->pidfile, getpid())) {
        log_line(TW_ERROR, "cannot write the pid file %s: %s", o->pidfile, strerror(errno));
        ok = false;
    }
    d.loop = uv_default_loop();
    ok = ok && give_up_rights(o);
    if (ok)
        run();
    say_stats();
    metrics_stop();
    tw_rt_server_stop(d.server);
    o = d.options; /* a reload replaces them */
    if (ok && o->pidfile && d.heir_fd < 0)
        helper_remove(o->pidfile);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool open_database(void)
{
    const char *why;
    if (!d.options->database)
        return true;
    if (db_open(d.options->database, false, &d.db, &why))
        return true;
    fprintf(stderr, "thalwegd: --userdb %s: %s\n", d.options->database, why);
    return false;
}

static int start(void)
{
    const struct options *o = d.options;
    const char *takeover = getenv(HELPER_FD);
    struct log_config log = { o->log_file, o->log_format && !strcmp(o->log_format, "json"),
                              (unsigned)o->log_rate, helper_append };
    if (takeover)
        d.elder_fd = atoi(takeover);
    unsetenv(HELPER_FD);
    d.config = calloc(1, sizeof(*d.config));
    int status = EXIT_FAILURE;
    if (d.config && open_database() && config_make(d.config, o, d.db, helper_open, NULL) &&
        helper_start(o, d.argv) && log_open(&log)) {
        status = serve();
        log_close();
    }
    if (d.config)
        config_free(d.config);
    free(d.config);
    if (d.db)
        db_close(d.db);
    return status;
}

int main(int argc, char **argv)
{
    int status = EXIT_FAILURE;
    if (sodium_init() < 0) {
        fprintf(stderr, "thalwegd: libsodium does not start\n");
        return EXIT_FAILURE;
    }
    if (argc == 2 && strcmp(argv[1], "--help-man") == 0) { /* for the build of the man page */
        options_help(stdout, true);
        return EXIT_SUCCESS;
    }
    signal(SIGPIPE, SIG_IGN); /* the HTTP library's */
    d.argc = argc;
    d.argv = argv;
    d.options = calloc(1, sizeof(*d.options));
    if (!d.options)
        return EXIT_FAILURE;
    if (!options_read(d.options, argc, argv, helper_open)) {
        status = EXIT_FAILURE;
    } else if (d.options->help) {
        fputs(usage, stdout);
        options_help(stdout, false);
        status = EXIT_SUCCESS;
    } else if (d.options->version) {
        puts("thalwegd " THALWEG_VERSION);
        status = EXIT_SUCCESS;
    } else {
        status = start();
    }
    options_free(d.options);
    free(d.options);
    return status;
}
