/* Connectivity checks (RFC 8445 §7): sending them, answering them, taking the answers. */
#include "ice/internal.h"

#include <stdio.h>

/* --- how much goes to an address that does not answer ------------------------------------------------ */

static struct target *target_of(struct tw_ice *a, const struct tw_addr *addr)
{
    struct tw_addr ip = tw_addr_ip_only(addr);
    for (uint16_t i = 0; i < a->target_n; i++)
        if (tw_addr_eq(&a->targets[i].ip, &ip))
            return &a->targets[i];
    if (!ICE_GROW(a, targets, target, MAX_TARGETS))
        return NULL;
    a->targets[a->target_n] = (struct target){ .ip = ip, .first = a->now };
    return &a->targets[a->target_n++];
}

/* Of what such an address may get, some is kept for later: the peer's NAT, or its relay, may not have been told of
 * us when the first packets came. */
static uint8_t silent_max(const struct tw_ice *a, const struct target *t)
{
    static const tw_time later[] = { 8 * TW_SEC, 4 * TW_SEC, 2 * TW_SEC, TW_SEC };
    uint8_t max = SILENT_MAX;
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
        max = (uint8_t)(max - (a->now - t->first < later[i]));
    return max;
}

/* A server of ours that has answered is no stranger; the peer's relay may be on it. */
static bool is_familiar(const struct tw_ice *a, const struct tw_addr *addr)
{
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].ready && tw_addr_eq_ip(&a->servers[a->relays[i].server].addr, addr))
            return true;
    return false;
}

/* Takes one packet from what may go to an address that has answered no check. A check with our
 * password from there makes it less of a stranger, but whoever knows the password can forge where a
 * check seems to come from. */
static bool may_send(struct tw_ice *a, const struct base *b, struct remote *r)
{
    if (r->answered || b->kind == BASE_CONN)
        return true;
    if (r->proved) {
        if (r->unanswered < PROVED_MAX) {
            r->unanswered++;
            return true;
        }
        a->stats.withheld++;
        return false;
    }
    if (is_familiar(a, &r->addr) && r->unanswered < PROVED_MAX) {
        r->unanswered++;
        return true;
    }
    struct target *t = target_of(a, &r->addr);
    if (!t || (t->silent >= silent_max(a, t) && !ice_probe_allows(a, &r->addr))) {
        a->stats.withheld++;
        return false;
    }
    if (t->silent < SILENT_MAX)
        t->silent++;
    return true;
}

/* --- building ---------------------------------------------------------------------------------------- */

struct tw_bytes ice_check_build(struct tw_ice *a, uint16_t comp, uint16_t order,
                                const uint8_t tid[TW_STUN_TID], const struct pair *p)
{
    char name[2 * TW_ICE_CRED_MAX + 2];
    struct tw_stun_enc e;
    const struct stream *st = ice_stream_of(a, comp);
    bool old = p && p->old;
    const struct creds *theirs = old ? &st->old_remote : &st->remote;
    const struct creds *ours = old && st->old_local.ufrag ? &st->old_local : &st->local;
    uint8_t transport = p && a->bases[p->base].kind == BASE_CONN ? TW_ICE_TCP_ACTIVE : TW_ICE_UDP;
    if (!theirs->ufrag)
        return tw_bytes(NULL, 0);
    int n = snprintf(name, sizeof(name), "%s:%s", theirs->ufrag, ours->ufrag);
    tw_stun_begin(&e, a->build, sizeof(a->build), TW_STUN_REQUEST, TW_STUN_BINDING, tid);
    tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes(name, (size_t)n));
    tw_stun_add_u32(&e, TW_STUN_A_PRIORITY,
                    ice_priority(a, TW_ICE_PRFLX, transport, order, comp));
    tw_stun_add_u64(&e, a->controlling ? TW_STUN_A_ICE_CONTROLLING : TW_STUN_A_ICE_CONTROLLED,
                    a->tiebreaker);
    if (p && p->use_candidate) {
        tw_stun_add_flag(&e, TW_STUN_A_USE_CANDIDATE);
        if (st->renomination || st->own)
            tw_stun_add_u32(&e, TW_STUN_A_NOMINATION, p->nomination);
    }
    if (st->own) {
        struct own_info info;
        ice_probe_fill(a, &info);
        info.received = p ? p->data_received : 0;
        ice_own_write(&e, &info);
    }
    /* RFC 7982: which transmission an answer is to, so that the round trip is known for sure. */
    if (p && st->own)
        tw_stun_add_u32(&e, TW_STUN_A_TRANSMIT_COUNTER, (uint32_t)(p->transmissions + 1) << 8);
    tw_stun_add_integrity(&e, tw_bytes_str(theirs->pwd));
    tw_stun_add_fingerprint(&e);
    return tw_stun_end(&e) ? tw_bytes(NULL, 0) : tw_bytes(e.w.p, e.w.n);
}

static bool send_check(struct tw_ice *a, struct pair *p)
{
    const struct base *b = &a->bases[p->base];
    struct remote *r = &a->remotes[p->remote];
    p->want_tx = false;
    if (!may_send(a, b, r))
        return false;
    struct tw_bytes m = ice_check_build(a, p->comp, ice_base_order(a, b), p->tid, p);
    if (!m.n || ice_emit(a, p->base, &r->addr, m, 0, true))
        return false;
    if (p->sent <= 1 && !p->transmissions)
        p->first_sent = a->now;
    if (p->transmissions < 8) {
        p->sends[p->transmissions].data_sent = p->data_sent;
        p->sends[p->transmissions++].after = (uint32_t)((a->now - p->first_sent) / TW_USEC);
    }
    a->stats.checks_sent++;
    return true;
}

static bool send_answer(struct tw_ice *a, const struct answer *w)
{
    struct tw_stun_enc e;
    const struct stream *st = &a->streams[w->stream];
    const struct creds *c = w->old ? &st->old_local : &st->local;
    if (a->bases[w->base].state != BASE_OPEN || !c->pwd)
        return false;
    tw_stun_begin(&e, a->build, sizeof(a->build), w->code ? TW_STUN_ERROR : TW_STUN_SUCCESS,
                  TW_STUN_BINDING, w->tid);
    if (w->code)
        tw_stun_add_error(&e, w->code, tw_bytes_str(tw_stun_reason(w->code)));
    else
        tw_stun_add_addr(&e, TW_STUN_A_XOR_MAPPED_ADDRESS, &w->dst);
    if (w->counter)
        tw_stun_add_u32(&e, TW_STUN_A_TRANSMIT_COUNTER, w->counter | 1);
    if (w->own) {
        struct own_info info;
        ice_probe_fill(a, &info);
        info.received = w->received;
        ice_own_write(&e, &info);
    }
    tw_stun_add_integrity(&e, tw_bytes_str(c->pwd));
    tw_stun_add_fingerprint(&e);
    return tw_stun_end(&e) == 0 &&
           ice_emit(a, w->base, &w->dst, tw_bytes(e.w.p, e.w.n), 0, true) == 0;
}

bool ice_check_tx(struct tw_ice *a)
{
    while (a->answer_n) {
        struct answer w = a->answers[0];
        a->answer_n--;
        memmove(a->answers, a->answers + 1, a->answer_n * sizeof(w));
        if (send_answer(a, &w))
            return true;
    }
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].want_tx && send_check(a, &a->pairs[i]))
            return true;
    return false;
}

/* --- when -------------------------------------------------------------------------------------------- */

static void connect_pair(struct tw_ice *a, struct pair *p)
{
    const struct base from = a->bases[p->base];
    struct tw_addr local = from.local;
    if (a->remotes[p->remote].transport != TW_ICE_TCP_SO)
        local.port = 0;
    uint16_t b = ice_base_add(a, BASE_CONN, p->comp, &local);
    if (b == NONE) {
        ice_pair_fail(a, p, "too many connections");
        return;
    }
    a->bases[b].order = from.order;
    a->bases[b].parent = p->base;
    a->bases[b].via = a->remotes[p->remote].via;
    a->bases[b].remote = a->remotes[p->remote].addr;
    p->base = b;
    p->opening = true;
    p->state = PAIR_IN_PROGRESS;
    p->due = a->now + 10 * TW_SEC;
    ice_note(a, TW_ICE_OPEN, b, a->bases[b].sock);
}

/* The peer connects too, but its packet was not there yet and some NAT refused ours: again, a few times. */
void ice_check_refused(struct tw_ice *a, uint16_t base)
{
    enum { CONNECTS = 5 };
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->base != base)
            continue;
        if (a->remotes[p->remote].transport != TW_ICE_TCP_SO || ++p->connects >= CONNECTS) {
            ice_pair_fail(a, p, "the connection was not accepted");
            continue;
        }
        p->base = p->from;
        p->opening = false;
        p->sent = 0;
        p->due = a->now + (100 * TW_MSEC << p->connects);
    }
}

/* A new transaction: the first check, a triggered one, a nomination, or a look whether it still works. */
void ice_check_start(struct tw_ice *a, struct pair *p)
{
    if (a->bases[p->base].kind == BASE_LISTEN) {
        connect_pair(a, p);
        return;
    }
    ice_draw_tid(a, p->tid);
    p->sent = p->transmissions = 0;
    p->due = a->now;
    p->check_at = TW_NEVER;
    if (!p->valid)
        p->state = PAIR_IN_PROGRESS;
}

/* When an answer is overdue, of a pair whose round trip is known. */
static tw_time answer_time(const struct pair *p)
{
    return p->rtt + p->rtt / 4 + 10 * TW_MSEC;
}

/* RFC 8445 §14.3: RTO = MAX(500 ms, Ta * pairs in check). */
static tw_time first_wait(const struct tw_ice *a, const struct pair *p, const struct dialect *d)
{
    unsigned busy = 0;
    if (d->ta == 0) { /* of our kind */
        tw_time rto = p->rtt ? answer_time(p) : d->rto;
        return rto < 200 * TW_MSEC || !p->valid ? rto : 200 * TW_MSEC;
    }
    for (uint16_t i = 0; i < a->pair_n; i++)
        busy += a->pairs[i].state == PAIR_WAITING || a->pairs[i].state == PAIR_IN_PROGRESS;
    return d->ta * busy > d->rto ? d->ta * busy : d->rto;
}

/* The path, and there is no better one. One that failed before may work now, and whoever uses it may know another way. */
static void say_silence(struct tw_ice *a, const struct pair *p)
{
    struct component *c = &a->comps[p->comp];
    if (c->path != (uint16_t)(p - a->pairs))
        return;
    c->search = true;
    ice_note(a, TW_ICE_SILENCE, p->comp, 0);
}

#define SILENT_AGAIN (300 * TW_MSEC)

static void transaction_over(struct tw_ice *a, struct pair *p)
{
    p->due = TW_NEVER;
    if (!p->valid) {
        ice_pair_fail(a, p, p->opening ? "the connection was not accepted" : "no answer");
        return;
    }
    bool before = p->silent;
    p->silent = true;
    p->check_at = a->now + SILENT_AGAIN;
    if (!before)
        say_silence(a, p);
}

#define HEARD (100 * TW_MSEC)
#define STREAM_ANSWER (8 * TW_SEC)    /* so long TCP may repeat until a check over it has failed, */
#define STREAM_SILENT (700 * TW_MSEC) /* and so much more than three round trips until another pair carries the data */

/* Another one carries the data until it answers again. While data still comes over it, a check that is not answered is late behind
 * much else. */
static void fall_silent(struct tw_ice *a, struct pair *p)
{
    if (!p->valid || ice_dialect(a, p->comp)->freeze || p->silent || a->now - p->last_heard < HEARD)
        return;
    p->silent = true;
    if (a->bases[p->base].mapped.family)
        ice_map_refresh(a);
    if (a->comps[p->comp].path == (uint16_t)(p - a->pairs))
        ice_lifetime_reset(a); /* has the NAT forgotten it? */
    ice_select_valid(a, (uint16_t)(p - a->pairs));
    say_silence(a, p);
}

/* A check over a stream is sent once. */
static void step_stream(struct tw_ice *a, struct pair *p)
{
    tw_time patience = 3 * p->rtt + STREAM_SILENT;
    bool waits = p->valid && patience < STREAM_ANSWER;
    if (p->sent >= (waits ? 2 : 1)) {
        transaction_over(a, p);
        return;
    }
    p->want_tx = p->sent == 0;
    if (p->sent++)
        fall_silent(a, p);
    p->due = a->now + (!waits ? STREAM_ANSWER : p->sent == 1 ? patience : STREAM_ANSWER - patience);
}

/* A path is silent when a check has been sent so often, and that is two round trips and a little ago. */
enum { SILENT_AFTER = 3 };
static tw_time silent_at(const struct pair *p)
{
    return p->first_sent + ice_pair_patience(p);
}

static tw_time next_wait(const struct tw_ice *a, const struct pair *p, const struct dialect *d)
{
    tw_time wait = tw_time_min(first_wait(a, p, d) << p->sent, d->rto_max);
    if (p->silent) /* for half a minute at most: then consent is over */
        return tw_time_min(wait, SILENT_AGAIN);
    if (!p->valid || d->freeze || p->sent < SILENT_AFTER - 1 || a->now >= silent_at(p))
        return wait;
    tw_time until_silent = silent_at(p) - a->now; /* but the last of them may be answered, too */
    return tw_time_min(wait, until_silent > answer_time(p) ? until_silent : answer_time(p));
}

static void step(struct tw_ice *a, struct pair *p)
{
    const struct dialect *d = ice_dialect(a, p->comp);
    const struct base *b = &a->bases[p->base];
    unsigned sends = b->kind == BASE_RELAY ? d->relay_sends : d->sends;
    if (p->opening && b->state == BASE_OPEN) {
        p->opening = false;
        ice_check_start(a, p);
    }
    if (p->due > a->now || p->due == TW_NEVER)
        return;
    if (b->kind == BASE_LISTEN) {
        connect_pair(a, p);
        return;
    }
    if (b->kind == BASE_CONN && !p->opening) {
        step_stream(a, p);
        return;
    }
    if (p->opening || p->sent >= sends) {
        transaction_over(a, p);
        return;
    }
    tw_time wait = next_wait(a, p, d);
    p->sent++;
    p->want_tx = true;
    if (p->sent > SILENT_AFTER && a->now >= silent_at(p))
        fall_silent(a, p);
    p->due = a->now + (p->sent < sends ? wait : wait * d->rm > d->late ? wait * d->rm : d->late);
}

static struct pair *next_waiting(struct tw_ice *a)
{
    struct pair *best = NULL;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->state == PAIR_WAITING && p->permitted && p->not_before <= a->now && ice_stream_of(a, p->comp)->begun &&
            (!best || p->priority > best->priority))
            best = p;
    }
    return best;
}

/* RFC 8445 §6.1.4.2: one at a time, Ta apart; peers of our kind get them at once. */
static void start_waiting(struct tw_ice *a)
{
    unsigned started = 0;
    while (a->now >= a->pace_at) {
        struct pair *p = next_waiting(a);
        if (!p) {
            ice_pairs_unfreeze(a, NULL);
            p = next_waiting(a);
        }
        if (!p)
            return;
        const struct dialect *d = ice_dialect(a, p->comp);
        ice_check_start(a, p);
        if (++started >= d->burst)
            a->pace_at = a->now + (d->ta ? d->ta : 5 * TW_MSEC);
    }
    if (!next_waiting(a)) /* for the next Ta */
        ice_pairs_unfreeze(a, NULL);
}

/* What was to be tried a little later, and is not needed: there is a direct way. */
static void drop_late(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        uint16_t path = a->comps[p->comp].path;
        if (p->state == PAIR_WAITING && p->not_before && p->not_before <= a->now && path != NONE &&
            !ice_is_relayed(a, &a->pairs[path]))
            ice_pair_fail(a, p, "not needed");
    }
}

static void look_whether_stopped(const struct tw_ice *a, struct pair *p)
{
    bool stopped = a->now - p->last_heard >= STOPPED;
    p->look_at = stopped ? TW_NEVER : p->last_heard + STOPPED;
    if (stopped && p->data_received - p->look_from >= FLOW && p->valid && p->due == TW_NEVER)
        p->check_at = a->now;
}

void ice_check_tick(struct tw_ice *a)
{
    if (a->cfg.lite)
        return;
    drop_late(a);
    start_waiting(a);
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (p->look_at <= a->now)
            look_whether_stopped(a, p);
        if (p->valid && p->check_at <= a->now)
            ice_check_start(a, p);
        step(a, p);
    }
}

tw_time ice_check_deadline(const struct tw_ice *a)
{
    tw_time at = TW_NEVER;
    if (a->cfg.lite)
        return at;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *p = &a->pairs[i];
        at = tw_time_min(at, tw_time_min(tw_time_min(p->due, p->check_at), p->look_at));
        if (p->state == PAIR_WAITING && p->permitted && a->streams[p->comp / a->cfg.components].begun)
            at = tw_time_min(at, p->not_before > a->now ? p->not_before : a->pace_at);
    }
    return at;
}

/* --- requests ---------------------------------------------------------------------------------------- */

/* RFC 8445 §7.3: "our ufrag:theirs" and our password. 1: the credentials we have; 2: those of before
 * the restart; 0: neither. */
static int judge(const struct stream *st, const struct tw_stun_msg *m)
{
    struct tw_bytes name = tw_stun_get(m, TW_STUN_A_USERNAME);
    const struct creds *mine[] = { &st->local, &st->old_local };
    for (int i = 0; i < 2; i++) {
        size_t n = mine[i]->ufrag ? strlen(mine[i]->ufrag) : 0;
        if (n && name.n > n && name.p[n] == ':' && memcmp(name.p, mine[i]->ufrag, n) == 0 &&
            tw_stun_verify(m, tw_bytes_str(mine[i]->pwd)))
            return i + 1;
    }
    return 0;
}

static void switch_role(struct tw_ice *a, bool controlling)
{
    a->controlling = controlling;
    ice_pairs_recompute(a);
    for (uint16_t i = 0; i < a->pair_n; i++)
        a->pairs[i].use_candidate = false;
}

/* RFC 8445 §7.3.1.1. False: answer 487, the peer has to change. */
static bool settle_roles(struct tw_ice *a, const struct tw_stun_msg *m)
{
    enum tw_stun_attr same = a->controlling ? TW_STUN_A_ICE_CONTROLLING : TW_STUN_A_ICE_CONTROLLED;
    if (!tw_stun_has(m, same))
        return true;
    bool greater = a->tiebreaker >= tw_get_u64(tw_stun_get(m, same).p);
    if (a->cfg.lite) /* RFC 8445 §6.1.1: of a full and a lite one the full one controls */
        return false;
    if (a->controlling == greater)
        return false;
    switch_role(a, greater);
    return true;
}

/* One packet for one that had our password, and no bigger: to be answered is owed to the peer. */
static void answer(struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m, struct answer w)
{
    if (a->answer_n == MAX_ANSWERS)
        return;
    w.base = base;
    tw_stun_get_u32(m, TW_STUN_A_TRANSMIT_COUNTER, &w.counter);
    w.stream = (uint8_t)(a->bases[base].comp / a->cfg.components);
    memcpy(w.tid, m->tid, sizeof(w.tid));
    a->answers[a->answer_n++] = w;
}

/* RFC 8445 §7.3.1.4: a check of ours the same way, at once. One in flight was perhaps stopped by the
 * peer's NAT, which is open now: it is repeated instead of replaced, so that an answer that is on its way
 * still counts. */
static void trigger(struct tw_ice *a, struct pair *p)
{
    p->triggered = p->permitted = true;
    if (p->valid || !ice_stream_of(a, p->comp)->begun)
        return;
    if (p->state == PAIR_IN_PROGRESS && !p->opening && p->sent && p->due != TW_NEVER) {
        p->want_tx = true;
        return;
    }
    ice_check_start(a, p);
    step(a, p);
}

static void nominated_by_peer(struct tw_ice *a, uint16_t i, const struct tw_stun_msg *m)
{
    struct pair *p = &a->pairs[i];
    p->nomination = 0;
    tw_stun_get_u32(m, TW_STUN_A_NOMINATION, &p->nomination);
    p->nominate = true;
    if (p->valid)
        ice_select_nominated(a, i);
}

/* Two NATs that both map by port, of which one lets everybody in, would lead us from port to port for
 * ever: each of our answers is sent from another one, and makes the peer ask from yet another. */
static bool too_many_faces(const struct tw_ice *a, uint16_t comp, const struct tw_addr *src)
{
    enum { FACES = 6 };
    unsigned n = 0;
    for (uint16_t i = 0; i < a->remote_n; i++)
        n += a->remotes[i].comp == comp && a->remotes[i].type == TW_ICE_PRFLX &&
             !a->remotes[i].answered && tw_addr_eq_ip(&a->remotes[i].addr, src);
    return n >= FACES && !(a->probe && tw_addr_eq_ip(&a->seen, src));
}

/* A lite agent checks nothing (RFC 8445 §2.5): what the peer checks is good, as long as it does. */
static void checked_by_peer(struct tw_ice *a, uint16_t i)
{
    struct pair *p = &a->pairs[i];
    p->valid = true;
    p->state = PAIR_SUCCEEDED;
    p->valid_until = a->now + CONSENT_LIFE;
    p->last_answer = a->now;
    a->remotes[p->remote].answered = true;
    ice_select_valid(a, i);
}

static int on_request(struct tw_ice *a, uint16_t base, const struct tw_addr *src,
                      const struct tw_stun_msg *m, const struct tw_addr *via_relay)
{
    struct own_info info;
    uint32_t priority = 0;
    const struct base *b = &a->bases[base];
    struct stream *st = ice_stream_of(a, b->comp);
    int creds = m->bad_attr || m->unknown_n || !tw_stun_get_u32(m, TW_STUN_A_PRIORITY, &priority)
                    ? 0
                    : judge(st, m);
    if (!creds) { /* not even an error goes back: whoever has no password learns nothing here */
        a->stats.checks_refused++;
        return TW_EAUTH;
    }
    a->stats.checks_received++;
    if (!settle_roles(a, m)) {
        answer(a, base, m, (struct answer){ .code = TW_STUN_CODE_ROLE_CONFLICT, .dst = *src,
                                                  .old = creds == 2 });
        return 0;
    }
    if (b->probe)
        ice_probe_hit(a, base);
    bool tcp = ice_is_stream(b);
    uint16_t r = ice_remote_find(a, b->comp, src, tcp, b->via);
    if (r == NONE && !too_many_faces(a, b->comp, src))
        r = ice_remote_learn(a, b->comp, src, tcp, b->via, priority);
    if (r == NONE)
        return TW_EFULL;
    a->remotes[r].proved = true;
    a->remotes[r].metered = st->own && ice_priority_order(priority, tcp) >= METERED;
    bool has_info = st->own && ice_own_read(m, &info);
    if (has_info)
        ice_probe_info(a, &info);
    if (via_relay && a->remotes[r].type != TW_ICE_RELAY && src->family == TW_FAMILY_V4)
        a->seen = *src; /* by our relay, on the open network */
    if (a->remotes[r].unanswered)
        a->remotes[r].unanswered--; /* who asks may be asked */
    uint16_t i = ice_pair_find(a, base, r, creds == 2);
    if (i == NONE && creds == 1)
        i = ice_pair_add(a, base, r);
    answer(a, base, m,
           (struct answer){ .dst = *src, .own = has_info, .old = creds == 2,
                            .received = i == NONE ? 0 : a->pairs[i].data_received });
    if (i == NONE)
        return 0;
    a->pairs[i].last_heard = a->now;
    /* Where the relay sees the peer now, it may be reached directly: its NAT may have moved it. */
    if (via_relay && st->own && a->remotes[r].type == TW_ICE_PRFLX)
        ice_pair_remote(a, r);
    if (a->mux)
        ice_mux_claim(a->mux, a, &a->bases[base].local, src);
    if (a->cfg.lite)
        checked_by_peer(a, i);
    if (tw_stun_has(m, TW_STUN_A_USE_CANDIDATE) && !a->controlling)
        nominated_by_peer(a, i, m);
    if (!a->cfg.lite)
        trigger(a, &a->pairs[i]);
    return 0;
}

/* --- responses --------------------------------------------------------------------------------------- */

static uint16_t pair_of(const struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *p = &a->pairs[i];
        if (p->base == base && p->sent && p->due != TW_NEVER &&
            memcmp(p->tid, m->tid, TW_STUN_TID) == 0)
            return i;
    }
    return NONE;
}

/* The transmission that was answered; 0: it is not certain which. Those who do not say it: the first, as long as no round trip is known. */
static unsigned which_answered(const struct pair *p, const struct tw_stun_msg *m)
{
    uint32_t counter = 0;
    unsigned which = p->transmissions > 1 && p->rtt ? 0 : 1;
    if (tw_stun_get_u32(m, TW_STUN_A_TRANSMIT_COUNTER, &counter))
        which = counter >> 8 & 0xff;
    return which <= p->transmissions ? which : 0;
}

static void measure(struct pair *p, tw_time rtt)
{
    if (!p->rtt || rtt < p->rtt / 2) /* the first over TCP had to wait for a repetition, say */
        p->rtt = rtt > 0 ? rtt : 1;
    else
        p->rtt = (7 * p->rtt + rtt) / 8;
}

/* RFC 8445 §7.2.5.3. */
static void on_success(struct tw_ice *a, uint16_t i, const struct tw_stun_msg *m,
                       const struct tw_addr *mapped)
{
    struct pair *p = &a->pairs[i];
    struct own_info info;
    bool first = !p->valid;
    unsigned which = which_answered(p, m);
    tw_time after = which ? a->now - p->first_sent - p->sends[which - 1].after * TW_USEC : 0;
    if (ice_stream_of(a, p->comp)->own && after > STREAM_ANSWER)
        return; /* it waited in a relay's connection while we slept: that says nothing of now */
    if (which)
        measure(p, after);
    p->due = TW_NEVER;
    bool was_silent = p->silent;
    p->want_tx = p->silent = false;
    p->valid = true;
    if (was_silent)
        say_silence(a, p);
    p->state = PAIR_SUCCEEDED;
    p->last_answer = p->last_heard = a->now;
    a->remotes[p->remote].answered = a->remotes[p->remote].proved = true;
    p->check_at = a->now + ice_keep_interval(a, p);
    if (first && a->bases[p->base].kind == BASE_CONN)
        p->check_at = a->now + TW_SEC; /* one more measurement */
    /* Idle, towards our own kind, it is asked less often than that; the first data asks at once. */
    p->valid_until = CONSENT_LIFE + (p->check_at - a->now > CONSENT_LIFE / 2 ? p->check_at : a->now);
    if (a->mux)
        ice_mux_claim(a->mux, a, &a->bases[p->base].local, &a->remotes[p->remote].addr);
    if (ice_stream_of(a, p->comp)->own && ice_own_read(m, &info)) {
        ice_probe_info(a, &info);
        if (which)
            ice_select_report(a, p, p->sends[which - 1].data_sent, info.received, was_silent);
    }
    if (a->bases[p->base].kind == BASE_UDP && first) {
        ice_nat_sample(a, p->base, &a->remotes[p->remote].addr, mapped, p->first_sent);
        ice_local_add(a, p->base, TW_ICE_PRFLX, mapped, NULL); /* RFC 8445 §7.2.5.3.1 */
        a->pairs[i].translated = !tw_addr_eq(mapped, &a->bases[a->pairs[i].base].local);
    }
    if (first)
        ice_pairs_unfreeze(a, &a->pairs[i]);
    if (a->pairs[i].use_candidate) {
        a->pairs[i].use_candidate = false;
        a->pairs[i].nominate = true;
    }
    if (a->pairs[i].nominate)
        ice_select_nominated(a, i);
    ice_select_valid(a, i);
}

static int on_response(struct tw_ice *a, uint16_t base, const struct tw_addr *src,
                       const struct tw_stun_msg *m)
{
    struct tw_addr mapped;
    struct tw_bytes reason;
    unsigned code = 0;
    uint16_t i = pair_of(a, base, m);
    if (i == NONE)
        return TW_EMALFORMED;
    struct pair *p = &a->pairs[i];
    const struct stream *st = ice_stream_of(a, p->comp);
    const struct creds *theirs = p->old ? &st->old_remote : &st->remote;
    const struct tw_addr *to = &a->remotes[p->remote].addr;
    if (!theirs->pwd || !tw_stun_verify(m, tw_bytes_str(theirs->pwd)))
        return TW_EAUTH;
    /* RFC 8445 §7.2.5.2.1: it must come from where the check went. */
    if (src->port != to->port || memcmp(src->ip, to->ip, sizeof(to->ip)) != 0)
        return TW_EMALFORMED;
    a->stats.responses_received++;
    if (m->cls == TW_STUN_ERROR) {
        if (tw_stun_get_error(m, &code, &reason) && code == TW_STUN_CODE_ROLE_CONFLICT) {
            switch_role(a, !a->controlling);
            ice_check_start(a, p);
            ice_check_tick(a);
        }
        return 0;
    }
    if (m->unknown_n || m->bad_attr ||
        !tw_stun_get_addr(m, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped))
        return TW_EMALFORMED;
    on_success(a, i, m, &mapped);
    return 0;
}

int ice_check_recv(struct tw_ice *a, uint16_t base, const struct tw_addr *src,
                   const struct tw_stun_msg *m, const struct tw_addr *via_relay)
{
    if (m->method != TW_STUN_BINDING)
        return TW_EMALFORMED;
    switch (m->cls) {
    case TW_STUN_REQUEST:
        return on_request(a, base, src, m, via_relay);
    case TW_STUN_SUCCESS:
    case TW_STUN_ERROR:
        return on_response(a, base, src, m);
    default: /* RFC 8445 §11: a Binding indication keeps mappings alive, no more */
        return 0;
    }
}
