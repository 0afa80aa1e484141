#include "rt/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <thalweg/stun.h>

#include "rt/os.h"
#include "rt/sockaddr.h"
#include "tunnel/frame.h"

/* A socket of the machine's: UDP, listening, or a connection. */
struct rt_sock {
    struct rt_sock *next;
    struct tw_rt_sockets *owner;
    uint32_t id;
    enum sock_kind { SOCK_UDP, SOCK_LISTEN, SOCK_LINK, SOCK_STUN_LINK } kind;
    bool closing, dirty;
    struct rt_sock *next_dirty;
    int fd;                /* of SOCK_LISTEN */
    struct tw_addr local;
    uv_poll_t poll;        /* UDP, LISTEN */
    struct tw_rt_udp udp;
    struct tw_rt_link link;
};

static struct rt_sock *find(struct tw_rt_sockets *r, uint32_t id)
{
    for (struct rt_sock *s = r->socks; s; s = s->next)
        if (s->id == id && !s->closing)
            return s;
    return NULL;
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
    s->next = r->socks;
    r->socks = s;
    return s;
}

static void forget(struct rt_sock *s)
{
    struct rt_sock **at = &s->owner->socks;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
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

static void close_sock(struct rt_sock *s)
{
    if (s->closing)
        return;
    s->closing = true;
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
    if (err) {
        forget(s);
        return err;
    }
    s->udp.id = ev->sock;
    s->udp.burst = s->udp.min_burst = TW_RT_RX_MAX;
    s->local = *ret_local = s->udp.local;
    uv_poll_init(r->loop, &s->poll, s->udp.fd);
    s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_readable);
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

static void on_link_open(struct tw_rt_link *l)
{
    struct rt_sock *s = l->user;
    s->local = local_of(l->conn.fd);
    s->owner->ops->opened(s->owner->machine, tw_rt_now(), s->id, 0, &s->local);
    tw_rt_sockets_pump(s->owner);
}

static void deliver(struct rt_sock *s, struct tw_bytes payload)
{
    struct tw_datagram d = { .sock = s->id, .src = s->link.cfg.server, .dst = s->local,
                             .iov = &payload, .iov_n = 1 };
    s->owner->ops->recv(s->owner->machine, tw_rt_now(), &d);
    tw_rt_sockets_pump(s->owner);
}

static size_t on_link_data(struct tw_rt_link *l, struct tw_bytes in)
{
    struct rt_sock *s = l->user;
    struct tw_rt_sockets *r = s->owner;
    struct tw_bytes payload;
    size_t used = 0, n;
    if (s->kind == SOCK_STUN_LINK) {
        if (l->cfg.transport == TW_TRANSPORT_DTLS)
            used = in.n; /* a datagram */
        while (used < in.n && !tw_stun_frame(in.p + used, in.n - used, &n) && n)
            used += n;
        if (used && !r->over)
            deliver(s, tw_bytes(in.p, used));
        return used;
    }
    while (!r->over && !s->closing &&
           tw_frame_next(tw_bytes(in.p + used, in.n - used), &payload, &n)) {
        used += n;
        deliver(s, payload);
    }
    return used;
}

static void on_link_over(struct tw_rt_link *l, const char *why)
{
    struct rt_sock *s = l->user;
    struct tw_rt_sockets *r = s->owner;
    (void)why;
    if (r->over || s->closing)
        return;
    uint32_t id = s->id;
    r->ops->opened(r->machine, tw_rt_now(), id, TW_ESYS, NULL); /* counts only while it is opening */
    r->ops->disconnected(r->machine, tw_rt_now(), id);
    tw_rt_sockets_pump(r);
    s = find(r, id);
    if (s)
        close_sock(s);
}

static const struct tw_rt_link_events link_events = { on_link_open, on_link_data, on_link_over };

static int open_link(struct tw_rt_sockets *r, const struct tw_ice_event *ev)
{
    bool turn = ev->socket == TW_ICE_SOCK_TURN;
    struct tw_rt_link_config how = { .transport = TW_TRANSPORT_TCP, .server = ev->remote };
    struct rt_sock *s = add(r, ev->sock, ev->socket == TW_ICE_SOCK_CONNECT ? SOCK_LINK : SOCK_STUN_LINK);
    if (!s)
        return TW_ENOMEM;
    if (turn)
        r->ops->turn(r, ev, &how);
    else
        how.local = ev->local;
    int err = tw_rt_link_open(&s->link, r->loop, &how, &link_events, s);
    if (err)
        forget(s);
    return err;
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct rt_sock *l = poll->data;
    struct tw_rt_sockets *r = l->owner;
    struct sockaddr_storage ss = { 0 };
    socklen_t n = sizeof(ss);
    uint32_t id = 0;
    (void)status, (void)events;
    int fd = accept4(l->fd, (struct sockaddr *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct tw_addr remote = tw_rt_addr(&ss);
    r->ops->accepted(r->machine, tw_rt_now(), l->id, &remote, &id);
    struct rt_sock *s = id ? add(r, id, SOCK_LINK) : NULL;
    if (!s || tw_rt_link_adopt(&s->link, r->loop, fd, &remote, NULL, NULL, &link_events, s)) {
        if (s)
            forget(s);
        if (id)
            r->ops->disconnected(r->machine, tw_rt_now(), id);
        close(fd);
    } else {
        s->local = local_of(fd);
    }
    tw_rt_sockets_pump(r);
}

static int open_listener(struct tw_rt_sockets *r, const struct tw_ice_event *ev,
                         struct tw_addr *ret_local)
{
    struct sockaddr_storage ss;
    socklen_t n = tw_rt_sockaddr(&ev->local, &ss);
    struct rt_sock *s = add(r, ev->sock, SOCK_LISTEN);
    if (!s)
        return TW_ENOMEM;
    s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (s->fd >= 0) /* connections from that port, too */
        setsockopt(s->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&ss, n) || listen(s->fd, 16)) {
        if (s->fd >= 0)
            close(s->fd);
        forget(s);
        return TW_ESYS;
    }
    s->local = *ret_local = local_of(s->fd);
    uv_poll_init(r->loop, &s->poll, s->fd);
    s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_accept);
    return 0;
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

void tw_rt_sockets_close_range(struct tw_rt_sockets *r, uint32_t first, uint32_t last)
{
    for (struct rt_sock *s = r->socks, *next; s; s = next) {
        next = s->next;
        if (s->id >= first && s->id <= last && !s->closing)
            drop(r, s);
    }
}

/* What goes over a connection in one go is sent together. Full: lost, as on a network. */
static void put(struct rt_sock *s, const struct tw_bytes *iov, size_t n)
{
    (void)!tw_rt_link_put(&s->link, iov, n);
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
        put(s, d->iov, d->iov_n);
        return;
    }
    for (size_t i = 0; i < d->iov_n && i < 8; i++) {
        iov[i + 1] = d->iov[i];
        n += d->iov[i].n;
    }
    tw_frame_header(n, header);
    iov[0] = tw_bytes(header, sizeof(header));
    put(s, iov, d->iov_n + 1);
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

static void on_timer(uv_timer_t *t)
{
    struct tw_rt_sockets *r = t->data;
    r->ops->tick(r->machine, tw_rt_now());
    tw_rt_sockets_pump(r);
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
    tw_rt_timer_at(&r->timer, r->ops->deadline(r->machine), on_timer);
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
    unsigned n = tw_rt_interfaces(list, TW_ICE_INTERFACES_MAX);
    (void)!r->ops->interfaces(r, tw_rt_now(), list, n);
    tw_rt_sockets_pump(r);
    tw_rt_nat64_look(&r->nat64, list, n);
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
    r->watching = tw_rt_watch_init(&r->watch, r->loop, tell_interfaces, r) == 0;
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
    for (struct rt_sock *s = r->socks, *next; s; s = next) {
        next = s->next;
        close_sock(s);
    }
    if (r->watching)
        tw_rt_watch_fini(&r->watch);
    tw_rt_nat64_fini(&r->nat64);
    tw_rt_upnp_free(r->upnp);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}
