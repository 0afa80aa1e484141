#include "ice/tape.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "ice/internal.h"
#include "stun/fingerprint.h"
#include "stun/integrity.h"

enum { MASKED = 256, LINE = 140000, MAX_BYTES = 65536, DEPTH = 3 };

struct tape {
    struct tw_ice_tape to;
    struct tw_rng rng;
    struct tw_range nat64;        /* the real prefix; the well-known one stands for it */
    struct tw_addr known[MASKED]; /* addresses in the order in which they came up */
    unsigned known_n;
    bool drained;                 /* that was the last line */
    char line[LINE];
    size_t n;
    char realm[TW_STUN_MAX_TEXT + 1]; /* the last one that a server named */
    struct former {               /* what servers wanted before they were renewed: allocations of then go on with it */
        char username[TW_STUN_MAX_NAME + 1], password[TW_STUN_MAX_NAME + 1];
    } former[TW_ICE_SERVERS_MAX];
    uint8_t bytes[MAX_BYTES];
};

/* --- addresses ------------------------------------------------------------------------------------ */

static unsigned number_of(struct tape *t, const struct tw_addr *a)
{
    struct tw_addr ip = tw_addr_ip_only(a);
    ip.scope = 0;
    for (unsigned i = 0; i < t->known_n; i++)
        if (tw_addr_eq(&t->known[i], &ip))
            return i + 1;
    if (t->known_n == MASKED)
        return MASKED;
    t->known[t->known_n++] = ip;
    return t->known_n;
}

/* RFC 6052 §2.1. */
static const struct tw_range known_prefix = { .first = { .family = TW_FAMILY_V6, .port = 96,
                                                         .ip = { 0, 0x64, 0xff, 0x9b } } };

/* Another of the same kind: what the agent makes of it stays the same. */
static struct tw_addr mask(struct tape *t, const struct tw_addr *a)
{
    struct tw_addr m = *a;
    if (tw_nat64_extract(&t->nat64, a, &m)) {
        m = mask(t, &m);
        return tw_nat64_embed(&known_prefix, &m);
    }
    if (t->to.addresses || !a->family || tw_addr_is_any(a) || tw_addr_is_loopback(a))
        return m;
    unsigned k = number_of(t, a);
    if (a->family == TW_FAMILY_V4) {
        m.ip[2] = (uint8_t)(k >> 8);
        m.ip[3] = (uint8_t)k;
        if (tw_addr_is_link_local(a))
            return m;
        m.ip[0] = ice_is_private(a) ? 10 : 198;
        m.ip[1] = ice_is_private(a) ? 0 : 18;
        return m;
    }
    memset(m.ip + 2, 0, 12);
    m.ip[14] = (uint8_t)(k >> 8);
    m.ip[15] = (uint8_t)k;
    if (!ice_is_private(a)) {
        m.ip[0] = 0x20;
        m.ip[1] = 0x01;
        m.ip[2] = 0x0d;
        m.ip[3] = 0xb8;
    }
    return m;
}

/* --- lines ---------------------------------------------------------------------------------------- */

static void put(struct tape *t, const char *text)
{
    size_t n = strlen(text);
    if (n < LINE - t->n) {
        memcpy(t->line + t->n, text, n + 1);
        t->n += n;
    }
}

static void put_addr(struct tape *t, const struct tw_addr *a)
{
    static const struct tw_addr none = { .family = TW_FAMILY_NONE };
    char text[TW_ADDR_STRLEN + 16];
    struct tw_addr m = mask(t, a ? a : &none);
    tw_addr_format(&m, text);
    put(t, text);
    if (a && a->scope) {
        snprintf(text, sizeof(text), "%%%u", a->scope);
        put(t, text);
    }
}

static void put_hex(struct tape *t, struct tw_bytes b)
{
    static const char digits[] = "0123456789abcdef";
    if (2 * b.n >= LINE - t->n)
        return;
    for (size_t i = 0; i < b.n; i++) {
        t->line[t->n++] = digits[b.p[i] >> 4];
        t->line[t->n++] = digits[b.p[i] & 15];
    }
    t->line[t->n] = 0;
}

static void end_line(struct tape *t)
{
    t->to.write(t->to.ctx, t->line);
    t->n = 0;
    t->drained = false;
}

static void put_args(struct tape *t, const char *fmt, va_list args)
{
    char text[32];
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            char one[2] = { *fmt, 0 };
            put(t, one);
            continue;
        }
        switch (*++fmt) {
        case 'A':
            put_addr(t, va_arg(args, const struct tw_addr *));
            break;
        case 'X':
            put_hex(t, *va_arg(args, const struct tw_bytes *));
            break;
        case 's':
            put(t, va_arg(args, const char *));
            break;
        case 'd':
            snprintf(text, sizeof(text), "%d", va_arg(args, int));
            put(t, text);
            break;
        default: /* u */
            snprintf(text, sizeof(text), "%u", va_arg(args, unsigned));
            put(t, text);
            break;
        }
    }
}

static void begin_line(struct tape *t, tw_time now)
{
    char text[32];
    t->n = 0;
    snprintf(text, sizeof(text), "%lld ", (long long)now);
    put(t, text);
}

void ice_tape(struct tape *t, tw_time now, const char *fmt, ...)
{
    va_list args;
    if (!t)
        return;
    begin_line(t, now);
    va_start(args, fmt);
    put_args(t, fmt, args);
    va_end(args);
    end_line(t);
}

void ice_tape_sent(struct tape *t, tw_time now, const struct tw_datagram *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->iov_n && t; i++)
        n += d->iov[i].n;
    ice_tape(t, now, "sent %u %A %u", d->sock, &d->dst, (unsigned)n);
}

void ice_tape_drained(struct tape *t, tw_time now)
{
    if (!t || t->drained)
        return;
    ice_tape(t, now, "drained");
    t->drained = true;
}

void ice_tape_nat64(struct tape *t, tw_time now, const struct tw_range *prefix)
{
    struct tw_range shown = { 0 };
    if (!t)
        return;
    t->nat64 = shown; /* the prefix itself is not to be taken for an address in it */
    if (prefix)
        shown = t->to.addresses ? *prefix : known_prefix;
    struct tw_addr ip = tw_addr_ip_only(&shown.first);
    char text[TW_ADDR_STRLEN];
    ice_tape(t, now, "nat64 %s %u", tw_addr_format(&ip, text), (unsigned)shown.first.port);
    if (prefix && !t->to.addresses)
        t->nat64 = *prefix;
}

void ice_tape_interfaces(struct tape *t, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    for (size_t i = 0; i < n && t; i++)
        ice_tape(t, now, "interface %s %A %A %u %u", list[i].name, &list[i].ip, &list[i].gateway,
                 (unsigned)list[i].temporary, (unsigned)list[i].cost);
    ice_tape(t, now, "interfaces");
}

void ice_tape_candidate(struct tape *t, tw_time now, const struct tw_ice_candidate *c)
{
    char line[TW_ICE_LINE_MAX];
    if (!t)
        return;
    struct tw_ice_candidate m = *c;
    m.addr = mask(t, &c->addr);
    m.related = mask(t, &c->related);
    m.extensions[0] = 0; /* nothing of them counts, and who knows what they say */
    if (!tw_ice_write_candidate(&m, line, sizeof(line)))
        ice_tape(t, now, "candidate %u %s", (unsigned)c->stream, line);
}

/* --- messages ------------------------------------------------------------------------------------- */

/* What stands in the tape for the password of a TURN server. */
static const char *const no_password = "password";

/* And for the name: as long, so that requests are. */
static const char *no_name(const char *name, char buf[TW_STUN_MAX_NAME + 1])
{
    size_t n = strlen(name) < TW_STUN_MAX_NAME ? strlen(name) : TW_STUN_MAX_NAME;
    memset(buf, 'x', n);
    buf[n] = 0;
    return buf;
}

void ice_tape_server(struct tape *t, tw_time now, const struct tw_ice_server *v)
{
    char name[TW_STUN_MAX_NAME + 1];
    ice_tape(t, now, "server %A %u %u %s %s %s %s", &v->addr, (unsigned)v->transport, (unsigned)v->turn,
             v->username ? no_name(v->username, name) : "-", v->password ? no_password : "-",
             v->realm ? v->realm : "-", v->nonce ? v->nonce : "-");
}

/* And for that of listeners. */
static const char *const no_token = "000000000000000000000000";

void ice_tape_renewed(struct tape *t, unsigned number, const struct tw_ice_server *before)
{
    if (!t || !before->username)
        return;
    snprintf(t->former[number].username, sizeof(t->former[number].username), "%s", before->username);
    snprintf(t->former[number].password, sizeof(t->former[number].password), "%s", before->password ? before->password : "");
}

struct keys {
    struct tw_stun_key real, masked;
};

/* Whether it was signed with these credentials; then their key, and that of what stands for them. */
static bool is_signed_by(const char *username, const char *password, struct tw_bytes realm, const struct tw_stun_msg *m, bool sha256,
                         struct keys *ret)
{
    char name[TW_STUN_MAX_NAME + 1];
    for (int algo = TW_STUN_ALGO_MD5; algo <= TW_STUN_ALGO_SHA256; algo++) {
        if (tw_stun_long_term_key((enum tw_stun_algorithm)algo, tw_bytes_str(username), realm, tw_bytes_str(password), &ret->real) ||
            tw_stun_long_term_key((enum tw_stun_algorithm)algo, tw_bytes_str(no_name(username, name)), realm,
                                  tw_bytes_str(no_password), &ret->masked))
            continue;
        struct tw_bytes k = tw_bytes(ret->real.k, ret->real.n);
        if (sha256 ? tw_stun_verify_sha256(m, k) : tw_stun_verify(m, k))
            return true;
    }
    return false;
}

/* The key of the credentials with which this was signed. False: with none that we know. */
static bool find_key(const struct tw_ice *a, const struct tape *t, const struct tw_stun_msg *m,
                     bool sha256, struct keys *ret)
{
    for (unsigned s = 0; s < a->server_n; s++) {
        const struct tw_ice_server *v = &a->servers[s];
        const struct former *f = &t->former[s];
        struct tw_bytes r = tw_bytes_str(t->realm[0] || !v->realm ? t->realm : v->realm);
        if (v->turn && ((v->username && is_signed_by(v->username, v->password, r, m, sha256, ret)) ||
                        (f->username[0] && is_signed_by(f->username, f->password, r, m, sha256, ret))))
            return true;
    }
    return false;
}

/* Both kinds of integrity over what the message says now. */
static void sign(const struct tw_stun_msg *m, uint8_t *p, enum tw_stun_attr what, struct tw_bytes key)
{
    bool sha256 = what == TW_STUN_A_MESSAGE_INTEGRITY_SHA256;
    uint8_t mac[TW_STUN_MI_SHA256];
    size_t off = m->at[what].off, len = m->at[what].len;
    if (off && !tw_stun_hmac(sha256 ? TW_STUN_HMAC_SHA256 : TW_STUN_HMAC_SHA1, key,
                             tw_bytes(p, off - 4), (uint16_t)(off + len - TW_STUN_HEADER), mac))
        memcpy(p + off, mac, len);
}

static void mask_addresses(struct tape *t, const struct tw_stun_msg *m, uint8_t *p)
{
    static const struct {
        enum tw_stun_attr a;
        bool xored;
    } all[] = {
        { TW_STUN_A_MAPPED_ADDRESS, false }, { TW_STUN_A_XOR_MAPPED_ADDRESS, true },
        { TW_STUN_A_XOR_PEER_ADDRESS, true }, { TW_STUN_A_XOR_RELAYED_ADDRESS, true },
        { TW_STUN_A_RESPONSE_ORIGIN, false }, { TW_STUN_A_OTHER_ADDRESS, false },
        { TW_STUN_A_ALTERNATE_SERVER, false },
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct tw_bytes v;
        struct tw_addr addr;
        size_t pos = 0;
        while (tw_stun_next(m, all[i].a, &pos, &v)) {
            uint8_t *at = p + (v.p - m->raw.p);
            if (!tw_stun_read_addr(v, all[i].xored, m->tid, &addr))
                continue;
            addr = mask(t, &addr);
            for (size_t k = 0; k < tw_addr_ip_len(&addr); k++) /* cookie and transaction id: bytes 4 to 19 */
                at[4 + k] = (uint8_t)(addr.ip[k] ^ (all[i].xored ? m->raw.p[4 + k] : 0));
        }
    }
}

static void mask_piece(const struct tw_ice *a, struct tape *t, uint8_t *p, size_t n, int depth);

static void mask_stun(const struct tw_ice *a, struct tape *t, uint8_t *p, size_t n, int depth)
{
    struct tw_stun_msg m;
    struct keys sha1, sha256;
    uint8_t *copy = malloc(n);
    if (!copy || (memcpy(copy, p, n), tw_stun_decode(tw_bytes(copy, n), &m))) {
        memset(p, 0, n); /* it would not be taken in either case */
        free(copy);
        return;
    }
    struct tw_bytes realm = tw_stun_get(&m, TW_STUN_A_REALM);
    if (realm.n && realm.n < sizeof(t->realm)) {
        memcpy(t->realm, realm.p, realm.n);
        t->realm[realm.n] = 0;
    }
    bool by_turn = find_key(a, t, &m, false, &sha1), by_turn256 = find_key(a, t, &m, true, &sha256);
    const struct creds *ice = NULL;
    for (unsigned s = 0; s < a->cfg.streams && !by_turn; s++) {
        const struct stream *st = &a->streams[s];
        const struct creds *all[] = { &st->local, &st->remote, &st->old_local, &st->old_remote };
        for (int i = 0; i < 4 && !ice; i++)
            if (all[i]->pwd && tw_stun_verify(&m, tw_bytes_str(all[i]->pwd)))
                ice = all[i];
    }
    struct tw_bytes data = tw_stun_get(&m, TW_STUN_A_DATA);
    mask_addresses(t, &m, p);
    if (data.n)
        mask_piece(a, t, p + (data.p - copy), data.n, depth + 1);
    if (ice)
        sign(&m, p, TW_STUN_A_MESSAGE_INTEGRITY, tw_bytes_str(ice->pwd));
    if (by_turn)
        sign(&m, p, TW_STUN_A_MESSAGE_INTEGRITY, tw_bytes(sha1.masked.k, sha1.masked.n));
    if (by_turn256)
        sign(&m, p, TW_STUN_A_MESSAGE_INTEGRITY_SHA256, tw_bytes(sha256.masked.k, sha256.masked.n));
    size_t print = m.at[TW_STUN_A_FINGERPRINT].off;
    if (print)
        tw_put_u32(p + print, tw_stun_fingerprint(tw_bytes(p, print - 4)));
    free(copy);
}

static void mask_piece(const struct tw_ice *a, struct tape *t, uint8_t *p, size_t n, int depth)
{
    if (n >= 4 && p[0] >> 6 == 1 && depth < DEPTH) { /* ChannelData */
        size_t len = tw_get_u16(p + 2);
        mask_piece(a, t, p + 4, len < n - 4 ? len : n - 4, depth + 1);
    } else if (n >= TW_STUN_HEADER && tw_stun_is(p, n) && depth < DEPTH) {
        mask_stun(a, t, p, n, depth);
    } else {
        memset(p, 0, n);
    }
}

/* An answer about a port mapping: the outside address is at its end (RFC 6886 §3.2, RFC 6887 §11.1). */
static void mask_mapping(struct tape *t, uint8_t *p, size_t n)
{
    enum { NATPMP_OUTSIDE = 12, PCP_MAP = 60 };
    struct tw_addr addr;
    if (n != NATPMP_OUTSIDE && n != PCP_MAP)
        return;
    addr = tw_addr_v4(p[n - 4], p[n - 3], p[n - 2], p[n - 1], 0); /* of IPv6: its end, which is its own anyway */
    addr = mask(t, &addr);
    memcpy(p + n - 4, addr.ip, 4);
}

/* Several datagrams of one length, or the frames of a connection. */
static void mask_all(const struct tw_ice *a, struct tape *t, uint8_t *p, size_t n, size_t segment)
{
    size_t step, off = 0;
    while (off < n) {
        if (segment)
            step = segment;
        else if (tw_stun_frame(p + off, n - off, &step) || step == 0)
            step = n - off;
        if (step > n - off)
            step = n - off;
        mask_piece(a, t, p + off, step, 0);
        off += step;
    }
}

void ice_tape_recv(const struct tw_ice *a, struct tape *t, tw_time now, const struct tw_datagram *in)
{
    size_t n = in->iov_n == 1 ? in->iov[0].n : 0;
    if (!t || n > MAX_BYTES)
        return;
    if (n)
        memcpy(t->bytes, in->iov[0].p, n);
    if (in->src.port == TW_PORTMAP_PORT)
        mask_mapping(t, t->bytes, n);
    else
        mask_all(a, t, t->bytes, n, in->segment);
    struct tw_bytes masked = tw_bytes(t->bytes, n);
    ice_tape(t, now, "recv %u %A %A %u %u %X", in->sock, &in->src, &in->dst, (unsigned)in->tos,
             (unsigned)in->segment, &masked);
}

/* --- life ----------------------------------------------------------------------------------------- */

static void draw(void *ctx, void *out, size_t n)
{
    struct tape *t = ctx;
    t->rng.fill(t->rng.ctx, out, n);
    t->n = 0;
    put(t, "random ");
    put_hex(t, tw_bytes(out, n));
    end_line(t);
}

int ice_tape_new(const struct tw_ice *a, const struct tw_ice_config *cfg, struct tw_rng *rng,
                 struct tape **ret_tape)
{
    struct tape *t = calloc(1, sizeof(*t));
    if (!t)
        return TW_ENOMEM;
    t->to = cfg->tape;
    t->rng = *rng;
    *rng = (struct tw_rng){ draw, t };
    t->to.write(t->to.ctx, "thalweg ice tape 1");
    for (unsigned s = 0; s < a->server_n; s++)
        ice_tape_server(t, 0, &a->servers[s]);
    ice_tape(t, 0, "web %u %u %u %s", cfg->vias, (unsigned)cfg->web_ports[0], (unsigned)cfg->web_ports[1], cfg->web ? no_token : "-");
    ice_tape(t, 0, "config %u %u %u %u %u %u %u %u %u %u %u %s %s", (unsigned)cfg->controlling,
             (unsigned)cfg->lite, (unsigned)cfg->own_peer, (unsigned)cfg->foreign, (unsigned)cfg->no_udp,
             (unsigned)cfg->tcp, (unsigned)cfg->no_probing, (unsigned)cfg->no_mapping,
             (unsigned)cfg->policy, a->cfg.streams, a->cfg.components, cfg->allow ? cfg->allow : "-",
             cfg->deny ? cfg->deny : "-");
    *ret_tape = t;
    return 0;
}

void ice_tape_free(struct tape *t)
{
    free(t);
}
