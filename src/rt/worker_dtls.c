/* DTLS on the UDP listeners. No state before the cookie has come back (RFC 6347 §4.2.1). */
#include <errno.h>
#include <gnutls/dtls.h>
#include <stdlib.h>

#include "rt/worker.h"

enum {
    HANDSHAKE_MTU = 1400,
    DATA_MTU = 16384,
    RECORD_MAX = 16384,
    HANDSHAKE_RECORD = 22,
    CLIENT_HELLO = 1,
    EPOCH_AT = 3,
    HELLO_AT = 13, /* the handshake message's type, behind the record header */
    HANDSHAKE_MS = 10000,
};

/* Who a cookie is for; and how an association is found. */
struct who {
    struct tw_addr remote, local;
    uint32_t listener;
};

static struct who who_of(const struct tw_datagram *d)
{
    struct who who;
    memset(&who, 0, sizeof(who)); /* padding is hashed too */
    who.remote = d->src;
    who.local = d->dst;
    who.listener = d->sock;
    return who;
}

static uint32_t hash_of(const struct worker *w, const struct who *who)
{
    return (uint32_t)tw_hash(&w->assoc_key, who, sizeof(*who));
}

static bool eq_who(const void *item, const void *key)
{
    const struct conn *c = item;
    const struct who *who = key;
    return c->udp->id == who->listener && tw_addr_eq(&c->remote, &who->remote) &&
           tw_addr_eq(&c->local, &who->local);
}

/* --- GnuTLS's way in and out ---------------------------------------------------------------- */

/* Where an answer goes for which there is no association yet. */
struct answer {
    struct worker *w;
    const struct tw_datagram *to;
};

static void send_record(struct worker *w, struct tw_rt_udp *u, const struct tw_addr *local,
                        const struct tw_addr *remote, const void *p, size_t n)
{
    struct tw_bytes bytes = tw_bytes(p, n);
    struct tw_datagram d = { .sock = u->id, .src = *local, .dst = *remote, .iov = &bytes,
                             .iov_n = 1 };
    tw_rt_tx_add(w->tx, u, &d);
}

static ssize_t push_answer(gnutls_transport_ptr_t ptr, const void *p, size_t n)
{
    struct answer *a = ptr;
    if (n <= a->to->iov[0].n) /* never more than was asked with */
        send_record(a->w, &a->w->listeners[a->to->sock], &a->to->dst, &a->to->src, p, n);
    return (ssize_t)n;
}

static _Thread_local struct worker *pushing;

static ssize_t push(gnutls_transport_ptr_t ptr, const void *p, size_t n)
{
    struct conn *c = ptr;
    send_record(pushing, c->udp, &c->local, &c->remote, p, n);
    return (ssize_t)n;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t cap)
{
    struct conn *c = ptr;
    size_t n = c->record.n < cap ? c->record.n : cap;
    if (n == 0) {
        gnutls_transport_set_errno(c->tls, EAGAIN);
        return -1;
    }
    memcpy(to, c->record.p, n);
    c->record.n = 0;
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    const struct conn *c = ptr;
    (void)ms;
    return c->record.n > 0;
}

/* --- associations --------------------------------------------------------------------------- */

void worker_dtls_forget(struct worker *w, struct conn *c)
{
    tw_map_del(&w->assocs, c->hash, c);
}

static struct conn *assoc_new(struct worker *w, const struct tw_datagram *d,
                              gnutls_dtls_prestate_st *prestate)
{
    const struct who who = who_of(d);
    struct conn *c = worker_conn_new(w, TW_RELAY_SESSION, &d->src, &d->dst);
    if (!c)
        return NULL;
    c->udp = &w->listeners[d->sock];
    c->hash = hash_of(w, &who);
    c->state = CONN_HANDSHAKE;
    if (!worker_handshake_allowed(w, c) ||
        worker_tls_session(w, c, GNUTLS_SERVER | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK) ||
        tw_map_put(&w->assocs, c->hash, c)) {
        worker_conn_close(w, c);
        return NULL;
    }
    gnutls_dtls_prestate_set(c->tls, prestate);
    gnutls_dtls_set_mtu(c->tls, HANDSHAKE_MTU);
    gnutls_dtls_set_timeouts(c->tls, 1000, HANDSHAKE_MS);
    gnutls_transport_set_ptr(c->tls, c);
    gnutls_transport_set_push_function(c->tls, push);
    gnutls_transport_set_pull_function(c->tls, pull);
    gnutls_transport_set_pull_timeout_function(c->tls, pull_timeout);
    return c;
}

/* In clear: epoch 0. */
static bool is_hello(struct tw_bytes in)
{
    return in.n > HELLO_AT && in.p[0] == HANDSHAKE_RECORD && tw_get_u16(in.p + EPOCH_AT) == 0 &&
           in.p[HELLO_AT] == CLIENT_HELLO;
}

/* A cookie that is right makes an association; anything else that says hello gets one. old: who had
 * one here before; it may have started anew on the same port (RFC 6347 §4.2.8). */
static struct conn *greet(struct worker *w, const struct tw_datagram *d, struct conn *old)
{
    const struct who who = who_of(d);
    struct tw_bytes in = d->iov[0];
    gnutls_dtls_prestate_st prestate;
    memset(&prestate, 0, sizeof(prestate));
    struct tw_rt_server *s = w->server;
    if (gnutls_dtls_cookie_verify(&s->cookie_key, (void *)(uintptr_t)&who, sizeof(who),
                                  (void *)(uintptr_t)in.p, in.n, &prestate) >= 0) {
        if (old)
            worker_conn_close(w, old);
        return assoc_new(w, d, &prestate);
    }
    struct answer a = { w, d };
    gnutls_dtls_cookie_send(&s->cookie_key, (void *)(uintptr_t)&who, sizeof(who), &prestate, &a,
                            push_answer);
    return NULL;
}

static void handshake(struct worker *w, struct conn *c)
{
    int step = conn_handshake(c);
    if (step < 0) {
        worker_conn_close(w, c);
    } else if (step > 0) {
        worker_handshake_over(w, c, true);
        gnutls_dtls_set_mtu(c->tls, DATA_MTU);
        c->state = CONN_OPEN;
        worker_conn_arm(w, c, w->now); /* the tick knows how long it may be idle */
    } else {
        worker_conn_arm(w, c, w->now + gnutls_dtls_get_timeout(c->tls) * TW_MSEC);
    }
}

void worker_dtls_timeout(struct worker *w, struct conn *c)
{
    pushing = w;
    handshake(w, c);
}

static void read_records(struct worker *w, struct conn *c)
{
    uint32_t id = c->id;
    while (c && c->state == CONN_OPEN) {
        uint8_t *buf = worker_buffer(w);
        ssize_t n = gnutls_record_recv(c->tls, buf, RECORD_MAX);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            return;
        if (n == 0 || (n < 0 && gnutls_error_is_fatal((int)n))) {
            worker_conn_close(w, c);
            return;
        }
        if (n > 0) {
            struct tw_bytes bytes = tw_bytes(buf, (size_t)n);
            struct tw_datagram d = { .sock = c->id, .src = c->remote, .dst = c->local,
                                     .iov = &bytes, .iov_n = 1 };
            c->heard = w->now;
            worker_feed(w, &d);
            c = worker_conn(w, id);
        }
    }
}

static void one_datagram(struct worker *w, const struct tw_datagram *d)
{
    const struct who who = who_of(d);
    struct conn *c = tw_map_get(&w->assocs, hash_of(w, &who), eq_who, &who);
    if (!c && !is_hello(d->iov[0])) {
        worker_to_elder(w, d);
        return;
    }
    if (is_hello(d->iov[0]) && (!c || c->state == CONN_OPEN))
        c = greet(w, d, c);
    if (!c)
        return;
    uint32_t id = c->id;
    c->record = d->iov[0];
    if (c->state == CONN_HANDSHAKE) {
        handshake(w, c);
        c = worker_conn(w, id);
    }
    if (c && c->state == CONN_OPEN) {
        read_records(w, c);
        c = worker_conn(w, id);
    }
    if (c)
        c->record.n = 0; /* what it did not read is gone with the datagram */
}

void worker_dtls_recv(struct worker *w, const struct tw_datagram *d)
{
    struct tw_bytes all = d->iov[0];
    size_t step = d->segment ? d->segment : all.n;
    pushing = w;
    for (size_t off = 0; off < all.n; off += step) {
        struct tw_bytes piece = tw_bytes(all.p + off, all.n - off < step ? all.n - off : step);
        struct tw_datagram one = *d;
        one.iov = &piece;
        one.segment = 0;
        one_datagram(w, &one);
    }
}

/* Each piece of a run is a record of its own. */
void worker_dtls_send(struct worker *w, struct conn *c, const struct tw_datagram *d)
{
    static _Thread_local uint8_t flat[65536];
    size_t n = 0;
    for (size_t i = 0; i < d->iov_n && n + d->iov[i].n <= sizeof(flat); i++) {
        if (d->iov[i].n)
            memcpy(flat + n, d->iov[i].p, d->iov[i].n);
        n += d->iov[i].n;
    }
    size_t step = d->segment ? d->segment : n;
    pushing = w;
    for (size_t off = 0; off < n; off += step)
        (void)!gnutls_record_send(c->tls, flat + off, n - off < step ? n - off : step);
}
