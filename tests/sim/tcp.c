/* Connections of simulated hosts: as much of RFC 9293 as it takes to see what networks do to them. */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

enum { SEGMENT = 1400, WINDOW = 65536, SYN_TRIES = 4, TRIES = 8, DUPLICATES = 3 };
static const tw_time SYN_WAIT = TW_SEC, DATA_WAIT = 300 * TW_MSEC;

struct conn {
    struct conn *next;
    uint32_t id;            /* the host's; 0: not accepted yet */
    enum { SYN_SENT, SYN_RECEIVED, ESTABLISHED } state;
    bool passive;
    uint32_t listener;
    struct tw_addr local, remote;
    uint32_t first, una, sent_to, expected; /* una: the first byte of buf; sent_to: the next to send */
    uint8_t *buf;
    size_t n, cap;
    unsigned tries, duplicates;
    tw_time due;
};

/* --- segments ----------------------------------------------------------------------------- */

static void send_segment(struct sim_host *h, const struct tw_addr *src, const struct tw_addr *dst,
                         uint8_t control, uint32_t seq, uint32_t ack, struct tw_bytes data)
{
    struct packet *p = calloc(1, sizeof(*p) + data.n);
    assert(p);
    p->src = *src;
    p->dst = p->sent_to = *dst;
    p->tcp = true;
    p->control = control;
    p->seq = seq;
    p->ack = ack;
    p->ttl = 64;
    p->n = data.n;
    if (data.n)
        memcpy(p->bytes, data.p, data.n);
    sim_leave(h, p);
}

static void send_control(struct sim_host *h, const struct conn *c, uint8_t control, uint32_t seq)
{
    send_segment(h, &c->local, &c->remote, control, seq, c->expected, tw_bytes(NULL, 0));
}

static void arm(struct sim_host *h)
{
    h->tcp_deadline = TW_NEVER;
    for (const struct conn *c = h->conns; c; c = c->next)
        h->tcp_deadline = tw_time_min(h->tcp_deadline, c->due);
}

/* As much as the window lets. */
static void send_data(struct sim_host *h, struct conn *c)
{
    while (c->state == ESTABLISHED && c->sent_to - c->una < c->n && c->sent_to - c->una < WINDOW) {
        size_t at = c->sent_to - c->una, len = c->n - at < SEGMENT ? c->n - at : SEGMENT;
        send_segment(h, &c->local, &c->remote, TCP_ACK, c->sent_to, c->expected,
                     tw_bytes(c->buf + at, len));
        c->sent_to += (uint32_t)len;
        if (c->due == TW_NEVER)
            c->due = h->sim->now + DATA_WAIT;
    }
    arm(h);
}

/* --- life --------------------------------------------------------------------------------- */

static struct conn *find(struct sim_host *h, const struct tw_addr *local,
                         const struct tw_addr *remote)
{
    for (struct conn *c = h->conns; c; c = c->next)
        if (tw_addr_eq(&c->local, local) && tw_addr_eq(&c->remote, remote))
            return c;
    return NULL;
}

static struct conn *by_id(struct sim_host *h, uint32_t id)
{
    for (struct conn *c = h->conns; c; c = c->next)
        if (c->id == id && id)
            return c;
    return NULL;
}

static struct conn *add(struct sim_host *h, const struct tw_addr *local,
                        const struct tw_addr *remote)
{
    struct conn *c = calloc(1, sizeof(*c));
    assert(c);
    c->local = *local;
    c->remote = *remote;
    c->first = (uint32_t)sim_draw(h->sim);
    c->una = c->sent_to = c->first + 1;
    c->due = h->sim->now + SYN_WAIT;
    c->next = h->conns;
    h->conns = c;
    return c;
}

static void forget(struct sim_host *h, struct conn *c)
{
    struct conn **at = &h->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c->buf);
    free(c);
    arm(h);
}

static void broken(struct sim_host *h, struct conn *c)
{
    uint32_t id = c->id;
    bool open = c->state == ESTABLISHED, passive = c->passive;
    forget(h, c);
    if (open && id)
        h->tcp->closed(h->tcp_ctx, h->sim->now, id);
    else if (!passive)
        h->tcp->connected(h->tcp_ctx, h->sim->now, id, TW_ESYS, NULL);
}

/* False: it is gone. */
static bool established(struct sim_host *h, struct conn *c)
{
    struct tw_addr local = c->local, remote = c->remote;
    c->state = ESTABLISHED;
    c->due = TW_NEVER;
    c->tries = 0;
    if (!c->passive)
        h->tcp->connected(h->tcp_ctx, h->sim->now, c->id, 0, &local);
    else
        c->id = h->tcp->accepted(h->tcp_ctx, h->sim->now, c->listener, &local, &remote);
    c = find(h, &local, &remote);
    if (c && !c->id) {
        send_control(h, c, TCP_RST, c->sent_to);
        forget(h, c);
        return false;
    }
    return c != NULL;
}

/* --- what comes ----------------------------------------------------------------------------- */

static void to_listener(struct sim_host *h, const struct packet *p)
{
    struct sock *s = h->tcp ? sim_sock_at(h, &p->dst, true) : NULL;
    if (p->control & TCP_RST)
        return;
    if (!s || p->control != TCP_SYN) {
        h->sim->counts.refused++;
        send_segment(h, &p->dst, &p->src, TCP_RST | TCP_ACK, p->ack, p->seq + 1, tw_bytes(NULL, 0));
        return;
    }
    struct conn *c = add(h, &p->dst, &p->src);
    c->state = SYN_RECEIVED;
    c->passive = true;
    c->listener = s->id;
    c->expected = p->seq + 1;
    send_control(h, c, TCP_SYN | TCP_ACK, c->first);
    arm(h);
}

static void acknowledged(struct sim_host *h, struct conn *c, const struct packet *p)
{
    uint32_t got = p->ack - c->una;
    if (got && got <= c->n) {
        memmove(c->buf, c->buf + got, c->n - got);
        c->n -= got;
        c->una = p->ack;
        if ((int32_t)(c->sent_to - c->una) < 0)
            c->sent_to = c->una;
        c->tries = c->duplicates = 0;
        c->due = c->sent_to != c->una ? h->sim->now + DATA_WAIT : TW_NEVER;
    } else if (got == 0 && p->n == 0 && c->sent_to != c->una && ++c->duplicates == DUPLICATES) {
        c->sent_to = c->una;
    }
    send_data(h, c);
}

/* False: it is gone. */
static bool shake_hands(struct sim_host *h, struct conn *c, const struct packet *p)
{
    if (c->state == SYN_SENT && p->control == TCP_SYN) { /* simultaneous open (§3.5, figure 8) */
        c->expected = p->seq + 1;
        c->state = SYN_RECEIVED;
        send_control(h, c, TCP_SYN | TCP_ACK, c->first);
        return false;
    }
    if (p->control == TCP_SYN) {
        send_control(h, c, TCP_SYN | TCP_ACK, c->first);
        return false;
    }
    if (c->state == SYN_SENT && p->control != (TCP_SYN | TCP_ACK))
        return false;
    if (p->control & TCP_SYN) {
        c->expected = p->seq + 1;
        send_control(h, c, TCP_ACK, c->una);
    }
    return established(h, c);
}

void sim_tcp_deliver(struct sim_host *h, const struct packet *p)
{
    struct conn *c = find(h, &p->dst, &p->src);
    if (!c) {
        to_listener(h, p);
        return;
    }
    if (p->control & TCP_RST) {
        broken(h, c);
        return;
    }
    if (c->state != ESTABLISHED && !shake_hands(h, c, p)) {
        arm(h);
        return;
    }
    c = find(h, &p->dst, &p->src);
    if (!c)
        return;
    if (p->control & TCP_SYN) { /* our last word of the handshake was lost */
        send_control(h, c, TCP_ACK, c->sent_to);
        return;
    }
    if (p->n) {
        uint32_t id = c->id;
        bool next = p->seq == c->expected;
        if (next)
            c->expected += (uint32_t)p->n;
        send_control(h, c, TCP_ACK, c->sent_to);
        if (next) {
            uint8_t *bytes = malloc(p->n); /* of its own, so that reading past the end is caught */
            assert(bytes);
            memcpy(bytes, p->bytes, p->n);
            h->tcp->data(h->tcp_ctx, h->sim->now, id, tw_bytes(bytes, p->n));
            free(bytes);
        }
        c = find(h, &p->dst, &p->src);
    }
    if (c && p->control & TCP_ACK)
        acknowledged(h, c, p);
}

/* --- time --------------------------------------------------------------------------------- */

static void repeat(struct sim_host *h, struct conn *c)
{
    bool opening = c->state != ESTABLISHED;
    if (++c->tries >= (opening ? SYN_TRIES : TRIES)) {
        broken(h, c);
        return;
    }
    c->due = h->sim->now + ((opening ? SYN_WAIT : DATA_WAIT) << c->tries);
    if (c->state == SYN_SENT) {
        send_control(h, c, TCP_SYN, c->first);
    } else if (c->state == SYN_RECEIVED) {
        send_control(h, c, TCP_SYN | TCP_ACK, c->first);
    } else {
        c->sent_to = c->una;
        send_data(h, c);
    }
}

void sim_tcp_tick(struct sim_host *h)
{
    for (struct conn *c = h->conns; c; c = c->next)
        if (c->due <= h->sim->now) {
            repeat(h, c); /* may end it, and others: the rest is done at once after this */
            break;
        }
    arm(h);
}

void sim_tcp_free(struct sim_host *h)
{
    while (h->conns)
        forget(h, h->conns);
}

/* --- verbs -------------------------------------------------------------------------------- */

void sim_host_attach_tcp(struct sim_host *h, void *ctx, const struct sim_tcp *tcp)
{
    h->tcp_ctx = ctx;
    h->tcp = tcp;
}

bool sim_tcp_listen(struct sim_host *h, uint32_t sock, struct tw_addr local,
                    struct tw_addr *ret_local)
{
    return sim_bind(h, sock, local, true, ret_local);
}

void sim_tcp_connect(struct sim_host *h, uint32_t conn, struct tw_addr local,
                     struct tw_addr remote)
{
    if (tw_addr_is_any(&local))
        local.family = remote.family, memcpy(local.ip, h->ips[0].ip, sizeof(local.ip));
    while (!local.port || (local.port == h->next_port && find(h, &local, &remote)))
        local.port = h->next_port++;
    struct conn *c = add(h, &local, &remote);
    c->id = conn;
    send_control(h, c, TCP_SYN, c->first);
    arm(h);
}

void sim_tcp_send(struct sim_host *h, uint32_t conn, struct tw_bytes data)
{
    struct conn *c = by_id(h, conn);
    if (!c || !data.n)
        return;
    if (c->n + data.n > c->cap) {
        c->cap = 2 * (c->n + data.n);
        c->buf = realloc(c->buf, c->cap);
        assert(c->buf);
    }
    memcpy(c->buf + c->n, data.p, data.n);
    c->n += data.n;
    send_data(h, c);
}

void sim_tcp_close(struct sim_host *h, uint32_t conn)
{
    struct conn *c = by_id(h, conn);
    if (!c)
        return;
    send_control(h, c, TCP_RST, c->sent_to);
    forget(h, c);
}
