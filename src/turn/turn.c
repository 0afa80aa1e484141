#include "turn/internal.h"

#include <stdlib.h>

static int copy_config(struct tw_turn *t, const struct tw_turn_config *cfg)
{
    int err = 0;
    t->cfg = *cfg;
    t->cfg.username = t->cfg.password = t->cfg.realm = t->cfg.nonce = t->cfg.software = NULL;
    if (!t->cfg.timing)
        t->cfg.timing = &tw_stun_timing_rfc;
    if (!t->cfg.max_payload)
        t->cfg.max_payload = 1232;
    if (!t->cfg.max_peers)
        t->cfg.max_peers = 32;
    if (cfg->server.family == TW_FAMILY_NONE || t->cfg.max_peers > 1024)
        return TW_EINVAL;
    if (cfg->software) {
        size_t n = strlen(cfg->software);
        if (n >= sizeof(t->software))
            return TW_EINVAL;
        memcpy(t->software, cfg->software, n);
    }
    if (cfg->username && cfg->password) {
        t->has_cred = true;
        err = tw_stun_cred_init(&t->cred, cfg->username, cfg->password);
        if (!err && cfg->realm && cfg->nonce)
            err = tw_stun_cred_preset(&t->cred, cfg->realm, cfg->nonce);
    }
    return err;
}

int tw_turn_new(const struct tw_turn_config *cfg, const struct tw_env *env,
                struct tw_turn **ret_turn)
{
    uint16_t first;
    struct tw_turn *t = calloc(1, sizeof(*t));
    if (!t)
        return TW_ENOMEM;
    t->env = *env;
    t->held_tail = &t->held;
    int err = copy_config(t, cfg);
    if (!err) {
        t->peers = calloc(t->cfg.max_peers, sizeof(*t->peers));
        err = t->peers ? 0 : TW_ENOMEM;
    }
    if (err) {
        tw_turn_free(t);
        return err;
    }
    tw_stun_txn_stop(&t->main.txn);
    t->refresh_at = t->expires_at = TW_NEVER;
    env->rng.fill(env->rng.ctx, &first, sizeof(first));
    t->next_channel = (uint16_t)(CHANNEL_FIRST + first % (CHANNEL_LAST - CHANNEL_FIRST + 1));
    *ret_turn = t;
    return 0;
}

void tw_turn_free(struct tw_turn *t)
{
    if (!t)
        return;
    turn_held_drop(t, NULL);
    turn_held_sent(t);
    tw_stun_cred_fini(&t->cred);
    free(t->peers);
    free(t);
}

/* NULL when the queue is full: then the oldest news is worth more than this. */
struct tw_turn_event *turn_event(struct tw_turn *t, enum tw_turn_event_type type)
{
    if (t->event_at == t->event_n)
        t->event_at = t->event_n = 0;
    if (t->event_n == EVENT_MAX)
        return NULL;
    struct tw_turn_event *ev = &t->events[t->event_n++];
    *ev = (struct tw_turn_event){ .type = type };
    return ev;
}

/* --- ends --------------------------------------------------------------------------------- */

static void stop(struct tw_turn *t)
{
    t->state = TURN_ENDED;
    t->refresh_at = t->expires_at = TW_NEVER;
    t->main.want = false;
    tw_stun_txn_stop(&t->main.txn);
    t->peer_n = t->last_peer = 0;
    turn_held_drop(t, NULL);
    t->event_n = t->event_at = 0; /* the end is the one thing that must get through */
}

static void end(struct tw_turn *t, enum tw_turn_event_type type, unsigned code, const char *why)
{
    stop(t);
    struct tw_turn_event *ev = turn_event(t, type);
    ev->code = code;
    ev->why = why;
}

void turn_lost(struct tw_turn *t, unsigned code, const char *why)
{
    if (t->state == TURN_CLOSING)
        end(t, TW_TURN_CLOSED, 0, "");
    else
        end(t, TW_TURN_LOST, code, why);
}

const char *turn_why_lost(unsigned code)
{
    switch (code) {
    case TW_STUN_CODE_ALLOCATION_MISMATCH:
        return "the server no longer knows the allocation; it may have restarted";
    case TW_STUN_CODE_WRONG_CREDENTIALS:
        return "a NAT on the way has given us the port of another client, who has an allocation there";
    default:
        return NULL;
    }
}

static const char *why_failed(unsigned code)
{
    switch (code) {
    case 0:
        return "the server did not answer";
    case TW_STUN_CODE_UNAUTHENTICATED:
        return "the server does not accept the user name or password";
    case TW_STUN_CODE_FORBIDDEN:
        return "the server does not let this user allocate";
    case TW_STUN_CODE_ALLOCATION_MISMATCH:
        return "the server still has an allocation for this port; use another local port";
    case TW_STUN_CODE_FAMILY_NOT_SUPPORTED:
        return "the server has no relay address of this family";
    case TW_STUN_CODE_UNSUPPORTED_TRANSPORT:
        return "the server does not relay UDP";
    case TW_STUN_CODE_QUOTA_REACHED:
        return "the user's quota on the server is used up";
    case TW_STUN_CODE_INSUFFICIENT_CAPACITY:
        return "the server has no port left, or not the one asked for";
    default:
        return "the server refused";
    }
}

/* --- the main request --------------------------------------------------------------------- */

static void start_main(struct tw_turn *t, enum turn_state state)
{
    t->state = state;
    t->main.challenges = 0;
    tw_stun_txn_start(&t->main.txn, &t->env.rng, t->now);
    t->main.want = tw_stun_txn_step(&t->main.txn, t->cfg.timing, t->cfg.stream, t->now) > 0;
}

int tw_turn_allocate(struct tw_turn *t, tw_time now)
{
    t->now = now;
    if (t->state != TURN_IDLE)
        return TW_ESTATE;
    start_main(t, TURN_ALLOCATING);
    return 0;
}

void tw_turn_close(struct tw_turn *t, tw_time now)
{
    t->now = now;
    switch (t->state) {
    case TURN_CLOSING:
    case TURN_ENDED:
        return;
    case TURN_IDLE:
    case TURN_ALLOCATING:
    case TURN_CLEARING:
        end(t, TW_TURN_CLOSED, 0, "");
        return;
    case TURN_READY:
    case TURN_REFRESHING:
        t->refresh_at = TW_NEVER;
        start_main(t, TURN_CLOSING);
        return;
    }
}

/* Decides about a response before its content counts: 1 it is an answer, 0 it was dealt with. */
int turn_judge(struct tw_turn *t, struct request *rq, const struct tw_stun_msg *m)
{
    enum tw_stun_verdict v = t->has_cred ? tw_stun_cred_judge(&t->cred, m) : TW_STUN_OK;
    if (v == TW_STUN_IGNORE)
        return 0;
    if (v == TW_STUN_RETRY && ++rq->challenges <= MAX_CHALLENGES) {
        tw_time first = rq->txn.first;
        tw_stun_txn_start(&rq->txn, &t->env.rng, t->now);
        rq->txn.first = first;
        rq->want = tw_stun_txn_step(&rq->txn, t->cfg.timing, t->cfg.stream, t->now) > 0;
        return 0;
    }
    rq->want = false;
    if (v == TW_STUN_OK)
        rq->challenges = 0;
    return 1;
}

/* RFC 8656 §8.1; never later than half the lifetime when that is short. */
static void plan_refresh(struct tw_turn *t, uint32_t lifetime)
{
    tw_time life = tw_time_from_sec(lifetime), early = REFRESH_EARLY_SEC * TW_SEC;
    t->lifetime = lifetime;
    t->expires_at = tw_time_add(t->main.txn.first, life);
    t->refresh_at = t->expires_at - (early < life / 2 ? early : life / 2);
}

static bool take_relayed(struct tw_turn *t, const struct tw_stun_msg *m)
{
    struct tw_bytes v;
    struct tw_addr a;
    t->relayed_n = 0;
    for (size_t pos = 0; t->relayed_n < 2 &&
                         tw_stun_next(m, TW_STUN_A_XOR_RELAYED_ADDRESS, &pos, &v);)
        if (tw_stun_read_addr(v, true, m->tid, &a))
            t->relayed[t->relayed_n++] = a;
    return t->relayed_n > 0 && tw_stun_get_addr(m, TW_STUN_A_XOR_MAPPED_ADDRESS, &t->mapped);
}

static void take_ticket(struct tw_turn *t, const struct tw_stun_msg *m)
{
    struct tw_bytes ticket = tw_stun_get(m, TW_STUN_A_MOBILITY_TICKET);
    if (ticket.n == 0 || ticket.n > TICKET_MAX)
        return;
    memcpy(t->ticket, ticket.p, ticket.n);
    t->ticket_n = (uint16_t)ticket.n;
}

static void allocated(struct tw_turn *t, const struct tw_stun_msg *m)
{
    uint32_t lifetime;
    if (m->unknown_n || !tw_stun_get_u32(m, TW_STUN_A_LIFETIME, &lifetime) || !take_relayed(t, m)) {
        end(t, TW_TURN_FAILED, 0, "the server's answer lacks the relayed address or the lifetime");
        return;
    }
    tw_stun_txn_stop(&t->main.txn);
    t->state = TURN_READY;
    plan_refresh(t, lifetime);
    take_ticket(t, m);
    struct tw_turn_event *ev = turn_event(t, TW_TURN_ALLOCATED);
    if (!ev)
        return;
    memcpy(ev->relayed, t->relayed, sizeof(t->relayed));
    ev->relayed_n = t->relayed_n;
    ev->mapped = t->mapped;
    ev->lifetime = lifetime;
    ev->mobile = t->ticket_n > 0;
    ev->has_token = tw_stun_has(m, TW_STUN_A_RESERVATION_TOKEN);
    if (ev->has_token)
        memcpy(ev->token, tw_stun_get(m, TW_STUN_A_RESERVATION_TOKEN).p, TW_TURN_TOKEN);
}

/* RFC 8489 §10. True: the Allocate goes on, to another server. */
static bool follow_redirect(struct tw_turn *t, const struct tw_stun_msg *m)
{
    struct tw_addr to;
    if (!tw_stun_get_addr(m, TW_STUN_A_ALTERNATE_SERVER, &to) ||
        to.family != t->cfg.server.family || tw_addr_eq(&to, &t->cfg.server) ||
        t->redirects++ == MAX_REDIRECTS)
        return false;
    if (t->cfg.stream) {
        stop(t);
        turn_event(t, TW_TURN_REDIRECT)->peer = to;
        return true;
    }
    t->cfg.server = to;
    t->cred.ready = t->cred.proven = false; /* the other server has a nonce of its own */
    t->cleared = false;
    start_main(t, TURN_ALLOCATING);
    return true;
}

static void not_moved(struct tw_turn *t, unsigned code, const char *why)
{
    t->moving = false;
    tw_stun_txn_stop(&t->main.txn);
    t->state = TURN_READY;
    t->refresh_at = t->now; /* the old way may still work */
    struct tw_turn_event *ev = turn_event(t, TW_TURN_REFUSED);
    if (ev) {
        ev->code = code;
        ev->why = why;
    }
}

static void moved(struct tw_turn *t, const struct tw_stun_msg *m)
{
    t->moving = false;
    t->cfg.sock = t->move_sock;
    take_ticket(t, m);
    tw_stun_get_addr(m, TW_STUN_A_XOR_MAPPED_ADDRESS, &t->mapped);
    struct tw_turn_event *ev = turn_event(t, TW_TURN_MOVED);
    if (ev)
        ev->mapped = t->mapped;
}

static void main_error(struct tw_turn *t, const struct tw_stun_msg *m)
{
    unsigned code = 0;
    struct tw_bytes reason;
    tw_stun_get_error(m, &code, &reason);
    if (t->moving) {
        not_moved(t, code, "the server refused to move the allocation");
        return;
    }
    if (t->state == TURN_ALLOCATING && code == TW_STUN_CODE_MOBILITY_FORBIDDEN && t->cfg.mobility) {
        t->cfg.mobility = false; /* RFC 8016 §3.1: go on without */
        start_main(t, TURN_ALLOCATING);
        return;
    }
    /* One whose answer did not get here before we gave up, or of a client that is no more. The server ends it for its own
     * user only, so what we ask then is an Allocate in any case. */
    if (t->state == TURN_ALLOCATING && code == TW_STUN_CODE_ALLOCATION_MISMATCH && !t->cleared) {
        t->cleared = true;
        start_main(t, TURN_CLEARING);
        return;
    }
    const char *lost = turn_why_lost(code);
    if (t->state == TURN_CLOSING)
        end(t, TW_TURN_CLOSED, 0, ""); /* 437: it was gone already, which is what we wanted */
    else if (t->state == TURN_REFRESHING)
        turn_lost(t, code, lost ? lost : "the server refused to refresh the allocation");
    else if (code != TW_STUN_CODE_TRY_ALTERNATE || !follow_redirect(t, m))
        end(t, TW_TURN_FAILED, code, why_failed(code));
}

static void refreshed(struct tw_turn *t, const struct tw_stun_msg *m)
{
    uint32_t lifetime;
    if (t->state == TURN_CLOSING) {
        end(t, TW_TURN_CLOSED, 0, "");
        return;
    }
    tw_stun_txn_stop(&t->main.txn);
    t->state = TURN_READY;
    plan_refresh(t, tw_stun_get_u32(m, TW_STUN_A_LIFETIME, &lifetime) && lifetime ? lifetime
                                                                                 : t->lifetime);
    if (t->moving)
        moved(t, m);
}

static void main_response(struct tw_turn *t, const struct tw_stun_msg *m)
{
    unsigned expected = t->state == TURN_ALLOCATING ? TW_STUN_ALLOCATE : TW_STUN_REFRESH;
    if (m->method != expected || !turn_judge(t, &t->main, m))
        return;
    if (t->state == TURN_CLEARING)
        start_main(t, TURN_ALLOCATING);
    else if (m->cls == TW_STUN_ERROR)
        main_error(t, m);
    else if (t->state == TURN_ALLOCATING)
        allocated(t, m);
    else
        refreshed(t, m);
}

/* --- verbs about peers -------------------------------------------------------------------- */

static int want_peer(struct tw_turn *t, tw_time now, const struct tw_addr *addr, bool channel)
{
    t->now = now;
    if (t->state != TURN_READY && t->state != TURN_REFRESHING)
        return TW_ESTATE;
    if (!turn_has_family(t, addr))
        return TW_EINVAL;
    struct peer *p = turn_peer_add(t, addr);
    if (!p)
        return TW_EFULL;
    bool have = channel ? p->bound_until > now : p->permitted_until > now;
    p->keep = true;
    if (channel)
        p->want_channel = true;
    if (!have)
        turn_peer_start(t, p);
    return 0;
}

int tw_turn_permit(struct tw_turn *t, tw_time now, const struct tw_addr *peer)
{
    t->now = now;
    struct peer *p = turn_peer_sharing(t, peer);
    if (!p)
        return want_peer(t, now, peer, false);
    p->used_at = now;
    return 0;
}

int tw_turn_bind(struct tw_turn *t, tw_time now, const struct tw_addr *peer)
{
    return want_peer(t, now, peer, true);
}

int tw_turn_connect(struct tw_turn *t, tw_time now, const struct tw_addr *addr)
{
    t->now = now;
    if (!t->cfg.tcp || (t->state != TURN_READY && t->state != TURN_REFRESHING))
        return TW_ESTATE;
    if (!turn_has_family(t, addr))
        return TW_EINVAL;
    struct peer *p = turn_peer_add(t, addr);
    if (!p)
        return TW_EFULL;
    p->want_connect = true;
    turn_peer_start(t, p);
    return 0;
}

int tw_turn_move(struct tw_turn *t, tw_time now, uint32_t sock)
{
    t->now = now;
    if (t->ticket_n == 0 || (t->state != TURN_READY && t->state != TURN_REFRESHING))
        return TW_ESTATE;
    t->moving = true;
    t->move_sock = sock;
    t->refresh_at = TW_NEVER;
    start_main(t, TURN_REFRESHING);
    return 0;
}

void tw_turn_forget(struct tw_turn *t, const struct tw_addr *peer)
{
    struct peer *p = turn_peer_find(t, peer);
    if (p)
        p->keep = p->want_channel = false;
}

bool tw_turn_is_permitted(const struct tw_turn *t, tw_time now, const struct tw_addr *peer)
{
    return turn_peer_permitting(t, now, peer) != NULL;
}

bool tw_turn_is_bound(const struct tw_turn *t, tw_time now, const struct tw_addr *peer)
{
    for (uint16_t i = 0; i < t->peer_n; i++)
        if (tw_addr_eq(&t->peers[i].addr, peer))
            return t->peers[i].bound_until > now;
    return false;
}

/* --- the machine's doors ------------------------------------------------------------------ */

static void response(struct tw_turn *t, const struct tw_stun_msg *m)
{
    if (tw_stun_txn_is(&t->main.txn, m->tid)) {
        main_response(t, m);
        return;
    }
    for (uint16_t i = 0; i < t->peer_n; i++) {
        struct peer *p = &t->peers[i];
        if (tw_stun_txn_is(&p->rq.txn, m->tid)) {
            turn_peer_response(t, p, m);
            return;
        }
    }
}

/* RFC 6062 §4.5. Only from peers we gave permission to. */
static void attempt(struct tw_turn *t, const struct tw_stun_msg *m)
{
    struct tw_addr peer;
    uint32_t connection;
    if (!t->cfg.tcp || m->unknown_n || !tw_stun_get_u32(m, TW_STUN_A_CONNECTION_ID, &connection) ||
        !tw_stun_get_addr(m, TW_STUN_A_XOR_PEER_ADDRESS, &peer) || !turn_peer_permitting(t, t->now, &peer))
        return;
    struct tw_turn_event *ev = turn_event(t, TW_TURN_ATTEMPT);
    if (!ev)
        return;
    ev->peer = peer;
    ev->connection = connection;
}

int tw_turn_recv(struct tw_turn *t, tw_time now, const struct tw_datagram *in)
{
    if (in->iov_n != 1 || !tw_addr_eq(&in->src, &t->cfg.server))
        return TW_EMALFORMED;
    t->now = now;
    t->in = *in;
    t->in_bytes = in->iov[0];
    t->in_off = 0;
    for (size_t off = 0, n; off < t->in_bytes.n; off += n) {
        struct tw_stun_msg m;
        n = turn_next_piece(t, off);
        if (n == 0)
            return TW_EMALFORMED;
        if (t->in_bytes.p[off] >> 6 != 0 ||
            tw_stun_decode(tw_bytes(t->in_bytes.p + off, n), &m) || m.bad_attr)
            continue;
        if (m.cls == TW_STUN_SUCCESS || m.cls == TW_STUN_ERROR)
            response(t, &m);
        else if (m.cls == TW_STUN_INDICATION && m.method == TW_STUN_CONNECTION_ATTEMPT)
            attempt(t, &m);
    }
    return 0;
}

static void main_tick(struct tw_turn *t)
{
    if (t->state == TURN_READY && t->refresh_at <= t->now) {
        t->refresh_at = TW_NEVER;
        start_main(t, TURN_REFRESHING);
    }
    int step = tw_stun_txn_step(&t->main.txn, t->cfg.timing, t->cfg.stream, t->now);
    if (step > 0)
        t->main.want = true;
    else if (step < 0 && (t->state == TURN_ALLOCATING || t->state == TURN_CLEARING))
        end(t, TW_TURN_FAILED, 0, why_failed(0));
    else if (step < 0 && t->moving)
        not_moved(t, 0, "the server does not answer on the new way");
    else if (step < 0)
        turn_lost(t, 0, "the server does not answer any more");
}

/* What is asked for them, is asked while there is an allocation. */
static bool has_peers(const struct tw_turn *t)
{
    return t->state == TURN_READY || t->state == TURN_REFRESHING;
}

void tw_turn_tick(struct tw_turn *t, tw_time now)
{
    t->now = now;
    main_tick(t);
    for (uint16_t i = 0; i < t->peer_n && has_peers(t); i++)
        turn_peer_tick(t, &t->peers[i]);
}

static bool request_out(struct tw_turn *t, struct tw_bytes bytes, struct tw_datagram *ret_out)
{
    t->iov[0] = bytes;
    *ret_out = (struct tw_datagram){ .sock = t->cfg.sock, .dst = t->cfg.server, .iov = t->iov,
                                     .iov_n = 1 };
    return bytes.n > 0;
}

bool tw_turn_poll_tx(struct tw_turn *t, struct tw_datagram *ret_out)
{
    if (t->has_out || turn_held_out(t)) {
        t->has_out = false;
        *ret_out = t->out;
        return true;
    }
    if (t->main.want) {
        t->main.want = false;
        if (request_out(t, turn_build_main(t), ret_out)) {
            if (t->moving)
                ret_out->sock = t->move_sock;
            return true;
        }
    }
    for (uint16_t i = 0; i < t->peer_n; i++) {
        struct peer *p = &t->peers[i];
        if (!p->rq.want)
            continue;
        p->rq.want = false;
        if (request_out(t, turn_build_peer(t, p), ret_out))
            return true;
    }
    return false;
}

bool tw_turn_poll_event(struct tw_turn *t, struct tw_turn_event *ret_event)
{
    if (t->event_at < t->event_n) {
        *ret_event = t->events[t->event_at++];
        return true;
    }
    return turn_next_data(t, ret_event);
}

tw_time tw_turn_deadline(const struct tw_turn *t)
{
    tw_time at = tw_time_min(t->main.txn.due, t->refresh_at);
    for (uint16_t i = 0; i < t->peer_n && has_peers(t); i++)
        at = tw_time_min(at, turn_peer_deadline(&t->peers[i]));
    return at;
}
