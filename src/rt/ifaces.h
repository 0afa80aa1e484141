/* This machine's own addresses. */
#ifndef TW_RT_IFACES_H
#define TW_RT_IFACES_H

#include <thalweg/addr.h>

/* Up to max addresses of interfaces that are up, ports 0; link-local ones left out, loopback last.
 * Returns how many. */
unsigned tw_rt_own_addrs(struct tw_addr *ret_addrs, unsigned max);

/* All addresses this machine answers to, of interfaces that are down too. */
unsigned tw_rt_all_addrs(struct tw_addr *ret_addrs, unsigned max);

#endif
