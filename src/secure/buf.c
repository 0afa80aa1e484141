#include "secure/buf.h"

#include <stdlib.h>

/* A block is as large as what filled it first, between these. */
enum { BLOCK_MIN = 2048, BLOCK_MAX = 65536 };

struct buf_block {
    struct buf_block *next;
    size_t n, cap;
    uint8_t b[];
};

static struct buf_block *grow(struct buf *b, size_t want)
{
    size_t cap = want < BLOCK_MIN ? BLOCK_MIN : want > BLOCK_MAX ? BLOCK_MAX : want;
    if (b->n > BLOCK_MAX) /* much is going on */
        cap = BLOCK_MAX;
    struct buf_block *k = malloc(sizeof(*k) + cap);
    if (k)
        *k = (struct buf_block){ .cap = cap };
    return k;
}

int buf_put(struct buf *b, struct tw_bytes data)
{
    struct buf_block *first = NULL, **at = &first;
    size_t room = b->tail ? b->tail->cap - b->tail->n : 0;
    size_t here = data.n < room ? data.n : room;
    for (size_t left = data.n - here; left;) { /* all memory first, so that it is all or nothing */
        *at = grow(b, left);
        if (!*at) {
            while (first) {
                struct buf_block *next = first->next;
                free(first);
                first = next;
            }
            return TW_ENOMEM;
        }
        left -= left < (*at)->cap ? left : (*at)->cap;
        at = &(*at)->next;
    }
    if (here)
        memcpy(b->tail->b + b->tail->n, data.p, here);
    if (b->tail) {
        b->tail->n += here;
        b->tail->next = first;
    } else {
        b->head = first;
    }
    b->n += data.n;
    for (struct buf_block *k = first; k; k = k->next) {
        k->n = data.n - here < k->cap ? data.n - here : k->cap;
        memcpy(k->b, data.p + here, k->n);
        here += k->n;
        b->tail = k;
    }
    return 0;
}

size_t buf_views(const struct buf *b, size_t at, struct tw_bytes *out, size_t n)
{
    size_t found = 0;
    at += b->skip;
    for (const struct buf_block *k = b->head; k && found < n; k = k->next) {
        if (at < k->n)
            out[found++] = tw_bytes(k->b + at, k->n - at);
        at = at < k->n ? 0 : at - k->n;
    }
    return found;
}

void buf_drop(struct buf *b, size_t n)
{
    b->n -= n;
    b->skip += n;
    while (b->head && b->skip >= b->head->n) {
        struct buf_block *k = b->head;
        b->skip -= k->n;
        b->head = k->next;
        free(k);
    }
    if (!b->head)
        b->tail = NULL;
}

void buf_free(struct buf *b)
{
    buf_drop(b, b->n);
}
