#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "endpoint/internal.h"

const char *tw_rung_name(enum tw_rung rung)
{
    static const char *const names[] = {
#define TW_RUNG_TEXT(name, text, what) text,
        TW_RUNGS(TW_RUNG_TEXT)
#undef TW_RUNG_TEXT
    };
    return names[rung];
}

void ep_random(struct tw_endpoint *e, void *out, size_t n)
{
    e->env.rng.fill(e->env.rng.ctx, out, n);
}

uint64_t ep_unix_ms(const struct tw_endpoint *e)
{
    return (uint64_t)(e->clock_ms + e->now / TW_MSEC);
}

struct tw_endpoint_event *ep_push(struct tw_endpoint *e, enum tw_endpoint_event_type type)
{
    if (e->queue_n == e->queue_cap) {
        size_t cap = e->queue_cap ? e->queue_cap * 2 : 16;
        struct tw_endpoint_event *more = realloc(e->queue, cap * sizeof(*more));
        if (!more)
            return &e->lost;
        e->queue = more;
        e->queue_cap = cap;
    }
    struct tw_endpoint_event *ev = &e->queue[e->queue_n++];
    *ev = (struct tw_endpoint_event){ .type = type };
    return ev;
}

/* --- who is let in --------------------------------------------------------------------------------- */

static struct tw_key *allowed(const struct tw_endpoint *e, const struct tw_key *key)
{
    for (size_t i = 0; i < e->allowed_n; i++)
        if (tw_key_eq(&e->allowed[i], key))
            return &e->allowed[i];
    return NULL;
}

bool ep_is_allowed(const struct tw_endpoint *e, const struct tw_key *key)
{
    return e->cfg.allow_any || allowed(e, key);
}

int tw_endpoint_allow(struct tw_endpoint *e, const struct tw_key *key)
{
    if (allowed(e, key))
        return 0;
    if (e->allowed_n == e->allowed_cap) {
        size_t cap = e->allowed_cap ? e->allowed_cap * 2 : 8;
        struct tw_key *more = realloc(e->allowed, cap * sizeof(*more));
        if (!more)
            return TW_ENOMEM;
        e->allowed = more;
        e->allowed_cap = cap;
    }
    e->allowed[e->allowed_n++] = *key;
    return 0;
}

void tw_endpoint_disallow(struct tw_endpoint *e, const struct tw_key *key)
{
    struct tw_key *at = allowed(e, key);
    if (at)
        *at = e->allowed[--e->allowed_n];
}

void tw_endpoint_disallow_all(struct tw_endpoint *e)
{
    e->allowed_n = 0;
}

int tw_endpoint_invites(struct tw_endpoint *e, tw_time now, const struct tw_endpoint_invite *list, size_t n)
{
    e->now = now;
    if (n > TW_ENDPOINT_INVITES_MAX)
        return TW_EFULL;
    if (n)
        memcpy(e->invites, list, n * sizeof(*list));
    e->invite_n = n;
    for (size_t i = 0; i < LINKS_MAX; i++)
        if (e->links[i].used && e->links[i].own)
            ep_link_invites(e, &e->links[i]);
    return 0;
}

struct tw_endpoint_invite *ep_invite(struct tw_endpoint *e, struct tw_bytes secret)
{
    for (size_t i = 0; secret.n == TW_INVITE_SIZE && i < e->invite_n; i++) {
        struct tw_endpoint_invite *v = &e->invites[i];
        if (v->uses && (!v->expires_ms || ep_unix_ms(e) < v->expires_ms) &&
            sodium_memcmp(v->secret, secret.p, TW_INVITE_SIZE) == 0)
            return v;
    }
    return NULL;
}

/* --- prekeys --------------------------------------------------------------------------------------- */

void ep_prekeys(struct tw_endpoint *e)
{
    uint32_t today = (uint32_t)(ep_unix_ms(e) / TW_RDV_DAY_MS);
    if (e->prekey_epoch == today)
        return;
    e->prekey_epoch = today;
    sodium_memzero(&e->prekeys[PREKEYS - 1], sizeof(e->prekeys[0]));
    memmove(&e->prekeys[1], &e->prekeys[0], (PREKEYS - 1) * sizeof(e->prekeys[0]));
    tw_prekey_make(&e->prekeys[0], today, &e->env.rng);
    for (size_t i = 1; i < PREKEYS; i++) /* of days long past, or of a clock that was wrong */
        if (e->prekeys[i].epoch + 2 < today)
            sodium_memzero(&e->prekeys[i], sizeof(e->prekeys[i]));
    (void)!tw_prekey_publish(&e->prekeys[0], &e->self, e->prekey_wire);
}

const struct tw_prekey *ep_known_prekey(const struct tw_endpoint *e, const struct tw_key *key)
{
    uint32_t today = (uint32_t)(ep_unix_ms(e) / TW_RDV_DAY_MS);
    for (size_t i = 0; i < KNOWN_MAX; i++)
        if (e->known[i].at && tw_key_eq(&e->known[i].key, key) && e->known[i].prekey.epoch + 1 >= today)
            return &e->known[i].prekey;
    return NULL;
}

void ep_learn_prekey(struct tw_endpoint *e, const struct tw_key *key, const uint8_t wire[TW_PREKEY_WIRE])
{
    struct known *to = &e->known[0];
    struct tw_prekey prekey;
    if (tw_prekey_read(tw_bytes(wire, TW_PREKEY_WIRE), key, &prekey))
        return;
    for (size_t i = 0; i < KNOWN_MAX; i++) {
        if (e->known[i].at && tw_key_eq(&e->known[i].key, key)) {
            to = &e->known[i];
            break;
        }
        if (e->known[i].at < to->at)
            to = &e->known[i];
    }
    *to = (struct known){ *key, prekey, e->now + 1 };
}

/* --- life ------------------------------------------------------------------------------------------ */

static int copy_servers(struct tw_endpoint *e, const struct tw_ice_config *ice)
{
    if (ice->server_n > TW_ICE_SERVERS_MAX)
        return TW_EINVAL;
    for (size_t i = 0; i < ice->server_n; i++) {
        struct tw_ice_server *s = &e->servers[i];
        *s = ice->servers[i];
        s->realm = s->nonce = NULL;
        snprintf(e->server_strings[i][0], TW_RDV_TEXT_MAX + 1, "%s", s->username ? s->username : "");
        snprintf(e->server_strings[i][1], TW_RDV_TEXT_MAX + 1, "%s", s->password ? s->password : "");
        s->username = s->username ? e->server_strings[i][0] : NULL;
        s->password = s->password ? e->server_strings[i][1] : NULL;
    }
    e->server_n = ice->server_n;
    return 0;
}

static int begin_servers(struct tw_endpoint *e, const struct tw_endpoint_config *cfg)
{
    for (size_t i = 0; i < cfg->server_n; i++) {
        if (!cfg->servers[i].host[0])
            return TW_EINVAL;
        struct link *l = ep_link_get(e, &cfg->servers[i]);
        l->own = true;
        if (cfg->tokens[i] && !(e->tokens[i] = strdup(cfg->tokens[i])))
            return TW_ENOMEM;
        l->token = e->tokens[i];
    }
    return 0;
}

int tw_endpoint_new(const struct tw_endpoint_config *cfg, const struct tw_env *env, tw_time now,
                    struct tw_endpoint **ret)
{
    if (cfg->server_n > TW_ENDPOINT_SERVERS_MAX || cfg->max_conns > TW_ENDPOINT_CONNS_MAX)
        return TW_EINVAL;
    struct tw_endpoint *e = calloc(1, sizeof(*e));
    if (!e)
        return TW_ENOMEM;
    e->cfg = *cfg;
    e->env = *env;
    e->now = now;
    e->tx_tail = &e->tx;
    e->ev_tail = &e->ev;
    e->slot_n = (uint16_t)((cfg->max_conns ? cfg->max_conns : 1024) + 1);
    tw_map_init(&e->by_id, e->slot_n);
    tw_map_init(&e->by_call, 2U * e->slot_n);
    tw_timers_init(&e->timers);
    e->slots = calloc(e->slot_n, sizeof(*e->slots));
    e->tx_buf = malloc(TW_SECURE_BATCH);
    e->seen = cfg->listen ? ep_seen_new(env) : NULL;
    int err = e->slots && e->tx_buf && (e->seen || !cfg->listen) ? tw_ident_init(&e->self, cfg->seed) : TW_ENOMEM;
    err = err ? err : copy_servers(e, &cfg->ice);
    err = err ? err : begin_servers(e, cfg);
    if (err) {
        tw_endpoint_free(e);
        return err;
    }
    e->cfg.seed = NULL;
    e->cfg.ice.servers = NULL;
    ep_random(e, e->nonce_key, sizeof(e->nonce_key));
    ep_random(e, &e->program, sizeof(e->program));
    *ret = e;
    return 0;
}

void tw_endpoint_free(struct tw_endpoint *e)
{
    if (!e)
        return;
    for (uint16_t i = 0; e->slots && i < e->slot_n; i++)
        if (e->slots[i])
            ep_conn_free(e->slots[i]);
    for (size_t i = 0; i < LINKS_MAX; i++)
        tw_rdv_free(e->links[i].rdv);
    for (size_t i = 0; i < TW_ENDPOINT_SERVERS_MAX; i++)
        free(e->tokens[i]);
    free(e->lan_token);
    tw_timers_fini(&e->timers);
    free(e->slots);
    tw_map_fini(&e->by_id);
    tw_map_fini(&e->by_call);
    free(e->tx_buf);
    free(e->seen);
    free(e->allowed);
    free(e->queue);
    tw_ident_fini(&e->self);
    sodium_memzero(e->prekeys, sizeof(e->prekeys));
    free(e);
}

const struct tw_key *tw_endpoint_key(const struct tw_endpoint *e)
{
    return &e->self.key;
}

void tw_endpoint_clock(struct tw_endpoint *e, tw_time now, uint64_t unix_ms)
{
    e->now = now;
    e->clock_ms = (int64_t)unix_ms - now / TW_MSEC;
    ep_prekeys(e);
}

int tw_endpoint_interfaces(struct tw_endpoint *e, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    e->now = now;
    if (n > TW_ICE_INTERFACES_MAX)
        return TW_EINVAL;
    memcpy(e->interfaces, list, n * sizeof(*list));
    e->interface_n = n;
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i] && e->slots[i]->state != CONN_ENDING) {
            (void)!tw_ice_interfaces(e->slots[i]->ice, now, list, n);
            ep_conn_stir(e->slots[i]);
        }
    ep_links_moved(e);
    ep_links_tick(e);
    ep_conn_spare(e, false);
    return 0;
}

void tw_endpoint_nat64(struct tw_endpoint *e, tw_time now, const struct tw_range *prefix)
{
    e->now = now;
    e->has_nat64 = prefix != NULL;
    if (prefix)
        e->nat64 = *prefix;
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i] && e->slots[i]->state != CONN_ENDING) {
            tw_ice_nat64(e->slots[i]->ice, now, prefix);
            ep_conn_stir(e->slots[i]);
        }
    ep_links_moved(e); /* what could not be reached */
    ep_links_tick(e);
}

/* --- sockets --------------------------------------------------------------------------------------- */

static uint32_t inner(uint32_t sock)
{
    return sock & ((1U << SOCK_BITS) - 1);
}

void tw_endpoint_link_up(struct tw_endpoint *e, tw_time now, uint32_t sock, const struct tw_addr *local,
                         const struct tw_addr *remote, const char *why)
{
    struct link *l = ep_link_of(e, sock);
    e->now = now;
    if (l)
        ep_link_up(e, l, local, remote, why);
}

void tw_endpoint_opened(struct tw_endpoint *e, tw_time now, uint32_t sock, int err, const struct tw_addr *local)
{
    struct conn *c = ep_conn_of_sock(e, sock);
    e->now = now;
    if (!c)
        return;
    tw_ice_opened(c->ice, now, inner(sock), err, local);
    ep_conn_stir(c);
}

void tw_endpoint_accepted(struct tw_endpoint *e, tw_time now, uint32_t listener, const struct tw_addr *remote,
                          enum tw_ice_via via, uint32_t *ret_sock)
{
    struct conn *c = ep_conn_of_sock(e, listener);
    e->now = now;
    *ret_sock = 0;
    if (!c)
        return;
    tw_ice_accepted(c->ice, now, inner(listener), remote, via, ret_sock);
    if (*ret_sock)
        *ret_sock |= listener & ~((1U << SOCK_BITS) - 1);
    ep_conn_stir(c);
}

void tw_endpoint_web(struct tw_endpoint *e, uint16_t http, uint16_t https)
{
    e->web_ports[0] = http;
    e->web_ports[1] = https;
}

uint32_t tw_endpoint_web_listener(const struct tw_endpoint *e, const char *token)
{
    uint32_t sock;
    for (uint16_t i = 0; i < e->slot_n; i++) {
        const struct conn *c = e->slots[i];
        if (c && c->state != CONN_ENDING && !strcmp(c->web, token) && tw_ice_listener(c->ice, &sock))
            return sock | (uint32_t)c->slot << SOCK_BITS;
    }
    return 0;
}

void tw_endpoint_disconnected(struct tw_endpoint *e, tw_time now, uint32_t sock)
{
    struct conn *c = ep_conn_of_sock(e, sock);
    e->now = now;
    if (!c)
        return;
    tw_ice_disconnected(c->ice, now, inner(sock));
    ep_conn_stir(c);
}

void tw_endpoint_waits(struct tw_endpoint *e, tw_time now, uint32_t sock, tw_time wait)
{
    struct conn *c = ep_conn_of_sock(e, sock);
    e->now = now;
    if (c)
        tw_ice_waits(c->ice, now, inner(sock), wait);
}

void tw_endpoint_mapped(struct tw_endpoint *e, tw_time now, uint32_t sock, const struct tw_addr *outside)
{
    struct conn *c = ep_conn_of_sock(e, sock);
    e->now = now;
    if (!c)
        return;
    tw_ice_mapped(c->ice, now, inner(sock), outside);
    ep_conn_stir(c);
}

enum tw_transport tw_endpoint_turn(const struct tw_endpoint *e, uint32_t sock, unsigned server)
{
    struct conn *c = ep_conn_of_sock(e, sock);
    return c && server < TW_ICE_SERVERS_MAX ? c->servers[server].transport : TW_TRANSPORT_TCP;
}

const struct tw_rdv_addr *tw_endpoint_turn_at(const struct tw_endpoint *e, uint32_t sock, unsigned server)
{
    const struct conn *c = ep_conn_of_sock(e, sock);
    uint8_t link = c && server < TW_ICE_SERVERS_MAX ? c->servers[server].link : LINKS_MAX;
    return link < LINKS_MAX && e->links[link].used ? &e->links[link].server : NULL;
}

void tw_endpoint_doubt(struct tw_endpoint *e, uint32_t sock)
{
    struct link *l = ep_link_of(e, sock);
    if (l)
        l->doubted = true;
}

void tw_endpoint_recv(struct tw_endpoint *e, tw_time now, const struct tw_datagram *in)
{
    e->now = now;
    struct link *l = ep_link_of(e, in->sock);
    if (l) {
        ep_link_recv(e, l, in->iov[0]);
        return;
    }
    struct conn *c = ep_conn_of_sock(e, in->sock);
    if (!c)
        return;
    struct tw_datagram d = *in;
    d.sock = inner(in->sock);
    (void)!tw_ice_recv(c->ice, now, &d);
    ep_conn_stir(c);
}

/* --- time and outputs ------------------------------------------------------------------------------- */

void tw_endpoint_tick(struct tw_endpoint *e, tw_time now)
{
    struct tw_timer *t;
    e->now = now;
    e->costs.wakes++;
    ep_prekeys(e);
    ep_links_tick(e);
    while ((t = tw_timers_pop(&e->timers, now)))
        ep_conn_tick((struct conn *)t);
}

tw_time tw_endpoint_deadline(const struct tw_endpoint *e)
{
    return tw_time_min(ep_links_deadline(e), tw_timers_next(&e->timers));
}

static bool next_tx(struct tw_endpoint *e, struct tw_datagram *out)
{
    while (e->tx) {
        struct conn *c = e->tx;
        if (ep_conn_tx(c, out))
            return true;
        e->tx = c->next_tx;
        if (!e->tx)
            e->tx_tail = &e->tx;
        c->in_tx = false;
        ep_conn_arm(c); /* what was sent moves its deadline */
        ep_mark_event(c);
    }
    return ep_links_tx(e, out);
}

bool tw_endpoint_poll_tx(struct tw_endpoint *e, struct tw_datagram *out)
{
    size_t n = 0;
    if (!next_tx(e, out))
        return false;
    for (size_t i = 0; i < out->iov_n; i++)
        n += out->iov[i].n;
    e->costs.packets += out->segment ? (n + out->segment - 1) / out->segment : 1;
    e->costs.bytes += n;
    return true;
}

bool tw_endpoint_poll_event(struct tw_endpoint *e, struct tw_endpoint_event *ev)
{
    for (;;) {
        if (e->queue_at < e->queue_n) {
            *ev = e->queue[e->queue_at++];
            return true;
        }
        e->queue_at = e->queue_n = 0;
        struct conn *c = e->ev;
        if (!c)
            break;
        if (ep_conn_event(c, ev))
            return true;
        if (e->queue_n)
            continue;
        e->ev = c->next_ev;
        if (!e->ev)
            e->ev_tail = &e->ev;
        c->in_ev = false;
        if (c->state == CONN_ENDING && c->give_up_at == 0)
            ep_conn_free(c);
    }
    if (e->closing && !e->closed_told) {
        for (uint16_t i = 0; i < e->slot_n; i++)
            if (e->slots[i])
                return false;
        e->closed_told = true;
        ep_links_close(e);
        ep_push(e, TW_EP_CLOSED_ALL);
        return tw_endpoint_poll_event(e, ev);
    }
    return false;
}

/* --- verbs ------------------------------------------------------------------------------------------ */

void tw_endpoint_close(struct tw_endpoint *e, tw_time now)
{
    e->now = now;
    e->closing = true;
    for (uint16_t i = 0; i < e->slot_n; i++) {
        struct conn *c = e->slots[i];
        if (c && c->id)
            tw_endpoint_hangup(e, now, c->id, TW_ENDPOINT_CODE_BYE, "closed");
        else if (c && c->state == CONN_SPARE)
            ep_conn_over(c, 0, NULL, false);
    }
    e->spare = NULL;
}

uint32_t tw_endpoint_next(const struct tw_endpoint *e, uint32_t after)
{
    uint32_t least = 0;
    for (uint32_t id = after + 1; id - after <= e->slot_n && id <= e->next_conn; id++) /* few have gone, as a rule */
        if (ep_conn_find(e, id))
            return id;
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i] && e->slots[i]->id > after && (!least || e->slots[i]->id < least))
            least = e->slots[i]->id;
    return least;
}

int tw_endpoint_conn(const struct tw_endpoint *e, uint32_t id, struct tw_endpoint_conn *ret)
{
    const struct conn *c = ep_conn_find(e, id);
    struct tw_secure_stats st = { 0 };
    if (!c)
        return TW_ENOTFOUND;
    if (c->secure)
        tw_secure_stats(c->secure, &st);
    *ret = (struct tw_endpoint_conn){ .key = c->peer.key, .caller = c->caller, .connected = c->connected,
                                      .path = ep_conn_path(c), .rtt = st.rtt, .min_rtt = st.min_rtt, .jitter = st.jitter,
                                      .datagrams_acked = st.datagrams_acked, .datagrams_lost = st.datagrams_lost, .sent = st.sent,
                                      .received = st.received, .window = st.window, .mtu = c->mtu.now };
    return 0;
}

size_t tw_endpoint_history(const struct tw_endpoint *e, uint32_t id, struct tw_endpoint_step *out, size_t cap)
{
    const struct conn *c = ep_conn_find(e, id);
    unsigned n = !c ? 0 : c->steps < HISTORY ? c->steps : HISTORY;
    n = n < cap ? n : (unsigned)cap;
    for (unsigned i = 0; i < n; i++)
        out[i] = c->history[(c->steps - n + i) % HISTORY];
    return n;
}

struct tw_endpoint_costs tw_endpoint_costs(const struct tw_endpoint *e)
{
    return e->costs;
}

size_t tw_endpoint_explain(const struct tw_endpoint *e, uint32_t id, char *out, size_t cap)
{
    const struct conn *c = ep_conn_find(e, id);
    if (cap)
        out[0] = 0;
    return c && c->ice ? tw_ice_explain(c->ice, out, cap) : 0;
}
