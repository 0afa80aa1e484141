#include "rt/endpoint.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "rt/os.h"
#include "rt/sockaddr.h"

enum { ADDRS_MAX = 8 };

/* A connection to a rendezvous server: a name, its addresses one after the other, TLS. */
struct rdv_link {
    struct rdv_link *next;
    struct tw_rt_endpoint *owner;
    uint32_t sock;
    struct tw_rdv_addr server;
    struct tw_rt_link link;
    uv_getaddrinfo_t lookup;
    struct tw_addr addrs[ADDRS_MAX];
    unsigned addr_n, at;
    enum {
        LINK_LOOKUP, /* of its name */
        LINK_NEXT,   /* between two addresses */
        LINK_LINK,
        LINK_CLOSING, /* one address did not do */
        LINK_END,
    } state;
};

static struct rdv_link *find(struct tw_rt_endpoint *r, uint32_t sock)
{
    for (struct rdv_link *l = r->links; l; l = l->next)
        if (l->sock == sock && l->state != LINK_END)
            return l;
    return NULL;
}

static void forget(struct rdv_link *l)
{
    struct rdv_link **at = &l->owner->links;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    free(l);
}

static void failed(struct rdv_link *l, const char *why)
{
    struct tw_rt_endpoint *r = l->owner;
    uint32_t sock = l->sock;
    if (r->over)
        return;
    tw_endpoint_link_up(r->endpoint, tw_rt_now(), sock, NULL, why); /* which closes it */
    tw_rt_endpoint_pump(r);
}

static void try_next(struct rdv_link *l);

static void on_closed(struct tw_rt_link *link)
{
    struct rdv_link *l = link->user;
    if (l->state == LINK_END) {
        forget(l);
        return;
    }
    l->state = LINK_NEXT;
    try_next(l);
}

/* What is under way frees it when it is over. */
static void close_link(struct tw_rt_endpoint *r, uint32_t sock)
{
    struct rdv_link *l = find(r, sock);
    if (!l)
        return;
    bool looking = l->state == LINK_LOOKUP, linked = l->state == LINK_LINK, idle = l->state == LINK_NEXT;
    l->state = LINK_END;
    if (looking)
        uv_cancel((uv_req_t *)&l->lookup);
    else if (linked)
        tw_rt_link_close(&l->link, on_closed);
    else if (idle)
        forget(l);
}

static void on_open(struct tw_rt_link *link)
{
    struct rdv_link *l = link->user;
    struct tw_rt_endpoint *r = l->owner;
    struct tw_addr remote = link->cfg.server;
    l->at = l->addr_n; /* no other address is tried any more */
    if (r->cfg.on_note && link->cfg.tls && !link->cfg.pin && !link->cfg.host)
        r->cfg.on_note(r, &l->server, "its certificate says nothing, as there is neither a name nor a pin to "
                                      "compare it with; nothing depends on it but who sees that we are there");
    tw_endpoint_link_up(r->endpoint, tw_rt_now(), l->sock, &remote, NULL);
    tw_rt_endpoint_pump(r);
}

static size_t on_data(struct tw_rt_link *link, struct tw_bytes data)
{
    struct rdv_link *l = link->user;
    struct tw_rt_endpoint *r = l->owner;
    struct tw_datagram d = { .sock = l->sock, .iov = &data, .iov_n = 1 };
    if (r->over || l->state != LINK_LINK)
        return data.n;
    tw_endpoint_recv(r->endpoint, tw_rt_now(), &d);
    tw_rt_endpoint_pump(r);
    return data.n;
}

static void on_over(struct tw_rt_link *link, const char *why)
{
    struct rdv_link *l = link->user;
    if (l->state != LINK_LINK)
        return;
    if (l->at < l->addr_n) { /* another address of it may do */
        l->state = LINK_CLOSING;
        tw_rt_link_close(link, on_closed);
        return;
    }
    failed(l, why);
}

static const struct tw_rt_link_events events = { on_open, on_data, on_over };

/* Whom the certificate must be from. */
static bool judge_by(struct rdv_link *l, struct tw_rt_link_config *how)
{
    struct tw_rt_endpoint *r = l->owner;
    struct tw_addr ip;
    const char *why;
    bool by_name = !l->server.pinned && tw_addr_parse(l->server.host, 0, &ip);
    struct tw_rt_tls **tls = by_name ? &r->trusting : &r->trusting_none;
    if (!*tls && (by_name ? tw_rt_tls_new_client(r->cfg.ca, tls, &why) : tw_rt_tls_new_trusting_none(tls)))
        return false;
    how->tls = *tls;
    how->host = by_name ? l->server.host : NULL;
    how->pin = l->server.pinned ? l->server.pin : NULL;
    how->alpn = "http/1.1";
    return true;
}

static void try_next(struct rdv_link *l)
{
    struct tw_rt_link_config how = { .transport = l->server.plain ? TW_TRANSPORT_TCP : TW_TRANSPORT_TLS };
    const char *why = "it could not be connected to";
    while (l->at < l->addr_n) {
        how.server = l->addrs[l->at++];
        if (!l->server.plain && !judge_by(l, &how)) {
            why = "TLS can't be started: is there a list of trusted certificates?";
            break;
        }
        l->state = LINK_LINK;
        if (!tw_rt_link_open(&l->link, l->owner->sockets.loop, &how, &events, l))
            return;
        l->state = LINK_NEXT;
    }
    failed(l, why);
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct rdv_link *l = req->data;
    for (struct addrinfo *i = status ? NULL : found; i && l->addr_n < ADDRS_MAX; i = i->ai_next) {
        struct sockaddr_storage ss = { 0 };
        memcpy(&ss, i->ai_addr, i->ai_addrlen);
        l->addrs[l->addr_n] = tw_rt_addr(&ss);
        if (l->addrs[l->addr_n].family)
            l->addrs[l->addr_n++].port = l->server.port;
    }
    uv_freeaddrinfo(found);
    if (l->state == LINK_END) {
        forget(l);
        return;
    }
    l->state = LINK_NEXT;
    if (l->addr_n)
        try_next(l);
    else
        failed(l, "there is no such name");
}

static void open_link(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    struct rdv_link *l = calloc(1, sizeof(*l));
    struct tw_addr ip;
    if (!l) {
        tw_endpoint_link_up(r->endpoint, tw_rt_now(), ev->sock, NULL, "out of memory");
        return;
    }
    l->owner = r;
    l->sock = ev->sock;
    l->server = ev->server;
    l->next = r->links;
    r->links = l;
    if (!tw_addr_parse(l->server.host, l->server.port, &ip)) {
        l->addrs[l->addr_n++] = ip;
        l->state = LINK_NEXT;
        try_next(l);
        return;
    }
    l->lookup.data = l;
    if (uv_getaddrinfo(r->sockets.loop, &l->lookup, on_looked_up, l->server.host, NULL, &hints)) {
        l->state = LINK_NEXT;
        failed(l, "its name can't be looked up");
    }
}

/* --- the machine --------------------------------------------------------------------------------- */

static void recv_one(void *machine, tw_time now, const struct tw_datagram *in)
{
    tw_endpoint_recv(machine, now, in);
}

static void opened(void *machine, tw_time now, uint32_t sock, int err, const struct tw_addr *local)
{
    tw_endpoint_opened(machine, now, sock, err, local);
}

static void accepted(void *machine, tw_time now, uint32_t listener, const struct tw_addr *remote,
                     uint32_t *ret_sock)
{
    tw_endpoint_accepted(machine, now, listener, remote, ret_sock);
}

static void disconnected(void *machine, tw_time now, uint32_t sock)
{
    tw_endpoint_disconnected(machine, now, sock);
}

static void mapped(void *machine, tw_time now, uint32_t sock, const struct tw_addr *outside)
{
    tw_endpoint_mapped(machine, now, sock, outside);
}

static int interfaces(struct tw_rt_sockets *s, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    struct tw_rt_endpoint *r = s->user;
    if (r->lan.loop)
        tw_rt_lan_interfaces(&r->lan, list, n);
    return tw_endpoint_interfaces(r->endpoint, now, list, n);
}

static void nat64(void *machine, tw_time now, const struct tw_range *prefix)
{
    tw_endpoint_nat64(machine, now, prefix);
}

static void set_clock(void *machine, tw_time now)
{
    tw_endpoint_clock(machine, now, (uint64_t)((now + tw_rt_unix_offset()) / TW_MSEC));
}

static void tick(void *machine, tw_time now)
{
    set_clock(machine, now);
    tw_endpoint_tick(machine, now);
}

static bool poll_tx(void *machine, struct tw_datagram *ret_out)
{
    return tw_endpoint_poll_tx(machine, ret_out);
}

static tw_time deadline(const void *machine)
{
    return tw_endpoint_deadline(machine);
}

static bool next_event(struct tw_rt_sockets *s)
{
    struct tw_rt_endpoint *r = s->user;
    struct tw_endpoint_event ev;
    if (!tw_endpoint_poll_event(r->endpoint, &ev))
        return false;
    switch (ev.type) {
    case TW_EP_LINK:
        open_link(r, &ev);
        break;
    case TW_EP_LINK_CLOSE:
        close_link(r, ev.sock);
        break;
    case TW_EP_ICE:
        tw_rt_sockets_event(s, &ev.ice);
        break;
    case TW_EP_ICE_END:
        tw_rt_sockets_close_range(s, ev.sock, ev.sock | 0xfffff);
        break;
    case TW_EP_SEEK:
        tw_rt_lan_seek(&r->lan, ev.conn, ev.data);
        break;
    default:
        r->cfg.on_event(r, &ev);
    }
    return true;
}

/* A relay is trusted with nothing: whose certificate it shows does not matter. */
static void turn(struct tw_rt_sockets *s, const struct tw_ice_event *ev, struct tw_rt_link_config *how)
{
    struct tw_rt_endpoint *r = s->user;
    how->transport = tw_endpoint_turn(r->endpoint, ev->sock, ev->server);
    if (!r->trusting_none && tw_rt_tls_new_trusting_none(&r->trusting_none))
        how->transport = TW_TRANSPORT_TCP;
    how->tls = r->trusting_none;
}

static void send_link(struct tw_rt_sockets *s, const struct tw_datagram *d)
{
    struct rdv_link *l = find(s->user, d->sock);
    if (l && l->state == LINK_LINK)
        (void)!tw_rt_link_send(&l->link, d->iov, d->iov_n);
}

static const struct tw_rt_sockets_ops ops = {
    .recv = recv_one, .opened = opened, .accepted = accepted, .disconnected = disconnected,
    .mapped = mapped, .interfaces = interfaces, .nat64 = nat64, .tick = tick, .poll_tx = poll_tx,
    .deadline = deadline, .next_event = next_event, .turn = turn, .send = send_link,
};

static bool has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes");
#else
    return true;
#endif
}

int tw_rt_endpoint_init(struct tw_rt_endpoint *r, uv_loop_t *loop, const struct tw_rt_endpoint_config *cfg)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    *r = (struct tw_rt_endpoint){ .cfg = *cfg };
    r->cfg.endpoint.no_aes = !has_aes();
    r->cfg.endpoint.ice.tcp = true;
    int err = tw_endpoint_new(&r->cfg.endpoint, &env, tw_rt_now(), &r->endpoint);
    if (err)
        return err;
    set_clock(r->endpoint, tw_rt_now());
    err = tw_rt_sockets_init(&r->sockets, loop, &ops, r->endpoint, r);
    if (err)
        tw_endpoint_free(r->endpoint);
    return err;
}

static void pump(void *user)
{
    tw_rt_endpoint_pump(user);
}

void tw_rt_endpoint_start(struct tw_rt_endpoint *r)
{
    const struct tw_endpoint_config *cfg = &r->cfg.endpoint;
    if (cfg->lan)
        tw_rt_lan_init(&r->lan, r->sockets.loop, r->endpoint, cfg->listen, pump, r);
    tw_rt_sockets_start(&r->sockets);
}

void tw_rt_endpoint_pump(struct tw_rt_endpoint *r)
{
    tw_rt_sockets_pump(&r->sockets);
}

void tw_rt_endpoint_fini(struct tw_rt_endpoint *r)
{
    r->over = true;
    for (struct rdv_link *l = r->links, *next; l; l = next) {
        next = l->next;
        close_link(r, l->sock);
    }
    if (r->lan.loop)
        tw_rt_lan_fini(&r->lan);
    tw_rt_sockets_fini(&r->sockets);
    tw_endpoint_free(r->endpoint);
    r->endpoint = NULL;
    tw_rt_tls_unref(r->trusting);
    tw_rt_tls_unref(r->trusting_none);
}
