/* The kernel's messages about addresses, routes and neighbours (rtnetlink(7)). */
#ifndef TW_RT_NETLINK_H
#define TW_RT_NETLINK_H

#include <linux/rtnetlink.h>
#include <sys/types.h>

/* groups: RTMGRP_... to listen to, without blocking; 0: to ask, blocking. -1 (errno). */
int tw_rt_netlink_open(unsigned groups);
/* Receives once, and gives each message to `each`. As recv(2): 0 or less when nothing came. */
ssize_t tw_rt_netlink_read(int fd, void (*each)(void *ctx, const struct nlmsghdr *h), void *ctx);

#endif
