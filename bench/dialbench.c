/* How soon two endpoints that are warm reach each other. One process listens, another dials again and again; both
 * print what happens with the machine's monotonic clock, which bench/dial.sh compares.
 *
 *   dialbench listen SERVER        prints its address, then what comes
 *   dialbench dial SERVER ADDRESS N
 *   dialbench cold SERVER|- ADDRESS NUMBER
 *                                  dials once, first thing; "-": has no server of its own
 *
 *   dialbench send SERVER ADDRESS MIB [RUNG]
 *                                  sends so much, over that rung only; the other one says when it has all of it */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/endpoint.h"
#include "rt/os.h"

enum { WARM_MS = 2000, LINGER_MS = 1500, CHUNK = 1 << 18 };

static struct bench {
    struct tw_rt_endpoint rt;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct tw_address peer;
    uint32_t conn;
    int64_t stream;
    unsigned left, number;
    uint64_t to_send, received;
    tw_time rtt_sum, rtts; /* while sending */
    tw_time begun;
    bool dials, cold;
} b;

static double ms(tw_time t)
{
    return (double)t / (double)TW_MSEC;
}

static void note(const char *what, const char *more)
{
    printf("%s %.3f %s\n", what, ms(tw_rt_now()), more);
    fflush(stdout);
}

static void feed(void)
{
    static uint8_t chunk[CHUNK];
    size_t n;
    while (b.to_send) {
        size_t want = b.to_send < CHUNK ? (size_t)b.to_send : CHUNK;
        if (tw_endpoint_write(b.rt.endpoint, tw_rt_now(), b.conn, b.stream, tw_bytes(chunk, want), want == b.to_send, &n))
            exit(1);
        b.to_send -= n;
        if (n < want)
            return;
    }
}

static void dial(uv_timer_t *t)
{
    (void)t;
    if (b.left-- == 0)
        exit(0);
    b.stream = -1;
    char number[16];
    snprintf(number, sizeof(number), "%u", ++b.number);
    if (!b.cold)
        note("dial", number);
    if (tw_endpoint_dial(b.rt.endpoint, tw_rt_now(), &b.peer, tw_bytes_str(number), &b.conn))
        exit(1);
    tw_rt_endpoint_pump(&b.rt);
}

static void hang_up(uv_timer_t *t)
{
    (void)t;
    tw_endpoint_hangup(b.rt.endpoint, tw_rt_now(), b.conn, 0, "done");
    tw_rt_endpoint_pump(&b.rt);
}

static void on_readable(const struct tw_endpoint_event *ev)
{
    struct tw_bytes d;
    bool end;
    while (!tw_endpoint_peek(b.rt.endpoint, ev->conn, ev->stream, &d, &end) && d.n) {
        if (!b.received)
            note("byte", "");
        b.received += d.n;
        tw_endpoint_take(b.rt.endpoint, tw_rt_now(), ev->conn, ev->stream, d.n);
        if (end) {
            char text[32];
            snprintf(text, sizeof(text), "%llu", (unsigned long long)b.received);
            note("end", text);
        }
    }
}

static void on_event(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    struct tw_endpoint_conn c = { 0 };
    char text[100];
    size_t n;
    switch (ev->type) {
    case TW_EP_ONLINE:
        note("online", "");
        if (b.dials && !b.cold)
            uv_timer_start(&b.timer, dial, WARM_MS, 0);
        break;
    case TW_EP_INCOMING:
        b.received = 0;
        break;
    case TW_EP_EARLY:
        snprintf(text, sizeof(text), "%.*s", (int)ev->data.n, (const char *)ev->data.p);
        note("early", text);
        break;
    case TW_EP_READY:
        note("ready", "");
        if (b.dials && !tw_endpoint_open(r->endpoint, tw_rt_now(), ev->conn, &b.stream)) {
            if (b.to_send)
                feed();
            else
                (void)!tw_endpoint_write(r->endpoint, tw_rt_now(), ev->conn, b.stream, tw_bytes("x", 1), false, &n);
            if (!b.to_send)
                uv_timer_start(&b.timer, hang_up, LINGER_MS, 0);
        }
        break;
    case TW_EP_WRITABLE:
        feed();
        if (!tw_endpoint_conn(r->endpoint, ev->conn, &c) && c.rtt) {
            b.rtts++;
            b.rtt_sum += c.rtt;
        }
        if (!b.to_send && b.rtts) {
            snprintf(text, sizeof(text), "%.1f of %.1f", ms(b.rtt_sum / b.rtts), ms(c.min_rtt));
            note("rtt", text);
            b.rtts = 0;
        }
        break;
    case TW_EP_READABLE:
        on_readable(ev);
        break;
    case TW_EP_PATH:
        note("path", tw_rung_name(ev->path.rung));
        break;
    case TW_EP_CLOSED:
        note("closed", ev->why ? ev->why : "");
        if (b.dials)
            uv_timer_start(&b.timer, dial, WARM_MS, 0);
        break;
    case TW_EP_OFFLINE:
        note("offline", ev->why);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    uint8_t seed[TW_SEED_SIZE];
    char text[400];
    struct tw_rt_endpoint_config cfg = { .on_event = on_event };
    bool listens = argc == 3 && !strcmp(argv[1], "listen");
    enum tw_rung rung = TW_RUNG_NONE;
    while (argc == 6 && rung < TW_RUNG_PATCHED && strcmp(tw_rung_name(rung), argv[5]) != 0)
        rung++;
    b.cold = argc == 5 && !strcmp(argv[1], "cold");
    b.dials = (argc == 5 || (argc == 6 && rung < TW_RUNG_PATCHED)) && (!strcmp(argv[1], "dial") || !strcmp(argv[1], "send") || b.cold);
    bool server = !b.dials || strcmp(argv[2], "-") != 0;
    if (b.cold)
        note("dial", argv[4]);
    if ((!listens && !b.dials) || sodium_init() < 0 ||
        (server && tw_rdv_addr_parse(argv[2], &cfg.endpoint.servers[0], NULL)) ||
        (b.dials && tw_address_parse(argv[3], &b.peer, NULL))) {
        fputs("usage: dialbench listen SERVER | dial SERVER ADDRESS N | cold SERVER|- ADDRESS NUMBER | send SERVER ADDRESS MIB [RUNG]\n", stderr);
        return 2;
    }
    b.left = b.dials ? (unsigned)atoi(argv[4]) : 0;
    if (b.cold) {
        b.number = b.left - 1;
        b.left = 1;
    }
    if (b.dials && !strcmp(argv[1], "send")) {
        b.to_send = (uint64_t)b.left << 20;
        b.left = 1;
    }
    cfg.endpoint.rungs = rung ? 1U << rung : 0;
    randombytes_buf(seed, sizeof(seed));
    cfg.endpoint.seed = seed;
    cfg.endpoint.server_n = server;
    cfg.endpoint.listen = !b.cold; /* both: online is when it is warm */
    cfg.endpoint.allow_any = true;
    cfg.endpoint.ice.no_mapping = true;
    cfg.web = true;
    if (getenv("https_proxy") && tw_proxy_parse(getenv("https_proxy"), &cfg.proxy, NULL))
        return 2;
    b.loop = uv_default_loop();
    uv_timer_init(b.loop, &b.timer);
    if (tw_rt_endpoint_init(&b.rt, b.loop, &cfg))
        return 1;
    struct tw_address me = tw_address_of(tw_endpoint_key(b.rt.endpoint), cfg.endpoint.servers, 1);
    if (tw_address_format(&me, text, sizeof(text)))
        return 1;
    note("address", text);
    tw_rt_endpoint_start(&b.rt);
    if (b.cold)
        dial(&b.timer);
    return uv_run(b.loop, UV_RUN_DEFAULT);
}
