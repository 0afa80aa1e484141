#include "rt/server.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include "rt/os.h"
#include "rt/queue.h"

enum {
    EVENTS = 256,          /* sockets handled per pass */
    PASSES = 32,           /* passes before libuv gets its turn, while there is work */
    TWINS_MAX = 4096,      /* per worker: each takes a file */
    QUEUE_BYTES = 1 << 19, /* between each pair of workers; a run of 64 KiB must fit */
};
#define WAKE UINT64_MAX    /* marks wake_fd among the sockets */

/* ThreadSanitizer takes equal numbers of files for the same file. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_FILES 0
#endif
#endif
#ifndef OWN_FILES
#define OWN_FILES 1
#endif

/* A worker's fields belong to its thread, but for those in the second half. */
struct worker {
    struct tw_rt_server *server;
    unsigned index;
    uv_loop_t loop;
    uv_poll_t poll;      /* on epoll_fd */
    uv_timer_t timer;
    int epoll_fd;        /* all UDP sockets and wake_fd; libuv's own set holds just this one */
    struct tw_relay *relay;
    struct tw_rt_udp listeners[TW_RELAY_MAX_LISTENERS];
    uint32_t listener_n;
    struct tw_rt_udp **socks; /* relay sockets by id */
    uint32_t sock_cap, gen, twin_n;
    tw_time armed;       /* what the timer is set to */
    struct tw_rt_rx rx;
    struct tw_rt_tx *tx;
    uint64_t received, reads, queue_full;

    uv_thread_t thread;
    int wake_fd;         /* an eventfd: something is in a queue, or stop is set */
    atomic_bool woken, stop;
    struct tw_rt_queue *in; /* one from each worker */
    uv_mutex_t stats_lock;  /* of the copy below, taken before the worker sleeps */
    struct tw_rt_server_stats stats;
    bool running;           /* the thread was made and has to be joined */
};

struct tw_rt_server {
    struct tw_rt_server_config cfg;
    struct tw_relay_config relay_cfg;
    struct tw_relay_shared *shared;
    unsigned worker_n;
    struct worker *workers;

    /* How a worker's start went, told to the thread that starts them one after the other. */
    uv_sem_t told;
    int error, error_errno, bad_listener;
};

/* What a hand-over looks like in a queue; the payload follows. */
struct wire {
    enum tw_relay_handover_type type;
    uint32_t from, sock;
    struct tw_addr src, dst;
    uint16_t segment;
    uint8_t tos, ttl, flags;
};

/* --- sockets ------------------------------------------------------------------------------ */

static struct tw_rt_udp *find_sock(struct worker *w, uint32_t id)
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

/* Ready events carry id and generation: by the time one is handled, its socket may be gone and the
 * id may be another's. A twin has its socket's id and a generation of its own. */
static int watch(struct worker *w, struct tw_rt_udp *u)
{
    u->gen = ++w->gen;
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)u->gen << 32 | u->id };
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, u->fd, &ev) ? TW_ESYS : 0;
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

static int open_relay_sock(struct worker *w, uint32_t id, const struct tw_addr *addr)
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
    err = watch(w, u);
    if (err) {
        tw_rt_udp_close(u);
        free(u);
        return err;
    }
    w->socks[place] = u;
    return 0;
}

static void close_relay_sock(struct worker *w, uint32_t id)
{
    struct tw_rt_udp *u = find_sock(w, id);
    if (!u)
        return;
    tw_rt_tx_flush(w->tx); /* it may hold datagrams of this socket */
    w->twin_n -= u->twin != NULL;
    tw_rt_udp_close(u);
    free(u);
    w->socks[id - TW_RELAY_FIRST_SOCK] = NULL;
}

/* A relay socket that keeps sending to one peer gets a twin that is connected there. */
static void connect_hot(struct worker *w, struct tw_rt_udp *u)
{
    bool had = u->twin != NULL;
    if (!had && w->twin_n >= TWINS_MAX)
        return;
    tw_rt_tx_flush(w->tx);
    if (tw_rt_udp_connect(u, sock_flags(w)) || had)
        return;
    if (watch(w, u->twin)) {
        tw_rt_udp_close(u->twin);
        free(u->twin);
        u->twin = NULL;
        return;
    }
    w->twin_n++;
}

/* --- hand-overs --------------------------------------------------------------------------- */

/* From any thread; several calls before the worker comes to look cost one write. */
static void wake(struct worker *w)
{
    uint64_t one = 1;
    if (!atomic_exchange(&w->woken, true) && write(w->wake_fd, &one, sizeof(one)) < 0)
        atomic_store(&w->woken, false);
}

static void hand_over(struct worker *w, const struct tw_relay_handover *h)
{
    struct worker *to = &w->server->workers[h->to];
    size_t n = sizeof(struct wire);
    for (size_t i = 0; i < h->d.iov_n; i++)
        n += h->d.iov[i].n;
    uint8_t *p = tw_rt_queue_room(&to->in[w->index], n);
    if (!p) {
        w->queue_full++;
        return;
    }
    struct wire wire = { h->type, h->from, h->d.sock, h->d.src, h->d.dst,
                         h->d.segment, h->d.tos, h->d.ttl, h->d.flags };
    memcpy(p, &wire, sizeof(wire));
    p += sizeof(wire);
    for (size_t i = 0; i < h->d.iov_n; i++) {
        memcpy(p, h->d.iov[i].p, h->d.iov[i].n);
        p += h->d.iov[i].n;
    }
    tw_rt_queue_publish(&to->in[w->index], n);
    wake(to);
}

/* --- the four steps: call, drain datagrams, drain events, arm ------------------------------- */

static void drain(struct worker *w)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    struct tw_relay_handover h;
    for (;;) {
        while (tw_relay_poll_tx(w->relay, &d)) {
            struct tw_rt_udp *u = find_sock(w, d.sock);
            if (!u)
                continue;
            tw_rt_tx_add(w->tx, u, &d);
            if (u->heat >= TW_RT_HOT && d.sock >= TW_RELAY_FIRST_SOCK)
                connect_hot(w, u);
        }
        while (tw_relay_poll_handover(w->relay, &h))
            hand_over(w, &h);
        if (!tw_relay_poll_event(w->relay, &ev))
            return;
        if (ev.type == TW_RELAY_OPEN)
            tw_relay_opened(w->relay, tw_rt_now(), ev.sock,
                            open_relay_sock(w, ev.sock, &ev.addr));
        else if (ev.type == TW_RELAY_CLOSE)
            close_relay_sock(w, ev.sock);
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
    drain(w);
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
        drain(w);
    }
    if (tw_rt_rx_full(&w->rx)) {
        tw_rt_tx_flush(w->tx);
        tw_rt_rx_reset(&w->rx);
    }
}

/* The socket an event is about, NULL when it is gone. */
static struct tw_rt_udp *event_sock(struct worker *w, uint64_t data)
{
    struct tw_rt_udp *u = find_sock(w, (uint32_t)data);
    if (u && u->gen != data >> 32)
        u = u->twin;
    return u && u->gen == data >> 32 ? u : NULL;
}

static void read_errors(struct worker *w, struct tw_rt_udp *u, uint64_t data, tw_time now)
{
    enum { PER_PASS = 16 };
    struct tw_rt_icmp e;
    for (int i = 0; i < PER_PASS && u && tw_rt_udp_error(u, &e); i++) {
        tw_relay_icmp(w->relay, now, u->id, &e.peer, e.type, e.code, e.data);
        drain(w);
        u = event_sock(w, data);
    }
}

static void take_handovers(struct worker *w, struct tw_rt_queue *q, tw_time now)
{
    enum { PER_PASS = 256 };
    struct tw_bytes msg;
    for (int i = 0; i < PER_PASS && tw_rt_queue_peek(q, &msg); i++) {
        struct wire wire;
        memcpy(&wire, msg.p, sizeof(wire));
        struct tw_bytes payload = tw_bytes(msg.p + sizeof(wire), msg.n - sizeof(wire));
        struct tw_relay_handover h = {
            .type = wire.type,
            .to = w->index,
            .from = wire.from,
            .d = { .sock = wire.sock, .segment = wire.segment, .tos = wire.tos, .ttl = wire.ttl,
                   .flags = wire.flags, .src = wire.src, .dst = wire.dst, .iov = &payload,
                   .iov_n = 1 },
        };
        tw_relay_recv_handover(w->relay, now, &h);
        drain(w);
        tw_rt_queue_drop(q);
    }
    if (tw_rt_queue_peek(q, &msg))
        wake(w);
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
            take_handovers(w, &w->in[i], now);
}

static void on_sock(struct worker *w, const struct epoll_event *ev, tw_time now)
{
    struct tw_rt_udp *u = event_sock(w, ev->data.u64);
    if (u && ev->events & EPOLLERR) {
        read_errors(w, u, ev->data.u64, now);
        u = event_sock(w, ev->data.u64);
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
            if (ev[i].data.u64 == WAKE)
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
        err = watch(w, u);
        if (err)
            return err;
    }
    return 0;
}

static int set_up(struct worker *w)
{
    struct tw_rt_server *s = w->server;
    struct tw_env env = { .rng = tw_rt_rng(), .trace = s->cfg.trace };
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = WAKE };
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
static void run(void *arg)
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

/* --- the server --------------------------------------------------------------------------- */

static int init_worker(struct tw_rt_server *s, unsigned index)
{
    struct worker *w = &s->workers[index];
    w->server = s;
    w->index = index;
    w->armed = TW_NEVER;
    w->in = calloc(s->worker_n, sizeof(*w->in));
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!w->in || w->wake_fd < 0 || uv_mutex_init(&w->stats_lock))
        return TW_ENOMEM;
    for (unsigned i = 0; i < s->worker_n; i++)
        if (i != index && tw_rt_queue_init(&w->in[i], QUEUE_BYTES))
            return TW_ENOMEM;
    return 0;
}

static int start_worker(struct tw_rt_server *s, unsigned index)
{
    struct worker *w = &s->workers[index];
    if (uv_thread_create(&w->thread, run, w))
        return TW_ENOMEM;
    w->running = true;
    uv_sem_wait(&s->told);
    errno = s->error_errno;
    return s->error;
}

/* libuv opens process-wide files of its own with the first loop. That must happen before the workers
 * get their own tables, or only one of them would have those files. */
static int init_libuv(void)
{
    uv_loop_t loop;
    return uv_loop_init(&loop) || uv_loop_close(&loop) ? TW_ENOMEM : 0;
}

static int start(struct tw_rt_server *s)
{
    struct tw_rng rng = tw_rt_rng();
    int err = tw_relay_shared_new(s->relay_cfg.relays, s->relay_cfg.relay_n, &rng, &s->shared);
    if (!err)
        err = init_libuv();
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = init_worker(s, i);
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = start_worker(s, i);
    return err;
}

int tw_rt_server_start(const struct tw_rt_server_config *cfg, struct tw_rt_server **ret_server,
                       int *ret_bad)
{
    *ret_bad = -1;
    if (cfg->workers < 1 || cfg->workers > TW_RELAY_MAX_WORKERS)
        return TW_EINVAL;
    struct tw_rt_server *s = calloc(1, sizeof(*s));
    if (!s)
        return TW_ENOMEM;
    *s = (struct tw_rt_server){ .cfg = *cfg, .relay_cfg = *cfg->relay, .bad_listener = -1 };
    s->workers = calloc(cfg->workers, sizeof(*s->workers));
    if (!s->workers || uv_sem_init(&s->told, 0)) {
        free(s->workers);
        free(s);
        return TW_ENOMEM;
    }
    s->worker_n = cfg->workers;
    for (unsigned i = 0; i < s->worker_n; i++)
        s->workers[i].wake_fd = -1;
    int err = start(s);
    if (err) {
        int keep = errno;
        *ret_bad = s->bad_listener;
        tw_rt_server_stop(s);
        errno = keep;
        return err;
    }
    *ret_server = s;
    return 0;
}

struct tw_addr tw_rt_server_listener(const struct tw_rt_server *s, unsigned i)
{
    return s->relay_cfg.listeners[i];
}

static void add_stats(struct tw_rt_server_stats *to, const struct tw_rt_server_stats *from)
{
#define ADD(name, text) to->relay.name += from->relay.name;
    TW_RELAY_COUNTERS(ADD)
#undef ADD
    to->tx.datagrams += from->tx.datagrams;
    to->tx.messages += from->tx.messages;
    to->tx.calls += from->tx.calls;
    to->tx.dropped += from->tx.dropped;
    to->received += from->received;
    to->reads += from->reads;
    to->queue_full += from->queue_full;
    to->allocations += from->allocations;
}

void tw_rt_server_stats(const struct tw_rt_server *s, struct tw_rt_server_stats *ret)
{
    *ret = (struct tw_rt_server_stats){ 0 };
    for (unsigned i = 0; i < s->worker_n; i++) {
        struct worker *w = &s->workers[i];
        uv_mutex_lock(&w->stats_lock);
        add_stats(ret, &w->stats);
        uv_mutex_unlock(&w->stats_lock);
    }
}

static void free_worker(struct tw_rt_server *s, struct worker *w)
{
    if (w->wake_fd < 0)
        return; /* init_worker() did not come this far */
    for (unsigned i = 0; i < s->worker_n; i++)
        tw_rt_queue_fini(&w->in[i]);
    free(w->in);
    close(w->wake_fd);
    uv_mutex_destroy(&w->stats_lock);
}

void tw_rt_server_stop(struct tw_rt_server *s)
{
    if (!s)
        return;
    /* First all threads end: until then each may still hand something to any other. */
    for (unsigned i = 0; i < s->worker_n; i++) {
        if (!s->workers[i].running)
            continue;
        atomic_store(&s->workers[i].stop, true);
        wake(&s->workers[i]);
        uv_thread_join(&s->workers[i].thread);
    }
    for (unsigned i = 0; i < s->worker_n; i++)
        free_worker(s, &s->workers[i]);
    uv_sem_destroy(&s->told);
    tw_relay_shared_free(s->shared);
    free(s->workers);
    free(s);
}
