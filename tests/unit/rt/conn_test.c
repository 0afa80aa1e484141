/* Behind a socket that is too slow the oldest datagrams are lost, whole, and nothing else is. */
#include "../../test.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/conn.h"

enum { LIMIT = 100000, HEAD = 8 };

static struct {
    struct conn from, to;
    gnutls_anon_client_credentials_t client;
    gnutls_anon_server_credentials_t server;
    bool tls;
    uint8_t got[LIMIT * 8];
    size_t got_n;
} w;

static void start_tls(struct conn *c, unsigned side, void *credentials)
{
    assert_ok(gnutls_init(&c->tls, side | GNUTLS_NONBLOCK));
    assert_ok(gnutls_priority_set_direct(c->tls, "NORMAL:+ANON-ECDH:-VERS-ALL:+VERS-TLS1.2", NULL));
    assert_ok(gnutls_credentials_set(c->tls, GNUTLS_CRD_ANON, credentials));
    gnutls_transport_set_int(c->tls, c->fd);
}

static void begin(bool tls)
{
    int fds[2], small = 4096;
    memset(&w, 0, sizeof(w));
    w.tls = tls;
    assert_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
    assert_ok(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
    w.from.fd = fds[0];
    w.to.fd = fds[1];
    if (!tls)
        return;
    gnutls_anon_allocate_client_credentials(&w.client);
    gnutls_anon_allocate_server_credentials(&w.server);
    start_tls(&w.from, GNUTLS_CLIENT, w.client);
    start_tls(&w.to, GNUTLS_SERVER, w.server);
    for (int a = 0, b = 0; !a || !b;) {
        a = a ? a : conn_handshake(&w.from);
        b = b ? b : conn_handshake(&w.to);
        assert_true(a >= 0 && b >= 0);
    }
}

static void end(void)
{
    struct conn *both[] = { &w.from, &w.to };
    for (int i = 0; i < 2; i++) {
        if (w.tls)
            gnutls_deinit(both[i]->tls);
        conn_free_out(both[i]);
        close(both[i]->fd);
    }
    if (w.tls) {
        gnutls_anon_free_client_credentials(w.client);
        gnutls_anon_free_server_credentials(w.server);
    }
}

/* A message: length, kind, number, and bytes that follow from these. */
static size_t make(uint8_t *to, uint32_t number, bool keep)
{
    size_t n = HEAD + number * 2654435761u % 1400;
    tw_put_u16(to, (uint16_t)n);
    tw_put_u16(to + 2, keep);
    tw_put_u32(to + 4, number);
    for (size_t i = HEAD; i < n; i++)
        to[i] = (uint8_t)(number + i);
    return n;
}

static void read_some(size_t most)
{
    for (size_t n = 1; n && most;) {
        size_t cap = most < 1000 ? most : 1000;
        assert_ok(conn_read(&w.to, w.got + w.got_n, cap, &n));
        w.got_n += n;
        most -= n;
    }
}

static void loses_the_oldest(bool tls)
{
    enum { N = 2000 };
    static bool came[N];
    uint8_t message[2000];
    unsigned lost = 0, missing = 0, last = 0;
    begin(tls);
    memset(came, 0, sizeof(came));
    for (uint32_t i = 0; i < N; i++) {
        bool keep = i % 50 == 7;
        struct tw_bytes b = tw_bytes(message, make(message, i, keep));
        if (keep)
            assert_true(conn_put(&w.from, &b, 1, 2 * LIMIT));
        else
            lost += conn_put_datagram(&w.from, &b, 1, LIMIT);
        assert_true(conn_pending(&w.from) <= 2 * LIMIT);
        assert_ok(conn_write(&w.from));
        if (i % 3 == 0)
            read_some(600);
    }
    while (conn_pending(&w.from)) {
        read_some(SIZE_MAX);
        assert_ok(conn_write(&w.from));
    }
    read_some(SIZE_MAX);
    for (size_t at = 0; at < w.got_n; last++) { /* all that came is whole, and in order */
        uint32_t number = tw_get_u32(w.got + at + 4);
        size_t n = make(message, number, tw_get_u16(w.got + at + 2));
        assert_in_range(number, last, N - 1);
        assert_true(at + n <= w.got_n);
        assert_memory_equal(w.got + at, message, n);
        came[number] = true;
        last = number;
        at += n;
    }
    for (uint32_t i = 0; i < N; i++) {
        missing += !came[i];
        assert_true(came[i] || i % 50 != 7); /* what was to be kept */
    }
    assert_int_equal(missing, lost);
    assert_true(lost > N / 4);
    for (uint32_t i = N - 20; i < N; i++)
        assert_true(came[i]); /* the newest */
    end();
}

static void oldest_are_lost(void **state)
{
    (void)state;
    loses_the_oldest(false);
}

static void oldest_are_lost_inside_tls(void **state)
{
    (void)state;
    loses_the_oldest(true);
}

static void before_it_is_known_that_the_socket_is_slow_the_newest_is(void **state)
{
    uint8_t message[1000] = { 0 };
    const struct tw_bytes b = tw_bytes(message, sizeof(message)), huge = { message, LIMIT + 1 };
    (void)state;
    begin(false);
    for (unsigned i = 0; i < LIMIT / sizeof(message); i++)
        assert_int_equal(conn_put_datagram(&w.from, &b, 1, LIMIT), 0);
    assert_int_equal(conn_put_datagram(&w.from, &b, 1, LIMIT), 1);
    assert_int_equal(conn_put_datagram(&w.from, &huge, 1, LIMIT), 1);
    assert_int_equal(conn_pending(&w.from), LIMIT);
    end();
}

static void what_is_data(void **state)
{
    static const uint8_t request[] = { 0, 1 }, indication[] = { 0, 0x16 }, data[] = { 0, 0x17 }, channel[] = { 0x40, 0 },
                         quic[] = { 0xc0, 0 };
    (void)state;
    assert_false(conn_is_data(tw_bytes(request, 2)));
    assert_false(conn_is_data(tw_bytes(NULL, 0)));
    assert_true(conn_is_data(tw_bytes(indication, 2)));
    assert_true(conn_is_data(tw_bytes(data, 2)));
    assert_true(conn_is_data(tw_bytes(channel, 2)));
    assert_true(conn_is_data(tw_bytes(quic, 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oldest_are_lost),
        cmocka_unit_test(oldest_are_lost_inside_tls),
        cmocka_unit_test(before_it_is_known_that_the_socket_is_slow_the_newest_is),
        cmocka_unit_test(what_is_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
