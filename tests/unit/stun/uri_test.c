#include "../../test.h"

#include <thalweg/error.h>
#include <thalweg/uri.h>

static void good(void **state)
{
    struct tw_uri u;
    char name[300];
    (void)state;
    assert_ok(tw_uri_parse("stun:example.org", &u, NULL));
    assert_false(u.turn || u.secure || u.host_is_ip);
    assert_int_equal(tw_uri_default_port(&u), 3478);
    assert_int_equal(tw_uri_srv_name(&u, name, sizeof(name)), 22);
    assert_string_equal(name, "_stun._udp.example.org");
    assert_ok(tw_uri_parse("TURNS:example.org?transport=tcp", &u, NULL));
    assert_true(u.turn && u.secure);
    assert_int_equal(u.transport, TW_TRANSPORT_TLS);
    tw_uri_srv_name(&u, name, sizeof(name));
    assert_string_equal(name, "_turns._tcp.example.org");
    assert_ok(tw_uri_parse("turns:example.org?transport=udp", &u, NULL));
    assert_int_equal(u.transport, TW_TRANSPORT_DTLS);
    assert_ok(tw_uri_parse("turn:[2001:db8::1]:99?transport=udp", &u, NULL));
    assert_string_equal(u.host, "2001:db8::1");
    assert_int_equal(u.port, 99);
    assert_true(u.host_is_ip);
    assert_int_equal(tw_uri_srv_name(&u, name, sizeof(name)), 0);
    assert_ok(tw_uri_parse("turn:192.0.2.1", &u, NULL));
    assert_true(u.host_is_ip);
}

static void bad_ones_say_why(void **state)
{
    static const char *bad[] = {
        "", "http://x", "stun", "stun:", "stun://example.org", "stun:a b", "stun:[::1", "stun:[1.2.3.4]",
        "stun:x:0", "stun:x:65536", "stun:x:", "turn:x?transport=", "turn:x?transport=sctp",
        "turn:x?Transport=udp", "stun:x?transport=udp", "turn:x/y", "turn:user@x",
    };
    struct tw_uri u = { .port = 77 };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *why = NULL;
        if (!tw_uri_parse(bad[i], &u, &why))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_non_null(why);
        assert_int_equal(u.port, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(bad_ones_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
