#include "../../test.h"

#include "secure/secure.h"

enum { DELAY_MS = 20, IN_FLIGHT = 4096, MTU_SLOT = TW_SECURE_BATCH };

static const struct tw_env env = { .rng = { test_random, NULL } };

/* Two ends and a link of DELAY_MS each way. */
struct packet {
    tw_time at;
    int to;
    size_t n, segment;
    uint8_t *b;
};

struct net {
    struct tw_secure *end[2]; /* 0 the client */
    struct tw_ident id[2];
    tw_time now, connected_at[2], ready_at[2];
    struct packet flight[IN_FLIGHT];
    size_t flight_n;
    bool (*pass)(struct net *net, int to, uint8_t *p, size_t n); /* may change it */
    unsigned count;
    bool connected[2], closed[2];
    uint64_t code[2];
    char reason[2][200];
    int64_t opened[2];
    unsigned ended[2];
    size_t datagrams[2];
    uint8_t wire[1 << 20]; /* what could be seen */
    size_t wire_n, sent[2];
};

static uint8_t tx_buf[TW_SECURE_BATCH];
static struct net net;

static struct tw_secure *make(const struct net *n, bool server, const struct tw_key *peer, uint8_t secret)
{
    struct tw_secure *s;
    struct tw_secure_config cfg = { .server = server, .self = &n->id[server], .peer = *peer,
                                    .secret = { secret }, .tx_buf = tx_buf };
    assert_ok(tw_secure_new(&cfg, &env, n->now, &s));
    return s;
}

static void set_up(const struct tw_key *client_wants, const struct tw_key *server_wants, uint8_t secret)
{
    uint8_t seed[2][TW_SEED_SIZE] = { { 1 }, { 2 } };
    memset(&net, 0, sizeof(net));
    net.now = 1000 * TW_SEC;
    for (int i = 0; i < 2; i++)
        assert_ok(tw_ident_init(&net.id[i], seed[i]));
    net.end[0] = make(&net, false, client_wants ? client_wants : &net.id[1].key, 9);
    net.end[1] = make(&net, true, server_wants ? server_wants : &net.id[0].key, secret);
}

static void tear_down(void)
{
    for (int i = 0; i < 2; i++)
        tw_secure_free(net.end[i]);
    for (size_t i = 0; i < net.flight_n; i++)
        free(net.flight[i].b);
}

static void send_all(int from)
{
    struct tw_datagram d;
    while (tw_secure_poll_tx(net.end[from], &d)) {
        size_t step = d.segment ? d.segment : d.iov[0].n;
        for (size_t at = 0; at < d.iov[0].n; at += step) {
            size_t n = d.iov[0].n - at < step ? d.iov[0].n - at : step;
            uint8_t *b = malloc(n);
            memcpy(b, d.iov[0].p + at, n);
            net.sent[from] += n;
            if (net.wire_n + n < sizeof(net.wire)) {
                memcpy(net.wire + net.wire_n, b, n);
                net.wire_n += n;
            }
            net.count++;
            if (net.flight_n == IN_FLIGHT || (net.pass && !net.pass(&net, !from, b, n))) {
                free(b);
                continue;
            }
            net.flight[net.flight_n++] = (struct packet){ net.now + DELAY_MS * TW_MSEC, !from, n, 0, b };
        }
    }
}

static void take_events(int i)
{
    struct tw_secure_event ev;
    while (tw_secure_poll_event(net.end[i], &ev)) {
        if (ev.type == TW_SECURE_CONNECTED) {
            net.connected[i] = true;
            net.connected_at[i] = net.now;
        } else if (ev.type == TW_SECURE_READY) {
            net.ready_at[i] = net.now;
        } else if (ev.type == TW_SECURE_STREAM) {
            net.opened[i] = ev.stream;
        } else if (ev.type == TW_SECURE_ENDED) {
            net.ended[i]++;
        } else if (ev.type == TW_SECURE_DATAGRAM) {
            net.datagrams[i]++;
        } else if (ev.type == TW_SECURE_CLOSED) {
            net.closed[i] = true;
            net.code[i] = ev.code;
            snprintf(net.reason[i], sizeof(net.reason[i]), "%s", ev.reason);
        }
    }
}

static void drain(void)
{
    for (int i = 0; i < 2; i++) {
        send_all(i);
        take_events(i);
        send_all(i);
    }
}

/* Until it is `until`. */
static void run(tw_time until)
{
    drain();
    while (net.now < until) {
        tw_time next = until;
        size_t at = SIZE_MAX;
        for (int i = 0; i < 2; i++)
            next = tw_time_min(next, tw_secure_deadline(net.end[i]));
        for (size_t i = 0; i < net.flight_n; i++)
            if (net.flight[i].at <= next && (at == SIZE_MAX || net.flight[i].at < net.flight[at].at)) {
                next = net.flight[i].at;
                at = i;
            }
        net.now = next > net.now ? next : net.now;
        if (at != SIZE_MAX) {
            struct packet p = net.flight[at];
            memmove(&net.flight[at], &net.flight[at + 1], (--net.flight_n - at) * sizeof(p));
            struct tw_bytes b = tw_bytes(p.b, p.n);
            struct tw_datagram d = { .iov = &b, .iov_n = 1 };
            tw_secure_recv(net.end[p.to], net.now, &d);
            free(p.b);
        }
        for (int i = 0; i < 2; i++)
            tw_secure_tick(net.end[i], net.now);
        drain();
    }
}

static void run_for(tw_time t)
{
    run(net.now + t);
}

static bool seen(const void *what, size_t n)
{
    for (size_t i = 0; i + n <= net.wire_n; i++)
        if (memcmp(net.wire + i, what, n) == 0)
            return true;
    return false;
}

/* Writes n bytes of a pattern, as fast as they are taken, and reads them at the other end. */
static void transfer(int from, size_t total, tw_time limit, bool end)
{
    static uint8_t chunk[65536];
    int64_t id;
    size_t written = 0, read = 0;
    tw_time until = net.now + limit;
    bool at_end = false;
    net.opened[!from] = -1;
    assert_ok(tw_secure_open(net.end[from], net.now, &id));
    while (net.now < until && (read < total || (end && !at_end))) {
        if (written < total) {
            size_t n = total - written < sizeof(chunk) ? total - written : sizeof(chunk), took;
            for (size_t i = 0; i < n; i++)
                chunk[i] = (uint8_t)((written + i) * 7 >> 3);
            assert_ok(tw_secure_write(net.end[from], net.now, id, tw_bytes(chunk, n),
                                      end && written + n == total, &took));
            written += took;
        }
        run_for(TW_MSEC);
        struct tw_bytes b;
        while (net.opened[!from] == id && !tw_secure_peek(net.end[!from], id, &b, &at_end) && b.n) {
            for (size_t i = 0; i < b.n; i++)
                if (b.p[i] != (uint8_t)((read + i) * 7 >> 3))
                    fail_msg("byte %zu is wrong", read + i);
            read += b.n;
            tw_secure_take(net.end[!from], net.now, id, b.n);
        }
    }
    assert_int_equal(read, total);
    assert_true(at_end == end);
}

static void two_keys_meet_in_the_fewest_round_trips(void **state)
{
    (void)state;
    set_up(NULL, NULL, 9);
    tw_time start = net.now;
    run_for(TW_SEC);
    assert_true(net.connected[0] && net.connected[1]);
    assert_int_equal((net.ready_at[0] - start) / TW_MSEC, 40);     /* 1 round trip */
    assert_int_equal((net.connected_at[1] - start) / TW_MSEC, 60); /* 1.5 */
    assert_int_equal((net.connected_at[0] - start) / TW_MSEC, 80); /* 2 */
    transfer(0, 100000, 10 * TW_SEC, true);
    transfer(1, 3000000, 20 * TW_SEC, false);
    assert_ok(tw_secure_send_datagram(net.end[0], net.now, tw_bytes("ping", 4)));
    run_for(TW_SEC);
    assert_int_equal(net.datagrams[1], 1);
    tw_secure_close(net.end[0], net.now, 77, "enough \x1b[2J");
    run_for(TW_SEC);
    assert_true(net.closed[0] && net.closed[1]);
    assert_int_equal(net.code[1], 77);
    assert_string_equal(net.reason[1], "enough ?[2J");
    tear_down();
}

static void nothing_in_the_clear_tells_who_they_are(void **state)
{
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    assert_true(net.connected[0] && net.wire_n > 2000);
    for (int i = 0; i < 2; i++) {
        assert_false(seen(net.id[i].key.b, 8));
        assert_false(seen(net.id[i].key.b + 24, 8));
    }
    assert_false(seen("thalweg", 7));
    assert_true(seen("\x54\x57\x00\x01", 4));
    tear_down();
}

static void a_wrong_key_is_refused_by_either_side(void **state)
{
    struct tw_ident other;
    uint8_t seed[TW_SEED_SIZE] = { 3 };
    (void)state;
    assert_ok(tw_ident_init(&other, seed));
    set_up(&other.key, NULL, 9); /* the client expects somebody else */
    run_for(TW_SEC);
    assert_false(net.connected[0] || net.connected[1]);
    assert_true(net.closed[0] && net.closed[1]);
    assert_non_null(strstr(net.reason[0], "another key"));
    assert_non_null(strstr(net.reason[1], "refused our key"));
    tear_down();
    set_up(NULL, &other.key, 9);
    run_for(TW_SEC);
    assert_false(net.connected[0] || net.connected[1]); /* though the client was once ready */
    assert_true(net.closed[0] && net.closed[1]);
    assert_non_null(strstr(net.reason[1], "another key"));
    tear_down();
}

static void who_has_not_the_secret_gets_no_byte(void **state)
{
    (void)state;
    set_up(NULL, NULL, 10);
    run_for(40 * TW_SEC);
    assert_int_equal(net.sent[1], 0);
    assert_true(net.sent[0] > 0 && net.closed[0]);
    assert_false(net.closed[1]);
    /* Nor does it hinder the right one. */
    tw_secure_free(net.end[0]);
    struct tw_secure *old = net.end[1];
    net.end[0] = make(&net, false, &net.id[1].key, 10);
    net.connected[0] = false;
    run_for(TW_SEC);
    assert_true(net.connected[0] && net.connected[1] && net.end[1] == old);
    tear_down();
}

static bool lose(struct net *n, int to, uint8_t *p, size_t len)
{
    uint8_t r;
    (void)n, (void)to, (void)p, (void)len;
    test_random(NULL, &r, 1);
    return r >= 26; /* a tenth is lost */
}

static bool spoil(struct net *n, int to, uint8_t *p, size_t len)
{
    uint8_t r;
    (void)n, (void)to;
    test_random(NULL, &r, 1);
    if (r < 26)
        p[r % len] ^= 1;
    return true;
}

static bool lose_all(struct net *n, int to, uint8_t *p, size_t len)
{
    (void)n, (void)to, (void)p, (void)len;
    return false;
}

static bool lose_large(struct net *n, int to, uint8_t *p, size_t len)
{
    (void)n, (void)to, (void)p;
    return len <= 1200;
}

static void loss_and_tampering_are_survived(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        set_up(NULL, NULL, 9);
        net.pass = i & 1 ? spoil : lose;
        run_for(10 * TW_SEC);
        assert_true(net.connected[0] && net.connected[1]);
        transfer(i & 2 ? 1 : 0, 200000, 60 * TW_SEC, true);
        tear_down();
    }
}

/* What has just been heard over it says so to both. */
static void it_works(void)
{
    for (int k = 0; k < 2; k++)
        tw_secure_alive(net.end[k], net.now, 2 * DELAY_MS * TW_MSEC);
}

static void another_path(void)
{
    for (int k = 0; k < 2; k++)
        tw_secure_new_path(net.end[k], net.now);
}

static void a_new_path_is_taken_without_losing_anything(void **state)
{
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    for (int i = 0; i < 8; i++) {
        another_path();
        it_works();
        transfer(i & 1, 300000, 20 * TW_SEC, false);
        run_for(3 * TW_SEC);
    }
    net.pass = lose_all;
    run_for(90 * TW_SEC);
    assert_false(net.closed[0] || net.closed[1]); /* what is lost is said above */
    net.pass = NULL;
    transfer(0, 300000, 100 * TW_SEC, true);
    tear_down();
}

static tw_time deaf_until;

/* The client hears nothing until then. */
static bool deaf(struct net *n, int to, uint8_t *p, size_t len)
{
    (void)p, (void)len;
    return to || n->now >= deaf_until;
}

/* All that a server may send on a new path before it is validated fills its window, and is lost. */
static void a_server_goes_on_when_all_on_a_new_path_was_lost(void **state)
{
    static const uint8_t some[12000];
    (void)state;
    for (size_t says = 0; says <= sizeof(some); says += 400) {
        int64_t id;
        size_t n;
        set_up(NULL, NULL, 9);
        run_for(TW_SEC);
        for (int k = 0; k < 2; k++)
            tw_secure_set_mtu(net.end[k], net.now, 8192);
        transfer(1, 100000, TW_SEC, false);
        another_path();
        it_works();
        assert_ok(tw_secure_open(net.end[0], net.now, &id));
        assert_ok(tw_secure_write(net.end[0], net.now, id, tw_bytes(some, says), false, &n));
        deaf_until = net.now + 2 * TW_SEC;
        net.pass = deaf;
        transfer(1, 300000, 60 * TW_SEC, false);
        tear_down();
    }
}

/* n bytes of the client's, so many of which have come to the server once it has had the time. */
static size_t arrives(int64_t id, tw_time within)
{
    struct tw_bytes b;
    bool end;
    size_t n = 0;
    run_for(within);
    while (!tw_secure_peek(net.end[1], id, &b, &end) && b.n) {
        n += b.n;
        tw_secure_take(net.end[1], net.now, id, b.n);
    }
    return n;
}

static int64_t write_some(int64_t id, size_t n)
{
    static const uint8_t zeros[40000];
    size_t took;
    if (id < 0)
        assert_ok(tw_secure_open(net.end[0], net.now, &id));
    assert_ok(tw_secure_write(net.end[0], net.now, id, tw_bytes(zeros, n), false, &took));
    assert_int_equal(took, n);
    return id;
}

/* However far the loss timer has backed off. */
static void after_a_long_silence_it_goes_on_at_once(void **state)
{
    (void)state;
    for (tw_time silent = TW_SEC; silent <= 300 * TW_SEC; silent = silent * 3 / 2) {
        set_up(NULL, NULL, 9);
        run_for(TW_SEC);
        int64_t id = write_some(-1, 40000);
        run_for(25 * TW_MSEC);
        net.pass = lose_all;
        run_for(silent);
        net.pass = NULL;
        it_works();
        assert_int_equal(arrives(id, 250 * TW_MSEC), 40000);
        tear_down();
    }
}

/* The peer's machine slept for a while with packets in its socket: that is no long way. */
static void a_sleep_is_not_taken_for_a_long_way(void **state)
{
    struct tw_secure_stats st;
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    int64_t id = write_some(-1, 10000);
    for (tw_time wakes = net.now + 60 * TW_SEC; net.now < wakes;) {
        run_for(10 * TW_MSEC);
        for (size_t i = 0; i < net.flight_n; i++)
            if (net.flight[i].to)
                net.flight[i].at = wakes;
    }
    assert_int_equal(arrives(id, TW_SEC), 10000);
    tw_secure_stats(net.end[0], &st);
    assert_true(st.rtt > TW_SEC);
    write_some(id, 20000);
    net.pass = lose_all;
    run_for(100 * TW_MSEC);
    net.pass = NULL;
    assert_int_equal(arrives(id, TW_SEC), 0);
    it_works();
    assert_int_equal(arrives(id, 250 * TW_MSEC), 20000);
    tear_down();
}

/* Each change that QUIC is told of costs a connection ID: not while nothing is known to come through. */
static void changes_cost_nothing_while_nothing_comes(void **state)
{
    struct tw_secure_stats st;
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    int64_t id = write_some(-1, 40000);
    drain();
    net.pass = lose_all;
    for (int i = 0; i < 100; i++) {
        another_path();
        run_for(TW_SEC);
    }
    net.pass = NULL;
    it_works();
    tw_secure_stats(net.end[0], &st);
    assert_int_equal(st.min_rtt, 0); /* it has begun anew */
    assert_int_equal(arrives(id, 600 * TW_MSEC), 40000);
    tear_down();
}

static void packets_are_as_large_as_the_path(void **state)
{
    struct tw_secure_stats st;
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    for (int k = 0; k < 2; k++)
        tw_secure_set_mtu(net.end[k], net.now, 1452);
    net.count = 0;
    transfer(0, 1000000, 20 * TW_SEC, false);
    assert_in_range(net.count, 700, 1400); /* 694 and acknowledgements */
    net.pass = lose_large;
    for (int k = 0; k < 2; k++)
        tw_secure_set_mtu(net.end[k], net.now, 1200);
    transfer(0, 1000000, 30 * TW_SEC, false);
    tw_secure_stats(net.end[0], &st);
    assert_in_range(st.rtt / TW_MSEC, 40, 60);
    assert_true(st.sent > 2000000 && st.received > 0);
    tear_down();
}

static void a_writer_waits_for_the_reader(void **state)
{
    static uint8_t much[1 << 20];
    int64_t id;
    size_t n, all = 0;
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    assert_ok(tw_secure_open(net.end[0], net.now, &id));
    do {
        assert_ok(tw_secure_write(net.end[0], net.now, id, tw_bytes(much, sizeof(much)), false, &n));
        all += n;
        run_for(100 * TW_MSEC);
    } while (n);
    run_for(10 * TW_SEC);
    assert_in_range(all, 4 << 20, 32 << 20);
    tw_secure_reset(net.end[0], net.now, id, 5);
    run_for(TW_SEC);
    assert_int_equal(net.ended[0], 1);
    assert_int_equal(net.ended[1], 1);
    assert_int_equal(tw_secure_write(net.end[0], net.now, id, tw_bytes(much, 1), false, &n), TW_ENOTFOUND);
    tear_down();
}

static void many_streams_one_after_the_other(void **state)
{
    (void)state;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    for (int i = 0; i < 300; i++) {
        int64_t id;
        size_t n;
        bool end;
        struct tw_bytes b;
        assert_ok(tw_secure_open(net.end[0], net.now, &id));
        assert_ok(tw_secure_write(net.end[0], net.now, id, tw_bytes("hello", 5), true, &n));
        run_for(50 * TW_MSEC);
        assert_ok(tw_secure_peek(net.end[1], id, &b, &end));
        assert_true(end && b.n == 5);
        tw_secure_take(net.end[1], net.now, id, 5);
        assert_ok(tw_secure_write(net.end[1], net.now, id, tw_bytes("bye", 3), true, &n));
        run_for(100 * TW_MSEC);
        assert_ok(tw_secure_peek(net.end[0], id, &b, &end));
        assert_true(end && b.n == 3);
        tw_secure_take(net.end[0], net.now, id, 3);
    }
    run_for(TW_SEC);
    assert_int_equal(net.ended[0], 300);
    assert_int_equal(net.ended[1], 300);
    tear_down();
}

static unsigned lost;

/* The first `lost` packets. */
static bool lose_first(struct net *n, int to, uint8_t *p, size_t size)
{
    (void)n, (void)to, (void)p, (void)size;
    if (!lost)
        return true;
    lost--;
    return false;
}

/* How long the one that hangs up waits then. */
static tw_time hang_up(unsigned loses, bool both)
{
    net.closed[0] = net.closed[1] = false;
    set_up(NULL, NULL, 9);
    run_for(TW_SEC);
    transfer(0, 1000, TW_SEC, true);
    run_for(TW_SEC);
    lost = loses;
    net.pass = lose_first;
    tw_time begin = net.now;
    tw_secure_close(net.end[0], net.now, 7, "enough");
    if (both)
        tw_secure_close(net.end[1], net.now, 8, "enough");
    while (!net.closed[0])
        run_for(TW_MSEC);
    tw_time took = net.now - begin;
    run_for(3 * TW_SEC);
    assert_int_equal(net.code[0], 7);
    net.pass = NULL;
    return took;
}

static void a_goodbye_is_heard_though_packets_are_lost(void **state)
{
    (void)state;
    assert_in_range(hang_up(0, false) / TW_MSEC, 40, 42); /* a round trip */
    assert_true(net.closed[1]);
    assert_int_equal(net.code[1], 7);
    tear_down();
    assert_in_range(hang_up(1, false) / TW_MSEC, 90, 300); /* the goodbye was lost */
    assert_true(net.closed[1]);
    tear_down();
    assert_in_range(hang_up(2, false) / TW_MSEC, 150, 499);
    assert_true(net.closed[1]);
    tear_down();
    assert_in_range(hang_up(0, true) / TW_MSEC, 40, 42); /* both hung up */
    assert_true(net.closed[1]);
    assert_int_equal(net.code[1], 8);
    tear_down();
    assert_in_range(hang_up(100, false) / TW_MSEC, 500, 501); /* nobody is there any more */
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_keys_meet_in_the_fewest_round_trips),
        cmocka_unit_test(nothing_in_the_clear_tells_who_they_are),
        cmocka_unit_test(a_wrong_key_is_refused_by_either_side),
        cmocka_unit_test(who_has_not_the_secret_gets_no_byte),
        cmocka_unit_test(loss_and_tampering_are_survived),
        cmocka_unit_test(a_new_path_is_taken_without_losing_anything), cmocka_unit_test(a_server_goes_on_when_all_on_a_new_path_was_lost),
        cmocka_unit_test(after_a_long_silence_it_goes_on_at_once), cmocka_unit_test(a_sleep_is_not_taken_for_a_long_way),
        cmocka_unit_test(changes_cost_nothing_while_nothing_comes),
        cmocka_unit_test(packets_are_as_large_as_the_path),
        cmocka_unit_test(a_writer_waits_for_the_reader),
        cmocka_unit_test(many_streams_one_after_the_other),
        cmocka_unit_test(a_goodbye_is_heard_though_packets_are_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
