/* Messages with an open file attached, over AF_UNIX sockets. */
#ifndef TW_RT_FDPASS_H
#define TW_RT_FDPASS_H

#include <stdbool.h>
#include <stddef.h>

/* Sends n bytes in one message; fd goes with it unless it is -1. It stays the caller's. flags as for
 * sendmsg. False: not sent (errno). */
bool tw_rt_send_fd(int to, const void *p, size_t n, int fd, int flags);

/* Receives one message of exactly n bytes. *ret_fd is the caller's from then on, -1 when none came.
 * False: nothing there, the other end is gone, or it was something else (errno). */
bool tw_rt_recv_fd(int from, void *p, size_t n, int *ret_fd, int flags);

#endif
