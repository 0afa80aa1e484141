/* Runs a rendezvous server on a libuv loop: its listeners, and their connections, with and without TLS. */
#ifndef TW_RT_DESK_H
#define TW_RT_DESK_H

#include <uv.h>

#include "rendezvous/server.h"
#include "rt/server.h"
#include "rt/tls.h"

enum { TW_RT_DESK_LISTENERS = 32 };

struct tw_rt_desk_listener {
    struct tw_addr addr; /* port 0: any */
    bool tls;
};

struct tw_rt_desk_config {
    struct tw_desk_config desk;
    struct tw_rt_desk_listener listener[TW_RT_DESK_LISTENERS];
    size_t listener_n;
    struct tw_rt_tls *tls; /* NULL: no listener has TLS */
    /* Who comes to relay, TURN told apart by its first bytes: fd and newcomer are the callee's from then on. NULL: nobody
     * relays here. */
    void (*turn)(void *user, int fd, struct tw_rt_newcomer *newcomer);
    void *user;
    const struct tw_range *proxies; /* are believed when they say for whom they speak; borrowed */
    size_t proxy_n;
    bool private_only;     /* takes nobody who comes from the open Internet */
};

struct tw_rt_desk;

/* Listens. On failure *ret_bad is the listener that could not be bound, or -1. TW_ENOMEM, TW_EADDRINUSE,
 * TW_ESYS (errno). */
TW_NODISCARD int tw_rt_desk_new(const struct tw_rt_desk_config *cfg, uv_loop_t *loop,
                                struct tw_rt_desk **ret_desk, int *ret_bad);
struct tw_addr tw_rt_desk_listener(const struct tw_rt_desk *d, size_t i);
/* A new certificate for those who come from now on. */
void tw_rt_desk_set_tls(struct tw_rt_desk *d, struct tw_rt_tls *tls);
const struct tw_desk_stats *tw_rt_desk_stats(const struct tw_rt_desk *d);
/* Takes nobody new, and tells those who are there to go. */
void tw_rt_desk_drain(struct tw_rt_desk *d);
/* Closes everything; it frees itself when the loop has nothing of it left to close. NULL is fine. */
void tw_rt_desk_free(struct tw_rt_desk *d);

#endif
