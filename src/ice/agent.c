#include "ice/internal.h"

#include <stdlib.h>

bool ice_grow(void **table, uint16_t *cap, uint16_t n, size_t size, uint16_t max)
{
    if (n >= max)
        return false;
    if (n < *cap)
        return true;
    uint16_t grown = *cap ? (uint16_t)(*cap * 2) : 4;
    if (grown > max)
        grown = max;
    void *bigger = realloc(*table, grown * size);
    if (!bigger)
        return false;
    *table = bigger;
    *cap = grown;
    return true;
}

void ice_note(struct tw_ice *a, enum tw_ice_event_type type, uint16_t index, uint32_t sock)
{
    if (a->note_at == a->note_n)
        a->note_at = a->note_n = 0;
    if (ICE_GROW(a, notes, note, MAX_EVENTS))
        a->notes[a->note_n++] = (struct note){ (uint8_t)type, index, sock };
}

struct stream *ice_stream_of(struct tw_ice *a, uint16_t comp)
{
    return &a->streams[comp / a->cfg.components];
}

struct component *ice_component(const struct tw_ice *a, unsigned stream, unsigned component)
{
    if (stream >= a->cfg.streams || component < 1 || component > a->cfg.components)
        return NULL;
    return &a->comps[stream * a->cfg.components + component - 1];
}

uint8_t ice_component_id(const struct tw_ice *a, uint16_t comp)
{
    return (uint8_t)(comp % a->cfg.components + 1);
}

const struct dialect *ice_dialect(const struct tw_ice *a, uint16_t comp)
{
    return a->streams[comp / a->cfg.components].own ? &ice_dialect_own : &ice_dialect_rfc;
}

/* Transaction ids that lead back to the agent, for sockets that many agents share. */
void ice_draw_tid(struct tw_ice *a, uint8_t tid[TW_STUN_TID])
{
    if (a->mux)
        ice_mux_draw_tid(a->mux, a->tag, &a->env.rng, tid);
    else
        a->env.rng.fill(a->env.rng.ctx, tid, TW_STUN_TID);
}

void ice_txn_start(struct tw_ice *a, struct tw_stun_txn *t)
{
    ice_draw_tid(a, t->tid);
    t->sent = 0;
    t->first = t->due = a->now;
}

/* --- credentials ---------------------------------------------------------------------------------- */

/* RFC 8445 §5.3: 24 bits and 128 bits of randomness at least. Six bits a character. */
static char *draw_text(struct tw_ice *a, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(n + 1);
    if (!text)
        return NULL;
    a->env.rng.fill(a->env.rng.ctx, text, n);
    for (size_t i = 0; i < n; i++)
        text[i] = letters[(uint8_t)text[i] % 64];
    text[n] = 0;
    return text;
}

static void free_creds(struct creds *c)
{
    free(c->ufrag);
    free(c->pwd);
    *c = (struct creds){ 0 };
}

static int draw_creds(struct tw_ice *a, struct creds *ret)
{
    enum { UFRAG = 8, PWD = 24 };
    struct creds c = { draw_text(a, UFRAG), draw_text(a, PWD) };
    int err = c.ufrag && c.pwd ? 0 : TW_ENOMEM;
    if (!err && a->mux)
        err = ice_mux_name(a->mux, a, c.ufrag);
    if (err)
        free_creds(&c);
    else
        *ret = c;
    return err;
}

static void forget_name(struct tw_ice *a, struct creds *c)
{
    if (a->mux && c->ufrag)
        ice_mux_unname(a->mux, a, c->ufrag);
    free_creds(c);
}

/* --- life ----------------------------------------------------------------------------------------- */

static int copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? TW_ENOMEM : 0;
}

static int copy_server(struct tw_ice_server *to, const struct tw_ice_server *from)
{
    char *text[4] = { NULL };
    const char *source[4] = { from->username, from->password, from->realm, from->nonce };
    int err = 0;
    for (int i = 0; i < 4 && !err; i++)
        err = copy_text(&text[i], source[i]);
    *to = *from;
    to->username = text[0];
    to->password = text[1];
    to->realm = text[2];
    to->nonce = text[3];
    return err;
}

int ice_server_add(struct tw_ice *a, const struct tw_ice_server *s)
{
    if (!s->addr.family || !s->addr.port)
        return TW_EINVAL;
    if (a->server_n == TW_ICE_SERVERS_MAX)
        return TW_EFULL;
    return copy_server(&a->servers[a->server_n++], s);
}

static void free_server(struct tw_ice_server *s)
{
    free((char *)(uintptr_t)s->username);
    free((char *)(uintptr_t)s->password);
    free((char *)(uintptr_t)s->realm);
    free((char *)(uintptr_t)s->nonce);
}

int tw_ice_renew_server(struct tw_ice *a, tw_time now, unsigned number, const struct tw_ice_server *s)
{
    struct tw_ice_server fresh;
    a->now = now;
    if (number >= a->server_n)
        return TW_EINVAL;
    if (copy_server(&fresh, s)) {
        free_server(&fresh);
        return TW_ENOMEM;
    }
    fresh.addr = a->servers[number].addr;
    fresh.transport = a->servers[number].transport;
    fresh.turn = a->servers[number].turn;
    ice_tape_renewed(a->tape, number, &a->servers[number]);
    free_server(&a->servers[number]);
    a->servers[number] = fresh;
    ice_tape_server(a->tape, now, &fresh);
    ice_tape(a->tape, now, "renew %u", number);
    ice_relay_renewed(a, number);
    return 0;
}

static int copy_config(struct tw_ice *a, const struct tw_ice_config *cfg)
{
    a->cfg = *cfg;
    a->cfg.servers = NULL;
    a->cfg.allow = a->cfg.deny = NULL;
    if (!a->cfg.streams)
        a->cfg.streams = 1;
    if (!a->cfg.components)
        a->cfg.components = 1;
    if (a->cfg.streams > TW_ICE_STREAMS_MAX || a->cfg.components > TW_ICE_COMPONENTS_MAX ||
        cfg->server_n > TW_ICE_SERVERS_MAX)
        return TW_EINVAL;
    a->cfg.web = NULL;
    if (cfg->web && !ice_is_web_token(cfg->web))
        return TW_EINVAL;
    int err = copy_text(&a->web, cfg->web);
    a->cfg.web = a->web;
    if (!err)
        err = copy_text(&a->allow, cfg->allow);
    if (!err)
        err = copy_text(&a->deny, cfg->deny);
    for (size_t i = 0; i < cfg->server_n && !err; i++)
        err = ice_server_add(a, &cfg->servers[i]);
    return err;
}

static int start(struct tw_ice *a)
{
    a->comp_n = (uint16_t)(a->cfg.streams * a->cfg.components);
    a->comps = calloc(a->comp_n, sizeof(*a->comps));
    if (!a->comps)
        return TW_ENOMEM;
    for (uint16_t c = 0; c < a->comp_n; c++)
        a->comps[c] = (struct component){ .path = NONE, .better = NONE, .valid_since = TW_NEVER,
                                          .better_since = TW_NEVER, .retry_at = TW_NEVER };
    a->env.rng.fill(a->env.rng.ctx, &a->tiebreaker, sizeof(a->tiebreaker));
    a->env.rng.fill(a->env.rng.ctx, &a->seed, sizeof(a->seed));
    if (a->mux) {
        int err = ice_mux_join(a->mux, a, &a->tag);
        if (err) {
            a->mux = NULL;
            return err;
        }
    }
    for (unsigned s = 0; s < a->cfg.streams; s++) {
        int err = draw_creds(a, &a->streams[s].local);
        if (err)
            return err;
        a->streams[s].own = a->cfg.own_peer;
    }
    return 0;
}

int tw_ice_new(const struct tw_ice_config *cfg, const struct tw_env *env, struct tw_ice **ret_ice)
{
    struct tw_ice *a = calloc(1, sizeof(*a));
    if (!a)
        return TW_ENOMEM;
    a->env = *env;
    a->mux = cfg->mux;
    a->controlling = cfg->controlling;
    a->next_sock = 1;
    a->began = a->closing_until = a->gather_until = TW_NEVER;
    ice_lifetime_reset(a);
    int err = copy_config(a, cfg);
    if (!err && cfg->tape.write)
        err = cfg->mux ? TW_EINVAL : ice_tape_new(a, cfg, &a->env.rng, &a->tape);
    if (!err)
        err = start(a);
    else
        a->mux = NULL;
    if (err) {
        tw_ice_free(a);
        return err;
    }
    *ret_ice = a;
    return 0;
}

void tw_ice_free(struct tw_ice *a)
{
    if (!a)
        return;
    ice_probe_end(a);
    for (unsigned s = 0; s < a->cfg.streams && s < TW_ICE_STREAMS_MAX; s++) {
        struct stream *st = &a->streams[s];
        forget_name(a, &st->local);
        forget_name(a, &st->old_local);
        free_creds(&st->remote);
        free_creds(&st->old_remote);
    }
    if (a->mux)
        ice_mux_leave(a->mux, a);
    for (uint16_t i = 0; i < a->relay_n; i++)
        tw_turn_free(a->relays[i].turn);
    for (unsigned i = 0; i < a->server_n; i++)
        free_server(&a->servers[i]);
    for (unsigned i = 0; i < a->gateway_n; i++)
        tw_portmap_free(a->gateways[i].map);
    ice_tape_free(a->tape);
    void *tables[] = { a->allow, a->deny, a->web, a->comps, a->bases, a->locals, a->remotes, a->pairs,
                       a->queries, a->relays, a->targets, a->notes, a->probe, a->allowance };
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        free(tables[i]);
    free(a);
}

/* --- the peer ------------------------------------------------------------------------------------- */

/* RFC 8839 §5.4: ice-char, 4 to 256 and 22 to 256 of them. */
static bool is_cred(const char *text, size_t least)
{
    size_t n = text ? strlen(text) : 0;
    if (n < least || n > TW_ICE_CRED_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

/* Forgets what the peer said before, but for the paths that carry data now. */
static void forget_remote(struct tw_ice *a, unsigned stream)
{
    struct stream *st = &a->streams[stream];
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        if (ice_stream_of(a, p->comp) != st)
            continue;
        if (a->comps[p->comp].path == i)
            p->old = true;
        else
            ice_pair_fail(a, p, "the peer started again");
    }
    free_creds(&st->old_remote);
    st->old_remote = st->remote;
    st->remote = (struct creds){ 0 };
    for (uint16_t i = 0; i < a->remote_n; i++)
        if (ice_stream_of(a, a->remotes[i].comp) == st)
            a->remotes[i].answered = false;
}

void tw_ice_set_controlling(struct tw_ice *a, tw_time now, bool controlling)
{
    a->now = now;
    ice_tape(a->tape, now, "controlling %u", (unsigned)controlling);
    a->controlling = controlling;
}

void tw_ice_await(struct tw_ice *a, tw_time now, tw_time until)
{
    a->now = now;
    ice_tape(a->tape, now, "await %lld", (long long)((until - now) / TW_MSEC));
    a->await_until = until;
    a->await_at = now + AWAIT_EVERY;
}

int tw_ice_set_remote(struct tw_ice *a, tw_time now, unsigned stream, const struct tw_ice_remote *r)
{
    if (stream >= a->cfg.streams)
        return TW_EINVAL;
    if (!is_cred(r->ufrag, 4) || !is_cred(r->pwd, 22))
        return TW_EMALFORMED;
    struct stream *st = &a->streams[stream];
    a->now = now;
    ice_tape(a->tape, now, "remote %u %s %s %u %u %u %u %u", stream, r->ufrag, r->pwd, (unsigned)r->lite,
             (unsigned)r->ice2, (unsigned)r->trickle, (unsigned)r->renomination, (unsigned)r->own);
    bool same = st->remote.ufrag && !strcmp(st->remote.ufrag, r->ufrag) &&
                !strcmp(st->remote.pwd, r->pwd);
    if (!same) {
        struct creds c = { strdup(r->ufrag), strdup(r->pwd) };
        if (!c.ufrag || !c.pwd) {
            free_creds(&c);
            return TW_ENOMEM;
        }
        if (st->remote.ufrag)
            forget_remote(a, stream);
        st->remote = c;
    }
    st->renomination = r->renomination;
    st->own = r->own && !a->cfg.foreign;
    /* RFC 8445 §6.1.1: the full one controls a lite one. */
    if (r->lite && !a->cfg.lite && !a->controlling) {
        a->controlling = true;
        ice_pairs_recompute(a);
    }
    st->begun = true;
    if (a->began == TW_NEVER)
        a->began = now;
    for (uint16_t i = 0; i < a->remote_n; i++) /* checks that came before this */
        if (ice_stream_of(a, a->remotes[i].comp) == st)
            ice_pair_remote(a, i);
    return 0;
}

void tw_ice_remote_end(struct tw_ice *a, tw_time now, unsigned stream)
{
    (void)stream; /* RFC 8863: connectivity is awaited for as long in any case */
    a->now = now;
}

int tw_ice_restart(struct tw_ice *a, tw_time now)
{
    a->now = now;
    ice_tape(a->tape, now, "restart");
    for (unsigned s = 0; s < a->cfg.streams; s++) {
        struct creds fresh;
        int err = draw_creds(a, &fresh);
        if (err)
            return err;
        struct stream *st = &a->streams[s];
        forget_name(a, &st->old_local);
        st->old_local = st->local;
        st->local = fresh;
        forget_remote(a, s);
        st->begun = false;
    }
    a->began = TW_NEVER;
    a->failed = false;
    for (uint16_t i = 0; i < a->local_n; i++)
        ice_local_tell(a, &a->locals[i]);
    a->gathered_said = false;
    return 0;
}

/* --- data ----------------------------------------------------------------------------------------- */

int ice_emit(struct tw_ice *a, uint16_t base, const struct tw_addr *dst, struct tw_bytes data,
             uint8_t tos, bool check)
{
    const struct base *b = &a->bases[base];
    if (b->kind == BASE_RELAY) {
        struct relay *r = &a->relays[b->relay];
        int err = tw_turn_send(r->turn, a->now, dst, data, tos, check ? TW_TURN_BARE : 0);
        r->stirred = true;
        return err;
    }
    a->iov[0] = data;
    a->out = (struct tw_datagram){ .sock = b->sock, .tos = tos, .src = b->local, .dst = *dst,
                                   .iov = a->iov, .iov_n = 1 };
    a->has_out = true;
    return 0;
}

static bool is_doubtful(const struct tw_ice *a, const struct pair *p)
{
    return a->now - p->last_heard >= ice_pair_patience(p);
}

static void check_all(struct tw_ice *a, uint16_t comp)
{
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].comp == comp && a->pairs[i].valid && a->pairs[i].due == TW_NEVER)
            a->pairs[i].check_at = a->now;
}

bool tw_ice_is_doubtful(const struct tw_ice *a, unsigned stream, unsigned component)
{
    const struct component *c = ice_component(a, stream, component);
    /* A check that is on its way: before it, there may just have been nothing to say. */
    return c && c->path != NONE && is_doubtful(a, &a->pairs[c->path]) && a->pairs[c->path].due != TW_NEVER;
}

tw_time tw_ice_answered_at(const struct tw_ice *a, unsigned stream, unsigned component, tw_time *ret_rtt)
{
    const struct component *c = ice_component(a, stream, component);
    if (!c || c->path == NONE)
        return 0;
    *ret_rtt = a->pairs[c->path].rtt;
    return a->pairs[c->path].last_answer;
}

int tw_ice_send_other(struct tw_ice *a, tw_time now, unsigned stream, unsigned component, struct tw_bytes data, uint8_t tos)
{
    const struct component *c = ice_component(a, stream, component);
    a->now = now;
    ice_tape(a->tape, now, "other %u %u %u %u", stream, component, (unsigned)data.n, (unsigned)tos);
    if (!c || c->path == NONE || a->closing)
        return TW_ESTATE;
    uint16_t i = ice_select_other(a, (uint16_t)(c - a->comps));
    if (i == NONE)
        return TW_ENOTFOUND;
    return ice_emit(a, a->pairs[i].base, &a->remotes[a->pairs[i].remote].addr, data, tos, false);
}

int tw_ice_send(struct tw_ice *a, tw_time now, unsigned stream, unsigned component,
                struct tw_bytes data, uint8_t tos)
{
    return tw_ice_send_run(a, now, stream, component, data, 0, tos);
}

int tw_ice_send_run(struct tw_ice *a, tw_time now, unsigned stream, unsigned component,
                    struct tw_bytes data, uint16_t segment, uint8_t tos)
{
    struct component *c = ice_component(a, stream, component);
    if (!c || data.n > MAX_DATA)
        return TW_EINVAL;
    a->now = now;
    ice_tape(a->tape, now, "send %u %u %u %u %u", stream, component, (unsigned)data.n, (unsigned)tos,
             (unsigned)segment);
    if (c->path == NONE || a->closing)
        return TW_ESTATE;
    struct pair *p = &a->pairs[c->path];
    if (segment && a->bases[p->base].kind != BASE_UDP)
        return TW_EUNSUPPORTED;
    bool was_idle = !c->used || now - c->used >= 2 * ice_dialect(a, p->comp)->consent;
    c->used = now;
    int err = ice_emit(a, p->base, &a->remotes[p->remote].addr, data, tos, false);
    if (!err) {
        uint32_t pieces = segment ? (uint32_t)((data.n + segment - 1) / segment) : 1;
        a->out.segment = segment;
        p->data_sent += pieces;
        a->stats.data_sent += pieces;
        /* Nothing comes back: is the way still there? */
        if (ice_stream_of(a, p->comp)->own && p->due == TW_NEVER && is_doubtful(a, p))
            check_all(a, p->comp); /* what is wrong with it may be wrong with others, too */
        if (was_idle) /* the next check comes as soon as a busy path's */
            p->check_at = tw_time_min(p->check_at,
                                      p->last_answer + ice_keep_interval(a, p));
    }
    return err;
}

/* RFC 8445 §11: data may come over any pair. Only from an address that proved to be the peer's. */
void ice_data_recv(struct tw_ice *a, uint16_t base, const struct tw_addr *src, struct tw_bytes data,
                   uint8_t tos)
{
    uint16_t comp = a->bases[base].comp;
    uint16_t r = ice_remote_find(a, comp, src, ice_is_stream(&a->bases[base]), a->bases[base].via);
    if (r == NONE || !a->remotes[r].proved || a->piece_n == MAX_PIECES) {
        a->stats.data_strange++;
        return;
    }
    uint16_t i = ice_pair_find(a, base, r, true);
    if (i == NONE)
        i = ice_pair_find(a, base, r, false);
    if (i != NONE) {
        struct pair *p = &a->pairs[i];
        p->data_received++;
        p->last_heard = a->now;
        if (p->look_at == TW_NEVER && ice_stream_of(a, comp)->own) {
            p->look_at = a->now + STOPPED;
            p->look_from = p->data_received;
        }
    }
    a->comps[comp].used = a->now;
    a->stats.data_received++;
    a->pieces[a->piece_n++] = (struct piece){ data, comp, tos };
}

static int recv_piece(struct tw_ice *a, uint16_t base, const struct tw_datagram *in,
                      struct tw_bytes data)
{
    struct tw_stun_msg m;
    if (data.n >= TW_STUN_HEADER && tw_stun_is(data.p, data.n)) {
        if (tw_stun_decode(data, &m))
            return TW_EMALFORMED;
        if (ice_lifetime_recv(a, base, &m) || ice_gather_response(a, base, &m, &in->src))
            return 0;
        if (a->bases[base].kind == BASE_CANARY)
            return TW_EMALFORMED;
        return ice_check_recv(a, base, &in->src, &m, NULL);
    }
    ice_data_recv(a, base, &in->src, data, in->tos);
    return 0;
}

int tw_ice_recv(struct tw_ice *a, tw_time now, const struct tw_datagram *in)
{
    uint16_t base = ice_base_find(a, in);
    a->now = now;
    ice_tape_recv(a, a->tape, now, in);
    a->piece_n = a->piece_at = 0;
    if (base == NONE || in->iov_n != 1 || a->closed_said)
        return TW_EMALFORMED;
    struct tw_datagram from = *in;
    from.src = ice_inwards(a, &in->src);
    if (a->bases[base].kind == BASE_CONN || a->bases[base].kind == BASE_ASK)
        from.src = a->bases[base].remote;
    struct tw_bytes all = in->iov[0];
    size_t step = in->segment ? in->segment : all.n;
    int err = 0;
    /* RFC 9443: by address first. */
    if (ice_relay_recv(a, base, &from) || ice_map_recv(a, base, &from))
        return 0;
    if (a->bases[base].kind == BASE_TURN)
        return TW_EMALFORMED;
    for (size_t off = 0; off < all.n || off == 0; off += step) {
        size_t n = all.n - off < step ? all.n - off : step;
        err = recv_piece(a, base, &from, tw_bytes(all.p + off, n));
        if (step == 0)
            break;
    }
    return err;
}

/* --- time and outputs ------------------------------------------------------------------------------ */

void tw_ice_close(struct tw_ice *a, tw_time now)
{
    enum { PATIENCE_CLOSING = 1 };
    a->now = now;
    ice_tape(a->tape, now, "close");
    if (a->closing)
        return;
    a->closing = true;
    a->closing_until = now + PATIENCE_CLOSING * TW_SEC;
    ice_probe_end(a);
    ice_map_close(a);
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].turn && !a->relays[i].failed) {
            tw_turn_close(a->relays[i].turn, now);
            a->relays[i].stirred = true;
            ice_relay_events(a, i);
        }
    ice_tick(a);
}

void tw_ice_tick(struct tw_ice *a, tw_time now)
{
    a->now = now;
    ice_tape(a->tape, now, "tick");
    ice_tick(a);
}

void ice_tick(struct tw_ice *a)
{
    tw_time now = a->now;
    a->piece_n = a->piece_at = 0;
    ice_relay_tick(a);
    ice_map_tick(a);
    if (a->closing) {
        bool pending = ice_relay_pending(a) || ice_map_pending(a);
        if (!a->closed_said && (now >= a->closing_until || !pending)) {
            a->closed_said = true;
            for (uint16_t i = 0; i < a->base_n; i++)
                ice_base_kill(a, i);
            ice_note(a, TW_ICE_CLOSED, 0, 0);
        }
        return;
    }
    ice_gather_tick(a);
    ice_check_tick(a);
    ice_select_tick(a);
    ice_probe_tick(a);
    ice_lifetime_tick(a);
}

tw_time tw_ice_deadline(const struct tw_ice *a)
{
    tw_time at = tw_time_min(ice_relay_deadline(a), ice_map_deadline(a));
    if (a->closed_said)
        return TW_NEVER;
    if (a->closing) /* over as soon as all is given back */
        return ice_relay_pending(a) || ice_map_pending(a) ? tw_time_min(at, a->closing_until) : a->now;
    at = tw_time_min(at, ice_gather_deadline(a));
    at = tw_time_min(at, ice_check_deadline(a));
    at = tw_time_min(at, ice_select_deadline(a));
    at = tw_time_min(at, ice_lifetime_deadline(a));
    return tw_time_min(at, ice_probe_deadline(a));
}

static bool next_tx(struct tw_ice *a, struct tw_datagram *ret_out)
{
    for (;;) {
        for (uint16_t i = 0; i < a->relay_n; i++) {
            struct relay *r = &a->relays[i];
            if (r->stirred && r->turn && tw_turn_poll_tx(r->turn, ret_out)) {
                ret_out->src = a->bases[r->base].local;
                return true;
            }
            r->stirred = false;
        }
        if (a->has_out) {
            a->has_out = false;
            *ret_out = a->out;
            return true;
        }
        if (ice_map_tx(a, ret_out))
            return true;
        if (!ice_check_tx(a) && !ice_gather_tx(a) && !ice_probe_tx(a) && !ice_lifetime_tx(a))
            return false;
    }
}

bool tw_ice_poll_tx(struct tw_ice *a, struct tw_datagram *ret_out)
{
    if (!next_tx(a, ret_out)) {
        ice_tape_drained(a->tape, a->now);
        return false;
    }
    ret_out->dst = ice_outwards(a, &ret_out->src, &ret_out->dst);
    ice_tape_sent(a->tape, a->now, ret_out);
    return true;
}

/* --- events ---------------------------------------------------------------------------------------- */

static void fill_open(const struct tw_ice *a, const struct base *b, struct tw_ice_event *ev)
{
    static const enum tw_ice_socket what[] = { TW_ICE_SOCK_UDP, TW_ICE_SOCK_LISTEN,
                                               TW_ICE_SOCK_CONNECT, TW_ICE_SOCK_TURN,
                                               TW_ICE_SOCK_STUN, TW_ICE_SOCK_UDP,
                                               TW_ICE_SOCK_UDP };
    ev->socket = what[b->kind];
    ev->exclusive = b->exclusive || b->kind != BASE_UDP;
    ev->local = b->local;
    ev->remote = b->remote;
    ev->via = b->via;
    ev->web = b->kind == BASE_LISTEN ? a->cfg.web : a->streams[b->comp / a->cfg.components].web;
    if (b->kind == BASE_TURN) {
        ev->server = a->relays[b->relay].server;
        ev->remote = a->servers[ev->server].addr;
    }
    ev->remote = ice_outwards(a, &b->local, &ev->remote);
}

static struct local *next_untold(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->local_n; i++)
        if (!a->locals[i].told)
            return &a->locals[i];
    return NULL;
}

static bool fill_event(struct tw_ice *a, const struct note *n, struct tw_ice_event *ev)
{
    uint16_t comp = n->index;
    struct local *l;
    *ev = (struct tw_ice_event){ .type = n->type, .sock = n->sock };
    switch (ev->type) {
    case TW_ICE_OPEN:
        if (a->bases[n->index].state != BASE_OPENING || a->bases[n->index].sock != n->sock)
            return false;
        fill_open(a, &a->bases[n->index], ev);
        comp = a->bases[n->index].comp;
        break;
    case TW_ICE_MAP:
        if (a->bases[n->index].state != BASE_OPEN || a->bases[n->index].sock != n->sock)
            return false;
        fill_open(a, &a->bases[n->index], ev);
        break;
    case TW_ICE_CANDIDATE: /* which one is found now: others may have gone meanwhile */
        l = next_untold(a);
        if (!l)
            return false;
        l->told = true;
        ice_local_fill(a, l, &ev->candidate);
        comp = l->comp;
        break;
    case TW_ICE_PATH:
    case TW_ICE_SILENCE:
        if (a->comps[comp].path == NONE)
            return false;
        ice_path_fill(a, &a->pairs[a->comps[comp].path], &ev->path);
        break;
    default:
        break;
    }
    ev->stream = (uint8_t)(comp / a->cfg.components);
    ev->component = ice_component_id(a, comp);
    return true;
}

bool tw_ice_poll_event(struct tw_ice *a, struct tw_ice_event *ret_event)
{
    while (a->note_at < a->note_n) {
        struct note n = a->notes[a->note_at++];
        if (fill_event(a, &n, ret_event))
            return true;
    }
    if (a->piece_at == a->piece_n)
        return false;
    const struct piece *p = &a->pieces[a->piece_at++];
    *ret_event = (struct tw_ice_event){ .type = TW_ICE_DATA, .data = p->data, .tos = p->tos,
                                        .stream = (uint8_t)(p->comp / a->cfg.components),
                                        .component = ice_component_id(a, p->comp) };
    return true;
}

/* --- looking in ------------------------------------------------------------------------------------ */

int tw_ice_credentials(const struct tw_ice *a, unsigned stream, const char **ret_ufrag,
                       const char **ret_pwd)
{
    if (stream >= a->cfg.streams)
        return TW_EINVAL;
    *ret_ufrag = a->streams[stream].local.ufrag;
    *ret_pwd = a->streams[stream].local.pwd;
    return 0;
}

bool tw_ice_is_controlling(const struct tw_ice *a)
{
    return a->controlling;
}

bool tw_ice_path(const struct tw_ice *a, unsigned stream, unsigned component,
                 struct tw_ice_path *ret_path)
{
    const struct component *c = ice_component(a, stream, component);
    if (!c || c->path == NONE)
        return false;
    ice_path_fill(a, &a->pairs[c->path], ret_path);
    return true;
}

size_t tw_ice_paths(const struct tw_ice *a, unsigned stream, unsigned component, struct tw_ice_path *out, size_t cap)
{
    const struct component *c = ice_component(a, stream, component);
    size_t n = 0;
    for (uint16_t i = 0; c && i < a->pair_n; i++)
        if (a->pairs[i].valid && &a->comps[a->pairs[i].comp] == c && n < cap)
            ice_path_fill(a, &a->pairs[i], &out[n++]);
    return n;
}

const struct tw_ice_stats *tw_ice_stats(const struct tw_ice *a)
{
    return &a->stats;
}
