/* A worker's thread: the loop, the four steps of every machine, and its life. */
#include "rt/worker.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "rt/os.h"

enum {
    EVENTS = 256, /* sockets handled per pass */
    PASSES = 32,  /* passes before libuv gets its turn, while there is work */
    BUSY_EVERY_MS = 100,
};

/* ThreadSanitizer takes equal numbers of files for the same file. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_FILES 0
#endif
#endif
#ifndef OWN_FILES
#define OWN_FILES 1
#endif

/* --- the four steps: call, drain datagrams, drain events, arm ------------------------------- */

static void send_out(struct worker *w, const struct tw_datagram *d)
{
    if (d->sock & (TW_RELAY_STREAM | TW_RELAY_SESSION)) {
        worker_conn_send(w, d);
        return;
    }
    struct tw_rt_udp *u = worker_sock(w, d->sock);
    if (!u)
        return;
    tw_rt_tx_add(w->tx, u, d);
    if (u->heat >= TW_RT_HOT && d->sock >= TW_RELAY_FIRST_SOCK)
        worker_connect_hot(w, u);
}

static void close_any(struct worker *w, uint32_t sock)
{
    worker_close(w, sock);
    worker_peer_close(w, sock);
}

static void act(struct worker *w, const struct tw_relay_event *ev)
{
    int err;
    switch (ev->type) {
    case TW_RELAY_OPEN:
        err = ev->tcp ? worker_peer_listen(w, ev->sock, &ev->addr)
                      : worker_open(w, ev->sock, &ev->addr);
        tw_relay_opened(w->relay, w->now, ev->sock, err);
        break;
    case TW_RELAY_CONNECT:
        err = worker_peer_connect(w, ev->sock, &ev->addr, &ev->peer);
        if (err <= 0)
            tw_relay_opened(w->relay, w->now, ev->sock, err);
        break;
    case TW_RELAY_JOIN:
        worker_peer_join(w, ev);
        break;
    case TW_RELAY_CLOSE:
        close_any(w, ev->sock);
        break;
    case TW_RELAY_FLOW:
        break;
    }
}

void worker_drain(struct worker *w)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    struct tw_relay_handover h;
    do {
        while (tw_relay_poll_tx(w->relay, &d))
            send_out(w, &d);
        while (tw_relay_poll_handover(w->relay, &h))
            worker_hand_over(w, &h);
        if (!tw_relay_poll_event(w->relay, &ev))
            return;
        act(w, &ev);
    } while (true);
}

uint8_t *worker_buffer(struct worker *w)
{
    uint8_t *p = tw_rt_rx_take(&w->rx);
    if (p)
        return p;
    tw_rt_tx_flush(w->tx);
    tw_rt_rx_give(&w->rx);
    return tw_rt_rx_take(&w->rx);
}

void worker_feed(struct worker *w, const struct tw_datagram *d)
{
    tw_relay_recv(w->relay, w->now, d);
    worker_drain(w);
}

/* RFC 7983 §7: what begins with 20 to 63 is DTLS. */
void worker_from_listener(struct worker *w, const struct tw_datagram *d)
{
    const struct tw_rt_server_config *cfg = &w->server->cfg;
    uint8_t first = d->iov[0].n ? d->iov[0].p[0] : 0;
    if (first >= 20 && first <= 63) {
        if (!cfg->no_dtls && cfg->tls)
            worker_dtls_recv(w, d);
    } else if (!cfg->no_udp) {
        worker_feed(w, d);
    }
}

static void on_timer(uv_timer_t *timer);

static void arm(struct worker *w)
{
    tw_time at = tw_time_min(tw_relay_deadline(w->relay), tw_timers_next(&w->conn_timers));
    if (at == w->armed)
        return;
    w->armed = at;
    if (at == TW_NEVER) {
        uv_timer_stop(&w->timer);
        return;
    }
    uv_update_time(&w->loop);
    uint64_t ms = at <= w->now ? 0 : (uint64_t)((at - w->now + TW_MSEC - 1) / TW_MSEC);
    uv_timer_start(&w->timer, on_timer, ms, 0);
}

static void take_stats(struct worker *w)
{
    uv_mutex_lock(&w->stats_lock);
    w->stats.relay = *tw_relay_stats(w->relay);
    w->stats.tx = w->tx->stats;
    w->stats.rt = w->count;
    w->stats.connections = w->conn_n;
    if (w->now >= w->busy_at) { /* a system call */
        w->stats.busy = tw_rt_thread_time();
        w->busy_at = tw_time_add(w->now, BUSY_EVERY_MS * TW_MSEC);
    }
    w->stats.allocations = tw_relay_allocations(w->relay);
    uv_mutex_unlock(&w->stats_lock);
}

static void finish_pass(struct worker *w)
{
    worker_conn_flush(w);
    tw_rt_tx_flush(w->tx);
    tw_rt_rx_reset(&w->rx);
    arm(w);
}

static void on_timer(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    w->now = tw_rt_now();
    w->armed = TW_NEVER;
    tw_relay_tick(w->relay, w->now);
    worker_drain(w);
    worker_conn_tick(w);
    finish_pass(w);
    take_stats(w);
}

static void read_sock(struct worker *w, struct tw_rt_udp *u)
{
    struct tw_datagram d;
    unsigned n = tw_rt_rx_read(&w->rx, u);
    bool listener = u->id < TW_RELAY_FIRST_SOCK;
    if (n)
        w->count.reads++;
    w->count.received += n;
    for (unsigned i = 0; i < n; i++) {
        tw_rt_rx_get(&w->rx, i, &d);
        if (listener)
            worker_from_listener(w, &d);
        else
            worker_feed(w, &d);
    }
    if (tw_rt_rx_full(&w->rx)) {
        worker_conn_flush(w);
        tw_rt_tx_flush(w->tx);
        tw_rt_rx_reset(&w->rx);
    }
}

static void read_errors(struct worker *w, struct tw_rt_udp *u, uint64_t data)
{
    enum { PER_PASS = 16 };
    struct tw_rt_icmp e;
    for (int i = 0; i < PER_PASS && u && tw_rt_udp_error(u, &e); i++) {
        tw_relay_icmp(w->relay, w->now, u->id, &e.peer, e.type, e.code, e.data);
        worker_drain(w);
        u = worker_event_sock(w, data);
    }
}

/* The listeners are read by our heir, and what is ours comes from there; or it has failed, and we
 * read them again. */
static void retire(struct worker *w, bool retired)
{
    const struct tw_rt_server *s = w->server;
    uint32_t events = retired ? EPOLLIN : 0, other = retired ? 0 : EPOLLIN;
    uint32_t was = events, was_other = other;
    for (uint32_t i = 0; i < w->listener_n; i++, was = events)
        worker_rewatch_fd(w, w->listeners[i].fd, &was, other,
                          (uint64_t)w->listeners[i].gen << 32 | i);
    for (unsigned i = 0; i < s->cfg.tcp_n; i++, was = events)
        worker_rewatch_fd(w, w->accept_fds[i], &was, other, TW_RT_ID_ACCEPT | i);
    worker_rewatch_fd(w, w->heir_fd, &was_other, events, TW_RT_HEIR);
}

/* What of the configuration is the worker's own. A client refreshes within the longest lifetime. */
static void take_config(struct worker *w, const struct tw_relay_config *cfg)
{
    enum { DEFAULT_SEC = 3600, MORE_SEC = 60 };
    w->idle = tw_time_from_sec((cfg->max_lifetime ? cfg->max_lifetime : DEFAULT_SEC) + MORE_SEC);
    w->max_bps = cfg->max_bps;
    w->total_bps = cfg->total_bps;
}

static void on_wake(struct worker *w)
{
    uint64_t count;
    struct tw_rt_server *s = w->server;
    if (read(w->wake_fd, &count, sizeof(count)) < 0)
        return;
    atomic_store(&w->woken, false);
    if (atomic_load(&w->stop)) {
        uv_stop(&w->loop);
        return;
    }
    if (atomic_exchange(&w->retire, false)) {
        retire(w, s->retired);
        uv_sem_post(&s->told);
    }
    if (atomic_exchange(&w->reconfigure, false)) {
        int err = tw_relay_configure(w->relay, s->next);
        if (err)
            s->error = err;
        take_config(w, s->next);
        uv_sem_post(&s->told);
    }
    for (unsigned i = 0; i < s->worker_n; i++)
        if (i != w->index)
            worker_take_handovers(w, &w->in[i]);
}

static void on_sock(struct worker *w, const struct epoll_event *ev)
{
    uint32_t id = (uint32_t)ev->data.u64;
    if (ev->data.u64 == TW_RT_WAKE) {
        on_wake(w);
    } else if (ev->data.u64 == TW_RT_BOX) {
        worker_take_box(w);
    } else if (ev->data.u64 == TW_RT_HEIR) {
        worker_take_from_heir(w);
    } else if (id & TW_RELAY_STREAM) {
        worker_conn_ready(w, ev->data.u64, ev->events);
    } else if (id & TW_RT_ID_ACCEPT) {
        worker_accept(w, id & ~TW_RT_ID_ACCEPT);
    } else if (id & TW_RT_ID_PEER) {
        worker_peer_ready(w, ev->data.u64, ev->events);
    } else if (id & TW_RT_ID_SPLICE) {
        worker_splice_ready(w, ev->data.u64, ev->events);
    } else {
        struct tw_rt_udp *u = worker_event_sock(w, ev->data.u64);
        if (u && ev->events & EPOLLERR) {
            read_errors(w, u, ev->data.u64);
            u = worker_event_sock(w, ev->data.u64);
        }
        /* After an error too: a pending one that is not in the queue is cleared by reading. */
        if (u && ev->events & (EPOLLIN | EPOLLERR))
            read_sock(w, u);
    }
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;
    struct epoll_event ev[EVENTS];
    (void)status;
    (void)events;
    for (int pass = 0; pass < PASSES; pass++) {
        int n = epoll_wait(w->epoll_fd, ev, EVENTS, 0);
        if (n <= 0)
            break;
        w->now = tw_rt_now();
        for (int i = 0; i < n; i++)
            on_sock(w, &ev[i]);
        finish_pass(w);
    }
    take_stats(w);
}

/* --- a worker's life, all of it in its own thread ------------------------------------------- */

/* The server opened them all, in the order [worker][UDP, then TCP]. */
static int adopt_listeners(struct worker *w)
{
    struct tw_rt_server *s = w->server;
    uint32_t udp_n = s->relay_cfg.listener_n;
    const int *fds = s->fds + w->index * (udp_n + s->cfg.tcp_n);
    for (uint32_t i = 0; i < udp_n; i++) {
        struct tw_rt_udp *u = &w->listeners[i];
        int err = tw_rt_udp_adopt(u, fds[i], &s->relay_cfg.listeners[i],
                                  s->cfg.gro ? TW_RT_GRO : 0);
        u->id = i;
        u->burst = u->min_burst = TW_RT_RX_MAX;
        if (!err)
            err = worker_watch(w, u);
        if (err)
            return err;
    }
    for (unsigned i = 0; i < s->cfg.tcp_n; i++) {
        w->accept_fds[i] = fds[udp_n + i];
        if (worker_watch_fd(w, w->accept_fds[i], EPOLLIN, TW_RT_ID_ACCEPT | i))
            return TW_ESYS;
    }
    return 0;
}

static int set_up(struct worker *w)
{
    struct tw_rt_server *s = w->server;
    struct tw_env env = { .rng = tw_rt_rng(), .trace = s->cfg.trace };
    w->now = tw_rt_now();
    w->listener_n = s->relay_cfg.listener_n;
    take_config(w, &s->relay_cfg);
    w->tx = malloc(sizeof(*w->tx));
    if (!w->tx || tw_rt_rx_init(&w->rx))
        return TW_ENOMEM;
    tw_rt_tx_init(w->tx, &w->rx);
    tw_timers_init(&w->conn_timers);
    tw_map_init(&w->assocs, 1 << 20);
    tw_map_init(&w->peers, 1 << 20);
    tw_hash_key_init(&w->assoc_key, &env.rng);
    w->spare_fd = dup(w->wake_fd);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0 || worker_watch_fd(w, w->wake_fd, EPOLLIN, TW_RT_WAKE) ||
        worker_watch_fd(w, w->box_fd, EPOLLIN, TW_RT_BOX) ||
        uv_poll_init(&w->loop, &w->poll, w->epoll_fd))
        return TW_ESYS;
    int err = adopt_listeners(w);
    if (!err)
        err = tw_relay_new(&s->relay_cfg, s->shared, &env, w->index, s->worker_n, &w->relay);
    return err;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void tear_down(struct worker *w)
{
    uv_walk(&w->loop, close_handle, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    if (w->relay)
        worker_take_box(w); /* who has just come in is not forgotten */
    for (uint32_t i = 0; w->relay && i < w->conn_cap; i++)
        if (w->conns[i])
            worker_conn_close(w, w->conns[i]);
    worker_conn_flush(w);
    worker_peer_fini(w);
    tw_timers_fini(&w->conn_timers);
    tw_map_fini(&w->assocs);
    free(w->conns);
    close(w->spare_fd);
    for (uint32_t i = 0; i < w->sock_cap; i++)
        if (w->socks[i]) {
            tw_rt_udp_close(w->socks[i]);
            free(w->socks[i]);
        }
    tw_relay_free(w->relay);
    free(w->socks);
    free(w->tx);
    tw_rt_rx_fini(&w->rx);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
}

static void tell(struct tw_rt_server *s, int error)
{
    s->error = error;
    s->error_errno = errno;
    uv_sem_post(&s->told);
}

/* A table of files for each worker: the limit on open files then counts per worker, and system
 * calls need not take references on files that no other thread can close. What was open before,
 * the wake_fds among it, is in every table under the same number. */
void worker_run(void *arg)
{
    struct worker *w = arg;
    w->epoll_fd = -1;
    if (OWN_FILES && w->server->worker_n > 1)
        (void)!unshare(CLONE_FILES); /* refused: then they share one, and one limit */
    if (uv_loop_init(&w->loop)) {
        tell(w->server, TW_ENOMEM);
        return;
    }
    uv_timer_init(&w->loop, &w->timer);
    w->timer.data = w->poll.data = w;
    int err = set_up(w);
    if (!err) {
        w->poll.data = w;
        uv_poll_start(&w->poll, UV_READABLE, on_ready);
        tell(w->server, 0);
        uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    int keep = errno;
    tear_down(w);
    uv_loop_close(&w->loop);
    if (err) {
        errno = keep;
        tell(w->server, err);
    }
}
