#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "rt/sockaddr.h"
#include "rt/udp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

_Static_assert(sizeof(struct tw_bytes) == sizeof(struct iovec), "tw_bytes is laid out like iovec");

enum {
    RUN_BYTES = 65000, /* headers and all must fit an IP packet's length field */
    LEARN_AFTER = 8,   /* datagrams in a row with another TOS or TTL before the socket is changed */
};

void tw_rt_tx_init(struct tw_rt_tx *tx, const struct tw_rt_rx *rx)
{
    memset(tx, 0, offsetof(struct tw_rt_tx, entries));
    if (rx)
        tx->borrow = tw_bytes(rx->memory, rx->memory_n);
}

/* --- adding ------------------------------------------------------------------------------- */

static bool is_borrowed(const struct tw_rt_tx *tx, struct tw_bytes b)
{
    return b.p >= tx->borrow.p && b.p < tx->borrow.p + tx->borrow.n;
}

static size_t total(const struct tw_datagram *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->iov_n; i++)
        n += d->iov[i].n;
    return n;
}

static bool has_room(const struct tw_rt_tx *tx, const struct tw_datagram *d, size_t bytes)
{
    return tx->n < TW_RT_TX_MAX && tx->chunk_n < 2 * TW_RT_TX_MAX &&
           d->iov_n <= TW_RT_TX_IOV - tx->iov_n && bytes <= TW_RT_TX_COPY - tx->copy_n;
}

/* Copies what the machine may overwrite, joins what lies together. Returns how many iovecs. */
static uint32_t take_iov(struct tw_rt_tx *tx, const struct tw_datagram *d)
{
    uint32_t first = tx->iov_n;
    for (size_t i = 0; i < d->iov_n; i++) {
        struct tw_bytes b = d->iov[i];
        void *p = (void *)(uintptr_t)b.p;
        if (b.n == 0)
            continue;
        if (!is_borrowed(tx, b)) {
            p = tx->copy + tx->copy_n;
            memcpy(p, b.p, b.n);
            tx->copy_n += (uint32_t)b.n;
        }
        struct iovec *last = tx->iov_n > first ? &tx->iov[tx->iov_n - 1] : NULL;
        if (last && (uint8_t *)last->iov_base + last->iov_len == p)
            last->iov_len += b.n;
        else
            tx->iov[tx->iov_n++] = (struct iovec){ p, b.n };
    }
    return tx->iov_n - first;
}

static uint32_t add_chunk(struct tw_rt_tx *tx, const struct tw_datagram *d, uint32_t *ret_iovs)
{
    struct chunk *c = &tx->chunks[tx->chunk_n++];
    c->iov = tx->iov_n;
    c->n = take_iov(tx, d);
    c->next = 0;
    *ret_iovs = c->n;
    return tx->chunk_n; /* 1 + its place */
}

static bool same_way(const struct entry *e, const struct tw_datagram *d)
{
    return e->tos == d->tos && e->ttl == d->ttl && e->flags == d->flags &&
           tw_addr_eq(&e->dst, &d->dst) && (!e->u->wildcard || tw_addr_eq(&e->src, &d->src));
}

/* Whether pieces of this size, the last one perhaps shorter, can follow those of the entry. */
static bool can_follow(const struct entry *e, const struct tw_datagram *d, size_t piece,
                       size_t pieces, size_t bytes)
{
    return !e->closed && (pieces == 1 ? piece <= e->segment : piece == e->segment) &&
           e->pieces + pieces <= TW_RT_TX_PIECES && e->bytes + bytes <= RUN_BYTES &&
           same_way(e, d);
}

static void append(struct tw_rt_tx *tx, struct entry *e, const struct tw_datagram *d, size_t pieces,
                   size_t bytes)
{
    uint32_t iovs;
    uint32_t chunk = add_chunk(tx, d, &iovs);
    tx->chunks[e->last_chunk - 1].next = chunk;
    e->last_chunk = chunk;
    e->iovs += iovs;
    e->bytes += (uint32_t)bytes;
    e->pieces = (uint16_t)(e->pieces + pieces);
    e->closed = e->bytes % e->segment != 0;
}

/* The twin when the datagram goes where it is connected to. Counts how often the same receiver comes
 * in a row. */
static struct tw_rt_udp *choose(struct tw_rt_udp *u, const struct tw_addr *dst)
{
    if (u->twin && u->twin->connected && tw_addr_eq(&u->twin->hot, dst))
        return u->twin;
    if (u->heat && tw_addr_eq(&u->hot, dst)) {
        if (u->heat < UINT16_MAX)
            u->heat++;
    } else {
        u->hot = *dst;
        u->heat = 1;
    }
    return u;
}

void tw_rt_tx_add(struct tw_rt_tx *tx, struct tw_rt_udp *u, const struct tw_datagram *d)
{
    u = choose(u, &d->dst);
    size_t bytes = total(d);
    size_t piece = d->segment ? d->segment : bytes;
    size_t pieces = piece ? (bytes + piece - 1) / piece : 1;
    if (!has_room(tx, d, bytes))
        tw_rt_tx_flush(tx);
    if (!has_room(tx, d, bytes)) { /* more than a whole batch: nothing we make is */
        tx->stats.dropped += pieces;
        return;
    }
    tx->stats.datagrams += pieces;
    struct entry *last = u->tx_last ? &tx->entries[u->tx_last - 1] : NULL;
    if (last && can_follow(last, d, piece, pieces, bytes)) {
        append(tx, last, d, pieces, bytes);
        return;
    }
    struct entry *e = &tx->entries[tx->n++];
    *e = (struct entry){ .u = u, .src = d->src, .dst = d->dst, .bytes = (uint32_t)bytes,
                         .segment = (uint16_t)piece, .pieces = (uint16_t)pieces, .tos = d->tos,
                         .ttl = d->ttl, .flags = d->flags, .first = !last,
                         .closed = piece == 0 || bytes % piece != 0 };
    e->chunk = e->last_chunk = add_chunk(tx, d, &e->iovs);
    if (last)
        last->next = tx->n;
    u->tx_last = tx->n;
}

/* --- sending ------------------------------------------------------------------------------ */

static void put_control(struct msghdr *h, int level, int type, const void *v, size_t n)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)h->msg_control + h->msg_controllen);
    memset(c, 0, CMSG_SPACE(n));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), v, n);
    h->msg_controllen += CMSG_SPACE(n);
}

static void put_source(struct msghdr *h, const struct tw_addr *src)
{
    if (src->family == TW_FAMILY_V4) {
        struct in_pktinfo info = { 0 };
        memcpy(&info.ipi_spec_dst, src->ip, 4);
        put_control(h, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else {
        struct in6_pktinfo info = { 0 };
        memcpy(&info.ipi6_addr, src->ip, 16);
        put_control(h, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
}

static void change_socket(struct tw_rt_udp *u, uint8_t tos, uint8_t ttl)
{
    bool v4 = u->local.family == TW_FAMILY_V4;
    int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    int t = tos, l = ttl ? ttl : -1;
    if (tos != u->tos)
        setsockopt(u->fd, level, v4 ? IP_TOS : IPV6_TCLASS, &t, sizeof(t));
    if (ttl != u->ttl)
        setsockopt(u->fd, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS, &l, sizeof(l));
    u->tos = tos;
    u->ttl = ttl;
}

/* TOS and TTL ride as control messages, which cost a route look-up, until the socket has seen the
 * same wish a few times. */
static void put_fields(struct msghdr *h, struct tw_rt_udp *u, const struct entry *e)
{
    bool v4 = u->local.family == TW_FAMILY_V4;
    int tos = e->tos, ttl = e->ttl;
    if (e->tos == u->tos && e->ttl == u->ttl) {
        u->misses = 0;
        return;
    }
    if (++u->misses >= LEARN_AFTER) {
        u->misses = 0;
        change_socket(u, e->tos, e->ttl);
        return;
    }
    if (e->tos != u->tos)
        put_control(h, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof(tos));
    if (e->ttl != u->ttl && ttl)
        put_control(h, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_HOPLIMIT, &ttl,
                    sizeof(ttl));
}

/* The entry as the k-th message, its iovecs gathered at *flat. */
static void make_message(struct tw_rt_tx *tx, const struct entry *e, unsigned k, uint32_t *flat)
{
    struct msghdr *h = &tx->msgs[k].msg_hdr;
    *h = (struct msghdr){ .msg_name = &tx->names[k], .msg_control = tx->control[k] };
    if (e->u->connected)
        h->msg_name = NULL;
    else
        h->msg_namelen = tw_rt_sockaddr(&e->dst, &tx->names[k]);
    if (e->chunk == e->last_chunk) {
        h->msg_iov = &tx->iov[tx->chunks[e->chunk - 1].iov];
        h->msg_iovlen = e->iovs;
    } else {
        h->msg_iov = &tx->flat[*flat];
        h->msg_iovlen = e->iovs;
        for (uint32_t c = e->chunk; c; c = tx->chunks[c - 1].next) {
            memcpy(&tx->flat[*flat], &tx->iov[tx->chunks[c - 1].iov],
                   tx->chunks[c - 1].n * sizeof(struct iovec));
            *flat += tx->chunks[c - 1].n;
        }
    }
    if (e->pieces > 1) {
        uint16_t segment = e->segment;
        put_control(h, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment));
    }
    put_fields(h, e->u, e);
    if (e->u->wildcard)
        put_source(h, &e->src);
    if (!h->msg_controllen)
        h->msg_control = NULL;
}

/* The next piece of a message as iovecs of its own; advances over them. */
static size_t cut_piece(struct iovec **iov, size_t *iov_n, size_t want, struct iovec *out)
{
    size_t n = 0;
    while (want && *iov_n) {
        size_t take = (*iov)->iov_len < want ? (*iov)->iov_len : want;
        out[n++] = (struct iovec){ (*iov)->iov_base, take };
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + take;
        (*iov)->iov_len -= take;
        want -= take;
        if ((*iov)->iov_len == 0) {
            (*iov)++;
            (*iov_n)--;
        }
    }
    return n;
}

/* A run that the kernel will not cut (no GSO, or pieces larger than the device's MTU). */
static void send_pieces(struct tw_rt_tx *tx, struct tw_rt_udp *u, struct msghdr *h, uint16_t segment)
{
    struct iovec *iov = h->msg_iov, out[256];
    size_t left = h->msg_iovlen;
    struct msghdr one = *h;
    one.msg_control = NULL;
    one.msg_controllen = 0;
    one.msg_iov = out;
    while (left) {
        one.msg_iovlen = cut_piece(&iov, &left, segment, out);
        tx->stats.calls++;
        if (sendmsg(u->fd, &one, MSG_DONTWAIT) < 0 && sendmsg(u->fd, &one, MSG_DONTWAIT) < 0)
            tx->stats.dropped++;
    }
}

static bool is_pending_error(int e)
{
    return e == ECONNREFUSED || e == EHOSTUNREACH || e == ENETUNREACH || e == EPROTO ||
           e == EHOSTDOWN || e == ENOPROTOOPT || e == EACCES || e == EOPNOTSUPP;
}

/* n > 0 messages in one call; sendto() where it does, since it has less to copy and check. */
static int send_some(struct tw_rt_udp *u, struct mmsghdr *m, unsigned n)
{
    const struct msghdr *h = &m->msg_hdr;
    if (n > 1)
        return sendmmsg(u->fd, m, n, MSG_DONTWAIT);
    if (h->msg_iovlen != 1 || h->msg_control)
        return sendmsg(u->fd, h, MSG_DONTWAIT) < 0 ? -1 : 1;
    return sendto(u->fd, h->msg_iov->iov_base, h->msg_iov->iov_len, MSG_DONTWAIT, h->msg_name,
                  h->msg_namelen) < 0 ? -1 : 1;
}

/* Sends n messages of one socket; what cannot be sent is dropped and counted. */
static void send_messages(struct tw_rt_tx *tx, struct tw_rt_udp *u, const struct entry *const *e,
                          unsigned n)
{
    unsigned done = 0;
    bool again = false;
    while (done < n) {
        tx->stats.calls++;
        int sent = send_some(u, &tx->msgs[done], n - done);
        if (sent > 0) {
            done += (unsigned)sent;
            again = false;
            continue;
        }
        /* An ICMP error that some earlier datagram met is reported, and thereby cleared, on the
         * next send to anyone: this one is innocent and tried once more. */
        if (!again && is_pending_error(errno)) {
            again = true;
            continue;
        }
        if (e[done]->pieces > 1 && (errno == EINVAL || errno == EIO || errno == EMSGSIZE))
            send_pieces(tx, u, &tx->msgs[done].msg_hdr, e[done]->segment);
        else
            tx->stats.dropped += e[done]->pieces;
        again = false;
        done++;
    }
}

/* All entries of one socket, in order; those with DF by themselves. */
static void flush_socket(struct tw_rt_tx *tx, uint32_t first)
{
    struct tw_rt_udp *u = tx->entries[first].u;
    const struct entry *list[TW_RT_TX_MAX];
    uint32_t at = first + 1;
    while (at) {
        unsigned n = 0;
        uint32_t flat = 0;
        bool df = tx->entries[at - 1].flags & TW_DGRAM_DF;
        for (; at && (bool)(tx->entries[at - 1].flags & TW_DGRAM_DF) == df;
             at = tx->entries[at - 1].next) {
            make_message(tx, &tx->entries[at - 1], n, &flat);
            list[n++] = &tx->entries[at - 1];
        }
        if (df != u->df)
            tw_rt_udp_set_df(u, df);
        tx->stats.messages += n;
        send_messages(tx, u, list, n);
    }
    u->tx_last = 0;
}

void tw_rt_tx_flush(struct tw_rt_tx *tx)
{
    for (uint32_t i = 0; i < tx->n; i++)
        if (tx->entries[i].first)
            flush_socket(tx, i);
    tx->n = tx->chunk_n = tx->iov_n = tx->copy_n = 0;
}
