/* The client machine under sequences of answers, verbs and time; a list of steps as in relay.c. An
 * answer gets the transaction id of the request sent last. */
#include "fuzz.h"

#include <thalweg/behaviour.h>
#include <thalweg/turn.h>

static struct tw_turn *turn;
static tw_time now;
static uint8_t tid[TW_STUN_TID];

static void drain(void)
{
    struct tw_datagram d;
    struct tw_turn_event ev;
    for (int i = 0; i < 1000; i++) {
        if (tw_turn_poll_tx(turn, &d)) {
            fuzz_touch(&d);
            if (d.iov[0].n >= TW_STUN_HEADER && d.iov[0].p[0] < 0x40)
                memcpy(tid, d.iov[0].p + 8, sizeof(tid));
        } else if (!tw_turn_poll_event(turn, &ev)) {
            return;
        } else if (ev.type == TW_TURN_DATA && ev.data.n) {
            volatile uint8_t last = ev.data.p[ev.data.n - 1];
            (void)last;
        }
    }
    abort(); /* it never has enough */
}

/* A server's bytes on a data connection, as many as come at a time. */
static void data_connection(struct tw_bytes b)
{
    struct tw_turn_conn *c;
    struct tw_bytes out;
    size_t used, off = 0;
    unsigned code;
    if (tw_turn_conn_new(turn, now, 7, &c))
        return;
    while (tw_turn_conn_poll_tx(c, &out)) {
        if (out.n >= TW_STUN_HEADER && b.n >= TW_STUN_HEADER)
            memcpy((uint8_t *)(uintptr_t)b.p + 8, out.p + 8, TW_STUN_TID);
        if (tw_turn_conn_recv(c, now, tw_bytes(b.p + off, b.n - off), &used))
            break;
        off += used;
    }
    (void)tw_turn_conn_state(c, now, &code);
    tw_turn_conn_free(c);
}

/* What a NAT's discoverer makes of an answer. */
static void behaviour(struct tw_bytes b)
{
    static struct tw_behaviour machine;
    uint32_t seed = 2;
    struct tw_env env = { .rng = { fuzz_fill, &seed } };
    struct tw_behaviour_config cfg = { .server = tw_addr_v4(203, 0, 114, 1, 3478),
                                       .local = tw_addr_v4(10, 0, 0, 1, 5) };
    struct tw_datagram d, in = { .src = cfg.server, .iov = &b, .iov_n = 1 };
    tw_behaviour_init(&machine, &cfg, &env, now);
    for (int i = 0; i < 20; i++) {
        while (tw_behaviour_poll_tx(&machine, &d))
            if (b.n >= TW_STUN_HEADER)
                memcpy((uint8_t *)(uintptr_t)b.p + 8, d.iov[0].p + 8, TW_STUN_TID);
        in.src = i % 3 ? cfg.server : machine.event.other;
        (void)!tw_behaviour_recv(&machine, now, &in);
        if (i % 4 == 3 && tw_behaviour_deadline(&machine) != TW_NEVER)
            tw_behaviour_tick(&machine, tw_behaviour_deadline(&machine));
    }
}

static void step(uint8_t kind, uint8_t parameter, struct tw_bytes payload)
{
    struct tw_addr peer = tw_addr_v4(1, 1, 1, parameter % 4, 1);
    uint8_t *exact = fuzz_exact(payload);
    struct tw_bytes b = tw_bytes(exact, payload.n);
    struct tw_datagram in = { .src = tw_addr_v4(203, 0, 114, 1, 3478), .iov = &b, .iov_n = 1 };
    switch (kind & 7) {
    case 0:
    case 1:
    case 2:
        if (b.n >= TW_STUN_HEADER && kind & 0x10)
            memcpy(exact + 8, tid, sizeof(tid));
        in.segment = kind & 0x80 && b.n > 16 ? 16 : 0;
        if (kind & 0x08)
            behaviour(b);
        else
            (void)!tw_turn_recv(turn, now, &in);
        break;
    case 3:
        now = tw_time_add(now, (tw_time)parameter * parameter * 10 * TW_MSEC);
        tw_turn_tick(turn, now);
        break;
    case 4:
        (void)!tw_turn_send(turn, now, &peer, b, kind, kind & 0x80 ? TW_DGRAM_DF : 0);
        break;
    case 5:
        (void)!tw_turn_permit(turn, now, &peer);
        break;
    case 6:
        if (kind & 0x80)
            (void)!tw_turn_connect(turn, now, &peer);
        else if (kind & 0x40)
            (void)!tw_turn_move(turn, now, 2);
        else if (kind & 0x20)
            data_connection(b);
        else
            tw_turn_forget(turn, &peer);
        break;
    case 7:
        if (kind & 0x80)
            tw_turn_close(turn, now);
        else
            (void)!tw_turn_bind(turn, now, &peer);
        break;
    }
    drain();
    if (tw_turn_deadline(turn) <= now && tw_turn_deadline(turn) != TW_NEVER) {
        tw_turn_tick(turn, now);
        drain();
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint32_t seed = 1;
    struct tw_env env = { .rng = { fuzz_fill, &seed } };
    struct tw_turn_config cfg = { .server = tw_addr_v4(203, 0, 114, 1, 3478),
                                  .families = n ? p[0] & 3 : 0, .stream = n && p[0] & 4,
                                  .port = TW_TURN_PORT_PAIR, .mobility = true,
                                  .tcp = n && p[0] & 8, .max_peers = 4, .dont_fragment = true };
    now = 1000 * TW_SEC;
    if (tw_turn_new(&cfg, &env, &turn))
        abort();
    (void)!tw_turn_allocate(turn, now);
    drain();
    struct tw_rd r = tw_rd(tw_bytes(p, n));
    tw_rd_u8(&r);
    while (r.n && !r.error) {
        uint8_t kind = tw_rd_u8(&r), parameter = tw_rd_u8(&r);
        size_t len = tw_rd_u16(&r);
        step(kind, parameter, tw_rd_bytes(&r, len < r.n ? len : r.n));
    }
    tw_turn_free(turn);
    return 0;
}
