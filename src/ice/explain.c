/* What was tried and what came of it, in words that a person can act on. */
#include "ice/internal.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *p;
    size_t n, cap;
};

static void say(struct text *t, const char *fmt, ...) TW_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
    va_list args;
    if (t->n >= t->cap)
        return;
    va_start(args, fmt);
    int n = vsnprintf(t->p + t->n, t->cap - t->n, fmt, args);
    va_end(args);
    if (n > 0)
        t->n = (size_t)n >= t->cap - t->n ? t->cap - 1 : t->n + (size_t)n;
}

/* Whether a server with this address was reached over something else than UDP. */
static const char *reached_otherwise(const struct tw_ice *a, const struct tw_addr *server)
{
    for (uint16_t i = 0; i < a->relay_n; i++) {
        const struct relay *r = &a->relays[i];
        if (r->ready && a->servers[r->server].transport != TW_TRANSPORT_UDP &&
            tw_addr_eq_ip(&a->servers[r->server].addr, server))
            return ice_relay_transport(a, r);
    }
    return NULL;
}

static void explain_stun(const struct tw_ice *a, struct text *t, unsigned index)
{
    char s[TW_ADDR_STRLEN], l[TW_ADDR_STRLEN];
    const struct tw_addr *server = &a->servers[index].addr;
    const char *other = reached_otherwise(a, server);
    tw_addr_format(server, s);
    for (uint16_t i = 0; i < a->query_n; i++) {
        const struct query *q = &a->queries[i];
        if (q->index != index || q->probe)
            continue;
        tw_addr_format(&a->bases[q->base].local, l);
        if (q->failed && q->code)
            say(t, "STUN server %s refused to answer %s: %u %s\n", s, l, q->code,
                tw_stun_reason(q->code));
        else if (q->failed)
            say(t, "STUN server %s did not answer %s in 3 s over UDP%s%s%s\n", s, l,
                other ? "; over " : "", other ? other : "",
                other ? " it did: this network blocks UDP" : "");
        else if (q->done)
            say(t, "STUN server %s answered %s after %.0f ms\n", s, l, (double)q->rtt / 1e6);
    }
}

static void explain_relays(const struct tw_ice *a, struct text *t)
{
    char s[TW_ADDR_STRLEN], r[TW_ADDR_STRLEN];
    for (uint16_t i = 0; i < a->relay_n; i++) {
        const struct relay *relay = &a->relays[i];
        tw_addr_format(&a->servers[relay->server].addr, s);
        const char *over = ice_relay_transport(a, relay);
        if (relay->failed && relay->code)
            say(t, "TURN server %s over %s: %u %s: %s\n", s, over, relay->code,
                tw_stun_reason(relay->code), relay->why);
        else if (relay->failed)
            say(t, "TURN server %s over %s: %s\n", s, over,
                relay->why ? relay->why : "no connection to it");
        for (uint16_t b = 0; b < a->base_n; b++)
            if (a->bases[b].kind == BASE_RELAY && a->bases[b].state == BASE_OPEN &&
                a->bases[b].relay == i && relay->ready)
                say(t, "TURN server %s over %s relays for us at %s\n", s, over,
                    tw_addr_format(&a->bases[b].local, r));
    }
}

static void explain_mappings(const struct tw_ice *a, struct text *t)
{
    char l[TW_ADDR_STRLEN], m[TW_ADDR_STRLEN];
    for (uint8_t i = 0; i < a->gateway_n; i++) {
        const struct gateway *g = &a->gateways[i];
        if (g->why)
            say(t, "gateway %s gives no port mapping: %s\n",
                tw_addr_format(&g->server, m), g->why);
    }
    for (uint16_t b = 0; b < a->base_n; b++)
        if (a->bases[b].state == BASE_OPEN && a->bases[b].mapped.family)
            say(t, "port mapping: %s is reached at %s\n",
                tw_addr_format(&a->bases[b].local, l), tw_addr_format(&a->bases[b].mapped, m));
}

static void explain_pair(const struct tw_ice *a, struct text *t, const struct pair *p)
{
    static const char *const state[] = { "waits", "waits", "is being checked", "works", "failed" };
    char l[TW_ADDR_STRLEN], r[TW_ADDR_STRLEN];
    const struct base *b = &a->bases[p->base];
    bool is_path = a->comps[p->comp].path == (uint16_t)(p - a->pairs);
    say(t, "%s%s -> %s%s: %s%s%s", tw_addr_format(&b->local, l),
        b->kind == BASE_RELAY ? " (relay)" : b->kind >= BASE_LISTEN ? " (tcp)" : "",
        tw_addr_format(&a->remotes[p->remote].addr, r),
        a->remotes[p->remote].type == TW_ICE_RELAY ? " (relay)" : "", state[p->state],
        p->why ? ", " : "", p->why ? p->why : "");
    if (p->rtt)
        say(t, ", round trip %.1f ms", (double)p->rtt / 1e6);
    if (p->banned_until > a->now)
        say(t, ", but carries no data");
    say(t, "%s\n", is_path ? "; this is the path" : "");
}

static bool was_answered(const struct tw_ice *a)
{
    for (uint16_t i = 0; i < a->relay_n; i++)
        if (a->relays[i].ready || a->relays[i].code)
            return true;
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->queries[i].done && !a->queries[i].failed)
            return true;
    return false;
}

static void advise(const struct tw_ice *a, struct text *t)
{
    bool relay = false, turn = false;
    for (uint16_t i = 0; i < a->relay_n; i++)
        relay = relay || a->relays[i].ready;
    for (unsigned i = 0; i < a->server_n; i++)
        turn = turn || a->servers[i].turn;
    if (!a->streams[0].remote.ufrag)
        say(t, "the peer has not said anything yet\n");
    else if (!a->remote_n)
        say(t, "the peer named no address, and none of its checks came\n");
    if (!turn)
        say(t, "no TURN server is configured: with one, peers behind hard NATs and firewalls are reached\n");
    else if (!relay)
        say(t, "no TURN server can be used: where no direct way exists, nothing is left\n");
    if (a->server_n && !was_answered(a))
        say(t, "nothing was heard from any server: is this machine online, and is UDP let through?\n");
}

size_t tw_ice_explain(const struct tw_ice *a, char *out, size_t cap)
{
    struct text t = { out, 0, cap };
    if (cap)
        out[0] = 0;
    for (unsigned i = 0; i < a->server_n; i++)
        if (!a->servers[i].turn)
            explain_stun(a, &t, i);
    explain_relays(a, &t);
    explain_mappings(a, &t);
    if (a->nat.kind != NAT_UNKNOWN)
        say(&t, "NAT: %s\n", ice_nat_text(a->nat.kind));
    if (a->probe_why)
        say(&t, "probing the peer's NAT: %s\n", a->probe_why);
    for (uint16_t i = 0; i < a->pair_n; i++)
        explain_pair(a, &t, &a->pairs[i]);
    if (!a->connected)
        advise(a, &t);
    return t.n;
}
