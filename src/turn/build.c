/* The client's requests. The same state gives the same bytes, so a retransmission is built anew. */
#include "turn/internal.h"

static void begin(struct tw_turn *t, struct tw_stun_enc *e, unsigned method,
                  const struct request *rq)
{
    tw_stun_begin(e, t->build, sizeof(t->build), TW_STUN_REQUEST, method, rq->txn.tid);
}

static struct tw_bytes end(struct tw_turn *t, struct tw_stun_enc *e)
{
    if (t->software[0])
        tw_stun_add(e, TW_STUN_A_SOFTWARE, tw_bytes_str(t->software));
    if (t->has_cred)
        tw_stun_cred_sign(&t->cred, e);
    tw_stun_add_fingerprint(e);
    return tw_stun_end(e) ? tw_bytes(NULL, 0) : tw_bytes(e->w.p, e->w.n);
}

static void add_families(const struct tw_turn *t, struct tw_stun_enc *e)
{
    if (t->cfg.port == TW_TURN_PORT_TOKEN) /* RFC 8656 §7.1: the token says it all */
        return;
    if (t->cfg.families == (TW_TURN_V4 | TW_TURN_V6))
        tw_stun_add_u8(e, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2);
    else if (t->cfg.families == TW_TURN_V6)
        tw_stun_add_u8(e, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, 2);
}

/* A server that budgets what strangers get answers at once when the answer is not the larger one. */
static void pad_question(const struct tw_turn *t, struct tw_stun_enc *e)
{
    enum { FINGERPRINT = 8, HEADER = 4 };
    size_t n = e->w.n + HEADER + FINGERPRINT;
    if (!t->has_cred || t->cred.ready || t->cfg.stream || n >= CHALLENGE_MAX)
        return;
    tw_wr_u16(&e->w, ATTR_PAD);
    tw_wr_u16(&e->w, (uint16_t)(CHALLENGE_MAX - n));
    tw_wr_zero(&e->w, CHALLENGE_MAX - n);
}

static struct tw_bytes build_allocate(struct tw_turn *t)
{
    enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, RESERVE_NEXT = 0x80 };
    struct tw_stun_enc e;
    begin(t, &e, TW_STUN_ALLOCATE, &t->main);
    tw_stun_add_u8(&e, TW_STUN_A_REQUESTED_TRANSPORT, t->cfg.tcp ? PROTOCOL_TCP : PROTOCOL_UDP);
    if (t->cfg.lifetime)
        tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, t->cfg.lifetime);
    add_families(t, &e);
    if (t->cfg.port == TW_TURN_PORT_EVEN || t->cfg.port == TW_TURN_PORT_PAIR)
        tw_stun_add_u8(&e, TW_STUN_A_EVEN_PORT,
                       t->cfg.port == TW_TURN_PORT_PAIR ? RESERVE_NEXT : 0);
    if (t->cfg.port == TW_TURN_PORT_TOKEN)
        tw_stun_add(&e, TW_STUN_A_RESERVATION_TOKEN, tw_bytes(t->cfg.token, TW_TURN_TOKEN));
    if (t->cfg.dont_fragment)
        tw_stun_add_flag(&e, TW_STUN_A_DONT_FRAGMENT);
    if (t->cfg.mobility)
        tw_stun_add(&e, TW_STUN_A_MOBILITY_TICKET, tw_bytes(NULL, 0));
    pad_question(t, &e);
    return end(t, &e);
}

static struct tw_bytes build_refresh(struct tw_turn *t)
{
    struct tw_stun_enc e;
    begin(t, &e, TW_STUN_REFRESH, &t->main);
    bool ends = t->state == TURN_CLOSING || t->state == TURN_CLEARING;
    tw_stun_add_u32(&e, TW_STUN_A_LIFETIME, ends ? 0 : t->lifetime);
    if (t->moving)
        tw_stun_add(&e, TW_STUN_A_MOBILITY_TICKET, tw_bytes(t->ticket, t->ticket_n));
    return end(t, &e);
}

struct tw_bytes turn_build_main(struct tw_turn *t)
{
    return t->state == TURN_ALLOCATING ? build_allocate(t) : build_refresh(t);
}

struct tw_bytes turn_build_peer(struct tw_turn *t, const struct peer *p)
{
    struct tw_stun_enc e;
    begin(t, &e, p->connecting ? TW_STUN_CONNECT
                 : p->want_channel ? TW_STUN_CHANNEL_BIND : TW_STUN_CREATE_PERMISSION, &p->rq);
    if (p->want_channel && !p->connecting)
        tw_stun_add_u16(&e, TW_STUN_A_CHANNEL_NUMBER, p->number);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, &p->addr);
    return end(t, &e);
}

struct tw_bytes turn_build_connection_bind(struct tw_stun_cred *cred, uint8_t *buf, size_t cap,
                                           const uint8_t tid[TW_STUN_TID], uint32_t connection)
{
    struct tw_stun_enc e;
    tw_stun_begin(&e, buf, cap, TW_STUN_REQUEST, TW_STUN_CONNECTION_BIND, tid);
    tw_stun_add_u32(&e, TW_STUN_A_CONNECTION_ID, connection);
    if (cred)
        tw_stun_cred_sign(cred, &e);
    tw_stun_add_fingerprint(&e);
    return tw_stun_end(&e) ? tw_bytes(NULL, 0) : tw_bytes(e.w.p, e.w.n);
}
