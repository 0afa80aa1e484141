/* What strangers and hostile users try (users' incident list): each must find the door shut, and the
 * next honest client must get in. */
#include "one_client.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

/* --- peers that must not be reached ---------------------------------------------------------- */

/* One address in each special-purpose block, and the machine's own (see below). */
static const char *const forbidden_v4[] = {
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.5.4", "192.0.0.9",
    "192.0.2.1", "192.88.99.2", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "203.0.114.77" /* the host's own */,
};
static const char *const forbidden_v6[] = {
    "::", "::1", "100::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1",
    "5f00::1", "64:ff9b:1::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1",
    "2a00:1::77" /* the host's own */,
};

/* Every way in which an IPv6 address can mean an IPv4 one. */
enum { ENCODINGS = 9 };
static struct tw_addr encode(int how, const struct tw_addr *v4)
{
    static const struct {
        uint8_t ip[16];
        uint8_t at[4]; /* where the four bytes go */
        uint8_t flip;
    } forms[ENCODINGS] = {
        { { [10] = 0xff, 0xff }, { 12, 13, 14, 15 }, 0 },                  /* mapped */
        { { 0 }, { 12, 13, 14, 15 }, 0 },                                  /* compatible */
        { { [8] = 0xff, 0xff }, { 12, 13, 14, 15 }, 0 },                   /* translated */
        { { 0x00, 0x64, 0xff, 0x9b }, { 12, 13, 14, 15 }, 0 },             /* NAT64 */
        { { 0x00, 0x64, 0xff, 0x9b, 0, 1 }, { 12, 13, 14, 15 }, 0 },       /* NAT64, local */
        { { 0x20, 0x02 }, { 2, 3, 4, 5 }, 0 },                             /* 6to4 */
        { { 0x20, 0x01, 0, 0 }, { 12, 13, 14, 15 }, 0xff },                /* Teredo, client */
        { { 0x20, 0x01, 0, 0 }, { 4, 5, 6, 7 }, 0 },                       /* Teredo, server */
        { { 0x2a, 0x00, 0x00, 0x64 }, { 12, 13, 14, 15 }, 0 },             /* this network's NAT64 */
    };
    uint8_t bytes[16];
    memcpy(bytes, forms[how].ip, 16);
    for (int i = 0; i < 4; i++)
        bytes[forms[how].at[i]] = v4->ip[i] ^ forms[how].flip;
    return tw_addr_v6(bytes, 5000);
}

static struct tw_range own[2], nat64;

/* Both families, both transports; returns with an allocation of one kind. */
static void start_guarded(bool tcp)
{
    own[0] = (struct tw_range){ ip("203.0.114.77"), ip("203.0.114.77") };
    own[1] = (struct tw_range){ ip("2a00:1::77"), ip("2a00:1::77") };
    cfg.own = own;
    cfg.own_n = 2;
    assert_ok(tw_nat64_parse("2a00:64::/96", &nat64));
    cfg.nat64 = &nat64;
    cfg.nat64_n = 1;
    cfg.relay_n = 2;
    start_relay();
    from_sock = tcp ? TW_RELAY_STREAM | 5 : 0;
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, tcp ? 6 : 17);
    assert_int_equal(ask(), 401);
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, tcp ? 6 : 17);
    tw_stun_add_u8(&e, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2);
    assert_int_equal(ask(), 0);
}

static unsigned ask_about(unsigned method, const struct tw_addr *peer)
{
    begin(method);
    if (method == TW_STUN_CHANNEL_BIND)
        tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, 0x4001);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, peer);
    return ask();
}

static unsigned data_from(const struct tw_addr *peer)
{
    struct tw_bytes b = tw_bytes_str("hello");
    struct tw_datagram in = { .sock = relay_sock, .src = *peer, .ttl = 60, .iov = &b, .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    return drain();
}

static void refused_everywhere(const struct tw_addr *peer, bool tcp)
{
    char text[TW_ADDR_STRLEN];
    static const unsigned udp_methods[] = { TW_STUN_CREATE_PERMISSION, TW_STUN_CHANNEL_BIND };
    static const unsigned tcp_methods[] = { TW_STUN_CREATE_PERMISSION, TW_STUN_CONNECT };
    for (int i = 0; i < 2; i++) {
        unsigned code = ask_about(tcp ? tcp_methods[i] : udp_methods[i], peer);
        if (code != 403)
            fail_msg("method %d to %s: %u", i, tw_addr_format(peer, text), code);
    }
    if (tcp) {
        assert_int_equal(tw_relay_peer_arrived(relay, now, relay_sock, peer), 0);
        return;
    }
    tw_stun_begin(&e, request_buf, sizeof(request_buf), TW_STUN_INDICATION, TW_STUN_SEND,
                  (const uint8_t *)"indication!!");
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, peer);
    tw_stun_add(&e, TW_STUN_A_DATA, tw_bytes_str("x"));
    assert_ok(tw_stun_end(&e));
    if (give(e.w.p, e.w.n) || data_from(peer))
        fail_msg("data to or from %s", tw_addr_format(peer, text));
}

static unsigned refuse_all(bool tcp)
{
    unsigned cases = 0;
    for (size_t i = 0; i < ARRAY_LEN(forbidden_v4); i++) {
        struct tw_addr v4 = ip(forbidden_v4[i]);
        v4.port = 5000;
        refused_everywhere(&v4, tcp);
        cases++;
        for (int how = 0; how < ENCODINGS; how++, cases++) {
            struct tw_addr v6 = encode(how, &v4);
            refused_everywhere(&v6, tcp);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(forbidden_v6); i++, cases++) {
        struct tw_addr v6 = ip(forbidden_v6[i]);
        v6.port = 5000;
        refused_everywhere(&v6, tcp);
    }
    return cases;
}

static void no_peer_in_special_space_in_any_disguise(void **state)
{
    (void)state;
    start_guarded(false);
    print_message("%u addresses, 5 paths each\n", refuse_all(false));
    assert_int_equal(permit("1.1.1.1"), 0); /* honest ones still work */
}

static void no_tcp_peer_either(void **state)
{
    (void)state;
    start_guarded(true);
    print_message("%u addresses, 3 paths each\n", refuse_all(true));
    struct tw_addr good = ip("1.1.1.1:80");
    assert_int_equal(ask_about(TW_STUN_CONNECT, &good), 1); /* no answer yet: it is being made */
    assert_int_equal(last_event.type, TW_RELAY_CONNECT);
}

static void family_is_judged_before_policy(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0); /* IPv4 only */
    assert_int_equal(permit("::1"), 443);
    assert_int_equal(permit("127.0.0.1"), 403);
}

/* An address that the machine gets while it runs. */
static void new_own_addresses_count_at_once(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("9.9.9.9"), 0);
    assert_int_equal(permit("9.9.9.10"), 0);
    own[0] = (struct tw_range){ ip("9.9.9.10"), ip("9.9.9.10") };
    cfg.own = own;
    cfg.own_n = 1;
    assert_ok(tw_relay_configure(relay, &cfg));
    assert_int_equal(permit("9.9.9.10"), 403);
    assert_int_equal(permit("9.9.9.9"), 0);
}

/* --- floods ---------------------------------------------------------------------------------- */

static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*u %lu", &pages), 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void plain_allocate(size_t pad)
{
    static const uint8_t zeroes[128];
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    if (pad) {
        tw_wr_u16(&e.w, 0xC07A);
        tw_wr_u16(&e.w, (uint16_t)pad);
        tw_wr_bytes(&e.w, tw_bytes(zeroes, pad));
    }
    assert_ok(tw_stun_end(&e));
}

static void a_million_spoofed_sources_leave_nothing_behind(void **state)
{
    (void)state;
    start_relay();
    plain_allocate(0);
    for (uint32_t i = 0; i < 1000; i++) /* what is touched once is touched */
        give(e.w.p, e.w.n);
    malloc_trim(0);
    size_t before = resident();
    for (uint32_t i = 0; i < 1000000; i++) {
        client = tw_addr_v4((uint8_t)(1 + i % 200), (uint8_t)(i >> 16), (uint8_t)(i >> 8),
                            (uint8_t)i, (uint16_t)(1024 + i % 60000));
        now += 10 * TW_USEC;
        plain_allocate(0);
        give(e.w.p, e.w.n);
    }
    size_t after = resident();
    print_message("resident memory: %zd bytes more\n", (ssize_t)(after - before));
    if (after > before)
        assert_true(after - before < 1 << 20);
    assert_int_equal(tw_relay_allocations(relay), 0);
    /* All of them together have used up the budget; an honest client's first question is padded. */
    client = ip("198.51.102.7:4000");
    plain_allocate(68);
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
    assert_int_equal(allocate(), 0);
}

static void a_flood_from_one_prefix_is_not_amplified(void **state)
{
    (void)state;
    start_relay();
    size_t in = 0, out = 0;
    for (int i = 0; i < 10000; i++) {
        client = tw_addr_v4(5, 6, 7, (uint8_t)i, 4000);
        now += 100 * TW_USEC; /* a second in all */
        plain_allocate(0);
        in += e.w.n;
        give(e.w.p, e.w.n);
        out += bytes_back;
    }
    print_message("%zu bytes in, %zu back: %.3f\n", in, out, (double)out / (double)in);
    assert_true(out <= in);
    assert_in_range(tw_relay_stats(relay)->challenges_sent, 100, 10000);
    assert_true(tw_relay_stats(relay)->drop_budget > 9000);
    /* Somebody honest in that prefix, whose question is as large as the answer. */
    plain_allocate(68);
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_true(bytes_back <= e.w.n);
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
    assert_int_equal(allocate(), 0);
    /* And other prefixes never noticed. */
    client = ip("5.6.8.1:4000");
    plain_allocate(0);
    assert_int_equal(give(e.w.p, e.w.n), 1);
}

/* Every request a stranger can make, alone and many at once, over the budget. */
static void nothing_unauthenticated_is_amplified(void **state)
{
    static const unsigned methods[] = { TW_STUN_ALLOCATE, TW_STUN_REFRESH, TW_STUN_CREATE_PERMISSION,
                                        TW_STUN_CHANNEL_BIND, TW_STUN_CONNECT,
                                        TW_STUN_CONNECTION_BIND, 0x0fe };
    (void)state;
    start_relay();
    plain_allocate(0);
    for (int i = 0; i < 200; i++) /* the budget is gone */
        give(e.w.p, e.w.n);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        begin(methods[i]);
        tw_wr_u32(&e.w, 0x7ffe0000); /* an attribute that must be understood and is not */
        assert_ok(tw_stun_end(&e));
        give(e.w.p, e.w.n);
        assert_true(bytes_back <= e.w.n);
    }
    begin(TW_STUN_BINDING);
    tw_wr_u32(&e.w, 0x7ffe0000);
    assert_ok(tw_stun_end(&e));
    give(e.w.p, e.w.n);
    assert_true(bytes_back <= e.w.n);
    begin(TW_STUN_BINDING);
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_int_equal(bytes_back, 32); /* 1.6 x, always */
    client = ip("2a00:2::1");
    client.port = 4000;
    give(e.w.p, e.w.n);
    assert_int_equal(bytes_back, 44); /* 2.2 x */
}

/* --- messages that are not what they seem --------------------------------------------------- */

static void attributes_behind_integrity_are_not_there(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    /* A signed Refresh, with a LIFETIME of 0 put behind the signature. */
    begin(TW_STUN_REFRESH);
    tw_stun_cred_sign(&cred, &e);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_int_equal(tw_relay_allocations(relay), 1);
    /* A peer behind it. */
    struct tw_addr a = ip("1.1.1.1:1");
    begin(TW_STUN_CREATE_PERMISSION);
    tw_stun_cred_sign(&cred, &e);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    assert_ok(tw_stun_end(&e));
    give(e.w.p, e.w.n);
    unsigned code = 0;
    struct tw_bytes reason;
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 400);
}

static void replays_do_nothing_new(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(allocate(), 437);
    uint8_t copy[2048];
    begin(TW_STUN_REFRESH);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    tw_stun_cred_sign(&cred, &e);
    assert_ok(tw_stun_end(&e));
    size_t n = e.w.n;
    memcpy(copy, e.w.p, n);
    struct tw_addr owner = client;
    client = ip("198.51.102.8:4000"); /* the same bytes from elsewhere: the nonce is another's */
    assert_int_equal(give(copy, n), 1);
    unsigned code = 0;
    struct tw_bytes reason;
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 438);
    assert_int_equal(tw_relay_allocations(relay), 1);
    client = owner;
    assert_int_equal(give(copy, n), 1);
    assert_int_equal(tw_relay_allocations(relay), 0);
    give(copy, n);
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 437);
}

static void every_truncation_is_survived(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    tw_stun_cred_sign(&cred, &e);
    assert_ok(tw_stun_end(&e));
    uint8_t copy[2048];
    size_t n = e.w.n;
    memcpy(copy, e.w.p, n);
    for (size_t k = 0; k < n; k++) {
        give(copy, k);
        tw_put_u16(copy + 2, (uint16_t)(k > 20 ? k - 20 : 0)); /* and with a length that fits */
        give(copy, k);
        tw_put_u16(copy + 2, (uint16_t)(n - 20));
    }
    for (size_t k = 0; k < n; k++) /* every byte turned over */
        if (k != 2 && k != 3) {
            copy[k] ^= 0xff;
            give(copy, n);
            copy[k] ^= 0xff;
        }
    assert_int_equal(tw_relay_allocations(relay), 0);
    assert_int_equal(give(copy, n), 1);
    assert_int_equal(tw_relay_allocations(relay), 1);
}

/* --- using things up -------------------------------------------------------------------------- */

static void ten_thousand_cycles_lose_no_port(void **state)
{
    static const uint8_t even[] = { 0, 0x80 };
    (void)state;
    cfg.min_port = 50000;
    cfg.max_port = 50009;
    cfg.nonce_lifetime = 10000000;
    start_relay();
    get_nonce();
    for (int i = 0; i < 10000; i++) {
        begin(TW_STUN_ALLOCATE);
        tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
        if (i % 3)
            tw_stun_add_u8(&e, TW_STUN_A_EVEN_PORT, even[i % 2]);
        assert_int_equal(ask(), 0);
        begin(TW_STUN_REFRESH);
        tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
        assert_int_equal(ask(), 0);
        if (i % 3 && even[i % 2]) { /* the reserved port comes back by itself */
            now += 31 * TW_SEC;
            tw_relay_tick(relay, now);
            drain();
        }
    }
    assert_int_equal(opens, closes);
    uint8_t bits[TW_RELAY_PORT_BITS];
    tw_relay_shared_ports(shared, 0, bits);
    for (size_t i = 0; i < sizeof(bits); i++)
        assert_int_equal(bits[i], 0);
    assert_int_equal(tw_relay_shared_allocations(shared), 0);
}

static void a_server_without_files_recovers(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    open_result = TW_ESYS; /* EMFILE, ENOBUFS */
    for (int i = 0; i < 100; i++)
        assert_int_equal(allocate(), 508);
    assert_int_equal(tw_relay_shared_allocations(shared), 0);
    open_result = 0;
    assert_int_equal(allocate(), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(no_peer_in_special_space_in_any_disguise),
        T(no_tcp_peer_either),
        T(family_is_judged_before_policy),
        T(new_own_addresses_count_at_once),
        T(a_million_spoofed_sources_leave_nothing_behind),
        T(a_flood_from_one_prefix_is_not_amplified),
        T(nothing_unauthenticated_is_amplified),
        T(attributes_behind_integrity_are_not_there),
        T(replays_do_nothing_new),
        T(every_truncation_is_survived),
        T(ten_thousand_cycles_lose_no_port),
        T(a_server_without_files_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
