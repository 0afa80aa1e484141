#include "rt/clock.h"

#include <stdint.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* A timer that never ends, but for such a change (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). */
static int arm(int fd)
{
    const struct itimerspec never = { .it_value.tv_sec = (time_t)1 << 40 };
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_ready(uv_poll_t *p, int status, int events)
{
    struct tw_rt_clock *c = p->data;
    uint64_t ends;
    (void)status, (void)events;
    if (read(c->fd, &ends, sizeof(ends)) >= 0) /* ECANCELED */
        return;
    (void)!arm(c->fd);
    c->changed(c->user);
}

void tw_rt_clock_init(struct tw_rt_clock *c, uv_loop_t *loop, void (*changed)(void *user), void *user)
{
    *c = (struct tw_rt_clock){ .changed = changed, .user = user, .poll.data = c };
    c->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (c->fd < 0)
        return;
    if (!arm(c->fd) && !uv_poll_init(loop, &c->poll, c->fd)) {
        uv_poll_start(&c->poll, UV_READABLE, on_ready);
        return;
    }
    close(c->fd);
    c->fd = -1;
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_clock *c = h->data;
    close(c->fd);
}

void tw_rt_clock_fini(struct tw_rt_clock *c)
{
    if (c->fd >= 0)
        uv_close((uv_handle_t *)&c->poll, on_closed);
}
