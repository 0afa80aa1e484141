/* Runs one ICE agent on a libuv loop: its sockets, connections and timer, and this machine's
 * addresses. */
#ifndef TW_RT_ICE_H
#define TW_RT_ICE_H

#include <uv.h>

#include <thalweg/ice.h>

#include "rt/interfaces.h"
#include "rt/link.h"
#include "rt/nat64.h"
#include "rt/upnp.h"
#include "rt/udp.h"

struct tw_rt_ice;

struct tw_rt_ice_config {
    struct tw_ice_config ice;
    /* For the servers of the same number: TLS credentials and the name in the certificate. */
    struct tw_rt_tls *tls[TW_ICE_SERVERS_MAX];
    const char *host[TW_ICE_SERVERS_MAX]; /* static; NULL: anybody's */
    /* Every event of the agent but OPEN and CLOSE. Verbs may be called from here. */
    void (*on_event)(struct tw_rt_ice *r, const struct tw_ice_event *ev);
    void *user;
};

struct ice_sock;

struct tw_rt_ice {
    struct tw_rt_ice_config cfg;
    uv_loop_t *loop;
    struct tw_ice *ice;
    struct ice_sock *socks;
    struct tw_rt_rx rx;
    struct tw_rt_tx *tx;
    uv_timer_t timer;
    struct tw_rt_watch watch;
    struct tw_rt_nat64 nat64;
    struct tw_rt_upnp *upnp; /* NULL: was never needed */
    bool watching, draining, over;
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
