/* Relayed candidates: TURN clients as children of the agent. */
#include "ice/internal.h"

enum { MAX_RELAYS = 16 };

static bool uses_udp(const struct tw_ice_server *s)
{
    return s->transport == TW_TRANSPORT_UDP;
}

static bool has_relay(const struct tw_ice *a, unsigned server, uint16_t comp)
{
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].server == server && a->relays[i].comp == comp &&
            (a->relays[i].again_at || a->relays[i].base == NONE || a->bases[a->relays[i].base].state != BASE_DEAD))
            return true;
    return false;
}

/* Short first waits, because a lost packet here delays the path of last resort: 6 s in all. */
static const struct tw_stun_timing timing = { .rto = 150 * TW_MSEC, .rc = 6, .rm = 8,
                                              .stream_timeout = 8 * TW_SEC };

static void allocate(struct tw_ice *a, uint16_t relay)
{
    struct relay *r = &a->relays[relay];
    const struct tw_ice_server *s = &a->servers[r->server];
    const struct base *b = &a->bases[r->base];
    struct tw_turn_config cfg = { .server = s->addr, .sock = b->sock, .username = s->username,
                                  .password = s->password, .realm = s->realm, .nonce = s->nonce,
                                  .stream = s->transport != TW_TRANSPORT_UDP && s->transport != TW_TRANSPORT_DTLS,
                                  .max_peers = 64, .timing = &timing,
                                  .software = a->cfg.software };
    r->failed = false;
    r->again_at = 0;
    int err = tw_turn_new(&cfg, &a->env, &r->turn);
    if (!err)
        err = tw_turn_allocate(r->turn, a->now);
    if (err) {
        r->failed = true;
        r->why = tw_strerror(err);
    }
    r->stirred = !err;
}

/* Of a network of before. */
static uint16_t unused_relay(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->relay_n; i++) {
        struct relay *r = &a->relays[i];
        if (!r->failed || r->again_at || r->base == NONE || a->bases[r->base].state != BASE_DEAD)
            continue;
        tw_turn_free(r->turn);
        return i;
    }
    return NONE;
}

static uint16_t add(struct tw_ice *a, unsigned server, uint16_t comp, uint16_t base)
{
    uint16_t i = unused_relay(a);
    if (i != NONE) {
        a->relays[i] = (struct relay){ .comp = comp, .base = base, .server = (uint8_t)server };
        return i;
    }
    if (!ICE_GROW(a, relays, relay, MAX_RELAYS))
        return NONE;
    a->relays[a->relay_n] = (struct relay){ .comp = comp, .base = base, .server = (uint8_t)server };
    return a->relay_n++;
}

static bool is_last_resort(const struct tw_ice *a, const struct relay *r)
{
    return a->servers[r->server].transport == TW_TRANSPORT_WS;
}

/* One in a WebSocket costs a connection of its own, and is slower than any other: it is asked when none of those has
 * answered for a moment, and again when they are gone, or may be, as nothing comes any more. */
static void keep_for_later(struct tw_ice *a, unsigned server, uint16_t comp)
{
    static const tw_time head_start = 300 * TW_MSEC;
    bool others = false;
    for (unsigned i = 0; i < a->server_n; i++)
        others = others || (a->servers[i].turn && a->servers[i].transport != TW_TRANSPORT_WS);
    uint16_t r = add(a, server, comp, NONE);
    if (r == NONE)
        return;
    a->relays[r].failed = true;
    a->relays[r].why = "not asked, as others are there";
    a->relays[r].again_at = a->now + (others ? head_start : 0);
}

/* When the path will have been silent for so long that what it needs may be blocked; TW_NEVER: it is not. */
static tw_time in_need_at(const struct tw_ice *a, uint16_t comp)
{
    static const tw_time silent_for = TW_SEC;
    uint16_t path = a->comps[comp].path;
    return path != NONE && a->pairs[path].silent ? a->pairs[path].last_heard + silent_for : TW_NEVER;
}

static bool has_other(const struct tw_ice *a, const struct relay *r)
{
    if (in_need_at(a, r->comp) <= a->now)
        return false;
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].ready && a->relays[i].comp == r->comp && !is_last_resort(a, &a->relays[i]))
            return true;
    return false;
}

/* A server that did not answer, was full, or has lost our allocation, may do better later, and what another client has at our port
 * ends in time; one that refused us will again. */
static bool may_do_better(unsigned code)
{
    return !code || code >= 500 || code == TW_STUN_CODE_QUOTA_REACHED || code == TW_STUN_CODE_ALLOCATION_MISMATCH ||
           code == TW_STUN_CODE_WRONG_CREDENTIALS;
}

static void plan_again(struct tw_ice *a, struct relay *r)
{
    enum { FIRST_SEC = 10, LAST_SEC = 320 };
    if (a->closing || !may_do_better(r->code))
        return;
    r->wait = !r->wait ? FIRST_SEC * TW_SEC
              : 2 * r->wait < LAST_SEC * TW_SEC ? 2 * r->wait : LAST_SEC * TW_SEC;
    r->again_at = a->now + r->wait;
}

void ice_relay_over(struct tw_ice *a, uint16_t relay, unsigned code, const char *why, bool again)
{
    struct relay *r = &a->relays[relay];
    r->ready = false;
    r->failed = true;
    r->code = code;
    r->why = why;
    if (again)
        plan_again(a, r);
    for (uint16_t i = 0; i < a->relay_n; i++) /* it is needed now */
        if (a->relays[i].base == NONE && !a->relays[i].again_at && !a->closing)
            a->relays[i].again_at = a->now;
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].kind == BASE_RELAY && a->bases[i].relay == relay)
            ice_base_kill(a, i);
}

/* Over a connection of its own, which the kernel routes. */
static uint16_t connection(struct tw_ice *a, unsigned server, uint16_t comp)
{
    struct tw_addr some = { .family = TW_FAMILY_V6 };
    struct tw_addr any = { .family = ice_outwards(a, &some, &a->servers[server].addr).family };
    uint16_t b = ice_base_add(a, BASE_TURN, comp, &any);
    if (b != NONE)
        ice_note(a, TW_ICE_OPEN, b, a->bases[b].sock);
    return b;
}

static void connect_to(struct tw_ice *a, unsigned server, uint16_t comp)
{
    uint16_t b = connection(a, server, comp);
    uint16_t r = b == NONE ? NONE : add(a, server, comp, b);
    if (r == NONE)
        return;
    a->bases[b].relay = r;
}

static void ask_again(struct tw_ice *a, uint16_t relay)
{
    struct relay *r = &a->relays[relay];
    bool stream = r->base == NONE || a->bases[r->base].kind == BASE_TURN;
    r->again_at = 0;
    if (r->base == NONE && has_other(a, r))
        return;
    if (!stream && a->bases[r->base].state != BASE_OPEN)
        return; /* its interface is gone; others ask */
    tw_turn_free(r->turn);
    r->turn = NULL;
    if (!stream) {
        allocate(a, relay);
        return;
    }
    if (r->base != NONE)
        ice_base_kill(a, r->base);
    uint16_t b = connection(a, r->server, r->comp);
    r = &a->relays[relay];
    if (b == NONE) {
        plan_again(a, r);
        return;
    }
    a->bases[b].relay = relay;
    r->base = b;
    r->failed = false;
}

/* Asks those servers for a relayed address that have not been asked: base: from this socket if it is
 * the first of its family; NONE: over connections. */
void ice_relay_start(struct tw_ice *a, uint16_t base)
{
    if (a->cfg.lite)
        return;
    for (unsigned s = 0; s < a->server_n; s++) {
        const struct tw_ice_server *server = &a->servers[s];
        /* A shared socket can have one allocation on a server only: there each agent takes its own. */
        if (!server->turn || (uses_udp(server) && !a->mux) != (base != NONE))
            continue;
        if (base == NONE) {
            for (uint16_t c = 0; c < a->comp_n; c++)
                if (has_relay(a, s, c))
                    continue;
                else if (server->transport == TW_TRANSPORT_WS)
                    keep_for_later(a, s, c);
                else
                    connect_to(a, s, c);
        } else if (ice_reaches(a, &a->bases[base], &server->addr) &&
                   !has_relay(a, s, a->bases[base].comp)) {
            uint16_t r = add(a, s, a->bases[base].comp, base);
            if (r != NONE)
                allocate(a, r);
        }
    }
}

void ice_relay_renewed(struct tw_ice *a, unsigned server)
{
    for (uint16_t i = 0; i < a->relay_n; i++) {
        struct relay *r = &a->relays[i];
        if (r->server == server && r->failed && !a->closing && (r->base == NONE || a->bases[r->base].kind == BASE_TURN ||
                                                                 a->bases[r->base].state == BASE_OPEN)) {
            r->wait = 0;
            r->again_at = a->now;
        }
    }
    ice_tick(a);
}

void ice_relay_opened(struct tw_ice *a, uint16_t base)
{
    allocate(a, a->bases[base].relay);
}

static void allocated(struct tw_ice *a, uint16_t relay, const struct tw_turn_event *ev)
{
    uint16_t link = a->relays[relay].base;
    bool udp = a->bases[link].kind == BASE_UDP;
    struct tw_addr server = a->servers[a->relays[relay].server].addr;
    a->relays[relay].ready = true;
    a->relays[relay].wait = 0;
    if (udp) {
        ice_nat_sample(a, link, &server, &ev->mapped, a->now);
        ice_local_add(a, link, TW_ICE_SRFLX, &ev->mapped, &server);
        ice_gather_keep(a, link, &server, (uint8_t)a->relays[relay].server);
    }
    for (unsigned i = 0; i < ev->relayed_n; i++) {
        uint16_t b = ice_base_add(a, BASE_RELAY, a->bases[link].comp, &ev->relayed[i]);
        if (b == NONE)
            return;
        a->bases[b].relay = relay;
        a->bases[b].state = BASE_OPEN;
        /* Relays over UDP before those over TCP and TLS. */
        a->bases[b].order = (uint16_t)(a->relays[relay].server +
                                       8 * a->servers[a->relays[relay].server].transport);
        ice_local_add(a, b, TW_ICE_RELAY, &ev->relayed[i], &ev->mapped);
        ice_pair_local(a, b);
    }
    ice_gather_tick(a);
    ice_check_tick(a);
}

static void ended(struct tw_ice *a, uint16_t relay, const struct tw_turn_event *ev)
{
    ice_relay_over(a, relay, ev->code, ev->why, true);
    ice_gather_tick(a);
}

/* RFC 8656 §9: the server would not carry what goes to this peer; on its own address, to this port. */
static void refused(struct tw_ice *a, uint16_t relay, const struct tw_turn_event *ev)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        struct pair *p = &a->pairs[i];
        const struct base *b = &a->bases[p->base];
        const struct tw_addr *remote = &a->remotes[p->remote].addr;
        if (b->kind == BASE_RELAY && b->relay == relay && !p->valid &&
            (tw_addr_eq_ip(&b->local, &ev->peer) ? tw_addr_eq(remote, &ev->peer) : tw_addr_eq_ip(remote, &ev->peer)))
            ice_pair_fail(a, p, "the relay refuses this peer's address");
    }
}

static void permitted(struct tw_ice *a, uint16_t relay, const struct tw_turn_event *ev)
{
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct base *b = &a->bases[a->pairs[i].base];
        if (b->kind == BASE_RELAY && b->relay == relay &&
            tw_addr_eq_ip(&a->remotes[a->pairs[i].remote].addr, &ev->peer))
            a->pairs[i].permitted = true;
    }
    ice_check_tick(a);
}

static uint16_t base_of_relay(const struct tw_ice *a, uint16_t relay, const struct tw_addr *peer)
{
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].kind == BASE_RELAY && a->bases[i].relay == relay &&
            a->bases[i].state == BASE_OPEN && a->bases[i].local.family == peer->family)
            return i;
    return NONE;
}

static void from_peer(struct tw_ice *a, uint16_t relay, const struct tw_turn_event *ev)
{
    struct tw_stun_msg m;
    uint16_t base = base_of_relay(a, relay, &ev->peer);
    if (base == NONE)
        return;
    if (ev->data.n >= TW_STUN_HEADER && tw_stun_is(ev->data.p, ev->data.n)) {
        if (!tw_stun_decode(ev->data, &m))
            (void)!ice_check_recv(a, base, &ev->peer, &m, &ev->peer);
        return;
    }
    ice_data_recv(a, base, &ev->peer, ev->data, ev->tos);
}

void ice_relay_events(struct tw_ice *a, uint16_t relay)
{
    struct tw_turn_event ev;
    while (a->relays[relay].turn && tw_turn_poll_event(a->relays[relay].turn, &ev)) {
        switch (ev.type) {
        case TW_TURN_ALLOCATED:
            allocated(a, relay, &ev);
            break;
        case TW_TURN_FAILED:
        case TW_TURN_LOST:
        case TW_TURN_CLOSED:
        case TW_TURN_REDIRECT:
            ended(a, relay, &ev);
            break;
        case TW_TURN_PERMITTED:
            permitted(a, relay, &ev);
            break;
        case TW_TURN_REFUSED:
            refused(a, relay, &ev);
            break;
        case TW_TURN_DATA:
            from_peer(a, relay, &ev);
            break;
        default:
            break;
        }
    }
}

/* The server may have been asked for STUN from the same socket: such answers are known by transaction. */
static bool answers_query(struct tw_ice *a, uint16_t base, const struct tw_datagram *in)
{
    struct tw_stun_msg m;
    struct tw_bytes b = in->iov[0];
    return !in->segment && b.n >= TW_STUN_HEADER && tw_stun_is(b.p, b.n) && !tw_stun_decode(b, &m) &&
           ice_gather_response(a, base, &m, &in->src);
}

/* What a relay of ours sends is its client's to read, run and all. */
bool ice_relay_recv(struct tw_ice *a, uint16_t base, const struct tw_datagram *in)
{
    for (uint16_t i = 0; i < a->relay_n; i++) {
        struct relay *r = &a->relays[i];
        if (r->base != base || !r->turn)
            continue;
        struct tw_datagram d = *in;
        if (a->bases[base].kind == BASE_TURN)
            d.src = a->servers[r->server].addr;
        if (!tw_addr_eq(&d.src, &a->servers[r->server].addr))
            continue;
        if (answers_query(a, base, &d))
            return true;
        if (tw_turn_recv(r->turn, a->now, &d))
            continue;
        r->stirred = true;
        ice_relay_events(a, i);
        return true;
    }
    return false;
}

static tw_time ask_at(const struct tw_ice *a, const struct relay *r)
{
    return r->again_at ? r->again_at : r->base == NONE && !a->closing ? in_need_at(a, r->comp) : TW_NEVER;
}

void ice_relay_tick(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (ask_at(a, &a->relays[i]) <= a->now)
            ask_again(a, i);
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].turn && tw_turn_deadline(a->relays[i].turn) <= a->now) {
            tw_turn_tick(a->relays[i].turn, a->now);
            a->relays[i].stirred = true;
            ice_relay_events(a, i);
        }
}

tw_time ice_relay_deadline(const struct tw_ice *a)
{
    tw_time at = TW_NEVER;
    for (uint16_t i = 0; i < a->relay_n; i++)
        at = tw_time_min(at, ask_at(a, &a->relays[i]));
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].turn)
            at = tw_time_min(at, tw_turn_deadline(a->relays[i].turn));
    return at;
}

/* Whether one has still to be given back. */
bool ice_relay_pending(const struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].turn && !a->relays[i].failed)
            return true;
    return false;
}

/* The server must let a pair's packets through, in and out. */
void ice_relay_permit(struct tw_ice *a, struct pair *p)
{
    const struct base *b = &a->bases[p->base];
    if (b->kind != BASE_RELAY || !a->relays[b->relay].ready)
        return;
    struct tw_turn *turn = a->relays[b->relay].turn;
    const struct tw_addr *peer = &a->remotes[p->remote].addr;
    (void)!tw_turn_permit(turn, a->now, peer);
    p->permitted = p->permitted || tw_turn_is_permitted(turn, a->now, peer);
    a->relays[b->relay].stirred = true;
}

/* Data will flow: four bytes of header instead of 36. */
void ice_relay_bind(struct tw_ice *a, const struct pair *p)
{
    const struct base *b = &a->bases[p->base];
    if (b->kind != BASE_RELAY || !a->relays[b->relay].ready)
        return;
    (void)!tw_turn_bind(a->relays[b->relay].turn, a->now, &a->remotes[p->remote].addr);
    a->relays[b->relay].stirred = true;
}

const char *ice_relay_transport(const struct tw_ice *a, const struct relay *r)
{
    return tw_transport_name(a->servers[r->server].transport);
}
