/* thalweg stun URI: what a STUN server says this machine's address is. */
#include "cmd.h"

#include <errno.h>
#include <string.h>

#include <thalweg/stun_client.h>

#include "rt/agent.h"
#include "rt/os.h"
#include "rt/resolve.h"

static const char usage[] =
    "usage: thalweg stun [options] URI\n\n"
    "Asks a STUN server which address this machine's packets come from. URI is stun:HOST[:PORT]\n"
    "or just the host. Exits with 0 when there was an answer, 1 when not, 2 on wrong usage.\n\n"
    "Options:\n";

static struct {
    bool json;
    const char *family;
    unsigned timeout_ms;
    struct cmd_tls tls;
} opt;

/* Short enough for a person to wait for: 250 ms, 4 times, then half a second more. */
static struct tw_stun_timing timing = { .rto = 250 * TW_MSEC, .rc = 4, .rm = 2,
                                        .stream_timeout = 5 * TW_SEC };

struct query {
    struct tw_stun_client client;
    struct tw_rt_agent agent;
    struct tw_stun_client_event result;
    bool done;
};

static void on_over(struct tw_rt_agent *a, const char *why)
{
    struct query *q = a->user;
    if (q->done)
        return;
    q->done = true;
    q->result = (struct tw_stun_client_event){ .type = TW_STUN_CLIENT_FAILED, .why = why };
    uv_stop(a->timer.loop);
}

static void on_events(struct tw_rt_agent *a, tw_time now)
{
    struct query *q = a->user;
    (void)now;
    if (!q->done && tw_stun_client_poll_event(&q->client, &q->result)) {
        q->done = true;
        uv_stop(a->timer.loop);
    }
}

/* One server address; false when the socket cannot be had. */
static bool ask(struct query *q, uv_loop_t *loop, const struct tw_uri *uri,
                const struct tw_addr *server)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    struct tw_stun_client_config cfg = { .server = *server, .timing = &timing,
                                         .stream = cmd_is_stream(uri) };
    memset(q, 0, sizeof(*q));
    tw_stun_client_init(&q->client, &cfg, &env, tw_rt_now());
    if (cmd_agent(&q->agent, loop, uri, server, &opt.tls, &tw_rt_stun_client, &q->client,
                  on_events))
        return false;
    q->agent.user = q;
    q->agent.on_over = on_over;
    tw_rt_agent_pump(&q->agent);
    uv_run(loop, UV_RUN_DEFAULT);
    tw_rt_agent_fini(&q->agent);
    uv_run(loop, UV_RUN_DEFAULT);
    return true;
}

static void show(const struct tw_addr *server, const struct query *q)
{
    char s[TW_ADDR_STRLEN], m[TW_ADDR_STRLEN];
    const struct tw_stun_client_event *r = &q->result;
    bool ok = r->type == TW_STUN_CLIENT_MAPPED;
    tw_addr_format(server, s);
    if (opt.json) {
        printf("{\"event\":\"stun\",\"server\":\"%s\",\"ok\":%s", s, ok ? "true" : "false");
        if (ok)
            printf(",\"mapped\":\"%s\",\"rtt_ms\":%.3f,\"sent\":%u", tw_addr_format(&r->mapped, m),
                   (double)r->rtt / 1e6, r->sent);
        else
            printf(",\"code\":%u,\"why\":\"%s\",\"sent\":%u", r->code, r->why ? r->why : "redirected",
                   r->sent);
        printf("}\n");
    } else if (ok) {
        printf("%s\n", tw_addr_format(&r->mapped, m));
        fprintf(stderr, "seen so by %s, round trip %.1f ms%s\n", s, (double)r->rtt / 1e6,
                r->sent > 1 ? ", after a repetition" : "");
    } else {
        fprintf(stderr, "thalweg: %s: %s", s, r->why ? r->why : "it keeps redirecting");
        if (r->code)
            fprintf(stderr, " (%u %s)", r->code, tw_stun_reason(r->code));
        fputs(r->code ? "\n" : "; is UDP blocked on the way, or the address wrong?\n", stderr);
    }
    fflush(stdout);
}

int cmd_stun(int argc, char **argv)
{
    const struct cmd_option options[] = {
        { "--json", NULL, &opt.json, 0, 0, "print one line of JSON" },
        { "--family", "4|6", &opt.family, 0, 0, "use only IPv4 or only IPv6" },
        CMD_TLS_OPTIONS(&opt.tls),
        { "--timeout", "MS", &opt.timeout_ms, 100, 60000, "give a server so long (default 2250)" },
        { 0 },
    };
    const char *text;
    struct tw_uri uri;
    struct tw_addr addrs[TW_RT_RESOLVED_MAX];
    unsigned n;
    bool done;
    int status = cmd_read(argc, argv, usage, options, &text, &done);
    if (status || done)
        return status;
    status = cmd_find_server(text, false, opt.family, &uri, addrs, &n);
    if (status)
        return status;
    if (opt.timeout_ms) /* 1 + 2 + 4 x rto between the four, then 2 x */
        timing.rto = opt.timeout_ms * TW_MSEC / 9;

    static struct query q;
    uv_loop_t *loop = cmd_loop();
    status = EXIT_FAILED;
    for (unsigned i = 0, redirects = 0; i < n && status; i++) {
        struct tw_addr server = addrs[i];
        if (!ask(&q, loop, &uri, &server))
            break;
        while (q.result.type == TW_STUN_CLIENT_REDIRECT && redirects++ < 3) {
            server = q.result.alternate;
            if (!ask(&q, loop, &uri, &server))
                return EXIT_FAILED;
        }
        if (q.result.type == TW_STUN_CLIENT_MAPPED)
            status = EXIT_OK;
        show(&server, &q);
    }
    uv_loop_close(loop);
    return status;
}
