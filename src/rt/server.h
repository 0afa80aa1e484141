/* Runs the relay machine on real sockets: worker threads, each with its own loop and its own socket
 * of every listener's SO_REUSEPORT group. */
#ifndef TW_RT_SERVER_H
#define TW_RT_SERVER_H

#include <thalweg/relay.h>

#include "rt/udp.h"

struct tw_rt_server_config {
    const struct tw_relay_config *relay; /* listeners and relay addresses included */
    unsigned workers;                    /* 1 .. TW_RELAY_MAX_WORKERS; fixed while it runs */
    bool gro;                            /* take runs whole */
    struct tw_trace trace;               /* called from all workers */
};

/* All workers together. */
struct tw_rt_server_stats {
    struct tw_relay_stats relay;
    struct tw_rt_tx_stats tx;
    uint64_t received, reads;            /* datagrams or runs; read calls that brought some */
    uint64_t queue_full;                 /* hand-overs that found no room */
    uint32_t allocations;
};

struct tw_rt_server;

/* Binds all listeners (a listener's port 0 is replaced by the one chosen) and starts the threads.
 * On failure nothing is left behind and *ret_bad is the listener that could not be bound, or -1.
 * TW_ENOMEM, TW_EINVAL, TW_EADDRINUSE, TW_ESYS (errno). */
TW_NODISCARD int tw_rt_server_start(const struct tw_rt_server_config *cfg,
                                    struct tw_rt_server **ret_server, int *ret_bad);

/* Where the i-th listener is bound. */
struct tw_addr tw_rt_server_listener(const struct tw_rt_server *s, unsigned i);

/* A snapshot; each worker's counters are read as of its last pass. */
void tw_rt_server_stats(const struct tw_rt_server *s, struct tw_rt_server_stats *ret);

/* Ends the threads, closes everything, frees. */
void tw_rt_server_stop(struct tw_rt_server *s);

#endif
