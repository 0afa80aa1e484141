/* What every test includes: cmocka and the headers it needs. */
#ifndef TW_TEST_H
#define TW_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <thalweg/addr.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* An address from text; the test fails if it is none. */
static inline struct tw_addr ip(const char *text)
{
    struct tw_addr a = { 0 };
    assert_int_equal(tw_addr_parse(text, 0, &a), 0);
    return a;
}

/* Bytes that are the same in every run of a program: struct tw_rng's fill. */
static inline void test_random(void *ctx, void *out, size_t n)
{
    static uint64_t x = 88172645463325252ULL;
    uint8_t *p = out;
    (void)ctx;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

#define assert_addr(a, text) assert_string_equal(tw_addr_format(&(a), (char[TW_ADDR_STRLEN]){ 0 }), text)
#define assert_ok(expr) assert_int_equal((expr), 0)

#endif
