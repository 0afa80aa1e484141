/* The attribute that agents of our kind put into their checks and answers: what the NAT before them
 * does, how much data has come over this pair, and, while NATs are probed, where to look.
 *
 *  0: kind of NAT (enum nat_kind; 0x80: by address, not by port) 1: step, signed, or of an easy one 1 where ports are kept 2: round of probing 3: phase
 *  4: datagrams of data received over this pair, 32 bits
 *  8: ports at which the sender expects to be seen, 16 bits each, as many as there is room for */
#include "ice/internal.h"

enum { BY_ADDRESS = 0x80 };

void ice_own_write(struct tw_stun_enc *e, const struct own_info *info)
{
    uint8_t buf[8 + 2 * PROBE_PORTS];
    struct tw_wr w = tw_wr(buf, sizeof(buf));
    tw_wr_u8(&w, info->kind | (info->by_address ? BY_ADDRESS : 0));
    tw_wr_u8(&w, (uint8_t)info->step);
    tw_wr_u8(&w, info->round);
    tw_wr_u8(&w, info->phase);
    tw_wr_u32(&w, info->received);
    for (uint8_t i = 0; i < info->port_n; i++)
        tw_wr_u16(&w, info->ports[i]);
    tw_stun_add(e, TW_STUN_A_ICE_OWN, tw_bytes(buf, w.n));
}

bool ice_own_read(const struct tw_stun_msg *m, struct own_info *ret)
{
    if (!tw_stun_has(m, TW_STUN_A_ICE_OWN))
        return false;
    struct tw_rd r = tw_rd(tw_stun_get(m, TW_STUN_A_ICE_OWN));
    *ret = (struct own_info){ 0 };
    ret->kind = tw_rd_u8(&r);
    ret->by_address = ret->kind & BY_ADDRESS;
    ret->kind &= BY_ADDRESS - 1;
    ret->step = (int8_t)tw_rd_u8(&r);
    ret->round = tw_rd_u8(&r);
    ret->phase = tw_rd_u8(&r);
    ret->received = tw_rd_u32(&r);
    while (r.n >= 2 && ret->port_n < PROBE_PORTS)
        ret->ports[ret->port_n++] = tw_rd_u16(&r);
    return !r.error && ret->kind < NAT_KINDS;
}
