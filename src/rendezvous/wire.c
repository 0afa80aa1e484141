#include "rendezvous/wire.h"

#include "ident/ident.h"

const char *tw_rdv_reason(unsigned reason)
{
    static const char *const text[] = {
#define TW_RDV_REASON_TEXT(name, value, text) [value] = text,
        TW_RDV_REASONS(TW_RDV_REASON_TEXT)
#undef TW_RDV_REASON_TEXT
    };
    return reason < sizeof(text) / sizeof(text[0]) ? text[reason] : "the call is over";
}

void tw_wr_addr(struct tw_wr *w, const struct tw_addr *a)
{
    size_t n = a->family == TW_FAMILY_V6 ? 16 : a->family == TW_FAMILY_V4 ? 4 : 0;
    tw_wr_u8(w, n == 16 ? 6 : (uint8_t)n);
    if (n) {
        tw_wr_u16(w, a->port);
        tw_wr_bytes(w, tw_bytes(a->ip, n));
    }
}

struct tw_addr tw_rd_addr(struct tw_rd *r)
{
    struct tw_addr a = { 0 };
    uint8_t family = tw_rd_u8(r);
    if (family != 4 && family != 6) {
        r->error = family && !r->error ? TW_EMALFORMED : r->error;
        return a;
    }
    size_t n = family == 6 ? 16 : 4;
    a.port = tw_rd_u16(r);
    struct tw_bytes ip = tw_rd_bytes(r, n);
    if (ip.n != n)
        return (struct tw_addr){ 0 };
    a.family = family == 6 ? TW_FAMILY_V6 : TW_FAMILY_V4;
    memcpy(a.ip, ip.p, n);
    return a;
}

static void wr_text(struct tw_wr *w, struct tw_bytes b)
{
    tw_wr_u8(w, (uint8_t)b.n);
    tw_wr_bytes(w, b);
}

static struct tw_bytes rd_text(struct tw_rd *r)
{
    struct tw_bytes b = tw_rd_bytes(r, tw_rd_u8(r));
    if (b.n > TW_RDV_TEXT_MAX)
        r->error = TW_EMALFORMED;
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] < ' ' || b.p[i] > '~')
            r->error = TW_EMALFORMED;
    return b;
}

enum { VERSION = 1, MAY_REGISTER = 1, FRESH = 2, IS_TURN = 0x80 };

int tw_rdv_hello_encode(const struct tw_rdv_hello *h, struct tw_wr *w)
{
    tw_wr_u8(w, TW_RDV_M_HELLO);
    tw_wr_u8(w, VERSION);
    tw_wr_bytes(w, tw_bytes(h->challenge, TW_RDV_CHALLENGE));
    tw_wr_u64(w, h->unix_ms);
    tw_wr_u8(w, (uint8_t)((h->may_register ? MAY_REGISTER : 0) | (h->fresh ? FRESH : 0)));
    tw_wr_addr(w, &h->seen);
    tw_wr_u8(w, (uint8_t)h->server_n);
    for (size_t i = 0; i < h->server_n; i++) {
        const struct tw_rdv_server *s = &h->server[i];
        tw_wr_u8(w, (uint8_t)((s->turn ? IS_TURN : 0) | (unsigned)s->transport));
        tw_wr_addr(w, &s->addr);
        if (s->turn) {
            wr_text(w, s->username);
            wr_text(w, s->password);
            wr_text(w, s->realm);
            wr_text(w, s->nonce);
        }
    }
    tw_wr_u8(w, h->early);
    return w->error;
}

int tw_rdv_hello_decode(struct tw_bytes in, struct tw_rdv_hello *ret)
{
    struct tw_rdv_hello h = { 0 };
    struct tw_rd r = tw_rd(in);
    if (tw_rd_u8(&r) != TW_RDV_M_HELLO)
        return TW_EMALFORMED;
    h.version = tw_rd_u8(&r);
    if (h.version != VERSION)
        return TW_EUNSUPPORTED;
    struct tw_bytes challenge = tw_rd_bytes(&r, TW_RDV_CHALLENGE);
    if (challenge.n == TW_RDV_CHALLENGE)
        memcpy(h.challenge, challenge.p, TW_RDV_CHALLENGE);
    h.unix_ms = tw_rd_u64(&r);
    uint8_t flags = tw_rd_u8(&r);
    h.may_register = flags & MAY_REGISTER;
    h.fresh = flags & FRESH;
    h.seen = tw_rd_addr(&r);
    size_t n = tw_rd_u8(&r);
    for (size_t i = 0; i < n && !r.error; i++) {
        struct tw_rdv_server s = { 0 };
        uint8_t kind = tw_rd_u8(&r);
        s.turn = kind & IS_TURN;
        s.transport = (enum tw_transport)(kind & 0x7f);
        s.addr = tw_rd_addr(&r);
        if (s.turn) {
            s.username = rd_text(&r);
            s.password = rd_text(&r);
            s.realm = rd_text(&r);
            s.nonce = rd_text(&r);
        }
        if (h.server_n < TW_RDV_SERVERS_MAX && (kind & 0x7f) <= TW_TRANSPORT_WS &&
            s.addr.family != TW_FAMILY_NONE && (s.addr.port || s.transport == TW_TRANSPORT_WS))
            h.server[h.server_n++] = s;
    }
    h.early = tw_rd_u8(&r);
    if (r.error) /* what stands behind is of a later version */
        return TW_EMALFORMED;
    *ret = h;
    return 0;
}

void tw_rdv_signed(const uint8_t challenge[TW_RDV_CHALLENGE], uint8_t out[TW_RDV_SIGNED])
{
    memcpy(out, "thalweg register", 17);
    memcpy(out + 17, challenge, TW_RDV_CHALLENGE);
}

void tw_rdv_proof(struct tw_bytes token, const uint8_t challenge[TW_RDV_CHALLENGE], uint8_t out[TW_RDV_PROOF])
{
    const struct tw_bytes parts[] = { token, tw_bytes(challenge, TW_RDV_CHALLENGE) };
    tw_digest("thalweg token", parts, 2, out, TW_RDV_PROOF);
}

/* --- in one network ---------------------------------------------------------------------------------- */

static const char question[] = "thalweg lan ?1", answer[] = "thalweg lan !1";

size_t tw_lan_question(const struct tw_key *names, size_t n, uint8_t out[TW_LAN_MAX])
{
    n = n < TW_LAN_NAMES ? n : TW_LAN_NAMES;
    memcpy(out, question, TW_LAN_HEAD);
    memcpy(out + TW_LAN_HEAD, names, n * TW_KEY_SIZE);
    return TW_LAN_HEAD + n * TW_KEY_SIZE;
}

size_t tw_lan_answer(const struct tw_key *name, uint16_t port, uint8_t out[TW_LAN_MAX])
{
    memcpy(out, answer, TW_LAN_HEAD);
    memcpy(out + TW_LAN_HEAD, name->b, TW_KEY_SIZE);
    tw_put_u16(out + TW_LAN_HEAD + TW_KEY_SIZE, port);
    return TW_LAN_HEAD + TW_KEY_SIZE + 2;
}

size_t tw_lan_read_question(struct tw_bytes in, struct tw_key ret_names[TW_LAN_NAMES])
{
    if (in.n <= TW_LAN_HEAD || in.n > TW_LAN_MAX || (in.n - TW_LAN_HEAD) % TW_KEY_SIZE ||
        memcmp(in.p, question, TW_LAN_HEAD) != 0)
        return 0;
    memcpy(ret_names, in.p + TW_LAN_HEAD, in.n - TW_LAN_HEAD);
    return (in.n - TW_LAN_HEAD) / TW_KEY_SIZE;
}

bool tw_lan_read_answer(struct tw_bytes in, struct tw_key *ret_name, uint16_t *ret_port)
{
    if (in.n != TW_LAN_HEAD + TW_KEY_SIZE + 2 || memcmp(in.p, answer, TW_LAN_HEAD) != 0)
        return false;
    memcpy(ret_name->b, in.p + TW_LAN_HEAD, TW_KEY_SIZE);
    *ret_port = tw_get_u16(in.p + TW_LAN_HEAD + TW_KEY_SIZE);
    return true;
}
