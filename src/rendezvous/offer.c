#include "rendezvous/offer.h"

#include <stdio.h>

#include "rendezvous/wire.h"

/* X(name, number): what a word is made of; unknown ones are skipped, each stands once but CANDIDATE. */
enum part {
    PART_CALLER = 1, PART_SECRET, PART_TIME, PART_NONCE, PART_UFRAG, PART_PWD, PART_CANDIDATE, PART_END,
    PART_EARLY, PART_INVITE, PART_PREKEY, PART_EXPIRES, PART_WEB,
    PART_AGAIN,
};

enum { OFFER_STEP = 1024, WORD_STEP = 128 }; /* sizes are rounded up to these */

/* --- writing -------------------------------------------------------------------------------------- */

static void part(struct tw_wr *w, enum part type, struct tw_bytes b)
{
    tw_wr_u8(w, (uint8_t)type);
    tw_wr_u16(w, (uint16_t)b.n);
    tw_wr_bytes(w, b);
}

static void text(struct tw_wr *w, enum part type, const char *s)
{
    if (*s)
        part(w, type, tw_bytes_str(s));
}

/* Transports of a candidate on the wire, besides ICE's own: TCP that begins as HTTP, or as TLS, only. */
enum { VIA_WEB = TW_ICE_TCP_SO };

static void candidate(struct tw_wr *w, const struct tw_ice_candidate *c)
{
    uint8_t buf[64];
    struct tw_wr b = tw_wr(buf, sizeof(buf));
    tw_wr_u8(&b, (uint8_t)(c->type << 4 | (c->via ? VIA_WEB + c->via : c->transport)));
    tw_wr_u32(&b, c->priority);
    tw_wr_addr(&b, &c->addr);
    tw_wr_bytes(&b, tw_bytes_str(c->foundation));
    if (!b.error)
        part(w, PART_CANDIDATE, tw_bytes(buf, b.n));
}

static void put_u64(struct tw_wr *w, enum part type, uint64_t n)
{
    uint8_t b[8];
    tw_put_u64(b, n);
    if (n)
        part(w, type, tw_bytes(b, sizeof(b)));
}

static int encode(const struct tw_word *o, struct tw_wr *w)
{
    tw_wr_u8(w, (uint8_t)o->kind);
    if (o->kind == TW_WORD_OFFER) {
        part(w, PART_CALLER, tw_bytes(o->caller.b, TW_KEY_SIZE));
        part(w, PART_SECRET, tw_bytes(o->secret, sizeof(o->secret)));
    }
    put_u64(w, PART_TIME, o->unix_ms);
    put_u64(w, PART_EXPIRES, o->expires_ms);
    put_u64(w, PART_AGAIN, o->again);
    if (o->has_nonce)
        part(w, PART_NONCE, tw_bytes(o->nonce, sizeof(o->nonce)));
    text(w, PART_UFRAG, o->ufrag);
    text(w, PART_PWD, o->pwd);
    for (size_t i = 0; i < o->candidate_n; i++)
        if (o->candidate[i].web[0]) { /* all have the same */
            text(w, PART_WEB, o->candidate[i].web);
            break;
        }
    for (size_t i = 0; i < o->candidate_n; i++)
        candidate(w, &o->candidate[i]);
    if (o->end)
        part(w, PART_END, tw_bytes(NULL, 0));
    if (o->early.n)
        part(w, PART_EARLY, o->early);
    if (o->invite.n)
        part(w, PART_INVITE, o->invite);
    if (o->has_prekey)
        part(w, PART_PREKEY, tw_bytes(o->prekey, sizeof(o->prekey)));
    return w->error;
}

/* A zero length of type 0 and then nothing: padding. */
static void pad(struct tw_wr *w, size_t step)
{
    size_t want = (w->n + step - 1) / step * step;
    if (want <= w->cap)
        tw_wr_zero(w, want - w->n);
}

/* --- reading -------------------------------------------------------------------------------------- */

static bool fixed(struct tw_bytes b, void *out, size_t n)
{
    if (b.n != n)
        return false;
    memcpy(out, b.p, n);
    return true;
}

static bool read_text(struct tw_bytes b, char *out)
{
    if (b.n > TW_ICE_CRED_MAX)
        return false;
    memcpy(out, b.p, b.n);
    out[b.n] = 0;
    return true;
}

static bool read_u64(struct tw_bytes b, uint64_t *ret)
{
    *ret = b.n == 8 ? tw_get_u64(b.p) : 0;
    return b.n == 8;
}

static bool read_candidate(struct tw_bytes in, struct tw_word *o)
{
    struct tw_rd r = tw_rd(in);
    struct tw_ice_candidate c = { .component = 1 };
    uint8_t kind = tw_rd_u8(&r);
    c.type = kind >> 4;
    c.transport = kind & 15;
    c.priority = tw_rd_u32(&r);
    c.addr = tw_rd_addr(&r);
    if (r.error || r.n == 0 || r.n >= sizeof(c.foundation))
        return false;
    memcpy(c.foundation, r.p, r.n);
    if (c.transport > VIA_WEB && c.transport <= VIA_WEB + TW_ICE_VIA_HTTPS) {
        c.via = (uint8_t)(c.transport - VIA_WEB);
        c.transport = TW_ICE_TCP_PASSIVE;
    }
    if (c.transport == TW_ICE_TCP_PASSIVE || c.transport == TW_ICE_TCP_SO)
        memcpy(c.web, o->web, sizeof(c.web));
    if (c.type > TW_ICE_RELAY || c.transport > TW_ICE_TCP_SO || c.addr.family == TW_FAMILY_NONE ||
        o->candidate_n == TW_OFFER_CANDIDATES)
        return true; /* of a kind we do not know, or more than we take */
    o->candidate[o->candidate_n++] = c;
    return true;
}

static bool read_part(unsigned type, struct tw_bytes b, struct tw_word *o)
{
    switch (type) {
    case PART_CALLER:
        return fixed(b, o->caller.b, TW_KEY_SIZE);
    case PART_SECRET:
        return fixed(b, o->secret, sizeof(o->secret));
    case PART_TIME:
        return read_u64(b, &o->unix_ms);
    case PART_EXPIRES:
        return read_u64(b, &o->expires_ms);
    case PART_AGAIN:
        return read_u64(b, &o->again);
    case PART_NONCE:
        return o->has_nonce = fixed(b, o->nonce, sizeof(o->nonce));
    case PART_UFRAG:
        return read_text(b, o->ufrag);
    case PART_PWD:
        return read_text(b, o->pwd);
    case PART_WEB: /* of the candidates behind it */
        snprintf(o->web, sizeof(o->web), "%.*s", (int)(b.n < sizeof(o->web) ? b.n : 0), (const char *)b.p);
        return true;
    case PART_CANDIDATE:
        return read_candidate(b, o);
    case PART_END:
        return o->end = true;
    case PART_EARLY:
        o->early = b;
        return b.n <= TW_OFFER_EARLY_MAX;
    case PART_INVITE:
        o->invite = b;
        return b.n == TW_INVITE_SIZE;
    case PART_PREKEY:
        return o->has_prekey = fixed(b, o->prekey, sizeof(o->prekey));
    default:
        return true;
    }
}

static int decode(struct tw_bytes in, struct tw_word *o)
{
    struct tw_rd r = tw_rd(in);
    memset(o, 0, sizeof(*o));
    o->kind = (enum tw_word_kind)tw_rd_u8(&r);
    if (r.error || o->kind < TW_WORD_OFFER || o->kind > TW_WORD_MORE)
        return TW_EMALFORMED;
    while (r.n && *r.p) {
        unsigned type = tw_rd_u8(&r);
        struct tw_bytes b = tw_rd_bytes(&r, tw_rd_u16(&r));
        if (r.error || !read_part(type, b, o))
            return TW_EMALFORMED;
    }
    return 0;
}

/* --- offers --------------------------------------------------------------------------------------- */

static int sign(const struct tw_ident *self, const struct tw_key *callee, struct tw_bytes what, uint8_t *sig)
{
    const struct tw_bytes parts[] = { tw_bytes(callee->b, TW_KEY_SIZE), what };
    return tw_ident_sign(self, TW_FOR_OFFER, parts, 2, sig);
}

int tw_offer_seal(const struct tw_word *offer, const struct tw_ident *self, const struct tw_key *callee,
                  const struct tw_prekey *prekey, const struct tw_rng *rng, uint8_t *out, size_t *ret_n)
{
    uint8_t plain[TW_OFFER_MAX];
    struct tw_wr w = tw_wr(plain, sizeof(plain));
    tw_wr_zero(&w, TW_SIG_SIZE);
    if (offer->early.n > TW_OFFER_EARLY_MAX || encode(offer, &w))
        return TW_EFULL;
    pad(&w, OFFER_STEP);
    int err = sign(self, callee, tw_bytes(plain + TW_SIG_SIZE, w.n - TW_SIG_SIZE), plain);
    err = err ? err : tw_seal(callee, prekey, rng, tw_bytes(plain, w.n), out);
    *ret_n = w.n + TW_SEAL_OVERHEAD;
    return err;
}

int tw_offer_open(struct tw_bytes sealed, const struct tw_ident *self, const struct tw_prekey *prekeys,
                  size_t prekey_n, uint8_t *buf, struct tw_word *ret)
{
    if (sealed.n > TW_OFFER_SEALED_MAX || sealed.n < TW_SEAL_OVERHEAD + TW_SIG_SIZE)
        return TW_EMALFORMED;
    size_t n = sealed.n - TW_SEAL_OVERHEAD;
    if (tw_seal_open(self, prekeys, prekey_n, sealed, buf))
        return TW_EAUTH;
    struct tw_bytes what = tw_bytes(buf + TW_SIG_SIZE, n - TW_SIG_SIZE);
    int err = decode(what, ret);
    if (err || ret->kind != TW_WORD_OFFER)
        return TW_EMALFORMED;
    const struct tw_bytes parts[] = { tw_bytes(self->key.b, TW_KEY_SIZE), what };
    return tw_key_verify(&ret->caller, TW_FOR_OFFER, parts, 2, buf) ? 0 : TW_EAUTH;
}

/* --- the rest of the conversation ------------------------------------------------------------------ */

int tw_word_seal(const struct tw_word *word, struct tw_box *box, uint8_t *out, size_t *ret_n)
{
    uint8_t plain[TW_OFFER_MAX];
    struct tw_wr w = tw_wr(plain, sizeof(plain));
    if (encode(word, &w))
        return TW_EFULL;
    pad(&w, WORD_STEP);
    tw_box_seal(box, tw_bytes(plain, w.n), out);
    *ret_n = w.n + TW_BOX_OVERHEAD;
    return 0;
}

int tw_word_open(struct tw_bytes sealed, struct tw_box *box, uint8_t *buf, struct tw_word *ret)
{
    if (sealed.n < TW_BOX_OVERHEAD || sealed.n > TW_OFFER_MAX + TW_BOX_OVERHEAD)
        return TW_EMALFORMED;
    if (tw_box_open(box, sealed, buf))
        return TW_EAUTH;
    int err = decode(tw_bytes(buf, sealed.n - TW_BOX_OVERHEAD), ret);
    return !err && ret->kind == TW_WORD_OFFER ? TW_EMALFORMED : err;
}
