#include "rt/os.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include <thalweg/error.h>

tw_time tw_rt_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec;
}

tw_time tw_rt_thread_time(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec;
}

tw_time tw_rt_unix_offset(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec - tw_rt_now();
}

static void read_kernel(uint8_t *p, size_t n)
{
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR) {
            fprintf(stderr, "thalweg: no random numbers from the kernel: %s\n", strerror(errno));
            abort();
        }
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

/* A system call per transaction id would cost more than all else about it. Bytes that were handed
 * out are wiped, so that a later look at the memory does not show them. */
static void fill(void *ctx, void *out, size_t n)
{
    static _Thread_local uint8_t block[1024];
    static _Thread_local size_t left;
    (void)ctx;
    if (n > sizeof(block)) {
        read_kernel(out, n);
        return;
    }
    if (n > left) {
        read_kernel(block, sizeof(block));
        left = sizeof(block);
    }
    uint8_t *from = block + sizeof(block) - left;
    memcpy(out, from, n);
    sodium_memzero(from, n);
    left -= n;
}

struct tw_rng tw_rt_rng(void)
{
    return (struct tw_rng){ .fill = fill };
}

unsigned long tw_rt_raise_files(unsigned long want)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l))
        return 0;
    if (l.rlim_cur >= want)
        return l.rlim_cur;
    struct rlimit more = { want, l.rlim_max > want ? l.rlim_max : want };
    if (setrlimit(RLIMIT_NOFILE, &more)) { /* not allowed past the hard limit */
        more = (struct rlimit){ l.rlim_max, l.rlim_max };
        if (setrlimit(RLIMIT_NOFILE, &more))
            more = l;
    }
    return more.rlim_cur;
}

void tw_rt_timer_at(uv_timer_t *t, tw_time at, uv_timer_cb on_timer)
{
    tw_time now = tw_rt_now();
    if (at == TW_NEVER) {
        uv_timer_stop(t);
        return;
    }
    uv_update_time(t->loop);
    uv_timer_start(t, on_timer, at <= now ? 0 : (uint64_t)((at - now + TW_MSEC - 1) / TW_MSEC), 0);
}

int tw_rt_watch(uv_loop_t *loop, uv_poll_t *poll, int fd, int events, uv_poll_cb on_ready, void *user)
{
    if (uv_poll_init(loop, poll, fd))
        return TW_ESYS;
    poll->data = user;
    uv_poll_start(poll, events, on_ready);
    return 0;
}
