/* What the machines are given by the operating system: time and randomness. */
#ifndef TW_RT_OS_H
#define TW_RT_OS_H

#include <uv.h>

#include <thalweg/env.h>

/* CLOCK_BOOTTIME: goes on while the machine sleeps. */
tw_time tw_rt_now(void);

/* The kernel's generator, read in blocks by each thread for itself. Ends the process if the
 * kernel has no randomness to give: there is nothing safe left to do. */
struct tw_rng tw_rt_rng(void);

/* Raises the limit of open files as far as this process may; returns what it is now. */
unsigned long tw_rt_raise_files(unsigned long want);

/* CPU time this thread has used. */
tw_time tw_rt_thread_time(void);

/* Sets a timer for this point of tw_rt_now()'s clock, rounded up to what libuv counts in; TW_NEVER: stops it. */
void tw_rt_timer_at(uv_timer_t *t, tw_time at, uv_timer_cb on_timer);

/* on_ready whenever fd is ready for one of the events (enum uv_poll_event); user becomes poll's data. TW_ESYS: the kernel watches no
 * more of this user's, or has no memory; poll is no handle then. */
TW_NODISCARD int tw_rt_watch(uv_loop_t *loop, uv_poll_t *poll, int fd, int events, uv_poll_cb on_ready, void *user);

/* Unix time minus tw_rt_now(). */
tw_time tw_rt_unix_offset(void);

#endif
