/* Candidates, ours and the peer's: what they are worth, which there are. */
#include "ice/internal.h"

#include <stdio.h>

bool ice_is_tcp(uint8_t transport)
{
    return transport != TW_ICE_UDP;
}

/* RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 §2.5.6: what is of no use from far away. */
bool ice_is_private(const struct tw_addr *a)
{
    const uint8_t *ip = a->ip;
    if (tw_addr_is_link_local(a) || tw_addr_is_loopback(a))
        return true;
    if (a->family == TW_FAMILY_V6)
        return (ip[0] & 0xfe) == 0xfc;
    return ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) || (ip[0] == 192 && ip[1] == 168) ||
           (ip[0] == 100 && (ip[1] & 0xc0) == 64);
}

/* RFC 8445 §5.1.2.1: type preference, local preference, component. RFC 6544 §4.2 wants UDP above TCP
 * and divides the local preference of TCP by direction. */
uint32_t ice_priority(const struct tw_ice *a, enum tw_ice_type type,
                      enum tw_ice_transport transport, uint16_t order, uint16_t comp)
{
    static const uint8_t udp[] = { 126, 100, 110, 2 }, tcp[] = { 90, 70, 80, 0 };
    static const uint8_t near[] = { 0, 6, 4, 2 }, natted[] = { 0, 4, 2, 6 };
    const uint8_t *direction = type == TW_ICE_SRFLX || type == TW_ICE_PRFLX ? natted : near;
    uint32_t local = transport == TW_ICE_UDP ? 65535u - order
                                             : ((uint32_t)direction[transport] << 13 | (8191u - order));
    uint32_t t = transport == TW_ICE_UDP ? udp[type] : tcp[type];
    return t << 24 | local << 8 | (256u - ice_component_id(a, comp));
}

uint16_t ice_priority_order(uint32_t priority, bool tcp)
{
    uint32_t local = priority >> 8 & 0xffff;
    return (uint16_t)(tcp ? 8191u - (local & 8191u) : 65535u - local);
}

/* RFC 8445 §5.1.1.3: the same for the same type, base address, server and protocol. Keyed, so that
 * it tells nobody an address that is kept back. */
static uint32_t foundation(const struct tw_ice *a, enum tw_ice_type type, bool tcp,
                           const struct tw_addr *base, const struct tw_addr *server)
{
    struct tw_addr none = { .family = TW_FAMILY_NONE };
    struct tw_addr parts[2] = { tw_addr_ip_only(base), server ? tw_addr_ip_only(server) : none };
    uint8_t bytes[sizeof(parts)];
    memcpy(bytes, parts, sizeof(parts));
    uint32_t h = a->seed ^ ((uint32_t)type * 2 + tcp);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        h = (h ^ bytes[i]) * 16777619u;
        h ^= h >> 15;
    }
    return h;
}

void ice_local_tell(struct tw_ice *a, struct local *l)
{
    l->told = !ice_is_told(a, l);
    if (!l->told)
        ice_note(a, TW_ICE_CANDIDATE, 0, 0);
}

bool ice_is_told(const struct tw_ice *a, const struct local *l)
{
    if (l->type == TW_ICE_PRFLX)
        return false;
    if (a->cfg.policy == TW_ICE_RELAY_ONLY)
        return l->type == TW_ICE_RELAY;
    return a->cfg.policy != TW_ICE_NO_HOST || l->type != TW_ICE_HOST;
}

/* server: who told us the address; NULL: nobody. An address that is known already is not added again
 * (RFC 8445 §5.1.3). */
static uint16_t add(struct tw_ice *a, uint16_t base, enum tw_ice_type type,
                    enum tw_ice_transport transport, const struct tw_addr *addr,
                    const struct tw_addr *server)
{
    const struct base *b = &a->bases[base];
    bool relay = type == TW_ICE_RELAY;
    for (uint16_t i = 0; i < a->local_n; i++)
        if (a->locals[i].comp == b->comp && a->locals[i].transport == transport &&
            tw_addr_eq(&a->locals[i].addr, addr))
            return i;
    if (!ICE_GROW(a, locals, local, MAX_BASES))
        return NONE;
    struct local *l = &a->locals[a->local_n];
    *l = (struct local){ .addr = *addr, .base = base, .comp = b->comp, .type = (uint8_t)type,
                         .transport = (uint8_t)transport };
    l->priority = ice_priority(a, type, transport, b->order, b->comp);
    l->foundation = foundation(a, type, transport != TW_ICE_UDP, &b->local, server);
    if (type != TW_ICE_HOST)
        l->related = relay ? *server : b->local;
    ice_local_tell(a, l);
    return a->local_n++;
}

/* Ports of the web, where something else on this machine passes connections on to us. */
static void add_web(struct tw_ice *a, uint16_t base, enum tw_ice_type type, const struct tw_addr *addr,
                    const struct tw_addr *server)
{
    for (uint8_t via = TW_ICE_VIA_HTTP; a->cfg.web && type == TW_ICE_HOST && via <= TW_ICE_VIA_HTTPS; via++) {
        struct tw_addr at = *addr;
        at.port = a->cfg.web_ports[via - TW_ICE_VIA_HTTP];
        uint16_t l = at.port ? add(a, base, type, TW_ICE_TCP_PASSIVE, &at, server) : NONE;
        if (l != NONE)
            a->locals[l].via = via;
    }
}

/* A port that listens is also one to connect from while the peer does (RFC 6544: simultaneous-open). That
 * helps where something lets only those in to whom somebody spoke first. */
uint16_t ice_local_add(struct tw_ice *a, uint16_t base, enum tw_ice_type type,
                       const struct tw_addr *addr, const struct tw_addr *server)
{
    switch (a->bases[base].kind) {
    case BASE_LISTEN:
        add_web(a, base, type, addr, server);
        if (type == TW_ICE_SRFLX || !ice_is_private(addr))
            add(a, base, type, TW_ICE_TCP_SO, addr, server);
        return add(a, base, type, TW_ICE_TCP_PASSIVE, addr, server);
    case BASE_CONN:
        return add(a, base, type, TW_ICE_TCP_ACTIVE, addr, server);
    default:
        return add(a, base, type, TW_ICE_UDP, addr, server);
    }
}

void ice_local_forget(struct tw_ice *a, uint16_t base, const struct tw_addr *addr)
{
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->local_n; i++)
        if (a->locals[i].base != base || !tw_addr_eq(&a->locals[i].addr, addr))
            a->locals[kept++] = a->locals[i];
    a->local_n = kept;
}

size_t tw_ice_candidates(const struct tw_ice *a, struct tw_ice_candidate *out, size_t cap)
{
    size_t n = 0;
    for (uint16_t i = 0; i < a->local_n && n < cap; i++)
        if (ice_is_told(a, &a->locals[i]) && a->locals[i].told)
            ice_local_fill(a, &a->locals[i], &out[n++]);
    return n;
}

void ice_local_fill(const struct tw_ice *a, const struct local *l, struct tw_ice_candidate *ret)
{
    *ret = (struct tw_ice_candidate){ .addr = l->addr, .related = l->related,
                                      .priority = l->priority, .type = l->type,
                                      .stream = (uint8_t)(l->comp / a->cfg.components),
                                      .component = ice_component_id(a, l->comp),
                                      .transport = l->transport };
    snprintf(ret->foundation, sizeof(ret->foundation), "%lu", (unsigned long)l->foundation);
    if (a->cfg.web && (l->transport == TW_ICE_TCP_PASSIVE || l->transport == TW_ICE_TCP_SO)) {
        snprintf(ret->web, sizeof(ret->web), "%s", a->cfg.web);
        ret->via = l->via;
    }
    ret->addr.scope = 0;
    /* RFC 8839 §5.1: an address that is kept back is not told as the related one either. */
    if (l->type != TW_ICE_HOST && (a->cfg.policy != TW_ICE_ALL || l->type == TW_ICE_RELAY)) {
        ret->related = (struct tw_addr){ .family = l->addr.family };
        ret->related.port = 9;
    }
}

/* --- the peer's ----------------------------------------------------------------------------------- */

uint16_t ice_remote_find(const struct tw_ice *a, uint16_t comp, const struct tw_addr *addr,
                         bool tcp, uint8_t via)
{
    for (uint16_t i = 0; i < a->remote_n; i++) {
        const struct remote *r = &a->remotes[i];
        if (r->comp == comp && ice_is_tcp(r->transport) == tcp && r->via == via && r->addr.port == addr->port &&
            r->addr.family == addr->family && memcmp(r->addr.ip, addr->ip, 16) == 0)
            return i;
    }
    return NONE;
}

static uint16_t count(const struct tw_ice *a, uint16_t comp)
{
    uint16_t n = 0;
    for (uint16_t i = 0; i < a->remote_n; i++)
        n = (uint16_t)(n + (a->remotes[i].comp == comp));
    return n;
}

/* A place for another one. When all are taken, a candidate that never answered and is in no use gives
 * way to one that has proved to be the peer's. */
static uint16_t place(struct tw_ice *a, uint16_t comp, bool proved)
{
    if (count(a, comp) < MAX_REMOTES && ICE_GROW(a, remotes, remote, MAX_REMOTES * 32))
        return a->remote_n++;
    for (uint16_t i = a->remote_n; proved && i-- > 0;) {
        struct remote *r = &a->remotes[i];
        if (r->comp != comp || r->answered || r->proved)
            continue;
        for (uint16_t k = 0; k < a->pair_n; k++)
            if (a->pairs[k].remote == i)
                ice_pair_fail(a, &a->pairs[k], "given up for another address");
        return i;
    }
    return NONE;
}

/* RFC 8445 §7.3.1.3: a peer-reflexive one. */
uint16_t ice_remote_learn(struct tw_ice *a, uint16_t comp, const struct tw_addr *addr, bool tcp, uint8_t via,
                          uint32_t priority)
{
    uint16_t i = place(a, comp, true);
    if (i != NONE)
        a->remotes[i] = (struct remote){ .addr = *addr, .priority = priority, .comp = comp,
                                         .type = TW_ICE_PRFLX, .via = via, .foundation = 0x80000000u + i,
                                         .transport = tcp ? TW_ICE_TCP_ACTIVE : TW_ICE_UDP };
    return i;
}

/* Nothing is ever sent to these, whoever names them. */
static bool is_target(const struct tw_ice *a, const struct tw_addr *addr, uint8_t transport)
{
    if (!tw_addr_is_unicast(addr) || (addr->port == 0 && transport != TW_ICE_TCP_ACTIVE))
        return false;
    if (!tw_addr_is_loopback(addr))
        return true;
    for (uint16_t i = 0; i < a->base_n; i++)
        if (tw_addr_is_loopback(&a->bases[i].local))
            return true;
    return false;
}

static uint32_t hash_text(const char *text)
{
    uint32_t h = 2166136261u;
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619u;
    return h & 0x7fffffff;
}

static int add_remote(struct tw_ice *a, uint16_t comp, const struct tw_ice_candidate *c, uint8_t via)
{
    bool tcp = ice_is_tcp(c->transport);
    if (tcp && a->cfg.vias && !(a->cfg.vias & 1U << via))
        return 0;
    uint8_t transport = via ? TW_ICE_TCP_PASSIVE : c->transport;
    uint32_t priority = c->priority > via ? c->priority - via : c->priority;
    uint16_t i = ice_remote_find(a, comp, &c->addr, tcp, via);
    if (i != NONE) { /* RFC 8838 §11: told after it was learned; or told twice */
        if (a->remotes[i].type == TW_ICE_PRFLX) {
            a->remotes[i].type = c->type;
            a->remotes[i].transport = transport;
            a->remotes[i].priority = priority;
            a->remotes[i].foundation = hash_text(c->foundation);
            ice_pairs_recompute(a);
        } else if (transport == TW_ICE_TCP_SO) { /* passive, too: connecting from our port serves both */
            a->remotes[i].transport = TW_ICE_TCP_SO;
        }
        ice_pair_remote(a, i); /* after a restart it counts anew */
        return 0;
    }
    i = place(a, comp, false);
    if (i == NONE)
        return TW_EFULL;
    a->remotes[i] = (struct remote){ .addr = c->addr, .priority = priority, .comp = comp, .type = c->type,
                                     .transport = transport, .via = via, .foundation = hash_text(c->foundation) };
    ice_pair_remote(a, i);
    return 0;
}

int tw_ice_add_remote(struct tw_ice *a, tw_time now, const struct tw_ice_candidate *c)
{
    if (c->stream >= a->cfg.streams || c->component < 1)
        return TW_EINVAL;
    if (c->component > a->cfg.components)
        return 0; /* RFC 8839 §5.1: of a component we do not use */
    uint16_t comp = (uint16_t)(c->stream * a->cfg.components + c->component - 1);
    bool tcp = ice_is_tcp(c->transport), web = tcp && c->transport != TW_ICE_TCP_ACTIVE && ice_is_web_token(c->web);
    a->now = now;
    ice_tape_candidate(a->tape, now, c);
    if (!is_target(a, &c->addr, c->transport) || (tcp && !a->cfg.tcp) || (c->via && !web))
        return 0;
    if (web)
        memcpy(a->streams[c->stream].web, c->web, sizeof(c->web));
    int err = add_remote(a, comp, c, c->via);
    if (!err && web && !c->via && (err = add_remote(a, comp, c, TW_ICE_VIA_HTTP)) == 0)
        err = add_remote(a, comp, c, TW_ICE_VIA_HTTPS);
    return err;
}
