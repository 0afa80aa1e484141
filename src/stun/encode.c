#include <thalweg/stun.h>

#include "stun/fingerprint.h"
#include "stun/integrity.h"

static void write_length(struct tw_stun_enc *e, size_t behind)
{
    if (!e->w.error)
        tw_put_u16(e->w.p + 2, (uint16_t)(e->w.n + behind - TW_STUN_HEADER));
}

void tw_stun_begin(struct tw_stun_enc *e, void *buf, size_t cap, enum tw_stun_class cls,
                   unsigned method, const uint8_t tid[TW_STUN_TID])
{
    unsigned c = (unsigned)cls;
    unsigned type = (method & 0xf) | (method & 0x70) << 1 | (method & 0xf80) << 2 | (c & 1) << 4 |
                    (c & 2) << 7;
    *e = (struct tw_stun_enc){ .w = tw_wr(buf, cap < UINT16_MAX ? cap : UINT16_MAX) };
    memcpy(e->tid, tid, TW_STUN_TID);
    tw_wr_u16(&e->w, (uint16_t)type);
    tw_wr_u16(&e->w, 0);
    tw_wr_u32(&e->w, TW_STUN_COOKIE);
    tw_wr_bytes(&e->w, tw_bytes(tid, TW_STUN_TID));
}

/* Header and room for a value of n bytes; NULL when it does not fit. */
static uint8_t *open_attr(struct tw_stun_enc *e, enum tw_stun_attr a, size_t n)
{
    const struct tw_stun_attr_info *info = &tw_stun_attr_infos[a];
    if (n < info->min || n > info->max)
        e->w.error = TW_EFULL;
    tw_wr_u16(&e->w, info->type);
    tw_wr_u16(&e->w, (uint16_t)n);
    uint8_t *value = tw_wr_room(&e->w, n);
    while (!e->w.error && e->w.n % 4)
        tw_wr_u8(&e->w, e->pad);
    return e->w.error ? NULL : value;
}

void tw_stun_add(struct tw_stun_enc *e, enum tw_stun_attr a, struct tw_bytes value)
{
    uint8_t *at = open_attr(e, a, value.n);
    if (at && value.n)
        memcpy(at, value.p, value.n);
}

void tw_stun_add_flag(struct tw_stun_enc *e, enum tw_stun_attr a)
{
    tw_stun_add(e, a, tw_bytes(NULL, 0));
}

void tw_stun_add_u8(struct tw_stun_enc *e, enum tw_stun_attr a, uint8_t v)
{
    size_t n = tw_stun_attr_infos[a].min;
    uint8_t *at = open_attr(e, a, n);
    if (!at)
        return;
    memset(at, 0, n);
    at[0] = v;
}

void tw_stun_add_u16(struct tw_stun_enc *e, enum tw_stun_attr a, uint16_t v)
{
    tw_stun_add_u32(e, a, (uint32_t)v << 16);
}

void tw_stun_add_u32(struct tw_stun_enc *e, enum tw_stun_attr a, uint32_t v)
{
    uint8_t *at = open_attr(e, a, 4);
    if (at)
        tw_put_u32(at, v);
}

void tw_stun_add_u64(struct tw_stun_enc *e, enum tw_stun_attr a, uint64_t v)
{
    uint8_t *at = open_attr(e, a, 8);
    if (at)
        tw_put_u64(at, v);
}

void tw_stun_add_addr(struct tw_stun_enc *e, enum tw_stun_attr a, const struct tw_addr *v)
{
    bool xored = tw_stun_attr_infos[a].kind == TW_STUN_K_XADDR;
    uint8_t mask[16] = { 0x21, 0x12, 0xa4, 0x42 };
    size_t len = tw_addr_ip_len(v);
    uint8_t *at = open_attr(e, a, 4 + len);
    if (!at)
        return;
    memcpy(mask + 4, e->tid, TW_STUN_TID);
    at[0] = 0;
    at[1] = v->family == TW_FAMILY_V4 ? 1 : 2;
    tw_put_u16(at + 2, (uint16_t)(v->port ^ (xored ? TW_STUN_COOKIE >> 16 : 0)));
    for (size_t i = 0; i < len; i++)
        at[4 + i] = (uint8_t)(v->ip[i] ^ (xored ? mask[i] : 0));
}

void tw_stun_add_error(struct tw_stun_enc *e, unsigned code, struct tw_bytes reason)
{
    uint8_t *at = open_attr(e, TW_STUN_A_ERROR_CODE, 4 + reason.n);
    if (!at)
        return;
    at[0] = at[1] = 0;
    at[2] = (uint8_t)(code / 100);
    at[3] = (uint8_t)(code % 100);
    if (reason.n)
        memcpy(at + 4, reason.p, reason.n);
}

/* Integrity covers everything before the attribute, with the length field as if the attribute
 * were the last one (RFC 8489 §14.5, §14.6). */
static void add_hmac(struct tw_stun_enc *e, enum tw_stun_attr a, enum tw_stun_hmac hmac, size_t n,
                     struct tw_bytes key)
{
    struct tw_bytes covered = tw_bytes(e->w.p, e->w.n);
    uint8_t *at = open_attr(e, a, n);
    if (at && tw_stun_hmac(hmac, key, covered, (uint16_t)(e->w.n - TW_STUN_HEADER), at))
        e->w.error = TW_ECRYPTO;
}

void tw_stun_add_integrity(struct tw_stun_enc *e, struct tw_bytes key)
{
    add_hmac(e, TW_STUN_A_MESSAGE_INTEGRITY, TW_STUN_HMAC_SHA1, TW_STUN_MI, key);
}

void tw_stun_add_integrity_sha256(struct tw_stun_enc *e, struct tw_bytes key)
{
    add_hmac(e, TW_STUN_A_MESSAGE_INTEGRITY_SHA256, TW_STUN_HMAC_SHA256, TW_STUN_MI_SHA256, key);
}

void tw_stun_add_fingerprint(struct tw_stun_enc *e)
{
    write_length(e, 8);
    struct tw_bytes covered = tw_bytes(e->w.p, e->w.n);
    uint8_t *at = open_attr(e, TW_STUN_A_FINGERPRINT, 4);
    if (at)
        tw_put_u32(at, tw_stun_fingerprint(covered));
}

int tw_stun_end(struct tw_stun_enc *e)
{
    write_length(e, 0);
    return e->w.error;
}
