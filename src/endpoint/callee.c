/* Being called: whom to let in, and what is answered. */
#include <sodium.h>
#include <stdlib.h>

#include "endpoint/internal.h"

#define ANSWER_WITHIN (20 * TW_SEC)

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
        ep_drop_secure(c);
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

void ep_callee_on_call(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes sealed)
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
