/* What two peers say to each other by way of a server to find a way. */
#include <stdio.h>

#include "endpoint/internal.h"

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

void ep_tell_candidates(struct conn *c)
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
