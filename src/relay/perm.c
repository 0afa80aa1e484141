/* Permissions (RFC 8656 §9) and channels (§12) of one allocation: small sorted arrays. */
#include "relay/internal.h"

#include <stdlib.h>

/* Where an address is, or would go. */
static uint32_t perm_place(const struct alloc *a, const struct tw_addr *ip)
{
    uint32_t lo = 0, hi = a->perm_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (tw_addr_cmp(&a->perms[mid].ip, ip) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct permission *relay_perm_find(const struct alloc *a, const struct tw_addr *peer)
{
    struct tw_addr ip = tw_addr_ip_only(peer);
    uint32_t i = perm_place(a, &ip);
    return i < a->perm_n && tw_addr_eq(&a->perms[i].ip, &ip) ? &a->perms[i] : NULL;
}

bool relay_permitted(const struct tw_relay *r, const struct alloc *a, const struct tw_addr *peer)
{
    const struct permission *p = relay_perm_find(a, peer);
    return p && p->until > r->now;
}

static void forget_expired_perms(struct tw_relay *r, struct alloc *a)
{
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->perm_n; i++)
        if (a->perms[i].until > r->now)
            a->perms[kept++] = a->perms[i];
    a->perm_n = kept;
}

static int grow(void **array, uint16_t *cap, uint32_t need, uint32_t max, size_t size)
{
    if (need <= *cap)
        return 0;
    if (need > max)
        return TW_EFULL;
    uint32_t n = *cap ? *cap : 1;
    while (n < need)
        n *= 2;
    void *grown = realloc(*array, n * size);
    if (!grown)
        return TW_ENOMEM;
    *array = grown;
    *cap = (uint16_t)n;
    return 0;
}

/* Makes room for `more` new permissions, so that setting them cannot fail. */
int relay_perm_room(struct tw_relay *r, struct alloc *a, uint32_t more)
{
    if (a->perm_n + more > a->perm_cap)
        forget_expired_perms(r, a);
    void *array = a->perms;
    int err = grow(&array, &a->perm_cap, a->perm_n + more, MAX_PERMISSIONS, sizeof(*a->perms));
    a->perms = array;
    return err;
}

/* Installs or refreshes; there is room. */
void relay_perm_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer)
{
    struct tw_addr ip = tw_addr_ip_only(peer);
    uint32_t i = perm_place(a, &ip);
    tw_time until = tw_time_add(r->now, tw_time_from_sec(r->cfg->permission_lifetime));
    if (i == a->perm_n || !tw_addr_eq(&a->perms[i].ip, &ip)) {
        memmove(&a->perms[i + 1], &a->perms[i], (a->perm_n - i) * sizeof(*a->perms));
        memset(&a->perms[i], 0, sizeof(a->perms[i]));
        a->perms[i].ip = ip;
        a->perm_n++;
    }
    a->perms[i].until = until;
    for (uint16_t c = 0; c < a->chan_n; c++)
        if (tw_addr_eq_ip(&a->chans[c].peer, &ip))
            a->chans[c].permitted = until;
}

static uint32_t chan_place(const struct alloc *a, const struct tw_addr *peer)
{
    uint32_t lo = 0, hi = a->chan_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (tw_addr_cmp(&a->chans[mid].peer, peer) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct channel *relay_chan_by_peer(const struct alloc *a, const struct tw_addr *peer)
{
    uint32_t i = chan_place(a, peer);
    return i < a->chan_n && tw_addr_eq(&a->chans[i].peer, peer) ? &a->chans[i] : NULL;
}

struct channel *relay_chan_by_number(const struct alloc *a, uint16_t number)
{
    for (uint16_t i = 0; i < a->chan_n; i++)
        if (a->chans[i].number == number)
            return &a->chans[i];
    return NULL;
}

static void forget_expired_chans(struct tw_relay *r, struct alloc *a)
{
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->chan_n; i++)
        if (a->chans[i].until > r->now)
            a->chans[kept++] = a->chans[i];
    a->chan_n = kept;
    a->last_up = a->last_down = 0;
}

int relay_chan_room(struct tw_relay *r, struct alloc *a)
{
    if (a->chan_n == a->chan_cap)
        forget_expired_chans(r, a);
    void *array = a->chans;
    int err = grow(&array, &a->chan_cap, a->chan_n + 1u, MAX_CHANNELS, sizeof(*a->chans));
    a->chans = array;
    return err;
}

/* Binds or refreshes; there is room, and neither number nor peer is bound otherwise. */
struct channel *relay_chan_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer,
                               uint16_t number)
{
    uint32_t i = chan_place(a, peer);
    if (i == a->chan_n || !tw_addr_eq(&a->chans[i].peer, peer)) {
        memmove(&a->chans[i + 1], &a->chans[i], (a->chan_n - i) * sizeof(*a->chans));
        a->chans[i] = (struct channel){ .peer = *peer,
                                        .own = (uint8_t)relay_own_peer(r, peer) };
        a->chan_n++;
        a->last_up = a->last_down = 0;
    }
    struct channel *c = &a->chans[i];
    c->number = number;
    c->until = tw_time_add(r->now, tw_time_from_sec(r->cfg->channel_lifetime));
    relay_perm_set(r, a, peer);
    c->wanted = relay_perm_find(a, peer)->wanted;
    return c;
}

enum own_peer relay_own_peer(const struct tw_relay *r, const struct tw_addr *peer)
{
    if (relay_own_index(r, peer) < 0)
        return PEER_ELSEWHERE;
    return tw_relay_peer_allowed(r->cfg, peer) ? PEER_OWN_ALLOWED : PEER_OWN;
}

/* Whether it is a relayed address, of TCP or UDP, that lives on this server or on the one that this
 * takes over from. */
bool relay_is_relayed(const struct tw_relay *r, const struct tw_addr *peer, bool tcp)
{
    int own = relay_own_index(r, peer);
    uint8_t mark = own < 0 ? 0 : tw_relay_port_mark(r->shared, (uint32_t)own, peer->port);
    return mark == PORT_OF_ELDER || (mark && !(mark & PORT_TCP) == !tcp);
}

/* Whether a permission for the peer may be had: 0, or the error code. RFC 8656 §10.2, §12.2:
 * the family is judged first. */
unsigned relay_judge_peer(struct tw_relay *r, const struct alloc *a, const struct tw_addr *peer)
{
    if (!a->rs[family_index(peer)])
        return TW_STUN_CODE_PEER_FAMILY_MISMATCH;
    if (relay_is_relayed(r, peer, a->tcp))
        return 0;
    struct tw_addr judged = *peer;
    if (judged.port == 0)
        judged.port = 1; /* permissions are by IP: the port in the request means nothing */
    if (tw_relay_peer_allowed(r->cfg, &judged))
        return 0;
    r->stats.policy_refused++;
    return TW_STUN_CODE_FORBIDDEN;
}
