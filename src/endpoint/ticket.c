/* Where there is no server, a person carries two tickets: an offer there, and its answer back (docs/protocol.md §4.1).
 * They are as secret as what a server sees of a call: not at all. */
#include <sodium.h>
#include <stdlib.h>

#include "endpoint/internal.h"

enum {
    VERSION = 1,
    OFFER = 1,
    ANSWER = 2,
    HEAD = 2,
    ID = 16,
    RAW_MAX = HEAD + ID + TW_OFFER_SEALED_MAX,
    BASE64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING,
};
#define GATHER_WITHIN (5 * TW_SEC)
#define LIFE_MS ((uint64_t)(TW_ENDPOINT_TICKET_LIFE / TW_MSEC))
static const char *const prefix[] = { [OFFER] = "thalweg-offer-", [ANSWER] = "thalweg-answer-" };

/* What an answer is known by. */
static void id_of(const struct conn *c, uint8_t id[ID])
{
    const struct tw_bytes secret = tw_bytes(c->secret, sizeof(c->secret));
    tw_digest("thalweg ticket", &secret, 1, id, ID);
}

/* --- writing ---------------------------------------------------------------------------------------- */

static int write_offer(struct conn *c, uint8_t *out, size_t *ret_n)
{
    struct tw_endpoint *e = c->e;
    struct tw_word w = { .kind = TW_WORD_OFFER, .caller = e->self.key, .unix_ms = ep_unix_ms(e) };
    w.expires_ms = w.unix_ms + LIFE_MS;
    w.invite = tw_bytes(c->peer.invite, c->peer.invited ? TW_INVITE_SIZE : 0);
    memcpy(w.secret, c->secret, sizeof(w.secret));
    ep_introduce(c, &c->call, &w);
    c->state = CONN_CALLING;
    ep_begin_boxes(c);
    /* Without a prekey: the other side may have been started again since, and could not say so. */
    return tw_offer_seal(&w, &e->self, &c->peer.key, NULL, &e->env.rng, out, ret_n);
}

static int write_answer(struct conn *c, uint8_t *out, size_t *ret_n)
{
    struct tw_word w = { .kind = TW_WORD_ANSWER, .has_prekey = true };
    memcpy(w.prekey, c->e->prekey_wire, sizeof(w.prekey));
    ep_introduce(c, &c->call, &w);
    c->state = CONN_TALKING;
    tw_ice_await(c->ice, c->e->now, c->e->now + TW_ENDPOINT_TICKET_LIFE);
    id_of(c, out);
    int err = tw_word_seal(&w, &c->to, out + ID, ret_n);
    *ret_n += ID;
    return err;
}

void ep_ticket_tell(struct conn *c)
{
    uint8_t raw[RAW_MAX] = { VERSION, c->caller ? OFFER : ANSWER };
    size_t n, at = strlen(prefix[raw[1]]);
    int err = c->caller ? write_offer(c, raw + HEAD, &n) : write_answer(c, raw + HEAD, &n);
    size_t cap = err ? 0 : at + sodium_base64_encoded_len(HEAD + n, BASE64);
    c->give_up_at = c->e->now + TW_ENDPOINT_TICKET_LIFE;
    c->ticket = err ? NULL : malloc(cap);
    if (!c->ticket) {
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
        return;
    }
    memcpy(c->ticket, prefix[raw[1]], at);
    sodium_bin2base64(c->ticket + at, cap - at, raw, HEAD + n, BASE64);
    struct tw_endpoint_event *ev = ep_push(c->e, TW_EP_TICKET);
    ev->conn = c->id;
    ev->data = tw_bytes_str(c->ticket);
}

/* An agent that is ready, or soon is. */
static struct conn *take(struct tw_endpoint *e, const struct tw_address *peer, bool caller)
{
    struct conn *c = ep_conn_take(e);
    if (!c)
        return NULL;
    c->by_hand = true;
    c->caller = caller;
    c->peer = *peer;
    c->state = CONN_TICKET;
    c->give_up_at = e->now + GATHER_WITHIN;
    tw_ice_set_controlling(c->ice, e->now, caller);
    return c;
}

int tw_endpoint_dial_by_hand(struct tw_endpoint *e, tw_time now, const struct tw_address *peer, uint32_t *ret_conn)
{
    e->now = now;
    int err = ep_may_dial(e, &peer->key);
    if (err)
        return err;
    struct conn *c = take(e, peer, true);
    if (!c)
        return TW_EFULL;
    ep_random(e, c->secret, sizeof(c->secret));
    *ret_conn = c->id;
    ep_conn_stir(c);
    return 0;
}

/* Not sooner: a handshake does not wait for a person. */
void ep_ticket_way(struct conn *c)
{
    if (c->by_hand && !c->secure && c->state == CONN_TALKING && ep_secure_start(c, !c->caller))
        ep_conn_over(c, TW_ENDPOINT_CODE_LOST, "out of memory", false);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static int complain(const char **ret_why, int err, const char *why)
{
    *ret_why = why;
    return err;
}

static int read_offer(struct tw_endpoint *e, struct tw_bytes sealed, uint32_t *ret_conn, const char **ret_why)
{
    struct tw_word w;
    uint64_t now = ep_unix_ms(e);
    if (!e->seen)
        return complain(ret_why, TW_ESTATE, "it is an offer, and only who listens can answer one");
    if (tw_offer_open(sealed, &e->self, e->prekeys, PREKEYS, e->plain, &w) || !w.expires_ms)
        return complain(ret_why, TW_EAUTH, "it is for somebody else, or was changed");
    if (!(ep_is_allowed(e, &w.caller) || ep_invite(e, w.invite)) || tw_key_eq(&w.caller, &e->self.key)) {
        ep_push(e, TW_EP_KNOCK)->key = w.caller;
        return complain(ret_why, TW_EDENIED, "it is from somebody who is not let in");
    }
    if (now > w.expires_ms + FRESH_MS || w.unix_ms > now + FRESH_MS || w.expires_ms > w.unix_ms + LIFE_MS)
        return complain(ret_why, TW_ETIMEOUT, "it has expired, or one of the two clocks is wrong");
    if (ep_seen_put(e->seen, &w, e->now, e->now + TW_ENDPOINT_TICKET_LIFE + 2 * FRESH_MS * TW_MSEC) || !ep_redeem(e, &w))
        return complain(ret_why, TW_ESTATE, "it was answered before");
    const struct tw_address caller = { .key = w.caller };
    struct conn *c = take(e, &caller, false);
    if (!c)
        return complain(ret_why, TW_EFULL, "there are too many connections");
    *ret_conn = c->id;
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_INCOMING);
    ev->conn = c->id;
    ev->key = w.caller;
    memcpy(c->secret, w.secret, sizeof(c->secret));
    ep_begin_boxes(c);
    ep_hear(c, &w);
    ep_conn_stir(c);
    ep_conn_spare(e, false);
    return 0;
}

static struct conn *asked_with(struct tw_endpoint *e, const uint8_t id[ID])
{
    uint8_t theirs[ID];
    for (uint16_t i = 0; i < e->slot_n; i++) {
        struct conn *c = e->slots[i];
        if (!c || !c->by_hand || !c->caller || c->state != CONN_CALLING)
            continue;
        id_of(c, theirs);
        if (sodium_memcmp(theirs, id, ID) == 0)
            return c;
    }
    return NULL;
}

static int read_answer(struct tw_endpoint *e, struct tw_bytes in, uint32_t *ret_conn, const char **ret_why)
{
    struct tw_word w;
    struct conn *c = in.n > ID ? asked_with(e, in.p) : NULL;
    if (!c)
        return complain(ret_why, TW_ENOTFOUND, "it is the answer to another offer, or to one that has expired");
    if (tw_word_open(tw_bytes(in.p + ID, in.n - ID), &c->from, e->plain, &w) || w.kind != TW_WORD_ANSWER)
        return complain(ret_why, TW_EAUTH, "it was changed");
    *ret_conn = c->id;
    ep_call_on_word(c, &w);
    ep_ticket_way(c);
    c->give_up_at = e->now + 40 * TW_SEC;
    ep_conn_stir(c);
    return 0;
}

int tw_endpoint_ticket(struct tw_endpoint *e, tw_time now, const char *text, uint32_t *ret_conn, const char **ret_why)
{
    uint8_t raw[RAW_MAX];
    size_t n = 0, len = strlen(text);
    unsigned kind = OFFER;
    e->now = now;
    *ret_why = NULL;
    while (kind <= ANSWER && strncmp(text, prefix[kind], strlen(prefix[kind])) != 0)
        kind++;
    size_t at = kind <= ANSWER ? strlen(prefix[kind]) : 0;
    if (!at || sodium_base642bin(raw, sizeof(raw), text + at, len - at, " \r\n\t", &n, NULL, BASE64) || n < HEAD ||
        raw[1] != kind)
        return complain(ret_why, TW_EMALFORMED, "that is no ticket, or not all of one");
    if (raw[0] != VERSION)
        return complain(ret_why, TW_EMALFORMED, "it is of a version that this program does not know");
    const struct tw_bytes rest = tw_bytes(raw + HEAD, n - HEAD);
    return kind == OFFER ? read_offer(e, rest, ret_conn, ret_why) : read_answer(e, rest, ret_conn, ret_why);
}
