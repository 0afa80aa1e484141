#include "rt/endpoint.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/os.h"
#include "rt/poll.h"
#include "rt/sockaddr.h"
#include "tunnel/front.h"

enum { ADDRS_MAX = 8, STAGGER_MS = 250 /* RFC 8305 §5 */ };

/* One address of a server, or of the proxy before it. */
struct attempt {
    struct rdv_link *of;
    struct tw_rt_link link;
    enum { ATTEMPT_NOT_YET, ATTEMPT_RUNS, ATTEMPT_CLOSES, ATTEMPT_OVER } state;
};

/* A connection to a rendezvous server: a name, its addresses, one after the other and then by turns, TLS. */
struct rdv_link {
    struct rdv_link *next;
    struct tw_rt_endpoint *owner;
    uint32_t sock;
    struct tw_rdv_addr server;
    bool by_proxy, polled;
    uv_getaddrinfo_t lookup;
    uv_timer_t timer;      /* the next address is tried, too */
    struct tw_addr addrs[ADDRS_MAX];
    struct attempt attempts[ADDRS_MAX];
    struct attempt *up;    /* NULL: none is connected yet */
    unsigned addr_n, at;   /* at: the next to be tried */
    bool looking, ended, timer_closed;
    char why[200];         /* the last one failed */
};

static struct rdv_link *find(struct tw_rt_endpoint *r, uint32_t sock)
{
    for (struct rdv_link *l = r->links; l; l = l->next)
        if (l->sock == sock && !l->ended)
            return l;
    return NULL;
}

/* Once nothing of it is left in the loop. */
static void forget(struct rdv_link *l)
{
    struct rdv_link **at = &l->owner->links;
    if (!l->ended || l->looking || !l->timer_closed)
        return;
    for (int i = 0; i < ADDRS_MAX; i++)
        if (l->attempts[i].state == ATTEMPT_RUNS || l->attempts[i].state == ATTEMPT_CLOSES)
            return;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    free(l);
}

static void failed(struct rdv_link *l)
{
    struct tw_rt_endpoint *r = l->owner;
    uint32_t sock = l->sock;
    if (r->over)
        return;
    snprintf(r->why, sizeof(r->why), "%s", l->why[0] ? l->why : "it could not be connected to");
    tw_endpoint_link_up(r->endpoint, tw_rt_now(), sock, NULL, NULL, r->why); /* which closes it */
    tw_rt_endpoint_pump(r);
}

static void on_attempt_closed(struct tw_rt_link *link)
{
    struct attempt *t = link->user;
    t->state = ATTEMPT_OVER;
    forget(t->of);
}

static void close_attempt(struct attempt *t)
{
    if (t->state != ATTEMPT_RUNS)
        return;
    t->state = ATTEMPT_CLOSES;
    tw_rt_link_close(&t->link, on_attempt_closed);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct rdv_link *l = h->data;
    l->timer_closed = true;
    forget(l);
}

static void close_link(struct tw_rt_endpoint *r, uint32_t sock)
{
    struct rdv_link *l = find(r, sock);
    if (!l)
        return;
    l->ended = true;
    if (l->looking)
        uv_cancel((uv_req_t *)&l->lookup);
    for (int i = 0; i < ADDRS_MAX; i++)
        close_attempt(&l->attempts[i]);
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}

/* What cannot be known about it, or is wrong with it. */
static void doubt(struct rdv_link *l, const struct tw_rt_link *link)
{
    struct tw_rt_endpoint *r = l->owner;
    char note[400];
    bool unknown = link->cfg.tls && !link->cfg.pin && !link->cfg.host;
    if (!link->doubt && !unknown && !l->polled)
        return;
    tw_endpoint_doubt(r->endpoint, l->sock);
    if (!r->cfg.on_note)
        return;
    if (l->polled)
        snprintf(note, sizeof(note), "something on the way lets no WebSocket through: it is asked again and again instead, which is "
                                     "slower");
    else if (unknown)
        snprintf(note, sizeof(note), "its certificate says nothing, as there is neither a name nor a pin to compare it with; "
                                     "nothing depends on it but who sees that we are there");
    else
        snprintf(note, sizeof(note), "%s; it may be that a proxy here opens TLS. Nothing depends on it but who sees that we are "
                                     "there (--strict-tls refuses)", link->doubt);
    r->cfg.on_note(r, &l->server, note, !unknown);
}

static void on_open(struct tw_rt_link *link)
{
    struct attempt *t = link->user;
    struct rdv_link *l = t->of;
    struct tw_rt_endpoint *r = l->owner;
    struct tw_addr remote = tw_rt_nat64_inwards(&r->sockets.nat64, &link->cfg.server), local;
    struct sockaddr_storage ss = { 0 };
    socklen_t ss_n = sizeof(ss);
    if (l->up || l->ended)
        return;
    getsockname(link->conn.fd, (struct sockaddr *)&ss, &ss_n);
    local = tw_rt_addr(&ss);
    l->up = t;
    l->at = l->addr_n; /* no other address is tried any more */
    uv_timer_stop(&l->timer);
    for (int i = 0; i < ADDRS_MAX; i++)
        if (&l->attempts[i] != t)
            close_attempt(&l->attempts[i]);
    doubt(l, link);
    if (l->by_proxy && !r->proxy_at.family) { /* where it answers, connections to peers may go through it, too */
        r->proxy_at = link->cfg.server;
        r->sockets.proxy = &r->cfg.proxy;
        r->sockets.proxy_at = &r->proxy_at;
    }
    tw_endpoint_link_up(r->endpoint, tw_rt_now(), l->sock, &local, l->by_proxy ? NULL : &remote, NULL);
    tw_rt_endpoint_pump(r);
}

static size_t on_data(struct tw_rt_link *link, struct tw_bytes data)
{
    struct attempt *t = link->user;
    struct rdv_link *l = t->of;
    struct tw_rt_endpoint *r = l->owner;
    struct tw_datagram d = { .sock = l->sock, .iov = &data, .iov_n = 1 };
    if (r->over || l->ended || l->up != t)
        return data.n;
    tw_endpoint_recv(r->endpoint, tw_rt_now(), &d);
    tw_rt_endpoint_pump(r);
    return data.n;
}

static bool try_next(struct rdv_link *l);

static void on_over(struct tw_rt_link *link, const char *why)
{
    struct attempt *t = link->user;
    struct rdv_link *l = t->of;
    if (l->ended)
        return;
    snprintf(l->why, sizeof(l->why), "%s", why);
    bool was_up = l->up == t;
    close_attempt(t);
    for (int i = 0; i < ADDRS_MAX && !was_up; i++)
        if (l->attempts[i].state == ATTEMPT_RUNS)
            return; /* another address of it may do */
    if (was_up || !try_next(l))
        failed(l);
}

static const struct tw_rt_link_events events = { .on_open = on_open, .on_data = on_data, .on_over = on_over };

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
    how->host = l->server.host;
    how->pin = l->server.pinned ? l->server.pin : NULL;
    if (!by_name && !l->server.pinned)
        how->host = NULL;
    how->alpn = TW_RT_ALPN_WEB;
    how->sni = r->cfg.sni;
    how->lenient = !r->cfg.strict;
    return true;
}

/* Over a socket behind which tw_rt_poll_open() makes requests of what goes through. */
static bool in_requests(struct rdv_link *l, struct tw_rt_link_config *how)
{
    int fd;
    if (tw_rt_poll_open(l->owner->sockets.loop, how, l->server.host, &fd))
        return false;
    *how = (struct tw_rt_link_config){ .transport = TW_TRANSPORT_TCP, .server = how->server, .fd = fd };
    return true;
}

/* How to get to the server by this address of its, or of the proxy's. */
static bool way_to(struct rdv_link *l, const struct tw_addr *addr, struct tw_rt_link_config *how)
{
    *how = (struct tw_rt_link_config){ .transport = l->server.plain ? TW_TRANSPORT_TCP : TW_TRANSPORT_TLS,
                                       .server = tw_rt_nat64_outwards(&l->owner->sockets.nat64, addr) };
    if (l->by_proxy) {
        how->proxy = &l->owner->cfg.proxy;
        how->target = l->server.host;
        how->target_port = l->server.port;
    }
    if (!l->server.plain && !judge_by(l, how))
        return false;
    return !l->polled || in_requests(l, how);
}

static void on_timer(uv_timer_t *t)
{
    (void)try_next(t->data);
}

/* False: there is none left. */
static bool try_next(struct rdv_link *l)
{
    struct tw_rt_link_config how;
    while (l->at < l->addr_n) {
        struct attempt *t = &l->attempts[l->at];
        *t = (struct attempt){ .of = l };
        if (!way_to(l, &l->addrs[l->at++], &how)) {
            snprintf(l->why, sizeof(l->why), "TLS can't be started: is there a list of trusted certificates?");
            return false;
        }
        if (tw_rt_link_open(&t->link, l->owner->sockets.loop, &how, &events, t))
            continue;
        t->state = ATTEMPT_RUNS;
        if (l->at < l->addr_n)
            uv_timer_start(&l->timer, on_timer, STAGGER_MS, 0);
        return true;
    }
    return false;
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct rdv_link *l = req->data;
    uint16_t port = l->by_proxy ? l->owner->cfg.proxy.port : l->server.port;
    l->looking = false;
    for (struct addrinfo *i = status ? NULL : found; i && l->addr_n < ADDRS_MAX; i = i->ai_next) {
        struct sockaddr_storage ss = { 0 };
        memcpy(&ss, i->ai_addr, i->ai_addrlen);
        l->addrs[l->addr_n] = tw_rt_addr(&ss);
        if (l->addrs[l->addr_n].family)
            l->addrs[l->addr_n++].port = port;
    }
    uv_freeaddrinfo(found);
    if (l->ended) {
        forget(l);
        return;
    }
    snprintf(l->why, sizeof(l->why), l->by_proxy ? "there is no such proxy" : "there is no such name");
    if (!try_next(l))
        failed(l);
}

static void open_link(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    const struct tw_proxy_url *proxy = &r->cfg.proxy;
    struct rdv_link *l = calloc(1, sizeof(*l));
    struct tw_addr ip;
    if (!l) {
        tw_endpoint_link_up(r->endpoint, tw_rt_now(), ev->sock, NULL, NULL, "out of memory");
        return;
    }
    l->owner = r;
    l->sock = ev->sock;
    l->server = ev->server;
    l->polled = ev->polled;
    l->next = r->links;
    r->links = l;
    uv_timer_init(r->sockets.loop, &l->timer);
    l->timer.data = l;
    l->by_proxy = proxy->kind != TW_PROXY_NONE && !tw_proxy_is_exempt(r->cfg.no_proxy, l->server.host);
    const char *host = l->by_proxy ? proxy->host : l->server.host;
    if (!tw_addr_parse(host, l->by_proxy ? proxy->port : l->server.port, &ip)) {
        l->addrs[l->addr_n++] = ip;
        if (!try_next(l))
            failed(l);
        return;
    }
    l->lookup.data = l;
    l->looking = uv_getaddrinfo(r->sockets.loop, &l->lookup, on_looked_up, host, NULL, &hints) == 0;
    if (!l->looking) {
        snprintf(l->why, sizeof(l->why), "its name can't be looked up");
        failed(l);
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
                     enum tw_ice_via via, uint32_t *ret_sock)
{
    tw_endpoint_accepted(machine, now, listener, remote, via, ret_sock);
}

static void disconnected(void *machine, tw_time now, uint32_t sock)
{
    tw_endpoint_disconnected(machine, now, sock);
}

static void waits(void *machine, tw_time now, uint32_t sock, tw_time wait)
{
    tw_endpoint_waits(machine, now, sock, wait);
}

static void mapped(void *machine, tw_time now, uint32_t sock, const struct tw_addr *outside)
{
    tw_endpoint_mapped(machine, now, sock, outside);
}

static int interfaces(struct tw_rt_sockets *s, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    struct tw_rt_endpoint *r = s->user;
    struct tw_ice_interface own[TW_ICE_INTERFACES_MAX];
    memcpy(own, list, n * sizeof(*list));
    for (size_t i = 0; i < n && r->cfg.metered; i++)
        own[i].cost = own[i].cost || tw_ice_interface_in(r->cfg.metered, own[i].name);
    if (r->lan.loop)
        tw_rt_lan_interfaces(&r->lan, own, n);
    return tw_endpoint_interfaces(r->endpoint, now, own, n);
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
        tw_rt_sockets_close_all(s, ev.sock);
        break;
    case TW_EP_SEEK:
        tw_rt_lan_seek(&r->lan, ev.conn, ev.data);
        break;
    default:
        r->cfg.on_event(r, &ev);
    }
    return true;
}

bool tw_rt_endpoint_inside(struct tw_rt_endpoint *r, const struct tw_rdv_addr *server, struct tw_rt_link_config *how)
{
    static struct tw_ws_config ws = { .path = TW_FRONT_PATH, .protocol = TW_TURN_PROTOCOL, .max_message = TW_TURN_MESSAGE_MAX };
    for (struct rdv_link *l = r->links; l; l = l->next)
        if (l->up && !l->ended && tw_rdv_addr_eq(&l->server, server) && way_to(l, &l->up->link.cfg.server, how)) {
            ws.host = l->server.host;
            how->ws = &ws;
            return true;
        }
    return false;
}

/* A relay is trusted with nothing: whose certificate it shows does not matter. */
static void turn(struct tw_rt_sockets *s, const struct tw_ice_event *ev, struct tw_rt_link_config *how)
{
    struct tw_rt_endpoint *r = s->user;
    how->transport = tw_endpoint_turn(r->endpoint, ev->sock, ev->server);
    if (how->transport == TW_TRANSPORT_WS) {
        const struct tw_rdv_addr *at = tw_endpoint_turn_at(r->endpoint, ev->sock, ev->server);
        how->transport = TW_TRANSPORT_TCP; /* to nowhere, if it is gone */
        if (at)
            (void)tw_rt_endpoint_inside(r, at, how);
        return;
    }
    if (!r->trusting_none && tw_rt_tls_new_trusting_none(&r->trusting_none))
        how->transport = TW_TRANSPORT_TCP;
    how->tls = r->trusting_none;
}

static void send_link(struct tw_rt_sockets *s, const struct tw_datagram *d)
{
    struct rdv_link *l = find(s->user, d->sock);
    if (l && l->up)
        (void)!tw_rt_link_send(&l->up->link, d->iov, d->iov_n);
}

static uint32_t web_listener(const void *machine, const char *token)
{
    return tw_endpoint_web_listener(machine, token);
}

static const struct tw_rt_sockets_ops ops = {
    .recv = recv_one, .opened = opened, .accepted = accepted, .disconnected = disconnected, .waits = waits,
    .mapped = mapped, .interfaces = interfaces, .nat64 = nat64, .tick = tick, .poll_tx = poll_tx,
    .deadline = deadline, .next_event = next_event, .turn = turn, .send = send_link, .web_listener = web_listener,
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
    r->sockets.sni = cfg->sni;
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
    if (r->cfg.web && cfg->ice.policy == TW_ICE_ALL) { /* if they can be had */
        uint16_t ports[2] = { 80, 443 };
        for (int i = 0; i < 2; i++)
            ports[i] = tw_rt_sockets_web(&r->sockets, ports[i]) ? ports[i] : 0;
        tw_endpoint_web(r->endpoint, ports[0], ports[1]);
    }
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
