/* What this network lets through, rung by rung: addresses, rendezvous, UDP and NATs, port mappings, relays. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/relay.h>

#include "nat.h"
#include "peer.h"
#include "rt/ice.h"
#include "rt/os.h"
#include "rt/tls.h"

enum { REACH_MS = 6000, PROBE_MS = 6000, NAT_MS = 1500, SKEW_BAD_S = 60 };

/* A rendezvous server. */
struct desk {
    struct tw_rdv_addr addr;
    bool reached, failed;
    double ms, ahead_s;
    struct tw_addr seen;
    char why[128];
};

/* An ICE agent that knows one server only, or none: then it asks for port mappings. */
struct probe {
    struct tw_rt_ice rt;
    struct tw_ice_server server;
    bool has_server, used, done, works;
    double ms;
    struct tw_addr got;      /* relayed or mapped */
    char why[400];
};

static struct check {
    struct peer peer;
    struct peer_options o;
    struct desk desks[TW_ENDPOINT_SERVERS_MAX];
    size_t desk_n;
    struct probe probes[TW_ICE_SERVERS_MAX + 1]; /* the first: mappings */
    unsigned probe_n, running;
    struct nat nat;
    struct tw_addr stun;     /* family NONE: none is known */
    bool nat_runs, probing, v4, v6;
    tw_time begun;
    uv_timer_t timer;
    struct tw_rt_tls *tls;
} c;

static const char *text(const struct tw_addr *a)
{
    static char buf[4][TW_ADDR_STRLEN];
    static unsigned at;
    return tw_addr_format(a, buf[at++ % 4]);
}

static bool is_global(const struct tw_addr *a)
{
    struct tw_addr with_port = *a;
    with_port.port = 1;
    return tw_relay_is_public(&with_port);
}

/* --- what was found ---------------------------------------------------------------------------------- */

static void line(const char *head, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *head, const char *fmt, ...)
{
    va_list args;
    if (c.o.json)
        return;
    printf("%-13s ", head);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static void advise(const char *what)
{
    line("advice", "%s", what);
    peer_json(&c.peer, "advice", ",\"text\":%s", what);
}

static void rung(const char *name, bool works, const char *why)
{
    line(name, "%s%s%s", works ? "yes" : "no", *why ? ": " : "", why);
    peer_json(&c.peer, "rung", ",\"rung\":%s,\"works\":%b,\"why\":%s", name, works, why);
}

static void show_addresses(void)
{
    struct tw_ice_interface list[TW_ICE_INTERFACES_MAX];
    unsigned n;
    if (tw_rt_interfaces(list, TW_ICE_INTERFACES_MAX, &n))
        n = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct tw_addr *a = &list[i].ip;
        bool local = tw_addr_is_loopback(a) || (a->family == TW_FAMILY_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80);
        if (local)
            continue;
        c.v4 = c.v4 || a->family == TW_FAMILY_V4;
        c.v6 = c.v6 || (a->family == TW_FAMILY_V6 && is_global(a));
        line("address", "%s on %s%s", text(a), list[i].name,
             is_global(a) ? ", of the open Internet" : ", of a private network");
        peer_json(&c.peer, "address", ",\"address\":%s,\"interface\":%s,\"global\":%b", text(a), list[i].name,
                  is_global(a));
    }
}

static void show_desk(const struct desk *d)
{
    char name[TW_SERVER_TEXT_MAX];
    if (tw_rdv_addr_format(&d->addr, name, sizeof(name)))
        return;
    if (d->reached)
        line("rendezvous", "%s answers after %.0f ms over %s, sees us at %s, clock %+.1f s", name, d->ms,
             d->addr.plain ? "HTTP" : "HTTPS", text(&d->seen), d->ahead_s);
    else
        line("rendezvous", "%s: %s", name, d->why[0] ? d->why : "no answer in time");
    peer_json(&c.peer, "rendezvous", ",\"server\":%s,\"works\":%b,\"ms\":%f,\"seen\":%s,\"clock_ahead_s\":%f,\"why\":%s", name,
              d->reached, d->ms, d->reached ? text(&d->seen) : "", d->ahead_s, d->why);
}

static void show_nat(void)
{
    const struct tw_behaviour_event *r = &c.nat.result;
    if (!c.stun.family)
        return;
    if (!r->answered) {
        line("UDP", "%s does not answer: UDP is blocked", text(&c.stun));
    } else {
        line("UDP", "%s is seen as %s%s", text(&c.nat.local), text(&r->mapped),
             tw_addr_eq_ip(&c.nat.local, &r->mapped) ? ": no NAT" : "");
        if (r->can)
            line("NAT", "mapping %s", nat_mapping_text(r->mapping));
        if (r->can)
            line("", "filtering %s", nat_filtering_text(r->filtering));
        line("", "hairpin %s", r->hairpin ? "yes" : "no");
    }
    peer_json(&c.peer, "nat", ",\"server\":%s,\"answered\":%b,\"mapped\":%s,\"mapping\":%s,\"filtering\":%s,\"hairpin\":%b",
              text(&c.stun), r->answered, r->answered ? text(&r->mapped) : "",
              nat_name(r->mapping), nat_name(r->filtering), r->hairpin);
}

static void show_mapping(void)
{
    const struct probe *p = &c.probes[0];
    if (c.o.no_mapping)
        return;
    line("port mapping", "%s%s", p->works ? "yes, at " : "none", p->works ? text(&p->got) : "");
    peer_json(&c.peer, "mapping", ",\"works\":%b,\"at\":%s", p->works, p->works ? text(&p->got) : "");
}

static void show_relay(const struct probe *p)
{
    const char *over = tw_transport_name(p->server.transport), *said = p->server.transport == TW_TRANSPORT_WS ? "a WebSocket" : over;
    if (!p->server.turn)
        return;
    const char *where = p->server.transport == TW_TRANSPORT_WS ? "the rendezvous's" : text(&p->server.addr);
    if (p->works)
        line("relay", "%s over %s: yes, after %.0f ms", where, said, p->ms);
    else
        line("relay", "%s over %s: no%s%s", where, said, p->why[0] ? ": " : "", p->why);
    peer_json(&c.peer, "relay", ",\"server\":%s,\"transport\":%s,\"works\":%b,\"ms\":%f,\"why\":%s", text(&p->server.addr),
              over, p->works, p->ms, p->why);
}

static void show_proxy(void)
{
    const struct tw_proxy_url *p = &c.peer.rt.cfg.proxy;
    const char *kind = p->kind == TW_PROXY_SOCKS5 ? "SOCKS5" : "HTTP";
    if (p->kind == TW_PROXY_NONE)
        return;
    line("proxy", "%s at %s, port %u%s", kind, p->host, p->port, c.peer.rt.cfg.no_proxy ? "; not for some names (no_proxy)" : "");
    peer_json(&c.peer, "proxy", ",\"kind\":%s,\"host\":%s,\"port\":%u", kind, p->host, (unsigned)p->port);
}

/* --- what it means --------------------------------------------------------------------------------------- */

static bool relays_over(bool udp)
{
    for (unsigned i = 1; i < c.probe_n; i++)
        if (c.probes[i].works && c.probes[i].server.turn && (c.probes[i].server.transport == TW_TRANSPORT_UDP) == udp)
            return true;
    return false;
}

static int conclude(void)
{
    const struct tw_behaviour_event *n = &c.nat.result;
    bool udp = n->answered, relay = relays_over(true) || relays_over(false), desk = false, skewed = false, plain = false;
    bool hard = n->can && n->mapping > TW_NAT_INDEPENDENT, open = c.v6 || n->mapping == TW_NAT_NONE;
    for (size_t i = 0; i < c.desk_n; i++) {
        desk = desk || c.desks[i].reached;
        plain = plain || (c.desks[i].reached && c.desks[i].addr.plain);
        skewed = skewed || (c.desks[i].reached && (c.desks[i].ahead_s > (double)SKEW_BAD_S || c.desks[i].ahead_s < -(double)SKEW_BAD_S));
    }
    rung("udp", c.v4 || c.v6, open ? "also from the open Internet" : "within this network");
    rung("stun", udp, !c.stun.family ? "no server to ask" : !udp ? "UDP is blocked"
                      : hard ? "if the other side's NAT is kinder, or ports can be guessed" : "");
    rung("tcp", c.v4 || c.v6, open || c.probes[0].works ? "others can connect to us" : "if the other side can be connected to");
    rung("http", c.v4 || c.v6, "the same inside HTTP, if the other side listens at port 80 (--web)");
    rung("https", c.v4 || c.v6, "inside HTTPS, at any port of the other side's that this network lets out, or 443 (--web)");
    rung("relay", relay, relays_over(true) ? "over UDP" : relay ? "not over UDP" : "no relay answers");
    if (c.desk_n == 0)
        advise("There was no server to ask, so little could be looked at: name one with --server, or in "
               "~/.config/thalweg/config.");
    else if (!desk)
        advise("No rendezvous server answers: others can't dial this machine, nor it them. Check the name, and whether "
               "this network lets TCP to that port out.");
    if (desk && c.stun.family && !udp)
        advise("UDP is blocked here; connections go over TCP or a relay and are slower. If this is your network, let "
               "UDP out.");
    if (hard && !c.probes[0].works)
        advise("This NAT maps each destination otherwise, so that many peers are reached by the relay only. Port mapping "
               "(UPnP, NAT-PMP or PCP) in the router would help, or IPv6.");
    if (desk && !relay)
        advise("No relay answers: where nothing direct works there will be no connection. The server's operator can run "
               "thalwegd with its relay, or this network blocks it.");
    if (skewed)
        advise("This machine's clock, or the server's, is wrong by more than a minute: that costs a round trip at each "
               "connection. Set the clock.");
    if (plain)
        advise("A server is spoken to without TLS (ws://): who listens there sees that this machine talks to it.");
    return desk && (udp || relay) ? EXIT_OK : EXIT_FAILED;
}

static void finish(void)
{
    uv_timer_stop(&c.timer);
    for (unsigned i = 0; i < c.probe_n; i++)
        if (c.probes[i].used)
            tw_rt_ice_fini(&c.probes[i].rt);
    if (c.nat_runs)
        tw_rt_agent_fini(&c.nat.agent);
    c.nat_runs = false;
    show_nat();
    show_mapping();
    for (unsigned i = 1; i < c.probe_n; i++)
        show_relay(&c.probes[i]);
    peer_end(&c.peer, conclude());
}

/* --- probing ------------------------------------------------------------------------------------------- */

static void one_done(void)
{
    if (--c.running == 0)
        finish();
}

static void on_finish_later(uv_timer_t *t)
{
    (void)t;
    finish();
}

static void on_nat(struct nat *n)
{
    (void)n;
    /* Not from here: the agent that calls is to be closed. */
    if (--c.running == 0)
        uv_timer_start(&c.timer, on_finish_later, 0, 0);
}

/* The last line of what the agent says about its server. */
static void explain(struct probe *p)
{
    static char all[16384];
    tw_ice_explain(p->rt.ice, all, sizeof(all));
    for (char *save, *l = strtok_r(all, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        if (!strncmp(l, "TURN server", 11)) {
            const char *why = strstr(l, ": ");
            snprintf(p->why, sizeof(p->why), "%s", why ? why + 2 : l);
        }
}

static void on_ice(struct tw_rt_ice *r, const struct tw_ice_event *ev)
{
    struct probe *p = r->cfg.user;
    const struct tw_ice_candidate *cand = &ev->candidate;
    if (p->done)
        return;
    if (ev->type == TW_ICE_CANDIDATE &&
        (p->has_server ? cand->type == TW_ICE_RELAY : cand->type == TW_ICE_SRFLX)) {
        p->works = true;
        p->got = cand->addr;
    } else if (ev->type != TW_ICE_GATHERED) {
        return;
    }
    p->done = true;
    p->ms = (double)(tw_rt_now() - c.begun) / (double)TW_MSEC;
    if (!p->works && p->has_server)
        explain(p);
    if (--c.running == 0)
        uv_timer_start(&c.timer, on_finish_later, 0, 0);
}

/* The relay in the WebSocket of the first rendezvous that answers. */
static void inside(struct tw_rt_ice *r, unsigned server, struct tw_rt_link_config *how)
{
    (void)r, (void)server;
    for (size_t i = 0; i < c.desk_n; i++)
        if (c.desks[i].reached && tw_rt_endpoint_inside(&c.peer.rt, &c.desks[i].addr, how))
            return;
}

static void start_probe(const struct tw_ice_server *server)
{
    struct probe *p = &c.probes[c.probe_n];
    struct tw_rt_ice_config cfg = { .on_event = on_ice, .user = p };
    if (server)
        p->server = *server;
    p->has_server = server != NULL;
    cfg.ice.servers = server ? &p->server : NULL;
    cfg.ice.server_n = server != NULL;
    cfg.ice.no_mapping = server || c.o.no_mapping;
    cfg.ice.policy = server ? TW_ICE_RELAY_ONLY : TW_ICE_ALL;
    cfg.tls[0] = c.tls;
    if (server && server->transport == TW_TRANSPORT_WS)
        cfg.on_turn = inside;
    p->used = tw_rt_ice_init(&p->rt, c.peer.loop, &cfg) == 0;
    c.probe_n++;
    if (!p->used)
        return;
    c.running++;
    tw_rt_ice_start(&p->rt);
}

static void on_probes_late(uv_timer_t *t)
{
    (void)t;
    for (unsigned i = 0; i < c.probe_n; i++)
        if (c.probes[i].used && !c.probes[i].done && c.probes[i].has_server)
            explain(&c.probes[i]);
    finish();
}

static void start_probes(void)
{
    struct tw_ice_server servers[TW_ICE_SERVERS_MAX];
    size_t n = tw_endpoint_servers(c.peer.rt.endpoint, servers, TW_ICE_SERVERS_MAX);
    c.probing = true;
    c.begun = tw_rt_now();
    show_proxy();
    for (size_t i = 0; i < c.desk_n; i++)
        show_desk(&c.desks[i]);
    (void)!tw_rt_tls_new_trusting_none(&c.tls);
    c.running = 1; /* this function */
    start_probe(NULL);
    for (size_t i = 0; i < n; i++) {
        if (servers[i].transport == TW_TRANSPORT_UDP && !c.stun.family)
            c.stun = servers[i].addr;
        if (servers[i].turn)
            start_probe(&servers[i]);
    }
    if (c.stun.family && !nat_start(&c.nat, c.peer.loop, &c.stun, NAT_MS, on_nat, NULL)) {
        c.nat_runs = true;
        c.running++;
    }
    uv_timer_start(&c.timer, on_probes_late, PROBE_MS, 0);
    one_done();
}

/* --- reaching the servers --------------------------------------------------------------------------------- */

static void on_reach_late(uv_timer_t *t)
{
    (void)t;
    start_probes();
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    bool all = true;
    (void)p;
    for (size_t i = 0; i < c.desk_n; i++) {
        struct desk *d = &c.desks[i];
        if (tw_rdv_addr_eq(&d->addr, &ev->server) && ev->type == TW_EP_REACHED) {
            d->reached = true;
            d->ms = peer_ms(&c.peer);
            d->seen = ev->seen;
            d->ahead_s = (double)ev->ahead_ms / 1000;
        } else if (tw_rdv_addr_eq(&d->addr, &ev->server) && ev->type == TW_EP_OFFLINE) {
            d->failed = true;
            snprintf(d->why, sizeof(d->why), "%s", ev->why);
        }
        all = all && (d->reached || d->failed);
    }
    if (all && !c.probing)
        uv_timer_start(&c.timer, on_reach_late, 0, 0);
}

int cmd_check(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg check [options]\n\n"
        "Finds out what this network lets through: addresses, the rendezvous, UDP and what NATs do to it, port\n"
        "mappings, relays; says which rungs will work, and what could be done. Exits with 0 if others can be\n"
        "reached, 1 if not.\n\n";
    const struct cmd_option options[] = { PEER_OPTIONS(&c.o), { NULL } };
    struct tw_endpoint_config cfg = { 0 };
    bool done;
    int status = cmd_read(argc, argv, usage, options, NULL, &done);
    if (status || done)
        return status;
    c.peer.verb = argv[0];
    c.peer.on_event = on_event;
    status = peer_open(&c.peer, &c.o, &cfg, false);
    if (status)
        return status;
    c.peer.ladder = false; /* it is said here */
    show_addresses();
    c.desk_n = cfg.server_n;
    for (size_t i = 0; i < c.desk_n; i++)
        c.desks[i].addr = cfg.servers[i];
    uv_timer_init(c.peer.loop, &c.timer);
    uv_timer_start(&c.timer, on_reach_late, c.desk_n ? REACH_MS : 0, 0);
    status = peer_run(&c.peer);
    tw_rt_tls_unref(c.tls);
    return status;
}
