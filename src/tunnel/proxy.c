#include "tunnel/proxy.h"

#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include <thalweg/addr.h>

#include "tunnel/http.h"

enum { HEAD_MAX = 16384, OUT_MAX = 2048, BODY_MAX = 1 << 20, TRIES = 3, HEX_MAX = 65 };

struct tw_proxy {
    struct tw_proxy_url url;
    struct tw_env env;
    char target[TW_PROXY_HOST_MAX + 16]; /* HOST:PORT */
    char host[TW_PROXY_HOST_MAX + 1];
    uint16_t port;
    enum { ASKED, BODY, GREETED, LOGIN, SOCKS_ASKED } state;
    unsigned tries;
    char auth[1024];           /* Proxy-Authorization, with its CRLF; empty: none */
    bool digest;               /* it is one made for a challenge */
    size_t body;               /* bytes of an answer that are still to come and not looked at */
    uint8_t in[HEAD_MAX], out[OUT_MAX];
    size_t in_n, out_n;
    char why[200];
};

/* --- URLs ----------------------------------------------------------------------------------------- */

static int complain(const char **ret_why, int err, const char *why)
{
    if (ret_why)
        *ret_why = why;
    return err;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC 3986 §2.1: %41 is A. */
static bool decode(const char *p, size_t n, char *out, size_t cap)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == '%') {
            int high = i + 2 < n ? hex(p[i + 1]) : -1, low = i + 2 < n ? hex(p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (k + 1 >= cap || c < ' ' || c == 127)
            return false;
        out[k++] = c;
    }
    out[k] = 0;
    return true;
}

static bool read_login(const char *p, size_t n, struct tw_proxy_url *u)
{
    const char *colon = memchr(p, ':', n);
    size_t name = colon ? (size_t)(colon - p) : n;
    return decode(p, name, u->user, sizeof(u->user)) &&
           decode(p + name + (colon != NULL), n - name - (colon != NULL), u->password, sizeof(u->password)) &&
           u->user[0] && !strchr(u->user, ':');
}

static bool read_port(const char *p, uint16_t *ret)
{
    unsigned long port = 0;
    size_t n = strspn(p, "0123456789");
    for (size_t i = 0; i < n && port <= 65535; i++)
        port = port * 10 + (unsigned)(p[i] - '0');
    *ret = (uint16_t)port;
    return n && port && port <= 65535 && (p[n] == 0 || (p[n] == '/' && p[n + 1] == 0));
}

int tw_proxy_parse(const char *text, struct tw_proxy_url *u, const char **ret_why)
{
    static const struct {
        const char *scheme;
        enum tw_proxy_kind kind;
        uint16_t port;
    } kinds[] = { { "http://", TW_PROXY_HTTP, 3128 }, { "socks5h://", TW_PROXY_SOCKS5, 1080 },
                  { "socks5://", TW_PROXY_SOCKS5, 1080 }, { "socks://", TW_PROXY_SOCKS5, 1080 } };
    *u = (struct tw_proxy_url){ .kind = TW_PROXY_HTTP, .port = 3128 };
    const char *scheme = strstr(text, "://");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strncmp(text, kinds[i].scheme, strlen(kinds[i].scheme))) {
            u->kind = kinds[i].kind;
            u->port = kinds[i].port;
            text += strlen(kinds[i].scheme);
            scheme = NULL;
            break;
        }
    if (scheme)
        return complain(ret_why, TW_EUNSUPPORTED, "only http:// and socks5:// proxies are known");
    const char *at = strrchr(text, '@');
    if (at && !read_login(text, (size_t)(at - text), u))
        return complain(ret_why, TW_EMALFORMED, "before the @ belongs USER:PASSWORD, special characters as %41");
    text = at ? at + 1 : text;
    const char *end = *text == '[' ? strchr(text, ']') : text + strcspn(text, ":/");
    if (!end)
        return complain(ret_why, TW_EMALFORMED, "the bracket is not closed");
    const char *begin = *text == '[' ? text + 1 : text;
    size_t n = (size_t)(end - begin);
    if (n == 0 || n > TW_PROXY_HOST_MAX || strspn(begin, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%") < n)
        return complain(ret_why, TW_EMALFORMED, "it names no host");
    memcpy(u->host, begin, n);
    u->host[n] = 0;
    end += *end == ']';
    if (*end == ':' ? !read_port(end + 1, &u->port) : *end && strcmp(end, "/") != 0)
        return complain(ret_why, TW_EMALFORMED, "its port is none");
    return 0;
}

static bool same_text(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i] >= 'A' && a[i] <= 'Z' ? (char)(a[i] + 32) : a[i];
        char y = b[i] >= 'A' && b[i] <= 'Z' ? (char)(b[i] + 32) : b[i];
        if (x != y)
            return false;
    }
    return true;
}

/* 10.0.0.0/8 and the like. */
static bool in_network(const char *text, size_t n, const struct tw_addr *ip)
{
    char copy[64];
    struct tw_range net;
    if (n >= sizeof(copy))
        return false;
    memcpy(copy, text, n);
    copy[n] = 0;
    return tw_range_parse(copy, &net) == 0 && tw_range_has(&net, ip);
}

bool tw_proxy_is_exempt(const char *list, const char *host)
{
    struct tw_addr ip = { .family = TW_FAMILY_NONE };
    size_t len = strlen(host);
    if (tw_addr_parse(host, 0, &ip))
        ip.family = TW_FAMILY_NONE;
    for (const char *at = list; at && *at;) {
        size_t n;
        at += strspn(at, ", \t");
        n = strcspn(at, ", \t");
        const char *name = at + (n > 1 && *at == '.'); /* ".example.org" is its subdomains, and itself */
        size_t name_n = n - (size_t)(name - at);
        if ((n == 1 && *at == '*') || in_network(at, n, &ip) ||
            (name_n && name_n <= len && same_text(host + len - name_n, name, name_n) &&
             (name_n == len || host[len - name_n - 1] == '.')))
            return true;
        at += n;
    }
    return false;
}

/* --- HTTP ------------------------------------------------------------------------------------------- */

static enum tw_proxy_step fail(struct tw_proxy *p, const char *why)
{
    snprintf(p->why, sizeof(p->why), "%s", why);
    return TW_PROXY_FAILED;
}

static void ask_http(struct tw_proxy *p)
{
    p->out_n = (size_t)snprintf((char *)p->out, sizeof(p->out), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", p->target,
                                p->target, p->auth);
    p->state = ASKED;
}

static void use_basic(struct tw_proxy *p)
{
    char both[sizeof(p->url.user) + sizeof(p->url.password)], text[400];
    int n = snprintf(both, sizeof(both), "%s:%s", p->url.user, p->url.password);
    sodium_bin2base64(text, sizeof(text), (const uint8_t *)both, (size_t)n, sodium_base64_VARIANT_ORIGINAL);
    snprintf(p->auth, sizeof(p->auth), "Proxy-Authorization: Basic %s\r\n", text);
    sodium_memzero(both, sizeof(both));
}

/* The value of name="..." or name=... in a challenge. */
static bool parameter(struct tw_bytes in, const char *name, char *out, size_t cap)
{
    const char *at = (const char *)in.p, *end = at + in.n;
    size_t len = strlen(name);
    out[0] = 0;
    while (at < end) {
        while (at < end && (*at == ' ' || *at == ',' || *at == '\t'))
            at++;
        const char *key = at;
        while (at < end && *at != '=' && *at != ' ' && *at != ',')
            at++;
        size_t key_n = (size_t)(at - key), n = 0;
        if (at == end || *at != '=')
            continue; /* the scheme, or what is no parameter */
        at++;
        bool wanted = key_n == len && same_text(key, name, len), quoted = at < end && *at == '"';
        for (at += quoted; at < end && (quoted ? *at != '"' : *at != ',' && *at != ' '); at++) {
            if (quoted && *at == '\\' && at + 1 < end)
                at++;
            if (wanted && n + 1 < cap && *at >= ' ' && *at != '"')
                out[n++] = *at;
        }
        at += at < end;
        if (wanted) {
            out[n] = 0;
            return true;
        }
    }
    return false;
}

static void hash(bool sha256, const char *text, char out[HEX_MAX])
{
    uint8_t h[32];
    gnutls_hash_fast(sha256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_MD5, text, strlen(text), h);
    sodium_bin2hex(out, HEX_MAX, h, sha256 ? 32 : 16);
}

/* RFC 7616 §3.4. False: a kind that we do not know. */
static bool use_digest(struct tw_proxy *p, struct tw_bytes challenge)
{
    char realm[128], nonce[256], opaque[256], qop[64], algo[32], cnonce[17], text[900], ha1[HEX_MAX], ha2[HEX_MAX], got[HEX_MAX];
    uint8_t random[8];
    if (!parameter(challenge, "realm", realm, sizeof(realm)) || !parameter(challenge, "nonce", nonce, sizeof(nonce)))
        return false;
    bool sha256 = parameter(challenge, "algorithm", algo, sizeof(algo)) && !strcmp(algo, "SHA-256");
    if (algo[0] && !sha256 && strcmp(algo, "MD5") != 0)
        return false;
    bool has_qop = parameter(challenge, "qop", qop, sizeof(qop)), has_opaque = parameter(challenge, "opaque", opaque, sizeof(opaque));
    p->env.rng.fill(p->env.rng.ctx, random, sizeof(random));
    sodium_bin2hex(cnonce, sizeof(cnonce), random, sizeof(random));
    snprintf(text, sizeof(text), "%s:%s:%s", p->url.user, realm, p->url.password);
    hash(sha256, text, ha1);
    snprintf(text, sizeof(text), "CONNECT:%s", p->target);
    hash(sha256, text, ha2);
    if (has_qop)
        snprintf(text, sizeof(text), "%s:%s:00000001:%s:auth:%s", ha1, nonce, cnonce, ha2);
    else
        snprintf(text, sizeof(text), "%s:%s:%s", ha1, nonce, ha2);
    hash(sha256, text, got);
    snprintf(text, sizeof(text), ", qop=auth, nc=00000001, cnonce=\"%s\"", cnonce);
    int n = snprintf(p->auth, sizeof(p->auth),
                     "Proxy-Authorization: Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", response=\"%s\"%s%s%s%s%s%s\r\n",
                     p->url.user, realm, nonce, p->target, got, algo[0] ? ", algorithm=" : "", algo,
                     has_qop ? text : "", has_opaque ? ", opaque=\"" : "", opaque, has_opaque ? "\"" : "");
    sodium_memzero(ha1, sizeof(ha1));
    return n > 0 && (size_t)n < sizeof(p->auth);
}

static bool begins(struct tw_bytes value, const char *scheme)
{
    size_t n = strlen(scheme);
    return value.n >= n && same_text((const char *)value.p, scheme, n) && (value.n == n || value.p[n] == ' ');
}

/* False: nothing more can be tried. */
static bool answer_challenge(struct tw_proxy *p, const struct tw_http *h)
{
    if (!p->url.user[0] || ++p->tries >= TRIES)
        return false;
    for (size_t i = 0; i < h->n; i++) {
        struct tw_bytes name = h->field[i].name, value = h->field[i].value;
        if (name.n != 18 || !same_text((const char *)name.p, "proxy-authenticate", 18))
            continue;
        char stale[8];
        if (begins(value, "digest") && (!p->digest || (parameter(value, "stale", stale, sizeof(stale)) && same_text(stale, "true", 5))) &&
            use_digest(p, tw_bytes(value.p + 6, value.n - 6)))
            return p->digest = true;
    }
    return false; /* Basic was what we began with */
}

static enum tw_proxy_step refused(struct tw_proxy *p, struct tw_bytes status)
{
    static const struct {
        const char *status, *why;
    } known[] = {
        { "403", "the proxy does not allow connections there; many allow only port 443" },
        { "405", "the proxy knows no CONNECT" },
        { "502", "the proxy does not get through to the server" },
        { "503", "the proxy does not get through to the server" },
        { "504", "the proxy got no answer from the server" },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (tw_bytes_eq(status, tw_bytes_str(known[i].status)))
            return fail(p, known[i].why);
    snprintf(p->why, sizeof(p->why), "the proxy refused: HTTP %.3s", (const char *)status.p);
    return TW_PROXY_FAILED;
}

/* The body of an answer is not looked at; behind it the question is asked again. */
static enum tw_proxy_step skip_body(struct tw_proxy *p, size_t *ret_left)
{
    size_t n = p->in_n < p->body ? p->in_n : p->body;
    p->body -= n;
    p->in_n -= n;
    memmove(p->in, p->in + n, p->in_n);
    *ret_left = 0;
    if (p->body == 0)
        ask_http(p);
    return TW_PROXY_MORE;
}

static enum tw_proxy_step read_answer(struct tw_proxy *p, size_t *ret_left)
{
    struct tw_http h;
    size_t used;
    uint64_t body;
    int err = tw_http_parse(tw_bytes(p->in, p->in_n), false, &h, &used);
    if (err == TW_ESHORT)
        return p->in_n < HEAD_MAX ? TW_PROXY_MORE : fail(p, "the proxy's answer is too long");
    if (err)
        return fail(p, "what answered is no HTTP proxy");
    if (h.status.p[0] == '2') {
        *ret_left = p->in_n - used;
        return TW_PROXY_DONE;
    }
    if (!tw_bytes_eq(h.status, tw_bytes_str("407")))
        return refused(p, h.status);
    if (!answer_challenge(p, &h))
        return fail(p, p->url.user[0] ? "the proxy does not accept that user name and password"
                                      : "the proxy wants a user name and password (http://USER:PASSWORD@HOST:PORT)");
    bool sized = tw_http_number(tw_http_get(&h, "content-length"), BODY_MAX, &body);
    p->body = sized ? (size_t)body : 0;
    if (!sized || tw_http_has(&h, "connection", "close") || tw_http_has(&h, "proxy-connection", "close"))
        return TW_PROXY_AGAIN;
    p->in_n -= used;
    memmove(p->in, p->in + used, p->in_n);
    p->state = BODY;
    return skip_body(p, ret_left);
}

/* --- SOCKS5 ------------------------------------------------------------------------------------------- */

enum { SOCKS = 5, NO_LOGIN = 0, BY_PASSWORD = 2, CONNECT = 1, IS_V4 = 1, IS_NAME = 3, IS_V6 = 4 };

static void greet_socks(struct tw_proxy *p)
{
    bool login = p->url.user[0];
    const uint8_t hello[] = { SOCKS, login ? 2 : 1, NO_LOGIN, BY_PASSWORD };
    p->out_n = login ? 4 : 3;
    memcpy(p->out, hello, p->out_n);
    p->state = GREETED;
}

static void log_in(struct tw_proxy *p)
{
    struct tw_wr w = tw_wr(p->out, sizeof(p->out));
    tw_wr_u8(&w, 1);
    tw_wr_u8(&w, (uint8_t)strlen(p->url.user));
    tw_wr_bytes(&w, tw_bytes_str(p->url.user));
    tw_wr_u8(&w, (uint8_t)strlen(p->url.password));
    tw_wr_bytes(&w, tw_bytes_str(p->url.password));
    p->out_n = w.n;
    p->state = LOGIN;
}

static void ask_socks(struct tw_proxy *p)
{
    struct tw_wr w = tw_wr(p->out, sizeof(p->out));
    struct tw_addr ip;
    tw_wr_u8(&w, SOCKS);
    tw_wr_u8(&w, CONNECT);
    tw_wr_u8(&w, 0);
    if (tw_addr_parse(p->host, 0, &ip)) {
        tw_wr_u8(&w, IS_NAME);
        tw_wr_u8(&w, (uint8_t)strlen(p->host));
        tw_wr_bytes(&w, tw_bytes_str(p->host));
    } else {
        tw_wr_u8(&w, ip.family == TW_FAMILY_V4 ? IS_V4 : IS_V6);
        tw_wr_bytes(&w, tw_bytes(ip.ip, ip.family == TW_FAMILY_V4 ? 4 : 16));
    }
    tw_wr_u16(&w, p->port);
    p->out_n = w.n;
    p->state = SOCKS_ASKED;
}

static void take(struct tw_proxy *p, size_t n)
{
    p->in_n -= n;
    memmove(p->in, p->in + n, p->in_n);
}

static enum tw_proxy_step read_socks_answer(struct tw_proxy *p, size_t *ret_left)
{
    static const char *const codes[] = {
        "", "the proxy failed", "the proxy does not allow connections there", "the proxy does not reach that network",
        "the proxy does not reach that host", "the server refused the proxy's connection", "the proxy got no answer from the server",
    };
    if (p->in_n < 5)
        return TW_PROXY_MORE;
    size_t addr = p->in[3] == IS_V4 ? 4 : p->in[3] == IS_V6 ? 16 : (size_t)p->in[4] + 1, all = 4 + addr + 2;
    if (p->in[1])
        return fail(p, p->in[1] < sizeof(codes) / sizeof(codes[0]) ? codes[p->in[1]] : "the proxy refused");
    if (p->in_n < all)
        return TW_PROXY_MORE;
    *ret_left = p->in_n - all;
    return TW_PROXY_DONE;
}

static enum tw_proxy_step read_socks(struct tw_proxy *p, size_t *ret_left)
{
    if (p->in_n < 2)
        return TW_PROXY_MORE;
    if (p->in[0] != (p->state == LOGIN ? 1 : SOCKS))
        return fail(p, "what answered is no SOCKS5 proxy");
    if (p->state == SOCKS_ASKED)
        return read_socks_answer(p, ret_left);
    uint8_t said = p->in[1];
    bool login = p->state == LOGIN;
    take(p, 2);
    if (login && said)
        return fail(p, "the proxy does not accept that user name and password");
    if (login || said == NO_LOGIN) {
        ask_socks(p);
    } else if (said == BY_PASSWORD && p->url.user[0]) {
        log_in(p);
    } else {
        return fail(p, p->url.user[0] ? "the proxy knows no way to log in that we know"
                                      : "the proxy wants a user name and password (socks5://USER:PASSWORD@HOST:PORT)");
    }
    return TW_PROXY_MORE;
}

/* --- the machine ------------------------------------------------------------------------------------ */

int tw_proxy_new(const struct tw_proxy_url *url, const char *host, uint16_t port, const struct tw_env *env,
                 struct tw_proxy **ret)
{
    struct tw_proxy *p = calloc(1, sizeof(*p));
    if (!p)
        return TW_ENOMEM;
    p->url = *url;
    p->env = *env;
    p->port = port;
    snprintf(p->host, sizeof(p->host), "%s", host);
    snprintf(p->target, sizeof(p->target), strchr(p->host, ':') ? "[%s]:%u" : "%s:%u", p->host, port);
    if (url->kind == TW_PROXY_HTTP && url->user[0])
        use_basic(p); /* saves a round trip where it is what the proxy wants */
    tw_proxy_restart(p);
    *ret = p;
    return 0;
}

void tw_proxy_free(struct tw_proxy *p)
{
    if (!p)
        return;
    sodium_memzero(p, sizeof(*p));
    free(p);
}

void tw_proxy_restart(struct tw_proxy *p)
{
    p->in_n = p->body = 0;
    if (p->url.kind == TW_PROXY_SOCKS5)
        greet_socks(p);
    else
        ask_http(p);
}

struct tw_bytes tw_proxy_out(struct tw_proxy *p)
{
    size_t n = p->out_n;
    p->out_n = 0;
    return tw_bytes(p->out, n);
}

static enum tw_proxy_step step(struct tw_proxy *p, size_t *ret_left)
{
    switch (p->state) {
    case ASKED:
        return read_answer(p, ret_left);
    case BODY:
        return skip_body(p, ret_left);
    default:
        return read_socks(p, ret_left);
    }
}

enum tw_proxy_step tw_proxy_recv(struct tw_proxy *p, struct tw_bytes in, size_t *ret_used)
{
    size_t left = 0, take_n = in.n < HEAD_MAX - p->in_n ? in.n : HEAD_MAX - p->in_n;
    if (take_n)
        memcpy(p->in + p->in_n, in.p, take_n);
    p->in_n += take_n;
    enum tw_proxy_step s = step(p, &left);
    *ret_used = take_n > left ? take_n - left : 0;
    return s;
}

const char *tw_proxy_why(const struct tw_proxy *p)
{
    return p->why;
}
