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

void worker_drain(struct worker *w)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    struct tw_relay_handover h;
    for (;;) {
        while (tw_relay_poll_tx(w->relay, &d)) {
            struct tw_rt_udp *u = worker_sock(w, d.sock);
            if (!u)
                continue;
            tw_rt_tx_add(w->tx, u, &d);
            if (u->heat >= TW_RT_HOT && d.sock >= TW_RELAY_FIRST_SOCK)
                worker_connect_hot(w, u);
        }
        while (tw_relay_poll_handover(w->relay, &h))
            worker_hand_over(w, &h);
        if (!tw_relay_poll_event(w->relay, &ev))
            return;
        if (ev.type == TW_RELAY_OPEN)
            tw_relay_opened(w->relay, tw_rt_now(), ev.sock,
                            worker_open(w, ev.sock, &ev.addr));
        else if (ev.type == TW_RELAY_CLOSE)
            worker_close(w, ev.sock);
    }
}

static void on_timer(uv_timer_t *timer);

static void arm(struct worker *w, tw_time now)
{
    tw_time at = tw_relay_deadline(w->relay);
    if (at == w->armed)
        return;
    w->armed = at;
    if (at == TW_NEVER) {
        uv_timer_stop(&w->timer);
        return;
    }
    uv_update_time(&w->loop);
    uint64_t ms = at <= now ? 0 : (uint64_t)((at - now + TW_MSEC - 1) / TW_MSEC);
    uv_timer_start(&w->timer, on_timer, ms, 0);
}

static void take_stats(struct worker *w)
{
    uv_mutex_lock(&w->stats_lock);
    w->stats.relay = *tw_relay_stats(w->relay);
    w->stats.tx = w->tx->stats;
    w->stats.received = w->received;
    w->stats.reads = w->reads;
    w->stats.queue_full = w->queue_full;
    w->stats.allocations = tw_relay_allocations(w->relay);
    uv_mutex_unlock(&w->stats_lock);
}

static void finish_pass(struct worker *w, tw_time now)
{
    tw_rt_tx_flush(w->tx);
    tw_rt_rx_reset(&w->rx);
    arm(w, now);
}

static void on_timer(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    tw_time now = tw_rt_now();
    w->armed = TW_NEVER;
    tw_relay_tick(w->relay, now);
    worker_drain(w);
    finish_pass(w, now);
    take_stats(w);
}

static void read_sock(struct worker *w, struct tw_rt_udp *u, tw_time now)
{
    struct tw_datagram d;
    unsigned n = tw_rt_rx_read(&w->rx, u);
    if (n)
        w->reads++;
    w->received += n;
    for (unsigned i = 0; i < n; i++) {
        tw_rt_rx_get(&w->rx, i, &d);
        tw_relay_recv(w->relay, now, &d);
        worker_drain(w);
    }
    if (tw_rt_rx_full(&w->rx)) {
        tw_rt_tx_flush(w->tx);
        tw_rt_rx_reset(&w->rx);
    }
}

static void read_errors(struct worker *w, struct tw_rt_udp *u, uint64_t data, tw_time now)
{
    enum { PER_PASS = 16 };
    struct tw_rt_icmp e;
    for (int i = 0; i < PER_PASS && u && tw_rt_udp_error(u, &e); i++) {
        tw_relay_icmp(w->relay, now, u->id, &e.peer, e.type, e.code, e.data);
        worker_drain(w);
        u = worker_event_sock(w, data);
    }
}

static void on_wake(struct worker *w, tw_time now)
{
    uint64_t count;
    if (read(w->wake_fd, &count, sizeof(count)) < 0)
        return;
    atomic_store(&w->woken, false);
    if (atomic_load(&w->stop)) {
        uv_stop(&w->loop);
        return;
    }
    for (unsigned i = 0; i < w->server->worker_n; i++)
        if (i != w->index)
            worker_take_handovers(w, &w->in[i], now);
}

static void on_sock(struct worker *w, const struct epoll_event *ev, tw_time now)
{
    struct tw_rt_udp *u = worker_event_sock(w, ev->data.u64);
    if (u && ev->events & EPOLLERR) {
        read_errors(w, u, ev->data.u64, now);
        u = worker_event_sock(w, ev->data.u64);
    }
    /* After an error too: a pending one that is not in the queue is cleared by reading. */
    if (u && ev->events & (EPOLLIN | EPOLLERR))
        read_sock(w, u, now);
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
        tw_time now = tw_rt_now();
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u64 == TW_RT_WAKE)
                on_wake(w, now);
            else
                on_sock(w, &ev[i], now);
        }
        finish_pass(w, now);
    }
    take_stats(w);
}

/* --- a worker's life, all of it in its own thread ------------------------------------------- */

static int open_listeners(struct worker *w)
{
    struct tw_rt_server *s = w->server;
    unsigned flags = (s->worker_n > 1 ? TW_RT_REUSEPORT : 0) | (s->cfg.gro ? TW_RT_GRO : 0);
    for (uint32_t i = 0; i < s->relay_cfg.listener_n; i++) {
        struct tw_rt_udp *u = &w->listeners[i];
        int err = tw_rt_udp_open(u, &s->relay_cfg.listeners[i], flags);
        if (err) {
            s->bad_listener = (int)i;
            return err;
        }
        w->listener_n++;
        u->id = i;
        u->burst = u->min_burst = TW_RT_RX_MAX;
        s->relay_cfg.listeners[i] = u->local; /* the first worker settles port 0 for all */
        err = worker_watch(w, u);
        if (err)
            return err;
    }
    return 0;
}

static int set_up(struct worker *w)
{
    struct tw_rt_server *s = w->server;
    struct tw_env env = { .rng = tw_rt_rng(), .trace = s->cfg.trace };
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = TW_RT_WAKE };
    w->tx = malloc(sizeof(*w->tx));
    if (!w->tx || tw_rt_rx_init(&w->rx))
        return TW_ENOMEM;
    tw_rt_tx_init(w->tx, &w->rx);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &ev) ||
        uv_poll_init(&w->loop, &w->poll, w->epoll_fd))
        return TW_ESYS;
    int err = open_listeners(w);
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
    for (uint32_t i = 0; i < w->listener_n; i++)
        tw_rt_udp_close(&w->listeners[i]);
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
