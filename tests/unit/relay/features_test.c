/* The relay's newer parts, one request at a time: time-limited names, mobility (RFC 8016), TCP
 * relaying (RFC 6062), behaviour discovery (RFC 5780), caps, draining, taking over. */
#include "one_client.h"

/* --- time-limited names ---------------------------------------------------------------------- */

static void use_timed(int64_t expiry, const char *id, const char *secret)
{
    char name[64], password[29];
    snprintf(name, sizeof(name), "%lld:%s", (long long)expiry, id);
    assert_ok(tw_relay_timed_password(secret, name, password));
    assert_ok(tw_stun_cred_init(&cred, name, password));
}

static void secrets_rotate_and_names_expire(void **state)
{
    (void)state;
    assert_ok(tw_relay_users_add_secret(users, "old"));
    assert_ok(tw_relay_users_add_secret(users, "new"));
    /* The machine's seconds and the world's begin at different moments. */
    cfg.unix_offset = 1000000 * TW_SEC + TW_SEC - now % TW_SEC - TW_MSEC;
    now += TW_MSEC;
    cfg.user_quota = 1;
    start_relay();
    int64_t unix_now = (now + cfg.unix_offset) / TW_SEC;
    use_timed(unix_now + 60, "alice", "old");
    get_nonce();
    assert_int_equal(tw_stun_nonce_features(tw_bytes_str(cred.nonce)) & TW_STUN_FEATURE_ANONYMITY, 0);
    assert_int_equal(allocate(), 0);
    client.port++;
    use_timed(unix_now + 90, "alice", "new"); /* the same user: the quota is hers */
    get_nonce();
    assert_int_equal(allocate(), 486);
    client.port++;
    use_timed(unix_now + 90, "bob", "new");
    get_nonce();
    assert_int_equal(allocate(), 0);
    client.port++;
    use_timed(unix_now, "carol", "new");
    get_nonce();
    assert_int_equal(allocate(), 401);
    use_timed(unix_now + 60, "carol", "wrong");
    get_nonce();
    assert_int_equal(allocate(), 401);
    assert_int_equal(tw_relay_stats(relay)->auth_wrong_key, 1);
    assert_ok(tw_relay_users_ban(users, "dave"));
    use_timed(unix_now + 60, "dave", "new");
    get_nonce();
    assert_int_equal(allocate(), 401);
}

static void a_guest_brings_a_nonce(void **state)
{
    char name[64], nonce[TW_RELAY_TIMED_NONCE + 1];
    (void)state;
    assert_ok(tw_relay_users_add_secret(users, "operator"));
    assert_ok(tw_relay_users_add_guest_secret(users, "guests", 0));
    cfg.unix_offset = 1000000 * TW_SEC;
    start_relay();
    int64_t unix_now = (now + cfg.unix_offset) / TW_SEC;
    snprintf(name, sizeof(name), "%lld:alice", (long long)unix_now + 600);
    tw_relay_timed_nonce("guests", name, unix_now, nonce);
    assert_int_equal(strlen(nonce), TW_RELAY_TIMED_NONCE);
    use_timed(unix_now + 600, "alice", "guests");
    assert_ok(tw_stun_cred_preset(&cred, "realm", nonce));
    assert_int_equal(allocate(), 0); /* without a 401 before it */
    assert_int_equal(tw_relay_stats(relay)->challenges_sent, 0);

    client.port++; /* another's, one changed, and one that is too old */
    use_timed(unix_now + 600, "bob", "guests");
    assert_ok(tw_stun_cred_preset(&cred, "realm", nonce));
    assert_int_equal(allocate(), 438);
    use_timed(unix_now + 600, "alice", "guests");
    char changed[sizeof(nonce)];
    memcpy(changed, nonce, sizeof(nonce));
    changed[20] = changed[20] == 'A' ? 'B' : 'A';
    assert_ok(tw_stun_cred_preset(&cred, "realm", changed));
    assert_int_equal(allocate(), 438);
    now += TW_RELAY_TIMED_NONCE_LIFETIME * TW_SEC;
    use_timed(unix_now + 600, "alice", "guests");
    assert_ok(tw_stun_cred_preset(&cred, "realm", nonce));
    assert_int_equal(allocate(), 438);
    /* Names that an operator gives out by another secret have no such nonce. */
    unix_now += TW_RELAY_TIMED_NONCE_LIFETIME;
    snprintf(name, sizeof(name), "%lld:carol", (long long)unix_now + 600);
    tw_relay_timed_nonce("operator", name, unix_now, nonce);
    use_timed(unix_now + 600, "carol", "operator");
    assert_ok(tw_stun_cred_preset(&cred, "realm", nonce));
    assert_int_equal(allocate(), 438);
}

static void a_user_has_a_quota_of_his_own(void **state)
{
    (void)state;
    assert_ok(tw_relay_users_set_quota(users, "user", 2));
    cfg.user_quota = 1;
    start_relay();
    for (int i = 0; i < 3; i++, client.port++) {
        get_nonce();
        assert_int_equal(allocate(), i < 2 ? 0 : 486);
    }
    assert_int_equal(tw_relay_stats(relay)->quota_refused, 1);
}

static void banned_addresses_get_silence(void **state)
{
    struct tw_range banned = { ip("198.51.102.0"), ip("198.51.102.255") };
    (void)state;
    cfg.banned = &banned;
    cfg.banned_n = 1;
    start_relay();
    assert_int_equal(allocate(), 1);
    client = ip("198.51.103.1:4000");
    get_nonce();
    assert_int_equal(allocate(), 0);
}

/* --- mobility -------------------------------------------------------------------------------- */

static uint8_t ticket[64];
static size_t ticket_n;

static unsigned allocate_mobile(void)
{
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
    tw_stun_add(&e, TW_STUN_A_MOBILITY_TICKET, tw_bytes(NULL, 0));
    unsigned code = ask();
    struct tw_bytes t = tw_stun_get(&answer, TW_STUN_A_MOBILITY_TICKET);
    ticket_n = code ? 0 : t.n;
    memcpy(ticket, t.p, ticket_n);
    return code;
}

static unsigned refresh_with_ticket(void)
{
    begin(TW_STUN_REFRESH);
    tw_stun_add(&e, TW_STUN_A_MOBILITY_TICKET, tw_bytes(ticket, ticket_n));
    return ask();
}

static unsigned move(void)
{
    unsigned code = refresh_with_ticket();
    if (code != 438)
        return code;
    assert_int_equal(tw_stun_cred_judge(&cred, &answer), TW_STUN_RETRY);
    return refresh_with_ticket();
}

static unsigned peer_says(const char *peer, struct tw_bytes data)
{
    struct tw_datagram in = { .sock = relay_sock, .src = ip(peer), .ttl = 60, .iov = &data, .iov_n = 1 };
    tw_relay_recv(relay, now, &in);
    return drain();
}

static unsigned peer_sends(const char *peer)
{
    return peer_says(peer, tw_bytes_str("hello"));
}

static void an_allocation_follows_its_client(void **state)
{
    (void)state;
    cfg.mobility = true;
    cfg.user_quota = 1;
    start_relay();
    get_nonce();
    assert_int_equal(allocate_mobile(), 0);
    assert_true(ticket_n > 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    struct tw_addr before = client;
    client = ip("198.51.105.9:5000");
    assert_int_equal(move(), 0);
    assert_int_equal(peer_sends("1.1.1.1:7"), 1);
    assert_true(tw_addr_eq(&answer_to, &client));
    /* What was still on its way from the old address counts for a while, and not for ever. */
    client = before;
    assert_int_equal(send_indication("1.1.1.1:7"), 1);
    now += 11 * TW_SEC;
    tw_relay_tick(relay, now);
    drain();
    assert_int_equal(send_indication("1.1.1.1:7"), 0);
    /* The quota counts it once, all the way. */
    client = ip("198.51.105.10:5000");
    get_nonce();
    assert_int_equal(allocate(), 486);
    assert_int_equal(move(), 0);
    assert_int_equal(tw_relay_allocations(relay), 1);
    assert_int_equal(tw_relay_stats(relay)->mobility_moves, 2);
}

static void a_ticket_is_its_users_only(void **state)
{
    (void)state;
    cfg.mobility = true;
    start_relay();
    get_nonce();
    assert_int_equal(allocate_mobile(), 0);
    client = ip("198.51.105.9:5000");
    assert_ok(tw_stun_cred_init(&cred, "other", "pass"));
    get_nonce();
    assert_int_equal(move(), 441);
    ticket[5] ^= 1;
    assert_int_equal(move(), 400);
    assert_int_equal(peer_sends("1.1.1.1:7"), 0);
}

static void moving_many_times_leaves_one_old_path(void **state)
{
    (void)state;
    cfg.mobility = true;
    start_relay();
    get_nonce();
    assert_int_equal(allocate_mobile(), 0);
    for (int i = 0; i < 1000; i++) {
        client.port = (uint16_t)(5000 + i);
        assert_int_equal(move(), 0);
    }
    assert_int_equal(tw_relay_allocations(relay), 1);
    begin(TW_STUN_REFRESH);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 0);
    assert_int_equal(ask(), 0);
    assert_int_equal(tw_relay_allocations(relay), 0);
    assert_int_equal(move(), 400);
}

/* --- TCP relaying ---------------------------------------------------------------------------- */

#define CONTROL (TW_RELAY_STREAM | 1)
#define DATA (TW_RELAY_STREAM | 2)

static void allocate_tcp(void)
{
    from_sock = CONTROL;
    get_nonce();
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 6);
    assert_int_equal(ask(), 0);
    assert_true(last_event.tcp);
}

static unsigned connect_to(const char *peer)
{
    return about_peer(TW_STUN_CONNECT, peer, 0);
}

static unsigned bind_data(uint32_t id)
{
    struct tw_addr control = client;
    from_sock = DATA;
    client.port++;
    begin(TW_STUN_CONNECTION_BIND);
    tw_stun_add_u32(&e, TW_STUN_A_CONNECTION_ID, id);
    unsigned code = ask();
    from_sock = CONTROL;
    client = control;
    return code;
}

static void connect_bind_and_the_end(void **state)
{
    uint32_t id = 0;
    (void)state;
    start_relay();
    allocate_tcp();
    assert_int_equal(connect_to("1.1.1.1:80"), 1); /* the answer waits */
    assert_int_equal(last_event.type, TW_RELAY_CONNECT);
    uint32_t sock = last_event.sock;
    assert_int_equal(connect_to("1.1.1.1:80"), 446);
    tw_relay_opened(relay, now, sock, 0);
    assert_int_equal(drain(), 1);
    assert_true(tw_stun_get_u32(&answer, TW_STUN_A_CONNECTION_ID, &id));
    assert_int_equal(bind_data(id + 1), 400);
    assert_int_equal(bind_data(id), 0);
    assert_int_equal(last_event.type, TW_RELAY_JOIN);
    assert_int_equal(last_event.sock, sock);
    assert_int_equal(last_event.conn, DATA);
    assert_int_equal(bind_data(id), 400); /* once only */
    closes = 0;
    tw_relay_disconnected(relay, now, CONTROL, &client, &cfg.listeners[0]);
    drain();
    assert_int_equal(closes, 2); /* the listening socket and the connection */
    assert_int_equal(tw_relay_allocations(relay), 0);
}

static void connections_that_fail_or_are_not_bound(void **state)
{
    (void)state;
    unsigned code = 0;
    struct tw_bytes reason;
    start_relay();
    allocate_tcp();
    assert_int_equal(connect_to("1.1.1.1:80"), 1);
    tw_relay_opened(relay, now, last_event.sock, TW_ESYS);
    assert_int_equal(drain(), 1);
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 447);
    assert_int_equal(connect_to("1.1.1.1:80"), 1); /* it may be tried again */
    uint32_t late = last_event.sock;
    now += 31 * TW_SEC;
    tw_relay_tick(relay, now);
    assert_int_equal(drain(), 1);
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 447);
    closes = 0;
    tw_relay_opened(relay, now, late, 0); /* too late: closed again */
    drain();
    assert_int_equal(closes, 1);
    assert_int_equal(connect_to("1.1.1.1:80"), 1);
    tw_relay_opened(relay, now, last_event.sock, 0);
    drain();
    now += 31 * TW_SEC;
    closes = 0;
    tw_relay_tick(relay, now); /* nobody bound it */
    drain();
    assert_int_equal(closes, 1);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:80", 0x4000), 400);
    for (int i = 0; i < 40; i++) {
        char peer[32];
        snprintf(peer, sizeof(peer), "1.1.1.1:%d", 1000 + i);
        assert_int_equal(connect_to(peer), i < 32 ? 1 : 508);
    }
}

static void peers_connect_with_permission_only(void **state)
{
    struct tw_addr peer = ip("1.1.1.1:80");
    uint32_t id = 0;
    (void)state;
    start_relay();
    allocate_tcp();
    uint32_t listener = relay_sock;
    assert_int_equal(tw_relay_peer_arrived(relay, now, listener, &peer), 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    uint32_t sock = tw_relay_peer_arrived(relay, now, listener, &peer);
    assert_true(sock > 0);
    assert_int_equal(drain(), 1);
    assert_int_equal(answer.method, TW_STUN_CONNECTION_ATTEMPT);
    assert_true(tw_stun_get_u32(&answer, TW_STUN_A_CONNECTION_ID, &id));
    assert_ok(tw_stun_cred_init(&cred, "other", "pass"));
    from_sock = DATA;
    get_nonce();
    assert_int_equal(bind_data(id), 400); /* another user's */
    assert_ok(tw_stun_cred_init(&cred, "user", "pass"));
    from_sock = DATA;
    get_nonce();
    assert_int_equal(bind_data(id), 0);
    tw_relay_peer_gone(relay, now, sock);
    drain();
    assert_int_equal(tw_relay_allocations(relay), 1);
}

static void a_stream_is_read_frame_by_frame(void **state)
{
    static const uint8_t junk[] = { 0xff, 0xff, 0, 0 };
    (void)state;
    start_relay();
    from_sock = CONTROL;
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:7", 0x4000), 0);
    /* Two ChannelData of odd length with their padding, and a Binding, in one piece. */
    uint8_t stream[64] = { 0x40, 0, 0, 3, 'a', 'b', 'c', 0, 0x40, 0, 0, 1, 'd', 0, 0, 0 };
    begin(TW_STUN_BINDING);
    assert_ok(tw_stun_end(&e));
    memcpy(stream + 16, e.w.p, e.w.n);
    assert_int_equal(give(stream, 16 + e.w.n), 2); /* a run of two, and an answer */
    assert_int_equal(tw_relay_stats(relay)->up_packets, 2);
    give(junk, sizeof(junk));
    assert_int_equal(tw_relay_stats(relay)->drop_malformed, 1);
    /* Downwards ChannelData is padded. */
    assert_int_equal(peer_sends("1.1.1.1:7"), 1);
    assert_int_equal(answer_n, 12);
}

/* --- behaviour discovery --------------------------------------------------------------------- */

static void start_behaviour(void)
{
    static const char *at[] = { "203.0.114.1:3478", "203.0.114.1:3479", "203.0.114.2:3478",
                                "203.0.114.2:3479" };
    for (uint32_t i = 0; i < 4; i++) {
        cfg.listeners[i] = ip(at[i]);
        cfg.behaviour[0].listener[i / 2][i % 2] = i;
    }
    cfg.listener_n = 4;
    cfg.behaviour_n = 1;
    start_relay();
}

static void the_other_address_answers(void **state)
{
    struct tw_addr other;
    (void)state;
    start_behaviour();
    for (uint32_t change = 0; change < 8; change += 2) {
        begin(TW_STUN_BINDING);
        tw_stun_add_u32(&e, TW_STUN_A_CHANGE_REQUEST, change);
        assert_ok(tw_stun_end(&e));
        assert_int_equal(give(e.w.p, e.w.n), 1);
        assert_int_equal(answer_sock, (change & 4 ? 2 : 0) + (change & 2 ? 1 : 0));
        assert_true(tw_addr_eq(&answer_from, &cfg.listeners[answer_sock]));
        assert_true(tw_stun_get_addr(&answer, TW_STUN_A_OTHER_ADDRESS, &other));
        assert_true(tw_addr_eq(&other, &cfg.listeners[3]));
        assert_true(tw_stun_get_addr(&answer, TW_STUN_A_RESPONSE_ORIGIN, &other));
        assert_true(tw_addr_eq(&other, &cfg.listeners[answer_sock]));
    }
}

static void extras_are_budgeted_and_padding_is_no_weapon(void **state)
{
    static const uint8_t pad[600];
    (void)state;
    start_behaviour();
    begin(TW_STUN_BINDING);
    assert_ok(tw_stun_end(&e));
    for (int i = 0; i < 200; i++)
        assert_int_equal(give(e.w.p, e.w.n), 1); /* always an answer, in the end a plain one */
    assert_int_equal(bytes_back, 32);
    begin(TW_STUN_BINDING);
    tw_stun_add_u32(&e, TW_STUN_A_CHANGE_REQUEST, 6);
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 0); /* used up: silence */
    begin(TW_STUN_BINDING);
    tw_stun_add(&e, TW_STUN_A_PADDING, tw_bytes(pad, sizeof(pad)));
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_true(tw_stun_has(&answer, TW_STUN_A_PADDING));
    assert_true(bytes_back <= e.w.n);
}

static void response_port_needs_our_nonce(void **state)
{
    char nonce[64] = "";
    unsigned code = 0;
    struct tw_bytes reason;
    (void)state;
    start_behaviour();
    for (int round = 0; round < 2; round++) {
        begin(TW_STUN_BINDING);
        tw_stun_add_u16(&e, TW_STUN_A_RESPONSE_PORT, 9999);
        if (round)
            tw_stun_add(&e, TW_STUN_A_NONCE, tw_bytes_str(nonce));
        assert_ok(tw_stun_end(&e));
        assert_int_equal(give(e.w.p, e.w.n), 1);
        if (round == 0) {
            assert_int_equal(answer_to.port, client.port);
            assert_true(tw_stun_get_error(&answer, &code, &reason));
            assert_int_equal(code, 438);
            struct tw_bytes v = tw_stun_get(&answer, TW_STUN_A_NONCE);
            memcpy(nonce, v.p, v.n);
        }
    }
    assert_int_equal(answer_to.port, 9999);
}

static void one_address_cannot_discover(void **state)
{
    (void)state;
    start_relay();
    begin(TW_STUN_BINDING);
    tw_stun_add_u32(&e, TW_STUN_A_CHANGE_REQUEST, 6);
    unsigned code = 0;
    struct tw_bytes reason;
    assert_ok(tw_stun_end(&e));
    assert_int_equal(give(e.w.p, e.w.n), 1);
    assert_true(tw_stun_get_error(&answer, &code, &reason));
    assert_int_equal(code, 420);
}

/* --- guests ---------------------------------------------------------------------------------- */

static unsigned channel_data(unsigned channel, struct tw_bytes data)
{
    uint8_t buf[200];
    tw_put_u16(buf, (uint16_t)channel);
    tw_put_u16(buf + 2, (uint16_t)data.n);
    memcpy(buf + 4, data.p, data.n);
    return give(buf, 4 + data.n);
}

static void guests_relay_to_who_answers_only(void **state)
{
    uint8_t binding[20] = { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 }, success[20] = { 1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 };
    const struct tw_bytes ask_it = tw_bytes(binding, 20), yes = tw_bytes(success, 20), data = tw_bytes_str("data");
    (void)state;
    assert_ok(tw_relay_users_add_guest_secret(users, "guests", 2));
    assert_ok(tw_relay_users_add_secret(users, "others"));
    cfg.unix_offset = 1000000 * TW_SEC;
    start_relay();
    int64_t unix_now = (now + cfg.unix_offset) / TW_SEC;
    use_timed(unix_now + 900, "someone", "guests");
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    assert_int_equal(permit("1.1.1.2"), 0);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.2:9", 0x4000), 0);
    /* Nothing but questions, and not many of them. */
    assert_int_equal(send_indication("1.1.1.1:7"), 0);
    assert_int_equal(channel_data(0x4000, data), 0);
    unsigned went = 0;
    for (int i = 0; i < 100; i++)
        went += send_data("1.1.1.1:7", ask_it);
    assert_in_range(went, 15, 25);
    for (int i = 0; i < 100; i++) { /* ten seconds */
        now += 100 * TW_MSEC;
        for (int k = 0; k < 10; k++)
            went += send_data("1.1.1.1:7", ask_it);
    }
    assert_in_range(went, 100, 130);
    /* What the peer says comes through, but only an answer opens the way, for its address. */
    assert_int_equal(peer_says("1.1.1.1:7", data), 1);
    assert_int_equal(peer_says("1.1.1.1:7", ask_it), 1);
    assert_int_equal(send_indication("1.1.1.1:7"), 0);
    assert_int_equal(peer_says("1.1.1.1:7", yes), 1);
    assert_int_equal(send_indication("1.1.1.1:7"), 1);
    assert_int_equal(send_indication("1.1.1.1:8"), 1);
    assert_int_equal(send_indication("1.1.1.2:9"), 0);
    assert_int_equal(channel_data(0x4000, data), 0);
    assert_int_equal(channel_data(0x4000, ask_it), 1);
    assert_int_equal(peer_says("1.1.1.2:9", yes), 1);
    assert_int_equal(channel_data(0x4000, data), 1);
    assert_int_equal(about_peer(TW_STUN_CHANNEL_BIND, "1.1.1.1:9", 0x4001), 0); /* to where the way is open */
    assert_int_equal(channel_data(0x4001, data), 1);
    assert_in_range(tw_relay_stats(relay)->drop_unwanted, 900, 1100);
    /* No TCP, and no more than two of one name. */
    client.port++;
    from_sock = CONTROL;
    get_nonce();
    begin(TW_STUN_ALLOCATE);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, 6);
    assert_int_equal(ask(), 403);
    assert_int_equal(allocate(), 0);
    client.port++;
    from_sock = 0;
    get_nonce();
    assert_int_equal(allocate(), 486);
    /* Who is known is no guest. */
    use_timed(unix_now + 900, "someone else", "others");
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    assert_int_equal(send_indication("1.1.1.1:7"), 1);
}

/* --- caps, draining, taking over ------------------------------------------------------------- */

static void bandwidth_is_capped_each_way(void **state)
{
    (void)state;
    cfg.max_bps = 50;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    unsigned up = 0, down = 0;
    for (int i = 0; i < 100; i++) { /* ten seconds of ten packets, 1 and 5 bytes */
        now += 100 * TW_MSEC;
        for (int k = 0; k < 10; k++)
            up += send_indication("1.1.1.1:7");
        down += peer_sends("1.1.1.1:7");
    }
    assert_in_range(up, 500, 560);
    assert_int_equal(down, 100);
    assert_in_range(tw_relay_stats(relay)->drop_bandwidth, 400, 520);
}

static void the_total_is_capped_too(void **state)
{
    (void)state;
    cfg.total_bps = 10;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    assert_int_equal(permit("1.1.1.1"), 0);
    unsigned up = 0;
    for (int i = 0; i < 100; i++)
        up += send_indication("1.1.1.1:7");
    assert_int_equal(up, 10);
}

static void a_draining_server_keeps_what_it_has(void **state)
{
    (void)state;
    start_relay();
    get_nonce();
    assert_int_equal(allocate(), 0);
    cfg.draining = true;
    assert_ok(tw_relay_configure(relay, &cfg));
    assert_int_equal(permit("1.1.1.1"), 0);
    begin(TW_STUN_REFRESH);
    assert_int_equal(ask(), 0);
    client.port++;
    get_nonce();
    assert_int_equal(allocate(), 508);
}

static void what_is_the_elders_goes_there(void **state)
{
    static const uint8_t data[] = { 0x40, 0, 0, 1, 'x' };
    uint8_t bits[TW_RELAY_PORT_BITS] = { 0 }, keys[TW_RELAY_KEYS];
    struct tw_relay_handover h;
    (void)state;
    cfg.elder = true;
    cfg.min_port = 50000;
    cfg.max_port = 50001;
    start_relay();
    tw_relay_shared_keys(shared, keys);
    tw_relay_shared_set_keys(shared, keys);
    bits[50000 / 8] = 1; /* 50000 */
    tw_relay_shared_set_elder_ports(shared, 0, bits);
    assert_int_equal(give(data, sizeof(data)), 0);
    assert_true(tw_relay_poll_handover(relay, &h));
    assert_int_equal(h.type, TW_RELAY_HANDOVER_ELDER);
    assert_int_equal(h.d.iov[0].n, sizeof(data));
    get_nonce(); /* an Allocate is ours */
    assert_int_equal(allocate(), 0);
    assert_false(tw_relay_poll_handover(relay, &h));
    struct tw_addr elders = ip("203.0.114.1:50000");
    char text[TW_ADDR_STRLEN];
    assert_int_equal(permit(tw_addr_format(&elders, text)), 0); /* its relayed addresses live */
    assert_int_equal(send_indication("203.0.114.1:50000"), 1);  /* and are reached outside */
    client.port++;
    get_nonce();
    assert_int_equal(allocate(), 508); /* the port is the elder's */
    memset(bits, 0, sizeof(bits));
    tw_relay_shared_set_elder_ports(shared, 0, bits);
    assert_int_equal(allocate(), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(secrets_rotate_and_names_expire),
        T(a_guest_brings_a_nonce),
        T(a_user_has_a_quota_of_his_own),
        T(banned_addresses_get_silence),
        T(an_allocation_follows_its_client),
        T(a_ticket_is_its_users_only),
        T(moving_many_times_leaves_one_old_path),
        T(connect_bind_and_the_end),
        T(connections_that_fail_or_are_not_bound),
        T(peers_connect_with_permission_only),
        T(a_stream_is_read_frame_by_frame),
        T(the_other_address_answers),
        T(extras_are_budgeted_and_padding_is_no_weapon),
        T(response_port_needs_our_nonce),
        T(one_address_cannot_discover),
        T(guests_relay_to_who_answers_only),
        T(bandwidth_is_capped_each_way),
        T(the_total_is_capped_too),
        T(a_draining_server_keeps_what_it_has),
        T(what_is_the_elders_goes_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
