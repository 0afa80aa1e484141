#include "../../test.h"

#include <thalweg/bytes.h>
#include <thalweg/time.h>

static void reading_past_the_end_sticks(void **state)
{
    const uint8_t in[] = { 1, 2, 3, 4, 5 };
    struct tw_rd r = tw_rd(tw_bytes(in, sizeof(in)));
    (void)state;
    assert_int_equal(tw_rd_u16(&r), 0x0102);
    assert_int_equal(tw_rd_u32(&r), 0);
    assert_int_equal(r.error, TW_ESHORT);
    assert_int_equal(tw_rd_u8(&r), 0); /* although three bytes are left */
    assert_int_equal(tw_rd_bytes(&r, 0).n, 0);
}

static void writing_past_the_end_sticks(void **state)
{
    uint8_t out[5] = { 9, 9, 9, 9, 9 };
    struct tw_wr w = tw_wr(out, 4);
    (void)state;
    tw_wr_u16(&w, 0x0102);
    tw_wr_u32(&w, 7);
    tw_wr_u8(&w, 7);
    assert_int_equal(w.error, TW_EFULL);
    assert_int_equal(w.n, 2);
    assert_memory_equal(out, "\1\2\11\11\11", 5);
}

static void time_does_not_overflow(void **state)
{
    (void)state;
    assert_int_equal(tw_time_add(TW_NEVER, TW_SEC), TW_NEVER);
    assert_int_equal(tw_time_add(TW_NEVER - 1, 2), TW_NEVER);
    assert_int_equal(tw_time_add(1, 2), 3);
    assert_int_equal(tw_time_from_sec(UINT64_MAX), TW_NEVER);
    assert_int_equal(tw_time_from_sec(3), 3 * TW_SEC);
    assert_int_equal(tw_time_sec_left(0, 1), 1);
    assert_int_equal(tw_time_sec_left(5, 5), 0);
    assert_int_equal(tw_time_sec_left(0, TW_SEC), 1);
    assert_int_equal(tw_time_sec_left(0, TW_NEVER), UINT32_MAX);
}

static void every_error_has_a_name_and_a_text(void **state)
{
    (void)state;
#define CHECK(name, value, text)                                                                  \
    assert_string_equal(tw_error_name(TW_E##name), #name);                                        \
    assert_string_equal(tw_strerror(value), text);
    TW_ERRORS(CHECK)
#undef CHECK
    assert_string_equal(tw_strerror(0), "success");
    assert_string_equal(tw_strerror(1), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_past_the_end_sticks),
        cmocka_unit_test(writing_past_the_end_sticks),
        cmocka_unit_test(time_does_not_overflow),
        cmocka_unit_test(every_error_has_a_name_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
