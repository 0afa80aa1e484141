/* A bounded queue of messages from one thread to one other: a byte ring, no locks. */
#ifndef TW_RT_QUEUE_H
#define TW_RT_QUEUE_H

#include <stdatomic.h>

#include <thalweg/bytes.h>

struct tw_rt_queue {
    uint8_t *ring;
    size_t size;              /* a power of two */
    _Alignas(64) _Atomic size_t head; /* bytes ever read; moved by the reader */
    _Alignas(64) _Atomic size_t tail; /* bytes ever written; moved by the writer */
};

/* size: rounded up to a power of two. TW_ENOMEM. */
TW_NODISCARD int tw_rt_queue_init(struct tw_rt_queue *q, size_t size);
void tw_rt_queue_fini(struct tw_rt_queue *q);

/* Writer: room for a message of n bytes, to be filled and then published; NULL when it does not
 * fit now. */
uint8_t *tw_rt_queue_room(struct tw_rt_queue *q, size_t n);
void tw_rt_queue_publish(struct tw_rt_queue *q, size_t n);

/* Reader: the oldest message, which stays until dropped. False when there is none. */
bool tw_rt_queue_peek(struct tw_rt_queue *q, struct tw_bytes *ret);
void tw_rt_queue_drop(struct tw_rt_queue *q);

#endif
