/* The relay, one request at a time: the rule behind each error code (RFC 8656, RFC 8489). */
#include "one_client.h"

/* --- challenges --------------------------------------------------------------------------- */

static void challenges_are_small(void **state)
{
    (void)state;
    begin(TW_STUN_ALLOCATE);
    assert_int_equal(ask(), 401);
    assert_in_range(answer_n, 80, 100);
    assert_false(tw_stun_has(&answer, TW_STUN_A_SOFTWARE));
    assert_int_equal(tw_stun_get(&answer, TW_STUN_A_NONCE).n, 32);
}

static void binding_answers_are_small(void **state)
{
    (void)state;
    begin(TW_STUN_BINDING);
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_int_equal(answer_n, 32); /* 1.6 times the request */
}

static void nonces_are_bound_to_address_and_time(void **state)
{
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    now += 601 * TW_SEC;
    tw_relay_tick(relay, now);
    begin(TW_STUN_REFRESH);
    assert_int_equal(ask(), 438);
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
    /* From another port the fresh nonce is stale. */
    begin(TW_STUN_ALLOCATE);
    tw_stun_cred_sign(&cred, &e);
    assert_ok(tw_stun_end(&e));
    struct tw_bytes b = tw_bytes(e.w.p, e.w.n);
    struct tw_datagram in = { .src = ip("198.51.102.7:4001"), .dst = cfg.listeners[0], .iov = &b,
                              .iov_n = 1 }, d;
    tw_relay_recv(relay, now, &in);
    assert_true(tw_relay_poll_tx(relay, &d));
    unsigned code = 0;
    struct tw_bytes reason;
    assert_ok(tw_stun_decode(d.iov[0], &answer));
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 438);
}

static void wrong_passwords_and_unknown_users(void **state)
{
    (void)state;
    get_nonce();
    cred.key.k[0] ^= 1;
    assert_int_equal(allocate(), 401);
    cred.key.k[0] ^= 1;
    strcpy(cred.username, "nobody");
    assert_int_equal(allocate(), 401);
    assert_int_equal(tw_relay_stats(relay)->auth_wrong_key, 1);
    assert_int_equal(tw_relay_stats(relay)->auth_unknown_user, 1);
    strcpy(cred.username, "user");
    assert_int_equal(allocate(), 0);
    assert_true(tw_stun_verify_sha256(&answer, tw_bytes(cred.key.k, cred.key.n)));
}

static void an_old_client_uses_md5_and_sha1(void **state)
{
    (void)state;
    get_nonce();
    cred.sha256 = cred.anonymous = false;
    assert_ok(tw_stun_long_term_key(TW_STUN_ALGO_MD5, tw_bytes_str("user"), tw_bytes_str("realm"),
                                    tw_bytes_str("pass"), &cred.key));
    assert_int_equal(allocate(), 0);
    assert_true(tw_stun_verify(&answer, tw_bytes(cred.key.k, cred.key.n)));
}

static void a_changed_algorithm_list_is_refused(void **state)
{
    (void)state;
    get_nonce();
    cred.algos.n = 4;
    assert_int_equal(allocate(), 400);
}

static void incomplete_credentials(void **state)
{
    (void)state;
    begin(TW_STUN_ALLOCATE);
    tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes_str("user"));
    tw_stun_add_integrity(&e, tw_bytes_str("key"));
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    unsigned code = 0;
    struct tw_bytes reason;
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 400);
}

static void what_follows_integrity_does_not_count(void **state)
{
    struct tw_addr peer = ip("1.1.1.1:9");
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    begin(TW_STUN_CREATE_PERMISSION);
    tw_stun_cred_sign(&cred, &e);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &peer);
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    unsigned code = 0;
    struct tw_bytes reason;
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 400); /* no peer was named */
}

/* --- Allocate ----------------------------------------------------------------------------- */

static unsigned allocate_with(enum tw_stun_attr a, unsigned v, enum tw_stun_attr b, unsigned w)
{
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    if (a == TW_STUN_A_RESERVATION_TOKEN || a == TW_STUN_A_MOBILITY_TICKET)
        tw_stun_add(&e, a, tw_bytes("12345678", v));
    else
        tw_stun_add_u8(&e, a, (uint8_t)v);
    if (b != a)
        tw_stun_add_u8(&e, b, (uint8_t)w);
    return ask();
}

static void allocate_rules(void **state)
{
    const enum tw_stun_attr TOKEN = TW_STUN_A_RESERVATION_TOKEN;
    (void)state;
    get_nonce();
    begin(TW_STUN_ALLOCATE);
    assert_int_equal(ask(), 400); /* no transport */
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 6);
    assert_int_equal(ask(), 400); /* RFC 6062 §5.1: TCP is relayed to who came over TCP */
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 132);
    assert_int_equal(ask(), 442);
    assert_int_equal(allocate_with(TOKEN, 8, TOKEN, 0), 508);
    assert_int_equal(allocate_with(TOKEN, 8, TW_STUN_A_EVEN_PORT, 0), 400);
    assert_int_equal(allocate_with(TOKEN, 8, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 1), 400);
    assert_int_equal(allocate_with(TOKEN, 8, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2), 400);
    assert_int_equal(allocate_with(TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 3,
                                   TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 0), 440);
    assert_int_equal(allocate_with(TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 2,
                                   TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 0), 440);
    assert_int_equal(allocate_with(TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 1,
                                   TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2), 400);
    assert_int_equal(allocate_with(TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 1,
                                   TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 0), 400);
    assert_int_equal(allocate_with(TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2, TW_STUN_A_EVEN_PORT,
                                   0x80), 400);
    assert_int_equal(allocate_with(TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT, 1,
                                   TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT, 0), 400);
    assert_int_equal(allocate_with(TW_STUN_A_MOBILITY_TICKET, 0, TW_STUN_A_MOBILITY_TICKET, 0), 405);
    begin(TW_STUN_ALLOCATE);
    tw_wr_u32(&e.w, 0x70010000);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    assert_int_equal(ask(), 420);
    assert_memory_equal(tw_stun_get(&answer, TW_STUN_A_UNKNOWN_ATTRIBUTES).p, "\x70\1", 2);
    assert_int_equal(tw_relay_shared_allocations(shared), 0);
    assert_int_equal(allocate(), 0);
    assert_int_equal(allocate(), 437);
}

/* Both families wanted, only IPv4 to be had: success, and the reason under the asker's number. */
static void half_of_two_families(void **state)
{
    static const enum tw_stun_attr asked[] = { TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY,
                                               TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT };
    static const enum tw_stun_attr told[] = { TW_STUN_A_ADDRESS_ERROR_CODE,
                                              TW_STUN_A_ADDRESS_ERROR_CODE_DRAFT };
    (void)state;
    get_nonce();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(allocate_with(asked[i], 2, asked[i], 0), 0);
        assert_memory_equal(tw_stun_get(&answer, told[i]).p, "\2\0\4\50", 4); /* IPv6, 440 */
        assert_false(tw_stun_has(&answer, told[!i]));
        begin(TW_STUN_REFRESH);
        tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
        assert_int_equal(ask(), 0);
    }
}

static void lifetimes_are_clamped(void **state)
{
    static const uint32_t asked[] = { 0, 100, 1000, 100000 }, granted[] = { 600, 600, 1000, 3600 };
    (void)state;
    get_nonce();
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        uint32_t v = 0;
        begin(TW_STUN_ALLOCATE);
        tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
        tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, asked[i]);
        assert_int_equal(ask(), 0);
        assert_true(tw_stun_get_u32(&answer, TW_STUN_A_LIFETIME, &v));
        assert_int_equal(v, granted[i]);
        begin(TW_STUN_REFRESH);
        tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
        assert_int_equal(ask(), 0);
    }
}

/* --- on an allocation --------------------------------------------------------------------- */

static void requests_without_an_allocation(void **state)
{
    (void)state;
    get_nonce();
    begin(TW_STUN_REFRESH);
    assert_int_equal(ask(), 437);
    assert_int_equal(permit("1.1.1.1"), 437);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x4000), 437);
}

static void another_user_of_the_same_realm(void **state)
{
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    struct tw_stun_cred mine = cred;
    assert_ok(tw_stun_cred_init(&cred, "other", "pass"));
    get_nonce();
    assert_int_equal(permit("1.1.1.1"), 441);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    assert_int_equal(ask(), 441);
    cred = mine;
    cred.algos.p = cred.algos_buf;
    assert_int_equal(permit("1.1.1.1"), 0);
}

static void permissions_are_all_or_nothing(void **state)
{
    struct tw_addr good = ip("1.1.1.1:1"), bad = ip("10.0.0.1:1"), v6 = ip("[2a00::1]:1");
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("10.0.0.1:1"), 403);
    assert_int_equal(permit("[2a00::1]:1"), 443);
    assert_int_equal(permit("[::1]:1"), 443); /* the family is judged before policy */
    begin(TW_STUN_CREATE_PERMISSION);
    assert_int_equal(ask(), 400);
    begin(TW_STUN_CREATE_PERMISSION);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &good);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &bad);
    assert_int_equal(ask(), 403);
    begin(TW_STUN_CREATE_PERMISSION);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &good);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &v6);
    assert_int_equal(ask(), 443);
    /* The good one was not installed on the way. */
    assert_int_equal(send_indication("1.1.1.1:1"), 0);
    assert_int_equal(tw_relay_stats(relay)->drop_no_permission, 1);
}

/* Of the host's own addresses only live relayed ones may be peers, port by port. */
static void the_hosts_own_addresses(void **state)
{
    struct tw_addr relayed;
    struct tw_range own;
    char text[TW_ADDR_STRLEN];
    (void)state;
    assert_ok(tw_range_parse("203.0.114.1", &own));
    cfg.denied = &own;
    cfg.denied_n = 1;
    assert_ok(tw_relay_configure(relay, &cfg));
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_true(tw_stun_get_addr(&answer, TW_STUN_A_XOR_RELAYED_ADDRESS, &relayed));
    assert_int_equal(permit("203.0.114.1:53"), 403);
    assert_int_equal(permit(tw_addr_format(&relayed, text)), 0);
    assert_int_equal(send_indication("203.0.114.1:53"), 0);
    assert_int_equal(tw_relay_stats(relay)->drop_policy, 1);
    /* The other way: a service of the host does not get in with that permission either. */
    struct tw_bytes b = tw_bytes("x", 1);
    struct tw_datagram in = { .sock = relay_sock, .src = ip("203.0.114.1:53"), .iov = &b,
                              .iov_n = 1 }, d;
    tw_relay_recv(relay, now, &in);
    assert_false(tw_relay_poll_tx(relay, &d));
    assert_int_equal(tw_relay_stats(relay)->drop_policy, 2);
}

static void channel_rules(void **state)
{
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x3fff), 400);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x8000), 400);
    assert_int_equal(permit("1.1.1.1:1"), 0);
    begin(TW_STUN_CHANNEL_BIND);
    tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, 0x4000);
    assert_int_equal(ask(), 400); /* no peer */
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x4000), 0);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x4000), 0); /* a refresh */
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:2", 0x4000), 400);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x4001), 400);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "10.0.0.1:1", 0x4002), 403);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "[2a00::1]:1", 0x4002), 443);
    /* Once expired, number and peer are free for others. */
    now += 599 * TW_SEC;
    begin(TW_STUN_REFRESH);
    assert_int_equal(ask(), 0);
    now += 2 * TW_SEC;
    get_nonce();
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:2", 0x4000), 0);
}

static void the_tables_are_bounded(void **state)
{
    char peer[32];
    unsigned made = 0, code = 0;
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    for (int i = 0; i < 300 && !code; i++, made += !code) {
        snprintf(peer, sizeof(peer), "1.2.%d.%d:1", i / 250, i % 250 + 1);
        code = permit(peer);
    }
    assert_int_equal(code, 508);
    assert_int_equal(made, 256);
    now += 301 * TW_SEC; /* they expire, and there is room again */
    assert_int_equal(permit("9.9.9.9:1"), 0);
}

static void refresh_rules(void **state)
{
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 2);
    assert_int_equal(ask(), 443);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 9);
    assert_int_equal(ask(), 440);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    assert_int_equal(ask(), 0);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    assert_int_equal(ask(), 437);
}

/* --- data --------------------------------------------------------------------------------- */

static void channel_data_runs(void **state)
{
    uint8_t run[3 * 14];
    struct tw_datagram d;
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:1", 0x4000), 0);
    for (int i = 0; i < 3; i++) {
        size_t n = i < 2 ? 10 : 6;
        uint8_t *p = run + 14 * i;
        tw_put_u16(p, 0x4000);
        tw_put_u16(p + 2, (uint16_t)n);
        memset(p + 4, 'a' + i, n);
    }
    struct tw_bytes b = tw_bytes(run, 14 + 14 + 10);
    struct tw_datagram in = { .src = ip("198.51.102.7:4000"), .dst = cfg.listeners[0], .ttl = 60,
                              .tos = 0xb9, .segment = 14, .iov = &b, .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    assert_true(tw_relay_poll_tx(relay, &d));
    assert_int_equal(d.segment, 10); /* one run of 10, 10 and 6 bytes, cut out of the input */
    assert_int_equal(d.iov_n, 3);
    assert_ptr_equal(d.iov[1].p, run + 18);
    assert_int_equal(d.iov[2].n, 6);
    assert_int_equal(d.tos, 0xb9);
    assert_int_equal(d.ttl, 59);
    assert_addr(d.dst, "1.1.1.1:1");
    assert_false(tw_relay_poll_tx(relay, &d));

    /* And back: a run from the peer leaves as a run of ChannelData. */
    struct tw_bytes back = tw_bytes("0123456789abcdefghijKLMNO", 25);
    in = (struct tw_datagram){ .sock = relay_sock, .src = ip("1.1.1.1:1"), .segment = 10, .ttl = 9,
                               .iov = &back, .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    assert_true(tw_relay_poll_tx(relay, &d));
    assert_int_equal(d.segment, 14);
    assert_int_equal(d.iov_n, 6);
    assert_memory_equal(d.iov[4].p, "\x40\0\0\5", 4);
    assert_addr(d.dst, "198.51.102.7:4000");
}

static void data_from_strangers_is_dropped(void **state)
{
    struct tw_bytes b = tw_bytes("x", 1);
    struct tw_datagram in = { .src = ip("1.1.1.2:1"), .ttl = 9, .iov = &b, .iov_n = 1 }, d;
    (void)state;
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("1.1.1.1:1"), 0);
    in.sock = relay_sock;
    tw_relay_recv(relay, now, &in);
    assert_false(tw_relay_poll_tx(relay, &d));
    in.src = ip("1.1.1.1:777"); /* permissions are by address, whatever the port */
    tw_relay_recv(relay, now, &in);
    assert_true(tw_relay_poll_tx(relay, &d));
    in.ttl = 1;
    tw_relay_recv(relay, now, &in);
    assert_false(tw_relay_poll_tx(relay, &d));
    assert_int_equal(tw_relay_stats(relay)->drop_ttl, 1);
    in.ttl = 9;
    now += 301 * TW_SEC;
    tw_relay_recv(relay, now, &in);
    assert_false(tw_relay_poll_tx(relay, &d));
}

static void bad_channel_data(void **state)
{
    static const uint8_t too_long[] = { 0x40, 0, 0, 9, 1, 2 }, unbound[] = { 0x40, 9, 0, 1, 1 };
    (void)state;
    get_nonce();
    assert_int_equal(give(unbound, sizeof(unbound)), 0);
    assert_int_equal(tw_relay_stats(relay)->drop_no_allocation, 1);
    assert_int_equal(allocate(), 0);
    assert_int_equal(give(unbound, sizeof(unbound)), 0);
    assert_int_equal(tw_relay_stats(relay)->drop_no_channel, 1);
    assert_int_equal(give(too_long, sizeof(too_long)), 0);
    assert_int_equal(give(too_long, 3), 0);
    assert_int_equal(give("\xff\xff", 2), 0);
    assert_int_equal(tw_relay_stats(relay)->drop_malformed, 3);
    assert_int_equal(give("", 0), 0);
}

static void flows_are_published(void **state)
{
    (void)state;
    struct tw_relay_event ev;
    cfg.publish_flows = true;
    assert_ok(tw_relay_configure(relay, &cfg));
    get_nonce();
    assert_int_equal(allocate(), 0);
    struct tw_addr peer = ip("1.1.1.1:1");
    begin(TW_STUN_CHANNEL_BIND);
    tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, 0x4000);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &peer);
    tw_stun_cred_sign(&cred, &e);
    assert_ok(tw_stun_end(&e));
    struct tw_bytes b = tw_bytes(e.w.p, e.w.n);
    struct tw_datagram in = { .src = ip("198.51.102.7:4000"), .dst = cfg.listeners[0], .iov = &b,
                              .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    assert_true(tw_relay_poll_event(relay, &ev));
    assert_int_equal(ev.type, TW_RELAY_FLOW);
    assert_int_equal(ev.until, now + 300 * TW_SEC); /* the permission ends first */
    assert_addr(ev.peer, "1.1.1.1:1");
    tw_relay_flow_report(relay, ev.sock, 5, 500, 7, 700, now);
    assert_int_equal(tw_relay_stats(relay)->up_packets, 5);
    assert_int_equal(tw_relay_stats(relay)->down_bytes, 700);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up_and_start, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(challenges_are_small),
        T(binding_answers_are_small),
        T(nonces_are_bound_to_address_and_time),
        T(wrong_passwords_and_unknown_users),
        T(an_old_client_uses_md5_and_sha1),
        T(a_changed_algorithm_list_is_refused),
        T(incomplete_credentials),
        T(what_follows_integrity_does_not_count),
        T(allocate_rules),
        T(half_of_two_families),
        T(lifetimes_are_clamped),
        T(requests_without_an_allocation),
        T(another_user_of_the_same_realm),
        T(permissions_are_all_or_nothing),
        T(the_hosts_own_addresses),
        T(channel_rules),
        T(the_tables_are_bounded),
        T(refresh_rules),
        T(channel_data_runs),
        T(data_from_strangers_is_dropped),
        T(bad_channel_data),
        T(flows_are_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
