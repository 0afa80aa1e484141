#include "../../test.h"

#include <thalweg/error.h>

#include "relay/shared.h"
#include "relay/users.h"

static void lcg(void *ctx, void *p, size_t n)
{
    static uint32_t x = 1;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static const struct tw_rng rng = { lcg, NULL };

static struct tw_relay_shared *shared(void)
{
    struct tw_relay_shared *s;
    struct tw_relay_addr a = { .ip = ip("203.0.114.1") };
    assert_ok(tw_relay_shared_new(&a, 1, &rng, &s));
    return s;
}

static void every_port_is_given_once(void **state)
{
    struct tw_relay_shared *s = shared();
    static bool seen[65536];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint16_t port = tw_relay_port_take(s, 0, 4, PORT_ANY, 50000, 50999, &rng);
        assert_in_range(port, 50000, 50999);
        assert_false(seen[port]);
        seen[port] = true;
        assert_int_equal(tw_relay_port_mark(s, 0, port), 4);
    }
    assert_int_equal(tw_relay_port_take(s, 0, 4, PORT_ANY, 50000, 50999, &rng), 0);
    tw_relay_port_give(s, 0, 50500);
    assert_int_equal(tw_relay_port_mark(s, 0, 50500), 0);
    assert_int_equal(tw_relay_port_take(s, 0, 4, PORT_EVEN, 50000, 50999, &rng), 50500);
    tw_relay_shared_free(s);
}

static void pairs_are_even_and_whole(void **state)
{
    struct tw_relay_shared *s = shared();
    int pairs = 0;
    (void)state;
    for (uint16_t port; (port = tw_relay_port_take(s, 0, 1, PORT_PAIR, 50001, 50100, &rng)); pairs++) {
        assert_int_equal(port % 2, 0);
        assert_int_equal(tw_relay_port_mark(s, 0, (uint16_t)(port + 1)), 1);
    }
    assert_int_equal(pairs, 49); /* 50002/3 .. 50098/9: 50100 has no neighbour in the range */
    assert_int_not_equal(tw_relay_port_take(s, 0, 1, PORT_ANY, 50001, 50100, &rng), 0);
    assert_int_not_equal(tw_relay_port_take(s, 0, 1, PORT_ANY, 50001, 50100, &rng), 0);
    assert_int_equal(tw_relay_port_take(s, 0, 1, PORT_ANY, 50001, 50100, &rng), 0);
    tw_relay_shared_free(s);
}

static void tokens_are_the_servers_own(void **state)
{
    struct tw_relay_shared *s = shared();
    uint8_t t[8], u[8];
    (void)state;
    tw_relay_token_make(s, 5, t);
    assert_int_equal(tw_relay_token_worker(s, t), 5);
    tw_relay_token_make(s, 5, u);
    assert_memory_not_equal(t, u, 8);
    for (int bit = 0; bit < 64; bit++) {
        memcpy(u, t, 8);
        u[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(tw_relay_token_worker(s, u), -1);
    }
    tw_relay_shared_free(s);
}

static void quotas(void **state)
{
    struct tw_relay_shared *s = shared();
    uint64_t alice = tw_relay_user_id(s, tw_bytes_str("alice")), bob = tw_relay_user_id(s, tw_bytes_str("bob"));
    (void)state;
    struct quota *a1 = tw_relay_quota_take(s, alice, 2, 3), *a2 = tw_relay_quota_take(s, alice, 2, 3);
    assert_ptr_equal(a1, a2);
    assert_null(tw_relay_quota_take(s, alice, 2, 3));
    struct quota *b = tw_relay_quota_take(s, bob, 2, 3);
    assert_non_null(b);
    assert_null(tw_relay_quota_take(s, bob, 2, 3));
    assert_int_equal(tw_relay_shared_allocations(s), 3);
    tw_relay_quota_give(s, a1);
    assert_non_null(tw_relay_quota_take(s, bob, 2, 3));
    tw_relay_shared_free(s);
}

static void users_are_found_by_name_and_hash(void **state)
{
    struct tw_relay_users *u;
    char name[16];
    uint8_t hash[TW_STUN_USERHASH], key[16] = { 0 };
    (void)state;
    assert_ok(tw_relay_users_new("realm", &u));
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "user%d", i * 37 % 100);
        assert_ok(tw_relay_users_add(u, name, "pass"));
    }
    assert_int_equal(tw_relay_users_add(u, "user7", "pass"), TW_ESTATE);
    assert_int_equal(tw_relay_users_add(u, "bad\x01name", "pass"), TW_EMALFORMED);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "user%d", i);
        tw_stun_userhash(tw_bytes_str(name), tw_bytes_str("realm"), hash);
        const struct user *by_name = tw_relay_users_by_name(u, tw_bytes_str(name));
        assert_non_null(by_name);
        assert_string_equal(by_name->name, name);
        assert_ptr_equal(tw_relay_users_by_hash(u, tw_bytes(hash, sizeof(hash))), by_name);
    }
    assert_null(tw_relay_users_by_name(u, tw_bytes_str("user")));
    assert_null(tw_relay_users_by_name(u, tw_bytes_str("user77x")));
    assert_true(tw_relay_users_sha256(u));
    assert_ok(tw_relay_users_add_keys(u, "old", key, NULL));
    assert_false(tw_relay_users_sha256(u));
    tw_relay_users_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_port_is_given_once),
        cmocka_unit_test(pairs_are_even_and_whole),
        cmocka_unit_test(tokens_are_the_servers_own),
        cmocka_unit_test(quotas),
        cmocka_unit_test(users_are_found_by_name_and_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
