#include "portmap/wire.h"

enum { OP_MAP = 1, OP_RESPONSE = 0x80, IPPROTO_OF_TCP = 6, IPPROTO_OF_UDP = 17, MAX_LIFETIME = 86400 };

/* RFC 6887 §5: IPv4 addresses are IPv4-mapped. */
static void put_ip(struct tw_wr *w, const struct tw_addr *a)
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
    if (a->family == TW_FAMILY_V6) {
        tw_wr_bytes(w, tw_bytes(a->ip, 16));
        return;
    }
    tw_wr_bytes(w, tw_bytes(prefix, sizeof(prefix)));
    tw_wr_bytes(w, tw_bytes(a->ip, 4));
}

static struct tw_addr get_ip(struct tw_rd *r)
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
    struct tw_bytes b = tw_rd_bytes(r, 16);
    if (b.n == 0)
        return (struct tw_addr){ 0 };
    if (memcmp(b.p, prefix, sizeof(prefix)) == 0)
        return tw_addr_v4(b.p[12], b.p[13], b.p[14], b.p[15], 0);
    return tw_addr_v6(b.p, 0);
}

size_t portmap_write_pcp(uint8_t *out, const struct portmap_request *r)
{
    struct tw_wr w = tw_wr(out, PORTMAP_MSG_MAX);
    struct tw_addr any = { .family = r->local.family };
    tw_wr_u8(&w, PORTMAP_PCP);
    tw_wr_u8(&w, OP_MAP);
    tw_wr_zero(&w, 2);
    tw_wr_u32(&w, r->lifetime);
    put_ip(&w, &r->local);
    tw_wr_bytes(&w, tw_bytes(r->nonce, PORTMAP_NONCE));
    tw_wr_u8(&w, r->tcp ? IPPROTO_OF_TCP : IPPROTO_OF_UDP);
    tw_wr_zero(&w, 3);
    tw_wr_u16(&w, r->port);
    tw_wr_u16(&w, r->suggested.port);
    put_ip(&w, r->suggested.family ? &r->suggested : &any);
    return w.n;
}

size_t portmap_write_natpmp(uint8_t *out, const struct portmap_request *r)
{
    struct tw_wr w = tw_wr(out, PORTMAP_MSG_MAX);
    tw_wr_u8(&w, PORTMAP_NATPMP);
    tw_wr_u8(&w, r->tcp ? 2 : 1);
    tw_wr_zero(&w, 2);
    tw_wr_u16(&w, r->port);
    tw_wr_u16(&w, r->lifetime ? r->suggested.port : 0);
    tw_wr_u32(&w, r->lifetime);
    return w.n;
}

size_t portmap_write_outside(uint8_t *out)
{
    out[0] = PORTMAP_NATPMP;
    out[1] = 0;
    return 2;
}

static int read_pcp(struct tw_rd *r, struct portmap_answer *ret)
{
    if (tw_rd_u8(r) != (OP_RESPONSE | OP_MAP))
        return TW_EMALFORMED;
    tw_rd_u8(r);
    ret->code = tw_rd_u8(r);
    ret->lifetime = tw_rd_u32(r);
    ret->epoch = tw_rd_u32(r);
    tw_rd_bytes(r, 12);
    struct tw_bytes nonce = tw_rd_bytes(r, PORTMAP_NONCE);
    uint8_t protocol = tw_rd_u8(r);
    tw_rd_bytes(r, 3);
    ret->port = tw_rd_u16(r);
    uint16_t outside = tw_rd_u16(r);
    ret->outside = get_ip(r);
    ret->outside.port = outside;
    if (r->error || (protocol != IPPROTO_OF_TCP && protocol != IPPROTO_OF_UDP))
        return TW_EMALFORMED;
    ret->tcp = protocol == IPPROTO_OF_TCP;
    memcpy(ret->nonce, nonce.p, PORTMAP_NONCE);
    return 0;
}

static int read_natpmp(struct tw_rd *r, struct portmap_answer *ret)
{
    uint8_t op = tw_rd_u8(r);
    ret->code = tw_rd_u16(r);
    ret->epoch = tw_rd_u32(r);
    if (r->error || op < OP_RESPONSE)
        return TW_EMALFORMED;
    if (ret->code == PORTMAP_UNSUPP_VERSION) { /* RFC 6886 §3.5; RFC 6887, appendix A */
        ret->what = PORTMAP_VERSION;
        return 0;
    }
    if (op == OP_RESPONSE) {
        struct tw_bytes ip = tw_rd_bytes(r, 4);
        ret->what = PORTMAP_OUTSIDE;
        if (ip.n)
            ret->outside = tw_addr_v4(ip.p[0], ip.p[1], ip.p[2], ip.p[3], 0);
    } else if (op <= OP_RESPONSE + 2) {
        ret->tcp = op == OP_RESPONSE + 2;
        ret->port = tw_rd_u16(r);
        ret->outside.port = tw_rd_u16(r);
        ret->lifetime = tw_rd_u32(r);
    } else {
        return TW_EMALFORMED;
    }
    return r->error ? TW_EMALFORMED : 0;
}

int portmap_read(struct tw_bytes in, struct portmap_answer *ret)
{
    struct tw_rd r = tw_rd(in);
    *ret = (struct portmap_answer){ .what = PORTMAP_MAP };
    ret->version = tw_rd_u8(&r);
    int err = in.n == 0 ? TW_EMALFORMED
              : ret->version == PORTMAP_PCP ? read_pcp(&r, ret)
              : ret->version == PORTMAP_NATPMP ? read_natpmp(&r, ret)
                                               : TW_EMALFORMED;
    if (ret->lifetime > MAX_LIFETIME) /* RFC 6887 §15: no more than a day is believed */
        ret->lifetime = MAX_LIFETIME;
    return err;
}

const char *portmap_reason(uint8_t version, unsigned code)
{
    static const char *const pcp[] = {
        "", "it speaks another version", "it does not allow it", "it did not understand the request",
        "it cannot map ports", "it lacks an option", "it did not understand an option",
        "it has no network outside itself", "it has no room left", "not for this protocol",
        "this user has too many", "that outside address cannot be had",
        "there is another NAT between it and this machine", "too many peers",
    };
    static const char *const natpmp[] = {
        "", "it speaks another version", "it does not allow it", "it has no network outside itself",
        "it has no room left", "it cannot map ports",
    };
    if (version == PORTMAP_PCP)
        return code < sizeof(pcp) / sizeof(pcp[0]) ? pcp[code] : "it refused";
    return code < sizeof(natpmp) / sizeof(natpmp[0]) ? natpmp[code] : "it refused";
}
