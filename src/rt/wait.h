/* How long what is sent over a TCP connection waits: behind what is not sent yet, and, once something was lost, behind
 * that (head-of-line blocking). Measured on a message now and then: from when it is put until the other side has it, less the
 * shortest round trip that the kernel has seen. An acknowledgement that the other side delays counts, too. */
#ifndef TW_RT_WAIT_H
#define TW_RT_WAIT_H

#include "rt/conn.h"

struct tw_rt_wait {
    bool begun, written;
    uint64_t mark;     /* of conn's bytes: the end of the message */
    uint64_t target;   /* bytes that the other side has acknowledged then */
    tw_time at, next;  /* put; the next may be */
    tw_time smoothed;  /* 0: none was measured */
};

/* Something was put, all of which is in conn's buffer. */
void tw_rt_wait_begin(struct tw_rt_wait *w, const struct conn *c, tw_time now);
/* True: w->smoothed is new. */
bool tw_rt_wait_over(struct tw_rt_wait *w, const struct conn *c, tw_time now);

#endif
