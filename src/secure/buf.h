/* Bytes of a stream that wait: to be acknowledged, or to be read. Blocks that never move, as QUIC keeps
 * pointers into them. */
#ifndef TW_SECURE_BUF_H
#define TW_SECURE_BUF_H

#include <thalweg/bytes.h>

struct buf_block;
struct buf {
    struct buf_block *head, *tail;
    size_t skip; /* of the first block, dropped already */
    size_t n;
};

/* Appends all of it. TW_ENOMEM: nothing was. */
TW_NODISCARD int buf_put(struct buf *b, struct tw_bytes data);
/* At most n views of what lies `at` bytes behind the beginning. Returns how many. */
size_t buf_views(const struct buf *b, size_t at, struct tw_bytes *out, size_t n);
void buf_drop(struct buf *b, size_t n);
void buf_free(struct buf *b);

#endif
