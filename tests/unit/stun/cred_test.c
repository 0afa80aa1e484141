#include "../../test.h"

#include <thalweg/stun_client.h>

static const uint8_t tid[TW_STUN_TID] = "abcdefghijk";
static const uint8_t both[] = { 0, 2, 0, 0, 0, 1, 0, 0 };
static uint8_t out[2048];
static struct tw_stun_msg m;

/* A 401 or 438; nonce NULL: none. */
static void challenge(unsigned code, const char *nonce, bool algos)
{
    struct tw_stun_enc e;
    tw_stun_begin(&e, out, sizeof(out), TW_STUN_ERROR, TW_STUN_ALLOCATE, tid);
    tw_stun_add_error(&e, code, tw_bytes(NULL, 0));
    tw_stun_add(&e, TW_STUN_A_REALM, tw_bytes_str("realm"));
    if (nonce)
        tw_stun_add(&e, TW_STUN_A_NONCE, tw_bytes_str(nonce));
    if (algos)
        tw_stun_add(&e, TW_STUN_A_PASSWORD_ALGORITHMS, tw_bytes(both, sizeof(both)));
    assert_ok(tw_stun_end(&e));
    assert_ok(tw_stun_decode(tw_bytes(e.w.p, e.w.n), &m));
}

static void sign(const struct tw_stun_cred *c)
{
    struct tw_stun_enc e;
    tw_stun_begin(&e, out, sizeof(out), TW_STUN_REQUEST, TW_STUN_ALLOCATE, tid);
    tw_stun_cred_sign(c, &e);
    assert_ok(tw_stun_end(&e));
    assert_ok(tw_stun_decode(tw_bytes(e.w.p, e.w.n), &m));
}

static void a_server_of_the_old_kind(void **state)
{
    struct tw_stun_cred c;
    (void)state;
    assert_ok(tw_stun_cred_init(&c, "user", "pass"));
    sign(&c);
    assert_false(tw_stun_has(&m, TW_STUN_A_USERNAME));
    challenge(401, "nonce1", false);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_RETRY);
    sign(&c);
    assert_true(tw_stun_has(&m, TW_STUN_A_USERNAME));
    assert_true(tw_stun_has(&m, TW_STUN_A_MESSAGE_INTEGRITY));
    assert_false(tw_stun_has(&m, TW_STUN_A_PASSWORD_ALGORITHM));
    challenge(401, "nonce1", false); /* it looked at the signature and said no */
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_OK);
    challenge(438, "nonce2", false);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_RETRY);
    challenge(438, "nonce2", false); /* the same again: it would never end */
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_OK);
}

static void sha256_and_userhash_when_the_nonce_promises_them(void **state)
{
    struct tw_stun_cred c;
    (void)state;
    assert_ok(tw_stun_cred_init(&c, "user", "pass"));
    challenge(401, "obMatJos2AAAD-rest", true);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_RETRY);
    sign(&c);
    assert_true(tw_stun_has(&m, TW_STUN_A_USERHASH));
    assert_false(tw_stun_has(&m, TW_STUN_A_USERNAME));
    assert_true(tw_stun_has(&m, TW_STUN_A_PASSWORD_ALGORITHMS));
    assert_true(tw_stun_verify_sha256(&m, tw_bytes(c.key.k, 32)));
    assert_false(tw_stun_has(&m, TW_STUN_A_MESSAGE_INTEGRITY));
}

static void a_removed_algorithm_list_is_noticed(void **state)
{
    struct tw_stun_cred c;
    (void)state;
    assert_ok(tw_stun_cred_init(&c, "user", "pass"));
    challenge(401, "obMatJos2AAAB-rest", false);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_IGNORE);
    assert_false(c.ready);
    challenge(401, NULL, false);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_IGNORE);
}

static void answer(const struct tw_stun_cred *c, bool sha256, bool spoil)
{
    struct tw_stun_enc e;
    struct tw_bytes key = tw_bytes(c->key.k, c->key.n);
    tw_stun_begin(&e, out, sizeof(out), TW_STUN_SUCCESS, TW_STUN_ALLOCATE, tid);
    if (sha256)
        tw_stun_add_integrity_sha256(&e, key);
    else
        tw_stun_add_integrity(&e, key);
    assert_ok(tw_stun_end(&e));
    out[e.w.n - 1] ^= spoil;
    assert_ok(tw_stun_decode(tw_bytes(e.w.p, e.w.n), &m));
}

static void answers_must_be_signed_as_strongly(void **state)
{
    struct tw_stun_cred c;
    (void)state;
    assert_ok(tw_stun_cred_init(&c, "user", "pass"));
    challenge(401, "obMatJos2AAAB-rest", true);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_RETRY);
    answer(&c, true, true);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_IGNORE);
    answer(&c, false, false); /* SHA-1 where SHA-256 was agreed */
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_IGNORE);
    answer(&c, true, false);
    assert_int_equal(tw_stun_cred_judge(&c, &m), TW_STUN_OK);
}

static void names_are_prepared(void **state)
{
    struct tw_stun_cred c;
    (void)state;
    assert_ok(tw_stun_cred_init(&c, "u", "a\xe2\x80\x83" "b")); /* an em space becomes a space */
    assert_string_equal(c.password, "a b");
    assert_int_not_equal(tw_stun_cred_init(&c, "\xff", "x"), 0);
    assert_int_not_equal(tw_stun_cred_init(&c, "", "x"), 0);
}

static void nonce_prefix_and_back(void **state)
{
    char prefix[TW_STUN_NONCE_COOKIE_LEN];
    (void)state;
    for (uint32_t f = 0; f < 4; f++) {
        tw_stun_nonce_prefix(f, prefix);
        assert_int_equal(tw_stun_nonce_features(tw_bytes(prefix, sizeof(prefix))), f);
    }
    tw_stun_nonce_prefix(0xabcdef, prefix);
    assert_int_equal(tw_stun_nonce_features(tw_bytes(prefix, sizeof(prefix))), 0xabcdef);
    assert_int_equal(tw_stun_nonce_features(tw_bytes_str("obMatJos2AA")), 0);
    assert_int_equal(tw_stun_nonce_features(tw_bytes_str("obMatJos2AA*D")), 0);
    assert_int_equal(tw_stun_nonce_features(tw_bytes_str("something else entirely")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_of_the_old_kind),
        cmocka_unit_test(sha256_and_userhash_when_the_nonce_promises_them),
        cmocka_unit_test(a_removed_algorithm_list_is_noticed),
        cmocka_unit_test(answers_must_be_signed_as_strongly),
        cmocka_unit_test(names_are_prepared),
        cmocka_unit_test(nonce_prefix_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
