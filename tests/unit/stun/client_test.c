#include "../../test.h"

#include <thalweg/stun_client.h>

static void count_up(void *ctx, void *p, size_t n)
{
    static uint8_t next;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = next++;
}

static const struct tw_env env = { .rng = { count_up, NULL } };
static struct tw_stun_client c;
static struct tw_datagram d;
static struct tw_stun_client_event ev;

static void begin(void)
{
    struct tw_stun_client_config cfg = { .server = ip("192.0.2.1:3478"), .sock = 5 };
    tw_stun_client_init(&c, &cfg, &env, 0);
}

/* RFC 8489 §6.2.1 gives the times: 0, 500, 1500, 3500, 7500, 15500, 31500, and failure at 39500. */
static void retransmits_on_the_rfcs_schedule(void **state)
{
    static const int at_ms[] = { 0, 500, 1500, 3500, 7500, 15500, 31500 };
    uint8_t tid[TW_STUN_TID];
    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(at_ms); i++) {
        if (i)
            assert_int_equal(tw_stun_client_deadline(&c), at_ms[i] * TW_MSEC);
        tw_stun_client_tick(&c, at_ms[i] * TW_MSEC - 1);
        if (i)
            assert_false(tw_stun_client_poll_tx(&c, &d));
        tw_stun_client_tick(&c, at_ms[i] * TW_MSEC);
        assert_true(tw_stun_client_poll_tx(&c, &d));
        assert_int_equal(d.sock, 5);
        if (i)
            assert_memory_equal(tid, d.iov[0].p + 8, sizeof(tid));
        memcpy(tid, d.iov[0].p + 8, sizeof(tid));
    }
    tw_stun_client_tick(&c, 39500 * TW_MSEC - 1);
    assert_false(tw_stun_client_poll_event(&c, &ev));
    tw_stun_client_tick(&c, 39500 * TW_MSEC);
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.type, TW_STUN_CLIENT_FAILED);
    assert_int_equal(ev.code, 0);
    assert_int_equal(ev.sent, 7);
    assert_int_equal(tw_stun_client_deadline(&c), TW_NEVER);
}

static int respond(const char *from, enum tw_stun_class cls, int change, const char *mapped,
                   const char *alternate)
{
    static uint8_t out[256];
    struct tw_stun_enc e;
    uint8_t tid[TW_STUN_TID];
    struct tw_addr a;
    memcpy(tid, c.txn.tid, sizeof(tid));
    tid[0] = (uint8_t)(tid[0] ^ change);
    tw_stun_begin(&e, out, sizeof(out), cls, TW_STUN_BINDING, tid);
    if (mapped) {
        a = ip(mapped);
        tw_stun_add_addr(&e, TW_STUN_A_XOR_MAPPED_ADDRESS, &a);
    }
    if (alternate) {
        a = ip(alternate);
        tw_stun_add_error(&e, 300, tw_bytes(NULL, 0));
        tw_stun_add_addr(&e, TW_STUN_A_ALTERNATE_SERVER, &a);
    }
    assert_ok(tw_stun_end(&e));
    struct tw_bytes b = tw_bytes(e.w.p, e.w.n);
    struct tw_datagram in = { .src = ip(from), .iov = &b, .iov_n = 1 };
    return tw_stun_client_recv(&c, 30 * TW_MSEC, &in);
}

static void takes_only_its_own_answer(void **state)
{
    (void)state;
    begin();
    assert_true(tw_stun_client_poll_tx(&c, &d));
    assert_int_not_equal(respond("192.0.2.2:3478", TW_STUN_SUCCESS, 0, "1.2.3.4:5", NULL), 0);
    assert_int_not_equal(respond("192.0.2.1:3479", TW_STUN_SUCCESS, 0, "1.2.3.4:5", NULL), 0);
    assert_int_not_equal(respond("192.0.2.1:3478", TW_STUN_SUCCESS, 1, "1.2.3.4:5", NULL), 0);
    assert_int_not_equal(respond("192.0.2.1:3478", TW_STUN_INDICATION, 0, "1.2.3.4:5", NULL), 0);
    assert_false(tw_stun_client_poll_event(&c, &ev));
    assert_ok(respond("192.0.2.1:3478", TW_STUN_SUCCESS, 0, "1.2.3.4:5", NULL));
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.type, TW_STUN_CLIENT_MAPPED);
    assert_addr(ev.mapped, "1.2.3.4:5");
    assert_int_equal(ev.rtt, 30 * TW_MSEC);
    /* It is over: the same answer again is nobody's. */
    assert_int_not_equal(respond("192.0.2.1:3478", TW_STUN_SUCCESS, 0, "1.2.3.4:5", NULL), 0);
}

static void redirects(void **state)
{
    (void)state;
    begin();
    assert_ok(respond("192.0.2.1:3478", TW_STUN_ERROR, 0, NULL, "192.0.2.9:1"));
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.type, TW_STUN_CLIENT_REDIRECT);
    assert_addr(ev.alternate, "192.0.2.9:1");
    begin(); /* to itself, or to another family: no */
    assert_ok(respond("192.0.2.1:3478", TW_STUN_ERROR, 0, NULL, "192.0.2.1:3478"));
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.type, TW_STUN_CLIENT_FAILED);
    begin();
    assert_ok(respond("192.0.2.1:3478", TW_STUN_ERROR, 0, NULL, "[2001:db8::1]:1"));
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.code, 300);
    assert_int_equal(ev.type, TW_STUN_CLIENT_FAILED);
}

static void short_term_credentials(void **state)
{
    struct tw_bytes password = tw_bytes_str("secret");
    (void)state;
    for (int sha256 = 0; sha256 < 2; sha256++)
        for (int wrong = 0; wrong < 3; wrong++) { /* right; wrong password; not signed */
            struct tw_stun_client_config cfg = { .server = ip("192.0.2.1:3478"), .sha256 = sha256,
                                                 .username = tw_bytes_str("me:you"),
                                                 .password = password };
            static uint8_t out[256];
            struct tw_stun_msg m;
            struct tw_stun_enc e;
            struct tw_addr a = ip("1.2.3.4:5");
            tw_stun_client_init(&c, &cfg, &env, 0);
            assert_true(tw_stun_client_poll_tx(&c, &d));
            assert_ok(tw_stun_decode(d.iov[0], &m));
            assert_true(sha256 ? tw_stun_verify_sha256(&m, password) : tw_stun_verify(&m, password));
            assert_true(tw_bytes_eq(tw_stun_get(&m, TW_STUN_A_USERNAME), cfg.username));
            tw_stun_begin(&e, out, sizeof(out), TW_STUN_SUCCESS, TW_STUN_BINDING, m.tid);
            tw_stun_add_addr(&e, TW_STUN_A_XOR_MAPPED_ADDRESS, &a);
            struct tw_bytes key = wrong == 1 ? tw_bytes_str("guess") : password;
            if (wrong < 2 && sha256)
                tw_stun_add_integrity_sha256(&e, key);
            else if (wrong < 2)
                tw_stun_add_integrity(&e, key);
            assert_ok(tw_stun_end(&e));
            struct tw_bytes b = tw_bytes(e.w.p, e.w.n);
            struct tw_datagram in = { .src = cfg.server, .iov = &b, .iov_n = 1 };
            assert_int_equal(tw_stun_client_recv(&c, 1, &in) == 0, wrong == 0);
            assert_int_equal(tw_stun_client_poll_event(&c, &ev), wrong == 0);
        }
}

static void an_answer_without_address_fails(void **state)
{
    (void)state;
    begin();
    assert_ok(respond("192.0.2.1:3478", TW_STUN_SUCCESS, 0, NULL, NULL));
    assert_true(tw_stun_client_poll_event(&c, &ev));
    assert_int_equal(ev.type, TW_STUN_CLIENT_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retransmits_on_the_rfcs_schedule),
        cmocka_unit_test(takes_only_its_own_answer),
        cmocka_unit_test(redirects),
        cmocka_unit_test(short_term_credentials),
        cmocka_unit_test(an_answer_without_address_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
