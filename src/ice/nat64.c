/* A network of IPv6 only with a translator to IPv4 (RFC 6146): the agent speaks of IPv4 addresses as if it could
 * reach them, and they are put into the translator's prefix, and taken out of it, at its doors. */
#include "ice/internal.h"

static bool is_translated(const struct tw_ice *a)
{
    return a->nat64.first.port && !a->has_v4;
}

bool ice_reaches(const struct tw_ice *a, const struct base *b, const struct tw_addr *far)
{
    if (b->local.family == far->family)
        return true;
    return far->family == TW_FAMILY_V4 && b->local.family == TW_FAMILY_V6 && is_translated(a) &&
           b->kind != BASE_RELAY && !tw_addr_is_link_local(&b->local) && !ice_is_private(far);
}

struct tw_addr ice_outwards(const struct tw_ice *a, const struct tw_addr *local,
                            const struct tw_addr *far)
{
    bool translate = far->family == TW_FAMILY_V4 && local->family == TW_FAMILY_V6 && is_translated(a);
    return translate ? tw_nat64_embed(&a->nat64, far) : *far;
}

struct tw_addr ice_inwards(const struct tw_ice *a, const struct tw_addr *far)
{
    struct tw_addr v4;
    return is_translated(a) && tw_nat64_extract(&a->nat64, far, &v4) ? v4 : *far;
}

void tw_ice_nat64(struct tw_ice *a, tw_time now, const struct tw_range *prefix)
{
    struct tw_range none = { 0 };
    a->now = now;
    ice_tape_nat64(a->tape, now, prefix);
    a->nat64 = prefix ? *prefix : none;
    if (!is_translated(a))
        return;
    ice_gather_all_servers(a); /* those that can be reached now */
    for (uint16_t r = 0; r < a->remote_n; r++)
        ice_pair_remote(a, r);
    ice_tick(a);
}
