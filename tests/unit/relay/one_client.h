/* The relay and one client of it, one request at a time. */
#ifndef TW_TEST_ONE_CLIENT_H
#define TW_TEST_ONE_CLIENT_H

#include "../../test.h"

#include <thalweg/relay.h>
#include <thalweg/stun_client.h>

static inline void lcg(void *ctx, void *p, size_t n)
{
    static uint32_t x = 1;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static const struct tw_env env = { .rng = { lcg, NULL } };
static struct tw_relay_config cfg;
static struct tw_relay_users *users;
static struct tw_relay_shared *shared;
static struct tw_relay *relay;
static struct tw_stun_cred cred;
static tw_time now;
static uint32_t relay_sock; /* the last one opened */
static struct tw_addr client; /* what the next request comes from, */
static uint32_t from_sock;    /* and over which listener or connection */
static struct tw_relay_event last_event;
static unsigned opens, closes;
static int open_result;
static size_t bytes_back;
static struct tw_addr answer_to, answer_from;
static uint32_t answer_sock;

static uint8_t request_buf[2048], answer_buf[2048];
static struct tw_stun_enc e;
static struct tw_stun_msg answer;
static size_t answer_n;

static inline int set_up(void **state)
{
    (void)state;
    now = 1000 * TW_SEC;
    client = ip("198.51.102.7:4000");
    from_sock = opens = closes = 0;
    open_result = 0;
    memset(&cfg, 0, sizeof(cfg));
    assert_ok(tw_relay_users_new("realm", &users));
    assert_ok(tw_relay_users_add(users, "user", "pass"));
    assert_ok(tw_relay_users_add(users, "other", "pass"));
    cfg.users = users;
    cfg.listeners[0] = ip("203.0.114.1:3478");
    cfg.listener_n = 1;
    cfg.relays[0].ip = ip("203.0.114.1");
    cfg.relays[1].ip = ip("2a00:1::1");
    cfg.relay_n = 1;
    return 0;
}

/* After changes to cfg. */
static inline void start_relay(void)
{
    assert_ok(tw_relay_shared_new(cfg.relays, cfg.relay_n, &env.rng, &shared));
    assert_ok(tw_relay_new(&cfg, shared, &env, 0, 1, &relay));
    assert_ok(tw_stun_cred_init(&cred, "user", "pass"));
}

static inline int set_up_and_start(void **state)
{
    set_up(state);
    start_relay();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    tw_relay_free(relay);
    tw_relay_shared_free(shared);
    tw_relay_users_free(users);
    return 0;
}

/* What the relay has to say; how many datagrams, the last of them in answer. */
static inline unsigned drain(void)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    unsigned count = 0;
    bytes_back = 0;
    for (;;) {
        while (tw_relay_poll_tx(relay, &d)) {
            answer_n = 0;
            for (size_t i = 0; i < d.iov_n; i++) {
                memcpy(answer_buf + answer_n, d.iov[i].p, d.iov[i].n);
                answer_n += d.iov[i].n;
            }
            bytes_back += answer_n;
            answer_to = d.dst;
            answer_from = d.src;
            answer_sock = d.sock;
            count++;
        }
        if (!tw_relay_poll_event(relay, &ev))
            break;
        last_event = ev;
        closes += ev.type == TW_RELAY_CLOSE;
        if (ev.type == TW_RELAY_OPEN) {
            relay_sock = ev.sock;
            opens += !open_result;
            tw_relay_opened(relay, now, ev.sock, open_result);
        }
    }
    if (count)
        (void)!tw_stun_decode(tw_bytes(answer_buf, answer_n), &answer);
    return count;
}

/* Gives bytes to the relay as from the client. */
static inline unsigned give(const void *p, size_t n)
{
    struct tw_bytes b = tw_bytes(p, n);
    struct tw_datagram in = { .sock = from_sock, .src = client, .dst = cfg.listeners[0], .ttl = 60,
                              .iov = &b, .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    return drain();
}

static inline void begin(unsigned method)
{
    static uint8_t tid[TW_STUN_TID];
    tid[0]++;
    tw_stun_begin(&e, request_buf, sizeof(request_buf), TW_STUN_REQUEST, method, tid);
}

/* Signs and sends; the error code of the answer, 0 for success, 1 for none. */
static inline unsigned ask(void)
{
    struct tw_bytes reason;
    unsigned code = 0;
    tw_stun_cred_sign(&cred, &e);
    assert_ok(tw_stun_end(&e));
    if (!give(e.w.p, e.w.n))
        return 1;
    tw_stun_get_error(&answer, &code, &reason);
    return code;
}

static inline void get_nonce(void)
{
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    unsigned code = ask();
    assert_true(code == 401 || code == 438);
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
}

static inline unsigned allocate(void)
{
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    return ask();
}

static inline unsigned about_peer(unsigned method, const char *peer, unsigned channel)
{
    struct tw_addr a = ip(peer);
    begin(method);
    if (channel)
        tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, (uint16_t)channel);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    return ask();
}

static inline unsigned permit(const char *peer)
{
    return about_peer(TW_STUN_CREATE_PERMISSION, peer, 0);
}

/* A Send indication; how many datagrams left. */
static inline unsigned send_data(const char *peer, struct tw_bytes data)
{
    struct tw_addr a = ip(peer);
    tw_stun_begin(&e, request_buf, sizeof(request_buf), TW_STUN_INDICATION, TW_STUN_SEND,
                  (const uint8_t *)"indication!!");
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    tw_stun_add(&e, TW_STUN_A_DATA, data);
    assert_ok(tw_stun_end(&e));
    return give(e.w.p, e.w.n);
}

static inline unsigned send_indication(const char *peer)
{
    return send_data(peer, tw_bytes_str("x"));
}

#endif
