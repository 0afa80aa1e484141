/* PCP and NAT-PMP byte by byte, and when what is sent. */
#include "../../test.h"

#include <thalweg/portmap.h>

static void ones(void *ctx, void *p, size_t n)
{
    (void)ctx;
    memset(p, 0xab, n);
}

static const struct tw_env env = { .rng = { ones, NULL } };
static struct tw_portmap *p;
static struct tw_portmap_event ev;
static struct tw_datagram d;
static unsigned id;

static void begin(void)
{
    struct tw_portmap_config cfg = { .gateway = ip("192.168.1.1"), .local = ip("192.168.1.9"), .sock = 4 };
    assert_ok(tw_portmap_new(&cfg, &env, &p));
    assert_ok(tw_portmap_add(p, 0, false, 4000, &id));
}

static int answer(tw_time now, const char *from, const void *bytes, size_t n)
{
    struct tw_bytes b = tw_bytes(bytes, n);
    struct tw_datagram in = { .sock = 4, .src = ip(from), .iov = &b, .iov_n = 1 };
    return tw_portmap_recv(p, now, &in);
}

/* RFC 6887 figures 2 and 9. */
static const uint8_t pcp_request[60] = {
    2, 1, 0, 0, 0, 0, 0x1c, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 9,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    17, 0, 0, 0, 0x0f, 0xa0, 0x0f, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0,
};
static const uint8_t pcp_answer[60] = {
    2, 0x81, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    17, 0, 0, 0, 0x0f, 0xa0, 0x1f, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 5,
};

static void speaks_pcp(void **state)
{
    uint8_t bytes[60];
    (void)state;
    begin();
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_addr(d.dst, "192.168.1.1:5351");
    assert_int_equal(d.sock, 4);
    assert_int_equal(d.iov[0].n, 60);
    assert_memory_equal(d.iov[0].p, pcp_request, 60);
    assert_false(tw_portmap_poll_tx(p, &d));
    /* Not from there, not whole, not with that nonce. */
    assert_int_not_equal(answer(1, "192.168.1.2:5351", pcp_answer, 60), 0);
    assert_int_not_equal(answer(1, "192.168.1.1:5350", pcp_answer, 60), 0);
    assert_int_not_equal(answer(1, "192.168.1.1:5351", pcp_answer, 59), 0);
    memcpy(bytes, pcp_answer, 60);
    bytes[30] = 0;
    assert_int_not_equal(answer(1, "192.168.1.1:5351", bytes, 60), 0);
    assert_false(tw_portmap_poll_event(p, &ev));
    assert_ok(answer(1, "192.168.1.1:5351", pcp_answer, 60));
    assert_true(tw_portmap_poll_event(p, &ev));
    assert_int_equal(ev.type, TW_PORTMAP_MAPPED);
    assert_int_equal(ev.lifetime, 3600);
    assert_addr(ev.outside, "203.0.113.5:8000");
    assert_string_equal(tw_portmap_protocol(p), "PCP");
    /* Renewed after half of its time, and a bit; the same port is suggested. */
    tw_time at = tw_portmap_deadline(p);
    assert_in_range(at, 1800 * TW_SEC, 2250 * TW_SEC);
    tw_portmap_tick(p, at);
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_int_equal(tw_get_u16(d.iov[0].p + 42), 8000);
    assert_int_equal(d.iov[0].p[59], 5);
    /* Given back with lifetime 0. */
    tw_portmap_close(p, at + 1);
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_int_equal(tw_get_u32(d.iov[0].p + 4), 0);
    memcpy(bytes, pcp_answer, 60);
    memset(bytes + 4, 0, 4);
    assert_false(tw_portmap_poll_event(p, &ev));
    assert_ok(answer(at + 2, "192.168.1.1:5351", bytes, 60));
    assert_true(tw_portmap_poll_event(p, &ev));
    assert_int_equal(ev.type, TW_PORTMAP_CLOSED);
    tw_portmap_free(p);
}

/* RFC 6886 §3.2, §3.3, §3.5. */
static void falls_back_to_natpmp(void **state)
{
    static const uint8_t version[8] = { 0, 0x80, 0, 1, 0, 0, 0, 7 };
    static const uint8_t outside[12] = { 0, 0x80, 0, 0, 0, 0, 0, 7, 203, 0, 113, 6 };
    static const uint8_t map[12] = { 0, 1, 0, 0, 0x0f, 0xa0, 0x0f, 0xa0, 0, 0, 0x1c, 0x20 };
    static const uint8_t mapped[16] = { 0, 0x81, 0, 0, 0, 0, 0, 7, 0x0f, 0xa0, 0x1f, 0x41, 0, 0, 0x0e, 0x10 };
    (void)state;
    begin();
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_ok(answer(1, "192.168.1.1:5351", version, 8));
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_int_equal(d.iov[0].n, 2);
    assert_true(tw_portmap_poll_tx(p, &d));
    assert_int_equal(d.iov[0].n, 12);
    assert_memory_equal(d.iov[0].p, map, 12);
    assert_ok(answer(2, "192.168.1.1:5351", mapped, 16)); /* the port before the address */
    assert_false(tw_portmap_poll_event(p, &ev));
    assert_ok(answer(3, "192.168.1.1:5351", outside, 12));
    assert_true(tw_portmap_poll_event(p, &ev));
    assert_addr(ev.outside, "203.0.113.6:8001");
    assert_string_equal(tw_portmap_protocol(p), "NAT-PMP");
    /* PCP from now on would be somebody else's. */
    assert_int_not_equal(answer(4, "192.168.1.1:5351", pcp_answer, 60), 0);
    tw_portmap_free(p);
}

static void gives_up_on_a_dumb_gateway(void **state)
{
    unsigned sent = 0;
    (void)state;
    begin();
    tw_time now = 0;
    while ((now = tw_portmap_deadline(p)) != TW_NEVER && now < 60 * TW_SEC) {
        tw_portmap_tick(p, now);
        while (tw_portmap_poll_tx(p, &d))
            sent++;
        if (tw_portmap_poll_event(p, &ev))
            break;
    }
    assert_int_equal(ev.type, TW_PORTMAP_FAILED);
    assert_int_equal(now, 1750 * TW_MSEC);
    assert_true(sent <= 5);
    assert_int_equal(tw_portmap_deadline(p), TW_NEVER);
    tw_portmap_close(p, now);
    assert_true(tw_portmap_poll_event(p, &ev));
    assert_int_equal(ev.type, TW_PORTMAP_CLOSED);
    tw_portmap_free(p);
}

static void has_bounds(void **state)
{
    struct tw_portmap_config bad = { .gateway = ip("192.168.1.1"), .local = ip("2001:db8::1") };
    struct tw_portmap *none = NULL;
    (void)state;
    assert_int_equal(tw_portmap_new(&bad, &env, &none), TW_EINVAL);
    begin();
    assert_int_equal(tw_portmap_add(p, 0, true, 0, &id), TW_EINVAL);
    for (unsigned i = 1; i < TW_PORTMAP_MAX; i++)
        assert_ok(tw_portmap_add(p, 0, i % 2, (uint16_t)(5000 + i), &id));
    assert_int_equal(tw_portmap_add(p, 0, true, 1, &id), TW_EFULL);
    tw_portmap_remove(p, 0, 3);
    tw_portmap_remove(p, 0, 99);
    tw_portmap_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speaks_pcp), cmocka_unit_test(falls_back_to_natpmp),
        cmocka_unit_test(gives_up_on_a_dumb_gateway), cmocka_unit_test(has_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
