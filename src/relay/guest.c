/* Guests relay only to those who want it: somebody who runs ICE answers a Binding request, everybody else does not. So
 * credentials that are given to people whom nobody knows are no open proxy, and no way to flood a third party. */
#include "relay/internal.h"

enum { BURST = 20, A_SECOND = 10 };

/* A Binding message: request, indication or response (RFC 8489 §5). */
static bool is_binding(struct tw_bytes data)
{
    return data.n >= TW_STUN_HEADER && data.p[0] <= 1 && (data.p[1] & 0xef) == 1 &&
           tw_get_u32(data.p + 4) == TW_STUN_COOKIE;
}

static bool is_success(struct tw_bytes data)
{
    return is_binding(data) && data.p[0] == 1 && data.p[1] == 1;
}

bool relay_guest_may(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer, struct tw_bytes data)
{
    struct permission *p = relay_perm_find(a, peer);
    if (!p)
        return false; /* the caller has looked for one */
    if (p->wanted)
        return true;
    if (is_binding(data) && tw_bucket_take(&p->asked, r->now, TW_SEC / A_SECOND, BURST * (TW_SEC / A_SECOND)))
        return true;
    r->stats.drop_unwanted++;
    return false;
}

void relay_guest_hears(struct alloc *a, const struct tw_addr *peer, struct tw_bytes data)
{
    struct permission *p = relay_perm_find(a, peer);
    if (!p || p->wanted || !is_success(data))
        return;
    p->wanted = true;
    for (uint16_t i = 0; i < a->chan_n; i++)
        if (tw_addr_eq_ip(&a->chans[i].peer, peer))
            a->chans[i].wanted = true;
}
