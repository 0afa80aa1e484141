#include "secure/internal.h"

/* RFC 9000 §16. */
static uint64_t rd_varint(struct tw_rd *r)
{
    uint8_t first = tw_rd_u8(r);
    uint64_t v = first & 0x3f;
    for (unsigned i = 1; i < 1U << (first >> 6); i++)
        v = v << 8 | tw_rd_u8(r);
    return v;
}

void secure_set_version(uint8_t *p, size_t n, uint32_t version)
{
    struct tw_rd r = tw_rd(tw_bytes(p, n));
    while (r.n && (*r.p & 0x80)) { /* RFC 9000 §17.2: long headers, maybe several in a datagram */
        uint8_t *at = p + (r.p - p);
        unsigned type = tw_rd_u8(&r) >> 4 & 3;
        tw_rd_u32(&r);
        tw_rd_bytes(&r, tw_rd_u8(&r));
        tw_rd_bytes(&r, tw_rd_u8(&r));
        if (type == 0) /* Initial: a token */
            tw_rd_bytes(&r, rd_varint(&r));
        tw_rd_bytes(&r, rd_varint(&r));
        if (r.error)
            return;
        tw_put_u32(at + 1, version);
    }
}
