/* A connection to a peer: how it is called, how it is let in, and what the two say to find a way. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "endpoint/internal.h"

#define ANSWER_WITHIN (20 * TW_SEC)
#define ELSEWHERE_AFTER TW_SEC
#define END_WITHIN (500 * TW_MSEC)
#define LINK_WITHIN (15 * TW_SEC)
#define CALL_LATER (500 * TW_MSEC)
#define BACK_WITHIN (5 * TW_SEC)
#define SEEK_WITHIN (3 * TW_SEC)

/* --- agents ----------------------------------------------------------------------------------------- */

/* A server that ends and the one after it share their addresses, and know each other's allocations. */
static bool is_same_link(const struct tw_endpoint *e, uint8_t was, uint8_t now)
{
    return was == now || (was < LINKS_MAX && now < LINKS_MAX && (!e->links[was].used || e->links[was].draining) &&
                          tw_rdv_addr_eq(&e->links[was].server, &e->links[now].server));
}

/* Its number at the agent; server_n: it is not known there. */
static size_t find_server(const struct conn *c, const struct tw_ice_server *s, uint8_t link)
{
    size_t i = 0;
    while (i < c->server_n && !(tw_addr_eq(&c->servers[i].addr, &s->addr) && c->servers[i].transport == s->transport &&
                                c->servers[i].turn == s->turn && is_same_link(c->e, c->servers[i].link, link)))
        i++;
    return i;
}

/* Who names servers. */
struct source {
    const struct tw_ice_server *list;
    size_t n;
    uint8_t link; /* LINKS_MAX: the configuration */
};

enum { OUR_SOURCES = 1 + LINKS_MAX };

/* The configuration, then our rendezvous. */
static struct source our_source(const struct tw_endpoint *e, uint8_t i)
{
    if (i == 0)
        return (struct source){ e->servers, e->server_n, LINKS_MAX };
    const struct link *l = &e->links[i - 1];
    return (struct source){ l->servers, l->used && l->own ? l->server_n : 0, (uint8_t)(i - 1) };
}

/* On the rungs that are allowed. */
static bool is_of_use(const struct tw_endpoint *e, const struct tw_ice_server *s)
{
    return ep_has_rung(e, s->turn ? TW_RUNG_RELAY : TW_RUNG_STUN);
}

/* Of those that it knows, what they want now. */
static int tell_agent(struct conn *c, struct source from)
{
    int err = 0;
    for (size_t i = 0; i < from.n && !err; i++) {
        const struct tw_ice_server *s = &from.list[i];
        size_t number = find_server(c, s, from.link);
        if (!is_of_use(c->e, s) || number == TW_ICE_SERVERS_MAX)
            continue;
        if (number < c->server_n) {
            c->servers[number].link = from.link;
            err = s->turn && from.link < LINKS_MAX ? tw_ice_renew_server(c->ice, c->e->now, (unsigned)number, s) : 0;
            continue;
        }
        c->servers[c->server_n++] = (struct server){ s->addr, s->transport, s->turn, from.link };
        c->gathered = c->call.end_told = c->alt.end_told = false;
        err = tw_ice_add_servers(c->ice, c->e->now, s, 1);
    }
    return err;
}

/* The configuration's servers, and what our rendezvous recommend, or, if there is none, what the peer's does. */
static int learn_servers(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    const struct link *of_call = c->call.link;
    int err = 0;
    for (uint8_t i = 0; i < OUR_SOURCES && !err; i++)
        err = tell_agent(c, our_source(e, i));
    if (!err && of_call && !of_call->own && (c->server_n == 0 || c->servers[0].link == of_call - e->links))
        err = tell_agent(c, (struct source){ of_call->servers, of_call->server_n, (uint8_t)(of_call - e->links) });
    return err;
}

size_t tw_endpoint_servers(const struct tw_endpoint *e, struct tw_ice_server *out, size_t cap)
{
    size_t n = 0;
    for (uint8_t i = 0; i < OUR_SOURCES; i++) {
        struct source from = our_source(e, i);
        for (size_t k = 0; k < from.n && n < cap; k++)
            if (is_of_use(e, &from.list[k]))
                out[n++] = from.list[k];
    }
    return n;
}

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
    err = err ? err : learn_servers(c);
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

/* --- words ------------------------------------------------------------------------------------------ */

static void fill_candidates(const struct conn *c, struct call *k, struct tw_word *w)
{
    for (; k->cand_told < c->cand_n; k->cand_told++)
        w->candidate[w->candidate_n++] = c->cands[k->cand_told];
    w->end = c->gathered && !k->end_told;
    k->end_told = k->end_told || w->end;
}

void ep_introduce(struct conn *c, struct call *k, struct tw_word *w)
{
    c->cand_n = tw_ice_candidates(c->ice, c->cands, TW_OFFER_CANDIDATES); /* without those of networks of before */
    const char *ufrag, *pwd;
    if (!tw_ice_credentials(c->ice, 0, &ufrag, &pwd)) {
        snprintf(w->ufrag, sizeof(w->ufrag), "%s", ufrag);
        snprintf(w->pwd, sizeof(w->pwd), "%s", pwd);
    }
    k->cand_told = 0;
    k->end_told = false;
    fill_candidates(c, k, w);
}

void ep_say(struct conn *c, const struct tw_word *w)
{
    size_t n;
    if (c->call.on && !tw_word_seal(w, &c->to, c->e->word, &n))
        (void)!tw_rdv_signal(c->call.link->rdv, c->e->now, c->call.id, tw_bytes(c->e->word, n));
}

static void tell_candidates(struct conn *c)
{
    struct call *k = &c->call;
    if (c->state != CONN_TALKING || !k->on || (k->cand_told == c->cand_n && (!c->gathered || k->end_told)))
        return;
    struct tw_word w = { .kind = TW_WORD_MORE };
    fill_candidates(c, k, &w);
    ep_say(c, &w);
}

void ep_hear(struct conn *c, const struct tw_word *w)
{
    struct tw_endpoint *e = c->e;
    if (w->ufrag[0] && w->pwd[0]) {
        const struct tw_ice_remote r = { .ufrag = w->ufrag, .pwd = w->pwd, .ice2 = true, .trickle = true,
                                         .renomination = true, .own = true };
        c->remote_set = tw_ice_set_remote(c->ice, e->now, 0, &r) == 0 || c->remote_set;
    }
    for (size_t i = 0; c->remote_set && i < w->candidate_n; i++)
        (void)!tw_ice_add_remote(c->ice, e->now, &w->candidate[i]);
    if (c->remote_set && w->end)
        tw_ice_remote_end(c->ice, e->now, 0);
}

void ep_call_secret(const struct conn *c, uint64_t again, uint8_t out[32])
{
    uint8_t number[8];
    tw_put_u64(number, again);
    const struct tw_bytes parts[] = { tw_bytes(c->secret, sizeof(c->secret)), tw_bytes(number, sizeof(number)) };
    if (again)
        tw_digest("thalweg again", parts, 2, out, 32);
    else
        memcpy(out, c->secret, 32);
}

void ep_begin_boxes(struct conn *c)
{
    uint8_t secret[32];
    ep_call_secret(c, c->again, secret);
    tw_box_init(&c->to, secret, c->caller ? "thalweg from caller" : "thalweg from callee");
    tw_box_init(&c->from, secret, c->caller ? "thalweg from callee" : "thalweg from caller");
}

/* --- calling ---------------------------------------------------------------------------------------- */

static bool is_call(const struct call *k, const struct link *l, uint32_t id)
{
    return k->on && k->link == l && k->gen == l->gen && k->id == id;
}

static void hang_up(struct conn *c, struct call *k, unsigned reason)
{
    if (k->on && k->link->gen == k->gen && k->link->rdv)
        tw_rdv_hangup(k->link->rdv, c->e->now, k->id, reason);
    k->on = false;
}

static void drop_alt(struct conn *c)
{
    hang_up(c, &c->alt, TW_RDV_HUNG_UP);
    c->alt.link = NULL;
}

void ep_call_drop(struct conn *c, unsigned reason)
{
    hang_up(c, &c->call, reason);
    drop_alt(c);
}

static void forget_flight(struct conn *c)
{
    free(c->flight);
    c->flight = NULL;
}

/* The channel under the secret of before is void. */
static void drop_secure(struct conn *c)
{
    tw_secure_free(c->secure);
    c->secure = NULL;
    c->run_left.n = c->doubled.n = 0;
}

int ep_call_make(struct conn *c, struct call *k)
{
    struct tw_endpoint *e = c->e;
    struct tw_word w = { .kind = TW_WORD_OFFER, .caller = e->self.key, .unix_ms = ep_unix_ms(e),
                         .early = tw_bytes(c->early, c->again ? 0 : c->early_n), .has_nonce = c->has_nonce };
    const uint8_t *invite = c->peer.invited && !c->plainly ? c->peer.invite : NULL;
    size_t n;
    w.invite = tw_bytes(invite, invite ? TW_INVITE_SIZE : 0);
    ep_call_secret(c, c->again, w.secret);
    w.again = c->again;
    memcpy(w.nonce, c->nonce, sizeof(w.nonce));
    ep_introduce(c, k, &w);
    k->early = !ep_link_is_up(k->link);
    if (k->early) /* more are found once it is */
        w.end = k->end_told = false;
    int err = tw_offer_seal(&w, &e->self, &c->peer.key, ep_known_prekey(e, &c->peer.key), &e->env.rng, e->word, &n);
    err = err ? err : tw_rdv_call(k->link->rdv, e->now, &c->peer.key, invite, tw_bytes(e->word, n), &k->id);
    k->link->used_at = e->now;
    k->gen = k->link->gen;
    k->on = err == 0;
    k->answered = false;
    return err;
}

static void send_offer(struct conn *c)
{
    int err = ep_call_make(c, &c->call);
    if (err == TW_EFULL && c->call.early) /* too long for a request: once it is up */
        return;
    if (err) {
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "the call could not be made", false);
        return;
    }
    c->state = CONN_CALLING;
    c->give_up_at = c->e->now + ANSWER_WITHIN;
    c->elsewhere_at = c->e->now + ELSEWHERE_AFTER;
    ep_begin_boxes(c);
}

/* --- by two ways at once ------------------------------------------------------------------------------ */

/* The first packets go after the offer, as they did on the other way. */
static void start_alt(struct conn *c)
{
    if (ep_call_make(c, &c->alt)) {
        c->alt.link = NULL;
        return;
    }
    for (int i = 0; c->flight && i < 2; i++)
        if (c->flight->n[i])
            (void)!tw_rdv_datagram(c->alt.link->rdv, c->e->now, c->alt.id,
                                   tw_bytes(c->flight->data[i], c->flight->n[i]));
}

/* The other way was better: it is the only one from now on. */
static void take_alt(struct conn *c)
{
    hang_up(c, &c->call, TW_RDV_HUNG_UP);
    c->call = c->alt;
    c->alt = (struct call){ 0 };
}

static unsigned bit_of(const struct tw_endpoint *e, const struct link *l)
{
    return 1U << (l - e->links);
}

/* Instead of another, which is left for later. */
static void take_link(struct conn *c, struct link *l)
{
    c->links_left &= ~bit_of(c->e, l);
    if (c->call.link)
        c->links_left |= bit_of(c->e, c->call.link);
    c->call.link = l;
}

/* The nearest of those that can take a call now; else the first that is being reached. */
static struct link *nearest(const struct conn *c)
{
    struct tw_endpoint *e = c->e;
    struct link *best = NULL;
    for (unsigned i = 0; i < LINKS_MAX; i++)
        if (c->links_left & 1U << i && (!best || ep_link_delay(&e->links[i]) < ep_link_delay(best)))
            best = &e->links[i];
    return best;
}

bool ep_next_link(struct conn *c)
{
    struct link *l = nearest(c);
    if (!l)
        return false;
    c->call.link = NULL;
    take_link(c, l);
    return true;
}

static void try_call(struct conn *c)
{
    if (!c->call.link || !ep_link_may_call(c->call.link))
        return;
    if (learn_servers(c)) {
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
        return;
    }
    send_offer(c);
    if (c->state == CONN_CALLING && !c->secure && ep_secure_start(c, false))
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
}

/* Its server may have died, and nobody knows yet: by another one as well, and who answers first is taken. Where it died before the call was
 * made, it or the callee may be back by now. */
static void call_elsewhere(struct conn *c)
{
    c->elsewhere_at = TW_NEVER;
    if (c->state == CONN_LINKING) {
        try_call(c);
        return;
    }
    struct link *l = c->state == CONN_CALLING && !c->alt.link ? nearest(c) : NULL;
    if (!l)
        return;
    c->links_left &= ~bit_of(c->e, l);
    c->alt.link = l;
    if (ep_link_may_call(l))
        start_alt(c);
}

int ep_choose_links(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    const struct tw_address *peer = &c->peer;
    c->links_left = 0;
    for (size_t i = 0; i < peer->server_n; i++) {
        const struct link *l = ep_link_get(e, &peer->servers[i]);
        if (l)
            c->links_left |= bit_of(e, l);
    }
    if (peer->server_n && !c->links_left)
        return TW_EFULL;
    for (unsigned i = 0; i < LINKS_MAX && !peer->server_n; i++)
        if (e->links[i].used && e->links[i].own && !e->links[i].lan)
            c->links_left |= 1U << i;
    return ep_next_link(c) ? 0 : TW_ENOTFOUND;
}

int ep_may_dial(const struct tw_endpoint *e, const struct tw_key *key)
{
    const struct tw_mailbox_of probe = { 0, "", tw_bytes(NULL, 0) };
    struct tw_key name;
    if (tw_key_eq(key, &e->self.key))
        return TW_EINVAL;
    if (e->closing)
        return TW_ESTATE;
    return tw_mailbox_name(key, &probe, &name) ? TW_EMALFORMED : 0;
}

int tw_endpoint_dial(struct tw_endpoint *e, tw_time now, const struct tw_address *peer, struct tw_bytes early,
                     uint32_t *ret_conn)
{
    e->now = now;
    int err = early.n > TW_ENDPOINT_EARLY_MAX ? TW_EINVAL : ep_may_dial(e, &peer->key);
    if (err)
        return err;
    struct conn *c = ep_conn_take(e);
    if (!c)
        return TW_EFULL;
    c->caller = true;
    c->peer = *peer;
    c->state = CONN_LINKING;
    c->give_up_at = c->link_by = now + LINK_WITHIN;
    ep_random(e, c->secret, sizeof(c->secret));
    err = ep_choose_links(c);
    if (err == TW_ENOTFOUND && e->cfg.lan) { /* then in this network only */
        err = 0;
        c->give_up_at = now + SEEK_WITHIN;
    }
    if (!err && early.n) {
        c->early = malloc(early.n);
        err = c->early ? 0 : TW_ENOMEM;
        if (!err) {
            memcpy(c->early, early.p, early.n);
            c->early_n = early.n;
        }
    }
    if (err) {
        ep_conn_free(c);
        ep_conn_spare(e, false);
        return err;
    }
    *ret_conn = c->id;
    if (e->cfg.lan)
        ep_lan_seek(c);
    tw_ice_set_controlling(c->ice, now, true);
    ep_links_tick(e);
    try_call(c);
    ep_conn_stir(c);
    ep_conn_spare(e, false);
    return 0;
}

static void on_link(struct conn *c, struct link *l)
{
    if (!c->by_hand && c->state != CONN_ENDING)
        (void)!learn_servers(c); /* without them it may work, too */
    if (c->state == CONN_LINKING && c->alt.link == l) { /* sooner than the server */
        take_link(c, l);
        c->alt.link = NULL;
    }
    if (c->state == CONN_LINKING && c->links_left & bit_of(c->e, l) && !(c->call.link && ep_link_may_call(c->call.link)))
        take_link(c, l); /* sooner than the other */
    if (c->state == CONN_LINKING && c->call.link == l)
        try_call(c);
    else if (c->state == CONN_CALLING && c->alt.link == l && !c->alt.on)
        start_alt(c);
    else if (c->again_at != TW_NEVER && !c->call.on)
        c->again_at = c->e->now;
    ep_conn_stir(c);
}

void ep_conn_on_link(struct tw_endpoint *e, struct link *l)
{
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i])
            on_link(e->slots[i], l);
}

/* The server of this call does not help: the next one, or it is over. */
static void fail_call(struct conn *c, uint64_t code, const char *why)
{
    c->call.on = false;
    if (c->ice_up || c->connected || c->again) { /* it is not needed any more, or made again */
        ep_again_failed(c, code == TW_ENDPOINT_CODE_REFUSED);
        if (c->state != CONN_ENDING)
            ep_conn_choose(c);
        return;
    }
    if (c->alt.on) {
        take_alt(c);
        return;
    }
    if (c->alt.link) { /* it is about to be reached */
        c->call.link = c->alt.link;
        c->alt.link = NULL;
        c->state = CONN_LINKING;
        c->give_up_at = c->e->now + SEEK_WITHIN;
        return;
    }
    if (c->caller && ep_next_link(c)) {
        c->state = CONN_LINKING;
        c->give_up_at = c->link_by = c->e->now + LINK_WITHIN;
        try_call(c);
        return;
    }
    ep_conn_over(c, code, why, false);
}

static void call_later(struct conn *c)
{
    forget_flight(c);
    drop_secure(c);
    c->call.on = false;
    c->state = CONN_LINKING;
    c->give_up_at = c->link_by;
    c->elsewhere_at = c->e->now + CALL_LATER; /* if the server is there then; else when it is */
}

/* Where the server has just come back, the callee may not be back yet. */
static bool may_be_back(struct conn *c)
{
    tw_time now = c->e->now;
    if (c->state != CONN_CALLING || c->alt.link || c->links_left || !(c->server_lost || now < c->call.link->fresh_until))
        return false;
    c->back_by = c->back_by ? c->back_by : tw_time_min(now + BACK_WITHIN, c->link_by);
    return now + CALL_LATER <= c->back_by;
}

/* The server ended before there was an answer: again once it is back, or at another. The callee may have seen the offer, and takes
 * none twice: under another secret, and without the early data, which must not arrive twice. */
static void renew_call(struct conn *c)
{
    ep_random(c->e, c->secret, sizeof(c->secret));
    c->has_nonce = false;
    c->early_n = 0;
    c->server_lost = true;
    call_later(c);
}

/* One of the two has lost the server. */
static void lose_call(struct conn *c, const char *why)
{
    if (c->call.on && c->state == CONN_CALLING && !c->alt.link) {
        renew_call(c);
    } else if (c->call.on && c->state == CONN_TALKING) {
        c->call.on = false;
        ep_again_failed(c, false);
        ep_conn_choose(c);
    }
    if (c->call.on || (c->state == CONN_LINKING && c->links_left))
        fail_call(c, TW_ENDPOINT_CODE_SERVER, why);
}

void ep_conn_on_link_lost(struct tw_endpoint *e, struct link *l, const char *why)
{
    for (uint16_t i = 0; i < e->slot_n; i++) {
        struct conn *c = e->slots[i];
        if (c && c->alt.link == l)
            c->alt = (struct call){ 0 };
        if (!c || !c->id || c->call.link != l || c->state == CONN_ENDING)
            continue;
        lose_call(c, why);
        ep_conn_stir(c);
    }
}

/* --- being called ----------------------------------------------------------------------------------- */

static struct conn *of_call(const struct tw_endpoint *e, const struct link *l, uint32_t call)
{
    for (uint16_t i = e->slot_n; i-- > 0;) { /* of many the youngest are those that talk */
        struct conn *c = e->slots[i];
        if (c && (is_call(&c->call, l, call) || is_call(&c->alt, l, call)))
            return c;
    }
    return NULL;
}

/* A connection to this peer that we have begun, and that is not there yet. */
static struct conn *our_call_to(const struct tw_endpoint *e, const struct tw_key *key)
{
    for (uint16_t i = 0; i < e->slot_n; i++) {
        struct conn *c = e->slots[i];
        if (c && c->id && c->caller && !c->by_hand && (c->state == CONN_LINKING || c->state == CONN_CALLING) &&
            tw_key_eq(&c->peer.key, key))
            return c;
    }
    return NULL;
}

/* What makes an offer with a wrong clock good: made for this caller, a while ago at most. */
static void retry_nonce(const struct tw_endpoint *e, const struct tw_word *offer, uint64_t slice,
                        uint8_t nonce[TW_OFFER_NONCE])
{
    uint8_t when[8];
    tw_put_u64(when, slice);
    const struct tw_bytes parts[] = { tw_bytes(e->nonce_key, 32), tw_bytes(offer->caller.b, TW_KEY_SIZE),
                                      tw_bytes(offer->secret, 32), tw_bytes(when, 8) };
    tw_digest("thalweg retry", parts, 4, nonce, TW_OFFER_NONCE);
}

static bool is_fresh(const struct tw_endpoint *e, const struct tw_word *offer)
{
    uint64_t now = ep_unix_ms(e), slice = now / FRESH_MS;
    uint8_t nonce[TW_OFFER_NONCE];
    uint64_t apart = offer->unix_ms > now ? offer->unix_ms - now : now - offer->unix_ms;
    if (apart <= FRESH_MS)
        return true;
    for (uint64_t back = 0; offer->has_nonce && back < 2; back++) {
        retry_nonce(e, offer, slice - back, nonce);
        if (sodium_memcmp(nonce, offer->nonce, sizeof(nonce)) == 0)
            return true;
    }
    return false;
}

static void say_retry(struct tw_endpoint *e, struct link *l, uint32_t call, const struct tw_word *offer)
{
    struct tw_word w = { .kind = TW_WORD_RETRY, .unix_ms = ep_unix_ms(e), .has_nonce = true };
    struct tw_box box;
    size_t n;
    retry_nonce(e, offer, w.unix_ms / FRESH_MS, w.nonce);
    tw_box_init(&box, offer->secret, "thalweg from callee");
    if (!tw_word_seal(&w, &box, e->word, &n))
        (void)!tw_rdv_signal(l->rdv, e->now, call, tw_bytes(e->word, n));
}

static void deliver_early(struct conn *c, struct tw_bytes early)
{
    if (!early.n || c->early_in || !(c->early_in = malloc(early.n)))
        return;
    memcpy(c->early_in, early.p, early.n);
    struct tw_endpoint_event *ev = ep_push(c->e, TW_EP_EARLY);
    ev->conn = c->id;
    ev->data = tw_bytes(c->early_in, early.n);
}

bool ep_redeem(struct tw_endpoint *e, const struct tw_word *offer)
{
    if (ep_is_allowed(e, &offer->caller))
        return true;
    struct tw_endpoint_invite *v = ep_invite(e, offer->invite);
    if (!v || tw_endpoint_allow(e, &offer->caller))
        return false;
    v->uses--;
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_INVITED);
    ev->key = offer->caller;
    ev->data = tw_bytes(v->secret, TW_INVITE_SIZE);
    return true;
}

static void accept_call(struct tw_endpoint *e, struct link *l, uint32_t call, const struct tw_word *offer)
{
    struct conn *c = our_call_to(e, &offer->caller);
    if (c) { /* each calls the other: the one with the higher key becomes the callee */
        ep_call_drop(c, TW_RDV_OTHER_WAY);
        drop_secure(c);
        c->caller = false;
        tw_ice_set_controlling(c->ice, e->now, false);
    } else if ((c = ep_conn_take(e))) {
        c->peer.key = offer->caller;
        struct tw_endpoint_event *ev = ep_push(e, TW_EP_INCOMING);
        ev->conn = c->id;
        ev->key = offer->caller;
    } else {
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_BUSY);
        return;
    }
    c->state = CONN_TALKING;
    c->call = (struct call){ .link = l, .gen = l->gen, .id = call, .on = true, .answered = true };
    c->give_up_at = e->now + ANSWER_WITHIN;
    memcpy(c->secret, offer->secret, sizeof(c->secret));
    ep_begin_boxes(c);
    if (ep_secure_start(c, true)) {
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
        return;
    }
    struct tw_word w = { .kind = TW_WORD_ANSWER, .has_prekey = true };
    memcpy(w.prekey, e->prekey_wire, sizeof(w.prekey));
    ep_introduce(c, &c->call, &w);
    ep_say(c, &w);
    ep_hear(c, offer);
    deliver_early(c, offer->early);
    ep_conn_stir(c);
    ep_conn_spare(e, false);
}

static bool is_answered(const struct tw_endpoint *e, const struct tw_word *offer)
{
    for (uint16_t i = 0; i < e->slot_n; i++) {
        const struct conn *c = e->slots[i];
        if (c && c->id && !c->caller && tw_key_eq(&c->peer.key, &offer->caller) &&
            memcmp(c->secret, offer->secret, sizeof(c->secret)) == 0)
            return true;
    }
    return false;
}

void ep_conn_on_call(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes sealed)
{
    struct tw_word offer;
    int err;
    if (e->closing || !e->seen) {
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
        return;
    }
    if (tw_offer_open(sealed, &e->self, e->prekeys, PREKEYS, e->plain, &offer)) {
        /* Maybe to a prekey of before we were started: here is ours. It is signed, and no secret. */
        (void)!tw_rdv_signal(l->rdv, e->now, call, tw_bytes(e->prekey_wire, TW_PREKEY_WIRE));
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
        return;
    }
    if (offer.expires_ms) { /* from a ticket that was for somebody's eyes */
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
        return;
    }
    if (!(ep_is_allowed(e, &offer.caller) || ep_invite(e, offer.invite)) || tw_key_eq(&offer.caller, &e->self.key)) {
        ep_push(e, TW_EP_KNOCK)->key = offer.caller;
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
    } else if (offer.again) {
        ep_again_on_call(e, l, call, &offer);
    } else if (!is_fresh(e, &offer)) {
        say_retry(e, l, call, &offer);
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_HUNG_UP);
    } else if (is_answered(e, &offer)) { /* it came by another way, too */
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_HUNG_UP);
    } else if ((err = ep_seen_put(e->seen, &offer, e->now, e->now + 2 * FRESH_MS * TW_MSEC))) {
        tw_rdv_hangup(l->rdv, e->now, call, err == TW_EFULL ? TW_RDV_BUSY : TW_RDV_REFUSED);
    } else if (!ep_redeem(e, &offer)) {
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
    } else {
        struct conn *ours = our_call_to(e, &offer.caller);
        if (ours && memcmp(e->self.key.b, offer.caller.b, TW_KEY_SIZE) < 0) {
            /* Each calls the other: the lower key stays the caller; the other one will answer. */
            tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_OTHER_WAY);
            deliver_early(ours, offer.early);
            return;
        }
        accept_call(e, l, call, &offer);
    }
}

static void call_again(struct conn *c)
{
    forget_flight(c);
    ep_call_drop(c, TW_RDV_HUNG_UP);
    drop_secure(c);
    try_call(c);
}

static void on_retry(struct conn *c, const struct tw_word *w)
{
    if (c->has_nonce || !w->has_nonce) /* once */
        return;
    c->has_nonce = true;
    memcpy(c->nonce, w->nonce, sizeof(c->nonce));
    call_again(c);
}

/* The callee could not open the offer, and shows the prekey that it has now. If that is the one that we used, the offer was
 * damaged on the way. */
static void on_prekey(struct conn *c, struct tw_bytes body)
{
    struct tw_endpoint *e = c->e;
    struct tw_prekey fresh;
    const struct tw_prekey *known = ep_known_prekey(e, &c->peer.key);
    if (c->renewed || tw_prekey_read(body, &c->peer.key, &fresh) || (known && fresh.epoch < known->epoch))
        return;
    c->renewed = true; /* once */
    ep_learn_prekey(e, &c->peer.key, body.p);
    call_again(c);
}

void ep_conn_on_word(struct conn *c, const struct tw_word *w)
{
    bool calling = c->state == CONN_CALLING && c->caller;
    if (calling && w->kind == TW_WORD_RETRY) {
        on_retry(c, w);
    } else if (c->caller && c->again && w->kind == TW_WORD_ANSWER) {
        ep_again_answered(c);
        ep_hear(c, w);
    } else if (calling && w->kind == TW_WORD_ANSWER) {
        c->call.answered = true;
        c->state = CONN_TALKING;
        forget_flight(c);
        if (w->has_prekey)
            ep_learn_prekey(c->e, &c->peer.key, w->prekey);
        ep_hear(c, w);
    } else if (c->state == CONN_TALKING && w->kind == TW_WORD_MORE) {
        ep_hear(c, w);
    }
}

void ep_conn_on_signal(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body)
{
    struct conn *c = of_call(e, l, call);
    struct tw_word w;
    if (!c)
        return;
    if (c->state == CONN_CALLING && c->caller && body.n == TW_PREKEY_WIRE) { /* no word has this length */
        on_prekey(c, body);
    } else if (!tw_word_open(body, &c->from, e->plain, &w)) {
        if (is_call(&c->alt, l, call))
            take_alt(c);
        else if (c->alt.on)
            drop_alt(c);
        ep_conn_on_word(c, &w);
    }
    ep_conn_stir(c);
}

void ep_conn_on_datagram(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body)
{
    struct conn *c = of_call(e, l, call);
    if (!c)
        return;
    ep_conn_recv(c, body, 0);
    if (c->path.rung == TW_RUNG_PATCHED)
        ep_call_alive(c);
    ep_conn_stir(c);
}

void ep_conn_on_gone(struct tw_endpoint *e, struct link *l, uint32_t call, unsigned reason)
{
    struct conn *c = of_call(e, l, call);
    if (!c)
        return;
    if (reason == TW_RDV_LOST && c->connected) { /* at once, as it may just have come back by another connection */
        c->gone = true;
        c->again_wait = 0;
    }
    if (is_call(&c->alt, l, call)) {
        c->alt = (struct call){ 0 };
    } else if (reason == TW_RDV_LOST && c->call.on) {
        lose_call(c, tw_rdv_reason(reason));
    } else if (reason == TW_RDV_OTHER_WAY && c->caller && !c->connected) {
        c->call.on = false; /* theirs is on its way */
        c->give_up_at = e->now + ANSWER_WITHIN;
    } else if (reason == TW_RDV_HUNG_UP && c->has_nonce && c->state == CONN_CALLING) {
        return;              /* the end of the call that was answered by "retry" */
    } else if (reason == TW_RDV_NOT_HERE && c->call.early && c->state == CONN_CALLING && tw_rdv_was_other_day(l->rdv)) {
        c->call.on = false; /* the server knows better what day it is */
        call_again(c);
    } else if (reason == TW_RDV_NOT_HERE && may_be_back(c)) {
        call_later(c);
    } else if (reason == TW_RDV_NOT_HERE && c->peer.invited && !c->plainly && c->state == CONN_CALLING) {
        c->call.on = false; /* the invite may have been redeemed, by us, long ago */
        c->plainly = true;
        call_again(c);
    } else {
        fail_call(c, reason == TW_RDV_REFUSED ? TW_ENDPOINT_CODE_REFUSED
                     : reason == TW_RDV_NOT_HERE ? TW_ENDPOINT_CODE_ABSENT
                                                 : TW_ENDPOINT_CODE_SERVER,
                  tw_rdv_reason(reason));
    }
    ep_conn_stir(c);
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
    tell_candidates(c);
    ep_look_alive(c);
    ep_again_look(c);
    ep_conn_arm(c);
    ep_mark(c);
}

void ep_conn_arm(struct conn *c)
{
    tw_time at = tw_time_min(tw_time_min(tw_ice_deadline(c->ice), c->give_up_at), tw_time_min(c->again_at, c->elsewhere_at));
    if (c->secure && (c->path.rung != TW_RUNG_NONE || c->leaving)) /* without a way it could do nothing but wait */
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
        fail_call(c, TW_ENDPOINT_CODE_SERVER, c->call.link && c->call.link->why ? c->call.link->why
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
    if (c->secure)
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
        call_elsewhere(c);
    ep_again_tick(c);
    ep_conn_stir(c);
}
