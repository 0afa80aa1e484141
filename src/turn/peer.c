/* Permissions and channels, one peer at a time (RFC 8656 §9, §10.1, §12.1). */
#include "turn/internal.h"

struct peer *turn_peer_find(struct tw_turn *t, const struct tw_addr *addr)
{
    struct peer *last = &t->peers[t->last_peer];
    if (t->peer_n && tw_addr_eq(&last->addr, addr))
        return last;
    for (uint16_t i = 0; i < t->peer_n; i++) {
        if (!tw_addr_eq(&t->peers[i].addr, addr))
            continue;
        t->last_peer = i;
        return &t->peers[i];
    }
    return NULL;
}

/* Any peer whose permission covers this address: permissions are by IP. */
struct peer *turn_peer_permitting(const struct tw_turn *t, tw_time now, const struct tw_addr *addr)
{
    for (uint16_t i = 0; i < t->peer_n; i++)
        if (t->peers[i].permitted_until > now && tw_addr_eq_ip(&t->peers[i].addr, addr))
            return &t->peers[i];
    return NULL;
}

/* The one whose permission, there or asked for, does for this address too. On the server's own address what one port is refused says
 * nothing of the next: servers let through there what is relayed, and nothing else. */
struct peer *turn_peer_sharing(const struct tw_turn *t, const struct tw_addr *addr)
{
    bool own = false;
    for (unsigned i = 0; i < t->relayed_n; i++)
        own = own || tw_addr_eq_ip(&t->relayed[i], addr);
    for (uint16_t i = 0; i < t->peer_n; i++) {
        struct peer *p = &t->peers[i];
        bool asked = p->rq.txn.due != TW_NEVER && !own;
        if (p->keep && (asked || p->permitted_until > t->now) && tw_addr_eq_ip(&p->addr, addr))
            return p;
    }
    return NULL;
}

struct peer *turn_peer_of_channel(struct tw_turn *t, uint16_t number)
{
    struct peer *last = &t->peers[t->last_peer];
    if (t->peer_n && last->number == number)
        return last;
    for (uint16_t i = 0; i < t->peer_n; i++)
        if (t->peers[i].number == number)
            return &t->peers[i];
    return NULL;
}

/* A place is free when nothing is kept there and nothing of it lives on at the server. */
static bool is_free(const struct tw_turn *t, const struct peer *p)
{
    return !p->keep && p->permitted_until <= t->now && p->bound_until <= t->now && p->rq.txn.due == TW_NEVER;
}

/* Of the places that can be given away, the one used longest ago; max_peers: there is none. A permission just ends at the server, while
 * a peer that is bound to a channel there could not get another number (RFC 8656 §12.1). */
static uint16_t find_unused(const struct tw_turn *t)
{
    uint16_t found = t->cfg.max_peers;
    for (uint16_t i = 0; i < t->peer_n; i++) {
        const struct peer *p = &t->peers[i];
        if (p->bound_until <= t->now && p->rq.txn.due == TW_NEVER && (found == t->cfg.max_peers || p->used_at < t->peers[found].used_at))
            found = i;
    }
    return found;
}

/* The peer's place, a new one if need be; NULL when all are taken. */
struct peer *turn_peer_add(struct tw_turn *t, const struct tw_addr *addr)
{
    struct peer *p = turn_peer_find(t, addr);
    if (p) {
        p->used_at = t->now;
        return p;
    }
    uint16_t i = 0;
    while (i < t->peer_n && !is_free(t, &t->peers[i]))
        i++;
    if (i == t->cfg.max_peers) {
        i = find_unused(t);
        if (i == t->cfg.max_peers)
            return NULL;
        turn_held_drop(t, &t->peers[i].addr);
    }
    if (i == t->peer_n)
        t->peer_n++;
    t->peers[i] = (struct peer){ .addr = *addr, .refresh_at = TW_NEVER, .used_at = t->now };
    tw_stun_txn_stop(&t->peers[i].rq.txn);
    return &t->peers[i];
}

bool turn_has_family(const struct tw_turn *t, const struct tw_addr *peer)
{
    for (unsigned i = 0; i < t->relayed_n; i++)
        if (t->relayed[i].family == peer->family)
            return true;
    return false;
}

static void pick_channel(struct tw_turn *t, struct peer *p)
{
    if (p->number)
        return;
    do {
        if (t->next_channel > CHANNEL_LAST)
            t->next_channel = CHANNEL_FIRST;
        p->number = 0;
        if (!turn_peer_of_channel(t, t->next_channel))
            p->number = t->next_channel;
        t->next_channel++;
    } while (!p->number); /* there are more numbers than places for peers */
}

/* Starts CreatePermission or ChannelBind, unless one is in flight. */
void turn_peer_start(struct tw_turn *t, struct peer *p)
{
    if (p->want_channel)
        pick_channel(t, p);
    if (p->rq.txn.due != TW_NEVER)
        return;
    p->connecting = p->want_connect;
    p->want_connect = false;
    tw_stun_txn_start(&p->rq.txn, &t->env.rng, t->now);
    turn_peer_tick(t, p);
}

static void refuse(struct tw_turn *t, struct peer *p, unsigned code, const char *why)
{
    struct tw_turn_event *ev = turn_event(t, TW_TURN_REFUSED);
    if (ev) {
        ev->peer = p->addr;
        ev->code = code;
        ev->why = why;
    }
    tw_stun_txn_stop(&p->rq.txn);
    p->rq.want = false;
    p->keep = p->want_channel = p->announced = p->bound_announced = false;
    p->want_connect = p->connecting = false;
    p->refresh_at = TW_NEVER;
    turn_held_drop(t, &p->addr);
}

void turn_peer_tick(struct tw_turn *t, struct peer *p)
{
    if (p->keep && p->refresh_at <= t->now) {
        p->refresh_at = TW_NEVER;
        turn_peer_start(t, p);
        return;
    }
    int step = tw_stun_txn_step(&p->rq.txn, t->cfg.timing, t->cfg.stream, t->now);
    if (step > 0)
        p->rq.want = true;
    else if (step < 0)
        refuse(t, p, 0, "the server did not answer");
}

static void announce(struct tw_turn *t, struct peer *p, bool bound)
{
    struct tw_turn_event *ev;
    if (!p->announced && (ev = turn_event(t, TW_TURN_PERMITTED)))
        ev->peer = p->addr;
    p->announced = true;
    if (bound && !p->bound_announced && (ev = turn_event(t, TW_TURN_BOUND)))
        ev->peer = p->addr;
    p->bound_announced = p->bound_announced || bound;
}

static void refused(struct tw_turn *t, struct peer *p, const struct tw_stun_msg *m)
{
    unsigned code = 0;
    struct tw_bytes reason;
    tw_stun_get_error(m, &code, &reason);
    const char *lost = turn_why_lost(code);
    if (lost)
        turn_lost(t, code, lost);
    else
        refuse(t, p, code, "the server refused the peer");
}

static void connected(struct tw_turn *t, struct peer *p, const struct tw_stun_msg *m)
{
    struct tw_turn_event *ev = turn_event(t, TW_TURN_CONNECTED);
    p->connecting = false;
    if (ev) {
        ev->peer = p->addr;
        tw_stun_get_u32(m, TW_STUN_A_CONNECTION_ID, &ev->connection);
    }
    if (p->keep && p->permitted_until <= t->now) /* asked for while this was on its way */
        turn_peer_start(t, p);
}

void turn_peer_response(struct tw_turn *t, struct peer *p, const struct tw_stun_msg *m)
{
    bool bind = m->method == TW_STUN_CHANNEL_BIND;
    if (!turn_judge(t, &p->rq, m))
        return;
    if (m->cls == TW_STUN_ERROR) {
        refused(t, p, m);
        return;
    }
    tw_stun_txn_stop(&p->rq.txn);
    if (p->connecting) {
        connected(t, p, m);
        return;
    }
    /* Counted from when the request left, so that we are never later than the server. */
    p->permitted_until = p->rq.txn.first + PERMISSION_SEC * TW_SEC;
    if (bind)
        p->bound_until = p->rq.txn.first + CHANNEL_SEC * TW_SEC;
    p->refresh_at = p->permitted_until - REFRESH_EARLY_SEC * TW_SEC;
    announce(t, p, bind);
    if (p->want_connect || (!bind && p->want_channel)) /* that was asked for while this was on its way */
        turn_peer_start(t, p);
}

tw_time turn_peer_deadline(const struct peer *p)
{
    return tw_time_min(p->rq.txn.due, p->keep ? p->refresh_at : TW_NEVER);
}
