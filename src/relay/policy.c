#include <thalweg/relay.h>

/* Address blocks that are not on the open Internet: IANA's special-purpose registries (RFC 6890 and
 * its updates), multicast and reserved space. Blocks that only wrap an IPv4 address and are
 * globally reachable (64:ff9b::/96, 2002::/16, 2001::/32) are judged by what is inside. */
#define SPECIAL_V4(X)                                                                             \
    X(0, 0, 0, 0, 8) X(10, 0, 0, 0, 8) X(100, 64, 0, 0, 10) X(169, 254, 0, 0, 16)                 \
    X(172, 16, 0, 0, 12) X(192, 0, 0, 0, 24) X(192, 0, 2, 0, 24) X(192, 88, 99, 0, 24)            \
    X(192, 168, 0, 0, 16) X(198, 18, 0, 0, 15) X(198, 51, 100, 0, 24) X(203, 0, 113, 0, 24)       \
    X(224, 0, 0, 0, 4) X(240, 0, 0, 0, 4)

static const struct {
    uint8_t ip[4];
    uint8_t bits;
} special_v4[] = {
#define ENTRY(a, b, c, d, bits) { { a, b, c, d }, bits },
    SPECIAL_V4(ENTRY)
#undef ENTRY
};

static const struct {
    uint8_t ip[16];
    uint8_t bits;
} special_v6[] = {
    { { 0 }, 96 },                                         /* ::, compatible */
    { { [10] = 0xff, [11] = 0xff }, 96 },                  /* mapped */
    { { [8] = 0xff, [9] = 0xff }, 96 },                    /* translated, RFC 2765 */
    { { 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01 }, 48 },        /* local NAT64, RFC 8215 */
    { { 0x01, 0x00 }, 64 },                                /* discard, RFC 6666 */
    { { 0x20, 0x01, 0x00, 0x02 }, 48 },                    /* benchmarking, RFC 5180 */
    { { 0x20, 0x01, 0x00, 0x10 }, 28 },                    /* ORCHID, RFC 4843 */
    { { 0x20, 0x01, 0x00, 0x20 }, 28 },                    /* ORCHIDv2, RFC 7343 */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 },                    /* documentation, RFC 3849 */
    { { 0x3f, 0xff, 0x00 }, 20 },                          /* documentation, RFC 9637 */
    { { 0x5f, 0x00 }, 16 },                                /* segment routing, RFC 9602 */
    { { 0xfc }, 7 },                                       /* unique local, RFC 4193 */
    { { 0xfe, 0x80 }, 10 },                                /* link-local */
    { { 0xfe, 0xc0 }, 10 },                                /* site-local, RFC 3879 */
    { { 0xff }, 8 },                                       /* multicast */
};

static bool in_block(const uint8_t *ip, const uint8_t *block, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(ip, block, whole) != 0)
        return false;
    return rest == 0 || (ip[whole] >> (8 - rest)) == (block[whole] >> (8 - rest));
}

static bool is_special(const struct tw_addr *a)
{
    if (a->family == TW_FAMILY_V4) {
        for (size_t i = 0; i < sizeof(special_v4) / sizeof(special_v4[0]); i++)
            if (in_block(a->ip, special_v4[i].ip, special_v4[i].bits))
                return true;
        return false;
    }
    for (size_t i = 0; i < sizeof(special_v6) / sizeof(special_v6[0]); i++)
        if (in_block(a->ip, special_v6[i].ip, special_v6[i].bits))
            return true;
    return false;
}

static bool in_ranges(const struct tw_range *r, size_t n, const struct tw_addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (tw_range_has(&r[i], a))
            return true;
    return false;
}

/* One address as it stands. */
static bool allowed_plain(const struct tw_relay_config *cfg, const struct tw_addr *a)
{
    if (in_ranges(cfg->allowed, cfg->allowed_n, a))
        return true;
    if (in_ranges(cfg->denied, cfg->denied_n, a))
        return false;
    if (tw_addr_is_loopback(a))
        return cfg->allow_loopback;
    return !is_special(a) && !in_ranges(cfg->own, cfg->own_n, a);
}

bool tw_relay_peer_allowed(const struct tw_relay_config *cfg, const struct tw_addr *peer)
{
    struct tw_addr inside[TW_EMBEDDED_MAX];
    if (peer->family == TW_FAMILY_NONE || peer->port == 0 || !allowed_plain(cfg, peer))
        return false;
    /* ::1 reads as 0.0.0.1 in the compatible form; it was judged above for what it is. */
    if (peer->family == TW_FAMILY_V4 || tw_addr_is_loopback(peer))
        return true;
    size_t n = tw_addr_embedded_v4(peer, cfg->nat64, cfg->nat64_n, inside);
    for (size_t i = 0; i < n; i++)
        if (!allowed_plain(cfg, &inside[i]))
            return false;
    return true;
}

bool tw_relay_is_public(const struct tw_addr *addr)
{
    static const struct tw_relay_config none;
    return tw_relay_peer_allowed(&none, addr);
}
