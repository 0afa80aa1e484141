/* The server machine under sequences of packets and time. The input is a list of steps: a kind,
 * a parameter, a 16-bit length, and so many bytes. Authentication is off, so that the fuzzer gets
 * past it. */
#include "fuzz.h"

#include <thalweg/relay.h>

enum { WORKERS = 2, CLIENTS = 4, SOCKS = 64 };

static struct tw_relay *relay[WORKERS];
static tw_time now;
static uint8_t parameter;
static int depth;

static struct tw_addr client(unsigned i)
{
    return tw_addr_v4(198, 51, 102, 1, (uint16_t)(4000 + i % CLIENTS));
}

/* The UDP listener, or one of the client's connections. */
static uint32_t over(uint8_t param)
{
    static const uint32_t kinds[] = { 0, TW_RELAY_STREAM | 1, TW_RELAY_SESSION | 2,
                                      TW_RELAY_STREAM | 3 };
    return kinds[param >> 6];
}

static void drain(unsigned w)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    struct tw_relay_handover h;
    for (;;) {
        while (tw_relay_poll_tx(relay[w], &d))
            fuzz_touch(&d);
        while (tw_relay_poll_handover(relay[w], &h)) {
            uint8_t flat[65536];
            size_t n = 0;
            for (size_t i = 0; i < h.d.iov_n; i++) {
                memcpy(flat + n, h.d.iov[i].p, h.d.iov[i].n);
                n += h.d.iov[i].n;
            }
            struct tw_bytes b = tw_bytes(flat, n);
            h.d.iov = &b;
            h.d.iov_n = 1;
            if (h.to >= WORKERS || (h.to == w) != (h.type == TW_RELAY_HANDOVER_ELDER))
                abort();
            if (depth++ < 8 && h.to != w) {
                tw_relay_recv_handover(relay[h.to], now, &h);
                drain(h.to);
            }
            depth--;
        }
        if (!tw_relay_poll_event(relay[w], &ev))
            return;
        if ((ev.type == TW_RELAY_OPEN || ev.type == TW_RELAY_CONNECT) &&
            parameter % 16 != 15) /* else: never answered */
            tw_relay_opened(relay[w], now, ev.sock,
                            parameter % 16 == 14 ? TW_EADDRINUSE
                            : parameter % 16 == 13 ? TW_ESYS : 0);
    }
}

static void step(uint8_t kind, struct tw_bytes payload)
{
    unsigned w = kind >> 4 & 1;
    uint8_t *exact = fuzz_exact(payload);
    struct tw_bytes b = tw_bytes(exact, payload.n);
    struct tw_datagram in = { .dst = tw_addr_v4(203, 0, 114, 1, 3478), .src = client(parameter),
                              .ttl = parameter, .tos = kind, .iov = &b, .iov_n = 1 };
    struct tw_addr peer = tw_addr_v4(1, 1, 1, parameter % 4, 1);
    switch (kind & 7) {
    case 0:
    case 1:
    case 2:
        in.sock = over(parameter);
        in.segment = kind & 0x80 && in.sock < TW_RELAY_FIRST_SOCK ? (uint16_t)(parameter * 4 + 4) : 0;
        if (in.segment >= b.n)
            in.segment = 0;
        tw_relay_recv(relay[w], now, &in);
        break;
    case 3:
        in.sock = TW_RELAY_FIRST_SOCK + parameter % SOCKS;
        in.src = tw_addr_v4(1, 1, 1, (uint8_t)(kind >> 5), 1);
        in.segment = kind & 0x80 && b.n > 10 ? 10 : 0;
        tw_relay_recv(relay[w], now, &in);
        break;
    case 4:
        now = tw_time_add(now, (tw_time)parameter * parameter * 10 * TW_MSEC);
        tw_relay_tick(relay[0], now);
        tw_relay_tick(relay[1], now);
        drain(!w);
        break;
    case 5:
        in.src = tw_addr_v4(1, 1, 1, (uint8_t)(kind >> 5), 1);
        tw_relay_icmp(relay[w], now, TW_RELAY_FIRST_SOCK + parameter % SOCKS, &in.src, 3, 4, 1280);
        break;
    case 6:
        if (kind & 0x40)
            tw_relay_disconnected(relay[w], now, over(parameter), &in.src, &in.dst);
        else if (kind & 0x20)
            tw_relay_peer_gone(relay[w], now, TW_RELAY_FIRST_SOCK + parameter % SOCKS);
        else if (kind & 0x08)
            tw_relay_peer_arrived(relay[w], now, TW_RELAY_FIRST_SOCK + parameter % SOCKS, &peer);
        else
            tw_relay_opened(relay[w], now, TW_RELAY_FIRST_SOCK + parameter % SOCKS,
                            kind & 0x80 ? TW_EADDRINUSE : 0);
        break;
    case 7:
        in.sock = over(parameter);
        if (!(kind & 0x20)) {
            in.src = tw_addr_v4(203, 0, 114, 1, (uint16_t)(50000 + parameter % 8));
            in.dst = tw_addr_v4(203, 0, 114, 1, (uint16_t)(50000 + kind / 32));
        }
        struct tw_relay_handover h = { .type = (enum tw_relay_handover_type)(kind / 32 % 5), .to = w,
                                       .from = !w, .d = in };
        tw_relay_recv_handover(relay[w], now, &h);
        break;
    }
    drain(w);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint32_t seed = 1;
    struct tw_env env = { .rng = { fuzz_fill, &seed } };
    struct tw_relay_shared *shared;
    struct tw_relay_config cfg = { .listeners = { tw_addr_v4(203, 0, 114, 1, 3478),
                                                  tw_addr_v4(203, 0, 114, 1, 3479),
                                                  tw_addr_v4(203, 0, 114, 2, 3478),
                                                  tw_addr_v4(203, 0, 114, 2, 3479) },
                                   .listener_n = 4, .relay_n = 2, .min_port = 50000,
                                   .max_port = 50007, .publish_flows = true, .mobility = true,
                                   .behaviour = { { { { 0, 1 }, { 2, 3 } } } }, .behaviour_n = 1,
                                   .elder = n && p[0] & 0x80, .max_bps = n > 1 ? p[1] * 64u : 0,
                                   .software = "fuzz" };
    cfg.relays[0].ip = tw_addr_v4(203, 0, 114, 1, 0);
    cfg.relays[1].ip = tw_addr_v6((const uint8_t *)"\x2a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 0);
    now = 1000 * TW_SEC;
    if (tw_relay_shared_new(cfg.relays, cfg.relay_n, &env.rng, &shared))
        abort();
    for (unsigned w = 0; w < WORKERS; w++)
        if (tw_relay_new(&cfg, shared, &env, w, WORKERS, &relay[w]))
            abort();
    struct tw_rd r = tw_rd(tw_bytes(p, n));
    while (r.n && !r.error) {
        uint8_t kind = tw_rd_u8(&r);
        parameter = tw_rd_u8(&r);
        size_t len = tw_rd_u16(&r);
        step(kind, tw_rd_bytes(&r, len < r.n ? len : r.n));
    }
    for (unsigned w = 0; w < WORKERS; w++)
        tw_relay_free(relay[w]);
    if (tw_relay_shared_allocations(shared)) /* what was taken was given back */
        abort();
    tw_relay_shared_free(shared);
    return 0;
}
