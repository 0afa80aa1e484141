#include "metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "rt/sockaddr.h"
#include "version.h"

enum { CONNECTIONS = 16, TIMEOUT_SEC = 10 };

static struct MHD_Daemon *http;
static const struct tw_rt_server *server;
static const struct metrics_extra *extra;
static unsigned workers;
static time_t started;

static void one(FILE *f, const char *name, const char *type, const char *help, double value)
{
    fprintf(f, "# HELP thalweg_%s %s\n# TYPE thalweg_%s %s\nthalweg_%s %.17g\n", name, help, name,
            type, name, value);
}

static void counter(FILE *f, const char *name, const char *help, uint64_t value)
{
    char full[80];
    snprintf(full, sizeof(full), "%s_total", name);
    one(f, full, "counter", help, (double)value);
}

/* Labels are worker numbers and nothing that a client chooses: their number is bounded. */
static void per_worker(FILE *f)
{
    struct tw_rt_server_stats st;
    fputs("# HELP thalweg_worker_cpu_seconds_total CPU time used\n"
          "# TYPE thalweg_worker_cpu_seconds_total counter\n", f);
    for (unsigned i = 0; i < workers; i++) {
        tw_rt_server_worker_stats(server, i, &st);
        fprintf(f, "thalweg_worker_cpu_seconds_total{worker=\"%u\"} %.6f\n", i,
                (double)st.busy / 1e9);
    }
    fputs("# HELP thalweg_worker_allocations live allocations\n"
          "# TYPE thalweg_worker_allocations gauge\n", f);
    for (unsigned i = 0; i < workers; i++) {
        tw_rt_server_worker_stats(server, i, &st);
        fprintf(f, "thalweg_worker_allocations{worker=\"%u\"} %u\n", i, st.allocations);
    }
}

static void write_all(FILE *f)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(server, &st);
    fputs("# HELP thalweg_build_info the version\n# TYPE thalweg_build_info gauge\n"
          "thalweg_build_info{version=\"" THALWEG_VERSION "\"} 1\n", f);
    one(f, "start_time_seconds", "gauge", "when it started, Unix time", (double)started);
    one(f, "allocations", "gauge", "live allocations", st.allocations);
    one(f, "connections", "gauge", "live TCP, TLS and DTLS clients", st.connections);
    one(f, "draining", "gauge", "1: no new allocations are made", atomic_load(&extra->draining));
    counter(f, "reloads", "configurations taken", atomic_load(&extra->reloads));
    counter(f, "reload_failures", "configurations refused", atomic_load(&extra->reload_failures));
#define COUNTER(name, text) counter(f, #name, text, st.relay.name);
    TW_RELAY_COUNTERS(COUNTER)
#undef COUNTER
#define COUNTER(name, text) counter(f, #name, text, st.rt.name);
    TW_RT_COUNTERS(COUNTER)
#undef COUNTER
    counter(f, "tx_datagrams", "datagrams sent", st.tx.datagrams);
    counter(f, "tx_calls", "system calls that sent them", st.tx.calls);
    counter(f, "tx_dropped", "datagrams the system would not send", st.tx.dropped);
    per_worker(f);
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
                              char *text, size_t n)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_n, void **state)
{
    char *text = NULL;
    size_t n = 0;
    (void)ctx, (void)version, (void)body, (void)state;
    *body_n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return MHD_NO;
    unsigned status = MHD_HTTP_OK;
    if (strcmp(method, "GET") != 0)
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
    else if (strcmp(url, "/metrics") != 0)
        status = MHD_HTTP_NOT_FOUND;
    if (status == MHD_HTTP_OK)
        write_all(f);
    else
        fputs("metrics are at /metrics\n", f);
    fclose(f);
    return answer(c, status, status == MHD_HTTP_OK ? "text/plain; version=0.0.4" : "text/plain",
                  text, n);
}

bool metrics_start(const struct tw_addr *at, const struct tw_rt_server *s, unsigned worker_n,
                   const struct metrics_extra *e)
{
    struct sockaddr_storage ss;
    char text[TW_ADDR_STRLEN];
    server = s;
    workers = worker_n;
    extra = e;
    started = time(NULL);
    tw_rt_sockaddr(at, &ss);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                     (at->family == TW_FAMILY_V6 ? MHD_USE_IPv6 : 0u);
    errno = 0;
    http = MHD_start_daemon(flags, at->port, NULL, NULL, on_request, NULL, MHD_OPTION_SOCK_ADDR,
                            (struct sockaddr *)&ss, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
                            MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_SEC, MHD_OPTION_END);
    if (!http) {
        log_line(TW_ERROR, "cannot serve metrics on %s: %s", tw_addr_format(at, text),
                 errno ? strerror(errno) : "the HTTP library does not start");
        return false;
    }
    log_line(TW_INFO, "metrics at http://%s/metrics", tw_addr_format(at, text));
    return true;
}

void metrics_stop(void)
{
    if (http)
        MHD_stop_daemon(http);
    http = NULL;
}
