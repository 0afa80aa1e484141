/* A server's worker: what its files share. */
#ifndef TW_RT_WORKER_H
#define TW_RT_WORKER_H

#include <sys/epoll.h>
#include <uv.h>

#include "base/map.h"
#include "base/timer.h"
#include "rt/conn.h"
#include "rt/queue.h"
#include "rt/server.h"
#include "rt/source.h"

/* What the sockets in epoll_fd are called: generation and id. Ids of UDP sockets and of clients'
 * connections are the machine's; the others have bits of their own. */
#define TW_RT_WAKE UINT64_MAX        /* wake_fd */
#define TW_RT_BOX (UINT64_MAX - 1)   /* box_fd */
#define TW_RT_HEIR (UINT64_MAX - 2)  /* heir_fd */
#define TW_RT_ID_ACCEPT 0x20000000u  /* a TCP listener */
#define TW_RT_ID_PEER 0x10000000u    /* RFC 6062: a socket of TCP relaying, by the machine's id */
#define TW_RT_ID_SPLICE 0x08000000u  /* the peer's end of a joined connection, by conn index */

/* A worker's fields belong to its thread, but for those in the second half. */
struct worker {
    struct tw_rt_server *server;
    unsigned index;
    uv_loop_t loop;
    uv_poll_t poll;      /* on epoll_fd */
    uv_timer_t timer;
    int epoll_fd;        /* all sockets and wake_fd; libuv's own set holds just this one */
    struct tw_relay *relay;
    struct tw_rt_udp listeners[TW_RELAY_MAX_LISTENERS];
    int accept_fds[TW_RELAY_MAX_LISTENERS];
    uint32_t listener_n;
    tw_time idle;        /* how long a connection may be silent */
    uint64_t max_bps, total_bps; /* of joined connections, as in the configuration */
    struct tw_rt_udp **socks; /* relay sockets by id */
    uint32_t sock_cap, gen, twin_n;
    tw_time now;
    tw_time armed;       /* what the timer is set to */
    tw_time busy_at;     /* when to look at the CPU time again */
    struct tw_rt_rx rx;
    struct tw_rt_tx *tx;
    struct tw_rt_counters count;

    struct conn **conns; /* by the number in their id */
    uint32_t conn_cap, conn_free, conn_n;
    struct conn *dirty;  /* those with something to send */
    struct tw_timers conn_timers;
    struct tw_map assocs; /* DTLS: conn by address */
    struct tw_hash_key assoc_key;
    struct tw_map peers; /* RFC 6062: struct peer_sock by the machine's id */
    int spare_fd;        /* given up for a moment when files run out */

    uv_thread_t thread;
    int wake_fd;         /* an eventfd: something is in a queue, or there is an order */
    int box_fd, box_out; /* sockets arrive in box_fd; all workers write to box_out */
    int elder_fd;        /* to this worker's namesake in the server before this one; -1: none */
    int heir_fd, heir_out; /* from the one after this, and what it is given to write to */
    atomic_bool woken, stop, reconfigure, retire;
    struct tw_rt_queue *in; /* one from each worker */
    uv_mutex_t stats_lock;  /* of the copy below, taken before the worker sleeps */
    struct tw_rt_server_stats stats;
    bool running;           /* the thread was made and has to be joined */
};

struct tw_rt_server {
    struct tw_rt_server_config cfg;
    struct tw_relay_config relay_cfg;
    struct tw_addr tcp[TW_RELAY_MAX_LISTENERS];
    struct tw_relay_shared *shared;
    struct tw_rt_sources *open, *half_open;
    gnutls_datum_t cookie_key;
    int *fds;            /* all listening sockets: [worker][UDP listeners, then TCP ones] */
    unsigned worker_n;
    struct worker *workers;

    uv_mutex_t tls_lock; /* of tls */
    struct tw_rt_tls *tls;
    atomic_uint adopted; /* so many, one worker after the other */

    /* How a worker's start or change went, told to the thread that asked. */
    uv_sem_t told;
    int error, error_errno;
    const struct tw_relay_config *next;
    bool retired;
};

/* The thread: sets up, tells the server how that went, loops until stopped, tears down. */
void worker_run(void *arg);

/* Takes out of the relay machine whatever it has to say: sends, hands over, opens and closes. */
void worker_drain(struct worker *w);

/* 64 KiB to read into, good until this is called many times or the pass ends. */
uint8_t *worker_buffer(struct worker *w);

/* Something for the machine, from a client. */
void worker_feed(struct worker *w, const struct tw_datagram *d);
/* Told apart first: DTLS, or plain. */
void worker_from_listener(struct worker *w, const struct tw_datagram *d);

/* worker_sock.c. Ready events carry id and generation: by the time one is handled, its socket may be
 * gone and the id may be another's. A twin has its socket's id and a generation of its own. */
struct tw_rt_udp *worker_sock(struct worker *w, uint32_t id);
struct tw_rt_udp *worker_event_sock(struct worker *w, uint64_t data);
TW_NODISCARD int worker_watch_fd(struct worker *w, int fd, uint32_t events, uint64_t data);
/* Other events than before, which are in *watched; none: not at all. */
void worker_rewatch_fd(struct worker *w, int fd, uint32_t *watched, uint32_t events,
                       uint64_t data);
TW_NODISCARD int worker_watch(struct worker *w, struct tw_rt_udp *u);
TW_NODISCARD int worker_open(struct worker *w, uint32_t id, const struct tw_addr *addr);
void worker_close(struct worker *w, uint32_t id);
/* A relay socket that keeps sending to one peer gets a twin that is connected there. */
void worker_connect_hot(struct worker *w, struct tw_rt_udp *u);

/* worker_conn.c: clients' connections. */
void worker_accept(struct worker *w, unsigned listener);
/* newcomer is freed; fd may be -1: it did not arrive. */
void worker_adopt(struct worker *w, int fd, struct tw_rt_newcomer *newcomer);
struct conn *worker_conn(const struct worker *w, uint32_t id);
struct conn *worker_conn_new(struct worker *w, uint32_t kind, const struct tw_addr *remote,
                             const struct tw_addr *local);
void worker_conn_ready(struct worker *w, uint64_t data, uint32_t events);
void worker_conn_close(struct worker *w, struct conn *c);
void worker_conn_tick(struct worker *w);
void worker_conn_flush(struct worker *w);
/* A datagram of the machine's to a client's connection, here or at another worker. */
void worker_conn_send(struct worker *w, const struct tw_datagram *d);
void worker_conn_watch(struct worker *w, struct conn *c);
void worker_conn_mark(struct worker *w, struct conn *c); /* has something to send */
void worker_conn_arm(struct worker *w, struct conn *c, tw_time at);
bool worker_handshake_allowed(struct worker *w, struct conn *c);
void worker_handshake_over(struct worker *w, struct conn *c, bool well);
int worker_tls_session(struct worker *w, struct conn *c, unsigned flags);

/* worker_dtls.c */
void worker_dtls_recv(struct worker *w, const struct tw_datagram *d);
void worker_dtls_send(struct worker *w, struct conn *c, const struct tw_datagram *d);
void worker_dtls_timeout(struct worker *w, struct conn *c);
void worker_dtls_forget(struct worker *w, struct conn *c);

/* worker_peer.c: TCP relaying (RFC 6062). */
int worker_peer_listen(struct worker *w, uint32_t id, const struct tw_addr *addr);
int worker_peer_connect(struct worker *w, uint32_t id, const struct tw_addr *from,
                        const struct tw_addr *to); /* 1: the answer comes later */
void worker_peer_close(struct worker *w, uint32_t id);
void worker_peer_ready(struct worker *w, uint64_t data, uint32_t events);
void worker_peer_join(struct worker *w, const struct tw_relay_event *ev);
void worker_peer_fini(struct worker *w);
void worker_take_box(struct worker *w);

/* worker_splice.c: a client's connection and a peer's, joined. */
void worker_splice_start(struct worker *w, struct conn *c, int fd, uint32_t owner, uint32_t sock);
void worker_splice_client(struct worker *w, struct conn *c); /* the client's end may be read */
void worker_splice_ready(struct worker *w, uint64_t data, uint32_t events);
void worker_splice_drained(struct worker *w, struct conn *c); /* the client's end took it all */
void worker_splice_resume(struct worker *w, struct conn *c); /* it has waited for its bandwidth */
bool worker_splice_is(const struct conn *c, uint32_t owner, uint32_t sock);
bool worker_splice_reads_client(const struct worker *w, const struct conn *c);
void worker_splice_stop(struct worker *w, struct conn *c);

/* handover.c. wake: from any thread; several calls before the worker comes to look cost one write. */
void worker_wake(struct worker *w);
void worker_hand_over(struct worker *w, const struct tw_relay_handover *h);
void worker_take_handovers(struct worker *w, struct tw_rt_queue *q);
/* To the worker that has a client's connection. */
void worker_send_far(struct worker *w, uint32_t to, const struct tw_datagram *d);
/* The end, or the order to end, of a joined connection: to its owner, to the client's worker. */
enum worker_note { NOTE_PEER_GONE, NOTE_CLOSE };
void worker_note(struct worker *w, uint32_t to, enum worker_note note, uint32_t sock, uint64_t up,
                 uint64_t down);
void worker_to_elder(struct worker *w, const struct tw_datagram *d);
void worker_take_from_heir(struct worker *w);

#endif
