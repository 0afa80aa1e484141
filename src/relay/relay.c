/* The machine's doors. */
#include "relay/internal.h"

#include <stdlib.h>

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v ? v : otherwise;
}

static void fill_defaults(struct tw_relay_config *c)
{
    c->min_port = (uint16_t)or_default(c->min_port, 49152);
    c->max_port = (uint16_t)or_default(c->max_port, 65535);
    c->default_lifetime = or_default(c->default_lifetime, 600);
    c->max_lifetime = or_default(c->max_lifetime, 3600);
    c->permission_lifetime = or_default(c->permission_lifetime, 300);
    c->channel_lifetime = or_default(c->channel_lifetime, 600);
    c->nonce_lifetime = or_default(c->nonce_lifetime, 600);
    c->max_allocations = or_default(c->max_allocations, 1000000);
    c->budget.rate = or_default(c->budget.rate, 20);
    c->budget.burst = or_default(c->budget.burst, 100);
    c->budget.total = or_default(c->budget.total, 10000);
}

static bool config_fits(const struct tw_relay_config *c, const struct tw_relay_shared *s)
{
    if (c->listener_n > TW_RELAY_MAX_LISTENERS || c->relay_n != s->relay_n ||
        c->min_port > c->max_port || (c->relay_n == 0 && !c->no_turn) || c->behaviour_n > 2)
        return false;
    for (uint32_t i = 0; i < c->behaviour_n; i++)
        for (int k = 0; k < 4; k++)
            if (c->behaviour[i].listener[k / 2][k % 2] >= c->listener_n)
                return false;
    for (uint32_t i = 0; i < c->relay_n; i++)
        if (!tw_addr_eq_ip(&c->relays[i].ip, &s->ports[i].ip))
            return false;
    return true;
}

int tw_relay_configure(struct tw_relay *r, const struct tw_relay_config *cfg)
{
    struct tw_relay_config c = *cfg;
    fill_defaults(&c);
    if (!config_fits(&c, r->shared))
        return TW_EINVAL;
    r->config = c;
    r->by_client.max = c.max_allocations;
    r->by_relayed.max = 2 * c.max_allocations;
    r->by_ticket.max = c.max_allocations;
    r->by_connection.max = c.max_allocations;
    return 0;
}

int tw_relay_new(const struct tw_relay_config *cfg, struct tw_relay_shared *shared,
                 const struct tw_env *env, uint32_t worker, uint32_t workers,
                 struct tw_relay **ret_relay)
{
    if (worker >= workers || workers > TW_RELAY_MAX_WORKERS)
        return TW_EINVAL;
    struct tw_relay *r = calloc(1, sizeof(*r));
    if (!r)
        return TW_ENOMEM;
    r->cfg = &r->config;
    r->shared = shared;
    r->env = *env;
    r->worker = worker;
    r->workers = workers;
    tw_hash_key_init(&r->hash_key, &env->rng);
    tw_map_init(&r->by_client, 0);
    tw_map_init(&r->by_relayed, 0);
    tw_map_init(&r->by_foreign, MAX_FOREIGN);
    tw_map_init(&r->by_connection, 0);
    tw_map_init(&r->by_ticket, 0);
    tw_timers_init(&r->alloc_timers);
    tw_timers_init(&r->reservation_timers);
    tw_timers_init(&r->foreign_timers);
    tw_timers_init(&r->connection_timers);
    int err = tw_relay_configure(r, cfg);
    if (err) {
        free(r);
        return err;
    }
    *ret_relay = r;
    return 0;
}

static void free_all(struct tw_relay *r)
{
    for (struct tw_timer *t; (t = tw_timers_pop(&r->alloc_timers, TW_NEVER));) {
        r->event_n = r->event_at = 0; /* nobody will look at them */
        r->handover_n = r->handover_at = 0;
        relay_release(r, (struct alloc *)(void *)t, "the server stops");
    }
    while (r->reservations) {
        r->event_n = r->event_at = 0;
        relay_reservation_free(r, r->reservations, false);
    }
    for (struct tw_timer *t; (t = tw_timers_pop(&r->foreign_timers, TW_NEVER));)
        relay_foreign_drop(r, (struct foreign *)(void *)t);
    for (uint32_t i = 0; i < r->sock_cap; i++)
        free(r->socks[i]); /* those still being opened */
}

void tw_relay_free(struct tw_relay *r)
{
    if (!r)
        return;
    free_all(r);
    tw_map_fini(&r->by_client);
    tw_map_fini(&r->by_relayed);
    tw_map_fini(&r->by_foreign);
    tw_map_fini(&r->by_connection);
    tw_map_fini(&r->by_ticket);
    tw_timers_fini(&r->alloc_timers);
    tw_timers_fini(&r->reservation_timers);
    tw_timers_fini(&r->foreign_timers);
    tw_timers_fini(&r->connection_timers);
    free(r->socks);
    free(r);
}

/* What ends many things at once must have room for all their CLOSE events. */
static bool room_to_release(const struct tw_relay *r)
{
    return relay_events_free(r, EVENTS_PER_RELEASE);
}

static void enter(struct tw_relay *r, tw_time now)
{
    r->now = now;
    relay_reset_out(r);
}

void tw_relay_recv(struct tw_relay *r, tw_time now, const struct tw_datagram *in)
{
    enter(r, now);
    r->from_worker = r->worker;
    if (in->iov_n != 1) {
        r->stats.drop_malformed++;
        return;
    }
    if (in->sock < TW_RELAY_FIRST_SOCK || is_connection(in->sock)) {
        relay_from_client(r, in);
        return;
    }
    struct rsock *rs = relay_sock(r, in->sock);
    if (rs && !rs->tcp)
        relay_from_peer(r, rs, in, false);
    else
        r->stats.drop_no_allocation++;
}

/* RFC 8656 §3.1, RFC 6062 §4.1: an allocation ends with the connection it was made over, unless its
 * client may come back from elsewhere (RFC 8016). */
static void client_left(struct tw_relay *r, const struct tw_datagram *d)
{
    struct alloc *a = relay_find(r, d);
    if (a && !a->mobile)
        relay_release(r, a, "its connection closed");
}

void tw_relay_recv_handover(struct tw_relay *r, tw_time now, const struct tw_relay_handover *h)
{
    struct rsock *rs;
    struct foreign *f;
    enter(r, now);
    r->from_worker = h->from;
    switch (h->type) {
    case TW_RELAY_HANDOVER_DATA:
        rs = relay_sock_by_told(r, &h->d.dst);
        if (rs && h->d.iov_n == 1)
            relay_from_peer(r, rs, &h->d, true);
        else
            r->stats.drop_handover++;
        break;
    case TW_RELAY_HANDOVER_CLIENT:
        if (h->d.iov_n == 1)
            relay_from_client(r, &h->d);
        break;
    case TW_RELAY_HANDOVER_GONE:
        f = relay_foreign_find(r, &h->d);
        if (f)
            relay_foreign_drop(r, f);
        break;
    case TW_RELAY_HANDOVER_LEFT:
        client_left(r, &h->d);
        break;
    case TW_RELAY_HANDOVER_ELDER:
        break; /* goes to another process, see there */
    }
}

void tw_relay_disconnected(struct tw_relay *r, tw_time now, uint32_t conn,
                           const struct tw_addr *client, const struct tw_addr *local)
{
    const struct tw_datagram d = { .sock = conn, .src = *client, .dst = *local };
    enter(r, now);
    r->from_worker = r->worker;
    struct foreign *f = relay_foreign_find(r, &d);
    if (f && !f->alloc) {
        struct tw_datagram *h = relay_handover(r, TW_RELAY_HANDOVER_LEFT, f->worker);
        if (h) {
            h->sock = conn;
            h->src = *client;
            h->dst = *local;
        }
    }
    if (f)
        relay_foreign_drop(r, f);
    else
        client_left(r, &d);
}

void tw_relay_icmp(struct tw_relay *r, tw_time now, uint32_t sock, const struct tw_addr *peer,
                   uint8_t type, uint8_t code, uint32_t data)
{
    struct rsock *rs = relay_sock(r, sock);
    uint8_t value[8] = { 0 };
    enter(r, now);
    if (!rs || !rs->owner || rs->owner->state != ALLOC_LIVE)
        return;
    /* RFC 8656 §11.5: only for peers the client has a permission for. */
    if (!relay_permitted(r, rs->owner, peer)) {
        r->stats.drop_no_permission++;
        return;
    }
    /* RFC 8656 §18.13: 16 reserved bits, 7 of type, 9 of code, 32 of data. */
    tw_put_u16(value + 2, (uint16_t)((type & 0x7f) << 9 | code));
    tw_put_u32(value + 4, data);
    r->stats.icmp_relayed++;
    relay_data_indication(r, rs->owner, peer, tw_bytes(value, sizeof(value)), NULL,
                          tw_bytes(NULL, 0));
}

void tw_relay_flow_report(struct tw_relay *r, uint32_t sock, uint64_t up_packets, uint64_t up_bytes,
                          uint64_t down_packets, uint64_t down_bytes, tw_time last_seen)
{
    struct rsock *rs = relay_sock(r, sock);
    (void)last_seen; /* nothing here expires by idleness: RFC 8656 lifetimes are absolute */
    if (!rs || !rs->owner)
        return;
    rs->owner->up_packets += up_packets;
    rs->owner->up_bytes += up_bytes;
    rs->owner->down_packets += down_packets;
    rs->owner->down_bytes += down_bytes;
    r->stats.up_packets += up_packets;
    r->stats.up_bytes += up_bytes;
    r->stats.down_packets += down_packets;
    r->stats.down_bytes += down_bytes;
}

void tw_relay_tick(struct tw_relay *r, tw_time now)
{
    enter(r, now);
    /* What does not fit the event queue stays due: the deadline remains in the past. */
    while (room_to_release(r)) {
        struct tw_timer *t = tw_timers_pop(&r->alloc_timers, now);
        if (!t)
            break;
        relay_release(r, (struct alloc *)(void *)t, "it expired");
    }
    while (relay_events_free(r, EVENTS_PER_REQUEST)) {
        struct tw_timer *t = tw_timers_pop(&r->reservation_timers, now);
        if (!t)
            break;
        relay_reservation_free(r, (struct reservation *)(void *)t, false);
    }
    while (relay_events_free(r, EVENTS_PER_REQUEST)) {
        struct tw_timer *t = tw_timers_pop(&r->connection_timers, now);
        if (!t)
            break;
        relay_connection_expired(r, (struct connection *)(void *)t);
    }
    for (struct tw_timer *t; (t = tw_timers_pop(&r->foreign_timers, now));)
        relay_foreign_drop(r, (struct foreign *)(void *)t);
}

tw_time tw_relay_deadline(const struct tw_relay *r)
{
    return tw_time_min(tw_timers_next(&r->alloc_timers),
                       tw_time_min(tw_time_min(tw_timers_next(&r->reservation_timers),
                                               tw_timers_next(&r->connection_timers)),
                                   tw_timers_next(&r->foreign_timers)));
}

const struct tw_relay_stats *tw_relay_stats(const struct tw_relay *r)
{
    return &r->stats;
}

uint32_t tw_relay_allocations(const struct tw_relay *r)
{
    return r->by_client.len;
}
