#include "rt/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <thalweg/stun.h>

#include <thalweg/relay.h>

#include "rt/os.h"
#include "rt/sockaddr.h"
#include "tunnel/frame.h"
#include "tunnel/front.h"

enum { PENDING_MAX = 32, PENDING_S = 10, PEER_QUEUE = 256 << 10 };

/* A socket of the machine's: UDP, listening, or a connection. */
struct rt_sock {
    struct rt_sock *next;
    struct tw_rt_sockets *owner;
    uint32_t id;
    enum sock_kind { SOCK_UDP, SOCK_LISTEN, SOCK_LINK, SOCK_STUN_LINK } kind;
    bool closing, dirty;
    struct rt_sock *next_dirty;
    int fd;                /* of SOCK_LISTEN */
    char web[TW_ICE_WEB_MAX + 1]; /* of it: the token that a request must name; empty: no HTTP */
    bool shared;           /* the token says for which listener somebody has come */
    bool pending;          /* has come, and has not said what it is */
    uint32_t listener;     /* where it came */
    tw_time came;
    struct tw_addr local, remote; /* remote: of a connection; the proxy's is the link's business */
    uv_poll_t poll;        /* UDP, LISTEN */
    struct tw_rt_udp udp;
    struct tw_rt_link link;
};

/* Of one who is not known yet, and of ports that all share, the id is 0. */
static struct rt_sock **list_of(struct tw_rt_sockets *r, uint32_t id)
{
    return &r->socks[(id >> TW_ENDPOINT_SOCK_BITS) % TW_RT_SOCKETS_LISTS];
}

static struct rt_sock *find(struct tw_rt_sockets *r, uint32_t id)
{
    for (struct rt_sock *s = *list_of(r, id); s; s = s->next)
        if (s->id == id && id && !s->closing)
            return s;
    return NULL;
}

static void enlist(struct rt_sock *s)
{
    struct rt_sock **list = list_of(s->owner, s->id);
    s->next = *list;
    *list = s;
}

static struct rt_sock *add(struct tw_rt_sockets *r, uint32_t id, enum sock_kind kind)
{
    struct rt_sock *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->owner = r;
    s->id = id;
    s->kind = kind;
    s->fd = -1;
    enlist(s);
    return s;
}

static void delist(struct rt_sock *s)
{
    struct rt_sock **at = list_of(s->owner, s->id);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
}

static void forget(struct rt_sock *s)
{
    struct rt_sock **at;
    delist(s);
    for (at = &s->owner->dirty; *at; at = &(*at)->next_dirty)
        if (*at == s) {
            *at = s->next_dirty;
            break;
        }
    free(s);
}

/* --- closing ------------------------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *h)
{
    struct rt_sock *s = h->data;
    if (s->kind == SOCK_UDP)
        tw_rt_udp_close(&s->udp);
    else
        close(s->fd);
    forget(s);
}

static void on_link_closed(struct tw_rt_link *l)
{
    forget(l->user);
}

static void settle(struct rt_sock *s)
{
    s->owner->pending -= s->pending;
    s->pending = false;
}

static void close_sock(struct rt_sock *s)
{
    if (s->closing)
        return;
    s->closing = true;
    settle(s);
    if (s->kind >= SOCK_LINK) {
        if (s->dirty)
            tw_rt_link_flush(&s->link);
        tw_rt_link_close(&s->link, on_link_closed);
        return;
    }
    if (s->kind == SOCK_UDP)
        tw_rt_tx_flush(s->owner->tx);
    uv_close((uv_handle_t *)&s->poll, on_poll_closed);
}

/* --- UDP ----------------------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct rt_sock *s = poll->data;
    struct tw_rt_sockets *r = s->owner;
    struct tw_datagram d;
    struct tw_rt_icmp ignored;
    (void)status, (void)events;
    while (tw_rt_udp_error(&s->udp, &ignored)) {
    }
    unsigned n = tw_rt_rx_read(&r->rx, &s->udp);
    for (unsigned i = 0; i < n && !r->over; i++) {
        tw_rt_rx_get(&r->rx, i, &d);
        r->ops->recv(r->machine, tw_rt_now(), &d);
        tw_rt_sockets_pump(r);
    }
    tw_rt_rx_reset(&r->rx);
}

static int open_udp(struct tw_rt_sockets *r, const struct tw_ice_event *ev, struct tw_addr *ret_local)
{
    struct rt_sock *s = add(r, ev->sock, SOCK_UDP);
    if (!s)
        return TW_ENOMEM;
    int err = tw_rt_udp_open(&s->udp, &ev->local, TW_RT_GRO);
    if (!err && (err = tw_rt_watch(r->loop, &s->poll, s->udp.fd, UV_READABLE, on_readable, s)))
        tw_rt_udp_close(&s->udp);
    if (err) {
        forget(s);
        return err;
    }
    s->udp.id = ev->sock;
    s->udp.burst = s->udp.min_burst = TW_RT_RX_MAX;
    s->local = *ret_local = s->udp.local;
    return 0;
}

/* --- connections --------------------------------------------------------------------------------- */

static struct tw_addr local_of(int fd)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t n = sizeof(ss);
    getsockname(fd, (struct sockaddr *)&ss, &n);
    return tw_rt_addr(&ss);
}

/* It is clear now what has come. */
static void on_arrival(struct rt_sock *s)
{
    struct tw_rt_sockets *r = s->owner;
    const struct tw_rt_link *l = &s->link;
    enum tw_ice_via via = l->conn.tls ? TW_ICE_VIA_HTTPS : l->ws ? TW_ICE_VIA_HTTP : TW_ICE_VIA_TCP;
    uint32_t id = 0;
    settle(s);
    if (s->listener)
        r->ops->accepted(r->machine, tw_rt_now(), s->listener, &l->cfg.server, via, &id);
    delist(s);
    s->id = id;
    enlist(s);
    if (!id)
        close_sock(s);
    tw_rt_sockets_pump(r);
}

static void on_link_open(struct tw_rt_link *l)
{
    struct rt_sock *s = l->user;
    s->local = local_of(l->conn.fd);
    if (s->pending) {
        on_arrival(s);
        return;
    }
    s->owner->ops->opened(s->owner->machine, tw_rt_now(), s->id, 0, &s->local);
    tw_rt_sockets_pump(s->owner);
}

static void deliver(struct rt_sock *s, struct tw_bytes payload)
{
    struct tw_datagram d = { .sock = s->id, .src = s->remote, .dst = s->local, .iov = &payload, .iov_n = 1 };
    s->owner->ops->recv(s->owner->machine, tw_rt_now(), &d);
}

/* All that has come, and then one round of answers. */
static size_t on_link_data(struct tw_rt_link *l, struct tw_bytes in)
{
    struct rt_sock *s = l->user;
    struct tw_rt_sockets *r = s->owner;
    struct tw_bytes payload;
    size_t used = 0, n;
    if (r->over || s->closing)
        return in.n;
    if (s->kind == SOCK_STUN_LINK) {
        if (l->cfg.transport == TW_TRANSPORT_DTLS)
            used = in.n; /* a datagram */
        while (used < in.n && !tw_stun_frame(in.p + used, in.n - used, &n) && n)
            used += n;
        if (used)
            deliver(s, tw_bytes(in.p, used));
    } else {
        while (tw_frame_next(tw_bytes(in.p + used, in.n - used), &payload, &n)) {
            used += n;
            deliver(s, payload);
        }
    }
    if (used)
        tw_rt_sockets_pump(r);
    return used;
}

static void on_link_over(struct tw_rt_link *l, const char *why)
{
    struct rt_sock *s = l->user;
    struct tw_rt_sockets *r = s->owner;
    (void)why;
    if (r->over || s->closing)
        return;
    if (s->pending) {
        close_sock(s);
        return;
    }
    uint32_t id = s->id;
    r->ops->opened(r->machine, tw_rt_now(), id, TW_ESYS, NULL); /* counts only while it is opening */
    r->ops->disconnected(r->machine, tw_rt_now(), id);
    tw_rt_sockets_pump(r);
    s = find(r, id);
    if (s)
        close_sock(s);
}

static void on_link_wait(struct tw_rt_link *l, tw_time wait)
{
    struct rt_sock *s = l->user;
    if (!s->owner->over && !s->closing)
        s->owner->ops->waits(s->owner->machine, tw_rt_now(), s->id, wait);
}

static bool on_link_request(struct tw_rt_link *l, const char *path)
{
    struct rt_sock *s = l->user;
    struct tw_rt_sockets *r = s->owner;
    const struct rt_sock *at = s->listener ? find(r, s->listener) : NULL;
    if (at)
        return at->web[0] && !strcmp(path + (*path == '/'), at->web);
    s->listener = r->ops->web_listener ? r->ops->web_listener(r->machine, path + (*path == '/')) : 0;
    return s->listener;
}

static const struct tw_rt_link_events link_events = { .on_open = on_link_open, .on_data = on_link_data,
                                                      .on_over = on_link_over, .on_request = on_link_request,
                                                      .on_wait = on_link_wait };

/* To a peer that takes HTTP, and inside TLS if so wanted; through the proxy, if there is one. */
static int over_the_web(struct tw_rt_sockets *r, const struct tw_ice_event *ev, struct tw_rt_link_config *how,
                        struct tw_ws_config *ws, char path[TW_ICE_WEB_MAX + 2], char host[TW_ADDR_STRLEN])
{
    struct tw_addr ip = tw_addr_ip_only(&ev->remote);
    snprintf(path, TW_ICE_WEB_MAX + 2, "/%s", ev->web);
    *ws = (struct tw_ws_config){ .path = path, .protocol = TW_DIRECT_PROTOCOL, .host = tw_addr_format(&ip, host),
                                 .max_message = TW_TURN_MESSAGE_MAX };
    how->ws = ws;
    if (ev->via == TW_ICE_VIA_HTTPS) {
        if (!r->web_client && tw_rt_tls_new_trusting_none(&r->web_client))
            return TW_ENOMEM;
        how->transport = TW_TRANSPORT_TLS;
        how->tls = r->web_client;
        how->alpn = TW_RT_ALPN_WEB;
        how->sni = r->sni;
    }
    if (r->proxy && r->proxy_at) {
        if (!tw_relay_is_public(&ev->remote)) /* of another network than ours, where that is somebody else */
            return TW_EDENIED;
        how->local = (struct tw_addr){ .family = TW_FAMILY_NONE };
        how->proxy = r->proxy;
        how->target = host;
        how->target_port = ev->remote.port;
        how->server = *r->proxy_at;
    }
    return 0;
}

static int open_link(struct tw_rt_sockets *r, const struct tw_ice_event *ev)
{
    bool turn = ev->socket == TW_ICE_SOCK_TURN;
    struct tw_rt_link_config how = { .transport = TW_TRANSPORT_TCP, .server = ev->remote };
    struct tw_ws_config ws;
    char path[TW_ICE_WEB_MAX + 2], host[TW_ADDR_STRLEN];
    int err = 0;
    struct rt_sock *s = add(r, ev->sock, ev->socket == TW_ICE_SOCK_CONNECT ? SOCK_LINK : SOCK_STUN_LINK);
    if (!s)
        return TW_ENOMEM;
    if (turn)
        r->ops->turn(r, ev, &how);
    else
        how.local = ev->local;
    s->remote = ev->remote;
    how.queue = turn ? 0 : PEER_QUEUE;
    if (!turn && ev->via)
        err = over_the_web(r, ev, &how, &ws, path, host);
    err = err ? err : tw_rt_link_open(&s->link, r->loop, &how, &link_events, s);
    if (err)
        forget(s);
    return err;
}

/* Who has come, and says nothing, makes room for others. */
static void forget_the_silent(struct tw_rt_sockets *r)
{
    for (struct rt_sock *s = *list_of(r, 0), *next; s; s = next) {
        next = s->next;
        if (s->pending && tw_rt_now() - s->came >= PENDING_S * TW_SEC)
            close_sock(s);
    }
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct rt_sock *l = poll->data;
    struct tw_rt_sockets *r = l->owner;
    struct sockaddr_storage ss = { 0 };
    socklen_t n = sizeof(ss);
    (void)status, (void)events;
    int fd = accept4(l->fd, (struct sockaddr *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    const struct tw_ws_config ws = { .server = true, .protocol = TW_DIRECT_PROTOCOL, .max_message = TW_TURN_MESSAGE_MAX };
    struct tw_rt_link_any any = { 0 };
    const char *why;
    forget_the_silent(r);
    bool web = l->shared || l->web[0];
    if (web && !r->web_tls)
        (void)!tw_rt_tls_new_self_signed(NULL, NULL, 0, &r->web_tls, &why); /* then without TLS */
    any.tls = web ? r->web_tls : NULL;
    any.ws = web ? &ws : NULL;
    struct rt_sock *s = r->pending < PENDING_MAX ? add(r, 0, SOCK_LINK) : NULL;
    if (!s) {
        close(fd);
        return;
    }
    s->remote = tw_rt_addr(&ss);
    s->listener = l->id;
    s->came = tw_rt_now();
    if (tw_rt_link_adopt_any(&s->link, r->loop, fd, &s->remote, &any, &link_events, s)) {
        forget(s);
        close(fd);
        return;
    }
    s->link.cfg.queue = PEER_QUEUE;
    s->pending = true;
    r->pending++;
}

static int listen_at(struct tw_rt_sockets *r, uint32_t id, const struct tw_addr *at, struct rt_sock **ret)
{
    struct sockaddr_storage ss;
    socklen_t n = tw_rt_sockaddr(at, &ss);
    struct rt_sock *s = add(r, id, SOCK_LISTEN);
    int one = 1;
    if (!s)
        return TW_ENOMEM;
    s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd >= 0 && id) /* connections from that port, too */
        setsockopt(s->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (s->fd >= 0 && !id)
        setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (s->fd >= 0 && !id && ss.ss_family == AF_INET6)
        setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&ss, n) || listen(s->fd, 16) ||
        tw_rt_watch(r->loop, &s->poll, s->fd, UV_READABLE, on_accept, s)) {
        if (s->fd >= 0)
            close(s->fd);
        forget(s);
        return TW_ESYS;
    }
    s->local = local_of(s->fd);
    *ret = s;
    return 0;
}

static int open_listener(struct tw_rt_sockets *r, const struct tw_ice_event *ev, struct tw_addr *ret_local)
{
    struct rt_sock *s;
    int err = listen_at(r, ev->sock, &ev->local, &s);
    if (err)
        return err;
    snprintf(s->web, sizeof(s->web), "%s", ev->web ? ev->web : "");
    *ret_local = s->local;
    return 0;
}

bool tw_rt_sockets_web(struct tw_rt_sockets *r, uint16_t port)
{
    struct tw_addr any = { .family = TW_FAMILY_V4, .port = port };
    struct rt_sock *s;
    if (listen_at(r, 0, &any, &s))
        return false;
    s->shared = true;
    any.family = TW_FAMILY_V6;
    if (!listen_at(r, 0, &any, &s))
        s->shared = true;
    return true;
}

/* --- the machine --------------------------------------------------------------------------------- */

static void open_sock(struct tw_rt_sockets *r, const struct tw_ice_event *ev)
{
    struct tw_addr local;
    int err;
    switch (ev->socket) {
    case TW_ICE_SOCK_UDP:
        err = open_udp(r, ev, &local);
        break;
    case TW_ICE_SOCK_LISTEN:
        err = open_listener(r, ev, &local);
        break;
    default:
        err = open_link(r, ev);
        if (!err)
            return; /* on_link_open or on_link_over tells */
        break;
    }
    r->ops->opened(r->machine, tw_rt_now(), ev->sock, err, err ? NULL : &local);
}

static void on_mapped(void *user, uint32_t sock, const struct tw_addr *outside)
{
    struct tw_rt_sockets *r = user;
    r->ops->mapped(r->machine, tw_rt_now(), sock, outside);
    tw_rt_sockets_pump(r);
}

static void map_sock(struct tw_rt_sockets *r, const struct tw_ice_event *ev)
{
    if (!r->upnp && tw_rt_upnp_new(r->loop, on_mapped, r, &r->upnp))
        return; /* then without */
    tw_rt_upnp_want(r->upnp, ev->sock, ev->socket == TW_ICE_SOCK_LISTEN, &ev->local);
}

static void drop(struct tw_rt_sockets *r, struct rt_sock *s)
{
    if (r->upnp)
        tw_rt_upnp_drop(r->upnp, s->id);
    close_sock(s);
}

bool tw_rt_sockets_event(struct tw_rt_sockets *r, const struct tw_ice_event *ev)
{
    struct rt_sock *s;
    switch (ev->type) {
    case TW_ICE_OPEN:
        open_sock(r, ev);
        return true;
    case TW_ICE_CLOSE:
        s = find(r, ev->sock);
        if (s)
            drop(r, s);
        return true;
    case TW_ICE_MAP:
        map_sock(r, ev);
        return true;
    default:
        return false;
    }
}

void tw_rt_sockets_close_all(struct tw_rt_sockets *r, uint32_t id)
{
    for (struct rt_sock *s = *list_of(r, id), *next; s; s = next) {
        next = s->next;
        if (s->id && s->id >> TW_ENDPOINT_SOCK_BITS == id >> TW_ENDPOINT_SOCK_BITS && !s->closing)
            drop(r, s);
    }
}

/* What goes over a connection in one go is sent together. Full: lost, as on a network. */
static void put(struct rt_sock *s, const struct tw_bytes *iov, size_t n, bool data)
{
    tw_rt_link_put(&s->link, iov, n, data);
    if (s->dirty)
        return;
    s->dirty = true;
    s->next_dirty = s->owner->dirty;
    s->owner->dirty = s;
}

static void flush(struct tw_rt_sockets *r)
{
    while (r->dirty) {
        struct rt_sock *s = r->dirty;
        r->dirty = s->next_dirty;
        s->dirty = false;
        if (!s->closing)
            tw_rt_link_flush(&s->link);
    }
}

static void send_over(struct rt_sock *s, const struct tw_datagram *d)
{
    struct tw_bytes iov[9];
    uint8_t header[TW_FRAME_HEADER];
    size_t n = 0;
    if (s->kind == SOCK_STUN_LINK) {
        put(s, d->iov, d->iov_n, conn_is_data(d->iov[0]));
        return;
    }
    for (size_t i = 0; i < d->iov_n && i < 8; i++) {
        iov[i + 1] = d->iov[i];
        n += d->iov[i].n;
    }
    tw_frame_header(n, header);
    iov[0] = tw_bytes(header, sizeof(header));
    put(s, iov, d->iov_n + 1, conn_is_data(d->iov[0]));
}

static void send_all(struct tw_rt_sockets *r)
{
    struct tw_datagram d;
    while (r->ops->poll_tx(r->machine, &d)) {
        struct rt_sock *s = find(r, d.sock);
        if (s && s->kind == SOCK_UDP)
            tw_rt_tx_add(r->tx, &s->udp, &d);
        else if (s && s->kind >= SOCK_LINK)
            send_over(s, &d);
        else if (r->ops->send)
            r->ops->send(r, &d);
    }
}

static void on_time(void *user)
{
    struct tw_rt_sockets *r = user;
    r->ops->tick(r->machine, tw_rt_now());
    tw_rt_sockets_pump(r);
}

/* Who was stopped, or had much to do, reads what has come meanwhile before the machine may take that for silence. */
static void on_timer(uv_timer_t *t)
{
    static const tw_time late = 20 * TW_MSEC;
    struct tw_rt_sockets *r = t->data;
    r->reads_first = !r->reads_first && tw_rt_now() - r->due > late;
    if (r->reads_first)
        tw_rt_timer_at(t, tw_rt_now() + TW_MSEC, on_timer);
    else
        on_time(r);
}

void tw_rt_sockets_pump(struct tw_rt_sockets *r)
{
    if (r->draining || r->over) { /* called from an event: the loop below goes on */
        return;
    }
    r->draining = true;
    send_all(r);
    while (!r->over && r->ops->next_event(r))
        if (!r->over)
            send_all(r);
    r->draining = false;
    if (r->over)
        return;
    tw_rt_tx_flush(r->tx);
    flush(r); /* one that breaks tells the machine, in a pump of its own */
    if (r->over)
        return;
    r->due = r->ops->deadline(r->machine);
    tw_rt_timer_at(&r->timer, r->due, on_timer);
}

static void on_nat64(void *user, const struct tw_range *prefix)
{
    struct tw_rt_sockets *r = user;
    r->ops->nat64(r->machine, tw_rt_now(), prefix);
    tw_rt_sockets_pump(r);
}

static void tell_interfaces(void *user)
{
    struct tw_rt_sockets *r = user;
    struct tw_ice_interface list[TW_ICE_INTERFACES_MAX];
    unsigned n;
    if (tw_rt_interfaces(list, TW_ICE_INTERFACES_MAX, &n)) {
        tw_rt_watch_again(&r->watch);
        return;
    }
    tw_rt_nat64_look(&r->nat64, list, n);
    (void)!r->ops->interfaces(r, tw_rt_now(), list, n);
    tw_rt_sockets_pump(r);
}

int tw_rt_sockets_init(struct tw_rt_sockets *r, uv_loop_t *loop, const struct tw_rt_sockets_ops *ops,
                       void *machine, void *user)
{
    *r = (struct tw_rt_sockets){ .ops = ops, .machine = machine, .user = user, .loop = loop };
    int err = tw_rt_rx_init(&r->rx);
    if (err)
        return err;
    r->tx = malloc(sizeof(*r->tx));
    if (!r->tx) {
        tw_rt_rx_fini(&r->rx);
        return TW_ENOMEM;
    }
    tw_rt_tx_init(r->tx, &r->rx);
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
    return 0;
}

void tw_rt_sockets_start(struct tw_rt_sockets *r)
{
    tw_rt_nat64_init(&r->nat64, r->loop, on_nat64, r);
    tw_rt_watch_init(&r->watch, r->loop, tell_interfaces, r);
    tw_rt_clock_init(&r->clock, r->loop, on_time, r);
    r->watching = true;
    tell_interfaces(r);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct tw_rt_sockets *r = h->data;
    tw_rt_rx_fini(&r->rx);
    free(r->tx);
}

void tw_rt_sockets_fini(struct tw_rt_sockets *r)
{
    tw_rt_tx_flush(r->tx);
    r->over = true;
    for (unsigned i = 0; i < TW_RT_SOCKETS_LISTS; i++)
        for (struct rt_sock *s = r->socks[i], *next; s; s = next) {
            next = s->next;
            close_sock(s);
        }
    if (r->watching) {
        tw_rt_watch_fini(&r->watch);
        tw_rt_clock_fini(&r->clock);
    }
    tw_rt_nat64_fini(&r->nat64);
    tw_rt_upnp_free(r->upnp);
    tw_rt_tls_unref(r->web_tls);
    tw_rt_tls_unref(r->web_client);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}
