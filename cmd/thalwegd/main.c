/* thalwegd: the STUN and TURN server. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "config.h"
#include "log.h"
#include "rt/os.h"
#include "rt/server.h"
#include "version.h"

static const char usage[] =
    "usage: thalwegd -u NAME:PASSWORD [options]\n"
    "\n"
    "A STUN and TURN server. Options have coturn's names where they mean the same.\n"
    "Example: thalwegd -L 192.0.2.7 -u alice:secret -r example.org\n\n";

/* Sets of sockets are made once and each allocation takes one or two files. */
enum { FILES_WANTED = 1 << 20 };

static void on_signal(uv_signal_t *handle, int number)
{
    log_line(TW_INFO, "stopping on signal %d", number);
    uv_stop(handle->loop);
}

static bool write_pidfile(const char *path)
{
    FILE *f = fopen(path, "we");
    if (!f) {
        log_line(TW_ERROR, "cannot write the pid file %s: %s", path, strerror(errno));
        return false;
    }
    fprintf(f, "%ld\n", (long)getpid());
    fclose(f);
    return true;
}

static void say_where(const struct tw_rt_server *s, const struct config *c)
{
    char a[TW_ADDR_STRLEN], b[TW_ADDR_STRLEN];
    for (uint32_t i = 0; i < c->relay.listener_n; i++) {
        struct tw_addr l = tw_rt_server_listener(s, i);
        log_line(TW_INFO, "listening on udp %s", tw_addr_format(&l, a));
    }
    for (uint32_t i = 0; i < c->relay.relay_n && !c->relay.no_turn; i++) {
        const struct tw_relay_addr *r = &c->relay.relays[i];
        if (r->external.family)
            log_line(TW_INFO, "relaying on %s, known as %s", tw_addr_format(&r->ip, a),
                     tw_addr_format(&r->external, b));
        else
            log_line(TW_INFO, "relaying on %s", tw_addr_format(&r->ip, a));
    }
}

static void say_stats(const struct tw_rt_server *s)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(s, &st);
#define LINE(name, text)                                                                          \
    if (st.relay.name)                                                                            \
        log_line(TW_INFO, "%llu %s", (unsigned long long)st.relay.name, text);
    TW_RELAY_COUNTERS(LINE)
#undef LINE
    if (st.tx.dropped)
        log_line(TW_INFO, "%llu datagrams the system would not send",
                 (unsigned long long)st.tx.dropped);
    if (st.queue_full)
        log_line(TW_INFO, "%llu hand-overs between workers dropped",
                 (unsigned long long)st.queue_full);
}

static void wait_for_signal(void)
{
    uv_signal_t term, intr;
    uv_loop_t *loop = uv_default_loop();
    uv_signal_init(loop, &term);
    uv_signal_init(loop, &intr);
    uv_signal_start(&term, on_signal, SIGTERM);
    uv_signal_start(&intr, on_signal, SIGINT);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&term, NULL);
    uv_close((uv_handle_t *)&intr, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
}

static int serve(const struct options *o, const struct config *c)
{
    char text[TW_ADDR_STRLEN];
    struct tw_rt_server *server;
    int bad;
    unsigned long files = tw_rt_raise_files(FILES_WANTED);
    if (files < 65536)
        log_line(TW_WARN, "only %lu open files are allowed, so at most about that many "
                          "allocations; raise the limit (LimitNOFILE=)", files);
    struct tw_rt_server_config cfg = { .relay = &c->relay, .workers = c->workers,
                                       .gro = !o->no_gro,
                                       .trace = log_trace(o->verbose ? TW_DEBUG : TW_INFO) };
    int err = tw_rt_server_start(&cfg, &server, &bad);
    if (err) {
        const char *why = err == TW_ESYS ? strerror(errno) : tw_strerror(err);
        if (bad >= 0)
            log_line(TW_ERROR, "cannot listen on udp %s: %s",
                     tw_addr_format(&c->relay.listeners[bad], text), why);
        else
            log_line(TW_ERROR, "cannot start: %s", why);
        return EXIT_FAILURE;
    }
    say_where(server, c);
    bool ok = !o->pidfile || write_pidfile(o->pidfile);
    if (ok)
        wait_for_signal();
    say_stats(server);
    tw_rt_server_stop(server);
    if (ok && o->pidfile)
        unlink(o->pidfile);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct options o;
    struct config c = { 0 };
    int status = EXIT_FAILURE;
    if (sodium_init() < 0) {
        fprintf(stderr, "thalwegd: libsodium does not start\n");
        return EXIT_FAILURE;
    }
    if (argc == 2 && strcmp(argv[1], "--help-man") == 0) { /* for the build of the man page */
        options_help(stdout, true);
        return EXIT_SUCCESS;
    }
    if (!options_read(&o, argc, argv)) {
        options_free(&o);
        return EXIT_FAILURE;
    }
    if (o.help) {
        fputs(usage, stdout);
        options_help(stdout, false);
        status = EXIT_SUCCESS;
    } else if (o.version) {
        puts("thalwegd " THALWEG_VERSION);
        status = EXIT_SUCCESS;
    } else if (config_make(&c, &o) && log_open(o.log_file)) {
        status = serve(&o, &c);
        log_close();
    }
    config_free(&c);
    options_free(&o);
    return status;
}
