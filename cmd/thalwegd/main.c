/* thalwegd: the STUN and TURN server. */
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "helper.h"
#include "log.h"
#include "rt/os.h"
#include "sandbox.h"
#include "systemd.h"
#include "upgrade.h"
#include "version.h"

static const char usage[] =
    "usage: thalwegd [options]\n"
    "\n"
    "A STUN and TURN server, and a rendezvous for thalweg(1). Options have coturn's\n"
    "names where they mean the same, and a turnserver.conf works (-c FILE). Without\n"
    "any option it makes up a user and a certificate and says what clients need.\n"
    "Example: thalwegd -L 192.0.2.7 -u alice:secret -r example.org\n\n";

enum { FILES_WANTED = 1 << 20 }; /* each allocation takes one or two */

struct daemon d = { .heir_fd = -1, .elder_fd = -1 };

static void on_signal(uv_signal_t *handle, int number)
{
    switch (number) {
    case SIGHUP:
        change_reload();
        break;
    case SIGUSR2:
        successor_start();
        break;
    case SIGTERM:
        if (!d.drain_until && d.options->drain_timeout) {
            end_drain();
            break;
        }
        /* fall through */
    default:
        log_line(TW_INFO, "stopping on signal %d", number);
        uv_stop(handle->loop);
        break;
    }
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
    int err = tw_rt_server_start(&cfg, d.elder_fd >= 0 ? &heir : NULL, &d.server, &bad);
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
    change_watch();
    if (d.elder_fd >= 0)
        successor_watch_elder();
    char ready[64];
    snprintf(ready, sizeof(ready), "READY=1\nMAINPID=%ld", (long)getpid());
    systemd_notify(ready);
    uv_run(d.loop, UV_RUN_DEFAULT);
    rendezvous_stop();
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
    say_where();
    if (d.config->made_up[0])
        say_made_up();
    bool ok = start_metrics(o, d.config);
    if (ok && o->pidfile && !helper_write_pid(o->pidfile, getpid())) {
        log_line(TW_ERROR, "cannot write the pid file %s: %s", o->pidfile, strerror(errno));
        ok = false;
    }
    d.loop = uv_default_loop();
    if (!d.loop)
        log_line(TW_ERROR, "cannot start: no memory, or too many files are open");
    ok = ok && d.loop && rendezvous_start() && give_up_rights(o);
    if (ok) {
        run();
    } else if (d.loop) {
        rendezvous_stop();
        uv_run(d.loop, UV_RUN_DEFAULT);
    }
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
    if (takeover)
        d.elder_fd = atoi(takeover);
    unsetenv(HELPER_FD);
    d.config = calloc(1, sizeof(*d.config));
    int status = EXIT_FAILURE;
    if (d.config && (o->no_sandbox || sandbox_without_rings()) && open_database() && config_make(d.config, o, d.db, helper_open, NULL) &&
        helper_start(o, d.argv) && change_log(o)) {
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
