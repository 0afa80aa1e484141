#include "rt/queue.h"

#include <stdlib.h>

/* Every record is an 8-byte length and the bytes, padded to 8. A record does not wrap: a length of
 * SKIP sends the reader to the start of the ring. */
enum { HEAD = 8 };
#define SKIP UINT64_MAX

static size_t record(size_t n)
{
    return HEAD + ((n + 7) & ~(size_t)7);
}

int tw_rt_queue_init(struct tw_rt_queue *q, size_t size)
{
    size_t n = 4096;
    while (n < size)
        n *= 2;
    *q = (struct tw_rt_queue){ .ring = malloc(n), .size = n };
    return q->ring ? 0 : TW_ENOMEM;
}

void tw_rt_queue_fini(struct tw_rt_queue *q)
{
    free(q->ring);
    q->ring = NULL;
}

static void put_length(struct tw_rt_queue *q, size_t at, uint64_t n)
{
    memcpy(q->ring + at, &n, sizeof(n));
}

uint8_t *tw_rt_queue_room(struct tw_rt_queue *q, size_t n)
{
    size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&q->head, memory_order_acquire);
    size_t at = tail & (q->size - 1), to_end = q->size - at;
    size_t need = record(n), skip = need > to_end ? to_end : 0;
    if (need + skip > q->size - (tail - head))
        return NULL;
    if (skip) {
        put_length(q, at, SKIP);
        atomic_store_explicit(&q->tail, tail + skip, memory_order_release);
        at = 0;
    }
    return q->ring + at + HEAD;
}

void tw_rt_queue_publish(struct tw_rt_queue *q, size_t n)
{
    size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    put_length(q, tail & (q->size - 1), n);
    atomic_store_explicit(&q->tail, tail + record(n), memory_order_release);
}

bool tw_rt_queue_peek(struct tw_rt_queue *q, struct tw_bytes *ret)
{
    size_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&q->tail, memory_order_acquire);
    uint64_t n;
    if (head == tail)
        return false;
    memcpy(&n, q->ring + (head & (q->size - 1)), sizeof(n));
    if (n == SKIP) {
        head += q->size - (head & (q->size - 1));
        atomic_store_explicit(&q->head, head, memory_order_release);
        if (head == tail)
            return false;
        memcpy(&n, q->ring, sizeof(n));
    }
    *ret = tw_bytes(q->ring + (head & (q->size - 1)) + HEAD, (size_t)n);
    return true;
}

void tw_rt_queue_drop(struct tw_rt_queue *q)
{
    struct tw_bytes b;
    if (tw_rt_queue_peek(q, &b))
        atomic_fetch_add_explicit(&q->head, record(b.n), memory_order_release);
}
