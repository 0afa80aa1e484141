/* A connection to a peer: its agent, its beginning and end, and who in it is told what. */
#include <sodium.h>
#include <stdlib.h>

#include "endpoint/internal.h"

#define END_WITHIN (500 * TW_MSEC)

/* --- agents ----------------------------------------------------------------------------------------- */

/* What a request for a WebSocket must name to get through to this agent. */
static const char *new_web_token(struct conn *c)
{
    uint8_t random[(sizeof(c->web) - 1) / 2];
    ep_random(c->e, random, sizeof(random));
    sodium_bin2hex(c->web, sizeof(c->web), random, sizeof(random));
    return c->web;
}

static void write_tape(void *ctx, const char *line)
{
    const struct conn *c = ctx;
    c->e->cfg.trace(c->e->cfg.trace_ctx, c->trace, TW_TRACE_TAPE, line, strlen(line));
}

static int new_agent(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    struct tw_ice_config cfg = e->cfg.ice;
    cfg.servers = NULL;
    cfg.server_n = 0;
    cfg.own_peer = true;
    cfg.no_udp = cfg.no_udp || !(ep_has_rung(e, TW_RUNG_UDP) || ep_has_rung(e, TW_RUNG_STUN) ||
                                 ep_has_rung(e, TW_RUNG_RELAY));
    cfg.vias = (unsigned)ep_has_rung(e, TW_RUNG_TCP) << TW_ICE_VIA_TCP | (unsigned)ep_has_rung(e, TW_RUNG_HTTP) << TW_ICE_VIA_HTTP |
               (unsigned)ep_has_rung(e, TW_RUNG_HTTPS) << TW_ICE_VIA_HTTPS;
    cfg.tcp = cfg.tcp && cfg.vias;
    memcpy(cfg.web_ports, e->web_ports, sizeof(cfg.web_ports));
    cfg.web = new_web_token(c);
    if (!ep_has_rung(e, TW_RUNG_UDP) && !ep_has_rung(e, TW_RUNG_STUN) && !cfg.vias)
        cfg.policy = TW_ICE_RELAY_ONLY;
    cfg.lite = cfg.foreign = cfg.controlling = false;
    cfg.streams = cfg.components = 1;
    cfg.mux = NULL;
    cfg.tape = (struct tw_ice_tape){ .write = e->cfg.trace ? write_tape : NULL, .ctx = c };
    int err = tw_ice_new(&cfg, &e->env, &c->ice);
    err = err ? err : ep_learn_servers(c);
    if (err)
        return err;
    if (e->has_nat64)
        tw_ice_nat64(c->ice, e->now, &e->nat64);
    return tw_ice_interfaces(c->ice, e->now, e->interfaces, e->interface_n);
}

struct conn *ep_conn_new(struct tw_endpoint *e)
{
    uint16_t slot = 0;
    while (slot < e->slot_n && e->slots[slot])
        slot++;
    struct conn *c = slot < e->slot_n ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    c->e = e;
    c->slot = slot;
    c->trace = ++e->next_trace;
    c->give_up_at = TW_NEVER;
    tw_mtu_reset(&c->mtu, e->now, false, (const uint8_t[8]){ 0 });
    c->again_at = c->elsewhere_at = TW_NEVER;
    e->slots[slot] = c;
    e->conn_n++;
    if (tw_timers_reserve(&e->timers, e->conn_n) || new_agent(c)) {
        ep_conn_free(c);
        return NULL;
    }
    return c;
}

void ep_conn_free(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    for (struct conn **at = &e->tx; *at; at = &(*at)->next_tx)
        if (*at == c) {
            *at = c->next_tx;
            if (e->tx_tail == &c->next_tx)
                e->tx_tail = at;
            break;
        }
    for (struct conn **at = &e->ev; *at; at = &(*at)->next_ev)
        if (*at == c) {
            *at = c->next_ev;
            if (e->ev_tail == &c->next_ev)
                e->ev_tail = at;
            break;
        }
    tw_timers_set(&e->timers, &c->timer, TW_NEVER);
    if (e->spare == c)
        e->spare = NULL;
    e->slots[c->slot] = NULL;
    tw_map_del(&e->by_id, tw_map_hash_number(c->id), c);
    ep_call_unlist(c);
    e->conn_n--;
    tw_secure_free(c->secure);
    tw_ice_free(c->ice);
    ep_push(e, TW_EP_ICE_END)->sock = (uint32_t)c->slot << SOCK_BITS;
    free(c->early);
    free(c->early_in);
    free(c->flight);
    free(c->ticket);
    sodium_memzero(c, sizeof(*c));
    free(c);
}

static bool has_id(const void *item, const void *key)
{
    return ((const struct conn *)item)->id == *(const uint32_t *)key;
}

struct conn *ep_conn_find(const struct tw_endpoint *e, uint32_t id)
{
    return tw_map_get(&e->by_id, tw_map_hash_number(id), has_id, &id);
}

struct conn *ep_conn_of_sock(const struct tw_endpoint *e, uint32_t sock)
{
    uint32_t slot = sock >> SOCK_BITS;
    return slot < e->slot_n ? e->slots[slot] : NULL;
}

void ep_conn_spare(struct tw_endpoint *e, bool anew)
{
    if (e->closing || e->interface_n == 0)
        return;
    if (e->spare && anew && e->spare->server_n) { /* the others learn */
        ep_conn_over(e->spare, 0, NULL, false);
        e->spare = NULL;
    }
    if (!e->spare && e->conn_n < e->slot_n) {
        e->spare = ep_conn_new(e);
        if (e->spare)
            ep_conn_stir(e->spare);
    }
}

struct conn *ep_conn_take(struct tw_endpoint *e)
{
    struct conn *c = e->spare ? e->spare : ep_conn_new(e);
    e->spare = NULL;
    if (!c)
        return NULL;
    if (tw_map_put(&e->by_id, tw_map_hash_number(e->next_conn + 1), c)) {
        ep_conn_free(c);
        return NULL;
    }
    c->id = ++e->next_conn;
    return c;
}
/* --- the end ---------------------------------------------------------------------------------------- */

void ep_conn_over(struct conn *c, uint64_t code, const char *why, bool by_peer)
{
    struct tw_endpoint *e = c->e;
    if (c->state == CONN_ENDING)
        return;
    ep_call_drop(c, code == TW_ENDPOINT_CODE_REFUSED ? TW_RDV_REFUSED : TW_RDV_HUNG_UP);
    c->state = CONN_ENDING;
    c->code = code;
    c->why = why;
    c->by_peer = by_peer;
    c->give_up_at = e->now + END_WITHIN;
    tw_ice_close(c->ice, e->now);
    ep_conn_stir(c);
}

void tw_endpoint_hangup(struct tw_endpoint *e, tw_time now, uint32_t conn, uint64_t code, const char *reason)
{
    struct conn *c = ep_conn_find(e, conn);
    e->now = now;
    if (!c || c->state == CONN_ENDING)
        return;
    c->leaving = c->secure && (c->path.rung != TW_RUNG_NONE || c->connected);
    if (c->leaving)
        tw_secure_close(c->secure, now, code, reason); /* its CLOSED ends the rest */
    else
        ep_conn_over(c, code, reason, false);
    ep_conn_stir(c);
}

/* --- the agent's events -------------------------------------------------------------------------------- */

static void surface(struct conn *c, const struct tw_ice_event *ev)
{
    struct tw_endpoint_event *out = ep_push(c->e, TW_EP_ICE);
    out->ice = *ev;
    out->ice.sock = ev->sock | (uint32_t)c->slot << SOCK_BITS;
    out->sock = out->ice.sock;
}

static void on_ice(struct conn *c, const struct tw_ice_event *ev)
{
    switch (ev->type) {
    case TW_ICE_OPEN:
    case TW_ICE_CLOSE:
    case TW_ICE_MAP:
        surface(c, ev);
        break;
    case TW_ICE_CANDIDATE:
        if (c->cand_n == TW_OFFER_CANDIDATES) /* there may be some of networks of before */
            c->call.cand_told = c->cand_n = tw_ice_candidates(c->ice, c->cands, TW_OFFER_CANDIDATES - 1);
        c->cands[c->cand_n++] = ev->candidate;
        break;
    case TW_ICE_GATHERED:
        c->gathered = true;
        break;
    case TW_ICE_CONNECTED:
    case TW_ICE_PATH:
        c->ice_up = true;
        ep_ticket_way(c);
        ep_conn_choose(c);
        break;
    case TW_ICE_DISCONNECTED:
        c->ice_up = false;
        ep_conn_choose(c);
        break;
    case TW_ICE_SILENCE:
        ep_conn_choose(c);
        break;
    case TW_ICE_DATA:
        ep_conn_recv(c, ev->data, ev->tos);
        break;
    case TW_ICE_CLOSED:
        if (c->state == CONN_ENDING)
            c->give_up_at = c->e->now;
        break;
    case TW_ICE_FAILED:
        break;
    }
}

void ep_conn_stir(struct conn *c)
{
    struct tw_ice_event ev;
    while (tw_ice_poll_event(c->ice, &ev))
        on_ice(c, &ev);
    if (c->state == CONN_TICKET && c->gathered)
        ep_ticket_tell(c);
    ep_tell_candidates(c);
    ep_look_alive(c);
    ep_again_look(c);
    ep_call_list(c);
    ep_conn_arm(c);
    ep_mark(c);
}

/* QUIC, without a way, would take each of its timers for a loss. */
static bool has_way(const struct conn *c)
{
    return c->secure && (c->path.rung != TW_RUNG_NONE || c->leaving);
}

void ep_conn_arm(struct conn *c)
{
    tw_time at = tw_time_min(tw_time_min(tw_ice_deadline(c->ice), c->give_up_at), tw_time_min(c->again_at, c->elsewhere_at));
    if (has_way(c))
        at = tw_time_min(at, tw_secure_deadline(c->secure));
    if (c->ice_up && c->connected)
        at = tw_time_min(at, tw_mtu_deadline(&c->mtu));
    /* What is due by now may be so until it has been sent: once in a tick is enough. */
    tw_timers_set(&c->e->timers, &c->timer, at > c->e->now ? at : c->e->now + 1);
}

static void give_up(struct conn *c)
{
    c->give_up_at = TW_NEVER;
    if (c->state == CONN_TICKET)
        ep_ticket_tell(c);
    else if (c->by_hand && !c->connected)
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST,
                     c->state == CONN_CALLING ? "the ticket has expired, and there was no answer to it"
                                              : "no way to the other side was found", false);
    else if (c->state == CONN_LINKING && !c->call.link)
        ep_conn_over(c, TW_ENDPOINT_CODE_ABSENT,
                     "nobody in this network has that key, and no server is known at which it may be", false);
    else if (c->state == CONN_LINKING)
        ep_call_failed(c, TW_ENDPOINT_CODE_SERVER, c->call.link && c->call.link->why ? c->call.link->why
                                                                     : "the server could not be reached in 15 s");
    else
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST,
                     c->connected ? "no way to the other side was found in ten minutes"
                                  : "the other side did not answer in 20 s", false);
}

void ep_conn_tick(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    tw_ice_tick(c->ice, e->now);
    if (has_way(c))
        tw_secure_tick(c->secure, e->now);
    if (c->state == CONN_ENDING && e->now >= c->give_up_at) {
        struct tw_ice_event ev;
        while (tw_ice_poll_event(c->ice, &ev)) /* what else it says */
            on_ice(c, &ev);
        c->give_up_at = 0; /* told, it goes: tw_endpoint_poll_event() */
        ep_mark(c);
        return;
    }
    if (c->state != CONN_ENDING && e->now >= c->give_up_at)
        give_up(c);
    if (e->now >= c->elsewhere_at)
        ep_call_elsewhere(c);
    if (c->path.rung == TW_RUNG_PATCHED && ep_is_in_need(c))
        ep_links_doubt(e);
    ep_again_tick(c);
    ep_conn_stir(c);
}
