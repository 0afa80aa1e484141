/* Which of the valid pairs carries the data: nomination (RFC 8445 §8), consent (RFC 7675), and the
 * choice by what is measured. */
#include "ice/internal.h"

static const tw_time BETTER_FOR = 2 * TW_SEC;  /* so long one must be better than the path */
static const tw_time SETTLED = 5 * TW_SEC;     /* then what is not needed is forgotten */
static const tw_time BAN = 30 * TW_SEC;
static const tw_time FIRST_RETRY = TW_SEC, LAST_RETRY = 64 * TW_SEC;
enum { REPORT_MIN = 20 };                      /* datagrams before a loss says something */

bool ice_is_relayed(const struct tw_ice *a, const struct pair *p)
{
    return a->bases[p->base].kind == BASE_RELAY ||
           a->remotes[p->remote].type == TW_ICE_RELAY;
}

void ice_path_fill(const struct tw_ice *a, const struct pair *p, struct tw_ice_path *ret)
{
    const struct base *b = &a->bases[p->base];
    *ret = (struct tw_ice_path){ .local = b->local, .remote = a->remotes[p->remote].addr,
                                 .local_type = p->translated ? TW_ICE_SRFLX : TW_ICE_HOST, .rtt = p->rtt, .silent = p->silent,
                                 .remote_type = a->remotes[p->remote].type };
    if (b->kind == BASE_RELAY) {
        ret->local_type = TW_ICE_RELAY;
        ret->relay_transport = (uint8_t)a->servers[a->relays[b->relay].server].transport;
        ret->waits = a->bases[a->relays[b->relay].base].waits;
    } else if (b->kind == BASE_CONN) {
        ret->transport = TW_ICE_TCP_ACTIVE;
        ret->via = b->via;
        ret->waits = b->waits;
    }
}

/* While data flows it is looked at often; otherwise so seldom that the NATs just keep their mappings. */
tw_time ice_keep_interval(const struct tw_ice *a, const struct pair *p)
{
    const struct dialect *d = ice_dialect(a, p->comp);
    const struct component *c = &a->comps[p->comp];
    bool is_path = c->path != NONE && &a->pairs[c->path] == p;
    bool is_busy = c->used && a->now - c->used < 2 * d->consent;
    tw_time idle = d->spare ? ice_lifetime_keep(a, d->keep) : d->keep; /* strangers expect consent */
    uint16_t random;
    a->env.rng.fill(a->env.rng.ctx, &random, sizeof(random));
    tw_time interval = !is_busy ? idle : is_path ? d->consent : d->spare;
    if (interval == 0)
        interval = d->consent;
    return interval * 4 / 5 + interval * 2 / 5 * random / 65536; /* RFC 7675 §5.1: 0.8 to 1.2 times */
}

/* --- what a pair is worth ---------------------------------------------------------------------------- */

/* One of ours, or of a peer of our kind's. */
static bool is_metered(const struct tw_ice *a, const struct pair *p)
{
    return ice_base_order(a, &a->bases[p->base]) >= METERED || a->remotes[p->remote].metered;
}

/* As a round trip, longer for what a path has against it. */
static tw_time cost(const struct tw_ice *a, const struct pair *p)
{
    const struct base *b = &a->bases[p->base];
    tw_time c = p->rtt ? p->rtt : 100 * TW_MSEC;
    bool ours = b->kind == BASE_RELAY;
    int relays = ours + (a->remotes[p->remote].type == TW_ICE_RELAY);
    c += c * p->loss / 100; /* ten in a hundred lost: twice as long */
    c += relays * (30 * TW_MSEC + c); /* it costs somebody, and sees who talks with whom */
    if (ours && a->servers[a->relays[b->relay].server].transport != TW_TRANSPORT_UDP)
        c += 10 * TW_MSEC; /* what is lost on the way to it holds up the rest */
    if (b->kind == BASE_CONN)
        c += 30 * TW_MSEC;
    if (p->silent)
        c += 10 * TW_SEC;
    if (p->banned_until > a->now)
        c += 20 * TW_SEC;
    if (is_metered(a, p))
        c += TW_SEC;
    return c + b->order % METERED * TW_MSEC;
}

static bool is_usable(const struct pair *p, uint16_t comp)
{
    return p->comp == comp && p->valid && p->permitted;
}

/* The best one by cost, or, for a peer that nominates once, by priority. */
static uint16_t best(const struct tw_ice *a, uint16_t comp, bool by_cost)
{
    uint16_t found = NONE;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *p = &a->pairs[i], *q = found == NONE ? NULL : &a->pairs[found];
        if (!is_usable(p, comp) || (p->old && q && !q->old))
            continue;
        if (!q || (q->old && !p->old) ||
            (by_cost ? cost(a, p) < cost(a, q)
                     : p->silent != q->silent ? q->silent : p->priority > q->priority))
            found = i;
    }
    return found;
}

uint16_t ice_select_other(const struct tw_ice *a, uint16_t comp)
{
    uint16_t found = NONE;
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (is_usable(&a->pairs[i], comp) && i != a->comps[comp].path && !a->pairs[i].silent && !a->pairs[i].old &&
            (found == NONE || cost(a, &a->pairs[i]) < cost(a, &a->pairs[found])))
            found = i;
    return found;
}

static bool may_change(const struct tw_ice *a, uint16_t comp)
{
    const struct stream *st = &a->streams[comp / a->cfg.components];
    return st->own || st->renomination;
}

/* --- changing it ------------------------------------------------------------------------------------- */

static void say_connected(struct tw_ice *a)
{
    for (uint16_t c = 0; c < a->comp_n; c++)
        if (a->comps[c].path == NONE)
            return;
    a->failed = false;
    if (!a->connected)
        ice_note(a, TW_ICE_CONNECTED, 0, 0);
    a->connected = true;
}

static void take(struct tw_ice *a, uint16_t comp, uint16_t i)
{
    struct component *c = &a->comps[comp];
    uint16_t before = c->path;
    if (before == i)
        return;
    if (before != NONE && a->controlling) /* to come back to it is a choice of its own; an answer that is late makes none */
        a->pairs[before].nominated = a->pairs[before].nominate = a->pairs[before].use_candidate = false;
    c->path = i;
    c->better = NONE;
    c->better_since = TW_NEVER;
    a->stats.path_changes += before != NONE;
    ice_relay_bind(a, &a->pairs[i]);
    ice_note(a, TW_ICE_PATH, comp, 0);
    if (before != NONE && a->pairs[before].old && !a->pairs[i].old)
        ice_pair_fail(a, &a->pairs[before], "replaced after the restart");
    say_connected(a);
}

/* RFC 8445 §8.1.1. Towards a peer that knows renomination, as often as there is reason to. */
static void nominate(struct tw_ice *a, uint16_t i)
{
    struct pair *p = &a->pairs[i];
    p->use_candidate = true;
    p->nomination = ++a->nomination;
    ice_check_start(a, p);
}

void ice_select_nominated(struct tw_ice *a, uint16_t i)
{
    struct pair *p = &a->pairs[i];
    struct component *c = &a->comps[p->comp];
    const struct pair *path = c->path == NONE ? NULL : &a->pairs[c->path];
    p->nominate = false;
    p->nominated = true;
    /* A peer that nominates several without numbering them means the one with the highest priority
     * (RFC 5245 §8.1.1.2), unless that has died. */
    if (path && path != p && path->nominated && !path->old && !path->silent &&
        (p->nomination ? p->nomination < path->nomination : p->priority < path->priority))
        return;
    take(a, p->comp, i);
}

/* Is another pair so much better, for so long, that changing pays? */
static bool pays(struct tw_ice *a, struct component *c, uint16_t i)
{
    const struct pair *path = &a->pairs[c->path], *p = &a->pairs[i];
    if (path->silent || path->banned_until > a->now || path->old)
        return true;
    if (ice_is_relayed(a, path) && !ice_is_relayed(a, p)) {
        c->better_since = TW_NEVER;
        return cost(a, p) < cost(a, path) + 200 * TW_MSEC;
    }
    if (cost(a, p) + cost(a, p) / 4 + 3 * TW_MSEC >= cost(a, path)) {
        c->better_since = TW_NEVER;
        return false;
    }
    if (c->better != i || c->better_since == TW_NEVER) {
        c->better = i;
        c->better_since = a->now;
    }
    return a->now - c->better_since >= BETTER_FOR;
}

/* When the controlling agent makes its choice known: at once, if nothing better can come any more. */
static tw_time nominate_at(const struct tw_ice *a, const struct component *c)
{
    const struct pair *path = &a->pairs[c->path];
    const struct dialect *d = ice_dialect(a, path->comp);
    bool hope = false;
    for (uint16_t i = 0; i < a->pair_n && !hope; i++)
        hope = a->pairs[i].comp == path->comp && !a->pairs[i].valid &&
               a->pairs[i].state != PAIR_FAILED && a->pairs[i].priority > path->priority;
    if (!hope)
        return c->valid_since;
    return c->valid_since + (ice_is_relayed(a, path) ? d->nominate_relay : d->nominate_direct);
}

static bool follows_peer(const struct tw_ice *a, const struct component *c)
{
    const struct pair *path = c->path == NONE ? NULL : &a->pairs[c->path];
    return !a->controlling && path && path->nominated && !path->silent &&
           path->banned_until <= a->now && !path->old;
}

static void choose(struct tw_ice *a, uint16_t comp)
{
    struct component *c = &a->comps[comp];
    bool by_cost = may_change(a, comp);
    uint16_t i = best(a, comp, by_cost);
    if (i == c->path) /* nothing is better any more */
        c->better_since = TW_NEVER;
    if (i == NONE || (a->cfg.lite && c->path != NONE) || follows_peer(a, c))
        return;
    if (c->path == NONE) {
        take(a, comp, i);
    } else if (i != c->path) {
        const struct pair *path = &a->pairs[c->path];
        bool settled = path->nominated && !by_cost && !path->old;
        if (settled ? path->silent : by_cost ? pays(a, c, i) : true)
            take(a, comp, i);
    }
    if (!a->controlling || a->pairs[c->path].nominated || a->pairs[c->path].use_candidate ||
        a->pairs[c->path].old)
        return;
    if (a->now >= nominate_at(a, c))
        nominate(a, c->path);
}

/* A pair has become valid, or was measured again. */
void ice_select_valid(struct tw_ice *a, uint16_t i)
{
    struct component *c = &a->comps[a->pairs[i].comp];
    if (c->valid_since == TW_NEVER)
        c->valid_since = a->now;
    choose(a, a->pairs[i].comp);
}

static void retry_all(struct tw_ice *a, uint16_t comp)
{
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].comp == comp && a->pairs[i].state == PAIR_FAILED && !a->pairs[i].old)
            ice_pair_retry(a, &a->pairs[i]);
    for (uint16_t r = 0; r < a->remote_n; r++)
        if (a->remotes[r].comp == comp)
            ice_pair_remote(a, r);
}

/* The path is gone. Everything is tried again that may work now. */
void ice_select_lost(struct tw_ice *a, uint16_t comp)
{
    struct component *c = &a->comps[comp];
    c->path = NONE;
    c->better = NONE;
    choose(a, comp);
    if (c->path != NONE || a->closing)
        return;
    c->valid_since = TW_NEVER;
    if (a->connected)
        ice_note(a, TW_ICE_DISCONNECTED, comp, 0);
    a->connected = false;
    a->began = a->now;
    ice_map_refresh(a);
    ice_lifetime_reset(a);
    for (uint16_t i = 0; i < a->target_n; i++) /* those that are the peer's start anew */
        for (uint16_t r = 0; r < a->remote_n; r++)
            if (a->remotes[r].proved && tw_addr_eq_ip(&a->remotes[r].addr, &a->targets[i].ip))
                a->targets[i].silent = 0;
    retry_all(a, comp);
}

/* --- what data tells --------------------------------------------------------------------------------- */

static void judge(struct tw_ice *a, struct pair *p, uint32_t sent, uint32_t arrived)
{
    if (sent < REPORT_MIN)
        return;
    if (arrived == 0) {
        p->banned_until = a->now + (BAN << (p->bans < 5 ? p->bans : 5));
        if (p->bans < 5)
            p->bans++;
        p->loss = 1000;
    } else {
        uint32_t lost = arrived < sent ? (sent - arrived) * 1000 / sent : 0;
        p->loss = (uint16_t)((3 * p->loss + lost) / 4);
        p->bans = 0;
        p->banned_until = 0;
    }
    choose(a, p->comp);
}

/* Around a restart two pairs have the same addresses, and the peer counts what comes for one of them. */
static bool has_twin(const struct tw_ice *a, const struct pair *p)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *q = &a->pairs[i];
        if (q != p && q->base == p->base && tw_addr_eq(&a->remotes[q->remote].addr, &a->remotes[p->remote].addr))
            return true;
    }
    return false;
}

/* The peer says how much of data_sent, which is what we had sent over this pair when the check left, had come. was_silent: nor had
 * checks; what was lost then says nothing of data. */
void ice_select_report(struct tw_ice *a, struct pair *p, uint32_t data_sent, uint32_t received, bool was_silent)
{
    uint32_t sent = data_sent - p->marked_sent;
    if (sent < REPORT_MIN && !was_silent)
        return;
    uint32_t arrived = received - p->marked_received;
    p->marked_sent = data_sent;
    p->marked_received = received;
    if (!was_silent && !has_twin(a, p))
        judge(a, p, sent, arrived);
}

void tw_ice_feedback(struct tw_ice *a, tw_time now, unsigned stream, unsigned component,
                     uint32_t acked, uint32_t lost)
{
    const struct component *c = ice_component(a, stream, component);
    a->now = now;
    ice_tape(a->tape, now, "feedback %u %u %u %u", stream, component, acked, lost);
    if (c && c->path != NONE)
        judge(a, &a->pairs[c->path], acked + lost, acked);
}

/* --- trying again ---------------------------------------------------------------------------------- */

/* Chance may have taken all checks of a direct way, or something may have changed meanwhile. Where a
 * relay has seen the peer, that is tried again, less and less often. */
static void retry_direct(struct tw_ice *a, uint16_t comp)
{
    struct component *c = &a->comps[comp];
    bool relayed = c->path != NONE && ice_is_relayed(a, &a->pairs[c->path]);
    if (!relayed || !ice_stream_of(a, comp)->own || !a->seen.family || a->cfg.no_probing) {
        c->retry_at = TW_NEVER;
        c->retry_wait = 0;
        return;
    }
    if (c->retry_at == TW_NEVER) {
        c->retry_wait = FIRST_RETRY;
        c->retry_at = a->now + c->retry_wait;
    }
    if (a->now < c->retry_at)
        return;
    c->retry_wait = 2 * c->retry_wait < LAST_RETRY ? 2 * c->retry_wait : LAST_RETRY;
    c->retry_at = a->now + c->retry_wait;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->comp == comp && p->state == PAIR_FAILED && a->bases[p->base].kind == BASE_UDP &&
            tw_addr_eq_ip(&a->remotes[p->remote].addr, &a->seen))
            ice_pair_retry(a, p);
    }
    ice_check_tick(a);
}

/* One packet to each of its addresses, which opens our NAT for it. */
static void await(struct tw_ice *a)
{
    bool waits = false;
    if (!a->await_until || a->now < a->await_at)
        return;
    for (uint16_t c = 0; c < a->comp_n && a->now < a->await_until; c++)
        if (a->comps[c].path == NONE && ice_stream_of(a, c)->begun) {
            waits = true;
            retry_all(a, c);
        }
    a->await_at = a->now + AWAIT_EVERY;
    if (a->now >= a->await_until)
        a->await_until = 0;
    for (uint16_t r = 0; waits && r < a->remote_n; r++) {
        struct remote *to = &a->remotes[r];
        if (to->unanswered)
            to->unanswered--;
        for (uint16_t i = 0; i < a->target_n; i++)
            if (a->targets[i].silent && tw_addr_eq_ip(&to->addr, &a->targets[i].ip))
                a->targets[i].silent--;
    }
    if (waits)
        ice_check_tick(a);
}

/* --- time -------------------------------------------------------------------------------------------- */

/* RFC 7675 §5.1: without an answer for 30 s nothing more is sent there. */
static void expire(struct tw_ice *a, struct pair *p)
{
    if (p->valid && p->valid_until <= a->now)
        ice_pair_fail(a, p, "it worked, and then there was no answer for 30 s");
}

/* How many of the others are kept as a reserve; the rest stop being checked. */
static void keep_spares(struct tw_ice *a, uint16_t comp)
{
    const struct dialect *d = ice_dialect(a, comp);
    for (;;) {
        uint16_t found = NONE;
        for (uint16_t i = 0; i < a->pair_n; i++) {
            struct pair *p = &a->pairs[i];
            if (!is_usable(p, comp) || i == a->comps[comp].path || p->check_at == TW_NEVER)
                continue;
            if (found == NONE || cost(a, p) > cost(a, &a->pairs[found]))
                found = i;
        }
        unsigned left = 0;
        for (uint16_t i = 0; i < a->pair_n; i++)
            left += is_usable(&a->pairs[i], comp) && i != a->comps[comp].path;
        if (found == NONE || left <= d->spares)
            return;
        ice_pair_fail(a, &a->pairs[found], "it works, but better ones do too");
    }
}

static bool is_settled(const struct tw_ice *a, uint16_t comp)
{
    const struct component *c = &a->comps[comp];
    if (c->path == NONE || c->valid_since == TW_NEVER || a->now < c->valid_since + SETTLED ||
        ice_is_relayed(a, &a->pairs[c->path]) || a->pairs[c->path].old)
        return false;
    return a->pairs[c->path].nominated || !a->controlling;
}

static bool has_excess(const struct tw_ice *a, uint16_t comp)
{
    unsigned n = 0;
    for (uint16_t i = 0; i < a->pair_n; i++)
        n += a->pairs[i].comp == comp;
    return n > 1 + ice_dialect(a, comp)->spares;
}

void ice_select_tick(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->pair_n; i++)
        expire(a, &a->pairs[i]);
    for (uint16_t c = 0; c < a->comp_n; c++) {
        if (a->comps[c].search) {
            retry_all(a, c);
            ice_check_tick(a);
        }
        a->comps[c].search = false;
        choose(a, c);
        retry_direct(a, c);
        if (is_settled(a, c) && has_excess(a, c)) {
            keep_spares(a, c);
            ice_pairs_trim(a, c);
        }
    }
    await(a);
    if (a->began != TW_NEVER && a->now >= a->began + PATIENCE) {
        a->began = TW_NEVER;
        for (uint16_t c = 0; c < a->comp_n && !a->failed; c++)
            if (a->comps[c].path == NONE) {
                a->failed = true;
                ice_note(a, TW_ICE_FAILED, c, 0);
            }
    }
}

tw_time ice_select_deadline(const struct tw_ice *a)
{
    tw_time at = a->began == TW_NEVER ? TW_NEVER : a->began + PATIENCE;
    if (a->await_until)
        at = tw_time_min(at, a->await_at);
    if (a->connected)
        at = TW_NEVER;
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].valid)
            at = tw_time_min(at, a->pairs[i].valid_until);
    for (uint16_t i = 0; i < a->comp_n; i++) {
        const struct component *c = &a->comps[i];
        if (c->path == NONE)
            continue;
        const struct pair *p = &a->pairs[c->path];
        at = tw_time_min(at, c->retry_at);
        if (a->controlling && !p->nominated && !p->use_candidate && !p->old)
            at = tw_time_min(at, nominate_at(a, c));
        if (c->better_since != TW_NEVER && !follows_peer(a, c))
            at = tw_time_min(at, c->better_since + BETTER_FOR);
        if (!ice_is_relayed(a, p) && c->valid_since != TW_NEVER && has_excess(a, i) &&
            (p->nominated || !a->controlling) && a->now < c->valid_since + SETTLED)
            at = tw_time_min(at, c->valid_since + SETTLED);
    }
    return at;
}
