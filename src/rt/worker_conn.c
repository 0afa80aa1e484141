/* Clients' connections: accepted, told apart, shaken hands with, read, written, closed. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "rt/os.h"
#include "rt/sockaddr.h"
#include "rt/worker.h"
#include "tunnel/front.h"
#include "tunnel/ws.h"

enum {
    ACCEPT_PER_PASS = 64,
    FIRST_BYTES_SEC = 10,    /* a connection says something within so long, */
    HANDSHAKE_SEC = 10,      /* and has shaken hands in so long */
    HELD_SEC = 30,           /* a ConnectionBind is answered in so long */
    PENDING_MAX = 256 << 10, /* bytes that wait for a slow client */
    UNSENT_MAX = 128 << 10,  /* the same, in the kernel */
    STUN_CLASS = 0x0110,     /* the bits of it in a message's type */
    STUN_ERROR = 0x0110,
    NUMBER = (1 << TW_RELAY_CONN_WORKER_SHIFT) - 1,
};

/* --- the table ---------------------------------------------------------------------------- */

struct conn *worker_conn(const struct worker *w, uint32_t id)
{
    uint32_t i = id & NUMBER;
    struct conn *c = i < w->conn_cap ? w->conns[i] : NULL;
    return c && c->id == id && c->state != CONN_CLOSED ? c : NULL;
}

static int find_place(struct worker *w, uint32_t *ret)
{
    while (w->conn_free < w->conn_cap && w->conns[w->conn_free])
        w->conn_free++;
    if (w->conn_free == w->conn_cap) {
        uint32_t cap = w->conn_cap ? 2 * w->conn_cap : 64;
        struct conn **conns = cap > NUMBER ? NULL : realloc(w->conns, cap * sizeof(*conns));
        if (!conns)
            return TW_ENOMEM;
        memset(conns + w->conn_cap, 0, (cap - w->conn_cap) * sizeof(*conns));
        w->conns = conns;
        w->conn_cap = cap;
    }
    *ret = w->conn_free;
    return tw_timers_reserve(&w->conn_timers, w->conn_n + 1);
}

/* kind: TW_RELAY_STREAM or TW_RELAY_SESSION. NULL: no memory, or the source has enough. */
struct conn *worker_conn_new(struct worker *w, uint32_t kind, const struct tw_addr *remote,
                             const struct tw_addr *local)
{
    uint32_t place, slot;
    if (!tw_rt_source_came(w->server->open, remote, w->server->cfg.limits.connections, &slot)) {
        w->count.tcp_refused++;
        return NULL;
    }
    struct conn *c = find_place(w, &place) ? NULL : calloc(1, sizeof(*c));
    if (!c) {
        tw_rt_source_left(w->server->open, slot);
        return NULL;
    }
    c->id = kind | w->index << TW_RELAY_CONN_WORKER_SHIFT | place;
    c->gen = ++w->gen;
    c->fd = -1;
    c->source = slot;
    c->remote = *remote;
    c->local = *local;
    c->heard = w->now;
    w->conns[place] = c;
    w->conn_n++;
    return c;
}

void worker_conn_arm(struct worker *w, struct conn *c, tw_time at)
{
    tw_timers_set(&w->conn_timers, &c->timer, at);
}

void worker_conn_mark(struct worker *w, struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = w->dirty;
    w->dirty = c;
}

static void let_go(struct worker *w, struct conn *c)
{
    uint32_t place = c->id & NUMBER;
    w->conns[place] = NULL;
    if (place < w->conn_free)
        w->conn_free = place;
    w->conn_n--;
    free(c);
}

/* The machine is told; what is still to be sent is given up. Those marked dirty are freed when
 * they are flushed. */
void worker_conn_close(struct worker *w, struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    bool known = c->state == CONN_OPEN;
    if (c->half_open)
        worker_handshake_over(w, c, false);
    bool joined = c->state == CONN_JOINED;
    c->state = CONN_CLOSED;
    if (joined)
        worker_splice_stop(w, c);
    tw_timers_set(&w->conn_timers, &c->timer, TW_NEVER);
    if (c->fd < 0)
        worker_dtls_forget(w, c);
    if (c->tls) {
        if (c->fd >= 0)
            gnutls_bye(c->tls, GNUTLS_SHUT_WR);
        gnutls_deinit(c->tls);
        tw_rt_tls_unref(c->cred);
    }
    if (c->fd >= 0)
        close(c->fd);
    tw_rt_source_left(w->server->open, c->source);
    tw_ws_free(c->ws);
    free(c->rest);
    conn_free_out(c);
    c->out = c->rest = NULL;
    if (known) {
        tw_relay_disconnected(w->relay, w->now, c->id, &c->remote, &c->local);
        worker_drain(w);
    }
    if (!c->dirty)
        let_go(w, c);
}

/* --- handshakes --------------------------------------------------------------------------- */

bool worker_handshake_allowed(struct worker *w, struct conn *c)
{
    const struct tw_rt_limits *l = &w->server->cfg.limits;
    if (tw_relay_shared_afford(w->server->shared, w->now, &c->remote, l->handshakes,
                               l->handshakes) &&
        tw_rt_source_came(w->server->half_open, &c->remote, l->half_open, &c->half_source)) {
        c->half_open = true;
        return true;
    }
    w->count.handshakes_refused++;
    return false;
}

void worker_handshake_over(struct worker *w, struct conn *c, bool well)
{
    c->half_open = false;
    tw_rt_source_left(w->server->half_open, c->half_source);
    if (!well)
        w->count.handshakes_failed++;
    else if (c->fd >= 0)
        w->count.tls_handshakes++;
    else
        w->count.dtls_handshakes++;
}

/* With the certificate of this moment. */
int worker_tls_session(struct worker *w, struct conn *c, unsigned flags)
{
    struct tw_rt_server *s = w->server;
    uv_mutex_lock(&s->tls_lock);
    c->cred = tw_rt_tls_ref(s->tls);
    uv_mutex_unlock(&s->tls_lock);
    int err = tw_rt_tls_session(c->cred, flags, NULL, &c->tls);
    if (err) {
        tw_rt_tls_unref(c->cred);
        c->cred = NULL;
        c->tls = NULL;
    }
    return err;
}

static void opened(struct worker *w, struct conn *c)
{
    c->state = CONN_OPEN;
    c->heard = w->now;
    worker_conn_arm(w, c, tw_time_add(w->now, w->idle));
}

/* False: closed. */
static bool shake_hands(struct worker *w, struct conn *c)
{
    int step = conn_handshake(c);
    if (step < 0) {
        worker_conn_close(w, c);
        return false;
    }
    if (step > 0) {
        worker_handshake_over(w, c, true);
        opened(w, c);
    }
    return true;
}

/* RFC 7983 §7: a TLS record begins with 22. */
static bool tell_apart(struct worker *w, struct conn *c)
{
    enum { TLS_HANDSHAKE = 22 };
    const struct tw_rt_server_config *cfg = &w->server->cfg;
    uint8_t first;
    ssize_t n = recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    bool tls = n == 1 && first == TLS_HANDSHAKE;
    if (n != 1 || (tls ? cfg->no_tls || !cfg->tls : cfg->no_tcp) ||
        (tls && (!worker_handshake_allowed(w, c) ||
                 worker_tls_session(w, c, GNUTLS_SERVER | GNUTLS_NONBLOCK)))) {
        worker_conn_close(w, c);
        return false;
    }
    if (!tls) {
        opened(w, c);
        return true;
    }
    gnutls_transport_set_int(c->tls, c->fd);
    c->state = CONN_HANDSHAKE;
    worker_conn_arm(w, c, tw_time_add(w->now, HANDSHAKE_SEC * TW_SEC));
    return true;
}

/* --- accepting ---------------------------------------------------------------------------- */

/* Out of files: the connection is taken with the spare one and closed, or it would wake us for
 * ever. */
static void refuse_one(struct worker *w, int listener)
{
    close(w->spare_fd);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    w->spare_fd = dup(w->wake_fd);
    w->count.tcp_refused++;
}

static void welcome(struct worker *w, int fd, const struct sockaddr_storage *from)
{
    struct sockaddr_storage to;
    socklen_t n = sizeof(to);
    int one = 1, unsent = UNSENT_MAX;
    if (getsockname(fd, (struct sockaddr *)&to, &n)) {
        close(fd);
        return;
    }
    struct tw_addr remote = tw_rt_addr(from), local = tw_rt_addr(&to);
    struct conn *c = worker_conn_new(w, TW_RELAY_STREAM, &remote, &local);
    if (!c || worker_watch_fd(w, fd, EPOLLIN, (uint64_t)c->gen << 32 | c->id)) {
        close(fd);
        if (c)
            worker_conn_close(w, c);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    c->fd = fd;
    c->watched = EPOLLIN;
    w->count.tcp_accepted++;
    worker_conn_arm(w, c, tw_time_add(w->now, FIRST_BYTES_SEC * TW_SEC));
}

void worker_accept(struct worker *w, unsigned listener)
{
    for (int i = 0; i < ACCEPT_PER_PASS; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof(from);
        int fd = accept4(w->accept_fds[listener], (struct sockaddr *)&from, &n,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            welcome(w, fd, &from);
        else if (errno == EMFILE || errno == ENFILE)
            refuse_one(w, w->accept_fds[listener]);
        else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* --- reading ------------------------------------------------------------------------------ */

/* How many of the n bytes at p are whole frames; TW_EMALFORMED. */
static int whole_frames(const uint8_t *p, size_t n, size_t *ret_n)
{
    size_t len;
    for (*ret_n = 0;; *ret_n += len) {
        if (tw_stun_frame(p + *ret_n, n - *ret_n, &len))
            return TW_EMALFORMED;
        if (len == 0)
            return 0;
    }
}

static bool keep_rest(struct conn *c, const uint8_t *p, size_t n)
{
    if (n != c->rest_n) {
        free(c->rest);
        c->rest = n ? malloc(n) : NULL;
        c->rest_n = 0;
        if (n && !c->rest)
            return false;
    }
    if (n)
        memcpy(c->rest, p, n);
    c->rest_n = (uint32_t)n;
    return true;
}

/* The worker that owns the peer's connection may be another: its answer gets to the client before the
 * connection is joined here. */
static void hold(struct worker *w, struct conn *c)
{
    c->held = true;
    worker_conn_watch(w, c);
    worker_conn_arm(w, c, tw_time_add(w->now, HELD_SEC * TW_SEC));
}

static void let_read(struct worker *w, struct conn *c)
{
    c->held = false;
    worker_conn_watch(w, c);
    worker_conn_arm(w, c, tw_time_add(w->now, w->idle));
}

/* Out of a WebSocket come pieces of the same stream. */
static int unwrap(struct worker *w, struct conn *c, struct tw_bytes raw, uint8_t *to, size_t cap, size_t *ret_n)
{
    struct tw_ws_event ev;
    int err = 0;
    *ret_n = 0;
    tw_ws_recv(c->ws, raw);
    struct tw_bytes out = tw_ws_out(c->ws);
    if (out.n && !conn_put(c, &out, 1, PENDING_MAX))
        err = TW_EFULL;
    worker_conn_mark(w, c);
    while (!err && tw_ws_poll_event(c->ws, &ev)) {
        if (ev.type == TW_WS_CLOSED || ev.data.n > cap - *ret_n)
            err = TW_EFULL;
        else if (ev.type == TW_WS_MESSAGE && ev.data.n) {
            memcpy(to + *ret_n, ev.data.p, ev.data.n);
            *ret_n += ev.data.n;
        }
    }
    return err;
}

static int read_layers(struct worker *w, struct conn *c, uint8_t *to, size_t cap, size_t *ret_n, bool *ret_more)
{
    size_t n;
    if (!c->ws) {
        int err = conn_read(c, to, cap, ret_n);
        *ret_more = *ret_n == cap;
        return err;
    }
    uint8_t *raw = worker_buffer(w);
    int err = conn_read(c, raw, TW_TURN_MESSAGE_MAX, &n);
    *ret_n = 0;
    *ret_more = n == TW_TURN_MESSAGE_MAX;
    return err || n == 0 ? err : unwrap(w, c, tw_bytes(raw, n), to, cap, ret_n);
}

/* n bytes at buf: what was left of before, and more. False: it is closed, or not to be read now. */
static bool take_bytes(struct worker *w, struct conn *c, uint8_t *buf, size_t n)
{
    size_t whole;
    c->heard = w->now;
    w->count.received++;
    if (whole_frames(buf, n, &whole) || (whole == 0 && n == TW_RT_CONN_FRAME) || !keep_rest(c, buf + whole, n - whole) ||
        (c->ws && whole && tw_get_u16(buf) == TW_STUN_CONNECTION_BIND)) { /* a peer's bytes are in no WebSocket */
        w->count.stream_malformed++;
        worker_conn_close(w, c);
        return false;
    }
    uint64_t key = (uint64_t)c->gen << 32 | c->id;
    if (whole && tw_get_u16(buf) == TW_STUN_CONNECTION_BIND)
        hold(w, c);
    if (whole) {
        struct tw_bytes bytes = tw_bytes(buf, whole);
        struct tw_datagram d = { .sock = c->id, .src = c->remote, .dst = c->local, .iov = &bytes,
                                 .iov_n = 1 };
        worker_feed(w, &d);
    }
    c = worker_conn(w, (uint32_t)key);
    return c && c->gen == key >> 32 && c->state == CONN_OPEN && !c->held;
}

/* One reading. True: there may be more. */
static bool read_once(struct worker *w, struct conn *c)
{
    size_t got;
    bool more;
    uint8_t *buf = worker_buffer(w);
    if (c->rest_n)
        memcpy(buf, c->rest, c->rest_n);
    int err = read_layers(w, c, buf + c->rest_n, TW_RT_CONN_FRAME - c->rest_n, &got, &more);
    if (err) {
        worker_conn_close(w, c);
        return false;
    }
    if (got == 0)
        return more;
    return take_bytes(w, c, buf, c->rest_n + got) && (more || (c->tls && gnutls_record_check_pending(c->tls) > 0));
}

static void read_stream(struct worker *w, struct conn *c)
{
    uint32_t id = c->id;
    w->count.reads++;
    for (int i = 0; i < 4 && read_once(w, c); i++)
        if (!(c = worker_conn(w, id)))
            return;
}

void worker_adopt(struct worker *w, int fd, struct tw_rt_newcomer *n)
{
    static const struct tw_ws_config ws = { .server = true, .path = TW_FRONT_PATH, .protocol = TW_TURN_PROTOCOL,
                                            .max_message = TW_TURN_MESSAGE_MAX };
    struct tw_env env = { .rng = tw_rt_rng() };
    struct conn *c = fd >= 0 ? worker_conn_new(w, TW_RELAY_STREAM, &n->remote, &n->local) : NULL;
    if (!c || worker_watch_fd(w, fd, EPOLLIN, (uint64_t)c->gen << 32 | c->id)) {
        if (n->session)
            gnutls_deinit(n->session);
        tw_rt_tls_unref(n->tls);
        if (fd >= 0)
            close(fd);
        if (c)
            worker_conn_close(w, c);
        free(n);
        return;
    }
    c->fd = fd;
    c->watched = EPOLLIN;
    c->tls = n->session;
    c->cred = n->tls;
    if (c->tls)
        gnutls_transport_set_int(c->tls, fd);
    w->count.tcp_accepted++;
    opened(w, c);
    size_t got = n->n;
    uint8_t *buf = worker_buffer(w);
    int err = n->n > TW_RT_CONN_FRAME ? TW_EFULL : n->ws ? tw_ws_new(&ws, &env, &c->ws) : 0;
    if (!err && n->ws)
        err = unwrap(w, c, tw_bytes(n->bytes, n->n), buf, TW_RT_CONN_FRAME, &got);
    if (err) {
        worker_conn_close(w, c);
    } else if (got) {
        if (!n->ws)
            memcpy(buf, n->bytes, n->n);
        if (take_bytes(w, c, buf, got))
            read_stream(w, c); /* TLS may have more of it */
    }
    free(n);
}

/* --- writing ------------------------------------------------------------------------------ */

void worker_conn_watch(struct worker *w, struct conn *c)
{
    bool reads = c->state == CONN_JOINED ? worker_splice_reads_client(w, c) : !c->held;
    worker_rewatch_fd(w, c->fd, &c->watched,
                      (reads ? EPOLLIN : 0) | (conn_pending(c) ? EPOLLOUT : 0),
                      (uint64_t)c->gen << 32 | c->id);
}

static void write_conn(struct worker *w, struct conn *c)
{
    if (conn_write(c)) {
        worker_conn_close(w, c);
        return;
    }
    if (c->state == CONN_JOINED)
        worker_splice_drained(w, c);
    else
        worker_conn_watch(w, c);
}

/* Returns how many datagrams are lost by it. */
static unsigned put(struct conn *c, const struct tw_bytes *iov, size_t iov_n)
{
    bool data = conn_is_data(iov[0]);
    struct tw_bytes framed;
    if (c->ws) {
        if (tw_ws_send_stream(c->ws, iov, iov_n, TW_TURN_MESSAGE_MAX))
            return 1;
        framed = tw_ws_out(c->ws);
        iov = &framed;
        iov_n = 1;
    }
    return data ? conn_put_datagram(c, iov, iov_n, PENDING_MAX) : !conn_put(c, iov, iov_n, PENDING_MAX);
}

void worker_conn_send(struct worker *w, const struct tw_datagram *d)
{
    uint32_t at = d->sock >> TW_RELAY_CONN_WORKER_SHIFT & (TW_RELAY_MAX_WORKERS - 1);
    if (at != w->index) {
        worker_send_far(w, at, d);
        return;
    }
    struct conn *c = worker_conn(w, d->sock);
    if (!c || c->state != CONN_OPEN || !tw_addr_eq(&c->remote, &d->dst))
        return;
    if (c->fd < 0) {
        worker_dtls_send(w, c, d);
        return;
    }
    if (c->held && d->iov[0].n >= 2 && (tw_get_u16(d->iov[0].p) & STUN_CLASS) == STUN_ERROR)
        let_read(w, c); /* it may try again */
    /* There are clients (coturn's) that look for one STUN message in a TLS record and no more. */
    bool alone = c->tls && d->iov[0].n && d->iov[0].p[0] >> 6 == 0;
    if (alone && conn_pending(c) && conn_write(c)) {
        worker_conn_close(w, c);
        return;
    }
    w->count.stream_full += put(c, d->iov, d->iov_n);
    if (alone && conn_write(c))
        worker_conn_close(w, c);
    else
        worker_conn_mark(w, c);
}

void worker_conn_flush(struct worker *w)
{
    while (w->dirty) {
        struct conn *c = w->dirty;
        w->dirty = c->next_dirty;
        c->dirty = false;
        if (c->state == CONN_CLOSED)
            let_go(w, c);
        else if (!(c->watched & EPOLLOUT))
            write_conn(w, c);
    }
}

/* --- what the loop calls -------------------------------------------------------------------- */

void worker_conn_ready(struct worker *w, uint64_t data, uint32_t events)
{
    struct conn *c = worker_conn(w, (uint32_t)data);
    if (!c || c->gen != data >> 32)
        return;
    if (c->state == CONN_NEW && !tell_apart(w, c))
        return;
    if (c->state == CONN_HANDSHAKE && !shake_hands(w, c))
        return;
    if (events & EPOLLOUT && c->state >= CONN_OPEN) {
        write_conn(w, c);
        c = worker_conn(w, (uint32_t)data);
        if (!c || c->gen != data >> 32)
            return;
    }
    if (c->state == CONN_JOINED)
        worker_splice_client(w, c);
    else if (c->state == CONN_OPEN)
        read_stream(w, c);
}

void worker_conn_tick(struct worker *w)
{
    for (struct tw_timer *t; (t = tw_timers_pop(&w->conn_timers, w->now));) {
        struct conn *c = (struct conn *)(void *)t;
        if (c->state == CONN_HANDSHAKE && c->fd < 0)
            worker_dtls_timeout(w, c);
        else if (c->held && c->state == CONN_OPEN)
            worker_conn_close(w, c);
        else if (c->state == CONN_JOINED && tw_time_add(c->heard, w->idle) > w->now)
            worker_splice_resume(w, c);
        else if (c->state >= CONN_OPEN && tw_time_add(c->heard, w->idle) > w->now)
            worker_conn_arm(w, c, tw_time_add(c->heard, w->idle)); /* it has spoken since */
        else
            worker_conn_close(w, c);
    }
}
