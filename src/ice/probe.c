/* Getting through hard NATs: those that map each destination to another port (RFC 4787 §4.1). A check
 * to the port that some server saw leads nowhere there; the port towards the peer has to be foretold, or
 * hit by chance.
 *
 * Only after the two have found each other over a relay, only towards the one address at which that
 * relay saw the peer, at most 200 packets a second, 2,000 an hour, one peer at a time. The relay carries the
 * data meanwhile, and the plans: each side tells in the own attribute of its checks what its NAT does
 * and at which ports it expects to be seen. By that both know their part:
 *
 *   SCAN   the easy side sends to the ports at which the other may be, likely ones first
 *   OPEN   the hard side sends from many sockets to the easy one's port: 256 of them, where ports are
 *          drawn by lot, make a hit likely (birthday); a few, where they can be foretold
 *   FAN    both are hard: from many sockets to one port, the eighth that the other expects to get
 *   LINE   and the other from one socket to all ports that the first expects to get. However many
 *          mappings others made meanwhile (up to seven, both NATs together), two packets meet
 *   MATCH  each of our sockets, whose ports are known, to one port of the other's. Also for two easy
 *          ones that did not meet: see NEAR
 *
 * NEAR: Linux, where nothing drops what comes for the NAT itself, takes a packet that came before we sent
 * one for its own, and what we send after that leaves from another port. So the packets that only have to
 * open our own NAT live just long enough for that, at first, where both keep their ports. Where another
 * NAT follows, the ones after them go all the way. */
#include "ice/internal.h"

#include <stdlib.h>

enum role { ROLE_NONE, ROLE_SCAN, ROLE_OPEN, ROLE_FAN, ROLE_LINE, ROLE_MATCH };
enum phase { PHASE_NONE, PHASE_READY, PHASE_REFUSED };

enum {
    FEW = 16,           /* sockets where ports can be foretold */
    TARGET = 7,         /* the port that FAN aims at */
    PASSES = 3,         /* what can be foretold is tried so often */
    SCAN_NEAR = 96,     /* ports tried of a counter that may have gone on */
    SCAN_ALL = 1700,    /* ports tried of one that draws: misses 1 in 900 */
    FIRST_PORT = 1024,
    PORTS = 65536 - FIRST_PORT,
    HOURLY = 2000,
    NEAR = 2,           /* hop limit */
    ROUNDS = 2,
};
static const tw_time GAP = 5 * TW_MSEC;         /* 200 a second */
static const tw_time PREPARE_MAX = 4 * TW_SEC;
static const tw_time LINGER = 2 * TW_SEC;       /* after the last packet */
static const tw_time BOTH_NEAR = 300 * TW_MSEC; /* until both have sent their NEAR packets */

/* --- the allowance ----------------------------------------------------------------------------------- */

static struct allowance *allowance(struct tw_ice *a)
{
    if (a->mux)
        return ice_mux_allowance(a->mux);
    if (!a->allowance)
        a->allowance = calloc(1, sizeof(*a->allowance));
    return a->allowance;
}

/* What may still be sent to the peer this hour; takes n of it if there are so many. */
static bool take(struct tw_ice *a, unsigned n)
{
    struct allowance *w = allowance(a);
    struct tw_addr ip = tw_addr_ip_only(&a->seen);
    int oldest = 0, i;
    if (!w)
        return false;
    for (i = 0; i < 16 && !tw_addr_eq(&w->peers[i].ip, &ip); i++)
        if (w->peers[i].since < w->peers[oldest].since)
            oldest = i;
    if (i == 16) { /* all of this hour: no more peers */
        if (w->peers[oldest].ip.family && a->now - w->peers[oldest].since < 3600 * TW_SEC)
            return false;
        i = oldest;
        w->peers[i].ip = ip;
        w->peers[i].since = a->now;
        w->peers[i].sent = 0;
    }
    if (a->now - w->peers[i].since >= 3600 * TW_SEC) {
        w->peers[i].since = a->now;
        w->peers[i].sent = 0;
    }
    if (w->peers[i].sent + n > HOURLY)
        return false;
    w->peers[i].sent = (uint16_t)(w->peers[i].sent + n);
    return true;
}

bool ice_probe_allows(struct tw_ice *a, const struct tw_addr *addr)
{
    return a->streams[0].own && !a->cfg.no_probing && a->seen.family &&
           tw_addr_eq_ip(addr, &a->seen) && take(a, 1);
}

/* --- plans ------------------------------------------------------------------------------------------- */

static bool is_hard(uint8_t kind)
{
    return kind != NAT_EASY;
}

/* One whose next port nobody can tell; so is one that has not shown itself. */
static bool is_lottery(uint8_t kind)
{
    return kind == NAT_RANDOM || kind == NAT_UNKNOWN;
}

/* A new socket's port is the same outside, as far as it speaks with one peer only. */
static bool keeps_port(const struct own_info *info)
{
    return info->kind == NAT_PRESERVING || (info->kind == NAT_EASY && info->step == EASY_KEEPS);
}

/* Two counters. One that counts by address keeps its port along a line, so it had better fan out; when
 * both do, each just tries all that the other may have got. */
static enum role role_of_counter(const struct own_info *mine, const struct own_info *theirs,
                                 bool controlling)
{
    if (mine->by_address != theirs->by_address)
        return mine->by_address ? ROLE_FAN : ROLE_LINE;
    return mine->by_address ? ROLE_LINE : controlling ? ROLE_FAN : ROLE_LINE;
}

static enum role role_for(const struct own_info *mine, const struct own_info *theirs,
                          bool controlling)
{
    if (keeps_port(mine) && keeps_port(theirs))
        return ROLE_MATCH;
    if (!is_hard(mine->kind))
        return is_hard(theirs->kind) ? ROLE_SCAN : ROLE_NONE;
    if (!is_hard(theirs->kind))
        return ROLE_OPEN;
    if (is_lottery(mine->kind) || is_lottery(theirs->kind))
        return ROLE_NONE;
    if (mine->kind == NAT_SEQUENTIAL)
        return theirs->kind == NAT_SEQUENTIAL ? role_of_counter(mine, theirs, controlling)
                                              : ROLE_LINE;
    return theirs->kind == NAT_SEQUENTIAL && !theirs->by_address ? ROLE_FAN : ROLE_MATCH;
}

static enum role own_role(const struct tw_ice *a)
{
    struct own_info mine;
    ice_probe_fill(a, &mine);
    return role_for(&mine, &a->peer_info, a->controlling);
}

/* A counter that keeps the parity of the inside port moves by two for sockets of one parity. */
static bool keeps_parity(const struct tw_ice *a)
{
    const struct own_info *mine = &a->probe->mine;
    return mine->kind == NAT_SEQUENTIAL && (mine->step == 2 || mine->step == -2);
}

static unsigned sockets_for(const struct tw_ice *a, enum role role)
{
    if (role == ROLE_SCAN)
        return 0;
    if (role == ROLE_OPEN && is_lottery(a->probe->mine.kind))
        return PROBE_SOCKETS;
    return keeps_parity(a) ? 2 * FEW + 2 : role == ROLE_LINE ? 1 : FEW;
}

static const struct base *measurer(const struct tw_ice *a)
{
    const struct probe *p = a->probe;
    return &a->bases[p->bases[p->base_n - 1]];
}

/* Sockets to send from: open ones, of the right parity; a counter's last one measures. */
static bool is_sender(const struct tw_ice *a, const struct base *b)
{
    return b->state == BASE_OPEN && !(b == measurer(a) && a->probe->mine.kind == NAT_SEQUENTIAL) &&
           (!keeps_parity(a) || b->local.port % 2 == measurer(a)->local.port % 2);
}

static unsigned count_senders(const struct tw_ice *a)
{
    unsigned n = 0;
    for (uint16_t i = 0; i < a->probe->base_n; i++)
        n += is_sender(a, &a->bases[a->probe->bases[i]]);
    return n;
}

/* The n-th of them. NONE when there are not so many. */
static uint16_t socket_at(const struct tw_ice *a, unsigned n)
{
    const struct probe *p = a->probe;
    for (uint16_t i = 0; i < p->base_n; i++)
        if (is_sender(a, &a->bases[p->bases[i]]) && n-- == 0)
            return p->bases[i];
    return NONE;
}

void ice_probe_fill(const struct tw_ice *a, struct own_info *ret)
{
    const struct probe *p = a->probe;
    *ret = (struct own_info){ .kind = a->nat.kind, .step = a->nat.step,
                              .by_address = a->nat.by_address };
    if (p) /* what counted at the beginning counts for the whole round */
        *ret = p->mine;
    ret->round = a->probe_round;
    if (!p && a->probe_round)
        ret->phase = PHASE_REFUSED;
}

/* --- beginning --------------------------------------------------------------------------------------- */

static bool can_probe(struct tw_ice *a)
{
    const struct component *c = &a->comps[0];
    struct allowance *w = allowance(a);
    return !a->cfg.no_probing && a->cfg.policy != TW_ICE_RELAY_ONLY && !a->cfg.no_udp &&
           a->seen.family == TW_FAMILY_V4 && c->path != NONE &&
           ice_is_relayed(a, &a->pairs[c->path]) && w && (!w->user || w->user == a);
}

static uint16_t udp_base(const struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->base_n; i++)
        if (a->bases[i].kind == BASE_UDP && a->bases[i].state == BASE_OPEN && !a->bases[i].probe &&
            a->bases[i].comp == 0 && a->bases[i].local.family == TW_FAMILY_V4 &&
            (!a->nat.n || a->nat.samples[0].base == i))
            return i;
    return NONE;
}

static void open_sockets(struct tw_ice *a, unsigned n)
{
    struct probe *p = a->probe;
    uint16_t from = udp_base(a);
    struct tw_addr local = tw_addr_ip_only(&a->bases[from].local);
    uint16_t order = a->bases[from].order;
    for (unsigned i = 0; i < n; i++) {
        uint16_t b = ice_base_add(a, BASE_UDP, 0, &local);
        if (b == NONE)
            break;
        a->bases[b].probe = a->bases[b].exclusive = true;
        a->bases[b].order = order;
        p->bases[p->base_n++] = b;
        p->waiting++;
        ice_note(a, TW_ICE_OPEN, b, a->bases[b].sock);
    }
}

static void tell(struct tw_ice *a)
{
    if (a->comps[0].path != NONE)
        ice_check_start(a, &a->pairs[a->comps[0].path]);
    ice_check_tick(a);
}

void ice_probe_news(struct tw_ice *a)
{
    const struct component *c = &a->comps[0];
    if (!a->probe && c->path != NONE && a->streams[0].own && ice_is_relayed(a, &a->pairs[c->path]) &&
        a->pairs[c->path].due == TW_NEVER)
        a->pairs[c->path].check_at = a->now;
}

static void run(struct tw_ice *a)
{
    struct probe *p = a->probe;
    if (p->state != PROBE_READY || !p->has_peer)
        return;
    /* By what the peer says now: it may have learned something about its NAT meanwhile. */
    p->role = (uint8_t)role_for(&p->mine, &p->peer, a->controlling);
    if (p->role == ROLE_NONE || sockets_for(a, p->role) > p->base_n) {
        a->probe_why = "the peer's NAT turned out to be of another kind";
        ice_probe_end(a);
        return;
    }
    p->state = PROBE_RUNNING;
    p->at = a->now;
    p->until = TW_NEVER;
    a->env.rng.fill(a->env.rng.ctx, &p->key, sizeof(p->key));
}

static void ready(struct tw_ice *a)
{
    struct probe *p = a->probe;
    p->state = PROBE_READY;
    p->mine.phase = PHASE_READY;
    if (keeps_port(&p->mine))
        for (; p->mine.port_n < PROBE_PORTS && socket_at(a, p->mine.port_n) != NONE;
             p->mine.port_n++)
            p->mine.ports[p->mine.port_n] = a->bases[socket_at(a, p->mine.port_n)].local.port;
    tell(a);
    run(a);
}

/* All sockets are open: is a counter to be read first? */
static void sockets_ready(struct tw_ice *a)
{
    struct probe *p = a->probe;
    if (p->role == ROLE_SCAN || p->mine.kind != NAT_SEQUENTIAL) {
        ready(a);
        return;
    }
    for (unsigned s = 0; s < a->server_n; s++) {
        const struct tw_ice_server *server = &a->servers[s];
        if (server->addr.family != TW_FAMILY_V4 || server->transport != TW_TRANSPORT_UDP)
            continue;
        p->measuring = ice_query_add(a, p->bases[p->base_n - 1], &server->addr, NONE8, true) != NONE;
        ice_gather_tick(a);
        return;
    }
}

static void begin(struct tw_ice *a, uint8_t round)
{
    enum role role = own_role(a);
    struct own_info mine;
    ice_probe_fill(a, &mine);
    a->probe_round = round;
    if (role == ROLE_NONE || !can_probe(a) || udp_base(a) == NONE)
        return;
    a->probe = calloc(1, sizeof(*a->probe));
    if (!a->probe)
        return;
    struct probe *p = a->probe;
    p->mine = mine;
    allowance(a)->user = a;
    p->state = PROBE_PREPARING;
    p->role = (uint8_t)role;
    p->round = round;
    p->at = TW_NEVER;
    p->until = a->now + PREPARE_MAX;
    unsigned n = sockets_for(a, role);
    open_sockets(a, n && p->mine.kind == NAT_SEQUENTIAL ? n + 1 : n);
    if (!p->waiting)
        sockets_ready(a);
}

void ice_probe_opened(struct tw_ice *a, uint16_t base)
{
    (void)base;
    if (a->probe && a->probe->state == PROBE_PREPARING && --a->probe->waiting == 0)
        sockets_ready(a);
}

/* What the counter stood at: the next ones follow it. */
void ice_probe_measured(struct tw_ice *a, const struct tw_addr *mapped)
{
    struct probe *p = a->probe;
    if (!p || !p->measuring)
        return;
    p->measuring = false;
    if (!mapped) {
        a->probe_why = "the server did not say which port is next";
        ice_probe_end(a);
        return;
    }
    for (; p->mine.port_n < PROBE_PORTS; p->mine.port_n++)
        p->mine.ports[p->mine.port_n] =
            (uint16_t)(mapped->port + p->mine.step * (p->mine.port_n + 1));
    ready(a);
}

/* --- the peer's part --------------------------------------------------------------------------------- */

void ice_probe_info(struct tw_ice *a, const struct own_info *info)
{
    a->peer_info = *info;
    if (!info->round)
        return;
    if (info->round > a->probe_round && !a->controlling) {
        ice_probe_end(a);
        begin(a, info->round);
        if (!a->probe)
            tell(a);
    }
    struct probe *p = a->probe;
    if (!p || info->round != p->round)
        return;
    if (info->phase == PHASE_REFUSED && p->state < PROBE_RUNNING) {
        a->probe_why = "the peer does not take part";
        ice_probe_end(a);
    } else if (info->phase == PHASE_READY && !p->has_peer) {
        p->peer = *info;
        p->has_peer = true;
        run(a);
    }
}

void tw_ice_vouch(struct tw_ice *a, tw_time now, const struct tw_addr *ip)
{
    a->now = now;
    ice_tape(a->tape, now, "vouch %A", ip);
    a->seen = *ip;
}

/* --- sending ----------------------------------------------------------------------------------------- */

/* Where packet number i of the scan goes; 0: there is no such. */
static uint16_t scan_port(const struct probe *p, unsigned i)
{
    unsigned known = p->peer.port_n;
    if (p->peer.kind == NAT_PRESERVING)
        return known && i < known * PASSES ? p->peer.ports[i % known] : 0;
    if (p->peer.kind == NAT_SEQUENTIAL && known) {
        /* The likely ones three times, the far ones once. */
        unsigned near = known * (PASSES - 1);
        int step = p->peer.step ? p->peer.step : 1;
        int k = i < near ? (int)(i % known) : (int)(i - near);
        return k < SCAN_NEAR ? (uint16_t)(p->peer.ports[0] + step * k) : 0;
    }
    /* 48,271 is prime, so no port comes twice. */
    return i < SCAN_ALL ? (uint16_t)(FIRST_PORT + (p->key + i * 48271u) % PORTS) : 0;
}

/* From where and to which port packet number i goes. False: that was all. */
static bool plan(const struct tw_ice *a, unsigned i, uint16_t *ret_base, uint16_t *ret_port)
{
    const struct probe *p = a->probe;
    unsigned n;
    if (p->role == ROLE_SCAN) {
        *ret_base = udp_base(a);
        *ret_port = scan_port(p, i);
        return *ret_port && *ret_base != NONE;
    }
    n = count_senders(a);
    if (p->role == ROLE_LINE)
        n = p->peer.port_n;
    else if (p->role != ROLE_OPEN || !is_lottery(p->mine.kind))
        n = n < FEW ? n : FEW;
    if (n == 0 || i >= n * (n > FEW ? 1 : PASSES))
        return false;
    *ret_base = socket_at(a, p->role == ROLE_LINE ? 0 : i % n);
    switch (p->role) {
    case ROLE_OPEN:
        *ret_port = a->seen.port;
        break;
    case ROLE_FAN:
        *ret_port = p->peer.port_n > TARGET ? p->peer.ports[TARGET] : 0;
        break;
    case ROLE_LINE:
        *ret_port = p->peer.ports[i % n];
        break;
    default: /* MATCH */
        *ret_port = i % n < p->peer.port_n ? p->peer.ports[i % n] : 0;
        break;
    }
    return *ret_base != NONE && *ret_port;
}

/* What two hard sides foretell goes out at one moment, before either NAT makes other mappings: a
 * volley, and then a pause that makes up for it. */
static tw_time pause_after(const struct probe *p)
{
    if (p->next == FEW && p->role == ROLE_MATCH)
        return BOTH_NEAR;
    if (p->role == ROLE_OPEN || p->role == ROLE_SCAN)
        return GAP;
    return p->next % FEW ? 0 : FEW * GAP;
}

bool ice_probe_tx(struct tw_ice *a)
{
    struct probe *p = a->probe;
    uint16_t base;
    struct tw_addr to = a->seen;
    uint8_t tid[TW_STUN_TID];
    if (!p || !p->want_tx)
        return false;
    p->want_tx = false;
    if (!plan(a, p->next, &base, &to.port) || !take(a, 1)) {
        p->at = TW_NEVER;
        p->until = a->now + LINGER;
        if (p->role == ROLE_OPEN && is_lottery(p->mine.kind)) /* the peer goes on looking for us */
            p->until += SCAN_ALL * GAP;
        return false;
    }
    bool near = p->role == ROLE_MATCH && p->next < FEW;
    p->next++;
    p->at = a->now + pause_after(p);
    ice_draw_tid(a, tid);
    struct tw_bytes m = ice_check_build(a, 0, a->bases[base].order, tid, NULL);
    if (!m.n || ice_emit(a, base, &to, m, 0, true))
        return false;
    if (near)
        a->out.ttl = NEAR;
    a->stats.probes_sent++;
    return true;
}

/* --- the end ----------------------------------------------------------------------------------------- */

/* A packet of the peer's came to one of the sockets: from now on it is one like the others. */
void ice_probe_hit(struct tw_ice *a, uint16_t base)
{
    a->bases[base].probe = false;
}

void ice_probe_end(struct tw_ice *a)
{
    struct probe *p = a->probe;
    if (!p)
        return;
    for (uint16_t i = 0; i < p->base_n; i++)
        if (a->bases[p->bases[i]].probe)
            ice_base_kill(a, p->bases[i]);
    while (a->base_n && a->bases[a->base_n - 1].state == BASE_DEAD && a->bases[a->base_n - 1].probe)
        a->base_n--;
    struct allowance *w = allowance(a);
    if (w && w->user == a)
        w->user = NULL;
    free(p);
    a->probe = NULL;
}

/* When to begin. TW_NEVER while there is no reason to. */
static tw_time begin_at(const struct tw_ice *a)
{
    const struct component *c = &a->comps[0];
    if (!a->controlling || a->probe_round >= ROUNDS || !a->streams[0].own || c->path == NONE ||
        c->valid_since == TW_NEVER || !ice_is_relayed(a, &a->pairs[c->path]) || !a->seen.family ||
        a->cfg.no_probing || own_role(a) == ROLE_NONE)
        return TW_NEVER;
    /* A counter before one side only costs a few sockets and packets: as soon as the relay carries the plans. Drawing
     * lots costs hundreds, and two counters must be left alone by the ordinary checks: when these have had twice a round
     * trip over the relay, and a bit. So does another round, of two who know more of their NATs by then. */
    bool lots = is_lottery(a->nat.kind) || is_lottery(a->peer_info.kind);
    bool both = is_hard(a->nat.kind) && is_hard(a->peer_info.kind);
    if (a->probe_round == 0 && !lots && !both)
        return c->valid_since;
    return c->valid_since + 200 * TW_MSEC + 2 * a->pairs[c->path].rtt;
}

void ice_probe_tick(struct tw_ice *a)
{
    struct probe *p = a->probe;
    if (!p) {
        if (begin_at(a) <= a->now && can_probe(a))
            begin(a, (uint8_t)(a->probe_round + 1));
        return;
    }
    const struct component *c = &a->comps[0];
    if (c->path != NONE && !ice_is_relayed(a, &a->pairs[c->path])) {
        a->probe_why = "found a way through";
        ice_probe_end(a);
    } else if (a->now >= p->until) {
        a->probe_why = p->state == PROBE_RUNNING ? "none of the ports tried was the peer's"
                                                 : "the peer did not take part";
        ice_probe_end(a);
    } else if (a->now >= p->at) {
        p->at = TW_NEVER;
        p->want_tx = true;
    }
}

tw_time ice_probe_deadline(const struct tw_ice *a)
{
    if (a->probe)
        return tw_time_min(a->probe->at, a->probe->until);
    tw_time at = begin_at(a); /* one that has passed waits for something else than time */
    return at > a->now ? at : TW_NEVER;
}
