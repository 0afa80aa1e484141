/* Real sockets on loopback: runs in and out, TOS and TTL, ICMP errors, twins. */
#include "../../test.h"

#include <unistd.h>

#include "rt/udp.h"

static struct tw_rt_rx rx;
static struct tw_rt_tx tx;
static struct tw_rt_udp a, b;

static void open_both(const char *where, unsigned flags)
{
    struct tw_addr local = ip(where);
    assert_ok(tw_rt_rx_init(&rx));
    tw_rt_tx_init(&tx, &rx);
    assert_ok(tw_rt_udp_open(&a, &local, flags));
    assert_ok(tw_rt_udp_open(&b, &local, flags));
    a.burst = b.burst = a.min_burst = b.min_burst = TW_RT_RX_MAX;
}

static void close_both(void)
{
    tw_rt_udp_close(&a);
    tw_rt_udp_close(&b);
    tw_rt_rx_fini(&rx);
}

static void send_text(struct tw_rt_udp *from, const struct tw_addr *to, const char *text,
                      uint8_t tos, uint8_t ttl)
{
    struct tw_bytes t = tw_bytes_str(text);
    struct tw_datagram d = { .dst = *to, .src = from->local, .tos = tos, .ttl = ttl, .iov = &t,
                             .iov_n = 1 };
    tw_rt_tx_add(&tx, from, &d);
}

static unsigned read_wait(struct tw_rt_udp *u)
{
    unsigned n = 0;
    for (int i = 0; i < 100 && !n; i++) {
        n = tw_rt_rx_read(&rx, u);
        if (!n)
            usleep(1000);
    }
    return n;
}

/* Twenty datagrams for one receiver leave in one call and one message, and arrive as one run. */
static void runs(const char *where)
{
    struct tw_datagram d;
    open_both(where, TW_RT_GRO);
    for (int i = 0; i < 20; i++)
        send_text(&a, &b.local, "0123456789", 0, 0);
    send_text(&a, &b.local, "short", 0, 0);
    send_text(&a, &b.local, "0123456789", 0, 0); /* behind a short one: a message of its own */
    tw_rt_tx_flush(&tx);
    assert_int_equal(tx.stats.datagrams, 22);
    assert_int_equal(tx.stats.messages, 2);
    assert_int_equal(tx.stats.calls, 1);
    assert_int_equal(read_wait(&b), 2);
    tw_rt_rx_get(&rx, 0, &d);
    assert_int_equal(d.segment, 10);
    assert_int_equal(d.iov[0].n, 205);
    assert_true(tw_addr_eq(&d.src, &a.local));
    tw_rt_rx_get(&rx, 1, &d);
    assert_int_equal(d.segment, 0);
    assert_int_equal(d.iov[0].n, 10);

    /* Without GRO the receiver gets them one by one. */
    assert_ok(tw_rt_udp_set_gro(&b, false));
    tw_rt_rx_reset(&rx);
    for (int i = 0; i < 5; i++)
        send_text(&a, &b.local, "0123456789", 0, 0);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(&b), 5);
    close_both();
}

static void runs_v4(void **state)
{
    (void)state;
    runs("127.0.0.1");
}

static void runs_v6(void **state)
{
    (void)state;
    runs("::1");
}

static void tos_and_ttl(const char *where)
{
    struct tw_datagram d;
    open_both(where, 0);
    for (int i = 0; i < 20; i++) { /* first by control message, later by the socket's own */
        send_text(&a, &b.local, "x", 0xb9, 33);
        tw_rt_tx_flush(&tx);
        assert_int_equal(read_wait(&b), 1);
        tw_rt_rx_get(&rx, 0, &d);
        assert_int_equal(d.tos, 0xb9);
        assert_int_equal(d.ttl, 33);
        tw_rt_rx_reset(&rx);
    }
    assert_int_equal(a.ttl, 33);
    send_text(&a, &b.local, "x", 0, 44);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(&b), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_int_equal(d.tos, 0);
    assert_int_equal(d.ttl, 44);
    close_both();
}

static void tos_and_ttl_v4(void **state)
{
    (void)state;
    tos_and_ttl("127.0.0.1");
}

static void tos_and_ttl_v6(void **state)
{
    (void)state;
    tos_and_ttl("::1");
}

static void a_pending_error_fails_no_other_peer(void **state)
{
    struct tw_addr closed = ip("127.0.0.1:1");
    struct tw_rt_icmp e;
    (void)state;
    open_both("127.0.0.1", TW_RT_RECVERR);
    for (int i = 0; i < 10; i++) {
        send_text(&a, &closed, "into the void", 0, 0);
        tw_rt_tx_flush(&tx);
        send_text(&a, &b.local, "to somebody", 0, 0);
        tw_rt_tx_flush(&tx);
    }
    assert_int_equal(tx.stats.dropped, 0);
    unsigned got = 0;
    for (int i = 0; i < 20 && got < 10; i++)
        got += read_wait(&b);
    assert_int_equal(got, 10);
    assert_true(tw_rt_udp_error(&a, &e));
    assert_addr(e.peer, "127.0.0.1:1");
    assert_int_equal(e.type, 3);
    assert_int_equal(e.code, 3);
    close_both();
}

static void a_wildcard_socket_answers_from_the_address_it_was_asked_at(void **state)
{
    struct tw_addr any = ip("0.0.0.0"), to, local = ip("127.0.0.1");
    struct tw_datagram d;
    struct tw_rt_udp w;
    (void)state;
    open_both("127.0.0.1", 0);
    assert_ok(tw_rt_udp_open(&w, &any, 0));
    to = ip("127.0.0.77");
    to.port = w.local.port;
    send_text(&a, &to, "hello", 0, 0);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(&w), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_true(tw_addr_eq(&d.dst, &to));
    struct tw_datagram back = { .src = d.dst, .dst = d.src, .iov = d.iov, .iov_n = 1 };
    tw_rt_tx_add(&tx, &w, &back);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(&a), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_true(tw_addr_eq(&d.src, &to));
    assert_false(tw_addr_eq_ip(&d.src, &local));
    tw_rt_udp_close(&w);
    close_both();
}

static void a_twin_takes_one_peer_and_leaves_the_others(void **state)
{
    struct tw_addr local = ip("127.0.0.1");
    struct tw_datagram d;
    struct tw_rt_udp other;
    (void)state;
    open_both("127.0.0.1", TW_RT_REUSEPORT);
    assert_ok(tw_rt_udp_open(&other, &local, 0));
    for (int i = 0; i < TW_RT_HOT; i++)
        send_text(&a, &b.local, "x", 0, 0);
    assert_int_equal(a.heat, TW_RT_HOT);
    tw_rt_tx_flush(&tx);
    assert_ok(tw_rt_udp_connect(&a, TW_RT_REUSEPORT));
    a.twin->burst = a.twin->min_burst = TW_RT_RX_MAX;
    for (unsigned got = 0; got < TW_RT_HOT; tw_rt_rx_reset(&rx))
        got += read_wait(&b);

    send_text(&a, &b.local, "hot", 0, 0);
    send_text(&a, &other.local, "cold", 0, 0);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(&b), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_true(tw_addr_eq(&d.src, &a.local)); /* the twin has the same address */
    assert_int_equal(read_wait(&other), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_true(tw_addr_eq(&d.src, &a.local));

    send_text(&b, &a.local, "to the twin", 0, 0);
    send_text(&other, &a.local, "to the first", 0, 0);
    tw_rt_tx_flush(&tx);
    assert_int_equal(read_wait(a.twin), 1);
    assert_int_equal(read_wait(&a), 1);
    tw_rt_rx_get(&rx, 0, &d);
    assert_true(tw_addr_eq(&d.src, &other.local));
    tw_rt_udp_close(&other);
    close_both();
}

static void an_occupied_port(void **state)
{
    struct tw_rt_udp c;
    (void)state;
    open_both("127.0.0.1", 0);
    assert_int_equal(tw_rt_udp_open(&c, &a.local, 0), TW_EADDRINUSE);
    close_both();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_v4),
        cmocka_unit_test(runs_v6),
        cmocka_unit_test(tos_and_ttl_v4),
        cmocka_unit_test(tos_and_ttl_v6),
        cmocka_unit_test(a_pending_error_fails_no_other_peer),
        cmocka_unit_test(a_wildcard_socket_answers_from_the_address_it_was_asked_at),
        cmocka_unit_test(a_twin_takes_one_peer_and_leaves_the_others),
        cmocka_unit_test(an_occupied_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
