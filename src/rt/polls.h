/* The server's side of streams in single requests (tunnel/poll.h): each session is a socket pair, whose other end is a
 * connection like any other. */
#ifndef TW_RT_POLLS_H
#define TW_RT_POLLS_H

#include <uv.h>

#include <thalweg/addr.h>

#include "tunnel/poll.h"

struct tw_rt_polls;

struct tw_rt_polls_ops {
    /* Somebody has come; fd is the callee's. False: it is closed, and they are sent away. */
    bool (*came)(void *user, int fd, const struct tw_addr *remote);
    /* To whom asked by this number. */
    void (*answer)(void *user, uint32_t asker, const struct tw_bytes *parts, size_t n);
};

/* TW_ENOMEM. */
TW_NODISCARD int tw_rt_polls_new(uv_loop_t *loop, const struct tw_rt_polls_ops *ops, void *user, struct tw_rt_polls **ret);
void tw_rt_polls_request(struct tw_rt_polls *p, uint32_t asker, const struct tw_addr *remote,
                         const struct tw_poll_request *request);
/* Whoever asked is gone. */
void tw_rt_polls_gone(struct tw_rt_polls *p, uint32_t asker);
/* Once a second. */
void tw_rt_polls_tick(struct tw_rt_polls *p);
/* Closes everything; it frees itself when the loop has nothing of it left. */
void tw_rt_polls_free(struct tw_rt_polls *p);

#endif
