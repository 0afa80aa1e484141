#include "../../test.h"

#include "tunnel/http.h"
#include "tunnel/ws.h"

static void fill(void *ctx, void *out, size_t n)
{
    static uint8_t next;
    uint8_t *p = out;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        p[i] = next++;
}
static const struct tw_env env = { .rng = { fill, NULL } };

static struct tw_ws *make(bool server, const char *token)
{
    struct tw_ws *w;
    const struct tw_ws_config cfg = { .server = server, .path = "/x", .protocol = "p.1", .host = "h.example",
                                      .token = token, .max_message = 1000 };
    assert_ok(tw_ws_new(&cfg, &env, &w));
    return w;
}

/* Carries bytes between the two, `step` at a time, until there are none. */
static void carry(struct tw_ws *a, struct tw_ws *b, size_t step)
{
    for (bool some = true; some;) {
        struct tw_ws *ends[] = { a, b };
        some = false;
        for (int i = 0; i < 2; i++) {
            struct tw_bytes out = tw_ws_out(ends[i]);
            some = some || out.n;
            for (size_t at = 0; at < out.n; at += step)
                tw_ws_recv(ends[!i], tw_bytes(out.p + at, out.n - at < step ? out.n - at : step));
        }
    }
}

static void messages_go_both_ways_whatever_the_pieces(void **state)
{
    static const size_t steps[] = { 1, 2, 7, 100, 100000 };
    uint8_t big[1000] = { 9 };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct tw_ws *c = make(false, "secret"), *s = make(true, NULL);
        struct tw_ws_event ev;
        carry(c, s, steps[i]);
        assert_true(tw_ws_poll_event(c, &ev) && ev.type == TW_WS_OPEN);
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_OPEN);
        assert_true(tw_bytes_eq(ev.data, tw_bytes_str("secret")));
        const struct tw_bytes parts[] = { tw_bytes("ab", 2), tw_bytes(NULL, 0), tw_bytes("c", 1) };
        const struct tw_bytes whole = tw_bytes(big, sizeof(big));
        assert_ok(tw_ws_send(c, parts, 3));
        assert_ok(tw_ws_send(c, &whole, 1));
        assert_ok(tw_ws_send(s, parts, 1));
        carry(c, s, steps[i]);
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_MESSAGE);
        assert_true(tw_bytes_eq(ev.data, tw_bytes_str("abc")));
        assert_true(tw_ws_poll_event(s, &ev) && tw_bytes_eq(ev.data, whole));
        assert_false(tw_ws_poll_event(s, &ev));
        assert_true(tw_ws_poll_event(c, &ev) && tw_bytes_eq(ev.data, tw_bytes_str("ab")));
        tw_ws_close(c);
        carry(c, s, steps[i]);
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_CLOSED);
        assert_int_equal(tw_ws_send(s, parts, 1), TW_ESTATE);
        tw_ws_free(c);
        tw_ws_free(s);
    }
}

static void a_message_that_is_too_long_ends_it(void **state)
{
    struct tw_ws *c = make(false, NULL), *s = make(true, NULL);
    static uint8_t big[1001];
    const struct tw_bytes whole = tw_bytes(big, sizeof(big));
    struct tw_ws_event ev;
    (void)state;
    carry(c, s, 1000);
    assert_ok(tw_ws_send(c, &whole, 1));
    carry(c, s, 1000);
    assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_OPEN);
    assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_CLOSED);
    tw_ws_free(c);
    tw_ws_free(s);
}

static void what_is_no_upgrade_gets_an_ordinary_answer(void **state)
{
    static const struct {
        const char *request, *status;
    } cases[] = {
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404" },
        { "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426" },
        { "POST /x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405" },
        { "\x16\x03\x01\x02\r\n\r\n", "HTTP/1.1 400" },
        { "GET /x HTTP/1.1\r\n folded: x\r\n\r\n", "HTTP/1.1 400" },
        { "GET /x HTTP/1.1\r\nbad : x\r\n\r\n", "HTTP/1.1 400" },
        { "GET /x HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
          "Sec-WebSocket-Protocol: other, p.1\r\n\r\n", "HTTP/1.1 101" },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tw_ws *s = make(true, NULL);
        tw_ws_recv(s, tw_bytes_str(cases[i].request));
        struct tw_bytes out = tw_ws_out(s);
        if (out.n < 12 || memcmp(out.p, cases[i].status, 12) != 0)
            fail_msg("%s: %.*s", cases[i].request, (int)out.n, (const char *)out.p);
        tw_ws_free(s);
    }
    struct tw_ws *s = make(true, NULL); /* a head without an end */
    struct tw_ws_event ev;
    for (int i = 0; i < 9000; i++)
        tw_ws_recv(s, tw_bytes_str("a"));
    assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_CLOSED);
    tw_ws_free(s);
}

static void a_client_says_what_is_wrong(void **state)
{
    static const struct {
        const char *answer, *why;
    } cases[] = {
        { "SSH-2.0-x\r\n", "what answered is no web server" },
        { "HTTP/1.1 200 OK\r\n\r\n",
          "a web server answered that is no rendezvous, or something on the way lets no WebSocket through" },
        { "HTTP/1.1 302 Found\r\n\r\n",
          "this network wants you to log in first (a captive portal): open any page in a browser" },
        { "HTTP/1.1 403 Forbidden\r\n\r\n", "the server wants a token (--token)" },
        { "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
          "the server's answer to the upgrade is wrong" },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tw_ws *c = make(false, NULL);
        struct tw_ws_event ev;
        tw_ws_recv(c, tw_bytes_str(cases[i].answer));
        assert_true(tw_ws_poll_event(c, &ev) && ev.type == TW_WS_CLOSED);
        assert_string_equal(ev.why, cases[i].why);
        assert_int_equal(tw_ws_was_refused(c), i == 1); /* then without a WebSocket */
        tw_ws_free(c);
    }
}

static struct tw_ws *make_early(bool server)
{
    struct tw_ws *w;
    const struct tw_ws_config cfg = { .server = server, .path = "/x", .protocol = "p.1", .host = "h.example",
                                      .max_message = 1000, .early = true };
    assert_ok(tw_ws_new(&cfg, &env, &w));
    return w;
}

static void the_first_messages_go_with_the_request(void **state)
{
    static const uint8_t big[TW_WS_EARLY_MAX];
    const struct tw_bytes one = tw_bytes("one", 3), two = tw_bytes(big, 900), much = tw_bytes(big, sizeof(big));
    struct tw_ws_event ev;
    (void)state;
    for (int understood = 0; understood < 2; understood++) { /* a proxy, or an older server, may take them off */
        struct tw_ws *c = make_early(false), *s = understood ? make_early(true) : make(true, NULL);
        assert_ok(tw_ws_send(c, &one, 1));
        assert_ok(tw_ws_send(c, &two, 1));
        assert_int_equal(tw_ws_send(c, &much, 1), TW_EFULL);
        carry(c, s, 100);
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_OPEN);
        assert_int_equal(ev.early, understood ? 2 : 0);
        tw_ws_early_taken(c, ev.early);
        tw_ws_early_taken(c, 0); /* it is known already */
        carry(c, s, 100);
        assert_true(tw_ws_poll_event(s, &ev) && tw_bytes_eq(ev.data, one));
        assert_true(tw_ws_poll_event(s, &ev) && tw_bytes_eq(ev.data, two));
        assert_false(tw_ws_poll_event(s, &ev));
        tw_ws_free(c);
        tw_ws_free(s);
    }
}

static void broken_early_messages_are_as_none(void **state)
{
    static const char *const cookies[] = { "early=", "early=!", "early=A", "early=AAA", "early=__8A", "other=AAFh",
                                           "early=A-hh" };
    char request[400];
    struct tw_ws_event ev;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cookies); i++) {
        struct tw_ws *s = make_early(true);
        snprintf(request, sizeof(request), "GET /x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                 "Sec-WebSocket-Protocol: p.1\r\nCookie: %s\r\n\r\n", cookies[i]);
        tw_ws_recv(s, tw_bytes_str(request));
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_OPEN);
        if (strcmp(cookies[i], "early=AAA") == 0) { /* one that is empty */
            assert_int_equal(ev.early, 1);
            assert_true(tw_ws_poll_event(s, &ev) && ev.data.n == 0);
        } else {
            assert_int_equal(ev.early, 0);
        }
        assert_false(tw_ws_poll_event(s, &ev));
        tw_ws_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_both_ways_whatever_the_pieces),
        cmocka_unit_test(a_message_that_is_too_long_ends_it),
        cmocka_unit_test(what_is_no_upgrade_gets_an_ordinary_answer),
        cmocka_unit_test(a_client_says_what_is_wrong),
        cmocka_unit_test(the_first_messages_go_with_the_request),
        cmocka_unit_test(broken_early_messages_are_as_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
