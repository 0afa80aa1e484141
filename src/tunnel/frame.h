/* Framing of datagrams on a stream (RFC 4571 §2): 16 bits of length before each. */
#ifndef TW_TUNNEL_FRAME_H
#define TW_TUNNEL_FRAME_H

#include <stdbool.h>

#include <thalweg/bytes.h>

enum { TW_FRAME_HEADER = 2 };

/* The first frame's payload among the bytes that have come; *ret_used: with its header. False: it has
 * not come whole. */
static inline bool tw_frame_next(struct tw_bytes in, struct tw_bytes *ret_payload, size_t *ret_used)
{
    if (in.n < TW_FRAME_HEADER || in.n - TW_FRAME_HEADER < tw_get_u16(in.p))
        return false;
    *ret_payload = tw_bytes(in.p + TW_FRAME_HEADER, tw_get_u16(in.p));
    *ret_used = TW_FRAME_HEADER + ret_payload->n;
    return true;
}

/* Its header; n: 0 .. 65,535. */
static inline void tw_frame_header(size_t n, uint8_t ret_header[TW_FRAME_HEADER])
{
    tw_put_u16(ret_header, (uint16_t)n);
}

#endif
