/* The client's side of a stream in single requests (tunnel/poll.h): two connections to the server, and a socket that behaves
 * as if it were one. */
#ifndef TW_RT_POLL_H
#define TW_RT_POLL_H

#include "rt/link.h"

/* how: a connection to the server, without a WebSocket; host: what Host says. *ret_fd: the caller's; when it is closed, all of
 * it ends, and when nothing comes through any more, it ends. TW_ENOMEM, TW_ESYS. */
TW_NODISCARD int tw_rt_poll_open(uv_loop_t *loop, const struct tw_rt_link_config *how, const char *host, int *ret_fd);

#endif
