#include "base/timer.h"

#include <assert.h>
#include <stdlib.h>

#include <thalweg/error.h>

/* Four children a node: half the depth of a binary heap, and siblings share a cache line. */
enum { WIDTH = 4 };

void tw_timers_init(struct tw_timers *t)
{
    *t = (struct tw_timers){ 0 };
}

void tw_timers_fini(struct tw_timers *t)
{
    free(t->heap);
    *t = (struct tw_timers){ 0 };
}

int tw_timers_reserve(struct tw_timers *t, uint32_t n)
{
    if (n <= t->cap)
        return 0;
    uint32_t cap = t->cap ? t->cap : 16;
    while (cap < n)
        cap *= 2;
    struct tw_timer **heap = realloc(t->heap, cap * sizeof(*heap));
    if (!heap)
        return TW_ENOMEM;
    t->heap = heap;
    t->cap = cap;
    return 0;
}

static void put(struct tw_timers *t, uint32_t i, struct tw_timer *timer)
{
    t->heap[i] = timer;
    timer->pos = i + 1;
}

static void sift_up(struct tw_timers *t, uint32_t i, struct tw_timer *timer)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / WIDTH;
        if (t->heap[parent]->at <= timer->at)
            break;
        put(t, i, t->heap[parent]);
        i = parent;
    }
    put(t, i, timer);
}

static uint32_t earliest_child(const struct tw_timers *t, uint32_t i)
{
    uint32_t best = i * WIDTH + 1;
    for (uint32_t c = best + 1; c < t->len && c <= i * WIDTH + WIDTH; c++)
        if (t->heap[c]->at < t->heap[best]->at)
            best = c;
    return best;
}

static void sift_down(struct tw_timers *t, uint32_t i, struct tw_timer *timer)
{
    while (i * WIDTH + 1 < t->len) {
        uint32_t child = earliest_child(t, i);
        if (t->heap[child]->at >= timer->at)
            break;
        put(t, i, t->heap[child]);
        i = child;
    }
    put(t, i, timer);
}

static void sift(struct tw_timers *t, uint32_t i, struct tw_timer *timer)
{
    if (i > 0 && t->heap[(i - 1) / WIDTH]->at > timer->at)
        sift_up(t, i, timer);
    else
        sift_down(t, i, timer);
}

static void disarm(struct tw_timers *t, struct tw_timer *timer)
{
    if (!timer->pos)
        return;
    uint32_t i = timer->pos - 1;
    timer->pos = 0;
    struct tw_timer *last = t->heap[--t->len];
    if (last != timer)
        sift(t, i, last);
}

void tw_timers_set(struct tw_timers *t, struct tw_timer *timer, tw_time at)
{
    if (at == TW_NEVER) {
        disarm(t, timer);
        return;
    }
    timer->at = at;
    if (timer->pos) {
        sift(t, timer->pos - 1, timer);
        return;
    }
    assert(t->len < t->cap);
    t->len++;
    sift_up(t, t->len - 1, timer);
}

tw_time tw_timers_next(const struct tw_timers *t)
{
    return t->len ? t->heap[0]->at : TW_NEVER;
}

struct tw_timer *tw_timers_pop(struct tw_timers *t, tw_time now)
{
    if (!t->len || t->heap[0]->at > now)
        return NULL;
    struct tw_timer *timer = t->heap[0];
    disarm(t, timer);
    return timer;
}
