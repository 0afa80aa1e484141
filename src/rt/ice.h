/* Runs one ICE agent on a libuv loop. */
#ifndef TW_RT_ICE_H
#define TW_RT_ICE_H

#include "rt/sockets.h"

struct tw_rt_ice;

struct tw_rt_ice_config {
    struct tw_ice_config ice;
    /* For the servers of the same number: TLS credentials and the name in the certificate. */
    struct tw_rt_tls *tls[TW_ICE_SERVERS_MAX];
    const char *host[TW_ICE_SERVERS_MAX]; /* static; NULL: anybody's */
    /* Every event of the agent but OPEN and CLOSE. Verbs may be called from here. */
    void (*on_event)(struct tw_rt_ice *r, const struct tw_ice_event *ev);
    /* How a TURN server is reached, if not by its transport, tls and host. NULL: so. */
    void (*on_turn)(struct tw_rt_ice *r, unsigned server, struct tw_rt_link_config *how);
    void *user;
};

struct tw_rt_ice {
    struct tw_rt_ice_config cfg;
    struct tw_ice *ice;
    struct tw_rt_sockets sockets;
};

/* Makes the agent. Gathering begins with tw_rt_ice_start(). TW_ENOMEM, TW_EINVAL, TW_ESYS. */
TW_NODISCARD int tw_rt_ice_init(struct tw_rt_ice *r, uv_loop_t *loop,
                                const struct tw_rt_ice_config *cfg);
void tw_rt_ice_start(struct tw_rt_ice *r);
/* After any verb on r->ice that was not called from on_event: sends, takes events, arms the timer. */
void tw_rt_ice_pump(struct tw_rt_ice *r);
/* Frees the agent and closes everything; r is used until the loop has nothing left to close. */
void tw_rt_ice_fini(struct tw_rt_ice *r);

#endif
