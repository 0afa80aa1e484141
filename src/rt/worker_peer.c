/* The relay's side of TCP relaying (RFC 6062): sockets that listen at relayed addresses, and
 * connections with peers until they are joined to a client's. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "rt/fdpass.h"
#include "rt/sockaddr.h"
#include "rt/worker.h"

enum { BACKLOG = 32 };

enum peer_state { LISTENING, CONNECTING, WAITING, AWAY };

struct peer_sock {
    int fd;         /* -1: passed to the worker `at` */
    uint32_t id, gen;
    enum peer_state state;
    uint32_t at;
};

static bool eq_id(const void *item, const void *key)
{
    return ((const struct peer_sock *)item)->id == *(const uint32_t *)key;
}

static struct peer_sock *find(const struct worker *w, uint32_t id)
{
    return tw_map_get(&w->peers, id, eq_id, &id);
}

static struct peer_sock *peer_new(struct worker *w, uint32_t id, int fd)
{
    struct peer_sock *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    *p = (struct peer_sock){ .fd = fd, .id = id, .gen = ++w->gen };
    if (tw_map_put(&w->peers, id, p)) {
        free(p);
        return NULL;
    }
    return p;
}

static void peer_free(struct worker *w, struct peer_sock *p)
{
    if (p->fd >= 0)
        close(p->fd);
    tw_map_del(&w->peers, p->id, p);
    free(p);
}

/* Both a listening socket and connections outwards use a relayed address: they share it. */
static int open_at(const struct tw_addr *addr)
{
    struct sockaddr_storage ss;
    int one = 1;
    int fd = socket(addr->family == TW_FAMILY_V4 ? AF_INET : AF_INET6,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) ||
        bind(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(addr, &ss))) {
        int keep = errno;
        close(fd);
        errno = keep;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static int watch(struct worker *w, const struct peer_sock *p, uint32_t events)
{
    return worker_watch_fd(w, p->fd, events, (uint64_t)p->gen << 32 | TW_RT_ID_PEER | p->id);
}

static int begin(struct worker *w, uint32_t id, int fd, enum peer_state state, uint32_t events)
{
    struct peer_sock *p = peer_new(w, id, fd);
    if (!p) {
        close(fd);
        return TW_ENOMEM;
    }
    p->state = state;
    if (watch(w, p, events)) {
        peer_free(w, p);
        return TW_ESYS;
    }
    return 0;
}

int worker_peer_listen(struct worker *w, uint32_t id, const struct tw_addr *addr)
{
    int fd = open_at(addr);
    if (fd < 0 || listen(fd, BACKLOG)) {
        int err = errno == EADDRINUSE ? TW_EADDRINUSE : TW_ESYS;
        if (fd >= 0)
            close(fd);
        return err;
    }
    return begin(w, id, fd, LISTENING, EPOLLIN);
}

int worker_peer_connect(struct worker *w, uint32_t id, const struct tw_addr *from,
                        const struct tw_addr *to)
{
    struct sockaddr_storage ss;
    int fd = open_at(from);
    if (fd < 0)
        return TW_ESYS;
    if (connect(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(to, &ss)) && errno != EINPROGRESS) {
        close(fd);
        return TW_ESYS;
    }
    int err = begin(w, id, fd, CONNECTING, EPOLLOUT);
    return err ? err : 1;
}

void worker_peer_close(struct worker *w, uint32_t id)
{
    struct peer_sock *p = find(w, id);
    if (!p)
        return;
    if (p->state == AWAY)
        worker_note(w, p->at, NOTE_CLOSE, id, 0, 0);
    peer_free(w, p);
}

/* --- what comes of them ----------------------------------------------------------------------- */

static void arrived(struct worker *w, const struct peer_sock *listener)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof(from);
    int fd = accept4(listener->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct tw_addr peer = tw_rt_addr(&from);
    uint32_t id = tw_relay_peer_arrived(w->relay, w->now, listener->id, &peer);
    struct peer_sock *p = id ? peer_new(w, id, fd) : NULL;
    if (p) {
        p->state = WAITING;
    } else {
        close(fd);
        if (id)
            tw_relay_peer_gone(w->relay, w->now, id);
    }
    worker_drain(w);
}

static void connected(struct worker *w, struct peer_sock *p)
{
    int error = 0;
    socklen_t n = sizeof(error);
    uint32_t id = p->id;
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &n) || error) {
        peer_free(w, p);
        tw_relay_opened(w->relay, w->now, id, TW_ESYS);
    } else {
        p->state = WAITING;
        epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, p->fd, NULL); /* until it is joined */
        tw_relay_opened(w->relay, w->now, id, 0);
    }
    worker_drain(w);
}

void worker_peer_ready(struct worker *w, uint64_t data, uint32_t events)
{
    struct peer_sock *p = find(w, (uint32_t)data & ~TW_RT_ID_PEER);
    (void)events;
    if (!p || p->gen != data >> 32)
        return;
    if (p->state == LISTENING)
        arrived(w, p);
    else if (p->state == CONNECTING)
        connected(w, p);
}

/* --- joining, here or at the worker that has the client's connection ------------------------- */

struct parcel {
    uint32_t conn, owner, sock;
    struct tw_addr client;
    struct tw_rt_newcomer *newcomer; /* NULL: a peer's socket */
};

static void receive(struct worker *w, const struct parcel *parcel, int fd)
{
    /* The answer to the client was sent on its way before this, and must stay ahead of it. */
    if (parcel->owner != w->index && parcel->owner < w->server->worker_n)
        worker_take_handovers(w, &w->in[parcel->owner]);
    worker_conn_flush(w);
    struct conn *c = worker_conn(w, parcel->conn);
    if (c && c->state == CONN_OPEN && tw_addr_eq(&c->remote, &parcel->client)) {
        worker_splice_start(w, c, fd, parcel->owner, parcel->sock);
        return;
    }
    close(fd);
    worker_note(w, parcel->owner, NOTE_PEER_GONE, parcel->sock, 0, 0);
}

void worker_peer_join(struct worker *w, const struct tw_relay_event *ev)
{
    struct peer_sock *p = find(w, ev->sock);
    const struct parcel parcel = { ev->conn, w->index, ev->sock, ev->client, NULL };
    if (!p || p->fd < 0)
        return;
    p->at = ev->conn >> TW_RELAY_CONN_WORKER_SHIFT & (TW_RELAY_MAX_WORKERS - 1);
    p->state = AWAY;
    int fd = p->fd;
    p->fd = -1;
    if (p->at == w->index) {
        receive(w, &parcel, fd);
        return;
    }
    if (!tw_rt_send_fd(w->server->workers[p->at].box_out, &parcel, sizeof(parcel), fd, MSG_DONTWAIT))
        worker_note(w, w->index, NOTE_PEER_GONE, ev->sock, 0, 0);
    close(fd);
}

void tw_rt_server_adopt(struct tw_rt_server *s, int fd, struct tw_rt_newcomer *newcomer)
{
    struct worker *w = &s->workers[atomic_fetch_add(&s->adopted, 1) % s->worker_n];
    const struct parcel parcel = { .newcomer = newcomer };
    if (!tw_rt_send_fd(w->box_out, &parcel, sizeof(parcel), fd, MSG_DONTWAIT)) {
        if (newcomer->session) {
            gnutls_deinit(newcomer->session);
            tw_rt_tls_unref(newcomer->tls);
        }
        free(newcomer);
    }
    close(fd);
}

void worker_take_box(struct worker *w)
{
    struct parcel parcel;
    int fd;
    while (tw_rt_recv_fd(w->box_fd, &parcel, sizeof(parcel), &fd, MSG_DONTWAIT))
        if (parcel.newcomer)
            worker_adopt(w, fd, parcel.newcomer);
        else if (fd >= 0)
            receive(w, &parcel, fd);
        else /* no room for another file here */
            worker_note(w, parcel.owner, NOTE_PEER_GONE, parcel.sock, 0, 0);
}

void worker_peer_fini(struct worker *w)
{
    for (uint32_t i = 0; w->peers.slots && i <= w->peers.mask; i++) {
        struct peer_sock *p = w->peers.slots[i].item;
        if (p && p->fd >= 0)
            close(p->fd);
        free(p);
    }
    tw_map_fini(&w->peers);
}
