/* Metrics for Prometheus, served over HTTP by a thread of its own. */
#ifndef THALWEGD_METRICS_H
#define THALWEGD_METRICS_H

#include <thalweg/addr.h>

#include "rt/server.h"

/* What is not the server's own to know. Read by the thread; written by the main one. */
struct metrics_extra {
    _Atomic uint64_t reloads, reload_failures;
    _Atomic bool draining;
};

/* False after a complaint. server may be stopped only after metrics_stop(). */
bool metrics_start(const struct tw_addr *at, const struct tw_rt_server *server, unsigned workers,
                   const struct metrics_extra *extra);
void metrics_stop(void);

#endif
