/* Binding (RFC 8489 §7), and what RFC 5780 adds to it where a second address is configured. */
#include "relay/internal.h"

enum { CHANGE_IP = 4, CHANGE_PORT = 2, MAX_PADDING = 1500, ADDR_ATTR_V4 = 12, ADDR_ATTR_V6 = 24 };

/* Which listeners are to this one what RFC 5780 calls the alternate ones. */
struct place {
    const struct tw_relay_behaviour *b;
    int ip, port;
};

static bool find_place(const struct tw_relay *r, uint32_t listener, struct place *ret)
{
    for (uint32_t i = 0; i < r->cfg->behaviour_n; i++)
        for (int k = 0; k < 4; k++)
            if (r->cfg->behaviour[i].listener[k / 2][k % 2] == listener) {
                *ret = (struct place){ &r->cfg->behaviour[i], k / 2, k % 2 };
                return true;
            }
    return false;
}

static bool asks_about_behaviour(const struct tw_stun_msg *m)
{
    return tw_stun_has(m, TW_STUN_A_CHANGE_REQUEST) || tw_stun_has(m, TW_STUN_A_PADDING) ||
           tw_stun_has(m, TW_STUN_A_RESPONSE_PORT);
}

static void add_padding(struct tw_stun_enc *e, size_t n)
{
    static const uint8_t zeroes[MAX_PADDING];
    tw_stun_add(e, TW_STUN_A_PADDING, tw_bytes(zeroes, n));
}

/* RESPONSE-PORT sends the answer where another program may be: only for who can read our answers. */
static bool response_port(struct tw_relay *r, const struct tw_datagram *in,
                          const struct tw_stun_msg *m, struct tw_addr *client)
{
    struct reply p;
    if (!tw_stun_get_u16(m, TW_STUN_A_RESPONSE_PORT, &client->port))
        return true;
    if (client->port && relay_nonce_fresh(r, in, tw_stun_get(m, TW_STUN_A_NONCE)))
        return true;
    if (!relay_reply_begin(r, &p, TW_STUN_ERROR, TW_STUN_BINDING, m->tid, NULL))
        return false;
    p.asked = m->raw.n;
    tw_stun_add_error(&p.e, TW_STUN_CODE_STALE_NONCE, tw_bytes(NULL, 0));
    relay_add_nonce(r, &p.e, in);
    r->stats.challenges_sent++;
    relay_reply_send(r, &p, in->sock, &in->dst, &in->src);
    return false;
}

/* RFC 5780 §6. False: it was answered otherwise. */
static bool discover(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                     const struct place *at, struct reply *p, uint32_t *listener,
                     struct tw_addr *client)
{
    uint32_t change = 0;
    bool padded = tw_stun_has(m, TW_STUN_A_PADDING);
    (void)tw_stun_get_u32(m, TW_STUN_A_CHANGE_REQUEST, &change);
    const struct tw_addr *l = r->cfg->listeners;
    *listener = at->b->listener[at->ip ^ !!(change & CHANGE_IP)][at->port ^ !!(change & CHANGE_PORT)];
    /* What a plain question gets on top must not turn us into an amplifier; who asks about
     * behaviour gets it or nothing. */
    size_t more = 2u * (in->src.family == TW_FAMILY_V4 ? ADDR_ATTR_V4 : ADDR_ATTR_V6);
    if (!relay_affordable(r, in->sock, &in->src, m->raw.n, p->e.w.n + more))
        return !asks_about_behaviour(m);
    if (!response_port(r, in, m, client))
        return false;
    tw_stun_add_addr(&p->e, TW_STUN_A_RESPONSE_ORIGIN, &l[*listener]);
    tw_stun_add_addr(&p->e, TW_STUN_A_OTHER_ADDRESS,
                     &l[at->b->listener[!at->ip][!at->port]]);
    size_t room = m->raw.n > p->e.w.n + 4 ? (m->raw.n - p->e.w.n - 4) & ~(size_t)3 : 0;
    size_t pad = tw_stun_get(m, TW_STUN_A_PADDING).n;
    if (padded && room)
        add_padding(&p->e, pad < room ? pad : room);
    return true;
}

/* RFC 5780 §6.1: a server with one address answers 420 to CHANGE-REQUEST and the like. */
static void refuse(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m)
{
    struct tw_stun_msg judged = *m;
    static const enum tw_stun_attr needs[] = { TW_STUN_A_CHANGE_REQUEST, TW_STUN_A_PADDING,
                                               TW_STUN_A_RESPONSE_PORT };
    for (int i = 0; i < 3; i++)
        if (tw_stun_has(m, needs[i]) && judged.unknown_n < TW_STUN_MAX_UNKNOWN)
            judged.unknown[judged.unknown_n++] = tw_stun_attr_infos[needs[i]].type;
    relay_error(r, in, &judged, NULL,
                m->bad_attr ? TW_STUN_CODE_BAD_REQUEST : TW_STUN_CODE_UNKNOWN_ATTRIBUTE);
}

void relay_answer_binding(struct tw_relay *r, const struct tw_datagram *in,
                          const struct tw_stun_msg *m)
{
    struct reply p;
    struct place at;
    struct tw_addr client = in->src, local = in->dst;
    uint32_t listener = in->sock;
    bool here = find_place(r, in->sock, &at);
    if (m->bad_attr || m->unknown_n || (!here && asks_about_behaviour(m))) {
        refuse(r, in, m);
        return;
    }
    if (!relay_reply_begin(r, &p, TW_STUN_SUCCESS, TW_STUN_BINDING, m->tid, NULL))
        return;
    tw_stun_add_addr(&p.e, TW_STUN_A_XOR_MAPPED_ADDRESS, &in->src);
    if (here && !discover(r, in, m, &at, &p, &listener, &client))
        return;
    if (listener != in->sock)
        local = r->cfg->listeners[listener];
    if (tw_stun_has(m, TW_STUN_A_FINGERPRINT))
        tw_stun_add_fingerprint(&p.e);
    r->stats.bindings++;
    relay_reply_send(r, &p, listener, &local, &client);
}
