/* A server's worker: what its files share. */
#ifndef TW_RT_WORKER_H
#define TW_RT_WORKER_H

#include <sys/epoll.h>
#include <uv.h>

#include "rt/queue.h"
#include "rt/server.h"

#define TW_RT_WAKE UINT64_MAX /* marks wake_fd among the sockets in epoll_fd */

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

/* The thread: sets up, tells the server how that went, loops until stopped, tears down. */
void worker_run(void *arg);

/* Takes out of the relay machine whatever it has to say: sends, hands over, opens and closes. */
void worker_drain(struct worker *w);

/* worker_sock.c. Ready events carry id and generation: by the time one is handled, its socket may be
 * gone and the id may be another's. A twin has its socket's id and a generation of its own. */
struct tw_rt_udp *worker_sock(struct worker *w, uint32_t id);
struct tw_rt_udp *worker_event_sock(struct worker *w, uint64_t data);
TW_NODISCARD int worker_watch(struct worker *w, struct tw_rt_udp *u);
TW_NODISCARD int worker_open(struct worker *w, uint32_t id, const struct tw_addr *addr);
void worker_close(struct worker *w, uint32_t id);
/* A relay socket that keeps sending to one peer gets a twin that is connected there. */
void worker_connect_hot(struct worker *w, struct tw_rt_udp *u);

/* handover.c. wake: from any thread; several calls before the worker comes to look cost one write. */
void worker_wake(struct worker *w);
void worker_hand_over(struct worker *w, const struct tw_relay_handover *h);
void worker_take_handovers(struct worker *w, struct tw_rt_queue *q, tw_time now);

#endif
