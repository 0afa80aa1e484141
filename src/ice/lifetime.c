/* How long the NAT keeps a mapping that nothing uses (RFC 4787 §4.3), so that an idle path is refreshed just often
 * enough. RFC 5780 §4.6: a socket that is used for nothing else asks a server where it is seen, waits, and another
 * one asks the server to answer to that port. Does that come, the mapping lived so long. Once per network, while the
 * path is idle, and longer and longer. */
#include "ice/internal.h"

static const tw_time FIRST_WAIT = 40 * TW_SEC, LAST_WAIT = 160 * TW_SEC;
static const tw_time IDLE = 20 * TW_SEC; /* so long nothing was sent before we begin */
static const struct tw_stun_timing timing = { .rto = 250 * TW_MSEC, .rc = 4, .rm = 4 };

enum state { UNTRIED, OPENING, SEEING, WAITING, CALLING, DONE };

static uint16_t path_base(const struct tw_ice *a)
{
    uint16_t path = a->comps[0].path;
    return path == NONE ? NONE : a->pairs[path].base;
}

/* A server of the path's socket that answered. NONE8: there is none. */
static uint8_t server_of(const struct tw_ice *a, uint16_t base)
{
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].base == base && a->queries[i].done && !a->queries[i].failed &&
            a->queries[i].index != NONE8)
            return a->queries[i].index;
    return NONE8;
}

/* Idle, direct, towards our own kind, behind a NAT. */
static bool is_wanted(const struct tw_ice *a)
{
    uint16_t b = path_base(a);
    return a->lifetime.state == UNTRIED && b != NONE && a->bases[b].kind == BASE_UDP &&
           a->streams[0].own && ice_is_private(&a->bases[b].local) && server_of(a, b) != NONE8;
}

static tw_time begin_at(const struct tw_ice *a)
{
    const struct component *c = &a->comps[0];
    if (!is_wanted(a) || c->valid_since == TW_NEVER)
        return TW_NEVER;
    return (c->used > c->valid_since ? c->used : c->valid_since) + IDLE;
}

static void over(struct tw_ice *a)
{
    struct lifetime *l = &a->lifetime;
    l->state = DONE;
    l->want_tx = false;
    l->at = TW_NEVER;
    tw_stun_txn_stop(&l->txn);
    if (l->base != NONE)
        ice_base_kill(a, l->base);
    l->base = NONE;
}

void ice_lifetime_reset(struct tw_ice *a)
{
    if (a->lifetime.state != UNTRIED)
        over(a);
    a->lifetime = (struct lifetime){ .base = NONE, .at = TW_NEVER };
    a->lifetime.txn.due = TW_NEVER;
}

tw_time ice_lifetime_keep(const struct tw_ice *a, tw_time usual)
{
    tw_time keep = a->lifetime.proven / 4 * 3;
    return keep > usual ? keep : usual;
}

/* --- the experiment --------------------------------------------------------------------------------- */

static void ask(struct tw_ice *a, enum state state)
{
    struct lifetime *l = &a->lifetime;
    l->state = (uint8_t)state;
    l->at = TW_NEVER;
    ice_txn_start(a, &l->txn);
}

static void begin(struct tw_ice *a)
{
    struct lifetime *l = &a->lifetime;
    uint16_t path = path_base(a);
    struct tw_addr any = tw_addr_ip_only(&a->bases[path].local);
    l->server = server_of(a, path);
    l->wait = FIRST_WAIT;
    l->base = ice_base_add(a, BASE_CANARY, 0, &any);
    l->state = l->base == NONE ? DONE : OPENING;
    if (l->base != NONE)
        ice_note(a, TW_ICE_OPEN, l->base, a->bases[l->base].sock);
}

void ice_lifetime_opened(struct tw_ice *a)
{
    if (a->lifetime.state == OPENING)
        ask(a, SEEING);
}

static void on_seen(struct tw_ice *a, const struct tw_stun_msg *m)
{
    struct lifetime *l = &a->lifetime;
    struct tw_addr mapped;
    if (m->cls != TW_STUN_SUCCESS || !tw_stun_get_addr(m, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped)) {
        over(a);
        return;
    }
    l->port = mapped.port;
    l->state = WAITING;
    l->at = a->now + l->wait;
}

/* An answer to the path's own socket: the server wants proof of our address, or cannot do it. */
static void on_refused(struct tw_ice *a, const struct tw_stun_msg *m)
{
    struct lifetime *l = &a->lifetime;
    struct tw_bytes reason, nonce = tw_stun_get(m, TW_STUN_A_NONCE);
    unsigned code = 0;
    if (m->cls == TW_STUN_ERROR && tw_stun_get_error(m, &code, &reason) &&
        code == TW_STUN_CODE_STALE_NONCE && !l->nonce_n && nonce.n && nonce.n <= sizeof(l->nonce)) {
        memcpy(l->nonce, nonce.p, nonce.n);
        l->nonce_n = (uint8_t)nonce.n;
        ask(a, CALLING);
        return;
    }
    over(a);
}

bool ice_lifetime_recv(struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m)
{
    struct lifetime *l = &a->lifetime;
    if (m->method != TW_STUN_BINDING || m->cls == TW_STUN_REQUEST || !tw_stun_txn_is(&l->txn, m->tid))
        return false;
    tw_stun_txn_stop(&l->txn);
    if (l->state == SEEING) {
        on_seen(a, m);
    } else if (base != l->base) {
        on_refused(a, m);
    } else { /* it lived */
        l->proven = l->wait;
        l->nonce_n = 0;
        l->wait *= 2;
        if (l->wait > LAST_WAIT)
            over(a);
        else
            ask(a, SEEING);
    }
    return true;
}

void ice_lifetime_tick(struct tw_ice *a)
{
    struct lifetime *l = &a->lifetime;
    if (l->state == UNTRIED) {
        if (begin_at(a) <= a->now)
            begin(a);
        return;
    }
    if (l->state == DONE)
        return;
    if (path_base(a) == NONE || a->bases[path_base(a)].kind != BASE_UDP ||
        a->bases[l->base].state == BASE_DEAD) {
        over(a);
        return;
    }
    if (l->state == WAITING && l->at <= a->now)
        ask(a, CALLING);
    int step = tw_stun_txn_step(&l->txn, &timing, false, a->now);
    l->want_tx = l->want_tx || step > 0;
    if (step < 0)
        over(a); /* it did not live so long; or the server is gone */
}

tw_time ice_lifetime_deadline(const struct tw_ice *a)
{
    const struct lifetime *l = &a->lifetime;
    return l->state == UNTRIED ? begin_at(a) : tw_time_min(l->at, l->txn.due);
}

bool ice_lifetime_tx(struct tw_ice *a)
{
    struct lifetime *l = &a->lifetime;
    struct tw_stun_enc e;
    uint16_t from = l->state == CALLING ? path_base(a) : l->base;
    if (!l->want_tx)
        return false;
    l->want_tx = false;
    tw_stun_begin(&e, a->build, sizeof(a->build), TW_STUN_REQUEST, TW_STUN_BINDING, l->txn.tid);
    if (l->state == CALLING) {
        tw_stun_add_u16(&e, TW_STUN_A_RESPONSE_PORT, l->port);
        if (l->nonce_n)
            tw_stun_add(&e, TW_STUN_A_NONCE, tw_bytes(l->nonce, l->nonce_n));
    }
    tw_stun_add_fingerprint(&e);
    return tw_stun_end(&e) == 0 && from != NONE &&
           ice_emit(a, from, &a->servers[l->server].addr, tw_bytes(e.w.p, e.w.n), 0, true) == 0;
}
