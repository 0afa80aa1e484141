/* Bytes: a borrowed view, and reader and writer cursors whose error sticks.
 *
 * Read or write straight through and look at `error` once, at the end: after the first failure a
 * reader yields zeros and a writer writes nothing. All integers on the wire are big-endian. */
#ifndef THALWEG_BYTES_H
#define THALWEG_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <thalweg/error.h>

TW_C_BEGIN

/* A view of bytes that somebody else owns. Laid out like struct iovec, so that the runtime can
 * hand an array of them to the kernel as it is. */
struct tw_bytes {
    const uint8_t *p;
    size_t n;
};

static inline struct tw_bytes tw_bytes(const void *p, size_t n)
{
    return (struct tw_bytes){ (const uint8_t *)p, n };
}

static inline struct tw_bytes tw_bytes_str(const char *s)
{
    return (struct tw_bytes){ (const uint8_t *)s, strlen(s) };
}

static inline bool tw_bytes_eq(struct tw_bytes a, struct tw_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline uint16_t tw_get_u16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t tw_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void tw_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void tw_put_u32(uint8_t *p, uint32_t v)
{
    tw_put_u16(p, (uint16_t)(v >> 16));
    tw_put_u16(p + 2, (uint16_t)v);
}

static inline uint64_t tw_get_u64(const uint8_t *p)
{
    return (uint64_t)tw_get_u32(p) << 32 | tw_get_u32(p + 4);
}

static inline void tw_put_u64(uint8_t *p, uint64_t v)
{
    tw_put_u32(p, (uint32_t)(v >> 32));
    tw_put_u32(p + 4, (uint32_t)v);
}

/* --- reader ------------------------------------------------------------------------------- */

struct tw_rd {
    const uint8_t *p; /* next byte */
    size_t n;         /* bytes left */
    int error;        /* 0 or TW_ESHORT */
};

static inline struct tw_rd tw_rd(struct tw_bytes b)
{
    return (struct tw_rd){ b.p, b.n, 0 };
}

/* The next n bytes as a view into the input; empty, with the error set, when there are fewer. */
static inline struct tw_bytes tw_rd_bytes(struct tw_rd *r, size_t n)
{
    if (r->error || n > r->n) {
        r->error = TW_ESHORT;
        return (struct tw_bytes){ r->p, 0 };
    }
    struct tw_bytes b = { r->p, n };
    r->p += n;
    r->n -= n;
    return b;
}

static inline uint8_t tw_rd_u8(struct tw_rd *r)
{
    struct tw_bytes b = tw_rd_bytes(r, 1);
    return b.n ? b.p[0] : 0;
}

static inline uint16_t tw_rd_u16(struct tw_rd *r)
{
    struct tw_bytes b = tw_rd_bytes(r, 2);
    return b.n ? tw_get_u16(b.p) : 0;
}

static inline uint32_t tw_rd_u32(struct tw_rd *r)
{
    struct tw_bytes b = tw_rd_bytes(r, 4);
    return b.n ? tw_get_u32(b.p) : 0;
}

static inline uint64_t tw_rd_u64(struct tw_rd *r)
{
    struct tw_bytes b = tw_rd_bytes(r, 8);
    return b.n ? tw_get_u64(b.p) : 0;
}

/* --- writer ------------------------------------------------------------------------------- */

struct tw_wr {
    uint8_t *p; /* start of the buffer, owned by the caller */
    size_t n;   /* bytes written */
    size_t cap; /* size of the buffer */
    int error;  /* 0 or TW_EFULL */
};

static inline struct tw_wr tw_wr(void *p, size_t cap)
{
    return (struct tw_wr){ (uint8_t *)p, 0, cap, 0 };
}

/* Room for n bytes, which are counted as written; NULL, with the error set, when they do not fit. */
static inline uint8_t *tw_wr_room(struct tw_wr *w, size_t n)
{
    if (w->error || n > w->cap - w->n) {
        w->error = TW_EFULL;
        return NULL;
    }
    uint8_t *at = w->p + w->n;
    w->n += n;
    return at;
}

static inline void tw_wr_bytes(struct tw_wr *w, struct tw_bytes b)
{
    uint8_t *at = tw_wr_room(w, b.n);
    if (at && b.n)
        memcpy(at, b.p, b.n);
}

static inline void tw_wr_zero(struct tw_wr *w, size_t n)
{
    uint8_t *at = tw_wr_room(w, n);
    if (at)
        memset(at, 0, n);
}

static inline void tw_wr_u8(struct tw_wr *w, uint8_t v)
{
    uint8_t *at = tw_wr_room(w, 1);
    if (at)
        *at = v;
}

static inline void tw_wr_u16(struct tw_wr *w, uint16_t v)
{
    uint8_t *at = tw_wr_room(w, 2);
    if (at)
        tw_put_u16(at, v);
}

static inline void tw_wr_u32(struct tw_wr *w, uint32_t v)
{
    uint8_t *at = tw_wr_room(w, 4);
    if (at)
        tw_put_u32(at, v);
}

static inline void tw_wr_u64(struct tw_wr *w, uint64_t v)
{
    uint8_t *at = tw_wr_room(w, 8);
    if (at)
        tw_put_u64(at, v);
}

TW_C_END

#endif
