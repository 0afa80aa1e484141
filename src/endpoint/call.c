/* Calling a peer, at the servers where it may be, and what comes of it. */
#include <stdlib.h>

#include "endpoint/internal.h"

#define ANSWER_WITHIN (20 * TW_SEC)
#define ELSEWHERE_AFTER TW_SEC
#define LINK_WITHIN (15 * TW_SEC)
#define CALL_LATER (500 * TW_MSEC)
#define BACK_WITHIN (5 * TW_SEC)
#define SEEK_WITHIN (3 * TW_SEC)

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

void ep_drop_secure(struct conn *c)
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
    if (ep_learn_servers(c)) {
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
        return;
    }
    send_offer(c);
    if (c->state == CONN_CALLING && !c->secure && ep_secure_start(c, false))
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
}

void ep_call_elsewhere(struct conn *c)
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
        (void)!ep_learn_servers(c); /* without them it may work, too */
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

void ep_call_on_link(struct tw_endpoint *e, struct link *l)
{
    for (uint16_t i = 0; i < e->slot_n; i++)
        if (e->slots[i])
            on_link(e->slots[i], l);
}

void ep_call_failed(struct conn *c, uint64_t code, const char *why)
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
    ep_drop_secure(c);
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
        ep_call_failed(c, TW_ENDPOINT_CODE_SERVER, why);
}

void ep_call_on_link_lost(struct tw_endpoint *e, struct link *l, const char *why)
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

/* --- what comes by way of a call ---------------------------------------------------------------------- */

static void list(struct conn *c, unsigned i, bool on, uint32_t call)
{
    struct listed *l = &c->listed[i];
    if (l->on == on && (!on || l->call == call))
        return;
    if (l->on)
        tw_map_del(&c->e->by_call, tw_map_hash_number(l->call), c);
    l->call = call;
    l->on = on && !tw_map_put(&c->e->by_call, tw_map_hash_number(call), c);
}

void ep_call_list(struct conn *c)
{
    list(c, 0, c->call.on, c->call.id);
    list(c, 1, c->alt.on, c->alt.id);
}

void ep_call_unlist(struct conn *c)
{
    list(c, 0, false, 0);
    list(c, 1, false, 0);
}

struct of_link {
    const struct link *link;
    uint32_t call;
};

static bool has_call(const void *item, const void *key)
{
    const struct conn *c = item;
    const struct of_link *k = key;
    return is_call(&c->call, k->link, k->call) || is_call(&c->alt, k->link, k->call);
}

static struct conn *of_call(const struct tw_endpoint *e, const struct link *l, uint32_t call)
{
    return tw_map_get(&e->by_call, tw_map_hash_number(call), has_call, &(struct of_link){ l, call });
}

static void call_again(struct conn *c)
{
    forget_flight(c);
    ep_call_drop(c, TW_RDV_HUNG_UP);
    ep_drop_secure(c);
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

void ep_call_on_word(struct conn *c, const struct tw_word *w)
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

void ep_call_on_signal(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body)
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
        ep_call_on_word(c, &w);
    }
    ep_conn_stir(c);
}

void ep_call_on_datagram(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body)
{
    struct conn *c = of_call(e, l, call);
    if (!c)
        return;
    ep_conn_recv(c, body, 0);
    if (c->path.rung == TW_RUNG_PATCHED)
        ep_call_alive(c);
    ep_conn_stir(c);
}

void ep_call_on_gone(struct tw_endpoint *e, struct link *l, uint32_t call, unsigned reason)
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
        ep_call_failed(c, reason == TW_RDV_REFUSED ? TW_ENDPOINT_CODE_REFUSED
                     : reason == TW_RDV_NOT_HERE ? TW_ENDPOINT_CODE_ABSENT
                                                 : TW_ENDPOINT_CODE_SERVER,
                  tw_rdv_reason(reason));
    }
    ep_conn_stir(c);
}
