/* When time has passed that no timer has counted. */
#ifndef TW_RT_CLOCK_H
#define TW_RT_CLOCK_H

#include <uv.h>

/* Calls back, on the loop, after the machine has slept, or somebody has set its clock: the kernel's timers stand still while it
 * sleeps, and tw_rt_now() does not. */
struct tw_rt_clock {
    uv_poll_t poll;
    int fd; /* -1: the kernel does not tell */
    void (*changed)(void *user);
    void *user;
};
void tw_rt_clock_init(struct tw_rt_clock *c, uv_loop_t *loop, void (*changed)(void *user), void *user);
/* Its memory is used until the loop has run once more. */
void tw_rt_clock_fini(struct tw_rt_clock *c);

#endif
