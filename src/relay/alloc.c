/* The tables: allocations, relay sockets and reservations, and how they end. */
#include "relay/internal.h"

#include <stdlib.h>

/* --- allocations by 5-tuple --------------------------------------------------------------- */

bool relay_on_path(const struct path *p, const struct tw_datagram *in)
{
    return p->listener == in->sock && tw_addr_eq(&p->client, &in->src) &&
           tw_addr_eq(&p->local, &in->dst);
}

struct path relay_path(const struct tw_relay *r, const struct tw_datagram *in)
{
    return (struct path){ in->src, in->dst, in->sock, r->from_worker };
}

static bool eq_client(const void *item, const void *key)
{
    return relay_on_path(&((const struct alloc *)item)->path, key);
}

uint32_t relay_hash_addr(const struct tw_relay *r, const struct tw_addr *a)
{
    return (uint32_t)tw_hash(&r->hash_key, a, sizeof(*a));
}

struct alloc *relay_find(struct tw_relay *r, const struct tw_datagram *in)
{
    if (r->last && relay_on_path(&r->last->path, in))
        return r->last;
    struct alloc *a = tw_map_get(&r->by_client, relay_hash_addr(r, &in->src), eq_client, in);
    if (a)
        r->last = a;
    return a;
}

/* NULL: no memory or too many. */
struct alloc *relay_alloc_new(struct tw_relay *r, const struct tw_datagram *in)
{
    if (tw_timers_reserve(&r->alloc_timers, r->by_client.len + 1))
        return NULL;
    struct alloc *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    a->path = relay_path(r, in);
    a->hash = relay_hash_addr(r, &in->src);
    if (tw_map_put(&r->by_client, a->hash, a)) {
        free(a);
        return NULL;
    }
    /* Until it is live: in case the runtime never answers OPEN. */
    tw_timers_set(&r->alloc_timers, &a->timer, tw_time_add(r->now, OPENING_SEC * TW_SEC));
    return a;
}

void relay_release(struct tw_relay *r, struct alloc *a, const char *why)
{
    char client[TW_ADDR_STRLEN];
    if (r->env.trace.emit)
        tw_trace(&r->env.trace, r->now, TW_DEBUG,
                 "allocation of %s ended (%s): %llu packets up, %llu down",
                 tw_addr_format(&a->path.client, client), why, (unsigned long long)a->up_packets,
                 (unsigned long long)a->down_packets);
    for (int f = 0; f < FAMILIES; f++)
        if (a->rs[f])
            relay_sock_free(r, a->rs[f]);
    if (a->pending_reservation)
        relay_reservation_free(r, a->pending_reservation, false);
    while (a->connections)
        relay_connection_free(r, a->connections);
    if (a->mobile) {
        relay_forget_move(r, a);
        tw_map_del(&r->by_ticket, a->ticket_serial, a);
    }
    if (a->quota)
        tw_relay_quota_give(r->shared, a->quota);
    if (a->state == ALLOC_LIVE)
        r->stats.allocations_ended++;
    relay_foreign_gone(r, &a->path);
    tw_timers_set(&r->alloc_timers, &a->timer, TW_NEVER);
    tw_map_del(&r->by_client, a->hash, a);
    if (r->last == a)
        r->last = NULL;
    free(a->pending_auth);
    free(a->perms);
    free(a->chans);
    free(a);
}

/* --- relay sockets ------------------------------------------------------------------------ */

struct rsock *relay_sock(const struct tw_relay *r, uint32_t id)
{
    uint32_t i = id - TW_RELAY_FIRST_SOCK;
    return id >= TW_RELAY_FIRST_SOCK && i < r->sock_cap ? r->socks[i] : NULL;
}

static int grow_socks(struct tw_relay *r)
{
    uint32_t cap = r->sock_cap ? 2 * r->sock_cap : 64;
    struct rsock **socks = realloc(r->socks, cap * sizeof(*socks));
    if (!socks)
        return TW_ENOMEM;
    memset(socks + r->sock_cap, 0, (cap - r->sock_cap) * sizeof(*socks));
    r->socks = socks;
    r->sock_cap = cap;
    return 0;
}

/* The place of a free id. sock_free is at or below the lowest free one. */
static int free_place(struct tw_relay *r, uint32_t *ret)
{
    while (r->sock_free < r->sock_cap && r->socks[r->sock_free])
        r->sock_free++;
    if (r->sock_free == r->sock_cap && grow_socks(r))
        return TW_ENOMEM;
    *ret = r->sock_free;
    return 0;
}

static struct rsock *sock_new(struct tw_relay *r)
{
    uint32_t place;
    struct rsock *rs = free_place(r, &place) ? NULL : calloc(1, sizeof(*rs));
    if (!rs)
        return NULL;
    rs->id = TW_RELAY_FIRST_SOCK + place;
    r->socks[place] = rs;
    return rs;
}

/* An rsock for a port that this worker has already taken. NULL: no memory, port given back. */
struct rsock *relay_sock_new(struct tw_relay *r, uint32_t relay, uint16_t port)
{
    struct rsock *rs = sock_new(r);
    if (!rs) {
        tw_relay_port_give(r->shared, relay, port);
        return NULL;
    }
    rs->relay = (uint8_t)relay;
    rs->addr = r->shared->ports[relay].ip;
    rs->told = r->shared->ports[relay].told;
    rs->addr.port = rs->told.port = port;
    return rs;
}

/* A connection of a TCP relayed address. NULL: no memory. */
struct rsock *relay_sock_new_connection(struct tw_relay *r, const struct rsock *from,
                                        struct connection *c)
{
    struct rsock *rs = sock_new(r);
    if (!rs)
        return NULL;
    rs->relay = from->relay;
    rs->addr = from->addr;
    rs->told = from->told;
    rs->tcp = rs->connection = true;
    rs->conn = c;
    return rs;
}

void relay_sock_free(struct tw_relay *r, struct rsock *rs)
{
    uint32_t place = rs->id - TW_RELAY_FIRST_SOCK;
    rs->owner = NULL;
    if (rs->asked) { /* tw_relay_opened() will finish it */
        rs->given_up = true;
        return;
    }
    if (rs->open) {
        if (!rs->connection)
            tw_map_del(&r->by_relayed, rs->hash, rs);
        relay_event(r, TW_RELAY_CLOSE)->sock = rs->id;
    }
    if (!rs->connection)
        tw_relay_port_give(r->shared, rs->relay, rs->addr.port);
    r->socks[place] = NULL;
    if (place < r->sock_free)
        r->sock_free = place;
    free(rs);
}

/* The runtime has bound it. False: no room in the table. */
bool relay_sock_open(struct tw_relay *r, struct rsock *rs)
{
    if (rs->connection) {
        rs->open = true;
        return true;
    }
    rs->hash = relay_hash_addr(r, &rs->told);
    if (tw_map_put(&r->by_relayed, rs->hash, rs)) {
        relay_event(r, TW_RELAY_CLOSE)->sock = rs->id;
        return false;
    }
    rs->open = true;
    return true;
}

static bool eq_told(const void *item, const void *key)
{
    const struct rsock *rs = item;
    return tw_addr_eq(&rs->told, key);
}

struct rsock *relay_sock_by_told(struct tw_relay *r, const struct tw_addr *told)
{
    return tw_map_get(&r->by_relayed, relay_hash_addr(r, told), eq_told, told);
}

/* Which of our relay addresses this IP is, as it is told or as it is bound; -1: none. */
int relay_own_index(const struct tw_relay *r, const struct tw_addr *ip)
{
    for (uint32_t i = 0; i < r->shared->relay_n; i++)
        if (tw_addr_eq_ip(&r->shared->ports[i].told, ip) ||
            tw_addr_eq_ip(&r->shared->ports[i].ip, ip))
            return (int)i;
    return -1;
}

/* --- reservations ------------------------------------------------------------------------- */

void relay_reservation_free(struct tw_relay *r, struct reservation *v, bool keep_sock)
{
    for (struct reservation **p = &r->reservations; *p; p = &(*p)->next)
        if (*p == v) {
            *p = v->next;
            break;
        }
    tw_timers_set(&r->reservation_timers, &v->timer, TW_NEVER);
    if (!keep_sock)
        relay_sock_free(r, v->rs);
    free(v);
}
