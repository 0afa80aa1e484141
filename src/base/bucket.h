/* A token bucket in one word, shared between threads without a lock.
 *
 * The word is the time at which the bucket would be full again. What is taken moves it into the
 * future by its cost; when it would be further ahead than the bucket is deep, nothing is taken.
 * Zeroed memory is a full bucket. */
#ifndef TW_BASE_BUCKET_H
#define TW_BASE_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>

#include <thalweg/time.h>

struct tw_bucket {
    _Atomic tw_time full_at;
};

/* Takes what costs `cost` (ns: how long it takes to flow in again) out of a bucket that holds
 * `depth` (ns). False: not enough in it, nothing was taken. */
static inline bool tw_bucket_take(struct tw_bucket *b, tw_time now, tw_time cost, tw_time depth)
{
    tw_time at = atomic_load_explicit(&b->full_at, memory_order_relaxed);
    for (;;) {
        tw_time next = (at > now ? at : now) + cost;
        if (next - now > depth)
            return false;
        if (atomic_compare_exchange_weak_explicit(&b->full_at, &at, next, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
}

/* Takes it in any case, for what has happened already. Returns when the bucket has something again:
 * until then nothing more should be done. */
static inline tw_time tw_bucket_charge(struct tw_bucket *b, tw_time now, tw_time cost, tw_time depth)
{
    tw_time at = atomic_load_explicit(&b->full_at, memory_order_relaxed), next;
    do
        next = (at > now ? at : now) + cost;
    while (!atomic_compare_exchange_weak_explicit(&b->full_at, &at, next, memory_order_relaxed,
                                                  memory_order_relaxed));
    return next - depth;
}

/* The cost of n units that flow in at `rate` units a second. rate is not 0. */
static inline tw_time tw_bucket_cost(uint64_t n, uint64_t rate)
{
    return (tw_time)(n * (uint64_t)TW_SEC / rate);
}

#endif
