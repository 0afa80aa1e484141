/* What strangers, liars and malicious peers try (facts of 2020 to 2026). The simulated network counts what
 * leaves. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static const struct sim_link near = { .delay = 5 * TW_MSEC };
static struct world w;

static struct world_options two_public(void)
{
    return (struct world_options){ .a = { .link = near }, .b = { .link = near }, .seed = 3 };
}

static void begin(struct world_options o)
{
    world_begin(&w, &o);
}

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

/* --- packets to addresses that never answer ------------------------------------------------------ */

static struct {
    struct tw_addr prefix; /* of victims: the first three bytes */
    unsigned packets[256], total;
} victims;

static void count(void *ctx, tw_time now, const struct sim_host *from, const struct tw_addr *src,
                  const struct tw_addr *dst, struct tw_bytes data)
{
    (void)ctx, (void)now, (void)from, (void)src, (void)data;
    if (memcmp(dst->ip, victims.prefix.ip, 3) != 0)
        return;
    victims.packets[dst->ip[3]]++;
    victims.total++;
}

static struct tw_ice_candidate candidate(struct tw_addr addr, unsigned i)
{
    struct tw_ice_candidate c = { .addr = addr, .priority = 2130706431u - i, .component = 1,
                                  .type = TW_ICE_HOST };
    snprintf(c.foundation, sizeof(c.foundation), "%u", i);
    return c;
}

/* An offer with 400 candidates that all name one victim, and one with 400 victims. */
static void offer(bool one_victim, bool foreign)
{
    struct world_options o = two_public();
    struct tw_ice_remote r = { .ufrag = "evil", .pwd = "0123456789012345678901", .ice2 = true,
                               .own = !foreign };
    unsigned taken = 0;
    o.foreign = foreign;
    begin(o);
    run(5 * TW_SEC);
    memset(&victims, 0, sizeof(victims));
    victims.prefix = ip("192.0.99.0");
    sim_set_watch(w.sim, count, NULL);
    assert_ok(tw_ice_set_remote(w.a.ice, sim_now(w.sim), 0, &r)); /* as if it started again */
    for (unsigned i = 0; i < 400; i++) {
        struct tw_addr to = tw_addr_v4(192, 0, 99, (uint8_t)(one_victim ? 7 : i % 250),
                                       (uint16_t)(1000 + i));
        struct tw_ice_candidate c = candidate(to, i);
        int err = tw_ice_add_remote(w.a.ice, sim_now(w.sim), &c);
        assert_true(err == 0 || err == TW_EFULL);
        taken += err == 0;
    }
    tw_ice_tick(w.a.ice, sim_now(w.sim));
    ice_node_pump(&w.a);
    run(120 * TW_SEC);
    assert_true(taken <= 32);
    assert_true(victims.total > 0);
    for (unsigned i = 0; i < 256; i++)
        assert_true(victims.packets[i] <= 12);
    print_message("%s, %s: %u packets in two minutes\n", one_victim ? "one victim" : "many victims",
                  foreign ? "RFC 8445" : "our kind", victims.total);
    world_end(&w);
}

static void victims_get_a_bounded_few(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        offer(i % 2, i / 2);
}

static void nobody_is_sent_to_these(void **state)
{
    static const char *const bad[] = { "0.0.0.0:9", "255.255.255.255:9", "224.0.0.1:9", "127.0.0.1:9",
                                       "[::]:9", "[::1]:9", "[ff02::1]:9", "198.51.100.77:0",
                                       "239.255.255.250:1900" };
    (void)state;
    begin(two_public());
    run(TW_SEC);
    memset(&victims, 0, sizeof(victims));
    uint64_t before = tw_ice_stats(w.a.ice)->checks_sent;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tw_ice_candidate c = candidate(ip(bad[i]), (unsigned)i);
        assert_ok(tw_ice_add_remote(w.a.ice, sim_now(w.sim), &c));
    }
    tw_ice_tick(w.a.ice, sim_now(w.sim));
    ice_node_pump(&w.a);
    assert_int_equal(tw_ice_stats(w.a.ice)->checks_sent, before);
    world_end(&w);
}

/* --- strangers ------------------------------------------------------------------------------------ */

static struct peer_node stranger;

static void put_stranger(void)
{
    peer_node_init(&stranger, w.sim, ip("198.51.200.9"), NULL, near);
}

static struct tw_addr address_of_a(void)
{
    return w.b.path.remote;
}

static size_t check(uint8_t *buf, size_t cap, const char *name, const char *pwd, bool integrity)
{
    struct tw_stun_enc e;
    static const uint8_t tid[TW_STUN_TID] = { 1, 2, 3 };
    tw_stun_begin(&e, buf, cap, TW_STUN_REQUEST, TW_STUN_BINDING, tid);
    tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes_str(name));
    tw_stun_add_u32(&e, TW_STUN_A_PRIORITY, 1);
    tw_stun_add_u64(&e, TW_STUN_A_ICE_CONTROLLED, 5);
    if (integrity)
        tw_stun_add_integrity(&e, tw_bytes_str(pwd));
    tw_stun_add_fingerprint(&e);
    assert_ok(tw_stun_end(&e));
    return e.w.n;
}

static void own_credentials(struct tw_ice *ice, char ufrag[64], char pwd[64])
{
    char sdp[8192];
    size_t n;
    assert_ok(tw_ice_write_sdp(ice, 0, sdp, sizeof(sdp), &n));
    assert_int_equal(sscanf(strstr(sdp, "ice-ufrag:"), "ice-ufrag:%63s", ufrag), 1);
    assert_int_equal(sscanf(strstr(sdp, "ice-pwd:"), "ice-pwd:%63s", pwd), 1);
}

static void strangers_get_no_answer(void **state)
{
    uint8_t buf[512];
    char ufrag[64], pwd[64], name[160];
    (void)state;
    begin(two_public());
    put_stranger();
    run(TW_SEC);
    struct tw_addr a = address_of_a();
    own_credentials(w.a.ice, ufrag, pwd);
    uint64_t before = tw_ice_stats(w.a.ice)->checks_refused;
    snprintf(name, sizeof(name), "%s:x", ufrag);
    size_t n = check(buf, sizeof(buf), name, "a password that is not right", true);
    peer_node_send(&stranger, &a, buf, n, 0);
    n = check(buf, sizeof(buf), name, "", false);
    peer_node_send(&stranger, &a, buf, n, 0);
    n = check(buf, sizeof(buf), "somebody:x", pwd, true);
    peer_node_send(&stranger, &a, buf, n, 0);
    run(TW_SEC);
    assert_int_equal(stranger.n, 0);
    assert_int_equal(tw_ice_stats(w.a.ice)->checks_refused, before + 3);
    /* With the password it is answered: the refusals above were of the password. */
    n = check(buf, sizeof(buf), name, pwd, true);
    peer_node_send(&stranger, &a, buf, n, 0);
    run(TW_SEC);
    assert_true(stranger.n > 0);
    assert_true(stranger.n <= 14);
    world_end(&w);
}

/* WebRTC stacks let a ClientHello from anywhere end a call (2024). */
static void data_of_strangers_is_dropped(void **state)
{
    static const uint8_t hello[] = { 22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1 };
    (void)state;
    begin(two_public());
    put_stranger();
    for (int i = 0; i < 200; i++) { /* all through the set-up */
        run(TW_MSEC);
        struct tw_addr a = w.a.interfaces[0].ip;
        a.port = 40000;
        peer_node_send(&stranger, &a, hello, sizeof(hello), 0);
    }
    run(TW_SEC);
    assert_true(w.a.connected && w.b.connected);
    assert_int_equal(w.a.data_n, 0);
    assert_true(tw_ice_stats(w.a.ice)->data_strange >= 190);
    assert_ok(ice_node_send(&w.b, "x", 1));
    run(TW_SEC);
    assert_int_equal(w.a.data_n, 1);
    world_end(&w);
}

/* Answers that nobody was asked for, and broken ones, do nothing. */
static void forged_answers_do_nothing(void **state)
{
    uint8_t buf[512];
    struct tw_stun_enc e;
    (void)state;
    begin(two_public());
    put_stranger();
    struct tw_addr a = w.a.interfaces[0].ip;
    a.port = 40000;
    for (int i = 0; i < 300; i++) {
        uint8_t tid[TW_STUN_TID] = { (uint8_t)i };
        struct tw_addr mapped = ip("192.0.99.1:5");
        tw_stun_begin(&e, buf, sizeof(buf), i % 2 ? TW_STUN_SUCCESS : TW_STUN_ERROR, TW_STUN_BINDING, tid);
        if (i % 2)
            tw_stun_add_addr(&e, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped);
        else
            tw_stun_add_error(&e, 487, tw_bytes_str(""));
        tw_stun_add_integrity(&e, tw_bytes_str("whatever it may be, it is wrong"));
        tw_stun_add_fingerprint(&e);
        assert_ok(tw_stun_end(&e));
        peer_node_send(&stranger, &a, buf, e.w.n, 0);
        run(TW_MSEC);
    }
    run(TW_SEC);
    assert_true(w.a.connected && w.b.connected);
    assert_true(tw_ice_is_controlling(w.a.ice) && !tw_ice_is_controlling(w.b.ice));
    world_end(&w);
}

/* --- roles ---------------------------------------------------------------------------------------- */

/* A peer that claims our role again and again: each claim costs it a packet and us one. */
static void a_storm_of_role_conflicts_ends(void **state)
{
    (void)state;
    struct world_options o = two_public();
    begin(o);
    run(TW_SEC);
    char ufrag[64], pwd[64], name[160];
    uint8_t buf[512], tid[TW_STUN_TID] = { 0 };
    own_credentials(w.a.ice, ufrag, pwd);
    snprintf(name, sizeof(name), "%s:x", ufrag);
    put_stranger();
    struct tw_addr a = address_of_a();
    uint64_t before = sim_counts(w.sim).sent;
    for (int i = 0; i < 200; i++) {
        struct tw_stun_enc e;
        tid[0] = (uint8_t)i;
        tw_stun_begin(&e, buf, sizeof(buf), TW_STUN_REQUEST, TW_STUN_BINDING, tid);
        tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes_str(name));
        tw_stun_add_u32(&e, TW_STUN_A_PRIORITY, 1);
        tw_stun_add_u64(&e, i % 2 ? TW_STUN_A_ICE_CONTROLLING : TW_STUN_A_ICE_CONTROLLED,
                        i % 3 ? 0 : UINT64_MAX);
        tw_stun_add_integrity(&e, tw_bytes_str(pwd));
        tw_stun_add_fingerprint(&e);
        assert_ok(tw_stun_end(&e));
        peer_node_send(&stranger, &a, buf, e.w.n, 0);
        run(TW_MSEC);
    }
    run(60 * TW_SEC);
    assert_true(sim_counts(w.sim).sent - before < 200 * 4 + 300);
    assert_true(w.a.connected && w.b.connected);
    assert_true(tw_ice_is_controlling(w.a.ice) != tw_ice_is_controlling(w.b.ice));
    assert_ok(ice_node_send(&w.a, "x", 1));
    run(TW_SEC);
    assert_int_equal(w.b.data_n, 1);
    world_end(&w);
}

/* RFC 8445 §7.3.1.1: both began in the same role. */
static void both_in_one_role_agree(void **state)
{
    (void)state;
    for (int role = 0; role < 2; role++)
        for (int foreign = 0; foreign < 2; foreign++) {
            struct sim *s = sim_new(9);
            struct ice_node *n = calloc(2, sizeof(*n));
            struct tw_ice_config cfg = { .controlling = role, .own_peer = !foreign,
                                         .foreign = foreign };
            ice_node_init(&n[0], s, ip("198.51.101.9"), NULL, near, &cfg);
            ice_node_init(&n[1], s, ip("198.51.102.9"), NULL, near, &cfg);
            ice_node_gather(&n[0]);
            ice_node_gather(&n[1]);
            ice_node_meet(&n[0], &n[1], TW_MSEC, TW_MSEC);
            sim_run(s, sim_now(s) + 5 * TW_SEC, NULL);
            assert_true(n[0].connected && n[1].connected);
            assert_true(tw_ice_is_controlling(n[0].ice) != tw_ice_is_controlling(n[1].ice));
            ice_node_fini(&n[0]);
            ice_node_fini(&n[1]);
            free(n);
            sim_free(s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(victims_get_a_bounded_few),
        cmocka_unit_test(nobody_is_sent_to_these),
        cmocka_unit_test(strangers_get_no_answer),
        cmocka_unit_test(data_of_strangers_is_dropped),
        cmocka_unit_test(forged_answers_do_nothing),
        cmocka_unit_test(a_storm_of_role_conflicts_ends),
        cmocka_unit_test(both_in_one_role_agree),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
