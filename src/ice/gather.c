/* Gathering (RFC 8445 §5.1.1): sockets on this machine's addresses, and what STUN servers see. */
#include "ice/internal.h"

/* A server that lives answers the first or second; one that is dead is given up after 3 s and delays
 * nobody. Requests to servers are few, so they are not paced. */
static const struct tw_stun_timing timing = { .rto = 100 * TW_MSEC, .rc = 6, .rm = 2,
                                              .stream_timeout = 3 * TW_SEC };

enum { MAX_QUERIES = 128, JUNK_MAX = 2, ASK_MAX = 2 };
static const tw_time GATHER_WITHIN = 10 * TW_SEC;
static const tw_time AGAIN = 5 * TW_SEC; /* a server that did not answer is asked again after */
static const tw_time ASKING = 500 * TW_MSEC; /* so long the end of gathering waits for TCP */
static const tw_time WARM = 15 * TW_SEC; /* mappings are refreshed so often until there is a path */

/* --- interfaces ----------------------------------------------------------------------------------- */

static bool name_fits(const char *pattern, size_t n, const char *name)
{
    if (n && pattern[n - 1] == '*')
        return strncmp(pattern, name, n - 1) == 0;
    return strlen(name) == n && memcmp(pattern, name, n) == 0;
}

bool tw_ice_interface_in(const char *list, const char *name)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        if (name_fits(list, n, name))
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

/* Bridges and tunnels of containers and virtual machines: what they offer hardly ever leads to a peer. */
static bool is_junk(const char *name)
{
    return tw_ice_interface_in("docker*,br-*,veth*,virbr*,vmnet*,vboxnet*,lxc*,lxd*,cni*,flannel*,cali*,podman*,"
                               "kube*,dummy*,nerdctl*", name);
}

/* How much an address is wanted, less is better; addresses of one rank keep their order. */
static unsigned rank(const struct tw_ice_interface *i)
{
    return (unsigned)i->cost + (is_junk(i->name) ? 1u << 17 : 0) +
           (tw_addr_is_link_local(&i->ip) ? 1u << 18 : 0) + (tw_addr_is_loopback(&i->ip) ? 1u << 20 : 0);
}

static bool is_wanted(const struct tw_ice *a, const struct tw_ice_interface *list, size_t n,
                      size_t at)
{
    const struct tw_ice_interface *i = &list[at];
    if ((a->allow && !tw_ice_interface_in(a->allow, i->name)) || (a->deny && tw_ice_interface_in(a->deny, i->name)))
        return false;
    /* RFC 8981: where there is a temporary address, the lasting one stays a secret. */
    for (size_t k = 0; k < n && i->ip.family == TW_FAMILY_V6 && !i->temporary; k++)
        if (list[k].temporary && strcmp(list[k].name, i->name) == 0 && !tw_addr_is_link_local(&i->ip))
            return false;
    return true;
}

static bool has_address(const struct tw_ice *a, const struct tw_addr *ip)
{
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].kind <= BASE_LISTEN && a->bases[b].state != BASE_DEAD &&
            !a->bases[b].probe && tw_addr_eq_ip(&a->bases[b].local, ip))
            return true;
    return false;
}

static void open_sockets(struct tw_ice *a, const struct tw_ice_interface *on, uint16_t order)
{
    struct tw_addr any = on->ip;
    any.port = 0;
    for (uint16_t c = 0; c < a->comp_n; c++)
        for (enum base_kind k = BASE_UDP; k <= BASE_LISTEN; k++) {
            if (k == BASE_UDP ? a->cfg.no_udp : !a->cfg.tcp)
                continue;
            uint16_t b = ice_base_add(a, k, c, &any);
            if (b == NONE)
                return;
            a->bases[b].order = order;
            a->bases[b].gateway = on->gateway;
            ice_note(a, TW_ICE_OPEN, b, a->bases[b].sock);
        }
}

/* What is left may have moved up, or got another gateway. */
static void see_again(struct tw_ice *a, uint16_t base, const struct tw_ice_interface *on,
                      uint16_t order)
{
    struct base *b = &a->bases[base];
    b->order = order;
    if (tw_addr_eq(&b->gateway, &on->gateway))
        return;
    ice_map_unbase(a, base);
    b->gateway = on->gateway;
    ice_map_base(a, base);
}

/* Sorts by rank, takes the best of each kind, leaves loopback and link-local addresses to machines
 * that have nothing else. Returns how many. */
static size_t choose(const struct tw_ice *a, const struct tw_ice_interface *list, size_t n,
                     const struct tw_ice_interface *chosen[TW_ICE_INTERFACES_MAX])
{
    size_t m = 0, kept = 0, junk = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(a, list, n, i))
            continue;
        size_t at = m++;
        for (; at > 0 && rank(chosen[at - 1]) > rank(&list[i]); at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = &list[i];
    }
    for (size_t i = 0; i < m; i++) {
        if (kept && rank(chosen[i]) >= 1u << 18)
            break;
        if (is_junk(chosen[i]->name) ? ++junk > JUNK_MAX : kept >= MAX_HOSTS)
            continue;
        chosen[kept++] = chosen[i];
    }
    return kept;
}

/* Where it stands among the chosen ones; metered ones show by it, to the peer as well (the PRIORITY of checks). */
static uint16_t order_of(const struct tw_ice_interface *i, size_t at)
{
    return (uint16_t)(at + (i->cost ? METERED : 0));
}

int tw_ice_interfaces(struct tw_ice *a, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    const struct tw_ice_interface *chosen[TW_ICE_INTERFACES_MAX];
    if (n > TW_ICE_INTERFACES_MAX)
        return TW_EINVAL;
    a->now = now;
    ice_tape_interfaces(a->tape, now, list, n);
    size_t m = choose(a, list, n, chosen);
    a->has_v4 = false;
    for (size_t i = 0; i < m; i++)
        a->has_v4 = a->has_v4 || (chosen[i]->ip.family == TW_FAMILY_V4 && rank(chosen[i]) < 1u << 18);
    for (uint16_t b = 0; b < a->base_n; b++) {
        bool there = a->bases[b].kind == BASE_RELAY;
        for (size_t i = 0; i < n && !there; i++)
            there = tw_addr_eq_ip(&a->bases[b].local, &list[i].ip) ||
                    tw_addr_is_any(&a->bases[b].local); /* the kernel has not chosen yet */
        if (!there)
            ice_base_kill(a, b);
    }
    ice_sweep(a);
    for (size_t i = 0; i < m; i++) {
        if (!has_address(a, &chosen[i]->ip))
            open_sockets(a, chosen[i], order_of(chosen[i], i));
        for (uint16_t b = 0; b < a->base_n; b++)
            if (a->bases[b].kind <= BASE_LISTEN && tw_addr_eq_ip(&a->bases[b].local, &chosen[i]->ip))
                see_again(a, b, chosen[i], order_of(chosen[i], i));
    }
    a->gathering = true;
    a->gather_until = now + GATHER_WITHIN;
    ice_relay_start(a, NONE);
    ice_tick(a);
    return 0;
}

/* How many servers a listener asks, and whether this is one of them. */
static unsigned asked_over_tcp(const struct tw_ice *a, uint16_t listener, const struct tw_addr *server,
                               bool *ret_this)
{
    unsigned n = 0;
    *ret_this = false;
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].kind == BASE_ASK && a->bases[b].parent == listener) {
            n++;
            *ret_this = *ret_this || tw_addr_eq(&a->bases[b].remote, server);
        }
    return n;
}

/* Where a listener's port is seen from outside shows a connection to a server that comes from that port; it
 * is kept until there is a path, for the mapping's sake. A TURN server answers such a question, too. */
static void ask_over_tcp(struct tw_ice *a, uint16_t listener)
{
    struct tw_addr local = a->bases[listener].local;
    if (a->cfg.policy == TW_ICE_RELAY_ONLY || tw_addr_is_loopback(&local) ||
        (local.family == TW_FAMILY_V4 && !ice_is_private(&local)))
        return;
    for (unsigned s = 0; s < a->server_n; s++) {
        const struct tw_ice_server *server = &a->servers[s];
        bool asked;
        if (asked_over_tcp(a, listener, &server->addr, &asked) == ASK_MAX || asked ||
            !ice_reaches(a, &a->bases[listener], &server->addr) ||
            (server->transport != TW_TRANSPORT_UDP && server->transport != TW_TRANSPORT_TCP))
            continue;
        uint16_t b = ice_base_add(a, BASE_ASK, a->bases[listener].comp, &local);
        if (b == NONE)
            return;
        a->bases[b].remote = server->addr;
        a->bases[b].parent = listener;
        a->bases[b].keep_at = a->now + ASKING;
        ice_note(a, TW_ICE_OPEN, b, a->bases[b].sock);
    }
}

static bool was_asked(const struct tw_ice *a, uint16_t base, unsigned server)
{
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].base == base && a->queries[i].index == server)
            return true;
    return false;
}

/* Asks those servers from here that have not been. */
void ice_gather_servers(struct tw_ice *a, uint16_t base)
{
    if (a->cfg.lite)
        return;
    if (a->bases[base].kind == BASE_LISTEN) {
        ask_over_tcp(a, base);
        return;
    }
    for (unsigned s = 0; s < a->server_n; s++) {
        const struct tw_ice_server *server = &a->servers[s];
        if (!server->turn && ice_reaches(a, &a->bases[base], &server->addr) && !was_asked(a, base, s))
            ice_query_add(a, base, &server->addr, (uint8_t)s, false);
    }
    ice_relay_start(a, base);
}

void ice_gather_all_servers(struct tw_ice *a)
{
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].kind <= BASE_LISTEN && a->bases[b].state == BASE_OPEN && !a->bases[b].probe)
            ice_gather_servers(a, b);
    ice_relay_start(a, NONE);
}

int tw_ice_add_servers(struct tw_ice *a, tw_time now, const struct tw_ice_server *list, size_t n)
{
    int err = 0;
    a->now = now;
    for (size_t i = 0; i < n && !err; i++) {
        err = ice_server_add(a, &list[i]);
        if (!err)
            ice_tape_server(a->tape, now, &list[i]);
    }
    ice_tape(a->tape, now, "servers");
    if (a->base_n && !a->closing) { /* else the interfaces are still to come */
        a->gathering = true;
        a->gather_until = now + GATHER_WITHIN;
        ice_gather_all_servers(a);
        ice_tick(a);
    }
    return err;
}

/* A socket stands: its own address is a candidate, and servers are asked. */
void ice_gather_base(struct tw_ice *a, uint16_t base)
{
    ice_local_add(a, base, TW_ICE_HOST, &a->bases[base].local, NULL);
    ice_gather_servers(a, base);
    ice_map_base(a, base);
    ice_pair_local(a, base);
    ice_gather_tick(a);
    ice_check_tick(a);
}

/* --- STUN servers --------------------------------------------------------------------------------- */

uint16_t ice_query_add(struct tw_ice *a, uint16_t base, const struct tw_addr *server, uint8_t index,
                       bool probe)
{
    if (!ICE_GROW(a, queries, query, MAX_QUERIES))
        return NONE;
    struct query *q = &a->queries[a->query_n];
    *q = (struct query){ .server = *server, .base = base, .index = index, .probe = probe };
    ice_txn_start(a, &q->txn);
    return a->query_n++;
}

/* The NAT's mapping towards a TURN server must live, too. */
void ice_gather_keep(struct tw_ice *a, uint16_t base, const struct tw_addr *server, uint8_t index)
{
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].base == base && tw_addr_eq(&a->queries[i].server, server))
            return;
    uint16_t q = ice_query_add(a, base, server, index, false);
    if (q == NONE)
        return;
    tw_stun_txn_stop(&a->queries[q].txn); /* it has just answered an Allocate */
    a->queries[q].done = true;
    if (a->bases[base].keep_at == TW_NEVER)
        a->bases[base].keep_at = a->now + WARM;
}

static bool is_known_server(const struct tw_ice *a, uint16_t base, const struct tw_addr *addr)
{
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].base == base && tw_addr_eq_ip(&a->queries[i].server, addr))
            return true;
    return false;
}

/* Does the server have a second address, and are no others known, then that one is asked too: two
 * mappings show how the NAT maps (RFC 5780 §4.3, without its tests). One base is enough. */
static void ask_other(struct tw_ice *a, const struct query *q, const struct tw_stun_msg *m)
{
    struct tw_addr other, port;
    if (a->nat.n > 3 || q->index == NONE8 ||
        !tw_stun_get_addr(m, TW_STUN_A_OTHER_ADDRESS, &other) ||
        other.family != q->server.family || is_known_server(a, q->base, &other))
        return;
    uint16_t base = q->base;
    port = q->server;
    port.port = other.port;
    ice_query_add(a, base, &other, NONE8, false);
    ice_query_add(a, base, &port, NONE8, false);
}

bool ice_gather_response(struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m,
                         const struct tw_addr *src)
{
    struct tw_addr mapped;
    struct query *q = NULL;
    if (m->method != TW_STUN_BINDING || (m->cls != TW_STUN_SUCCESS && m->cls != TW_STUN_ERROR))
        return false;
    for (uint16_t i = 0; i < a->query_n && !q; i++)
        if (a->queries[i].base == base && tw_stun_txn_is(&a->queries[i].txn, m->tid) &&
            tw_addr_eq(&a->queries[i].server, src))
            q = &a->queries[i];
    if (!q)
        return false;
    tw_time first = q->txn.first + (q - a->queries); /* of one moment: in the order they left */
    q->rtt = a->now - q->txn.first;
    q->done = true;
    q->want_tx = q->failed = false;
    tw_stun_txn_stop(&q->txn);
    if (m->cls == TW_STUN_ERROR || m->bad_attr || m->unknown_n ||
        (!tw_stun_get_addr(m, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped) &&
         !tw_stun_get_addr(m, TW_STUN_A_MAPPED_ADDRESS, &mapped))) {
        struct tw_bytes reason;
        q->failed = true;
        tw_stun_get_error(m, &q->code, &reason);
        ice_gather_tick(a);
        return true;
    }
    ice_nat_sample(a, base, src, &mapped, first);
    if (q->probe) {
        ice_probe_measured(a, &mapped);
        return true;
    }
    if (a->bases[base].kind == BASE_ASK) {
        struct tw_addr server = q->server;
        a->bases[base].keep_at = TW_NEVER;
        ice_local_add(a, a->bases[base].parent, TW_ICE_SRFLX, &mapped, &server);
        ice_gather_tick(a);
        return true;
    }
    if (a->bases[base].keep_at == TW_NEVER)
        a->bases[base].keep_at = a->now + WARM;
    if (q->index != NONE8) {
        struct tw_addr server = q->server;
        ask_other(a, q, m);
        ice_local_add(a, base, TW_ICE_SRFLX, &mapped, &server);
    }
    ice_gather_tick(a);
    return true;
}

/* Mappings must live until the peer has answered, which may take a person's time. */
static void keep_warm(struct tw_ice *a, uint16_t base)
{
    struct base *b = &a->bases[base];
    if (b->kind == BASE_CONN && b->keep_at <= a->now) {
        b->keep_at = TW_NEVER;
        for (uint16_t i = 0; i < a->pair_n; i++)
            if (a->pairs[i].base == base && a->pairs[i].state != PAIR_FAILED)
                return;
        ice_base_kill(a, base); /* nobody ever proved anything over it */
        return;
    }
    if (b->kind == BASE_ASK && a->comps[b->comp].path != NONE)
        ice_base_kill(a, base);
    if (b->keep_at > a->now)
        return;
    b->keep_at = TW_NEVER;
    if (a->comps[b->comp].path != NONE || b->state != BASE_OPEN)
        return;
    for (uint16_t i = 0; i < a->query_n; i++) {
        struct query *q = &a->queries[i];
        if (q->base != base || !q->done || q->index == NONE8)
            continue;
        q->done = false;
        ice_txn_start(a, &q->txn);
        b->keep_at = a->now + WARM;
    }
}

static bool is_awaited(const struct tw_ice *a, const struct base *b)
{
    if (b->kind == BASE_CANARY)
        return false;
    if (b->kind == BASE_ASK) /* connecting, or waiting for the answer */
        return b->state != BASE_DEAD && b->keep_at != TW_NEVER && b->keep_at > a->now;
    return b->state == BASE_OPENING && !b->probe && b->kind != BASE_CONN;
}

static bool is_done(const struct tw_ice *a)
{
    if (ice_map_pending(a))
        return false;
    for (uint16_t i = 0; i < a->query_n; i++)
        if (!a->queries[i].done && !a->queries[i].probe &&
            a->bases[a->queries[i].base].kind != BASE_ASK)
            return false;
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (!a->relays[i].ready && !a->relays[i].failed)
            return false;
    for (uint16_t i = 0; i < a->base_n; i++)
        if (is_awaited(a, &a->bases[i]))
            return false;
    return true;
}

void ice_gather_tick(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->query_n; i++) {
        struct query *q = &a->queries[i];
        bool stream = a->bases[q->base].kind == BASE_ASK;
        int step = tw_stun_txn_step(&q->txn, &timing, stream, a->now);
        if (step > 0) {
            q->want_tx = true;
        } else if (step < 0) {
            q->done = q->failed = true;
            if (q->probe)
                ice_probe_measured(a, NULL);
            else if (!stream && a->bases[q->base].keep_at == TW_NEVER)
                a->bases[q->base].keep_at = a->now + AGAIN;
        }
    }
    for (uint16_t i = 0; i < a->base_n; i++)
        keep_warm(a, i);
    if (a->gathering && (is_done(a) || a->now >= a->gather_until)) {
        a->gathering = false;
        a->gather_until = TW_NEVER;
        a->gathered_said = true;
        ice_note(a, TW_ICE_GATHERED, 0, 0);
    }
}

tw_time ice_gather_deadline(const struct tw_ice *a)
{
    tw_time at = a->gather_until;
    for (uint16_t i = 0; i < a->query_n; i++)
        at = tw_time_min(at, a->queries[i].txn.due);
    for (uint16_t i = 0; i < a->base_n; i++)
        at = tw_time_min(at, a->bases[i].keep_at);
    return at;
}

bool ice_gather_tx(struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->query_n; i++) {
        struct query *q = &a->queries[i];
        struct tw_stun_enc e;
        if (!q->want_tx)
            continue;
        q->want_tx = false;
        tw_stun_begin(&e, a->build, sizeof(a->build), TW_STUN_REQUEST, TW_STUN_BINDING, q->txn.tid);
        tw_stun_add_fingerprint(&e);
        if (tw_stun_end(&e) == 0 &&
            ice_emit(a, q->base, &q->server, tw_bytes(e.w.p, e.w.n), 0, true) == 0)
            return true;
    }
    return false;
}
