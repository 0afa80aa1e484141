#include "../../test.h"

#include "tunnel/forwarded.h"
#include "tunnel/front.h"
#include "tunnel/poll.h"
#include "tunnel/proxy.h"
#include "tunnel/ws.h"

static const struct tw_env env = { .rng = { test_random, NULL } };

static struct tw_bytes text(const char *s)
{
    return tw_bytes_str(s);
}

/* --- URLs ------------------------------------------------------------------------------------------- */

static void urls_say_what_is_wrong_with_them(void **state)
{
    static const char *const bad[] = { "https://proxy:443", "ftp://x", "http://", "http://a b:1", "http://x:0", "http://x:65536",
                                       "http://x:12a", "http://[::1", "http://%zz@x", "http://@x", "http://a:b@" };
    struct tw_proxy_url u;
    const char *why = NULL;
    (void)state;
    assert_ok(tw_proxy_parse("http://me:se%20cret%3a@proxy.example:8080/", &u, NULL));
    assert_int_equal(u.kind, TW_PROXY_HTTP);
    assert_string_equal(u.host, "proxy.example");
    assert_string_equal(u.user, "me");
    assert_string_equal(u.password, "se cret:");
    assert_int_equal(u.port, 8080);
    assert_ok(tw_proxy_parse("socks5h://[2001:db8::1]", &u, NULL));
    assert_int_equal(u.kind, TW_PROXY_SOCKS5);
    assert_string_equal(u.host, "2001:db8::1");
    assert_int_equal(u.port, 1080);
    assert_ok(tw_proxy_parse("10.0.0.1:3128", &u, NULL));
    assert_int_equal(u.port, 3128);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        why = NULL;
        if (!tw_proxy_parse(bad[i], &u, &why))
            fail_msg("%s is taken", bad[i]);
        assert_non_null(why);
    }
}

static void some_hosts_need_no_proxy(void **state)
{
    static const char list[] = "localhost, .example.org,10.0.0.0/8,fd00::/8,one.test";
    static const char *const exempt[] = { "localhost", "example.org", "a.EXAMPLE.org", "10.255.0.1", "fd00::1", "x.one.test" },
                             *const others[] = { "example.com", "badexample.org", "11.0.0.1", "fe00::1", "one.test.org" };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(exempt); i++)
        if (!tw_proxy_is_exempt(list, exempt[i]))
            fail_msg("%s", exempt[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (tw_proxy_is_exempt(list, others[i]))
            fail_msg("%s", others[i]);
    assert_true(tw_proxy_is_exempt("*", "anything"));
    assert_false(tw_proxy_is_exempt(NULL, "anything"));
    assert_false(tw_proxy_is_exempt("", "anything"));
}

/* --- the conversation --------------------------------------------------------------------------------- */

static struct tw_proxy *begin(const char *url, const char *host)
{
    struct tw_proxy_url u;
    struct tw_proxy *p;
    assert_ok(tw_proxy_parse(url, &u, NULL));
    assert_ok(tw_proxy_new(&u, host, 443, &env, &p));
    return p;
}

static void said(struct tw_proxy *p, const char *part)
{
    char copy[4096];
    struct tw_bytes out = tw_proxy_out(p);
    snprintf(copy, sizeof(copy), "%.*s", (int)out.n, (const char *)out.p);
    if (!strstr(copy, part))
        fail_msg("\"%s\" is not in: %s", part, copy);
}

static enum tw_proxy_step hear(struct tw_proxy *p, const char *s)
{
    size_t used;
    enum tw_proxy_step step = tw_proxy_recv(p, text(s), &used);
    assert_true(used <= strlen(s));
    return step;
}

static void connect_is_asked_for_and_taken(void **state)
{
    size_t used;
    (void)state;
    struct tw_proxy *p = begin("http://p", "2001:db8::7");
    said(p, "CONNECT [2001:db8::7]:443 HTTP/1.1\r\nHost: [2001:db8::7]:443\r\n\r\n");
    assert_int_equal(hear(p, "HTTP/1.1 200 Conn"), TW_PROXY_MORE);
    assert_int_equal(tw_proxy_recv(p, text("ection\r\nVia: x\r\n\r\nrest"), &used), TW_PROXY_DONE);
    assert_int_equal(used, strlen("ection\r\nVia: x\r\n\r\n")); /* what is behind it is the server's */
    tw_proxy_free(p);
    static const struct {
        const char *answer, *why;
    } bad[] = { { "HTTP/1.1 403 No\r\n\r\n", "443" }, { "HTTP/1.1 502 No\r\n\r\n", "get through" },
                { "HTTP/1.1 418 No\r\n\r\n", "418" }, { "SSH-2.0-x\r\n\r\n", "no HTTP proxy" },
                { "HTTP/1.1 407 No\r\n\r\n", "user name and password" } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        p = begin("http://p", "x");
        assert_int_equal(hear(p, bad[i].answer), TW_PROXY_FAILED);
        if (!strstr(tw_proxy_why(p), bad[i].why))
            fail_msg("%s: %s", bad[i].answer, tw_proxy_why(p));
        tw_proxy_free(p);
    }
}

static void a_challenge_is_answered(void **state)
{
    (void)state;
    struct tw_proxy *p = begin("http://Aladdin:open%20sesame@p", "x");
    said(p, "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"); /* RFC 7617 §2 */
    assert_int_equal(hear(p, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"), TW_PROXY_FAILED);
    tw_proxy_free(p);
    /* On the same connection, behind the body; and over another one if that one ends. */
    static const char *const ends[] = { "Content-Length: 5\r\n\r\nsorry", "Connection: close\r\nContent-Length: 5\r\n\r\nsorry",
                                        "Transfer-Encoding: chunked\r\n\r\n" };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char answer[300];
        snprintf(answer, sizeof(answer), "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: Digest "
                 "realm=\"a, b\", qop=\"auth\", nonce=\"n\\\"1\", opaque=\"o\", algorithm=SHA-256\r\n%s", ends[i]);
        p = begin("http://me:pw@p", "x");
        said(p, "Basic");
        enum tw_proxy_step step = hear(p, answer);
        assert_int_equal(step, i == 0 ? TW_PROXY_MORE : TW_PROXY_AGAIN);
        if (step == TW_PROXY_AGAIN)
            tw_proxy_restart(p);
        said(p, "Digest username=\"me\", realm=\"a, b\"");
        assert_int_equal(hear(p, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"a, b\", nonce=\"2\"\r\n\r\n"), TW_PROXY_FAILED);
        assert_non_null(strstr(tw_proxy_why(p), "does not accept"));
        tw_proxy_free(p);
    }
}

static void socks_is_spoken(void **state)
{
    (void)state;
    struct tw_proxy *p = begin("socks5://me:pw@p", "host.example");
    said(p, "\x05\x02");
    assert_int_equal(hear(p, "\x05\x02"), TW_PROXY_MORE);
    said(p, "\x01\x02me\x02pw");
    size_t used;
    assert_int_equal(tw_proxy_recv(p, tw_bytes("\x01\x00", 2), &used), TW_PROXY_MORE);
    struct tw_bytes out = tw_proxy_out(p);
    assert_int_equal(out.n, 4 + 1 + 12 + 2);
    assert_memory_equal(out.p, "\x05\x01\x00\x03\x0chost.example\x01\xbb", out.n);
    assert_int_equal(tw_proxy_recv(p, tw_bytes("\x05\x00\x00\x01", 4), &used), TW_PROXY_MORE);
    assert_int_equal(tw_proxy_recv(p, tw_bytes("\x7f\x00\x00\x01\x00\x50rest", 10), &used), TW_PROXY_DONE);
    assert_int_equal(used, 6);
    tw_proxy_free(p);
    p = begin("socks5://p", "1.2.3.4");
    tw_proxy_out(p);
    assert_int_equal(hear(p, "\x05\xff"), TW_PROXY_FAILED);
    tw_proxy_free(p);
    p = begin("socks5://p", "1.2.3.4");
    tw_proxy_out(p);
    tw_proxy_recv(p, tw_bytes("\x05\x00", 2), &used);
    assert_int_equal(tw_proxy_recv(p, tw_bytes("\x05\x02\x00\x01\x00", 5), &used), TW_PROXY_FAILED);
    assert_non_null(strstr(tw_proxy_why(p), "does not allow"));
    tw_proxy_free(p);
}

/* --- who comes ---------------------------------------------------------------------------------------- */

static void the_first_bytes_tell_who_comes(void **state)
{
    static const char ws[] = "GET /thalweg HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: thalweg-turn.1\r\n\r\n";
    static const uint8_t stun[] = { 0, 3, 0, 0 }, tls[] = { 22, 3, 1 };
    (void)state;
    assert_int_equal(tw_front_look(tw_bytes(NULL, 0)), TW_FRONT_MORE);
    assert_int_equal(tw_front_look(tw_bytes(stun, 4)), TW_FRONT_TURN);
    for (size_t n = 1; n < sizeof(ws) - 1; n++)
        assert_int_equal(tw_front_look(tw_bytes(ws, n)), TW_FRONT_MORE);
    assert_int_equal(tw_front_look(text(ws)), TW_FRONT_TURN_WS);
    assert_int_equal(tw_front_look(text("GET / HTTP/1.1\r\n\r\n")), TW_FRONT_WEB);
    assert_int_equal(tw_front_look(text("nonsense\r\n\r\n")), TW_FRONT_WEB);
    assert_int_equal(tw_front_look(tw_bytes(tls, 3)), TW_FRONT_MORE);
    char long_one[9000];
    memset(long_one, 'a', sizeof(long_one));
    assert_int_equal(tw_front_look(tw_bytes(long_one, sizeof(long_one))), TW_FRONT_WEB);
}

static void a_reverse_proxy_says_for_whom_it_speaks(void **state)
{
    static const uint8_t v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x30\x39\x01\xbbGET";
    static const char v1[] = "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\nGET";
    static const char *const bad[] = { "PROXY TCP4 x 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 99999 2\r\n",
                                       "PROXY TCP4 192.0.2.1\r\n", "PROXY \r\n" };
    struct tw_addr a;
    size_t used;
    (void)state;
    for (size_t n = 0; n < 46; n++)
        assert_int_equal(tw_forwarded_proxy(tw_bytes(v1, n), &a, &used), TW_ESHORT);
    assert_ok(tw_forwarded_proxy(text(v1), &a, &used));
    assert_addr(a, "[2001:db8::1]:56324");
    assert_int_equal(used, 46);
    for (size_t n = 0; n < 28; n++)
        assert_int_equal(tw_forwarded_proxy(tw_bytes(v2, n), &a, &used), TW_ESHORT);
    assert_ok(tw_forwarded_proxy(tw_bytes(v2, sizeof(v2) - 1), &a, &used));
    assert_addr(a, "192.0.2.1:12345");
    assert_int_equal(used, 28);
    assert_ok(tw_forwarded_proxy(text("PROXY UNKNOWN\r\n"), &a, &used));
    assert_int_equal(a.family, TW_FAMILY_NONE);
    assert_int_equal(tw_forwarded_proxy(text("GET / HTTP/1.1"), &a, &used), TW_ENOTFOUND);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(tw_forwarded_proxy(text(bad[i]), &a, &used), TW_EMALFORMED);
    /* The nearest proxy's word is the last. */
    assert_true(tw_forwarded_http(text("GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n\r\n"), &a));
    assert_addr(a, "192.0.2.9");
    assert_false(tw_forwarded_http(text("GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, me\r\n\r\n"), &a));
    assert_false(tw_forwarded_http(text("GET / HTTP/1.1\r\n\r\n"), &a));
}

static void a_request_must_name_the_token(void **state)
{
    (void)state;
    for (int yes = 0; yes < 2; yes++) {
        struct tw_ws *c, *s;
        struct tw_ws_event ev;
        const struct tw_ws_config client = { .path = "/token", .protocol = "p.1", .host = "h", .max_message = 100 },
                                  server = { .server = true, .protocol = "p.1", .max_message = 100 };
        assert_ok(tw_ws_new(&client, &env, &c));
        assert_ok(tw_ws_new(&server, &env, &s));
        tw_ws_recv(s, tw_ws_out(c));
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == TW_WS_REQUEST);
        assert_true(tw_bytes_eq(ev.data, text("/token")));
        assert_false(tw_ws_poll_event(s, &ev));
        tw_ws_answer(s, yes);
        tw_ws_recv(c, tw_ws_out(s));
        assert_true(tw_ws_poll_event(c, &ev) && ev.type == (yes ? TW_WS_OPEN : TW_WS_CLOSED));
        assert_true(tw_ws_poll_event(s, &ev) && ev.type == (yes ? TW_WS_OPEN : TW_WS_CLOSED));
        tw_ws_free(c);
        tw_ws_free(s);
    }
}

/* --- single requests -------------------------------------------------------------------------------------- */

static struct tw_poll_request asked(struct tw_poll *p, unsigned conn)
{
    static char copy[TW_POLL_BODY + 1000];
    struct tw_poll_request r = { .up = UINT64_MAX };
    struct tw_bytes out = tw_poll_out(p, conn);
    size_t used;
    if (out.n == 0)
        return r;
    memcpy(copy, out.p, out.n);
    for (size_t n = 0; n < out.n; n++)
        assert_int_equal(tw_poll_parse(tw_bytes(copy, n), &r, &used), TW_ESHORT);
    assert_ok(tw_poll_parse(tw_bytes(copy, out.n), &r, &used));
    assert_int_equal(used, out.n);
    return r;
}

static int answered(struct tw_poll *p, unsigned conn, unsigned status, const char *body)
{
    char head[TW_POLL_HEAD], all[1000];
    size_t n = tw_poll_answer(status, strlen(body), head), used;
    int len = snprintf(all, sizeof(all), "%.*s%s", (int)n, head, body);
    assert_ok(tw_poll_recv(p, conn, tw_bytes(all, (size_t)len - 1), &used)); /* not whole */
    assert_int_equal(used, 0);
    int err = tw_poll_recv(p, conn, tw_bytes(all, (size_t)len), &used);
    assert_true(err || used == (size_t)len);
    return err;
}

static void a_stream_goes_in_single_requests(void **state)
{
    struct tw_poll *p;
    struct tw_poll_request r;
    (void)state;
    assert_ok(tw_poll_new("h.example", &env, &p));
    assert_int_equal(asked(p, TW_POLL_ASKS).up, UINT64_MAX); /* nothing to ask yet */
    assert_int_equal(tw_poll_send(p, text("hello")), 5);
    r = asked(p, TW_POLL_BRINGS);
    assert_true(tw_bytes_eq(r.body, text("hello")) && r.up == 0 && r.down == 0);
    assert_int_equal(tw_poll_send(p, text(" world")), 6);
    assert_int_equal(asked(p, TW_POLL_BRINGS).up, UINT64_MAX); /* one after the other */
    tw_poll_lost(p, TW_POLL_BRINGS);                            /* whether it has arrived is not known: all again */
    r = asked(p, TW_POLL_BRINGS);
    assert_true(tw_bytes_eq(r.body, text("hello world")) && r.up == 0);
    assert_ok(answered(p, TW_POLL_BRINGS, 200, ""));
    r = asked(p, TW_POLL_ASKS);
    assert_true(r.body.n == 0 && r.up == 11 && r.down == 0);
    assert_ok(answered(p, TW_POLL_ASKS, 200, "abc"));
    assert_true(tw_bytes_eq(tw_poll_came(p), text("abc")));
    assert_int_equal(asked(p, TW_POLL_ASKS).up, UINT64_MAX); /* first that is taken */
    tw_poll_took(p, 3);
    r = asked(p, TW_POLL_ASKS);
    assert_int_equal(r.down, 3);
    assert_int_equal(answered(p, TW_POLL_ASKS, 410, ""), TW_ENOTFOUND);
    tw_poll_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_say_what_is_wrong_with_them), cmocka_unit_test(some_hosts_need_no_proxy),
        cmocka_unit_test(connect_is_asked_for_and_taken),   cmocka_unit_test(a_challenge_is_answered),
        cmocka_unit_test(socks_is_spoken),                  cmocka_unit_test(the_first_bytes_tell_who_comes),
        cmocka_unit_test(a_reverse_proxy_says_for_whom_it_speaks), cmocka_unit_test(a_request_must_name_the_token),
        cmocka_unit_test(a_stream_goes_in_single_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
