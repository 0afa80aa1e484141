/* Port mappings by UPnP IGD, version 1 and 2, for gateways that speak neither PCP nor NAT-PMP.
 *
 * miniupnpc blocks, for seconds where nothing answers, so it works in a thread of its own, one at a
 * time, that exists while there is something to do. */
#ifndef TW_RT_UPNP_H
#define TW_RT_UPNP_H

#include <uv.h>

#include <thalweg/addr.h>

struct tw_rt_upnp;

/* outside: family NONE: the mapping is gone. */
typedef void tw_rt_upnp_mapped(void *user, uint32_t id, const struct tw_addr *outside);

/* TW_ENOMEM, TW_ESYS. */
TW_NODISCARD int tw_rt_upnp_new(uv_loop_t *loop, tw_rt_upnp_mapped *mapped, void *user,
                                struct tw_rt_upnp **ret_upnp);
/* Wants a mapping of this local IPv4 address, known by the caller's id; it is renewed until dropped.
 * The gateway is looked for on the network of the first one. */
void tw_rt_upnp_want(struct tw_rt_upnp *u, uint32_t id, bool tcp, const struct tw_addr *local);
void tw_rt_upnp_drop(struct tw_rt_upnp *u, uint32_t id);
/* Ends all mappings; the loop runs on until that is done, a few seconds at most where a gateway has
 * died meanwhile, and frees u. No more calls back. */
void tw_rt_upnp_free(struct tw_rt_upnp *u);

#endif
