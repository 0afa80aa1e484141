#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static struct tw_addr at(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return tw_addr_v4(a, b, c, d, 0);
}

/* --- kinds ------------------------------------------------------------------------------------ */

struct sim_nat_kind nat_kind_at(unsigned i)
{
    return (struct sim_nat_kind){ .mapping = (enum sim_dependence)(i / 12),
                                  .filtering = (enum sim_dependence)(i / 4 % 3),
                                  .ports = (enum sim_ports)(i % 4) };
}

const char *nat_kind_name(const struct sim_nat_kind *k, char buf[32])
{
    static const char *const dependence[] = { "I", "A", "AP" };
    static const char *const ports[] = { "keep", "seq", "parity", "random" };
    snprintf(buf, 32, "%s/%s/%s", dependence[k->mapping], dependence[k->filtering],
             ports[k->ports]);
    return buf;
}

bool nat_kind_find(const char *name, struct sim_nat_kind *ret)
{
    char buf[32];
    for (unsigned i = 0; i < NAT_KIND_COUNT; i++) {
        *ret = nat_kind_at(i);
        if (!strcmp(name, nat_kind_name(ret, buf)))
            return true;
    }
    return false;
}

/* One that maps all destinations alike is reached if the other knows to which port to send, and that is
 * the one any server saw. */
static bool is_easy(const struct place *p)
{
    if (p->natted && !p->nat.firewall && p->nat.mapping != SIM_INDEPENDENT)
        return false;
    return !p->carrier || p->outer.mapping == SIM_INDEPENDENT;
}

static const struct sim_nat_kind *hard_one(const struct place *p)
{
    return p->carrier && p->outer.mapping != SIM_INDEPENDENT ? &p->outer : &p->nat;
}

/* A port is drawn by lot by any NAT on the way that gives each mapping another one. One behind the hard
 * one does no harm: what counts does so whatever comes. */
static bool is_lottery(const struct place *p)
{
    return hard_one(p)->ports == SIM_PORTS_RANDOM ||
           (p->carrier && hard_one(p) == &p->nat && p->outer.ports == SIM_PORTS_RANDOM);
}

bool blocks_udp(const struct place *p)
{
    return p->natted && (p->nat.no_udp || (p->carrier && p->outer.no_udp));
}

/* Only some ports, only TLS, only a proxy: nothing that a peer would answer. */
static bool is_narrow(const struct place *p)
{
    return p->natted && (p->nat.only_ports[0] || p->nat.tls_only || p->nat.only_to.family);
}

static bool is_strict(const struct place *p)
{
    return p->natted && (p->nat.no_simultaneous || (p->carrier && p->outer.no_simultaneous));
}

/* Without UDP on one side: one that lets everybody in is connected to; two others begin at once, for which each
 * must be seen at one port by all, and one of the two have a NAT that lets the other's SYN in after its own.
 * Over TCP no port is foretold. */
static bool theory_allows_tcp(const struct place *a, const struct place *b)
{
    bool in_a = !a->natted, in_b = !b->natted; /* do they let everybody in? */
    if (is_narrow(a) || is_narrow(b))
        return false;
    if (in_a || in_b)
        return true;
    return is_easy(a) && is_easy(b) && !(is_strict(a) && is_strict(b));
}

/* Two easy ones punch holes. An easy and a hard one: the hard one's port is foretold, or hit by chance
 * with enough sockets. Two hard ones: when both pick ports that can be foretold; or when one lets in
 * everybody and the other everybody from an address it has sent to, and one of them keeps its port
 * towards all ports of an address, so that checks and answers find to one pair of ports. With a port
 * drawn by lot on a side that must be aimed at, while the own port changes with every aim, nothing can
 * be done. */
bool theory_allows(const struct place *a, const struct place *b)
{
    if (blocks_udp(a) || blocks_udp(b))
        return theory_allows_tcp(a, b);
    if (is_easy(a) || is_easy(b))
        return true;
    const struct sim_nat_kind *x = hard_one(a), *y = hard_one(b);
    if (!is_lottery(a) && !is_lottery(b))
        return true;
    if (x->mapping == SIM_ADDRESS_AND_PORT && y->mapping == SIM_ADDRESS_AND_PORT)
        return false;
    return (x->filtering == SIM_INDEPENDENT && y->filtering != SIM_ADDRESS_AND_PORT) ||
           (y->filtering == SIM_INDEPENDENT && x->filtering != SIM_ADDRESS_AND_PORT);
}

struct tw_addr proxy_addr(void)
{
    return tw_addr_v4(203, 0, 114, 9, 3128);
}

/* --- the stage -------------------------------------------------------------------------------- */

static void put_peer(struct world *w, const struct world_options *o, struct ice_node *n,
                     const struct place *p, bool first)
{
    /* The relay knows two addresses, so that mappings can be compared. */
    struct tw_ice_server servers[TW_ICE_SERVERS_MAX];
    size_t k = 0;
    struct tw_ice_server web = { .addr = relay_node_addr(&w->relay), .turn = true,
                                 .username = "user", .password = "pass" };
    uint8_t who = first ? 1 : 2;
    struct sim_nat *nat = NULL;
    struct tw_addr ip = at(198, 51, 100 + who, 9), outside = ip;
    if (!o->no_stun)
        servers[k++] = (struct tw_ice_server){ .addr = relay_node_addr(&w->relay) };
    if (!o->no_relay)
        servers[k++] = (struct tw_ice_server){ .addr = relay_node_addr(&w->relay), .turn = true,
                                               .username = "user", .password = "pass" };
    if (o->web) {
        web.addr.port = 80;
        web.transport = TW_TRANSPORT_TCP;
        servers[k++] = web;
        web.addr.port = 443;
        web.transport = TW_TRANSPORT_TLS;
        servers[k++] = web;
    }
    if (o->dead_server) {
        servers[k++] = (struct tw_ice_server){ .addr = tw_addr_v4(203, 0, 113, 99, 3478) };
        servers[k++] = (struct tw_ice_server){ .addr = tw_addr_v4(203, 0, 113, 99, 3478),
                                               .turn = true, .username = "u", .password = "p" };
    }
    if (p->natted && !first && o->same_nat) {
        nat = w->nat_a;
        ip = at(192, 168, 1, 9);
    } else if (p->natted) {
        struct sim_nat *outer = !first && o->same_carrier ? w->carrier_a
                                : p->carrier ? sim_nat(w->sim, at(198, 51, 100 + who, 1), p->outer, NULL)
                                             : NULL;
        if (first)
            w->carrier_a = outer;
        outside = outer ? at(100, 64, who, 1) : at(198, 51, 100 + who, 1);
        nat = sim_nat(w->sim, outside, p->nat, outer);
        if (p->nat.nat64.first.port)
            ip = tw_addr_v6((uint8_t[16]){ 0x20, 1, 0x0d, 0xb8, 0, who, [15] = 5 }, 0);
        else if (!p->nat.firewall)
            ip = at(192, 168, who, 5);
        sim_nat_set_link(outer ? outer : nat, p->link);
    }
    if (p->v6)
        ip = tw_addr_v6((uint8_t[16]){ 0x20, 1, 0x0d, 0xb8, 0, who, [15] = 9 }, 0);
    struct sim_link link = p->natted ? (struct sim_link){ .delay = TW_MSEC / 2 } : p->link;
    *(first ? &w->nat_a : &w->nat_b) = nat;
    struct tw_ice_config cfg = { .controlling = first, .servers = servers, .server_n = k,
                                 .own_peer = !o->foreign, .foreign = o->foreign,
                                 .no_probing = o->no_probing, .tcp = p->tcp };
    if (first)
        cfg.tape = o->tape_a;
    ice_node_init(n, w->sim, ip, nat, link, &cfg);
    if (nat && p->has_gateway) {
        n->interfaces[0].gateway = at(192, 168, who, 1);
        gateway_node_init(first ? &w->gateway_a : &w->gateway_b, w->sim, nat,
                          n->interfaces[0].gateway, outside, p->gateway);
    }
    n->cfg.servers = NULL;
    if (p->proxied)
        n->proxy = proxy_addr();
    if (p->natted && p->nat.nat64.first.port)
        tw_ice_nat64(n->ice, sim_now(w->sim), &p->nat.nat64);
}

static void put_relay(struct world *w)
{
    static const uint8_t last[2] = { 1, 2 };
    relay_node_init(&w->relay, w->sim, at(203, 0, 114, 1), (struct tw_addr){ 0 },
                    (struct sim_link){ .delay = TW_MSEC }, 1);
    sim_host_add_ip(w->relay.host, at(203, 0, 114, 2));
    for (uint32_t i = 0; i < 4; i++) {
        w->relay.cfg.listeners[i] = tw_addr_v4(203, 0, 114, last[i / 2], (uint16_t)(3478 + i % 2));
        w->relay.cfg.behaviour[0].listener[i / 2][i % 2] = i;
    }
    w->relay.cfg.listener_n = 4;
    w->relay.cfg.behaviour_n = 1;
    relay_node_start(&w->relay);
    relay_node_listen(&w->relay, 3478);
    relay_node_listen(&w->relay, 80);
    relay_node_listen(&w->relay, 443);
    proxy_node_init(&w->proxy, w->sim, at(203, 0, 114, 9), (struct sim_link){ .delay = TW_MSEC });
}

void world_begin(struct world *w, const struct world_options *o)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_new(o->seed);
    put_relay(w);
    put_peer(w, o, &w->a, &o->a, true);
    put_peer(w, o, &w->b, &o->b, false);
    ice_node_gather(&w->a);
    ice_node_gather(&w->b);
    sim_run(w->sim, sim_now(w->sim) + 400 * TW_MSEC, NULL);
    ice_node_meet(&w->a, &w->b, o->signal_delay, o->signal_delay + o->answer_delay);
}

struct outcome world_connect(struct world *w, const struct world_options *o)
{
    struct outcome r = { .usable = TW_NEVER, .direct_after = TW_NEVER };
    uint64_t before = sim_counts(w->sim).sent;
    tw_time end = sim_now(w->sim) + (o->limit ? o->limit : 15 * TW_SEC);
    while (sim_now(w->sim) < end && !(w->a.direct_at && w->b.direct_at)) {
        tw_time step = sim_now(w->sim) + 20 * TW_MSEC;
        sim_run(w->sim, step < end ? step : end, NULL);
    }
    tw_time both = w->a.heard_at > w->b.heard_at ? w->a.heard_at : w->b.heard_at;
    if (w->a.connected_at && w->b.connected_at) {
        tw_time later = w->a.connected_at > w->b.connected_at ? w->a.connected_at
                                                              : w->b.connected_at;
        r.connected = w->a.connected && w->b.connected;
        r.usable = later > both ? later - both : 0;
    }
    if (w->a.direct_at && w->b.direct_at) {
        tw_time later = w->a.direct_at > w->b.direct_at ? w->a.direct_at : w->b.direct_at;
        r.direct = true;
        r.direct_after = later > both ? later - both : 0;
    }
    r.local_type = w->a.path.local_type;
    r.remote_type = w->a.path.remote_type;
    r.packets = sim_counts(w->sim).sent - before;
    r.probes = tw_ice_stats(w->a.ice)->probes_sent + tw_ice_stats(w->b.ice)->probes_sent;
    return r;
}

void world_end(struct world *w)
{
    ice_node_fini(&w->a);
    ice_node_fini(&w->b);
    relay_node_fini(&w->relay);
    sim_free(w->sim);
}

struct outcome world_run(const struct world_options *o)
{
    static struct world w;
    world_begin(&w, o);
    struct outcome r = world_connect(&w, o);
    world_end(&w);
    return r;
}
