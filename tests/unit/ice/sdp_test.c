#include <thalweg/ice.h>

#include <sodium.h>

#include "../../test.h"

static void fill(void *ctx, void *out, size_t n)
{
    (void)ctx;
    memset(out, 7, n);
}

static struct tw_ice *agent(unsigned streams)
{
    struct tw_env env = { .rng = { fill, NULL } };
    struct tw_ice_config cfg = { .streams = streams, .tcp = true };
    struct tw_ice *a;
    assert_ok(tw_ice_new(&cfg, &env, &a));
    return a;
}

static void candidates_come_back_as_they_were(void **state)
{
    static const char *const lines[] = {
        "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host",
        "candidate:abc/+ 2 udp 1 2001:db8::1 65535 typ srflx raddr 10.0.0.1 rport 9",
        "candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "candidate:3 1 tcp 1518280447 192.0.2.1 443 typ relay raddr :: rport 9 tcptype so",
        "candidate:4 1 udp 2122260223 192.0.2.1 5 typ host generation 0 ufrag abcd network-id 1",
        "candidate:5 1 udp 2122260223 4f8c-33.local 5 typ host",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct tw_ice_candidate c;
        char out[TW_ICE_LINE_MAX];
        assert_ok(tw_ice_read_candidate(lines[i], &c));
        assert_ok(tw_ice_write_candidate(&c, out, sizeof(out)));
        assert_string_equal(out, lines[i]);
    }
}

static void broken_candidates_are_refused(void **state)
{
    static const struct {
        const char *line;
        int err;
    } cases[] = {
        { "", TW_EMALFORMED },
        { "candidate:", TW_EMALFORMED },
        { "candidate:1 1 udp 1 192.0.2.1 4000", TW_EMALFORMED },
        { "candidate:1 0 udp 1 192.0.2.1 4000 typ host", TW_EMALFORMED },
        { "candidate:1 257 udp 1 192.0.2.1 4000 typ host", TW_EMALFORMED },
        { "candidate:1 1 udp 0 192.0.2.1 4000 typ host", TW_EMALFORMED },
        { "candidate:1 1 udp 4294967296 192.0.2.1 4000 typ host", TW_EMALFORMED },
        { "candidate:1 1 udp 1 192.0.2.1 65536 typ host", TW_EMALFORMED },
        { "candidate:1 1 udp 1 192.0.2.1 -1 typ host", TW_EMALFORMED },
        { "candidate:1 1 udp 1 192.0.2.1 4000 typ host raddr", TW_EMALFORMED },
        { "candidate:1 1 udp 1 192.0.2.1 4000 typ host tcptype active", TW_EMALFORMED },
        { "candidate:1 1 sctp 1 192.0.2.1 4000 typ host", TW_EUNSUPPORTED },
        { "candidate:1 1 udp 1 192.0.2.1 4000 typ other", TW_EUNSUPPORTED },
        { "candidate:123456789012345678901234567890123 1 udp 1 192.0.2.1 1 typ host", TW_EMALFORMED },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tw_ice_candidate c = { .priority = 77 };
        assert_int_equal(tw_ice_read_candidate(cases[i].line, &c), cases[i].err);
        assert_int_equal(c.priority, 77);
    }
}

static void a_description_is_read_by_its_sections(void **state)
{
    static const char sdp[] =
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-options:ice2\r\n"
        "m=audio 9 RTP/AVP 0\r\na=ice-ufrag:first\r\na=ice-pwd:0123456789012345678901\r\n"
        "a=candidate:1 1 udp 5 192.0.2.1 4000 typ host\r\n"
        "m=video 9 RTP/AVP 0\r\na=ice-ufrag:second\r\na=ice-pwd:0123456789012345678902\r\n"
        "a=candidate:1 1 udp 5 192.0.2.1 4002 typ host\r\na=end-of-candidates\r\n"
        "m=third 9 RTP/AVP 0\r\na=ice-ufrag:more\r\na=ice-pwd:0123456789012345678903\r\n";
    const char *why;
    char out[4096];
    size_t n;
    (void)state;
    struct tw_ice *a = agent(2);
    assert_ok(tw_ice_read_sdp(a, 1, sdp, &why));
    assert_ok(tw_ice_write_sdp(a, 1, out, sizeof(out), &n));
    assert_int_equal(strlen(out), n);
    assert_non_null(strstr(out, "a=ice-ufrag:"));
    assert_int_equal(tw_ice_write_sdp(a, 1, out, 20, &n), TW_EFULL);
    assert_int_equal(tw_ice_write_sdp(a, 2, out, sizeof(out), &n), TW_EINVAL);
    tw_ice_free(a);
}

static void what_is_wrong_is_named(void **state)
{
    const char *why;
    (void)state;
    struct tw_ice *a = agent(1);
    assert_int_equal(tw_ice_read_sdp(a, 1, "m=x\r\nc=IN IP4 1.2.3.4\r\n", &why), TW_ENOTFOUND);
    assert_int_equal(tw_ice_read_sdp(a, 1, "a=ice-ufrag:abc\r\na=ice-pwd:0123456789012345678901\r\n", &why),
                     TW_EMALFORMED);
    assert_int_equal(tw_ice_read_sdp(a, 1, "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n", &why),
                     TW_EMALFORMED);
    assert_int_equal(tw_ice_read_sdp(a, 1, "a=ice-ufrag:ab d\r\na=ice-pwd:0123456789012345678901\r\n"
                                           "a=candidate:oops\r\n", &why), TW_EMALFORMED);
    assert_ok(tw_ice_read_sdp(a, 1, "a=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\n", &why));
    assert_int_equal(tw_ice_read_sdp(a, 1, "a=candidate:1 1 udp 1 nonsense", &why), TW_EMALFORMED);
    assert_memory_equal(why, "a=candidate:1", 13);
    tw_ice_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_come_back_as_they_were),
        cmocka_unit_test(broken_candidates_are_refused),
        cmocka_unit_test(a_description_is_read_by_its_sections),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
