/* This machine's addresses, and when they change. */
#ifndef TW_RT_INTERFACES_H
#define TW_RT_INTERFACES_H

#include <uv.h>

#include <thalweg/ice.h>

/* All usable addresses with the names and gateways of their interfaces, at most max: those that the default routes
 * would use first, tentative and deprecated ones not at all. Loopback is there too. TW_ESYS: they
 * cannot be listed now. */
TW_NODISCARD int tw_rt_interfaces(struct tw_ice_interface *ret_list, unsigned max, unsigned *ret_n);

/* Calls back, on the loop, some moments after addresses or default routes have come or gone. */
struct tw_rt_watch {
    uv_poll_t poll;
    uv_timer_t timer;
    int fd;
    void (*changed)(void *user);
    void *user;
};
/* Where the kernel cannot be asked to tell, it is looked every few seconds. */
void tw_rt_watch_init(struct tw_rt_watch *w, uv_loop_t *loop, void (*changed)(void *user), void *user);
/* `changed` once more, in a second. */
void tw_rt_watch_again(struct tw_rt_watch *w);
/* Its memory is used until the loop has run once more. */
void tw_rt_watch_fini(struct tw_rt_watch *w);

#endif
