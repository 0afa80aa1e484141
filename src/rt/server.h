/* Runs the relay machine on real sockets: worker threads, each with its own loop and its own socket
 * of every listener's SO_REUSEPORT group. */
#ifndef TW_RT_SERVER_H
#define TW_RT_SERVER_H

#include <thalweg/relay.h>

#include "rt/tls.h"
#include "rt/udp.h"

/* A listening socket that somebody else opened: systemd, or the server we take over from. Worker i
 * gets the i-th of those with the same type and address. */
struct tw_rt_inherited {
    int fd;
    int type; /* SOCK_DGRAM or SOCK_STREAM */
    struct tw_addr addr;
};

struct tw_rt_limits {
    uint32_t connections;            /* TCP, TLS and DTLS clients of one IPv4 address or IPv6 /64 */
    uint32_t handshakes;             /* TLS and DTLS handshakes a second of one /24 or /56 */
    uint32_t half_open;              /* of them not finished at a time, of one address or /64 */
};

struct tw_rt_server_config {
    const struct tw_relay_config *relay; /* UDP listeners and relay addresses included */
    const struct tw_addr *tcp;           /* TCP listeners, at most TW_RELAY_MAX_LISTENERS */
    unsigned tcp_n;
    bool no_udp, no_tcp, no_tls, no_dtls; /* what is not spoken; told apart by the first byte */
    struct tw_rt_tls *tls;               /* NULL: neither TLS nor DTLS */
    struct tw_rt_limits limits;
    unsigned workers;                    /* 1 .. TW_RELAY_MAX_WORKERS; fixed while it runs */
    bool gro;                            /* take runs whole */
    struct tw_trace trace;               /* called from all workers */
    const struct tw_rt_inherited *inherited;
    unsigned inherited_n;
};

/* X(name, what it counts) */
#define TW_RT_COUNTERS(X)                                                                         \
    X(received, "datagrams or runs of them received")                                             \
    X(reads, "read calls that brought some")                                                      \
    X(queue_full, "hand-overs between workers dropped")                                           \
    X(tcp_accepted, "TCP connections accepted")                                                   \
    X(tcp_refused, "TCP connections refused by a limit")                                          \
    X(tls_handshakes, "TLS handshakes completed")                                                 \
    X(dtls_handshakes, "DTLS handshakes completed")                                               \
    X(handshakes_failed, "handshakes that failed or took too long")                               \
    X(handshakes_refused, "handshakes refused by a limit")                                        \
    X(stream_full, "data dropped because a client's connection is too slow")                      \
    X(stream_malformed, "connections closed because they carried no TURN")

struct tw_rt_counters {
#define TW_RT_COUNTER_FIELD(name, text) uint64_t name;
    TW_RT_COUNTERS(TW_RT_COUNTER_FIELD)
#undef TW_RT_COUNTER_FIELD
};

/* All workers together, or one. */
struct tw_rt_server_stats {
    struct tw_relay_stats relay;
    struct tw_rt_tx_stats tx;
    struct tw_rt_counters rt;
    uint32_t allocations, connections; /* live; connections are TCP, TLS and DTLS clients */
    tw_time busy;                      /* CPU time used */
};

struct tw_rt_server;

struct tw_rt_heir;

/* Opens all listeners (a listener's port 0 is replaced by the one chosen) and starts the threads.
 * heir: what another server leaves to this one, NULL: nothing. On failure nothing is left behind and
 * *ret_bad is the listener that could not be bound (TCP ones count on from the UDP ones), or -1.
 * TW_ENOMEM, TW_EINVAL, TW_EADDRINUSE, TW_ESYS (errno). */
TW_NODISCARD int tw_rt_server_start(const struct tw_rt_server_config *cfg,
                                    const struct tw_rt_heir *heir,
                                    struct tw_rt_server **ret_server, int *ret_bad);

/* Where the i-th UDP or TCP listener is bound. */
struct tw_addr tw_rt_server_listener(const struct tw_rt_server *s, unsigned i);
struct tw_addr tw_rt_server_tcp_listener(const struct tw_rt_server *s, unsigned i);

/* Replaces configuration and certificate (NULL: keep it) in all workers; live allocations and
 * connections keep what they have. When it returns, nothing points to the old ones any more.
 * TW_EINVAL: listeners or relay addresses differ; then nothing has changed. */
TW_NODISCARD int tw_rt_server_configure(struct tw_rt_server *s, const struct tw_relay_config *cfg,
                                        struct tw_rt_tls *tls);

/* A client's connection that somebody else has accepted, up to where TURN begins in it. */
struct tw_rt_newcomer {
    gnutls_session_t session;    /* NULL: no TLS */
    struct tw_rt_tls *tls;       /* a reference, with session */
    bool ws;                     /* inside a WebSocket, whose request is in `bytes` */
    struct tw_addr remote, local;
    size_t n;
    uint8_t bytes[];             /* what was read of it already */
};
/* From any thread; fd and newcomer are the server's from then on. */
void tw_rt_server_adopt(struct tw_rt_server *s, int fd, struct tw_rt_newcomer *newcomer);

/* A snapshot; each worker's counters are read as of its last pass. */
void tw_rt_server_stats(const struct tw_rt_server *s, struct tw_rt_server_stats *ret);
void tw_rt_server_worker_stats(const struct tw_rt_server *s, unsigned worker,
                               struct tw_rt_server_stats *ret);

/* --- one server takes over from another ----------------------------------------------------- */

/* What the younger needs: the listeners, one datagram socket a worker over which it passes what is
 * the elder's, keys and ports. */
struct tw_rt_legacy {
    uint8_t keys[TW_RELAY_KEYS];
    struct {
        struct tw_addr ip;
        uint8_t bits[TW_RELAY_PORT_BITS];
    } ports[TW_RELAY_MAX_ADDRS];
    uint32_t relay_n, workers, fd_n;
};
enum { TW_RT_LEGACY_FDS = TW_RELAY_MAX_WORKERS };

/* Younger: as many workers as the elder has. Both are needed during the start only. */
struct tw_rt_heir {
    const struct tw_rt_legacy *legacy;
    const int *fds; /* one per worker */
};

/* Elder: fills in *ret and ret_fds: one socket per worker. TW_ESYS, TW_ENOMEM. */
TW_NODISCARD int tw_rt_server_bequeath(struct tw_rt_server *s, struct tw_rt_legacy *ret,
                                       int ret_fds[TW_RT_LEGACY_FDS]);
/* Elder: its listeners, for tw_rt_inherited. At most cap; returns how many. */
unsigned tw_rt_server_sockets(const struct tw_rt_server *s, struct tw_rt_inherited *ret,
                              unsigned cap);
/* Elder: reads no listener any more, only what its heir passes on; or it does again. */
void tw_rt_server_retire(struct tw_rt_server *s, bool retired);
/* Younger: the elder is gone. */
void tw_rt_server_elder_gone(struct tw_rt_server *s);

/* Ends the threads, closes everything, frees. */
void tw_rt_server_stop(struct tw_rt_server *s);

#endif
