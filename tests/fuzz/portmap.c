/* The port mapper under sequences of answers, verbs and time. The first byte of each step says what;
 * an answer's nonce is the one that was sent. */
#include "fuzz.h"

#include <thalweg/portmap.h>

static struct tw_portmap *p;
static uint8_t nonce[12];

static void drain(void)
{
    struct tw_datagram d;
    struct tw_portmap_event ev;
    for (int i = 0; i < 1000; i++) {
        if (tw_portmap_poll_tx(p, &d)) {
            fuzz_touch(&d);
            if (d.iov[0].n == 60)
                memcpy(nonce, d.iov[0].p + 24, sizeof(nonce));
        } else if (!tw_portmap_poll_event(p, &ev)) {
            return;
        } else if (ev.type == TW_PORTMAP_MAPPED && (!ev.outside.family || !ev.outside.port)) {
            abort();
        }
    }
    abort(); /* it never has enough */
}

static void receive(tw_time now, struct tw_bytes b)
{
    uint8_t *copy = fuzz_exact(b);
    struct tw_bytes view = tw_bytes(copy, b.n);
    struct tw_datagram in = { .src = tw_addr_v4(10, 0, 0, 1, TW_PORTMAP_PORT), .iov = &view, .iov_n = 1 };
    if (b.n >= 36 && copy[0] == 2)
        memcpy(copy + 24, nonce, sizeof(nonce));
    (void)!tw_portmap_recv(p, now, &in);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
    uint32_t seed = 1;
    struct tw_env env = { .rng = { fuzz_fill, &seed } };
    struct tw_portmap_config cfg = { .gateway = tw_addr_v4(10, 0, 0, 1, 0),
                                     .local = tw_addr_v4(10, 0, 0, 2, 0) };
    tw_time now = TW_SEC;
    unsigned id;
    if (tw_portmap_new(&cfg, &env, &p))
        abort();
    (void)!tw_portmap_add(p, now, false, 4000, &id);
    drain();
    while (n >= 2) {
        uint8_t what = in[0], arg = in[1];
        in += 2;
        n -= 2;
        switch (what % 6) {
        case 0:
            (void)!tw_portmap_add(p, now, arg & 1, (uint16_t)(4000 + arg), &id);
            break;
        case 1:
            tw_portmap_remove(p, now, arg % 40);
            break;
        case 2:
            now += (tw_time)arg * arg * TW_SEC / 8;
            tw_portmap_tick(p, now);
            break;
        case 3:
            tw_portmap_refresh(p, now);
            break;
        case 4:
            if (arg == 0)
                tw_portmap_close(p, now);
            break;
        default:
            receive(now, tw_bytes(in, arg < n ? arg : n));
            in += arg < n ? arg : n;
            n -= arg < n ? arg : n;
        }
        drain();
    }
    tw_portmap_free(p);
    return 0;
}
