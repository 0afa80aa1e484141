/* Data through the allocation: ChannelData where there is a channel, indications elsewhere. */
#include "turn/internal.h"

#include <stdlib.h>

static const uint8_t padding[3];

static void set_out(struct tw_turn *t, uint8_t tos, size_t n_iov)
{
    t->out = (struct tw_datagram){ .sock = t->cfg.sock, .dst = t->cfg.server, .tos = tos,
                                   .iov = t->iov, .iov_n = n_iov };
    t->has_out = true;
}

static void channel_data(struct tw_turn *t, const struct peer *p, struct tw_bytes data, uint8_t tos)
{
    size_t pad = t->cfg.stream ? -data.n & 3 : 0; /* RFC 8656 §12.5 */
    tw_put_u16(t->head, p->number);
    tw_put_u16(t->head + 2, (uint16_t)data.n);
    t->iov[0] = tw_bytes(t->head, CHANNEL_HEADER);
    t->iov[1] = data;
    t->iov[2] = tw_bytes(padding, pad);
    set_out(t, tos, pad ? 3 : 2);
}

/* RFC 8656 §11.1. DATA comes last, so that its value can stay where it is. */
static void send_indication(struct tw_turn *t, const struct tw_addr *peer, struct tw_bytes data,
                            uint8_t tos, uint8_t flags)
{
    uint8_t tid[TW_STUN_TID];
    struct tw_stun_enc e;
    size_t pad = -data.n & 3;
    t->env.rng.fill(t->env.rng.ctx, tid, sizeof(tid));
    tw_stun_begin(&e, t->head, sizeof(t->head), TW_STUN_INDICATION, TW_STUN_SEND, tid);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, peer);
    if (flags & TW_DGRAM_DF)
        tw_stun_add_flag(&e, TW_STUN_A_DONT_FRAGMENT);
    tw_wr_u16(&e.w, tw_stun_attr_infos[TW_STUN_A_DATA].type);
    tw_wr_u16(&e.w, (uint16_t)data.n);
    tw_put_u16(t->head + 2, (uint16_t)(e.w.n - TW_STUN_HEADER + data.n + pad));
    t->iov[0] = tw_bytes(t->head, e.w.n);
    t->iov[1] = data;
    t->iov[2] = tw_bytes(padding, pad);
    set_out(t, tos, pad ? 3 : 2);
}

void turn_data_out(struct tw_turn *t, const struct tw_addr *peer, const struct peer *channel,
                   struct tw_bytes data, uint8_t tos, uint8_t flags)
{
    if (channel && !(flags & TW_DGRAM_DF))
        channel_data(t, channel, data, tos);
    else
        send_indication(t, peer, data, tos, flags);
}

/* --- waiting for a channel ---------------------------------------------------------------- */

static int hold(struct tw_turn *t, const struct tw_addr *peer, struct tw_bytes data, uint8_t tos)
{
    if (t->held_n == HELD_MAX)
        return TW_EFULL;
    struct held *h = malloc(sizeof(*h) + data.n);
    if (!h)
        return TW_ENOMEM;
    h->next = NULL;
    h->peer = *peer;
    h->tos = tos;
    h->n = data.n;
    if (data.n)
        memcpy(h->data, data.p, data.n);
    *t->held_tail = h;
    t->held_tail = &h->next;
    t->held_n++;
    return 0;
}

static void unlink_held(struct tw_turn *t, struct held **at)
{
    struct held *h = *at;
    *at = h->next;
    if (t->held_tail == &h->next)
        t->held_tail = at;
    t->held_n--;
}

/* The held datagram that was handed out last is not needed any more. */
void turn_held_sent(struct tw_turn *t)
{
    free(t->sent_held);
    t->sent_held = NULL;
}

/* Takes the next held datagram whose channel stands by now; false when there is none. */
bool turn_held_out(struct tw_turn *t)
{
    for (struct held **at = &t->held; *at; at = &(*at)->next) {
        struct held *h = *at;
        const struct peer *p = turn_peer_find(t, &h->peer);
        if (!p || p->bound_until <= t->now)
            continue;
        unlink_held(t, at);
        turn_held_sent(t);
        t->sent_held = h;
        turn_data_out(t, &h->peer, p, tw_bytes(h->data, h->n), h->tos, 0);
        return true;
    }
    return false;
}

void turn_held_drop(struct tw_turn *t, const struct tw_addr *peer)
{
    for (struct held **at = &t->held; *at;) {
        struct held *h = *at;
        if (peer && !tw_addr_eq(&h->peer, peer)) {
            at = &h->next;
            continue;
        }
        unlink_held(t, at);
        free(h);
    }
}

int tw_turn_send(struct tw_turn *t, tw_time now, const struct tw_addr *peer, struct tw_bytes data,
                 uint8_t tos, uint8_t flags)
{
    enum { OVERHEAD = TW_STUN_HEADER + 24 + 4 + 4 + 3 };
    if (data.n > MAX_DATA)
        return TW_EINVAL;
    struct peer *p = turn_peer_find(t, peer);
    t->now = now;
    if (p)
        p->used_at = now;
    if (t->state == TURN_READY || t->state == TURN_REFRESHING)
        turn_held_sent(t);
    if (flags & TW_TURN_BARE && (!p || p->bound_until <= now)) {
        p = turn_peer_permitting(t, now, peer);
        if (!p)
            return TW_ESTATE;
        p->used_at = now;
        turn_data_out(t, peer, NULL, data, tos, flags);
        return 0;
    }
    if (!p || p->bound_until <= now) {
        int err = tw_turn_bind(t, now, peer);
        if (err)
            return err;
        p = NULL;
    }
    bool permitted = p || turn_peer_permitting(t, now, peer);
    if (p || (flags & TW_DGRAM_DF && permitted) ||
        (permitted && data.n + OVERHEAD <= t->cfg.max_payload)) {
        turn_data_out(t, peer, p, data, tos, flags);
        return 0;
    }
    return flags & TW_DGRAM_DF ? TW_ESTATE : hold(t, peer, data, tos);
}

/* --- data from peers ---------------------------------------------------------------------- */

static bool read_channel_data(struct tw_turn *t, struct tw_bytes piece, struct tw_turn_event *ev)
{
    if (piece.n < CHANNEL_HEADER)
        return false;
    size_t n = tw_get_u16(piece.p + 2);
    struct peer *p = turn_peer_of_channel(t, tw_get_u16(piece.p));
    if (!p || n + CHANNEL_HEADER > piece.n)
        return false;
    p->used_at = t->now;
    ev->type = TW_TURN_DATA;
    ev->peer = p->addr;
    ev->data = tw_bytes(piece.p + CHANNEL_HEADER, n);
    return true;
}

/* RFC 8656 §11.4, §11.6. Only from peers we gave permission to: the server may be anybody's. */
static bool read_indication(struct tw_turn *t, struct tw_bytes piece, struct tw_turn_event *ev)
{
    struct tw_stun_msg m;
    if (tw_stun_decode(piece, &m) || m.cls != TW_STUN_INDICATION || m.method != TW_STUN_DATA ||
        m.bad_attr || m.unknown_n || !tw_stun_get_addr(&m, TW_STUN_A_XOR_PEER_ADDRESS, &ev->peer) ||
        !turn_peer_permitting(t, t->now, &ev->peer))
        return false;
    if (tw_stun_has(&m, TW_STUN_A_ICMP)) {
        const uint8_t *v = tw_stun_get(&m, TW_STUN_A_ICMP).p;
        ev->type = TW_TURN_ICMP;
        ev->icmp_type = (uint8_t)(tw_get_u16(v + 2) >> 9);
        ev->icmp_code = (uint8_t)tw_get_u16(v + 2);
        ev->icmp_data = tw_get_u32(v + 4);
        return true;
    }
    ev->type = TW_TURN_DATA;
    ev->data = tw_stun_get(&m, TW_STUN_A_DATA);
    return tw_stun_has(&m, TW_STUN_A_DATA);
}

/* How long the message at off is; 0: it is none. */
size_t turn_next_piece(const struct tw_turn *t, size_t off)
{
    size_t left = t->in_bytes.n - off, n;
    if (t->cfg.stream)
        return tw_stun_frame(t->in_bytes.p + off, left, &n) ? 0 : n;
    return t->in.segment && t->in.segment < left ? t->in.segment : left;
}

/* Reads on in the datagram that came last until there is data to report. */
bool turn_next_data(struct tw_turn *t, struct tw_turn_event *ret)
{
    while (t->in_off < t->in_bytes.n) {
        struct tw_bytes piece = tw_bytes(t->in_bytes.p + t->in_off, turn_next_piece(t, t->in_off));
        t->in_off = piece.n ? t->in_off + piece.n : t->in_bytes.n;
        if (piece.n == 0) /* the rest is no TURN */
            return false;
        *ret = (struct tw_turn_event){ .tos = t->in.tos };
        if (piece.p[0] >> 6 == 1 ? read_channel_data(t, piece, ret) : read_indication(t, piece, ret))
            return true;
    }
    return false;
}
