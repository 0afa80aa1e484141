#include "../../test.h"

#include <thalweg/relay.h>

static struct tw_relay_config cfg;

static bool allowed(const char *text)
{
    struct tw_addr a = ip(text);
    a.port = 5000;
    return tw_relay_peer_allowed(&cfg, &a);
}

static void reset(void)
{
    memset(&cfg, 0, sizeof(cfg));
}

static void the_open_internet_is_allowed(void **state)
{
    static const char *good[] = { "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255",
                                  "100.128.0.0", "172.15.255.255", "172.32.0.0", "223.255.255.255",
                                  "2a00::1", "2606:4700::1111", "64:ff9b::1.1.1.1",
                                  "2002:101:101::1" };
    (void)state;
    reset();
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!allowed(good[i]))
            fail_msg("%s was denied", good[i]);
}

/* The first and the last address of every special-purpose block. */
static void special_purpose_is_denied(void **state)
{
    static const char *bad[] = {
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
        "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "172.16.0.0",
        "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0", "192.88.99.1", "192.168.0.0",
        "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.9",
        "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.255",
        "::", "::1", "100::1", "2001:2::1", "2001:10::1", "2001:1f:ffff::1", "2001:2f::1",
        "2001:db8::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1", "5f00::1", "64:ff9b:1::1",
        "fc00::1", "fdff:ffff::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1", "ffff::",
    };
    (void)state;
    reset();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (allowed(bad[i]))
            fail_msg("%s was allowed", bad[i]);
}

static void disguises_do_not_help(void **state)
{
    static const char *v4[] = { "127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0",
                                "192.168.1.1" };
    struct tw_range nat64;
    (void)state;
    reset();
    assert_ok(tw_nat64_parse("2a00:64::/96", &nat64));
    cfg.nat64 = &nat64;
    cfg.nat64_n = 1;
    for (size_t i = 0; i < ARRAY_LEN(v4); i++) {
        static const char *forms[] = { "::ffff:%s", "::%s", "::ffff:0:%s", "64:ff9b::%s",
                                       "2a00:64::%s", "2a00:5::5efe:%s" };
        char text[80], hex[80];
        struct tw_addr a = ip(v4[i]);
        for (size_t k = 0; k < ARRAY_LEN(forms); k++) {
            snprintf(text, sizeof(text), forms[k], v4[i]);
            if (allowed(text))
                fail_msg("%s was allowed", text);
        }
        snprintf(hex, sizeof(hex), "2002:%02x%02x:%02x%02x::1", a.ip[0], a.ip[1], a.ip[2], a.ip[3]);
        assert_false(allowed(hex));
        snprintf(hex, sizeof(hex), "2001::%02x%02x:%02x%02x:0:0:fefe:fefe", a.ip[0], a.ip[1], a.ip[2],
                 a.ip[3]); /* as Teredo server */
        assert_false(allowed(hex));
        snprintf(hex, sizeof(hex), "2001:0:101:101:0:0:%02x%02x:%02x%02x", a.ip[0] ^ 255,
                 a.ip[1] ^ 255, a.ip[2] ^ 255, a.ip[3] ^ 255); /* as Teredo client */
        assert_false(allowed(hex));
    }
}

static void lists_are_weighed_in_order(void **state)
{
    struct tw_range yes[1], no[2];
    (void)state;
    reset();
    assert_ok(tw_range_parse("10.1.0.0/16", &yes[0]));
    assert_ok(tw_range_parse("10.0.0.0/8", &no[0]));
    assert_ok(tw_range_parse("8.8.8.8", &no[1]));
    cfg.allowed = yes;
    cfg.allowed_n = 1;
    cfg.denied = no;
    cfg.denied_n = 2;
    assert_true(allowed("10.1.2.3"));
    assert_false(allowed("10.2.2.3"));
    assert_false(allowed("8.8.8.8"));
    assert_true(allowed("8.8.8.9"));
    assert_false(allowed("127.0.0.1"));
    cfg.allow_loopback = true;
    assert_true(allowed("127.0.0.1"));
    assert_true(allowed("::1"));
    assert_false(allowed("::ffff:127.0.0.1"));
}

static void no_port_no_peer(void **state)
{
    struct tw_addr a = ip("1.1.1.1");
    (void)state;
    reset();
    assert_false(tw_relay_peer_allowed(&cfg, &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_open_internet_is_allowed),
        cmocka_unit_test(special_purpose_is_denied),
        cmocka_unit_test(disguises_do_not_help),
        cmocka_unit_test(lists_are_weighed_in_order),
        cmocka_unit_test(no_port_no_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
