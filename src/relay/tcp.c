/* Relaying TCP (RFC 6062): connections between relayed addresses and peers, and how a client's data
 * connection is tied to one. */
#include "relay/internal.h"

#include <stdlib.h>

static bool eq_number(const void *item, const void *key)
{
    return ((const struct connection *)item)->number == *(const uint32_t *)key;
}

static struct connection *find_number(const struct tw_relay *r, uint32_t number)
{
    return tw_map_get(&r->by_connection, number, eq_number, &number);
}

/* RFC 6062 §4.3: unique and hard to guess. */
static uint32_t new_number(struct tw_relay *r)
{
    uint32_t n;
    do {
        r->env.rng.fill(r->env.rng.ctx, &n, sizeof(n));
        n = n >> (32 - CONNECTION_WORKER_SHIFT) | r->worker << CONNECTION_WORKER_SHIFT;
    } while (find_number(r, n));
    return n;
}

static struct connection *connection_new(struct tw_relay *r, struct alloc *a,
                                         const struct tw_addr *peer)
{
    if (a->connection_n == MAX_CONNECTIONS ||
        tw_timers_reserve(&r->connection_timers, r->by_connection.len + 1))
        return NULL;
    struct connection *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->alloc = a;
    c->peer = *peer;
    c->number = new_number(r);
    c->rs = relay_sock_new_connection(r, a->rs[family_index(peer)], c);
    if (!c->rs || tw_map_put(&r->by_connection, c->number, c)) {
        if (c->rs)
            relay_sock_free(r, c->rs);
        free(c);
        return NULL;
    }
    c->next = a->connections;
    a->connections = c;
    a->connection_n++;
    tw_timers_set(&r->connection_timers, &c->timer,
                  tw_time_add(r->now, CONNECTION_SEC * TW_SEC));
    return c;
}

void relay_connection_free(struct tw_relay *r, struct connection *c)
{
    struct alloc *a = c->alloc;
    for (struct connection **p = &a->connections; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    a->connection_n--;
    tw_timers_set(&r->connection_timers, &c->timer, TW_NEVER);
    tw_map_del(&r->by_connection, c->number, c);
    c->rs->conn = NULL;
    relay_sock_free(r, c->rs);
    free(c->auth);
    free(c);
}

/* --- outwards (RFC 6062 §5.2) --------------------------------------------------------------- */

static void answer_connect(struct tw_relay *r, struct connection *c, unsigned code)
{
    struct reply p;
    const struct alloc *a = c->alloc;
    if (relay_reply_begin(r, &p, code ? TW_STUN_ERROR : TW_STUN_SUCCESS, TW_STUN_CONNECT, c->tid,
                          c->auth)) {
        if (code) {
            tw_stun_add_error(&p.e, code, tw_bytes_str(tw_stun_reason(code)));
            r->stats.errors_sent++;
        } else {
            tw_stun_add_u32(&p.e, TW_STUN_A_CONNECTION_ID, c->number);
        }
        relay_reply_send(r, &p, a->path.listener, &a->path.local, &a->path.client);
    }
}

/* 0: it is on its way, the answer comes with tw_relay_opened(). */
unsigned relay_connect(struct tw_relay *r, struct alloc *a, const struct tw_stun_msg *m,
                       const struct auth *auth)
{
    struct tw_addr peer;
    if (!a->tcp || !tw_stun_get_addr(m, TW_STUN_A_XOR_PEER_ADDRESS, &peer))
        return TW_STUN_CODE_BAD_REQUEST;
    unsigned code = relay_judge_peer(r, a, &peer);
    if (code)
        return code;
    if (peer.port == 0)
        return TW_STUN_CODE_FORBIDDEN;
    for (const struct connection *c = a->connections; c; c = c->next)
        if (tw_addr_eq(&c->peer, &peer))
            return TW_STUN_CODE_CONNECTION_EXISTS;
    struct connection *c = connection_new(r, a, &peer);
    if (!c)
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    c->auth = malloc(sizeof(*auth));
    if (!c->auth) {
        relay_connection_free(r, c);
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    }
    *c->auth = *auth;
    memcpy(c->tid, m->tid, TW_STUN_TID);
    struct tw_relay_event *ev = relay_event(r, TW_RELAY_CONNECT);
    ev->sock = c->rs->id;
    ev->tcp = true;
    ev->addr = c->rs->addr;
    ev->peer = peer;
    c->rs->asked = true;
    return 0;
}

void relay_connection_opened(struct tw_relay *r, struct connection *c, int error)
{
    answer_connect(r, c, error ? TW_STUN_CODE_CONNECTION_FAILED : 0);
    free(c->auth);
    c->auth = NULL;
    if (error) {
        relay_connection_free(r, c);
        return;
    }
    c->state = CONNECTION_WAITING;
    tw_timers_set(&r->connection_timers, &c->timer,
                  tw_time_add(r->now, CONNECTION_SEC * TW_SEC));
}

/* It was not established, or nobody bound it, in time. */
void relay_connection_expired(struct tw_relay *r, struct connection *c)
{
    if (c->state == CONNECTION_OPENING)
        answer_connect(r, c, TW_STUN_CODE_CONNECTION_FAILED);
    relay_connection_free(r, c);
}

/* --- inwards (RFC 6062 §5.3) ---------------------------------------------------------------- */

static void tell_attempt(struct tw_relay *r, const struct connection *c)
{
    struct reply p;
    uint8_t tid[TW_STUN_TID];
    const struct alloc *a = c->alloc;
    r->env.rng.fill(r->env.rng.ctx, tid, sizeof(tid));
    if (!relay_reply_begin(r, &p, TW_STUN_INDICATION, TW_STUN_CONNECTION_ATTEMPT, tid, NULL))
        return;
    tw_stun_add_u32(&p.e, TW_STUN_A_CONNECTION_ID, c->number);
    tw_stun_add_addr(&p.e, TW_STUN_A_XOR_PEER_ADDRESS, &c->peer);
    relay_reply_send(r, &p, a->path.listener, &a->path.local, &a->path.client);
}

uint32_t tw_relay_peer_arrived(struct tw_relay *r, tw_time now, uint32_t sock,
                               const struct tw_addr *peer)
{
    struct rsock *rs = relay_sock(r, sock);
    r->now = now;
    relay_reset_out(r);
    struct alloc *a = rs ? rs->owner : NULL;
    if (!a || !a->tcp || a->state != ALLOC_LIVE)
        return 0;
    if (!relay_permitted(r, a, peer)) {
        r->stats.drop_no_permission++;
        return 0;
    }
    /* A permission for a relayed address of this server is none for the host itself. */
    if (relay_own_peer(r, peer) == PEER_OWN && !relay_is_relayed(r, peer, true)) {
        r->stats.drop_policy++;
        return 0;
    }
    struct connection *c = connection_new(r, a, peer);
    if (!c)
        return 0;
    c->state = CONNECTION_WAITING;
    c->rs->open = true;
    tell_attempt(r, c);
    return c->rs->id;
}

/* --- the client's side (RFC 6062 §5.4) ------------------------------------------------------ */

unsigned relay_connection_bind(struct tw_relay *r, const struct tw_datagram *in,
                               const struct tw_stun_msg *m, const struct auth *auth)
{
    uint32_t number;
    if (!is_stream(in->sock) || relay_find(r, in) ||
        !tw_stun_get_u32(m, TW_STUN_A_CONNECTION_ID, &number))
        return TW_STUN_CODE_BAD_REQUEST;
    struct connection *c = find_number(r, number);
    if (!c || c->state != CONNECTION_WAITING || c->alloc->user != auth->user)
        return TW_STUN_CODE_BAD_REQUEST;
    relay_success(r, in, m, auth);
    c->state = CONNECTION_JOINED;
    tw_timers_set(&r->connection_timers, &c->timer, TW_NEVER);
    struct tw_relay_event *ev = relay_event(r, TW_RELAY_JOIN);
    ev->sock = c->rs->id;
    ev->conn = in->sock;
    ev->client = in->src;
    ev->peer = c->peer;
    r->stats.tcp_connections++;
    return 0;
}

void tw_relay_peer_gone(struct tw_relay *r, tw_time now, uint32_t sock)
{
    struct rsock *rs = relay_sock(r, sock);
    r->now = now;
    relay_reset_out(r);
    if (rs && rs->conn && rs->open)
        relay_connection_free(r, rs->conn);
}
