/* Allocate (RFC 8656 §7.2): decode into a wish, judge it, open sockets, answer when they are. */
#include "relay/internal.h"

#include <sodium.h>
#include <stdlib.h>

enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* What an Allocate asks for. */
struct wish {
    uint8_t families; /* bit per family */
    bool additional;  /* the second family may fail */
    bool draft;       /* asked for with the draft's attribute */
    bool even, pair;
    bool has_token;
    bool tcp, mobile;
    const uint8_t *token;
    uint32_t lifetime;
};

static bool family_bit(uint8_t value, uint8_t *ret_bit)
{
    *ret_bit = value == 1 ? 1 << V4 : value == 2 ? 1 << V6 : 0;
    return *ret_bit != 0;
}

/* 0, or the error code. */
static unsigned read_transport(const struct tw_relay *r, const struct tw_datagram *in,
                               const struct tw_stun_msg *m, struct wish *w)
{
    uint8_t transport;
    if (!tw_stun_get_u8(m, TW_STUN_A_REQUESTED_TRANSPORT, &transport))
        return TW_STUN_CODE_BAD_REQUEST;
    w->tcp = transport == PROTOCOL_TCP;
    if (w->tcp ? r->cfg->no_tcp_relay : transport != PROTOCOL_UDP || r->cfg->no_udp_relay)
        return TW_STUN_CODE_UNSUPPORTED_TRANSPORT;
    /* RFC 6062 §5.1: over TCP or TLS only, and without what is about datagrams and pairs of ports. */
    if (w->tcp && (!is_stream(in->sock) || tw_stun_has(m, TW_STUN_A_EVEN_PORT) ||
                   tw_stun_has(m, TW_STUN_A_DONT_FRAGMENT) ||
                   tw_stun_has(m, TW_STUN_A_RESERVATION_TOKEN)))
        return TW_STUN_CODE_BAD_REQUEST;
    return 0;
}

static unsigned read_wish(const struct tw_relay *r, const struct tw_datagram *in,
                          const struct tw_stun_msg *m, struct wish *w)
{
    uint8_t family, even = 0;
    bool has_family = tw_stun_get_u8(m, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, &family);
    bool has_even = tw_stun_get_u8(m, TW_STUN_A_EVEN_PORT, &even);
    *w = (struct wish){ .families = 1 << V4 };

    unsigned code = read_transport(r, in, m, w);
    if (code)
        return code;
    w->has_token = tw_stun_has(m, TW_STUN_A_RESERVATION_TOKEN);
    w->token = tw_stun_get(m, TW_STUN_A_RESERVATION_TOKEN).p;
    /* coturn's clients use the number the attribute had before RFC 8656. */
    w->draft = !tw_stun_has(m, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY) &&
               tw_stun_has(m, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT);
    w->additional = w->draft || tw_stun_has(m, TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY);
    w->even = has_even;
    w->pair = even & 0x80;
    if (w->has_token && (has_even || has_family || w->additional))
        return TW_STUN_CODE_BAD_REQUEST;
    if (has_family && !family_bit(family, &w->families))
        return TW_STUN_CODE_FAMILY_NOT_SUPPORTED;
    if (w->additional) {
        uint8_t second = 0;
        tw_stun_get_u8(m, w->draft ? TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT
                                   : TW_STUN_A_ADDITIONAL_ADDRESS_FAMILY, &second);
        if (has_family || w->pair || second != 2) /* RFC 8656 §18.11: only IPv6 */
            return TW_STUN_CODE_BAD_REQUEST;
        w->families = 1 << V4 | 1 << V6;
    }
    /* RFC 8016 §3.1: mobility is asked for with an empty ticket. */
    w->mobile = tw_stun_has(m, TW_STUN_A_MOBILITY_TICKET);
    if (w->mobile && tw_stun_get(m, TW_STUN_A_MOBILITY_TICKET).n)
        return TW_STUN_CODE_BAD_REQUEST;
    if (w->mobile && !r->cfg->mobility)
        return TW_STUN_CODE_MOBILITY_FORBIDDEN;

    w->lifetime = r->cfg->default_lifetime;
    uint32_t asked;
    if (tw_stun_get_u32(m, TW_STUN_A_LIFETIME, &asked) && asked > w->lifetime)
        w->lifetime = asked < r->cfg->max_lifetime ? asked : r->cfg->max_lifetime;
    return 0;
}

static void ask_open(struct tw_relay *r, struct rsock *rs)
{
    struct tw_relay_event *ev = relay_event(r, TW_RELAY_OPEN);
    ev->sock = rs->id;
    ev->addr = rs->addr;
    ev->tcp = rs->tcp;
    rs->asked = true;
}

static uint8_t port_mark(const struct tw_relay *r, bool tcp)
{
    return (uint8_t)((r->worker + 1) | (tcp ? PORT_TCP : 0));
}

/* A port of one family, on the relay addresses in turn from a random one. NULL: none free. */
static struct rsock *take_sock(struct tw_relay *r, int family, enum port_want want, bool tcp)
{
    uint8_t mark = port_mark(r, tcp);
    const struct tw_relay_config *cfg = r->cfg;
    uint32_t start;
    r->env.rng.fill(r->env.rng.ctx, &start, sizeof(start));
    for (uint32_t k = 0; k < r->shared->relay_n; k++) {
        uint32_t i = (start % r->shared->relay_n + k) % r->shared->relay_n;
        if (family_index(&r->shared->ports[i].ip) != family)
            continue;
        uint16_t port = tw_relay_port_take(r->shared, i, mark, want, cfg->min_port, cfg->max_port,
                                           &r->env.rng);
        struct rsock *rs = port ? relay_sock_new(r, i, port) : NULL;
        if (rs)
            rs->tcp = tcp;
        if (port)
            return rs;
    }
    return NULL;
}

static bool have_family(const struct tw_relay *r, int family)
{
    for (uint32_t i = 0; i < r->shared->relay_n; i++)
        if (family_index(&r->shared->ports[i].ip) == family)
            return true;
    return false;
}

/* The odd port of a pair, kept for the token that goes out with the answer. */
static bool reserve_next(struct tw_relay *r, struct alloc *a, const struct rsock *even)
{
    struct rsock *odd = relay_sock_new(r, even->relay, (uint16_t)(even->addr.port + 1));
    if (!odd)
        return false;
    struct reservation *v = calloc(1, sizeof(*v));
    if (!v || tw_timers_reserve(&r->reservation_timers, r->reservation_timers.len + 1)) {
        free(v);
        relay_sock_free(r, odd);
        return false;
    }
    v->rs = odd;
    v->user = a->user;
    a->pending_reservation = v;
    odd->owner = a;
    a->opening++;
    ask_open(r, odd);
    return true;
}

static unsigned start_family(struct tw_relay *r, struct alloc *a, int family, const struct wish *w)
{
    if (!have_family(r, family))
        return TW_STUN_CODE_FAMILY_NOT_SUPPORTED;
    enum port_want want = w->pair ? PORT_PAIR : w->even ? PORT_EVEN : PORT_ANY;
    struct rsock *rs = take_sock(r, family, want, w->tcp);
    if (!rs)
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    rs->owner = a;
    a->rs[family] = rs;
    a->opening++;
    ask_open(r, rs);
    return w->pair && !reserve_next(r, a, rs) ? TW_STUN_CODE_INSUFFICIENT_CAPACITY : 0;
}

/* RFC 8656 §7.2: the port that an earlier EVEN-PORT reserved. */
static unsigned redeem(struct tw_relay *r, struct alloc *a, const struct wish *w)
{
    for (struct reservation *v = r->reservations; v; v = v->next) {
        if (memcmp(v->token, w->token, sizeof(v->token)) != 0 || v->user != a->user)
            continue;
        struct rsock *rs = v->rs;
        relay_reservation_free(r, v, true);
        rs->owner = a;
        a->rs[family_index(&rs->addr)] = rs;
        return 0;
    }
    return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
}

static unsigned start(struct tw_relay *r, struct alloc *a, const struct wish *w)
{
    if (w->has_token)
        return redeem(r, a, w);
    unsigned code = 0, served = 0;
    for (int f = V4; f <= V6; f++) {
        if (!(w->families & 1 << f))
            continue;
        unsigned c = start_family(r, a, f, w);
        if (c)
            code = c;
        else
            served++;
    }
    /* With ADDITIONAL-ADDRESS-FAMILY one family is success enough (RFC 8656 §7.2). */
    if (code && w->additional && served) {
        a->family_error = (uint16_t)code;
        return 0;
    }
    return code;
}

void relay_allocate(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                    const struct auth *auth)
{
    struct wish w;
    struct alloc *a = relay_find(r, in);
    if (a) {
        if (memcmp(a->tid, m->tid, TW_STUN_TID) != 0) {
            relay_error(r, in, m, auth, TW_STUN_CODE_ALLOCATION_MISMATCH);
            return;
        }
        /* A retransmission: the same answer again, once there is one (RFC 8656 §7.2). */
        if (a->state == ALLOC_LIVE)
            relay_allocate_answer(r, a, auth);
        return;
    }
    unsigned code = read_wish(r, in, m, &w);
    if (!code && w.tcp && auth->guest)
        code = TW_STUN_CODE_FORBIDDEN;
    if (!code && r->cfg->alternate.family && r->cfg->alternate.family == in->src.family)
        code = TW_STUN_CODE_TRY_ALTERNATE;
    if (!code && r->cfg->draining)
        code = TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    if (code) {
        relay_error(r, in, m, auth, code);
        return;
    }
    struct quota *q = tw_relay_quota_take(r->shared, auth->user,
                                          auth->quota ? auth->quota : r->cfg->user_quota,
                                          r->cfg->total_quota);
    if (!q) {
        r->stats.quota_refused++;
        relay_error(r, in, m, auth, TW_STUN_CODE_QUOTA_REACHED);
        return;
    }
    a = relay_alloc_new(r, in);
    if (!a) {
        tw_relay_quota_give(r->shared, q);
        relay_error(r, in, m, auth, TW_STUN_CODE_INSUFFICIENT_CAPACITY);
        return;
    }
    a->quota = q;
    a->user = auth->user;
    a->guest = auth->guest;
    a->lifetime = w.lifetime;
    a->draft_families = w.draft;
    a->tcp = w.tcp;
    a->asked = (uint16_t)m->raw.n;
    memcpy(a->tid, m->tid, TW_STUN_TID);
    a->pending_auth = malloc(sizeof(*auth));
    code = a->pending_auth && (!w.mobile || relay_ticket_serial(r, a))
               ? start(r, a, &w) : TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    if (code) {
        relay_error(r, in, m, auth, code);
        relay_release(r, a, "refused");
        return;
    }
    *a->pending_auth = *auth;
    if (a->opening == 0)
        relay_allocate_answer(r, a, auth);
}

/* --- the sockets are open ----------------------------------------------------------------- */

static void keep_reservation(struct tw_relay *r, struct alloc *a)
{
    struct reservation *v = a->pending_reservation;
    if (!v)
        return;
    a->pending_reservation = NULL;
    v->rs->owner = NULL;
    tw_relay_token_make(r->shared, r->worker, v->token);
    memcpy(a->token, v->token, sizeof(a->token));
    a->has_token = true;
    v->next = r->reservations;
    r->reservations = v;
    tw_timers_set(&r->reservation_timers, &v->timer,
                  tw_time_add(r->now, RESERVATION_SEC * TW_SEC));
}

static void go_live(struct tw_relay *r, struct alloc *a)
{
    char client[TW_ADDR_STRLEN], relayed[TW_ADDR_STRLEN];
    const struct rsock *rs = a->rs[V4] ? a->rs[V4] : a->rs[V6];
    a->state = ALLOC_LIVE;
    sodium_memzero(a->pending_auth, sizeof(*a->pending_auth));
    free(a->pending_auth);
    a->pending_auth = NULL;
    keep_reservation(r, a);
    tw_timers_set(&r->alloc_timers, &a->timer,
                  tw_time_add(r->now, tw_time_from_sec(a->lifetime)));
    r->stats.allocations_made++;
    if (r->env.trace.emit)
        tw_trace(&r->env.trace, r->now, TW_DEBUG, "allocation of %s: %s for %u s",
                 tw_addr_format(&a->path.client, client), tw_addr_format(&rs->told, relayed),
                 (unsigned)a->lifetime);
}

/* ADDRESS-ERROR-CODE (RFC 8656 §18.12): family, then class and number as in ERROR-CODE. */
static void add_family_error(struct tw_stun_enc *e, const struct alloc *a)
{
    uint8_t family = a->rs[V4] ? 2 : 1;
    const uint8_t v[4] = { family, 0, (uint8_t)(a->family_error / 100),
                           (uint8_t)(a->family_error % 100) };
    tw_stun_add(e, a->draft_families ? TW_STUN_A_ADDRESS_ERROR_CODE_DRAFT
                                     : TW_STUN_A_ADDRESS_ERROR_CODE, tw_bytes(v, sizeof(v)));
}

void relay_allocate_answer(struct tw_relay *r, struct alloc *a, const struct auth *auth)
{
    struct reply p;
    struct auth signer = *auth; /* go_live frees the pending one */
    if (a->state == ALLOC_OPENING)
        go_live(r, a);
    if (!relay_reply_begin(r, &p, TW_STUN_SUCCESS, TW_STUN_ALLOCATE, a->tid, &signer))
        return;
    p.asked = signer.key.n ? 0 : a->asked;
    for (int f = 0; f < FAMILIES; f++)
        if (a->rs[f])
            tw_stun_add_addr(&p.e, TW_STUN_A_XOR_RELAYED_ADDRESS, &a->rs[f]->told);
    tw_stun_add_u32(&p.e, TW_STUN_A_LIFETIME, tw_time_sec_left(r->now, a->timer.at));
    if (a->has_token)
        tw_stun_add(&p.e, TW_STUN_A_RESERVATION_TOKEN, tw_bytes(a->token, sizeof(a->token)));
    tw_stun_add_addr(&p.e, TW_STUN_A_XOR_MAPPED_ADDRESS, &a->path.client);
    if (a->mobile)
        relay_add_ticket(r, &p.e, a);
    if (a->family_error)
        add_family_error(&p.e, a);
    if (r->cfg->software)
        tw_stun_add(&p.e, TW_STUN_A_SOFTWARE, tw_bytes_str(r->cfg->software));
    relay_reply_send(r, &p, a->path.listener, &a->path.local, &a->path.client);
}

static void refuse(struct tw_relay *r, struct alloc *a)
{
    struct reply p;
    if (relay_reply_begin(r, &p, TW_STUN_ERROR, TW_STUN_ALLOCATE, a->tid, a->pending_auth)) {
        unsigned code = TW_STUN_CODE_INSUFFICIENT_CAPACITY;
        tw_stun_add_error(&p.e, code, tw_bytes_str(tw_stun_reason(code)));
        r->stats.errors_sent++;
        relay_reply_send(r, &p, a->path.listener, &a->path.local, &a->path.client);
    }
    relay_release(r, a, "no port could be opened");
}

/* Another pair of ports for one of which another program has a half. */
static bool try_pair_again(struct tw_relay *r, struct alloc *a)
{
    const struct wish w = { .pair = true, .tcp = a->tcp };
    struct reservation *v = a->pending_reservation;
    int family = family_index(&v->rs->addr);
    struct rsock *even = a->rs[family];
    uint8_t tries = (uint8_t)(even->tries + 1);
    if (tries >= OPEN_TRIES || !relay_events_free(r, 4))
        return false;
    a->pending_reservation = NULL;
    a->rs[family] = NULL;
    a->opening = 0;
    relay_sock_free(r, even);
    relay_sock_free(r, v->rs);
    free(v);
    if (start_family(r, a, family, &w))
        return false;
    a->rs[family]->tries = tries;
    return true;
}

/* Another port for a socket that could not be bound. */
static bool try_again(struct tw_relay *r, struct alloc *a, struct rsock *rs)
{
    const struct tw_relay_config *cfg = r->cfg;
    if (a->pending_reservation)
        return try_pair_again(r, a);
    if (++rs->tries >= OPEN_TRIES || !relay_events_free(r, 1))
        return false;
    enum port_want want = rs->addr.port % 2 == 0 ? PORT_EVEN : PORT_ANY;
    uint16_t port = tw_relay_port_take(r->shared, rs->relay, port_mark(r, rs->tcp), want,
                                       cfg->min_port, cfg->max_port, &r->env.rng);
    if (!port)
        return false;
    tw_relay_port_give(r->shared, rs->relay, rs->addr.port);
    rs->addr.port = rs->told.port = port;
    ask_open(r, rs);
    return true;
}

void tw_relay_opened(struct tw_relay *r, tw_time now, uint32_t sock, int error)
{
    struct rsock *rs = relay_sock(r, sock);
    r->now = now;
    relay_reset_out(r);
    if (!rs || !rs->asked)
        return;
    rs->asked = false;
    if (!error && !relay_sock_open(r, rs))
        error = TW_ENOMEM;
    if (rs->given_up) {
        relay_sock_free(r, rs);
        return;
    }
    if (rs->connection) {
        relay_connection_opened(r, rs->conn, error);
        return;
    }
    struct alloc *a = rs->owner;
    if (error) {
        if (error != TW_EADDRINUSE || !try_again(r, a, rs))
            refuse(r, a);
        return;
    }
    if (--a->opening == 0)
        relay_allocate_answer(r, a, a->pending_auth);
}
