/* Data between clients and peers: the path every relayed packet takes. Payloads are never copied:
 * what leaves points into what came. */
#include "relay/internal.h"

enum {
    CHANNEL_HEADER = 4,
    PIECE_IOVS = 3,    /* header, data, padding */
    RUN_BYTES = 65000, /* a run, headers and all, must fit one IP packet's worth of length */
};

/* RFC 8656 §14: the hop limit goes down by one. False: there is nothing left of it. */
static bool hop(struct tw_relay *r, const struct tw_datagram *in, uint8_t *ret_ttl)
{
    *ret_ttl = in->ttl ? (uint8_t)(in->ttl - 1) : 0;
    if (in->ttl != 1)
        return true;
    r->stats.drop_ttl++;
    return false;
}

/* --- runs --------------------------------------------------------------------------------- */

static const uint8_t padding[3];

/* Who a piece is for; constant for all pieces with the same key within one call. */
struct route {
    const void *key;
    uint32_t sock;
    const struct tw_addr *src, *dst;
    uint8_t tos, ttl, flags;
};

static bool can_grow(const struct tw_relay *r, const void *key, size_t piece)
{
    return r->run && r->run_key == key && piece <= r->run_piece && piece > 0 &&
           r->run_bytes + piece <= RUN_BYTES && IOV_MAX_OUT - r->iov_n >= PIECE_IOVS;
}

static struct tw_datagram *new_run(struct tw_relay *r, const struct route *to, size_t piece)
{
    if (IOV_MAX_OUT - r->iov_n < PIECE_IOVS) {
        r->stats.drop_full++;
        return NULL;
    }
    struct tw_datagram *d = relay_tx(r, to->sock, to->src, to->dst);
    if (!d)
        return NULL;
    d->tos = to->tos;
    d->ttl = to->ttl;
    d->flags = to->flags;
    r->run = d;
    r->run_key = to->key;
    r->run_header = NULL;
    r->run_piece = piece;
    r->run_bytes = 0;
    return d;
}

/* The datagram to which a piece of this size goes: the run so far, or a new one. The caller adds
 * the bytes and then calls close_if_short(). */
static struct tw_datagram *piece_for(struct tw_relay *r, const struct route *to, size_t piece)
{
    struct tw_datagram *d;
    if (can_grow(r, to->key, piece)) {
        d = r->run;
        d->segment = (uint16_t)r->run_piece;
    } else {
        d = new_run(r, to, piece);
    }
    if (d)
        r->run_bytes += piece;
    return d;
}

/* Only the last piece of a run may be shorter than the others. */
static void close_if_short(struct tw_relay *r, size_t piece)
{
    if (piece < r->run_piece || piece == 0)
        r->run = NULL;
}

/* --- from peers to clients ---------------------------------------------------------------- */

static void count_down(struct tw_relay *r, struct alloc *a, size_t n)
{
    a->down_packets++;
    a->down_bytes += n;
    r->stats.down_packets++;
    r->stats.down_bytes += n;
}

static const uint8_t *channel_header(struct tw_relay *r, uint16_t number, size_t n)
{
    if (r->run_header && tw_get_u16(r->run_header + 2) == n)
        return r->run_header;
    uint8_t *h = relay_scratch(r, CHANNEL_HEADER);
    if (!h)
        return NULL;
    tw_put_u16(h, number);
    tw_put_u16(h + 2, (uint16_t)n);
    r->run_header = h;
    return h;
}

static void channel_down(struct tw_relay *r, struct alloc *a, const struct channel *c,
                         const struct route *to, struct tw_bytes data)
{
    /* RFC 8656 §12.5: padded in a stream. */
    size_t pad = is_stream(to->sock) ? -data.n & 3 : 0;
    size_t piece = CHANNEL_HEADER + data.n + pad;
    struct tw_datagram *d = piece_for(r, to, piece);
    const uint8_t *h = d ? channel_header(r, c->number, data.n) : NULL;
    if (!h)
        return;
    relay_iov(r, d, h, CHANNEL_HEADER);
    if (data.n)
        relay_iov(r, d, data.p, data.n);
    if (pad)
        relay_iov(r, d, padding, pad);
    close_if_short(r, piece);
    count_down(r, a, data.n);
}

/* RFC 8656 §11.3; with icmp, §11.5. in gives DSCP and hop limit, NULL: neither. */
void relay_data_indication(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer,
                           struct tw_bytes icmp, const struct tw_datagram *in, struct tw_bytes data)
{
    enum { HEAD = TW_STUN_HEADER + 24 + 12 + 4 };
    uint8_t tid[TW_STUN_TID];
    struct tw_stun_enc e;
    uint8_t *head = relay_scratch(r, HEAD);
    if (!head)
        return;
    r->env.rng.fill(r->env.rng.ctx, tid, sizeof(tid));
    tw_stun_begin(&e, head, HEAD, TW_STUN_INDICATION, TW_STUN_DATA, tid);
    tw_stun_add_addr(&e, TW_STUN_A_XOR_PEER_ADDRESS, peer);
    size_t pad = 0;
    if (icmp.n) {
        tw_stun_add(&e, TW_STUN_A_ICMP, icmp);
    } else {
        /* The DATA attribute is written by hand: its value stays where it is. */
        tw_wr_u16(&e.w, tw_stun_attr_infos[TW_STUN_A_DATA].type);
        tw_wr_u16(&e.w, (uint16_t)data.n);
        pad = -data.n & 3;
    }
    struct tw_datagram *d = relay_tx(r, a->path.listener, &a->path.local, &a->path.client);
    if (e.w.error || !d || IOV_MAX_OUT - r->iov_n < 3)
        return;
    tw_put_u16(head + 2, (uint16_t)(e.w.n - TW_STUN_HEADER + data.n + pad));
    d->tos = in ? in->tos : 0;
    d->ttl = in && in->ttl ? (uint8_t)(in->ttl - 1) : 0;
    relay_iov(r, d, head, e.w.n);
    if (data.n)
        relay_iov(r, d, data.p, data.n);
    if (pad)
        relay_iov(r, d, padding, pad);
}

static struct channel *channel_of_peer(struct tw_relay *r, struct alloc *a,
                                       const struct tw_addr *peer)
{
    struct channel *c = a->last_down < a->chan_n ? &a->chans[a->last_down] : NULL;
    if (!c || !tw_addr_eq(&c->peer, peer)) {
        c = relay_chan_by_peer(a, peer);
        if (!c)
            return NULL;
        a->last_down = (uint16_t)(c - a->chans);
    }
    return c->until > r->now ? c : NULL;
}

/* Relayed addresses of the server that we take over from are reached through the kernel. */
static bool of_elder(const struct tw_relay *r, const struct tw_addr *peer)
{
    int own = relay_own_index(r, peer);
    return own >= 0 &&
           tw_relay_port_mark(r->shared, (uint32_t)own, peer->port) == PORT_OF_ELDER;
}

/* Whether n more bytes are within what the allocation, and all together, may use. */
static bool within_rate(struct tw_relay *r, struct tw_bucket *of_alloc, struct tw_bucket *of_all,
                        size_t n)
{
    const struct tw_relay_config *cfg = r->cfg;
    if ((!cfg->max_bps ||
         tw_bucket_take(of_alloc, r->now, tw_bucket_cost(n, cfg->max_bps), TW_SEC)) &&
        (!cfg->total_bps ||
         tw_bucket_take(of_all, r->now, tw_bucket_cost(n, cfg->total_bps), TW_SEC)))
        return true;
    r->stats.drop_bandwidth++;
    return false;
}

static bool peer_may_send(struct tw_relay *r, const struct alloc *a, const struct channel *c,
                          const struct tw_addr *peer, bool inside)
{
    bool permitted = c ? c->permitted > r->now : relay_permitted(r, a, peer);
    if (!permitted) {
        r->stats.drop_no_permission++;
        return false;
    }
    /* A permission for another relayed address of this server is none for the host itself. */
    enum own_peer own = c ? (enum own_peer)c->own : relay_own_peer(r, peer);
    if (own == PEER_OWN && !inside && !of_elder(r, peer)) {
        r->stats.drop_policy++;
        return false;
    }
    return true;
}

/* inside: it comes from another relayed address of this server, not from a socket. */
void relay_from_peer(struct tw_relay *r, struct rsock *rs, const struct tw_datagram *in,
                     bool inside)
{
    struct alloc *a = rs->owner;
    struct tw_bytes all = in->iov[0];
    size_t step = in->segment ? in->segment : all.n;
    uint8_t ttl;
    if (!a || a->state != ALLOC_LIVE) {
        r->stats.drop_no_allocation++;
        return;
    }
    struct channel *c = channel_of_peer(r, a, &in->src);
    if (!peer_may_send(r, a, c, &in->src, inside) || !hop(r, in, &ttl))
        return;
    const struct route to = { c, a->path.listener, &a->path.local, &a->path.client, in->tos, ttl,
                              0 };
    size_t off = 0;
    do {
        size_t n = all.n - off < step ? all.n - off : step;
        struct tw_bytes data = tw_bytes(all.p + off, n);
        off += n;
        if (a->guest && !(c && c->wanted))
            relay_guest_hears(a, &in->src, data);
        if (!within_rate(r, &a->down, &r->shared->down, n))
            continue;
        if (c) {
            channel_down(r, a, c, &to, data);
        } else {
            relay_data_indication(r, a, &in->src, tw_bytes(NULL, 0), in, data);
            count_down(r, a, n);
        }
    } while (off < all.n);
}

/* --- from clients to peers ---------------------------------------------------------------- */

static void count_up(struct tw_relay *r, struct alloc *a, size_t n)
{
    a->up_packets++;
    a->up_bytes += n;
    r->stats.up_packets++;
    r->stats.up_bytes += n;
}

/* To another relayed address of this server: stays inside. False: it is no relayed address. */
static bool deliver_inside(struct tw_relay *r, const struct rsock *from, const struct tw_addr *peer,
                           const struct tw_datagram *in, struct tw_bytes data)
{
    int index = relay_own_index(r, peer);
    uint8_t mark = index < 0 ? 0 : tw_relay_port_mark(r->shared, (uint32_t)index, peer->port);
    if (!mark || mark & PORT_TCP) /* of nobody, of TCP, or of the elder */
        return false;
    uint32_t worker = mark - 1u;
    struct tw_addr told = r->shared->ports[index].told;
    told.port = peer->port;
    struct tw_datagram d = { .tos = in->tos, .ttl = in->ttl, .src = from->told, .dst = told,
                             .iov = &data, .iov_n = 1 };
    r->stats.local_packets++;
    if (worker != r->worker) {
        struct tw_datagram *h = relay_handover(r, TW_RELAY_HANDOVER_DATA, worker);
        if (!h)
            return true;
        d.iov = h->iov;
        d.iov_n = 0;
        *h = d;
        if (!relay_iov(r, h, data.p, data.n))
            r->handover_n--;
        return true;
    }
    struct rsock *rs = relay_sock_by_told(r, &told);
    if (rs)
        relay_from_peer(r, rs, &d, true);
    else
        r->stats.drop_no_allocation++;
    return true;
}

static void to_peer(struct tw_relay *r, struct alloc *a, const struct route *to,
                    enum own_peer own, const struct tw_datagram *in, struct tw_bytes data)
{
    const struct rsock *rs = a->rs[family_index(to->dst)];
    if (!within_rate(r, &a->up, &r->shared->up, data.n))
        return;
    if (own != PEER_ELSEWHERE && deliver_inside(r, rs, to->dst, in, data)) {
        count_up(r, a, data.n);
        return;
    }
    if (own == PEER_OWN && !of_elder(r, to->dst)) {
        r->stats.drop_policy++;
        return;
    }
    struct tw_datagram *d = piece_for(r, to, data.n);
    if (!d)
        return;
    relay_iov(r, d, data.p, data.n);
    close_if_short(r, data.n);
    count_up(r, a, data.n);
}

static struct channel *channel_of_number(struct alloc *a, uint16_t number)
{
    if (a->last_up < a->chan_n && a->chans[a->last_up].number == number)
        return &a->chans[a->last_up];
    struct channel *c = relay_chan_by_number(a, number);
    if (c)
        a->last_up = (uint16_t)(c - a->chans);
    return c;
}

static void channel_up(struct tw_relay *r, struct alloc *a, const struct tw_datagram *in,
                       struct tw_bytes piece)
{
    uint8_t ttl;
    if (piece.n < CHANNEL_HEADER ||
        tw_get_u16(piece.p + 2) + (size_t)CHANNEL_HEADER > piece.n) {
        r->stats.drop_malformed++;
        return;
    }
    if (!a || a->state != ALLOC_LIVE) {
        r->stats.drop_no_allocation++;
        return;
    }
    struct channel *c = channel_of_number(a, tw_get_u16(piece.p));
    if (!c || c->until <= r->now) {
        r->stats.drop_no_channel++;
        return;
    }
    if (c->permitted <= r->now) {
        r->stats.drop_no_permission++;
        return;
    }
    if (!hop(r, in, &ttl))
        return;
    const struct rsock *rs = a->rs[family_index(&c->peer)];
    const struct route to = { c, rs->id, &rs->addr, &c->peer, in->tos, ttl, 0 };
    struct tw_bytes data = tw_bytes(piece.p + CHANNEL_HEADER, tw_get_u16(piece.p + 2));
    if (!a->guest || c->wanted || relay_guest_may(r, a, &c->peer, data))
        to_peer(r, a, &to, (enum own_peer)c->own, in, data);
}

/* RFC 8656 §11.2; whatever is wrong is dropped silently. */
void relay_send_indication(struct tw_relay *r, const struct tw_datagram *in,
                           const struct tw_stun_msg *m)
{
    struct tw_addr peer;
    struct alloc *a = relay_find(r, in);
    struct foreign *f = a ? NULL : relay_foreign_find(r, in);
    uint8_t ttl;
    if (f)
        a = f->alloc; /* from where the client was before it moved */
    if (m->bad_attr || m->unknown_n || !tw_stun_has(m, TW_STUN_A_DATA) ||
        !tw_stun_get_addr(m, TW_STUN_A_XOR_PEER_ADDRESS, &peer)) {
        r->stats.drop_malformed++;
        return;
    }
    if (!a || a->state != ALLOC_LIVE) {
        r->stats.drop_no_allocation++;
        return;
    }
    if (!relay_permitted(r, a, &peer)) {
        r->stats.drop_no_permission++;
        return;
    }
    const struct rsock *rs = a->rs[family_index(&peer)];
    if (!rs || peer.port == 0 || a->tcp) {
        r->stats.drop_policy++;
        return;
    }
    if (!hop(r, in, &ttl))
        return;
    uint8_t flags = tw_stun_has(m, TW_STUN_A_DONT_FRAGMENT) ? TW_DGRAM_DF : 0;
    /* The value's own address is the key: two indications never share a run. */
    const struct route to = { tw_stun_get(m, TW_STUN_A_DATA).p, rs->id, &rs->addr, &peer, in->tos,
                              ttl, flags };
    if (!a->guest || relay_guest_may(r, a, &peer, tw_stun_get(m, TW_STUN_A_DATA)))
        to_peer(r, a, &to, relay_own_peer(r, &peer), in, tw_stun_get(m, TW_STUN_A_DATA));
}

/* How many of the n bytes at p are the next message: in a stream a whole frame, of a run one piece.
 * 0: nothing more can be read. */
static size_t next_piece(const struct tw_datagram *in, const uint8_t *p, size_t n)
{
    size_t len = n;
    if (is_stream(in->sock))
        return tw_stun_frame(p, n, &len) ? 0 : len;
    return in->segment && in->segment < n ? in->segment : n;
}

void relay_from_client(struct tw_relay *r, const struct tw_datagram *in)
{
    struct tw_bytes all = in->iov[0];
    struct alloc *a = relay_find(r, in);
    struct foreign *f = a ? NULL : relay_foreign_find(r, in);
    if (f && !f->alloc) {
        relay_foreign_forward(r, f, in, all);
        return;
    }
    for (size_t off = 0, n; off < all.n; off += n) {
        n = next_piece(in, all.p + off, all.n - off);
        if (n == 0) {
            r->stats.drop_malformed++;
            return;
        }
        struct tw_bytes piece = tw_bytes(all.p + off, n);
        if (!a && !f && relay_elder(r, in, piece))
            continue;
        if (piece.p[0] >> 6 == 1) {
            channel_up(r, a ? a : f ? f->alloc : NULL, in, piece);
        } else {
            relay_request(r, in, piece);
            a = relay_find(r, in); /* the request may have made, moved or ended it */
            f = a ? NULL : relay_foreign_find(r, in);
            if (f && !f->alloc && off + n < all.n) { /* the rest goes where this went */
                relay_foreign_forward(r, f, in, tw_bytes(all.p + off + n, all.n - off - n));
                return;
            }
        }
    }
}
