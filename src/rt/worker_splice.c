/* A client's data connection and a peer's, joined (RFC 6062 §5.4): bytes go both ways until both ends
 * have finished. Nothing is dropped: who sends faster than the other takes has to wait. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bucket.h"
#include "rt/worker.h"

enum { CHUNK = 65536, CLIENT_MAX = 256 << 10 };

struct splice {
    int fd;                 /* the peer's */
    uint32_t gen, owner, sock;
    uint8_t *to_peer;       /* what the peer did not take yet */
    uint32_t to_peer_n, to_peer_at;
    bool from_client, from_peer; /* still open for reading */
    bool shut;                   /* the peer was told the end */
    uint32_t watched;            /* what the peer's end is watched for */
    uint64_t up, down;
    struct tw_bucket up_rate, down_rate;
    tw_time up_at, down_at; /* not read before */
};

/* n bytes have been read from one end: how long that end has to wait. */
static void charge(struct worker *w, struct conn *c, bool up, size_t n)
{
    struct splice *s = c->splice;
    tw_time at = w->now, *ret = up ? &s->up_at : &s->down_at;
    if (w->max_bps)
        at = tw_bucket_charge(up ? &s->up_rate : &s->down_rate, w->now,
                              tw_bucket_cost(n, w->max_bps), TW_SEC);
    if (w->total_bps) {
        tw_time all = tw_relay_shared_carried(w->server->shared, w->now, up, n, w->total_bps);
        at = all > at ? all : at;
    }
    *ret = at;
    if (at > w->now)
        worker_conn_arm(w, c, at);
}

static void watch_peer(struct worker *w, struct conn *c)
{
    struct splice *s = c->splice;
    bool room = conn_pending(c) < CLIENT_MAX / 2;
    uint32_t want = (s->from_peer && room && s->down_at <= w->now ? EPOLLIN : 0) | (s->to_peer_n ? EPOLLOUT : 0);
    worker_rewatch_fd(w, s->fd, &s->watched, want,
                      (uint64_t)s->gen << 32 | TW_RT_ID_SPLICE | (c->id & 0xffffff));
}

bool worker_splice_reads_client(const struct worker *w, const struct conn *c)
{
    const struct splice *s = c->splice;
    return s->from_client && s->to_peer_n == 0 && s->up_at <= w->now;
}

/* Tells the peer the client's end once everything before it is sent; closes when both are done. */
static void settle(struct worker *w, struct conn *c)
{
    struct splice *s = c->splice;
    if (!s->from_client && !s->to_peer_n && !s->shut) {
        shutdown(s->fd, SHUT_WR);
        s->shut = true;
    }
    if (!s->from_peer && !conn_pending(c) && !c->told) {
        c->told = true;
        if (c->tls)
            gnutls_bye(c->tls, GNUTLS_SHUT_WR);
        shutdown(c->fd, SHUT_WR);
    }
    if (s->shut && c->told) {
        worker_conn_close(w, c);
        return;
    }
    watch_peer(w, c);
    worker_conn_watch(w, c);
}

static bool write_peer(struct splice *s)
{
    while (s->to_peer_at < s->to_peer_n) {
        ssize_t n = send(s->fd, s->to_peer + s->to_peer_at, s->to_peer_n - s->to_peer_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        s->to_peer_at += (uint32_t)n;
        s->up += (uint64_t)n;
    }
    free(s->to_peer);
    s->to_peer = NULL;
    s->to_peer_n = s->to_peer_at = 0;
    return true;
}

/* False: the peer's end is broken, or there is no memory. */
static bool to_peer(struct splice *s, const uint8_t *p, size_t n)
{
    while (n && !s->to_peer_n) {
        ssize_t sent = send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < 0)
            break;
        p += sent;
        n -= (size_t)sent;
        s->up += (uint64_t)sent;
    }
    if (n == 0)
        return true;
    uint8_t *kept = realloc(s->to_peer, s->to_peer_n + n);
    if (!kept)
        return false;
    memcpy(kept + s->to_peer_n, p, n);
    s->to_peer = kept;
    s->to_peer_n += (uint32_t)n;
    return true;
}

void worker_splice_start(struct worker *w, struct conn *c, int fd, uint32_t owner, uint32_t sock)
{
    struct splice *s = calloc(1, sizeof(*s));
    uint32_t gen = ++w->gen;
    if (!s || worker_watch_fd(w, fd, EPOLLIN, (uint64_t)gen << 32 | TW_RT_ID_SPLICE |
                              (c->id & 0xffffff))) {
        free(s);
        close(fd);
        worker_note(w, owner, NOTE_PEER_GONE, sock, 0, 0);
        worker_conn_close(w, c);
        return;
    }
    *s = (struct splice){ .fd = fd, .gen = gen, .owner = owner, .sock = sock, .from_client = true,
                          .from_peer = true, .watched = EPOLLIN };
    /* To the machine this connection is over: its bytes are the peer's from here on. */
    tw_relay_disconnected(w->relay, w->now, c->id, &c->remote, &c->local);
    worker_drain(w);
    c->splice = s;
    c->state = CONN_JOINED;
    /* What the client sent right behind its ConnectionBind is for the peer. */
    bool ok = to_peer(s, c->rest, c->rest_n);
    free(c->rest);
    c->rest = NULL;
    c->rest_n = 0;
    if (!ok)
        worker_conn_close(w, c);
    else
        worker_splice_client(w, c); /* TLS may hold what it has read already */
}

void worker_splice_stop(struct worker *w, struct conn *c)
{
    struct splice *s = c->splice;
    worker_note(w, s->owner, NOTE_PEER_GONE, s->sock, s->up, s->down);
    close(s->fd);
    free(s->to_peer);
    free(s);
    c->splice = NULL;
}

void worker_splice_client(struct worker *w, struct conn *c)
{
    struct splice *s = c->splice;
    size_t n;
    while (worker_splice_reads_client(w, c)) {
        uint8_t *buf = worker_buffer(w);
        int err = conn_read(c, buf, CHUNK, &n);
        if (err && err != TW_EFULL) {
            worker_conn_close(w, c);
            return;
        }
        if (err)
            s->from_client = false;
        charge(w, c, true, n);
        if (n && !to_peer(s, buf, n)) {
            worker_conn_close(w, c);
            return;
        }
        if (n < CHUNK && !(c->tls && gnutls_record_check_pending(c->tls)))
            break;
    }
    c->heard = w->now;
    settle(w, c);
}

static bool read_peer(struct worker *w, struct conn *c)
{
    struct splice *s = c->splice;
    uint8_t *buf = worker_buffer(w);
    ssize_t n = recv(s->fd, buf, CHUNK, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
        s->from_peer = false;
        return true;
    }
    struct tw_bytes bytes = tw_bytes(buf, (size_t)n);
    s->down += (uint64_t)n;
    charge(w, c, false, (size_t)n);
    c->heard = w->now;
    if (!conn_put(c, &bytes, 1, CLIENT_MAX))
        return false;
    worker_conn_mark(w, c);
    return true;
}

void worker_splice_ready(struct worker *w, uint64_t data, uint32_t events)
{
    uint32_t i = (uint32_t)data & 0xffffff;
    struct conn *c = i < w->conn_cap ? w->conns[i] : NULL;
    if (!c || c->state != CONN_JOINED || c->splice->gen != data >> 32)
        return;
    bool had_to_wait = c->splice->to_peer_n > 0;
    bool ok = !(events & EPOLLOUT) || write_peer(c->splice);
    if (ok && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->splice->from_peer)
        ok = read_peer(w, c);
    else if (events & EPOLLERR)
        ok = false;
    if (!ok)
        worker_conn_close(w, c);
    else if (had_to_wait && !c->splice->to_peer_n)
        worker_splice_client(w, c); /* TLS may hold what it has read already */
    else
        settle(w, c);
}

void worker_splice_resume(struct worker *w, struct conn *c)
{
    const struct splice *s = c->splice;
    tw_time next = tw_time_add(c->heard, w->idle);
    if (s->up_at > w->now)
        next = tw_time_min(next, s->up_at);
    if (s->down_at > w->now)
        next = tw_time_min(next, s->down_at);
    worker_conn_arm(w, c, next);
    worker_splice_client(w, c);
}

bool worker_splice_is(const struct conn *c, uint32_t owner, uint32_t sock)
{
    return c->splice->owner == owner && c->splice->sock == sock;
}

void worker_splice_drained(struct worker *w, struct conn *c)
{
    settle(w, c);
}
