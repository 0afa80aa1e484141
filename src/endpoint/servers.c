/* The STUN and TURN servers that agents are told of: those of the configuration, and what rendezvous servers recommend. */
#include "endpoint/internal.h"

/* A server that ends and the one after it share their addresses, and know each other's allocations. */
static bool is_same_link(const struct tw_endpoint *e, uint8_t was, uint8_t now)
{
    return was == now || (was < LINKS_MAX && now < LINKS_MAX && (!e->links[was].used || e->links[was].draining) &&
                          tw_rdv_addr_eq(&e->links[was].server, &e->links[now].server));
}

/* Its number at the agent; server_n: it is not known there. */
static size_t find_server(const struct conn *c, const struct tw_ice_server *s, uint8_t link)
{
    size_t i = 0;
    while (i < c->server_n && !(tw_addr_eq(&c->servers[i].addr, &s->addr) && c->servers[i].transport == s->transport &&
                                c->servers[i].turn == s->turn && is_same_link(c->e, c->servers[i].link, link)))
        i++;
    return i;
}

/* Who names servers. */
struct source {
    const struct tw_ice_server *list;
    size_t n;
    uint8_t link; /* LINKS_MAX: the configuration */
};

enum { OUR_SOURCES = 1 + LINKS_MAX };

/* The configuration, then our rendezvous. */
static struct source our_source(const struct tw_endpoint *e, uint8_t i)
{
    if (i == 0)
        return (struct source){ e->servers, e->server_n, LINKS_MAX };
    const struct link *l = &e->links[i - 1];
    return (struct source){ l->servers, l->used && l->own ? l->server_n : 0, (uint8_t)(i - 1) };
}

/* On the rungs that are allowed. */
static bool is_of_use(const struct tw_endpoint *e, const struct tw_ice_server *s)
{
    return ep_has_rung(e, s->turn ? TW_RUNG_RELAY : TW_RUNG_STUN);
}

/* Of those that it knows, what they want now. */
static int tell_agent(struct conn *c, struct source from)
{
    int err = 0;
    for (size_t i = 0; i < from.n && !err; i++) {
        const struct tw_ice_server *s = &from.list[i];
        size_t number = find_server(c, s, from.link);
        if (!is_of_use(c->e, s) || number == TW_ICE_SERVERS_MAX)
            continue;
        if (number < c->server_n) {
            c->servers[number].link = from.link;
            err = s->turn && from.link < LINKS_MAX ? tw_ice_renew_server(c->ice, c->e->now, (unsigned)number, s) : 0;
            continue;
        }
        c->servers[c->server_n++] = (struct server){ s->addr, s->transport, s->turn, from.link };
        c->gathered = c->call.end_told = c->alt.end_told = false;
        err = tw_ice_add_servers(c->ice, c->e->now, s, 1);
    }
    return err;
}

/* The configuration's servers, and what our rendezvous recommend, or, if there is none, what the peer's does. */
int ep_learn_servers(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    const struct link *of_call = c->call.link;
    int err = 0;
    for (uint8_t i = 0; i < OUR_SOURCES && !err; i++)
        err = tell_agent(c, our_source(e, i));
    if (!err && of_call && !of_call->own && (c->server_n == 0 || c->servers[0].link == of_call - e->links))
        err = tell_agent(c, (struct source){ of_call->servers, of_call->server_n, (uint8_t)(of_call - e->links) });
    return err;
}

size_t tw_endpoint_servers(const struct tw_endpoint *e, struct tw_ice_server *out, size_t cap)
{
    size_t n = 0;
    for (uint8_t i = 0; i < OUR_SOURCES; i++) {
        struct source from = our_source(e, i);
        for (size_t k = 0; k < from.n && n < cap; k++)
            if (is_of_use(e, &from.list[k]))
                out[n++] = from.list[k];
    }
    return n;
}
