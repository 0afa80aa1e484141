/* A heap of deadlines. A timer is embedded in the thing it belongs to. */
#ifndef TW_BASE_TIMER_H
#define TW_BASE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include <thalweg/export.h>
#include <thalweg/time.h>

struct tw_timer {
    tw_time at;   /* when it is due; meaningful while armed */
    uint32_t pos; /* 1 + place in the heap; 0: not armed */
};

struct tw_timers {
    struct tw_timer **heap;
    uint32_t len, cap;
};

void tw_timers_init(struct tw_timers *t);
void tw_timers_fini(struct tw_timers *t);

/* Makes sure n timers can be armed at once, so that arming cannot fail. TW_ENOMEM. */
TW_NODISCARD int tw_timers_reserve(struct tw_timers *t, uint32_t n);

/* Arms or moves a timer; at TW_NEVER it is disarmed. Room must have been reserved. */
void tw_timers_set(struct tw_timers *t, struct tw_timer *timer, tw_time at);

/* The earliest deadline, TW_NEVER when there is none. */
tw_time tw_timers_next(const struct tw_timers *t);

/* Disarms and returns the earliest timer that is due at now, NULL when none is. */
struct tw_timer *tw_timers_pop(struct tw_timers *t, tw_time now);

#endif
