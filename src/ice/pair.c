/* Pairs of candidates: which are formed, in which order they are checked (RFC 8445 §6.1.2). */
#include "ice/internal.h"

/* RFC 8445 §5.1.1.1 has IPv6 link-local addresses meet their like only. */
static bool is_scoped(const struct tw_addr *a)
{
    return a->family == TW_FAMILY_V6 && tw_addr_is_link_local(a);
}

static bool transports_fit(const struct base *b, const struct remote *r)
{
    if (b->kind == BASE_UDP || b->kind == BASE_RELAY)
        return r->transport == TW_ICE_UDP;
    /* RFC 6544 §6.2: active meets passive; a connection of its own comes when it is checked. */
    return b->kind == BASE_LISTEN &&
           (r->transport == TW_ICE_TCP_PASSIVE || r->transport == TW_ICE_TCP_SO);
}

static bool is_worth_it(const struct tw_ice *a, const struct base *b, const struct remote *r)
{
    if (b->comp != r->comp || b->state == BASE_DEAD || b->probe || !transports_fit(b, r) ||
        !ice_reaches(a, b, &r->addr) ||
        is_scoped(&b->local) != is_scoped(&r->addr) ||
        tw_addr_is_loopback(&b->local) != tw_addr_is_loopback(&r->addr))
        return false;
    if (b->kind == BASE_RELAY)
        return ice_is_private(&b->local) || !ice_is_private(&r->addr);
    if (a->cfg.policy == TW_ICE_RELAY_ONLY)
        return false;
    return a->cfg.policy != TW_ICE_NO_HOST || !ice_is_private(&r->addr);
}

/* RFC 8445 §6.1.2.3. */
static uint64_t pair_priority(const struct tw_ice *a, const struct base *b, const struct remote *r)
{
    uint32_t mine = ice_priority(a, b->kind == BASE_RELAY ? TW_ICE_RELAY : TW_ICE_HOST,
                                 b->kind == BASE_UDP || b->kind == BASE_RELAY ? TW_ICE_UDP
                                                                              : TW_ICE_TCP_ACTIVE,
                                 b->order, b->comp);
    uint32_t g = a->controlling ? mine : r->priority, d = a->controlling ? r->priority : mine;
    uint32_t lesser = g < d ? g : d, greater = g < d ? d : g;
    return (uint64_t)lesser << 32 | (uint64_t)greater << 1 | (g > d);
}

/* After a change of role, or of a candidate's priority. */
void ice_pairs_recompute(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        p->priority = pair_priority(a, &a->bases[p->base], &a->remotes[p->remote]);
    }
}

uint16_t ice_pair_find(const struct tw_ice *a, uint16_t base, uint16_t remote, bool old)
{
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].base == base && a->pairs[i].remote == remote && a->pairs[i].old == old)
            return i;
    return NONE;
}

void ice_pair_fail(struct tw_ice *a, struct pair *p, const char *why)
{
    uint16_t i = (uint16_t)(p - a->pairs);
    p->state = PAIR_FAILED;
    p->why = why;
    p->valid = p->nominate = p->nominated = p->want_tx = p->opening = false;
    p->due = p->check_at = p->valid_until = TW_NEVER;
    if (a->comps[p->comp].path == i)
        ice_select_lost(a, p->comp);
}

tw_time ice_pair_patience(const struct pair *p)
{
    static const tw_time a_little = 200 * TW_MSEC, unknown = TW_SEC, most = 5 * TW_SEC;
    return p->rtt ? tw_time_min(2 * p->rtt + a_little, most) : unknown;
}

/* The two that share it get the check's result together (RFC 8445 §6.1.2.6): "foundation". */
static uint64_t group(const struct tw_ice *a, const struct pair *p)
{
    uint32_t local = 0;
    for (uint16_t i = 0; i < a->local_n && !local; i++)
        if (a->locals[i].base == p->base &&
            (a->locals[i].type == TW_ICE_HOST || a->locals[i].type == TW_ICE_RELAY))
            local = a->locals[i].foundation;
    return (uint64_t)local << 32 | a->remotes[p->remote].foundation;
}

static bool group_is_busy(const struct tw_ice *a, const struct pair *p)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *q = &a->pairs[i];
        if (q != p && (q->state == PAIR_WAITING || q->state == PAIR_IN_PROGRESS) &&
            group(a, q) == group(a, p))
            return true;
    }
    return false;
}

/* One of the same group that was thawed although this one, of a lower component, would come first. */
void ice_pairs_unfreeze(struct tw_ice *a, const struct pair *like)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->state != PAIR_FROZEN)
            continue;
        if (like ? group(a, p) == group(a, like) : !group_is_busy(a, p))
            p->state = PAIR_WAITING;
    }
}

/* The least promising one that nothing has come of, when there are too many. */
static uint16_t worst(const struct tw_ice *a, uint16_t comp, uint16_t *ret_n)
{
    uint16_t found = NONE;
    *ret_n = 0;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *p = &a->pairs[i];
        if (p->comp != comp)
            continue;
        ++*ret_n;
        if (p->valid || p->triggered || p->old)
            continue;
        if (found == NONE || p->state == PAIR_FAILED ||
            (a->pairs[found].state != PAIR_FAILED && p->priority < a->pairs[found].priority))
            found = i;
    }
    return found;
}

uint16_t ice_pair_add(struct tw_ice *a, uint16_t base, uint16_t remote)
{
    struct pair p = { .base = base, .from = base, .remote = remote, .comp = a->bases[base].comp,
                      .due = TW_NEVER, .check_at = TW_NEVER, .valid_until = TW_NEVER,
                      .look_at = TW_NEVER };
    uint16_t n, i = worst(a, p.comp, &n);
    p.priority = pair_priority(a, &a->bases[base], &a->remotes[remote]);
    p.not_before = a->remotes[remote].via ? a->now + WEB_LATER * a->remotes[remote].via : 0;
    p.permitted = a->bases[base].kind != BASE_RELAY;
    p.state = ice_dialect(a, p.comp)->freeze ? PAIR_FROZEN : PAIR_WAITING;
    if (n >= MAX_PAIRS) {
        if (i == NONE || (a->pairs[i].state != PAIR_FAILED && a->pairs[i].priority >= p.priority))
            return NONE;
    } else {
        if (!ICE_GROW(a, pairs, pair, MAX_PAIRS * 32))
            return NONE;
        i = a->pair_n++;
    }
    a->pairs[i] = p;
    ice_relay_permit(a, &a->pairs[i]);
    if (p.state == PAIR_FROZEN && !group_is_busy(a, &a->pairs[i]))
        a->pairs[i].state = PAIR_WAITING;
    return i;
}

/* From the beginning, after a restart or when the path is lost. */
void ice_pair_retry(struct tw_ice *a, struct pair *p)
{
    if (a->bases[p->base].state == BASE_DEAD)
        p->base = p->from; /* over another connection */
    if (a->bases[p->base].state == BASE_DEAD)
        return;
    p->state = PAIR_WAITING;
    p->why = NULL;
    p->silent = false;
    ice_relay_permit(a, p);
}

/* The pair of a remote with this base, or with a connection that was made from it. */
static uint16_t pair_from(const struct tw_ice *a, uint16_t base, uint16_t remote)
{
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].remote == remote && !a->pairs[i].old && a->pairs[i].from == base)
            return i;
    return NONE;
}

static void try_pair(struct tw_ice *a, uint16_t base, uint16_t remote)
{
    uint16_t i = pair_from(a, base, remote);
    if (!is_worth_it(a, &a->bases[base], &a->remotes[remote]))
        return;
    if (i == NONE) {
        ice_pair_add(a, base, remote);
    } else if (a->pairs[i].state == PAIR_FAILED) { /* of before a restart */
        ice_pair_retry(a, &a->pairs[i]);
    }
}

void ice_pair_local(struct tw_ice *a, uint16_t base)
{
    if (a->cfg.lite)
        return;
    for (uint16_t r = 0; r < a->remote_n; r++)
        if (a->remotes[r].comp == a->bases[base].comp &&
            ice_stream_of(a, a->remotes[r].comp)->begun)
            try_pair(a, base, r);
}

void ice_pair_remote(struct tw_ice *a, uint16_t remote)
{
    if (!ice_stream_of(a, a->remotes[remote].comp)->begun || a->cfg.lite)
        return;
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].state == BASE_OPEN)
            try_pair(a, b, remote);
}

void ice_pair_moves(struct tw_ice *a, uint16_t from, uint16_t to)
{
    for (uint16_t c = 0; c < a->comp_n; c++) {
        if (a->comps[c].path == from)
            a->comps[c].path = to;
        if (a->comps[c].better == from)
            a->comps[c].better = to;
    }
}

/* What is not needed any more once a path stands: those that failed, and towards a peer that nominates
 * once (RFC 8445 §8.1.2) all that were not found valid by then. */
void ice_pairs_trim(struct tw_ice *a, uint16_t comp)
{
    bool all = ice_dialect(a, comp)->freeze;
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->comp == comp && !p->valid && !p->nominate &&
            (p->state == PAIR_FAILED || (all && p->state != PAIR_IN_PROGRESS)))
            continue;
        ice_pair_moves(a, i, kept);
        a->pairs[kept++] = *p;
    }
    a->pair_n = kept;
}
