/* Where packets leave from: sockets, connections, relayed addresses. */
#include "ice/internal.h"

bool ice_is_stream(const struct base *b)
{
    return b->kind == BASE_CONN;
}

/* A dead one that nothing points at any more, once there are many; NONE: there is none. */
static uint16_t unused_base(const struct tw_ice *a)
{
    enum { MANY = 32 };
    for (uint16_t i = 0; i < a->base_n && a->base_n >= MANY; i++) {
        bool used = a->bases[i].state != BASE_DEAD || a->bases[i].probe;
        for (uint16_t k = 0; k < a->base_n && !used; k++)
            used = a->bases[k].parent == i && a->bases[k].state != BASE_DEAD;
        for (uint16_t k = 0; k < a->pair_n && !used; k++)
            used = a->pairs[k].base == i || a->pairs[k].from == i;
        for (uint16_t k = 0; k < a->relay_n && !used; k++)
            used = a->relays[k].base == i;
        for (uint16_t k = 0; k < a->query_n && !used; k++)
            used = a->queries[k].base == i;
        for (uint16_t k = 0; k < a->nat.n && !used; k++)
            used = a->nat.samples[k].base == i;
        if (!used)
            return i;
    }
    return NONE;
}

uint16_t ice_base_add(struct tw_ice *a, enum base_kind kind, uint16_t comp,
                      const struct tw_addr *local)
{
    struct tw_addr at = *local; /* it may be another base's */
    uint16_t i = unused_base(a);
    if (i == NONE && !ICE_GROW(a, bases, base, MAX_BASES))
        return NONE;
    if (i == NONE)
        i = a->base_n++;
    a->bases[i] = (struct base){ .sock = a->next_sock++, .local = at, .comp = comp, .relay = NONE,
                                 .parent = NONE, .kind = (uint8_t)kind, .state = BASE_OPENING,
                                 .keep_at = TW_NEVER, .map_id = NONE8 };
    return i;
}

void ice_base_kill(struct tw_ice *a, uint16_t base)
{
    struct base *b = &a->bases[base];
    if (b->state == BASE_DEAD)
        return;
    ice_map_unbase(a, base);
    b->state = BASE_DEAD;
    b->keep_at = TW_NEVER;
    if (b->kind != BASE_RELAY)
        ice_note(a, TW_ICE_CLOSE, base, b->sock);
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].base == base && !a->queries[i].done)
            a->queries[i].done = a->queries[i].failed = true, tw_stun_txn_stop(&a->queries[i].txn);
    for (uint16_t i = 0; i < a->relay_n; i++) {
        struct relay *r = &a->relays[i];
        if (r->base != base || (r->failed && !r->turn))
            continue;
        ice_relay_over(a, i, 0,
                       b->kind != BASE_TURN ? "the interface to it is gone"
                       : r->turn            ? "the connection to it is over"
                                            : "no connection to it",
                       b->kind == BASE_TURN);
        tw_turn_free(r->turn);
        r->turn = NULL;
    }
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].base == base)
            ice_pair_fail(a, &a->pairs[i], "its interface is gone");
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->local_n; i++)
        if (a->locals[i].base != base)
            a->locals[kept++] = a->locals[i];
    a->local_n = kept;
}

uint16_t ice_base_order(const struct tw_ice *a, const struct base *b)
{
    bool metered = b->kind == BASE_RELAY && a->bases[a->relays[b->relay].base].order >= METERED;
    return (uint16_t)(b->order + (metered ? METERED : 0));
}

uint16_t ice_base_find(const struct tw_ice *a, const struct tw_datagram *in)
{
    for (uint16_t i = 0; i < a->base_n; i++) {
        const struct base *b = &a->bases[i];
        if (b->state != BASE_OPEN || b->kind == BASE_RELAY)
            continue;
        if (a->mux && b->kind == BASE_UDP && !b->exclusive ? tw_addr_eq(&b->local, &in->dst) : b->sock == in->sock)
            return i;
    }
    return NONE;
}

static uint16_t base_of(const struct tw_ice *a, uint32_t sock)
{
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].sock == sock && a->bases[i].state != BASE_DEAD &&
            a->bases[i].kind != BASE_RELAY)
            return i;
    return NONE;
}

void tw_ice_opened(struct tw_ice *a, tw_time now, uint32_t sock, int err,
                   const struct tw_addr *local)
{
    uint16_t i = base_of(a, sock);
    a->now = now;
    ice_tape(a->tape, now, "opened %u %d %A", sock, err, local);
    if (i == NONE || a->bases[i].state != BASE_OPENING)
        return;
    struct base *b = &a->bases[i];
    if (err) {
        if (b->kind == BASE_CONN)
            ice_check_refused(a, i);
        ice_base_kill(a, i);
        if (b->probe)
            ice_probe_opened(a, i);
        ice_gather_tick(a);
        return;
    }
    b->state = BASE_OPEN;
    b->local = *local;
    if (b->kind == BASE_TURN)
        ice_relay_opened(a, i);
    else if (b->probe)
        ice_probe_opened(a, i);
    else if (b->kind == BASE_CONN)
        ice_check_tick(a);
    else if (b->kind == BASE_CANARY)
        ice_lifetime_opened(a), ice_lifetime_tick(a);
    else if (b->kind == BASE_ASK)
        ice_query_add(a, i, &b->remote, NONE8, false), ice_gather_tick(a);
    else
        ice_gather_base(a, i);
}

void tw_ice_accepted(struct tw_ice *a, tw_time now, uint32_t listener, const struct tw_addr *remote,
                     enum tw_ice_via via, uint32_t *ret_sock)
{
    enum { MAX_UNPROVED = 16 };
    uint16_t l = base_of(a, listener);
    unsigned unproved = 0;
    a->now = now;
    *ret_sock = 0;
    ice_tape(a->tape, now, "accepted %u %A %u", listener, remote, (unsigned)via);
    for (uint16_t i = 0; i < a->base_n; i++)
        unproved += a->bases[i].kind == BASE_CONN && a->bases[i].state == BASE_OPEN;
    if (l == NONE || unproved >= MAX_UNPROVED || (a->cfg.vias && !(a->cfg.vias & 1U << via)))
        return;
    uint16_t i = ice_base_add(a, BASE_CONN, a->bases[l].comp, &a->bases[l].local);
    if (i == NONE)
        return;
    struct base *b = &a->bases[i];
    b->order = a->bases[l].order;
    b->via = (uint8_t)via;
    b->remote = ice_inwards(a, remote);
    b->state = BASE_OPEN;
    b->keep_at = now + PATIENCE; /* until then it must have sent a check */
    *ret_sock = b->sock;
}

bool tw_ice_listener(const struct tw_ice *a, uint32_t *ret_sock)
{
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].kind == BASE_LISTEN && a->bases[i].state == BASE_OPEN) {
            *ret_sock = a->bases[i].sock;
            return true;
        }
    return false;
}

void tw_ice_disconnected(struct tw_ice *a, tw_time now, uint32_t sock)
{
    uint16_t i = base_of(a, sock);
    a->now = now;
    ice_tape(a->tape, now, "disconnected %u", sock);
    if (i != NONE)
        ice_base_kill(a, i);
}

void tw_ice_waits(struct tw_ice *a, tw_time now, uint32_t sock, tw_time wait)
{
    uint16_t i = base_of(a, sock);
    a->now = now;
    ice_tape(a->tape, now, "waits %u %u", sock, (unsigned)(wait / TW_USEC));
    if (i != NONE)
        a->bases[i].waits = wait;
}
