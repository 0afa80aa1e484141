#include "../../test.h"

#include <thalweg/stun.h>

static const uint8_t tid[TW_STUN_TID] = "abcdefghijk";
static uint8_t out[1024];
static struct tw_stun_enc e;
static struct tw_stun_msg m;

static void begin(void)
{
    tw_stun_begin(&e, out, sizeof(out), TW_STUN_REQUEST, TW_STUN_ALLOCATE, tid);
}

static int end(void)
{
    assert_ok(tw_stun_end(&e));
    return tw_stun_decode(tw_bytes(e.w.p, e.w.n), &m);
}

static void every_class_and_method_survives(void **state)
{
    (void)state;
    for (unsigned method = 0; method < 0x1000; method++)
        for (int cls = 0; cls < 4; cls++) {
            tw_stun_begin(&e, out, sizeof(out), (enum tw_stun_class)cls, method, tid);
            assert_ok(end());
            assert_int_equal(m.cls, cls);
            assert_int_equal(m.method, method);
        }
}

static void nothing_behind_integrity_is_seen(void **state)
{
    struct tw_bytes key = tw_bytes_str("key");
    uint32_t v;
    (void)state;
    begin();
    tw_stun_add_integrity(&e, key);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 99);
    tw_wr_u32(&e.w, 0x7f000000); /* an unknown, comprehension-required type */
    tw_stun_add_integrity_sha256(&e, key);
    tw_stun_add_u32(&e, TW_STUN_A_PRIORITY, 1);
    tw_stun_add_fingerprint(&e);
    assert_ok(end());
    assert_false(tw_stun_get_u32(&m, TW_STUN_A_LIFETIME, &v));
    assert_false(tw_stun_get_u32(&m, TW_STUN_A_PRIORITY, &v));
    assert_int_equal(m.unknown_n, 0);
    assert_true(tw_stun_has(&m, TW_STUN_A_MESSAGE_INTEGRITY_SHA256));
    assert_true(tw_stun_has(&m, TW_STUN_A_FINGERPRINT));
    assert_true(tw_stun_verify(&m, key));

    begin();
    tw_stun_add_integrity_sha256(&e, key);
    tw_stun_add_integrity(&e, key); /* in the wrong order: it does not count */
    assert_ok(end());
    assert_false(tw_stun_has(&m, TW_STUN_A_MESSAGE_INTEGRITY));
    assert_true(tw_stun_verify_sha256(&m, key));
}

static void walking_stops_at_integrity(void **state)
{
    struct tw_addr a = ip("192.0.2.1:1"), b = ip("192.0.2.2:2");
    struct tw_bytes v;
    size_t pos = 0;
    int n = 0;
    (void)state;
    begin();
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 1);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &b);
    tw_stun_add_integrity(&e, tw_bytes_str("k"));
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    assert_ok(end());
    while (tw_stun_next(&m, TW_STUN_A_XOR_PEER_ADDRESS, &pos, &v))
        n++;
    assert_int_equal(n, 2);
}

static void unknown_and_doubled_attributes(void **state)
{
    uint32_t v;
    (void)state;
    begin();
    tw_wr_u32(&e.w, 0x70010000);
    tw_wr_u32(&e.w, 0xf0010000); /* optional: not reported */
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 1);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 2);
    assert_ok(end());
    assert_int_equal(m.unknown_n, 1);
    assert_int_equal(m.unknown[0], 0x7001);
    assert_true(tw_stun_get_u32(&m, TW_STUN_A_LIFETIME, &v));
    assert_int_equal(v, 1);
}

static void impossible_lengths(void **state)
{
    static const uint8_t lifetime_3[] = { 0, 13, 0, 3, 1, 2, 3, 0 };
    static const uint8_t too_long[] = { 0, 6, 0, 9, 1, 2, 3, 4 };
    (void)state;
    begin();
    tw_wr_bytes(&e.w, tw_bytes(lifetime_3, 8));
    assert_ok(end());
    assert_true(m.bad_attr);
    assert_false(tw_stun_has(&m, TW_STUN_A_LIFETIME));
    begin();
    tw_wr_bytes(&e.w, tw_bytes(too_long, 8));
    assert_int_equal(end(), TW_EMALFORMED);
}

static void a_wrong_fingerprint_or_one_in_the_middle(void **state)
{
    (void)state;
    begin();
    tw_stun_add_fingerprint(&e);
    assert_ok(end());
    out[e.w.n - 1] ^= 1;
    assert_int_equal(tw_stun_decode(tw_bytes(out, e.w.n), &m), TW_EMALFORMED);
    begin();
    tw_stun_add_fingerprint(&e);
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, 1);
    assert_int_equal(end(), TW_EMALFORMED);
}

static void what_is_no_stun(void **state)
{
    (void)state;
    begin();
    assert_ok(end());
    for (size_t n = 0; n < e.w.n; n++)
        assert_int_equal(tw_stun_decode(tw_bytes(out, n), &m), TW_EMALFORMED);
    out[0] |= 0x80;
    assert_false(tw_stun_is(out, e.w.n));
    out[0] &= 0x3f;
    out[3] = 2;
    assert_false(tw_stun_is(out, e.w.n));
    out[3] = 0;
    out[4] ^= 1;
    assert_false(tw_stun_is(out, e.w.n));
}

static void a_message_that_does_not_fit_is_an_error(void **state)
{
    (void)state;
    tw_stun_begin(&e, out, 24, TW_STUN_REQUEST, TW_STUN_BINDING, tid);
    tw_stun_add(&e, TW_STUN_A_SOFTWARE, tw_bytes_str("too long for it"));
    assert_int_equal(tw_stun_end(&e), TW_EFULL);
    begin();
    static char long_name[600];
    memset(long_name, 'a', sizeof(long_name) - 1);
    tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes_str(long_name));
    assert_int_equal(tw_stun_end(&e), TW_EFULL);
}

static void frames_in_a_stream(void **state)
{
    static const uint8_t channel[] = { 0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0x40 };
    size_t len;
    (void)state;
    for (size_t n = 0; n < 12; n++) {
        assert_ok(tw_stun_frame(channel, n, &len));
        assert_int_equal(len, 0);
    }
    assert_ok(tw_stun_frame(channel, 13, &len));
    assert_int_equal(len, 12);
    begin();
    assert_ok(end());
    assert_ok(tw_stun_frame(out, 19, &len));
    assert_int_equal(len, 0);
    assert_ok(tw_stun_frame(out, 20, &len));
    assert_int_equal(len, 20);
    assert_int_equal(tw_stun_frame((const uint8_t *)"\x16\x03\x01\x02", 4, &len), TW_EMALFORMED);
    assert_int_equal(tw_stun_frame((const uint8_t *)"\x80\0\0\0", 4, &len), TW_EMALFORMED);
    assert_int_equal(tw_stun_frame((const uint8_t *)"\0\1\0\0abcd", 8, &len), TW_EMALFORMED);
}

static void the_table_is_consistent(void **state)
{
    (void)state;
    for (int a = 0; a < TW_STUN_A_COUNT; a++) {
        const struct tw_stun_attr_info *info = &tw_stun_attr_infos[a];
        assert_true(info->min <= info->max);
        assert_true(info->type < 0xC000 ? (info->type & 0x7fff) < 64 : info->type < 0xC080);
        for (int b = 0; b < a; b++)
            assert_int_not_equal(info->type, tw_stun_attr_infos[b].type);
    }
}

static void dumps_every_attribute_without_overrunning(void **state)
{
    char text[4096];
    struct tw_addr a = ip("192.0.2.1:9");
    (void)state;
    begin();
    tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes("a\"b\n", 4));
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &a);
    tw_stun_add_error(&e, 437, tw_bytes_str("no"));
    tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, 0x4001);
    tw_stun_add(&e, TW_STUN_A_PASSWORD_ALGORITHMS, tw_bytes("\0\2\0\0\0\1\0", 8));
    assert_ok(end());
    tw_stun_dump(&m, text, sizeof(text));
    assert_non_null(strstr(text, "Allocate request"));
    assert_non_null(strstr(text, "USERNAME \"a\\x22b\\x0a\""));
    assert_non_null(strstr(text, "XOR-PEER-ADDRESS 192.0.2.1:9"));
    assert_non_null(strstr(text, "ERROR-CODE 437 \"no\""));
    assert_non_null(strstr(text, "PASSWORD-ALGORITHMS SHA-256 MD5"));
    for (size_t cap = 1; cap < 200; cap++) {
        char *exact = malloc(cap);
        assert_true(tw_stun_dump(&m, exact, cap) < cap);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_and_method_survives),
        cmocka_unit_test(nothing_behind_integrity_is_seen),
        cmocka_unit_test(walking_stops_at_integrity),
        cmocka_unit_test(unknown_and_doubled_attributes),
        cmocka_unit_test(impossible_lengths),
        cmocka_unit_test(a_wrong_fingerprint_or_one_in_the_middle),
        cmocka_unit_test(what_is_no_stun),
        cmocka_unit_test(a_message_that_does_not_fit_is_an_error),
        cmocka_unit_test(frames_in_a_stream),
        cmocka_unit_test(the_table_is_consistent),
        cmocka_unit_test(dumps_every_attribute_without_overrunning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
