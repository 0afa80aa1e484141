/* Requests and indications from clients (RFC 8656 §8, §10, §12), except Allocate. */
#include "relay/internal.h"

#include <sodium.h>

/* RFC 8656 §12 ends the range at 0x4fff, RFC 5766 §11 at 0x7fff; coturn's own clients bind anywhere in
 * the old one. Both begin with the bits 01, which is all a server needs to tell them from STUN. */
enum { CHANNEL_MIN = 0x4000, CHANNEL_MAX = 0x7fff };

/* --- Refresh (RFC 8656 §8.2) ---------------------------------------------------------------- */

static void drop_family(struct tw_relay *r, struct alloc *a, int family)
{
    relay_sock_free(r, a->rs[family]);
    a->rs[family] = NULL;
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->chan_n; i++)
        if (family_index(&a->chans[i].peer) != family)
            a->chans[kept++] = a->chans[i];
    a->chan_n = kept;
    a->last_up = a->last_down = 0;
}

static unsigned refresh(struct tw_relay *r, struct alloc *a, const struct tw_stun_msg *m,
                        uint32_t *ret_lifetime)
{
    uint8_t family = 0;
    uint32_t lifetime = r->cfg->default_lifetime, asked;
    bool has_family = tw_stun_get_u8(m, TW_STUN_A_REQUESTED_ADDRESS_FAMILY, &family);
    int f = family == 2 ? V6 : V4;

    if (has_family && family != 1 && family != 2)
        return TW_STUN_CODE_FAMILY_NOT_SUPPORTED;
    if (has_family && !a->rs[f])
        return TW_STUN_CODE_PEER_FAMILY_MISMATCH;
    if (tw_stun_get_u32(m, TW_STUN_A_LIFETIME, &asked)) {
        if (asked == 0)
            lifetime = 0;
        else if (asked > lifetime)
            lifetime = asked < r->cfg->max_lifetime ? asked : r->cfg->max_lifetime;
    }
    *ret_lifetime = lifetime;
    if (lifetime == 0 && has_family && a->rs[!f]) {
        drop_family(r, a, f);
        return 0;
    }
    if (lifetime == 0)
        relay_release(r, a, "by the client");
    else
        tw_timers_set(&r->alloc_timers, &a->timer,
                      tw_time_add(r->now, tw_time_from_sec(lifetime)));
    return 0;
}

static unsigned answer_refresh(struct tw_relay *r, const struct tw_datagram *in, struct alloc *a,
                               const struct tw_stun_msg *m, const struct auth *auth)
{
    struct reply p;
    uint32_t lifetime;
    unsigned code = refresh(r, a, m, &lifetime);
    if (code)
        return code;
    if (relay_reply_begin(r, &p, TW_STUN_SUCCESS, TW_STUN_REFRESH, m->tid, auth)) {
        tw_stun_add_u32(&p.e, TW_STUN_A_LIFETIME, lifetime);
        if (lifetime && a->mobile && tw_stun_has(m, TW_STUN_A_MOBILITY_TICKET))
            relay_add_ticket(r, &p.e, a);
        relay_reply_send(r, &p, in->sock, &in->dst, &in->src);
    }
    return 0;
}

/* --- CreatePermission (RFC 8656 §10.2): all or nothing -------------------------------------- */

static unsigned create_permission(struct tw_relay *r, struct alloc *a, const struct tw_stun_msg *m)
{
    struct tw_bytes v;
    struct tw_addr peer;
    uint32_t n = 0;
    for (size_t pos = 0; tw_stun_next(m, TW_STUN_A_XOR_PEER_ADDRESS, &pos, &v); n++) {
        if (!tw_stun_read_addr(v, true, m->tid, &peer))
            return TW_STUN_CODE_BAD_REQUEST;
        unsigned code = relay_judge_peer(r, a, &peer);
        if (code)
            return code;
    }
    if (n == 0)
        return TW_STUN_CODE_BAD_REQUEST;
    if (relay_perm_room(r, a, n))
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    for (size_t pos = 0; tw_stun_next(m, TW_STUN_A_XOR_PEER_ADDRESS, &pos, &v);)
        if (tw_stun_read_addr(v, true, m->tid, &peer))
            relay_perm_set(r, a, &peer);
    return 0;
}

/* --- ChannelBind (RFC 8656 §12.2) ----------------------------------------------------------- */

static void publish_flow(struct tw_relay *r, const struct alloc *a, const struct channel *c)
{
    const struct rsock *rs = a->rs[family_index(&c->peer)];
    if (!r->cfg->publish_flows || c->own || a->path.listener >= TW_RELAY_FIRST_SOCK ||
        !relay_events_free(r, 1))
        return;
    struct tw_relay_event *ev = relay_event(r, TW_RELAY_FLOW);
    ev->sock = rs->id;
    ev->addr = rs->addr;
    ev->client = a->path.client;
    ev->peer = c->peer;
    ev->listener = a->path.listener;
    ev->channel = c->number;
    ev->until = tw_time_min(a->timer.at, tw_time_min(c->until, c->permitted));
}

static unsigned channel_bind(struct tw_relay *r, struct alloc *a, const struct tw_stun_msg *m)
{
    uint16_t number;
    struct tw_addr peer;
    if (!tw_stun_get_u16(m, TW_STUN_A_CHANNEL_NUMBER, &number) || number < CHANNEL_MIN ||
        number > CHANNEL_MAX || !tw_stun_get_addr(m, TW_STUN_A_XOR_PEER_ADDRESS, &peer))
        return TW_STUN_CODE_BAD_REQUEST;

    const struct channel *by_number = relay_chan_by_number(a, number);
    const struct channel *by_peer = relay_chan_by_peer(a, &peer);
    if (by_number && by_number->until > r->now && !tw_addr_eq(&by_number->peer, &peer))
        return TW_STUN_CODE_BAD_REQUEST;
    if (by_peer && by_peer->until > r->now && by_peer->number != number)
        return TW_STUN_CODE_BAD_REQUEST;
    unsigned code = relay_judge_peer(r, a, &peer);
    if (code)
        return code;
    if (peer.port == 0)
        return TW_STUN_CODE_FORBIDDEN;
    if (relay_chan_room(r, a) || relay_perm_room(r, a, 1))
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    publish_flow(r, a, relay_chan_set(r, a, &peer, number));
    return 0;
}

/* --- dispatch ----------------------------------------------------------------------------- */

/* RFC 8016 §3.2: a Refresh with a ticket comes from wherever the client is now. */
static struct alloc *find_or_move(struct tw_relay *r, const struct tw_datagram *in,
                                  const struct tw_stun_msg *m, const struct auth *auth,
                                  unsigned *ret_code)
{
    struct alloc *a = relay_find(r, in);
    struct tw_bytes ticket = tw_stun_get(m, TW_STUN_A_MOBILITY_TICKET);
    *ret_code = TW_STUN_CODE_ALLOCATION_MISMATCH;
    if (a || m->method != TW_STUN_REFRESH || ticket.n == 0)
        return a;
    a = relay_ticket_alloc(r, ticket);
    if (!a || !r->cfg->mobility)
        *ret_code = TW_STUN_CODE_BAD_REQUEST;
    else if (a->user != auth->user)
        *ret_code = TW_STUN_CODE_WRONG_CREDENTIALS;
    else if (a->state == ALLOC_LIVE)
        *ret_code = relay_move(r, a, in);
    return *ret_code ? NULL : a;
}

static unsigned on_allocation(struct tw_relay *r, const struct tw_datagram *in,
                              const struct tw_stun_msg *m, const struct auth *auth)
{
    unsigned code;
    struct alloc *a = find_or_move(r, in, m, auth, &code);
    if (!a)
        return code;
    if (a->state != ALLOC_LIVE)
        return TW_STUN_CODE_ALLOCATION_MISMATCH;
    if (a->user != auth->user)
        return TW_STUN_CODE_WRONG_CREDENTIALS;
    switch (m->method) {
    case TW_STUN_REFRESH:
        return answer_refresh(r, in, a, m, auth);
    case TW_STUN_CONNECT:
        return relay_connect(r, a, m, auth);
    case TW_STUN_CREATE_PERMISSION:
        code = create_permission(r, a, m);
        break;
    default:
        /* RFC 6062 §5.1: no channels where there are no datagrams. */
        code = a->tcp ? TW_STUN_CODE_BAD_REQUEST : channel_bind(r, a, m);
        break;
    }
    if (!code)
        relay_success(r, in, m, auth);
    return code;
}

static bool is_banned(const struct tw_relay *r, const struct tw_addr *client)
{
    for (size_t i = 0; i < r->cfg->banned_n; i++)
        if (tw_range_has(&r->cfg->banned[i], client))
            return true;
    return false;
}

static void answer_request(struct tw_relay *r, const struct tw_datagram *in,
                           const struct tw_stun_msg *m)
{
    struct auth auth;
    unsigned code = 0;
    if (is_banned(r, &in->src)) {
        r->stats.drop_banned++;
        return;
    }
    if (relay_foreign_request(r, in, m) || !relay_authenticate(r, in, m, &auth))
        return;
    if (m->bad_attr)
        code = TW_STUN_CODE_BAD_REQUEST;
    else if (m->unknown_n)
        code = TW_STUN_CODE_UNKNOWN_ATTRIBUTE; /* RFC 8489 §6.3.1: after authentication */
    else if (m->method == TW_STUN_ALLOCATE)
        relay_allocate(r, in, m, &auth);
    else if (m->method == TW_STUN_CONNECTION_BIND)
        code = relay_connection_bind(r, in, m, &auth);
    else
        code = on_allocation(r, in, m, &auth);
    if (code)
        relay_error(r, in, m, &auth, code);
    sodium_memzero(&auth, sizeof(auth));
}

static bool is_turn_request(const struct tw_stun_msg *m)
{
    return m->method == TW_STUN_ALLOCATE || m->method == TW_STUN_REFRESH ||
           m->method == TW_STUN_CREATE_PERMISSION || m->method == TW_STUN_CHANNEL_BIND ||
           m->method == TW_STUN_CONNECT || m->method == TW_STUN_CONNECTION_BIND;
}

void relay_request(struct tw_relay *r, const struct tw_datagram *in, struct tw_bytes bytes)
{
    struct tw_stun_msg m;
    if (tw_stun_decode(bytes, &m)) {
        r->stats.drop_malformed++;
        return;
    }
    if (m.cls == TW_STUN_INDICATION) {
        if (m.method == TW_STUN_SEND)
            relay_send_indication(r, in, &m);
        return; /* a Binding indication only keeps a NAT awake */
    }
    if (m.cls != TW_STUN_REQUEST) {
        r->stats.drop_malformed++;
        return;
    }
    if (m.method == TW_STUN_BINDING)
        relay_answer_binding(r, in, &m);
    else if (r->cfg->no_turn || !is_turn_request(&m))
        relay_error(r, in, &m, NULL, TW_STUN_CODE_BAD_REQUEST);
    else if (relay_events_free(r, EVENTS_PER_REQUEST))
        answer_request(r, in, &m);
    else
        r->stats.drop_full++; /* the client will ask again */
}
