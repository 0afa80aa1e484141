/* Answers to requests. */
#include "relay/internal.h"

bool relay_reply_begin(struct tw_relay *r, struct reply *p, enum tw_stun_class cls, unsigned method,
                       const uint8_t tid[TW_STUN_TID], const struct auth *auth)
{
    uint8_t *buf = relay_scratch(r, REPLY_MAX);
    if (!buf)
        return false;
    tw_stun_begin(&p->e, buf, REPLY_MAX, cls, method, tid);
    p->auth = auth;
    p->asked = 0;
    return true;
}

/* What a stranger's datagram sets off must not be larger than the datagram, or only a little and
 * seldom: its source address may be a victim's. */
bool relay_affordable(struct tw_relay *r, uint32_t sock, const struct tw_addr *client,
                      size_t asked, size_t answer)
{
    if (answer <= asked || is_connection(sock) ||
        tw_relay_budget_take(r->shared, r->now, client, &r->cfg->budget))
        return true;
    r->stats.drop_budget++;
    return false;
}

void relay_reply_send(struct tw_relay *r, struct reply *p, uint32_t listener,
                      const struct tw_addr *local, const struct tw_addr *client)
{
    if (p->auth && p->auth->key.n) {
        struct tw_bytes key = tw_bytes(p->auth->key.k, p->auth->key.n);
        if (p->auth->sha256)
            tw_stun_add_integrity_sha256(&p->e, key);
        else
            tw_stun_add_integrity(&p->e, key);
    }
    bool made = tw_stun_end(&p->e) == 0 &&
                (!p->asked || relay_affordable(r, listener, client, p->asked, p->e.w.n));
    r->scratch_n -= (uint32_t)(REPLY_MAX - (made ? p->e.w.n : 0));
    struct tw_datagram *d = made ? relay_tx(r, listener, local, client) : NULL;
    if (d)
        relay_iov(r, d, p->e.w.p, p->e.w.n);
}

void relay_error(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                 const struct auth *auth, unsigned code)
{
    struct reply p;
    if (!relay_reply_begin(r, &p, TW_STUN_ERROR, m->method, m->tid, auth))
        return;
    p.asked = auth && auth->key.n ? 0 : m->raw.n;
    /* Signed errors may be talkative; what a stranger gets is as short as can be. */
    bool proven = auth && auth->key.n;
    tw_stun_add_error(&p.e, code, tw_bytes_str(proven ? tw_stun_reason(code) : ""));
    if (code == TW_STUN_CODE_UNKNOWN_ATTRIBUTE) {
        uint8_t types[2 * TW_STUN_MAX_UNKNOWN];
        for (size_t i = 0; i < m->unknown_n; i++)
            tw_put_u16(types + 2 * i, m->unknown[i]);
        tw_stun_add(&p.e, TW_STUN_A_UNKNOWN_ATTRIBUTES, tw_bytes(types, 2u * m->unknown_n));
    }
    if (code == TW_STUN_CODE_TRY_ALTERNATE)
        tw_stun_add_addr(&p.e, TW_STUN_A_ALTERNATE_SERVER, &r->cfg->alternate);
    r->stats.errors_sent++;
    relay_reply_send(r, &p, in->sock, &in->dst, &in->src);
}

/* A success that says nothing more. */
void relay_success(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                   const struct auth *auth)
{
    struct reply p;
    if (relay_reply_begin(r, &p, TW_STUN_SUCCESS, m->method, m->tid, auth))
        relay_reply_send(r, &p, in->sock, &in->dst, &in->src);
}
