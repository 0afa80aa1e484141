/* The prefix by which a network of IPv6 only translates to IPv4: from router advertisements (RFC 8781), or else by
 * asking the resolver for a name that has none (RFC 7050). */
#ifndef TW_RT_NAT64_H
#define TW_RT_NAT64_H

#include <uv.h>

#include <thalweg/ice.h>

struct tw_rt_nat64 {
    uv_loop_t *loop;
    uv_work_t work;
    uv_poll_t poll;
    int fd;                   /* netlink, -1: none */
    bool asking, over;
    bool needed;              /* this machine has IPv6 only */
    bool advertised;          /* by a router: that counts more */
    struct tw_range prefix, found; /* found: the worker's; first.port 0: none */
    void (*changed)(void *user, const struct tw_range *prefix);
    void *user;
};

/* prefix: NULL: there is none any more. */
void tw_rt_nat64_init(struct tw_rt_nat64 *n, uv_loop_t *loop,
                      void (*changed)(void *user, const struct tw_range *prefix), void *user);
/* Looks, if these are the addresses of a machine without IPv4. Call it when they change. */
void tw_rt_nat64_look(struct tw_rt_nat64 *n, const struct tw_ice_interface *list, unsigned len);
/* What to connect to in order to reach this address, and the other way round: itself where nothing translates. */
struct tw_addr tw_rt_nat64_outwards(const struct tw_rt_nat64 *n, const struct tw_addr *far);
struct tw_addr tw_rt_nat64_inwards(const struct tw_rt_nat64 *n, const struct tw_addr *far);
/* Its memory is used until the loop has nothing left to do: at most 2 s. */
void tw_rt_nat64_fini(struct tw_rt_nat64 *n);

#endif
