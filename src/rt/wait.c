#include "rt/wait.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const tw_time EVERY = 100 * TW_MSEC;

void tw_rt_wait_begin(struct tw_rt_wait *w, const struct conn *c, tw_time now)
{
    if (w->begun || now < w->next)
        return;
    w->begun = true;
    w->written = false;
    w->at = now;
    w->mark = c->written + conn_pending(c);
    w->next = now + EVERY;
}

bool tw_rt_wait_over(struct tw_rt_wait *w, const struct conn *c, tw_time now)
{
    struct tcp_info info = { 0 };
    socklen_t n = sizeof(info);
    unsigned unacked;
    if (!w->begun || c->written < w->mark || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &n))
        return false;
    if (!w->written) {
        if (ioctl(c->fd, SIOCOUTQ, &unacked))
            return false;
        w->written = true;
        w->target = info.tcpi_bytes_acked + unacked;
    }
    if (info.tcpi_bytes_acked < w->target)
        return false;
    tw_time wait = now - w->at - (tw_time)info.tcpi_min_rtt * TW_USEC;
    wait = wait > 0 ? wait : 0;
    w->begun = false;
    w->smoothed = w->smoothed ? w->smoothed + (wait - w->smoothed) / 8 : wait;
    return true;
}
