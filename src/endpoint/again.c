/* A connection whose call was answered, and whose ends have lost each other: its caller finds the callee at a server once more, and tells
 * it where it is now. The streams know nothing of it. */
#include <sodium.h>

#include "endpoint/internal.h"

#define FIRST_WAIT (500 * TW_MSEC)
#define LAST_WAIT (3 * TW_SEC)

bool ep_is_lost(const struct conn *c)
{
    struct tw_ice_path p;
    return !c->ice_up || !tw_ice_path(c->ice, 0, 1, &p) || p.silent;
}

bool ep_is_in_need(const struct conn *c)
{
    return c->connected && c->state == CONN_TALKING && ep_is_lost(c) &&
           (!(c->call.on && c->call.answered) || tw_secure_is_stuck(c->secure, c->e->now));
}

static bool is_wanted(const struct conn *c)
{
    return c->caller && !c->by_hand && c->state == CONN_TALKING && !(c->call.on && c->call.answered) &&
           (c->gone || ep_is_lost(c));
}

void ep_again_look(struct conn *c)
{
    if (!is_wanted(c))
        c->again_at = TW_NEVER;
    else if (c->again_at == TW_NEVER)
        c->again_at = c->e->now + c->again_wait;
}

/* A link that can take a call, of those at which the peer may be. */
static bool find_link(struct conn *c)
{
    for (int round = 0; round < 2; round++) {
        while (c->call.link || ep_next_link(c)) {
            if (ep_link_may_call(c->call.link))
                return true;
            c->call.link = NULL;
        }
        if (ep_choose_links(c))
            return false;
    }
    return false;
}

void ep_again_tick(struct conn *c)
{
    if (c->e->now < c->again_at)
        return;
    if (c->call.on) { /* nobody has answered that one */
        ep_links_doubt(c->e);
        ep_call_drop(c, TW_RDV_HUNG_UP);
        c->call.link = NULL;
    }
    if (!find_link(c)) { /* ep_call_on_link() */
        c->again_at = c->e->now + FIRST_WAIT;
        return;
    }
    c->again_wait = c->again_wait ? tw_time_min(2 * c->again_wait, LAST_WAIT) : FIRST_WAIT;
    c->again_at = c->e->now + c->again_wait;
    c->again++;
    c->has_nonce = false;
    if (ep_call_make(c, &c->call) == 0)
        ep_begin_boxes(c);
    ep_conn_choose(c); /* by way of the call, first */
}

/* Each has heard the other by way of the server, so that carries data, too. */
static void heard_by_call(struct conn *c)
{
    ep_conn_choose(c);
    if (c->path.rung == TW_RUNG_PATCHED)
        ep_call_alive(c);
}

void ep_again_answered(struct conn *c)
{
    c->call.answered = true;
    c->again_at = TW_NEVER;
    c->again_wait = 0;
    c->gone = false;
    tw_ice_forget_remotes(c->ice, c->e->now); /* it says all that there is */
    heard_by_call(c);
}

/* At another server, or a little later; unless the callee says that it has forgotten us. As long as there is a way a server's word
 * for that ends nothing. */
void ep_again_failed(struct conn *c, bool refused)
{
    if (!c->caller)
        return;
    if (c->connected)
        c->state = CONN_TALKING;
    if (refused && c->again && !c->call.answered) {
        c->gone = false;
        if (ep_is_lost(c)) {
            ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "the other side does not know this connection any more", false);
            return;
        }
    }
    c->call.link = NULL;
    c->again_at = TW_NEVER;
    ep_again_look(c);
}

/* Each number is good once, so that nobody can send us an old place of the caller's. */
static struct conn *of_offer(const struct tw_endpoint *e, const struct tw_word *offer)
{
    uint8_t secret[32];
    for (uint16_t i = 0; i < e->slot_n; i++) {
        struct conn *c = e->slots[i];
        if (!c || !c->id || c->caller || c->state != CONN_TALKING || !tw_key_eq(&c->peer.key, &offer->caller) ||
            offer->again <= c->again)
            continue;
        ep_call_secret(c, offer->again, secret);
        if (sodium_memcmp(secret, offer->secret, sizeof(secret)) == 0)
            return c;
    }
    return NULL;
}

void ep_again_on_call(struct tw_endpoint *e, struct link *l, uint32_t call, const struct tw_word *offer)
{
    struct conn *c = of_offer(e, offer);
    struct tw_word w = { .kind = TW_WORD_ANSWER };
    if (!c) {
        tw_rdv_hangup(l->rdv, e->now, call, TW_RDV_REFUSED);
        return;
    }
    ep_call_drop(c, TW_RDV_HUNG_UP);
    c->again = offer->again;
    c->call = (struct call){ .link = l, .gen = l->gen, .id = call, .on = true, .answered = true };
    ep_begin_boxes(c);
    ep_introduce(c, &c->call, &w);
    ep_say(c, &w);
    tw_ice_forget_remotes(c->ice, e->now);
    ep_hear(c, offer);
    heard_by_call(c);
    ep_conn_stir(c);
}
