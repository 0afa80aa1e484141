/* Port mappings: a machine for each address of ours behind a gateway, as children of the agent. */
#include "ice/internal.h"

/* An answer of a gateway that gives mappings is there at once; for its sake the end of gathering waits
 * so long, and no longer. */
static const tw_time HEAD_START = 150 * TW_MSEC;

static struct gateway *gateway_of(struct tw_ice *a, const struct base *b)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        if (tw_addr_eq_ip(&a->gateways[i].local, &b->local))
            return &a->gateways[i];
    return NULL;
}

static bool is_of_use(const struct tw_ice *a, const struct base *b)
{
    return !a->mux && !a->cfg.no_mapping && a->cfg.policy != TW_ICE_RELAY_ONLY && !a->cfg.lite &&
           b->kind <= BASE_LISTEN && !b->probe && b->state == BASE_OPEN &&
           !tw_addr_is_loopback(&b->local) && !tw_addr_is_link_local(&b->local) &&
           (b->local.family == TW_FAMILY_V6 || ice_is_private(&b->local));
}

static void map(struct tw_ice *a, struct gateway *g, uint16_t base)
{
    struct base *b = &a->bases[base];
    unsigned id;
    if (b->map_id == NONE8 && is_of_use(a, b) &&
        !tw_portmap_add(g->map, a->now, b->kind == BASE_LISTEN, b->local.port, &id))
        b->map_id = (uint8_t)id;
}

static const struct tw_addr nowhere = { .family = TW_FAMILY_NONE };

static void set_mapped(struct tw_ice *a, uint16_t base, const struct tw_addr *outside)
{
    struct base *b = &a->bases[base];
    if (tw_addr_eq(&b->mapped, outside))
        return;
    if (b->mapped.family)
        ice_local_forget(a, base, &b->mapped);
    b->mapped = *outside;
    if (outside->family)
        ice_local_add(a, base, TW_ICE_SRFLX, outside, NULL);
}

/* The first UDP socket of an address speaks for all of them. */
static struct gateway *begin(struct tw_ice *a, uint16_t base)
{
    const struct base *b = &a->bases[base];
    if (b->kind != BASE_UDP || !b->gateway.family || a->gateway_n == MAX_GATEWAYS)
        return NULL;
    struct gateway *g = &a->gateways[a->gateway_n];
    struct tw_portmap_config cfg = { .gateway = b->gateway, .local = b->local, .sock = b->sock };
    *g = (struct gateway){ .base = base, .local = tw_addr_ip_only(&b->local), .began = a->now,
                           .server = b->gateway };
    g->server.port = TW_PORTMAP_PORT;
    if (tw_portmap_new(&cfg, &a->env, &g->map))
        return NULL;
    a->gateway_n++;
    return g;
}

static void take_events(struct tw_ice *a);

void ice_map_base(struct tw_ice *a, uint16_t base)
{
    struct base *b = &a->bases[base];
    if (!is_of_use(a, b))
        return;
    struct gateway *g = gateway_of(a, b);
    if (!g)
        g = begin(a, base);
    if (!g) { /* no gateway is known; or its machine waits for a UDP socket */
        if ((!b->gateway.family || a->cfg.no_udp) && b->local.family == TW_FAMILY_V4)
            ice_note(a, TW_ICE_MAP, base, b->sock);
        return;
    }
    for (uint16_t i = 0; i < a->base_n; i++)
        if (tw_addr_eq_ip(&a->bases[i].local, &g->local))
            map(a, g, i);
    take_events(a);
}

void ice_map_unbase(struct tw_ice *a, uint16_t base)
{
    struct base *b = &a->bases[base];
    struct gateway *g = gateway_of(a, b);
    if (!g)
        return;
    if (b->map_id != NONE8) {
        tw_portmap_remove(g->map, a->now, b->map_id);
        set_mapped(a, base, &nowhere);
    }
    b->map_id = NONE8;
    if (g->base != base)
        return;
    for (uint16_t i = 0; i < a->base_n; i++)
        if (tw_addr_eq_ip(&a->bases[i].local, &g->local))
            a->bases[i].map_id = NONE8;
    tw_portmap_free(g->map); /* its socket is gone; what was mapped ends with its time */
    *g = a->gateways[--a->gateway_n];
}

/* --- what comes of it ----------------------------------------------------------------------------- */

void tw_ice_mapped(struct tw_ice *a, tw_time now, uint32_t sock, const struct tw_addr *outside)
{
    a->now = now;
    ice_tape(a->tape, now, "mapped %u %A", sock, outside);
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].sock == sock && a->bases[b].state == BASE_OPEN)
            set_mapped(a, b, outside);
}

static uint16_t base_mapped_as(const struct tw_ice *a, const struct gateway *g, unsigned id)
{
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].map_id == id && a->bases[i].state == BASE_OPEN &&
            tw_addr_eq_ip(&a->bases[i].local, &g->local))
            return i;
    return NONE;
}

static void on_event(struct tw_ice *a, struct gateway *g, const struct tw_portmap_event *ev)
{
    uint16_t base = ev->type == TW_PORTMAP_CLOSED ? NONE : base_mapped_as(a, g, ev->id);
    if (base == NONE)
        return;
    switch (ev->type) {
    case TW_PORTMAP_MAPPED:
        set_mapped(a, base, &ev->outside);
        break;
    case TW_PORTMAP_LOST:
        set_mapped(a, base, &nowhere);
        break;
    default:
        g->why = ev->why;
        if (a->bases[base].local.family == TW_FAMILY_V4)
            ice_note(a, TW_ICE_MAP, base, a->bases[base].sock);
        break;
    }
}

static void take_events(struct tw_ice *a)
{
    struct tw_portmap_event ev;
    for (uint8_t i = 0; i < a->gateway_n; i++)
        while (tw_portmap_poll_event(a->gateways[i].map, &ev))
            on_event(a, &a->gateways[i], &ev);
}

bool ice_map_recv(struct tw_ice *a, uint16_t base, const struct tw_datagram *in)
{
    for (uint8_t i = 0; i < a->gateway_n; i++) {
        struct gateway *g = &a->gateways[i];
        if (g->base != base || !tw_addr_eq(&in->src, &g->server))
            continue;
        (void)!tw_portmap_recv(g->map, a->now, in);
        take_events(a);
        ice_gather_tick(a);
        return true;
    }
    return false;
}

bool ice_map_tx(struct tw_ice *a, struct tw_datagram *ret_out)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        if (tw_portmap_poll_tx(a->gateways[i].map, ret_out)) {
            ret_out->src = a->bases[a->gateways[i].base].local;
            return true;
        }
    return false;
}

void ice_map_tick(struct tw_ice *a)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        tw_portmap_tick(a->gateways[i].map, a->now);
    take_events(a);
}

void ice_map_refresh(struct tw_ice *a)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        tw_portmap_refresh(a->gateways[i].map, a->now);
}

void ice_map_close(struct tw_ice *a)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        tw_portmap_close(a->gateways[i].map, a->now);
}

bool ice_map_pending(const struct tw_ice *a)
{
    for (uint8_t i = 0; i < a->gateway_n; i++)
        if (tw_portmap_pending(a->gateways[i].map) &&
            (a->closing || a->now < a->gateways[i].began + HEAD_START))
            return true;
    return false;
}

tw_time ice_map_deadline(const struct tw_ice *a)
{
    tw_time at = TW_NEVER;
    for (uint8_t i = 0; i < a->gateway_n; i++) {
        const struct gateway *g = &a->gateways[i];
        at = tw_time_min(at, tw_portmap_deadline(g->map));
        if (a->gathering && a->now < g->began + HEAD_START)
            at = tw_time_min(at, g->began + HEAD_START);
    }
    return at;
}
