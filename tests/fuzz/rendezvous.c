/* Everything that a rendezvous, or somebody who reaches one, may send: HTTP, WebSocket, messages to the server and
 * to its user, offers and words, probes, packets of QUIC. The first byte says which. */
#include "fuzz.h"

#include <sodium.h>
#include <stdlib.h>

#include <thalweg/endpoint.h>

#include "ident/ident.h"
#include "path/mtu.h"
#include "rendezvous/client.h"
#include "rendezvous/offer.h"
#include "rendezvous/server.h"
#include "secure/secure.h"
#include "tunnel/forwarded.h"
#include "tunnel/front.h"
#include "tunnel/http.h"
#include "tunnel/poll.h"
#include "tunnel/proxy.h"
#include "tunnel/ws.h"

static void fill(void *ctx, void *out, size_t n)
{
    (void)ctx;
    memset(out, 7, n);
}
static const struct tw_env env = { .rng = { fill, NULL } };
static struct tw_ident self, other;

static void fuzz_text(struct tw_bytes in)
{
    static char text[600];
    struct tw_address a, b;
    struct tw_http h;
    size_t n, used;
    (void)!tw_http_parse(in, true, &h, &used);
    (void)!tw_http_parse(in, false, &h, &used);
    n = in.n < sizeof(text) - 1 ? in.n : sizeof(text) - 1;
    memcpy(text, in.p, n);
    text[n] = 0;
    if (!tw_address_parse(text, &a, NULL)) {
        if (tw_address_format(&a, text, sizeof(text)) || tw_address_parse(text, &b, NULL) ||
            !tw_key_eq(&a.key, &b.key) || a.server_n != b.server_n ||
            (a.server_n && !tw_rdv_addr_eq(&a.servers[a.server_n - 1], &b.servers[a.server_n - 1])))
            abort();
    }
}

/* A server, one user of which is well-behaved; the other sends messages, each with 16 bits of length before. */
static void fuzz_desk(struct tw_bytes in)
{
    static const char upgrade[] =
        "GET /thalweg HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: thalweg-rendezvous.1\r\n\r\n";
    const struct tw_desk_config cfg = { .open = true, .max_clients = 10, .patch_rate = 1000 };
    struct tw_rdv_config user = { .self = &self, .listen = true };
    struct tw_addr from = { .family = TW_FAMILY_V4 };
    struct tw_desk *d;
    struct tw_rdv *r = NULL;
    struct tw_rdv_event ev;
    uint32_t conn;
    struct tw_bytes out;
    bool end;
    if (tw_desk_new(&cfg, &env, &d))
        return;
    (void)!tw_rdv_addr_parse("x", &user.server, NULL);
    (void)!tw_desk_connected(d, 0, 1, &from);
    (void)!tw_desk_connected(d, 0, 2, &from);
    (void)!tw_rdv_new(&user, &env, 0, &r);
    tw_desk_recv(d, 0, 1, tw_bytes_str(upgrade));
    for (int i = 0; i < 4 && r; i++) {
        out = tw_rdv_out(r);
        tw_desk_recv(d, 0, 2, out);
        while (tw_desk_poll_tx(d, &conn, &out, &end))
            if (conn == 2)
                tw_rdv_recv(r, 0, out);
        while (tw_rdv_poll_event(r, &ev)) {
        }
    }
    /* Raw bytes, as frames or not, from the one; the same to the user. */
    tw_desk_recv(d, TW_SEC, 1, in);
    tw_desk_tick(d, 100 * TW_SEC);
    while (tw_desk_poll_tx(d, &conn, &out, &end)) {
    }
    if (r) {
        tw_rdv_recv(r, TW_SEC, in);
        while (tw_rdv_poll_event(r, &ev)) {
        }
        tw_rdv_tick(r, 100 * TW_SEC);
    }
    tw_rdv_free(r);
    tw_desk_free(d);
}

static void fuzz_words(struct tw_bytes in)
{
    static uint8_t sealed[TW_OFFER_MAX + TW_BOX_OVERHEAD], buf[TW_OFFER_MAX], offer[TW_OFFER_SEALED_MAX];
    static struct tw_word w;
    struct tw_rdv_hello hello;
    struct tw_box to, from;
    uint8_t secret[32] = { 1 };
    (void)!tw_rdv_hello_decode(in, &hello);
    (void)!tw_offer_open(in, &self, NULL, 0, buf, &w);
    if (in.n > TW_OFFER_MAX)
        return;
    tw_box_init(&to, secret, "x");
    tw_box_init(&from, secret, "x");
    tw_box_seal(&to, in, sealed);
    (void)!tw_word_open(tw_bytes(sealed, in.n + TW_BOX_OVERHEAD), &from, buf, &w);
    if (in.n <= TW_OFFER_MAX - TW_SIG_SIZE) { /* one that is really signed */
        static uint8_t plain[TW_OFFER_MAX];
        const struct tw_bytes parts[] = { tw_bytes(self.key.b, TW_KEY_SIZE), in };
        memcpy(plain + TW_SIG_SIZE, in.p, in.n);
        if (!tw_ident_sign(&other, TW_FOR_OFFER, parts, 2, plain) &&
            !tw_seal(&self.key, NULL, &env.rng, tw_bytes(plain, in.n + TW_SIG_SIZE), offer))
            (void)!tw_offer_open(tw_bytes(offer, in.n + TW_SIG_SIZE + TW_SEAL_OVERHEAD), &self, NULL, 0, buf, &w);
    }
}

static void fuzz_packets(struct tw_bytes in)
{
    static uint8_t tx[TW_SECURE_BATCH];
    struct tw_secure_config cfg = { .server = true, .self = &self, .peer = other.key, .tx_buf = tx };
    struct tw_datagram d = { .iov = &in, .iov_n = 1 }, out;
    struct tw_secure_event ev;
    struct tw_secure *s;
    struct tw_mtu m;
    uint8_t reply[TW_MTU_HEADER], token[8] = { 0 };
    size_t n;
    tw_mtu_reset(&m, 0, true, token);
    (void)!tw_mtu_recv(&m, 0, in, reply, &n);
    if (m.now > TW_MTU_MAX)
        abort();
    if (tw_secure_new(&cfg, &env, TW_SEC, &s))
        return;
    tw_secure_recv(s, TW_SEC, &d);
    while (tw_secure_poll_tx(s, &out))
        abort(); /* nobody without the secret gets a byte */
    while (tw_secure_poll_event(s, &ev)) {
    }
    tw_secure_free(s);
}

/* A proxy's answers, whole or byte by byte; what a reverse proxy says; who comes to a port of the web. */
static void fuzz_proxies(struct tw_bytes in)
{
    static const char *const urls[] = { "http://me:pw@p", "socks5://me:pw@p", "http://p", "socks5://p" };
    static char text[600];
    struct tw_proxy_url u;
    struct tw_addr a;
    size_t used, n = in.n < sizeof(text) - 1 ? in.n : sizeof(text) - 1;
    (void)tw_front_look(in);
    (void)!tw_forwarded_proxy(in, &a, &used);
    (void)tw_forwarded_http(in, &a);
    memcpy(text, in.p, n);
    text[n] = 0;
    (void)!tw_proxy_parse(text, &u, NULL);
    (void)tw_proxy_is_exempt(text, "10.1.2.3");
    struct tw_poll_request r;
    if (!tw_poll_parse(in, &r, &used) && (used > in.n || r.body.n > TW_POLL_BODY))
        abort();
    struct tw_poll *poll;
    for (unsigned conn = 0; conn < TW_POLL_CONNS && !tw_poll_new("host", &env, &poll); conn++) {
        (void)tw_poll_send(poll, tw_bytes("x", 1));
        (void)tw_poll_out(poll, TW_POLL_BRINGS);
        (void)!tw_poll_recv(poll, TW_POLL_BRINGS, tw_bytes_str("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), &used);
        (void)tw_poll_send(poll, tw_bytes("y", 1));
        (void)tw_poll_out(poll, conn);
        if (!tw_poll_recv(poll, conn, in, &used) && used > in.n)
            abort();
        tw_poll_took(poll, tw_poll_came(poll).n);
        tw_poll_free(poll);
    }
    for (int i = 0; i < 8; i++) {
        struct tw_proxy *p;
        if (tw_proxy_parse(urls[i % 4], &u, NULL) || tw_proxy_new(&u, "host", 443, &env, &p))
            return;
        enum tw_proxy_step step = TW_PROXY_MORE;
        for (struct tw_bytes rest = in; rest.n && (step == TW_PROXY_MORE || step == TW_PROXY_AGAIN);) {
            size_t piece = i < 4 ? rest.n : 1;
            step = tw_proxy_recv(p, tw_bytes(rest.p, piece), &used);
            if (used > piece)
                abort();
            (void)tw_proxy_out(p);
            if (step == TW_PROXY_AGAIN)
                tw_proxy_restart(p);
            rest = tw_bytes(rest.p + piece, rest.n - piece);
        }
        tw_proxy_free(p);
    }
}

/* What comes by multicast, and what a person brings: as text, and as an offer that somebody who may has sealed. */
static void fuzz_tickets(struct tw_bytes in)
{
    enum { BASE64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING, HEAD = 2 };
    static char text[2 * TW_OFFER_SEALED_MAX] = "thalweg-offer-";
    static uint8_t plain[TW_OFFER_MAX], raw[HEAD + TW_OFFER_SEALED_MAX] = { 1, 1 };
    const uint8_t seed[TW_SEED_SIZE] = { 1 };
    const struct tw_endpoint_config cfg = { .seed = seed, .listen = true, .allow_any = true, .max_conns = 4 };
    const struct tw_bytes parts[] = { tw_bytes(self.key.b, TW_KEY_SIZE), tw_bytes(plain + TW_SIG_SIZE, in.n) };
    struct tw_endpoint_event ev;
    struct tw_endpoint *e;
    struct tw_key names[TW_LAN_NAMES];
    uint16_t port;
    uint32_t conn;
    const char *why;
    (void)!tw_lan_read_question(in, names);
    (void)!tw_lan_read_answer(in, names, &port);
    if (in.n > TW_OFFER_MAX - TW_SIG_SIZE || tw_endpoint_new(&cfg, &env, TW_SEC, &e))
        return;
    tw_endpoint_clock(e, TW_SEC, 1000);
    memcpy(plain, in.p, in.n);
    plain[in.n] = 0;
    (void)!tw_endpoint_ticket(e, TW_SEC, (const char *)plain, &conn, &why);
    memcpy(plain + TW_SIG_SIZE, in.p, in.n);
    if (in.n >= 4 + TW_KEY_SIZE) /* behind the kind and a part's head: the caller */
        memcpy(plain + TW_SIG_SIZE + 4, other.key.b, TW_KEY_SIZE);
    if (!tw_ident_sign(&other, TW_FOR_OFFER, parts, 2, plain) &&
        !tw_seal(&self.key, NULL, &env.rng, tw_bytes(plain, in.n + TW_SIG_SIZE), raw + HEAD)) {
        sodium_bin2base64(text + 14, sizeof(text) - 14, raw, HEAD + in.n + TW_SIG_SIZE + TW_SEAL_OVERHEAD, BASE64);
        (void)!tw_endpoint_ticket(e, TW_SEC, text, &conn, &why);
        tw_endpoint_tick(e, 10 * TW_SEC);
        while (tw_endpoint_poll_event(e, &ev)) {
        }
    }
    tw_endpoint_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint8_t seed[TW_SEED_SIZE] = { 1 }, seed2[TW_SEED_SIZE] = { 2 };
    if (n == 0 || tw_ident_init(&self, seed) || tw_ident_init(&other, seed2))
        return 0;
    struct tw_bytes in = tw_bytes(p + 1, n - 1);
    switch (p[0] % 6) {
    case 0:
        fuzz_text(in);
        break;
    case 1:
        fuzz_desk(in);
        break;
    case 2:
        fuzz_words(in);
        break;
    case 3:
        fuzz_packets(in);
        break;
    case 4:
        fuzz_tickets(in);
        break;
    default:
        fuzz_proxies(in);
    }
    return 0;
}
