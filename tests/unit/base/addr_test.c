#include "../../test.h"

#include <thalweg/error.h>

static void parses_and_formats(void **state)
{
    static const struct {
        const char *in, *out;
    } good[] = {
        { "192.0.2.1", "192.0.2.1" },
        { "192.0.2.1:80", "192.0.2.1:80" },
        { "::", "::" },
        { "::1", "::1" },
        { "[::1]", "::1" },
        { "[::1]:443", "[::1]:443" },
        { "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1" },
        { "2001:DB8::ff", "2001:db8::ff" },
        { "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8" },
        { "1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8" },
        { "::ffff:192.0.2.1", "::ffff:c000:201" },
        { "64:ff9b::192.0.2.1", "64:ff9b::c000:201" },
        { "1::", "1::" },
    };
    static const char *bad[] = {
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:x",
        ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "[::1", "[1.2.3.4]:5",
        "::1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::8:", "g::", "::1%lo", " ::1", "1.2.3.4 ",
    };
    char buf[TW_ADDR_STRLEN];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct tw_addr a;
        assert_ok(tw_addr_parse(good[i].in, 0, &a));
        assert_string_equal(tw_addr_format(&a, buf), good[i].out);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tw_addr a = { .reserved = 7 };
        if (tw_addr_parse(bad[i], 0, &a) == 0)
            fail_msg("\"%s\" was taken for an address", bad[i]);
        assert_int_equal(a.reserved, 7);
    }
}

static void ranges(void **state)
{
    struct tw_range r;
    struct tw_addr a;
    (void)state;
    assert_ok(tw_range_parse("10.0.0.0/8", &r));
    a = ip("10.255.255.255");
    assert_true(tw_range_has(&r, &a));
    a = ip("11.0.0.0");
    assert_false(tw_range_has(&r, &a));
    assert_ok(tw_range_parse("10.1.2.3/32", &r));
    a = ip("10.1.2.3");
    assert_true(tw_range_has(&r, &a));
    assert_ok(tw_range_parse("0.0.0.0/0", &r));
    assert_true(tw_range_has(&r, &a));
    a = ip("::1");
    assert_false(tw_range_has(&r, &a));
    assert_ok(tw_range_parse("2001:db8::/33", &r));
    a = ip("2001:db8:7fff::1");
    assert_true(tw_range_has(&r, &a));
    a = ip("2001:db8:8000::1");
    assert_false(tw_range_has(&r, &a));
    assert_ok(tw_range_parse("192.0.2.1-192.0.3.0", &r));
    a = ip("192.0.2.255");
    assert_true(tw_range_has(&r, &a));
    /* Not a box per byte: ::1:ff lies between ::1:0 and ::2:0 although ff > 0. */
    assert_ok(tw_range_parse("::1:0-::2:0", &r));
    a = ip("::1:ff");
    assert_true(tw_range_has(&r, &a));
    assert_int_equal(tw_range_parse("10.0.0.0/33", &r), TW_EMALFORMED);
    assert_int_equal(tw_range_parse("10.0.0.2-10.0.0.1", &r), TW_EMALFORMED);
    assert_int_equal(tw_range_parse("10.0.0.1-::1", &r), TW_EMALFORMED);
}

static void every_disguise_of_an_ipv4_address_is_seen(void **state)
{
    static const char *nat64_text[] = { "2a00:64::/32", "2a00:64:aa00::/40", "2a00:64:aabb::/48",
                                        "2a00:64:aabb:cc00::/56", "2a00:64:aabb:ccdd::/64",
                                        "2a00:65::/96" };
    static const char *forms[] = {
        "::ffff:192.0.2.33", "::192.0.2.33", "::ffff:0:c000:221", "64:ff9b::192.0.2.33",
        "2002:c000:221::1", "2001:0:4136:e378:8000:63bf:3fff:fdde",
        "fe80::200:5efe:c000:221", "2a00:1::5efe:192.0.2.33",
        /* RFC 6052 §2.2's figure, one for each length */
        "2a00:64:c000:221::", "2a00:64:aac0:2:21::", "2a00:64:aabb:c000:2:2100::",
        "2a00:64:aabb:ccc0:0:221::", "2a00:64:aabb:ccdd:c0:2:2100:0", "2a00:65::c000:221",
    };
    struct tw_range nat64[ARRAY_LEN(nat64_text)];
    struct tw_addr want = ip("192.0.2.33"), list[TW_EMBEDDED_MAX];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(nat64_text); i++)
        assert_ok(tw_nat64_parse(nat64_text[i], &nat64[i]));
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tw_addr a = ip(forms[i]);
        size_t n = tw_addr_embedded_v4(&a, nat64, ARRAY_LEN(nat64), list);
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found = found || tw_addr_eq(&list[k], &want);
        if (!found)
            fail_msg("192.0.2.33 was not seen in %s", forms[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(nat64_text); i++) { /* those of the figure, made and undone */
        struct tw_addr v6 = tw_nat64_embed(&nat64[i], &want), known = ip("192.0.0.171"), back;
        struct tw_range found;
        assert_addr(v6, forms[8 + i]);
        assert_true(tw_nat64_extract(&nat64[i], &v6, &back) && tw_addr_eq(&back, &want));
        v6 = tw_nat64_embed(&nat64[i], &known);
        assert_true(tw_nat64_find(&v6, &found));
        assert_int_equal(found.first.port, nat64[i].first.port);
        assert_true(tw_addr_eq_ip(&found.first, &nat64[i].first));
    }
    struct tw_range none;
    struct tw_addr plain = ip("2a00:99::1");
    assert_false(tw_nat64_find(&plain, &none));
    assert_false(tw_nat64_find(&want, &none));
    assert_int_equal(tw_nat64_prefix(&plain, 72, &none), TW_EINVAL);
    assert_int_equal(tw_addr_embedded_v4(&plain, nat64, ARRAY_LEN(nat64), list), 0);
    assert_int_equal(tw_addr_embedded_v4(&want, NULL, 0, list), 1);
    struct tw_range r;
    assert_int_equal(tw_nat64_parse("2a00::/33", &r), TW_EMALFORMED);
    assert_int_equal(tw_nat64_parse("10.0.0.0/8", &r), TW_EMALFORMED);
}

static void order_and_equality(void **state)
{
    struct tw_addr a = ip("1.2.3.4:5"), b = ip("1.2.3.4:6"), c = ip("::1");
    (void)state;
    assert_true(tw_addr_eq_ip(&a, &b));
    assert_false(tw_addr_eq(&a, &b));
    assert_true(tw_addr_cmp(&a, &b) < 0);
    assert_true(tw_addr_cmp(&c, &a) > 0);
    assert_true(tw_addr_is_loopback(&c));
    assert_false(tw_addr_is_any(&c));
    c = ip("127.255.0.1");
    assert_true(tw_addr_is_loopback(&c));
}

static void kinds_of_addresses(void **state)
{
    static const struct {
        const char *text;
        bool link_local, unicast;
    } kinds[] = {
        { "169.254.0.1", true, true }, { "169.253.255.255", false, true }, { "169.255.0.0", false, true },
        { "fe80::1", true, true }, { "febf::1", true, true }, { "fec0::1", false, true },
        { "10.0.0.1", false, true }, { "224.0.0.1", false, false }, { "255.255.255.255", false, false },
        { "0.0.0.0", false, false }, { "ff02::1", false, false }, { "::", false, false },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tw_addr a = ip(kinds[i].text);
        if (tw_addr_is_link_local(&a) != kinds[i].link_local || tw_addr_is_unicast(&a) != kinds[i].unicast)
            fail_msg("%s", kinds[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_formats),
        cmocka_unit_test(ranges),
        cmocka_unit_test(every_disguise_of_an_ipv4_address_is_seen),
        cmocka_unit_test(order_and_equality),
        cmocka_unit_test(kinds_of_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
