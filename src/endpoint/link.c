/* Connections to rendezvous servers. */
#include <assert.h>
#include <stdio.h>

#include "endpoint/internal.h"

#define RETRY_FIRST (500 * TW_MSEC)
#define RETRY_MAX (60 * TW_SEC)
/* While a connection has lost its way: */
#define RETRY_IN_NEED TW_SEC
#define FRESH_FOR (30 * TW_SEC)
#define KEEP_FOREIGN (600 * TW_SEC) /* a server of the peer's stays connected so long after the last use */

bool ep_link_is_up(const struct link *l)
{
    return l->state == LINK_UP && l->rdv && tw_rdv_is_up(l->rdv);
}

bool ep_link_may_call(const struct link *l)
{
    return l->state == LINK_UP && l->rdv && tw_rdv_may_call(l->rdv);
}

struct link *ep_link_get(struct tw_endpoint *e, const struct tw_rdv_addr *server)
{
    struct link *free_one = NULL;
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (l->used && !l->draining && tw_rdv_addr_eq(&l->server, server)) {
            l->used_at = e->now;
            return l;
        }
        if (!l->used && !free_one)
            free_one = l;
    }
    if (!free_one)
        return NULL;
    *free_one = (struct link){ .server = *server, .used = true, .gen = free_one->gen, .retry_at = e->now,
                               .used_at = e->now };
    return free_one;
}

tw_time ep_link_delay(const struct link *l)
{
    static const tw_time unknown = TW_SEC;
    tw_time rtt = ep_link_may_call(l) ? tw_rdv_rtt(l->rdv) : TW_NEVER;
    return rtt ? rtt : unknown;
}

static uint32_t sock_of(const struct tw_endpoint *e, const struct link *l)
{
    return (uint32_t)SLOT_LINKS << SOCK_BITS | (l->gen & 0xffff) << 4 | (uint32_t)(l - e->links);
}

struct link *ep_link_of(struct tw_endpoint *e, uint32_t sock)
{
    struct link *l = &e->links[sock & (LINKS_MAX - 1)];
    return sock >> SOCK_BITS == SLOT_LINKS && l->used && sock_of(e, l) == sock ? l : NULL;
}

static void offline(struct tw_endpoint *e, struct link *l, const char *why)
{
    l->why = why;
    if (!l->own || l->lan)
        return;
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_OFFLINE);
    ev->server = l->server;
    ev->why = why;
    l->online = false;
}

static bool is_in_need(const struct tw_endpoint *e)
{
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i] && ep_is_in_need(e->slots[i]))
            return true;
    return false;
}

/* It is over, or could not be opened: again later. */
static void down(struct tw_endpoint *e, struct link *l, const char *why)
{
    uint32_t jitter;
    if (e->closing)
        return; /* ep_links_close() does it */
    ep_push(e, TW_EP_LINK_CLOSE)->sock = sock_of(e, l);
    bool was_up = ep_link_is_up(l);
    tw_rdv_free(l->rdv);
    l->rdv = NULL;
    l->gen++;
    l->state = LINK_WAIT;
    l->server_n = 0;
    ep_random(e, &jitter, sizeof(jitter));
    l->misses = (uint8_t)(was_up ? 0 : l->misses < UINT8_MAX ? l->misses + 1 : UINT8_MAX);
    l->retry_wait = was_up || !l->retry_wait ? RETRY_FIRST : tw_time_min(l->retry_wait * 2, is_in_need(e) ? RETRY_IN_NEED : RETRY_MAX);
    /* With jitter: a server that comes back is not run over. */
    l->retry_at = l->replaced ? TW_NEVER : e->now + l->retry_wait / 2 + (tw_time)(jitter % 1000) * (l->retry_wait / 1000);
    offline(e, l, why);
    ep_call_on_link_lost(e, l, why);
}

/* In need it is not waited long: an attempt that began when there was no network may not notice for long that there is one again, as TCP
 * repeats less and less often. But twice what it took before, and each fifth time longer, as a network may be slow. */
static tw_time within_in_need(const struct link *l)
{
    static const tw_time least = 4 * TW_SEC, most = 15 * TW_SEC;
    tw_time usual = 2 * l->took > least ? 2 * l->took : least;
    return l->misses % 5 == 4 ? most : tw_time_min(usual, most);
}

static tw_time open_within(const struct tw_endpoint *e, const struct link *l)
{
    return is_in_need(e) ? within_in_need(l) : 30 * TW_SEC;
}

static void open_link(struct tw_endpoint *e, struct link *l)
{
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_LINK);
    l->state = LINK_OPENING;
    l->doubted = false;
    l->began_at = e->now;
    l->retry_at = e->now + open_within(e, l);
    ev->sock = sock_of(e, l);
    ev->server = l->server;
    ev->polled = l->polled;
}

static void take_server(struct link *l, const struct tw_rdv_server *s)
{
    const struct tw_bytes from[] = { s->username, s->password, s->realm, s->nonce };
    size_t i = l->server_n;
    char (*to)[TW_RDV_TEXT_MAX + 1] = l->strings[i];
    struct tw_addr addr = s->addr;
    if (tw_addr_is_any(&addr) && l->remote.family == TW_FAMILY_NONE && s->transport != TW_TRANSPORT_WS)
        return; /* we come through a proxy, and do not know where it is */
    if (tw_addr_is_any(&addr) && l->remote.family) { /* the rendezvous's own */
        uint16_t port = addr.port;
        addr = l->remote;
        addr.port = port;
    }
    if (s->transport == TW_TRANSPORT_WS)
        addr.port = l->server.port;
    for (size_t k = 0; k < 4; k++)
        snprintf(to[k], sizeof(to[k]), "%.*s", (int)from[k].n, (const char *)from[k].p);
    l->servers[i] = (struct tw_ice_server){ .addr = addr, .transport = s->transport, .turn = s->turn };
    if (s->turn) {
        l->servers[i].username = to[0];
        l->servers[i].password = to[1];
        l->servers[i].realm = to[2][0] ? to[2] : NULL;
        l->servers[i].nonce = to[3][0] ? to[3] : NULL;
    }
    l->server_n++;
}

static void on_hello(struct tw_endpoint *e, struct link *l, const struct tw_rdv_hello *h, bool proving)
{
    l->retry_wait = 0;
    l->why = NULL;
    l->server_n = 0;
    l->fresh_until = h->fresh ? e->now + FRESH_FOR : 0;
    if (l->own && !l->lan) {
        struct tw_endpoint_event *ev = ep_push(e, TW_EP_REACHED);
        ev->server = l->server;
        ev->seen = h->seen;
        ev->ahead_ms = (int64_t)(h->unix_ms - ep_unix_ms(e));
    }
    for (size_t i = 0; i < h->server_n; i++)
        take_server(l, &h->server[i]);
    if (l->own && e->cfg.listen && !h->may_register && !proving)
        offline(e, l, "the server lets nobody be dialled there without a token (--token)");
    if (l->server_n && l->own)
        ep_conn_spare(e, true);
    ep_call_on_link(e, l);
}

static void online(struct tw_endpoint *e, struct link *l)
{
    l->online = true;
    if (l->lan && e->cfg.server_n) /* that goes without saying */
        return;
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_ONLINE);
    ev->server = l->server;
    if (l->lan)
        ev->server = (struct tw_rdv_addr){ .host = LAN_LABEL, .port = 443 };
}

/* Its server is about to end. Somebody else may be there already for who comes anew; what goes over this link is left alone. With
 * jitter, as everybody is told at once. */
static void replace(struct tw_endpoint *e, struct link *l)
{
    uint32_t jitter;
    bool own = l->own;
    l->draining = true;
    l->own = false;
    struct link *n = ep_link_get(e, &l->server);
    if (!n || l->lan) {
        l->draining = false;
        l->own = own;
        return;
    }
    ep_random(e, &jitter, sizeof(jitter));
    n->own = own;
    n->online = l->online;
    n->token = l->token;
    n->polled = l->polled;
    n->retry_at = e->now + (tw_time)(jitter % 2000) * TW_MSEC;
}

static void take_events(struct tw_endpoint *e, struct link *l)
{
    struct tw_rdv_event ev;
    while (l->rdv && tw_rdv_poll_event(l->rdv, &ev)) {
        switch (ev.type) {
        case TW_RDV_HELLO:
            on_hello(e, l, ev.hello, ev.proving);
            break;
        case TW_RDV_REGISTERED:
            if (!l->online)
                online(e, l);
            break;
        case TW_RDV_REPLACED:
            l->replaced = true;
            offline(e, l, "another program with this key is there now");
            break;
        case TW_RDV_DENIED:
            offline(e, l, "the server refused us a mailbox");
            break;
        case TW_RDV_CALL:
            ep_callee_on_call(e, l, ev.call, ev.body);
            break;
        case TW_RDV_SIGNAL:
            ep_call_on_signal(e, l, ev.call, ev.body);
            break;
        case TW_RDV_DATAGRAM:
            ep_call_on_datagram(e, l, ev.call, ev.body);
            break;
        case TW_RDV_GONE:
            ep_call_on_gone(e, l, ev.call, ev.reason);
            break;
        case TW_RDV_DRAIN:
            if (!l->draining)
                replace(e, l);
            break;
        case TW_RDV_CLOSED:
            l->polled = ev.no_upgrade && !l->polled; /* the other way, next time */
            down(e, l, ev.why);
            if (l->polled)
                l->retry_at = e->now;
            break;
        }
    }
}

void ep_link_invites(struct tw_endpoint *e, struct link *l)
{
    static_assert(TW_ENDPOINT_INVITES_MAX <= TW_RDV_INVITES, "each invite has its mailbox");
    uint8_t secrets[TW_ENDPOINT_INVITES_MAX][TW_INVITE_SIZE];
    for (size_t i = 0; i < e->invite_n; i++)
        memcpy(secrets[i], e->invites[i].secret, TW_INVITE_SIZE);
    if (l->rdv)
        tw_rdv_invites(l->rdv, e->now, (const uint8_t (*)[TW_INVITE_SIZE])secrets, e->invite_n);
}

void ep_link_up(struct tw_endpoint *e, struct link *l, const struct tw_addr *local, const struct tw_addr *remote, const char *why)
{
    static const struct tw_addr unknown = { .family = TW_FAMILY_NONE };
    struct tw_rdv_config cfg = { .self = &e->self, .server = l->server, .token = l->token, .prove = l->doubted || l->server.plain,
                                 .listen = l->own && e->cfg.listen, .unlisted = e->cfg.unlisted,
                                 .label = l->lan ? LAN_LABEL : NULL, .unix_ms = ep_unix_ms(e), .program = e->program, .number = ++e->link_number };
    if (!why && l->state == LINK_OPENING && !tw_rdv_new(&cfg, &e->env, e->now, &l->rdv)) {
        l->state = LINK_UP;
        l->took = e->now - l->began_at;
        l->local = local ? *local : unknown;
        l->remote = remote ? *remote : unknown;
        if (l->own)
            ep_link_invites(e, l);
        if (is_in_need(e))
            tw_rdv_doubt(l->rdv, e->now);
        ep_call_on_link(e, l);
        return;
    }
    down(e, l, why ? why : "out of memory");
}

static bool is_there(const struct tw_endpoint *e, const struct tw_addr *local)
{
    for (size_t i = 0; i < e->interface_n; i++)
        if (tw_addr_eq_ip(&e->interfaces[i].ip, local))
            return true;
    return tw_addr_is_loopback(local);
}

void ep_links_moved(struct tw_endpoint *e)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (!l->used || (l->state == LINK_UP && (!l->local.family || is_there(e, &l->local))))
            continue;
        if (l->state != LINK_WAIT)
            down(e, l, "this machine has moved to another network");
        if (!l->replaced)
            l->retry_at = e->now;
    }
}

void ep_links_doubt(struct tw_endpoint *e)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (l->used && l->rdv)
            tw_rdv_doubt(l->rdv, e->now);
        else if (l->used && l->state != LINK_UP && !l->replaced)
            l->retry_at = tw_time_min(l->retry_at, e->now + (l->state == LINK_WAIT ? RETRY_IN_NEED : within_in_need(l)));
    }
}

void ep_link_recv(struct tw_endpoint *e, struct link *l, struct tw_bytes in)
{
    if (!l->rdv)
        return;
    tw_rdv_recv(l->rdv, e->now, in);
    take_events(e, l);
}

static bool needed(const struct tw_endpoint *e, const struct link *l)
{
    if (l->own)
        return true;
    if (l->draining && l->state != LINK_UP)
        return false;
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i] && e->slots[i]->call.link == l && e->slots[i]->id)
            return true;
    return !l->draining && e->now - l->used_at < KEEP_FOREIGN;
}

void ep_links_tick(struct tw_endpoint *e)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (!l->used)
            continue;
        if (l->rdv && tw_rdv_deadline(l->rdv) <= e->now) {
            if (is_in_need(e))
                tw_rdv_doubt(l->rdv, e->now);
            tw_rdv_tick(l->rdv, e->now);
            take_events(e, l);
        }
        if (l->state == LINK_OPENING && e->now >= l->retry_at)
            down(e, l, "no answer");
        if (!l->own && !needed(e, l)) {
            if (l->state != LINK_WAIT)
                ep_push(e, TW_EP_LINK_CLOSE)->sock = sock_of(e, l);
            tw_rdv_free(l->rdv);
            *l = (struct link){ .gen = l->gen + 1 };
        } else if (l->state == LINK_WAIT && e->now >= l->retry_at && e->interface_n && !e->closing) {
            open_link(e, l);
        }
    }
}

tw_time ep_links_deadline(const struct tw_endpoint *e)
{
    tw_time at = TW_NEVER;
    for (size_t i = 0; i < LINKS_MAX; i++) {
        const struct link *l = &e->links[i];
        if (!l->used)
            continue;
        if (l->rdv)
            at = tw_time_min(at, tw_rdv_deadline(l->rdv));
        if (l->state == LINK_OPENING || (l->state == LINK_WAIT && e->interface_n && !e->closing))
            at = tw_time_min(at, l->retry_at);
        if (!l->own && e->now - l->used_at < KEEP_FOREIGN)
            at = tw_time_min(at, l->used_at + KEEP_FOREIGN);
    }
    return at;
}

bool ep_links_tx(struct tw_endpoint *e, struct tw_datagram *out)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (!l->rdv)
            continue;
        l->out = tw_rdv_out(l->rdv);
        if (l->out.n) {
            *out = (struct tw_datagram){ .sock = sock_of(e, l), .iov = &l->out, .iov_n = 1 };
            return true;
        }
    }
    return false;
}

void ep_links_close(struct tw_endpoint *e)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *l = &e->links[i];
        if (l->used && l->state != LINK_WAIT)
            ep_push(e, TW_EP_LINK_CLOSE)->sock = sock_of(e, l);
        tw_rdv_free(l->rdv);
        *l = (struct link){ .gen = l->gen + 1 };
    }
}
