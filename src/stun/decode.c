#include <thalweg/stun.h>

#include "stun/attr.h"
#include "stun/fingerprint.h"

enum { ATTR_HEADER = 4 };

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

bool tw_stun_is(const uint8_t *p, size_t n)
{
    return n >= TW_STUN_HEADER && (p[0] & 0xc0) == 0 && (p[3] & 3) == 0 &&
           tw_get_u32(p + 4) == TW_STUN_COOKIE && tw_get_u16(p + 2) + (size_t)TW_STUN_HEADER <= n;
}

/* RFC 8489 §5, figure 3: class and method are interleaved. */
static void read_type(uint16_t type, struct tw_stun_msg *m)
{
    m->cls = (uint8_t)((type >> 4 & 1) | (type >> 7 & 2));
    m->method = (uint16_t)((type & 0xf) | (type >> 1 & 0x70) | (type >> 2 & 0xf80));
}

static bool length_fits(int attr, size_t len)
{
    const struct tw_stun_attr_info *info = &tw_stun_attr_infos[attr];
    if (len < info->min || len > info->max)
        return false;
    switch (info->kind) {
    case TW_STUN_K_ADDR:
    case TW_STUN_K_XADDR:
        return len == 8 || len == 20;
    case TW_STUN_K_TYPES:
        return len % 2 == 0;
    default:
        return attr != TW_STUN_A_MESSAGE_INTEGRITY_SHA256 || len % 4 == 0;
    }
}

static bool fingerprint_right(const struct tw_stun_msg *m, size_t value_off)
{
    return value_off + 4 == m->raw.n &&
           tw_stun_fingerprint(tw_bytes(m->raw.p, value_off - ATTR_HEADER)) ==
               tw_get_u32(m->raw.p + value_off);
}

/* RFC 8489 §14.5, §14.6: what still counts once an integrity attribute has been seen. */
static bool is_seen(const struct tw_stun_msg *m, int attr)
{
    if (attr == TW_STUN_A_FINGERPRINT)
        return true;
    if (tw_stun_has(m, TW_STUN_A_MESSAGE_INTEGRITY_SHA256))
        return false;
    return !tw_stun_has(m, TW_STUN_A_MESSAGE_INTEGRITY) ||
           attr == TW_STUN_A_MESSAGE_INTEGRITY_SHA256;
}

static void note_unknown(struct tw_stun_msg *m, uint16_t type)
{
    if (type >= 0x8000)
        return;
    if (m->unknown_n < TW_STUN_MAX_UNKNOWN)
        m->unknown[m->unknown_n++] = type;
}

static void note_attr(struct tw_stun_msg *m, uint16_t type, size_t off, size_t len)
{
    int attr = tw_stun_attr_find(type);
    if (!is_seen(m, attr))
        return;
    if (attr < 0) {
        note_unknown(m, type);
        return;
    }
    if (tw_stun_has(m, (enum tw_stun_attr)attr))
        return;
    if (!length_fits(attr, len)) {
        m->bad_attr = true;
        return;
    }
    m->at[attr].off = (uint16_t)off;
    m->at[attr].len = (uint16_t)len;
    if (m->protected_end == 0 && (attr == TW_STUN_A_MESSAGE_INTEGRITY ||
                                  attr == TW_STUN_A_MESSAGE_INTEGRITY_SHA256))
        m->protected_end = (uint16_t)(off - ATTR_HEADER);
}

int tw_stun_decode(struct tw_bytes in, struct tw_stun_msg *ret)
{
    struct tw_stun_msg *m = ret;
    if (!tw_stun_is(in.p, in.n) || in.n > UINT16_MAX ||
        tw_get_u16(in.p + 2) + (size_t)TW_STUN_HEADER != in.n)
        return TW_EMALFORMED;
    memset(m, 0, sizeof(*m));
    m->raw = in;
    read_type(tw_get_u16(in.p), m);
    memcpy(m->tid, in.p + 8, TW_STUN_TID);

    size_t off = TW_STUN_HEADER;
    while (off < in.n) {
        /* The length is a multiple of four, so an attribute header always fits. */
        uint16_t type = tw_get_u16(in.p + off);
        size_t len = tw_get_u16(in.p + off + 2);
        if (padded(len) > in.n - off - ATTR_HEADER)
            return TW_EMALFORMED;
        note_attr(m, type, off + ATTR_HEADER, len);
        off += ATTR_HEADER + padded(len);
    }
    if (m->protected_end == 0)
        m->protected_end = (uint16_t)in.n;
    if (tw_stun_has(m, TW_STUN_A_FINGERPRINT) &&
        !fingerprint_right(m, m->at[TW_STUN_A_FINGERPRINT].off))
        return TW_EMALFORMED;
    return 0;
}

bool tw_stun_get_u8(const struct tw_stun_msg *m, enum tw_stun_attr a, uint8_t *ret)
{
    if (m->at[a].len < 1)
        return false;
    *ret = tw_stun_get(m, a).p[0];
    return true;
}

bool tw_stun_get_u16(const struct tw_stun_msg *m, enum tw_stun_attr a, uint16_t *ret)
{
    if (m->at[a].len < 2)
        return false;
    *ret = tw_get_u16(tw_stun_get(m, a).p);
    return true;
}

bool tw_stun_get_u32(const struct tw_stun_msg *m, enum tw_stun_attr a, uint32_t *ret)
{
    if (m->at[a].len < 4)
        return false;
    *ret = tw_get_u32(tw_stun_get(m, a).p);
    return true;
}

bool tw_stun_read_addr(struct tw_bytes value, bool xored, const uint8_t tid[TW_STUN_TID],
                       struct tw_addr *ret)
{
    uint8_t mask[16] = { 0x21, 0x12, 0xa4, 0x42 };
    struct tw_addr a = { 0 };
    if (value.n == 8 && value.p[1] == 1)
        a.family = TW_FAMILY_V4;
    else if (value.n == 20 && value.p[1] == 2)
        a.family = TW_FAMILY_V6;
    else
        return false;
    memcpy(mask + 4, tid, TW_STUN_TID);
    a.port = (uint16_t)(tw_get_u16(value.p + 2) ^ (xored ? TW_STUN_COOKIE >> 16 : 0));
    for (size_t i = 0; i < value.n - 4; i++)
        a.ip[i] = (uint8_t)(value.p[4 + i] ^ (xored ? mask[i] : 0));
    *ret = a;
    return true;
}

bool tw_stun_get_addr(const struct tw_stun_msg *m, enum tw_stun_attr a, struct tw_addr *ret)
{
    return tw_stun_has(m, a) &&
           tw_stun_read_addr(tw_stun_get(m, a), tw_stun_attr_infos[a].kind == TW_STUN_K_XADDR,
                             m->tid, ret);
}

bool tw_stun_get_error(const struct tw_stun_msg *m, unsigned *ret_code, struct tw_bytes *ret_reason)
{
    struct tw_bytes v = tw_stun_get(m, TW_STUN_A_ERROR_CODE);
    if (v.n < 4)
        return false;
    unsigned hundreds = v.p[2] & 7, number = v.p[3];
    if (hundreds < 3 || hundreds > 6 || number > 99) /* RFC 8489 §14.8 */
        return false;
    *ret_code = hundreds * 100 + number;
    *ret_reason = tw_bytes(v.p + 4, v.n - 4);
    return true;
}

bool tw_stun_next(const struct tw_stun_msg *m, enum tw_stun_attr a, size_t *pos,
                  struct tw_bytes *ret_value)
{
    size_t off = *pos ? *pos : TW_STUN_HEADER;
    while (off < m->protected_end) {
        const uint8_t *p = m->raw.p + off;
        size_t len = tw_get_u16(p + 2);
        off += ATTR_HEADER + padded(len);
        if (tw_get_u16(p) != tw_stun_attr_infos[a].type || !length_fits((int)a, len))
            continue;
        *pos = off;
        *ret_value = tw_bytes(p + ATTR_HEADER, len);
        return true;
    }
    *pos = off;
    return false;
}
