/* A worker's sockets by id, and which of them an event means. */
#include <stdlib.h>

#include "rt/worker.h"

enum { TWINS_MAX = 4096 }; /* per worker: each takes a file */

struct tw_rt_udp *worker_sock(struct worker *w, uint32_t id)
{
    if (id < TW_RELAY_FIRST_SOCK)
        return id < w->listener_n ? &w->listeners[id] : NULL;
    id -= TW_RELAY_FIRST_SOCK;
    return id < w->sock_cap ? w->socks[id] : NULL;
}

static unsigned sock_flags(const struct worker *w)
{
    return TW_RT_REUSEPORT | TW_RT_RECVERR | (w->server->cfg.gro ? TW_RT_GRO : 0);
}

int worker_watch_fd(struct worker *w, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = { .events = events, .data.u64 = data };
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? TW_ESYS : 0;
}

void worker_rewatch_fd(struct worker *w, int fd, uint32_t *watched, uint32_t events, uint64_t data)
{
    struct epoll_event ev = { .events = events, .data.u64 = data };
    if (events == *watched)
        return;
    int op = !events ? EPOLL_CTL_DEL : *watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (!epoll_ctl(w->epoll_fd, op, fd, &ev))
        *watched = events;
}

int worker_watch(struct worker *w, struct tw_rt_udp *u)
{
    u->gen = ++w->gen;
    return worker_watch_fd(w, u->fd, EPOLLIN, (uint64_t)u->gen << 32 | u->id);
}

static int grow_socks(struct worker *w, uint32_t place)
{
    uint32_t cap = w->sock_cap ? w->sock_cap : 64;
    while (cap <= place)
        cap *= 2;
    if (cap == w->sock_cap)
        return 0;
    struct tw_rt_udp **socks = realloc(w->socks, cap * sizeof(*socks));
    if (!socks)
        return TW_ENOMEM;
    memset(socks + w->sock_cap, 0, (cap - w->sock_cap) * sizeof(*socks));
    w->socks = socks;
    w->sock_cap = cap;
    return 0;
}

int worker_open(struct worker *w, uint32_t id, const struct tw_addr *addr)
{
    uint32_t place = id - TW_RELAY_FIRST_SOCK;
    if (grow_socks(w, place))
        return TW_ENOMEM;
    struct tw_rt_udp *u = malloc(sizeof(*u));
    if (!u)
        return TW_ENOMEM;
    int err = tw_rt_udp_open(u, addr, sock_flags(w));
    if (err) {
        free(u);
        return err;
    }
    u->id = id;
    err = worker_watch(w, u);
    if (err) {
        tw_rt_udp_close(u);
        free(u);
        return err;
    }
    w->socks[place] = u;
    return 0;
}

void worker_close(struct worker *w, uint32_t id)
{
    struct tw_rt_udp *u = worker_sock(w, id);
    if (!u)
        return;
    tw_rt_tx_flush(w->tx); /* it may hold datagrams of this socket */
    w->twin_n -= u->twin != NULL;
    tw_rt_udp_close(u);
    free(u);
    w->socks[id - TW_RELAY_FIRST_SOCK] = NULL;
}

void worker_connect_hot(struct worker *w, struct tw_rt_udp *u)
{
    bool had = u->twin != NULL;
    if (!had && w->twin_n >= TWINS_MAX)
        return;
    tw_rt_tx_flush(w->tx);
    if (tw_rt_udp_connect(u, sock_flags(w)) || had)
        return;
    if (worker_watch(w, u->twin)) {
        tw_rt_udp_close(u->twin);
        free(u->twin);
        u->twin = NULL;
        return;
    }
    w->twin_n++;
}

/* The socket an event is about, NULL when it is gone. */
struct tw_rt_udp *worker_event_sock(struct worker *w, uint64_t data)
{
    struct tw_rt_udp *u = worker_sock(w, (uint32_t)data);
    if (u && u->gen != data >> 32)
        u = u->twin;
    return u && u->gen == data >> 32 ? u : NULL;
}
