/* Time: a signed count of nanoseconds on a monotonic clock that the caller owns. */
#ifndef THALWEG_TIME_H
#define THALWEG_TIME_H

#include <stdint.h>

/* A point in time or a span of it, in nanoseconds. Points start wherever the caller's clock
 * starts and never go backwards. */
typedef int64_t tw_time;

#define TW_NEVER INT64_MAX /* a deadline that does not come */

#define TW_NSEC ((tw_time)1)
#define TW_USEC ((tw_time)1000)
#define TW_MSEC ((tw_time)1000000)
#define TW_SEC ((tw_time)1000000000)

/* a + b for two values >= 0, stopping at TW_NEVER instead of overflowing. */
static inline tw_time tw_time_add(tw_time a, tw_time b)
{
    return a > TW_NEVER - b ? TW_NEVER : a + b;
}

/* `seconds` as a span, stopping at TW_NEVER. */
static inline tw_time tw_time_from_sec(uint64_t seconds)
{
    return seconds > (uint64_t)(TW_NEVER / TW_SEC) ? TW_NEVER : (tw_time)seconds * TW_SEC;
}

static inline tw_time tw_time_min(tw_time a, tw_time b)
{
    return a < b ? a : b;
}

/* Whole seconds left from now until at, rounded up; 0 when it has passed. */
static inline uint32_t tw_time_sec_left(tw_time now, tw_time at)
{
    if (at <= now)
        return 0;
    tw_time left = (at - now - 1) / TW_SEC + 1;
    return left > (tw_time)UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

#endif
