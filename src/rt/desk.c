#include "rt/desk.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thalweg/relay.h>

#include "base/map.h"
#include "rt/link.h"
#include "rt/os.h"
#include "rt/polls.h"
#include "rt/sockaddr.h"
#include "tunnel/forwarded.h"
#include "tunnel/front.h"

#define LOOK_WITHIN (10 * TW_SEC) /* so soon it must be clear what somebody wants */
#define NEXT_WITHIN (60 * TW_SEC) /* and so long a connection is kept that has brought a request of tunnel/poll.h's */

struct guest {
    struct tw_rt_link link;
    struct tw_rt_desk *desk;
    uint32_t id;
    bool closing, known;     /* known: the machine has it */
    bool by_proxy;           /* it came through a proxy that is believed */
    bool looking;            /* it is not known yet what it wants */
    struct tw_addr remote;   /* as that proxy says */
    tw_time came;
    struct guest *next, **at; /* of those that are looked at, the youngest first */
};

struct listener {
    struct tw_rt_desk *desk;
    uv_poll_t poll;
    int fd;
    bool tls, open;
    struct tw_addr addr;
};

struct tw_rt_desk {
    uv_loop_t *loop;
    struct tw_desk *desk;
    struct tw_rt_tls *tls;
    struct listener listeners[TW_RT_DESK_LISTENERS];
    size_t listener_n;
    uv_timer_t timer;
    struct tw_map guests; /* by id */
    struct guest *looked_at;
    struct listener polled; /* where those come from who come by single requests */
    struct tw_rt_polls *polls;
    uint32_t next;
    unsigned handles;     /* that are not closed yet */
    struct tw_rt_desk_config cfg;
    bool over;
};

static bool has_id(const void *item, const void *key)
{
    return ((const struct guest *)item)->id == *(const uint32_t *)key;
}

static struct guest *find(struct tw_rt_desk *d, uint32_t id)
{
    return tw_map_get(&d->guests, tw_map_hash_number(id), has_id, &id);
}

static void released(struct tw_rt_desk *d)
{
    if (--d->handles || !d->over)
        return;
    tw_desk_free(d->desk);
    tw_map_fini(&d->guests);
    tw_rt_tls_unref(d->tls);
    free(d);
}

static void on_guest_closed(struct tw_rt_link *l)
{
    struct guest *g = l->user;
    struct tw_rt_desk *d = g->desk;
    tw_rt_tls_unref(g->link.cfg.tls);
    free(g);
    released(d);
}

static void stop_looking(struct guest *g)
{
    if (!g->looking)
        return;
    g->looking = false;
    *g->at = g->next;
    if (g->next)
        g->next->at = g->at;
}

/* The machine knows already, or is told. */
static void dismiss(struct guest *g)
{
    if (g->closing)
        return;
    g->closing = true;
    if (g->desk->polls)
        tw_rt_polls_gone(g->desk->polls, g->id);
    stop_looking(g);
    tw_map_del(&g->desk->guests, tw_map_hash_number(g->id), g);
    tw_rt_link_close(&g->link, on_guest_closed);
}

static void leave(struct guest *g)
{
    if (g->known)
        tw_desk_disconnected(g->desk->desk, tw_rt_now(), g->id);
    g->known = false;
    dismiss(g);
}

static void on_timer(uv_timer_t *t);

static void pump(struct tw_rt_desk *d)
{
    uint32_t id;
    struct tw_bytes b;
    bool end;
    while (!d->over && tw_desk_poll_tx(d->desk, &id, &b, &end)) {
        struct guest *g = find(d, id);
        if (g && b.n && g->link.open) {
            end = !tw_rt_link_send(&g->link, &b, 1) || end;
            tw_desk_backlog(d->desk, id, tw_rt_link_pending(&g->link));
        }
        if (end && (g = find(d, id))) {
            leave(g);
        }
    }
    if (!d->over)
        tw_rt_timer_at(&d->timer, tw_time_min(tw_desk_deadline(d->desk), d->looked_at ? tw_rt_now() + TW_SEC : TW_NEVER), on_timer);
}

static void on_timer(uv_timer_t *t)
{
    struct tw_rt_desk *d = t->data;
    tw_desk_tick(d->desk, tw_rt_now());
    for (struct guest *g = d->looked_at, *next; g; g = next) {
        next = g->next;
        if (tw_rt_now() - g->came >= LOOK_WITHIN)
            leave(g);
    }
    tw_rt_polls_tick(d->polls);
    pump(d);
}

static void on_open(struct tw_rt_link *l)
{
    (void)l;
}

static bool introduce(struct guest *g, const struct tw_addr *remote)
{
    struct tw_rt_desk *d = g->desk;
    /* What the greeting says; once for each who comes is often enough. */
    tw_desk_clock(d->desk, tw_rt_now(), (uint64_t)((tw_rt_now() + tw_rt_unix_offset()) / TW_MSEC));
    g->known = tw_desk_connected(d->desk, tw_rt_now(), g->id, remote) == 0;
    return g->known;
}

static bool is_proxy(const struct tw_rt_desk *d, const struct tw_addr *a)
{
    for (size_t i = 0; i < d->cfg.proxy_n; i++)
        if (tw_range_has(&d->cfg.proxies[i], a))
            return true;
    return false;
}

static void to_relay(struct guest *g, bool ws, struct tw_bytes data)
{
    struct tw_rt_desk *d = g->desk;
    struct tw_rt_newcomer *n = malloc(sizeof(*n) + data.n);
    struct sockaddr_storage ss = { 0 };
    socklen_t ss_n = sizeof(ss);
    int fd;
    if (n) {
        *n = (struct tw_rt_newcomer){ .ws = ws, .remote = g->remote, .n = data.n };
        memcpy(n->bytes, data.p, data.n);
        getsockname(g->link.conn.fd, (struct sockaddr *)&ss, &ss_n);
        n->local = tw_rt_addr(&ss);
        if (n->local.family == TW_FAMILY_NONE) /* by single requests */
            n->local = d->listeners[0].addr;
        tw_rt_link_detach(&g->link, &fd, &n->session);
        n->tls = n->session ? tw_rt_tls_ref(g->link.cfg.tls) : NULL;
        d->cfg.turn(d->cfg.user, fd, n);
    }
    leave(g);
}

/* Single requests, one after the other. */
static bool look_at_requests(struct guest *g, struct tw_bytes data, size_t *ret_used)
{
    struct tw_poll_request r;
    size_t used;
    while (*ret_used < data.n) {
        int err = tw_poll_parse(tw_bytes(data.p + *ret_used, data.n - *ret_used), &r, &used);
        if (err == TW_ESHORT)
            break;
        if (err) {
            *ret_used = data.n;
            leave(g);
            break;
        }
        *ret_used += used;
        g->came = tw_rt_now() + NEXT_WITHIN - LOOK_WITHIN;
        tw_rt_polls_request(g->desk->polls, g->id, &g->remote, &r);
        if (g->closing)
            break;
    }
    return false;
}

/* RFC 7443: it said so in its ClientHello. */
static bool is_for_turn(const struct guest *g)
{
    gnutls_datum_t chosen;
    return g->link.conn.tls && gnutls_alpn_get_selected_protocol(g->link.conn.tls, &chosen) == 0 && chosen.size > 5 &&
           memcmp(chosen.data, "stun.", 5) == 0;
}

/* The first bytes. False: it is not ours any more, or too few have come. */
static bool look(struct guest *g, struct tw_bytes data, size_t *ret_used)
{
    struct tw_rt_desk *d = g->desk;
    struct tw_addr client;
    enum tw_front what = is_for_turn(g) ? TW_FRONT_TURN : tw_front_look(data);
    *ret_used = 0;
    if (what == TW_FRONT_MORE)
        return false;
    if (what != TW_FRONT_TURN && g->by_proxy && tw_forwarded_http(data, &client))
        g->remote = client;
    if (what == TW_FRONT_POLL)
        return look_at_requests(g, data, ret_used);
    if (what != TW_FRONT_WEB && d->cfg.turn) {
        *ret_used = data.n;
        to_relay(g, what == TW_FRONT_TURN_WS, data);
        return false;
    }
    stop_looking(g);
    if (!g->known && !introduce(g, &g->remote)) {
        *ret_used = data.n;
        leave(g);
        return false;
    }
    return true;
}

static size_t on_data(struct tw_rt_link *l, struct tw_bytes data)
{
    struct guest *g = l->user;
    size_t used;
    if (g->closing)
        return data.n;
    if (g->looking && !look(g, data, &used))
        return used;
    tw_desk_recv(g->desk->desk, tw_rt_now(), g->id, data);
    pump(g->desk);
    return data.n;
}

static void on_over(struct tw_rt_link *l, const char *why)
{
    struct guest *g = l->user;
    struct tw_rt_desk *d = g->desk;
    (void)why;
    if (g->closing)
        return;
    leave(g);
    pump(d);
}

static size_t on_preface(struct tw_rt_link *l, struct tw_bytes first)
{
    struct guest *g = l->user;
    struct tw_addr client;
    size_t used;
    int err = g->by_proxy ? tw_forwarded_proxy(first, &client, &used) : TW_ENOTFOUND;
    if (err)
        return err == TW_ENOTFOUND ? TW_RT_PREFACE_NONE : err == TW_ESHORT ? 0 : TW_RT_PREFACE_BAD;
    if (client.family)
        g->remote = client;
    return used;
}

static const struct tw_rt_link_events events = { .on_open = on_open, .on_data = on_data, .on_over = on_over },
                                      by_proxy = { .on_open = on_open, .on_data = on_data, .on_over = on_over,
                                                   .on_preface = on_preface };

static bool admit(struct listener *l, int fd, const struct tw_addr *remote)
{
    struct tw_rt_desk *d = l->desk;
    struct guest *g = calloc(1, sizeof(*g));
    if (!g)
        return false;
    g->desk = d;
    g->id = ++d->next;
    g->remote = *remote;
    g->came = tw_rt_now();
    g->by_proxy = is_proxy(d, remote);
    if (tw_map_put(&d->guests, tw_map_hash_number(g->id), g)) {
        free(g);
        return false;
    }
    struct tw_rt_tls *tls = l->tls ? tw_rt_tls_ref(d->tls) : NULL;
    /* A proxy is no source of which there can be too many: who comes through it is known later. */
    if ((!g->by_proxy && !introduce(g, remote)) ||
        tw_rt_link_adopt(&g->link, d->loop, fd, remote, tls, TW_RT_ALPN_WEB "," TW_RT_ALPN_TURN, g->by_proxy ? &by_proxy : &events, g)) {
        tw_rt_tls_unref(tls);
        if (g->known)
            tw_desk_disconnected(d->desk, tw_rt_now(), g->id);
        tw_map_del(&d->guests, tw_map_hash_number(g->id), g);
        free(g);
        return false;
    }
    g->looking = true;
    g->next = d->looked_at;
    g->at = &d->looked_at;
    if (g->next)
        g->next->at = &g->next;
    d->looked_at = g;
    d->handles++;
    return true;
}

static bool on_polled(void *user, int fd, const struct tw_addr *remote)
{
    struct tw_rt_desk *d = user;
    if (!d->over && admit(&d->polled, fd, remote))
        return true;
    close(fd);
    return false;
}

static void on_answer(void *user, uint32_t asker, const struct tw_bytes *parts, size_t n)
{
    struct tw_rt_desk *d = user;
    struct guest *g = find(d, asker);
    if (g && !g->closing && !tw_rt_link_send(&g->link, parts, n))
        leave(g);
}

static const struct tw_rt_polls_ops polls_ops = { on_polled, on_answer };

static void on_accept(uv_poll_t *poll, int status, int ready)
{
    enum { AT_ONCE = 64 };
    struct listener *l = poll->data;
    (void)status, (void)ready;
    for (int i = 0; i < AT_ONCE && l->open; i++) {
        struct sockaddr_storage ss = { 0 };
        socklen_t n = sizeof(ss);
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            break;
        struct tw_addr remote = tw_rt_addr(&ss);
        bool stranger = l->desk->cfg.private_only && tw_relay_is_public(&remote);
        if (stranger || !admit(l, fd, &remote))
            close(fd);
    }
    pump(l->desk);
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    close(l->fd);
    released(l->desk);
}

static void close_listener(struct listener *l)
{
    if (!l->open)
        return;
    l->open = false;
    uv_close((uv_handle_t *)&l->poll, on_listener_closed);
}

static int open_listener(struct tw_rt_desk *d, struct listener *l)
{
    struct sockaddr_storage ss;
    socklen_t n = tw_rt_sockaddr(&l->addr, &ss);
    int one = 1;
    l->desk = d;
    l->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return TW_ESYS;
    /* Also while a server before this one still has it (SIGUSR2). */
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (ss.ss_family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(l->fd, (struct sockaddr *)&ss, n) || listen(l->fd, 1024) ||
        getsockname(l->fd, (struct sockaddr *)&ss, &n) || uv_poll_init(d->loop, &l->poll, l->fd)) {
        int keep = errno;
        close(l->fd);
        errno = keep;
        return keep == EADDRINUSE ? TW_EADDRINUSE : TW_ESYS;
    }
    l->addr = tw_rt_addr(&ss);
    l->poll.data = l;
    l->open = true;
    d->handles++;
    uv_poll_start(&l->poll, UV_READABLE, on_accept);
    return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
    released(h->data);
}

int tw_rt_desk_new(const struct tw_rt_desk_config *cfg, uv_loop_t *loop, struct tw_rt_desk **ret, int *ret_bad)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    struct tw_rt_desk *d = calloc(1, sizeof(*d));
    *ret_bad = -1;
    if (!d)
        return TW_ENOMEM;
    d->loop = loop;
    d->cfg = *cfg;
    d->polled.desk = d;
    int err = tw_rt_polls_new(loop, &polls_ops, d, &d->polls);
    err = err ? err : tw_desk_new(&cfg->desk, &env, &d->desk);
    if (err) {
        tw_rt_polls_free(d->polls);
        free(d);
        return err;
    }
    tw_map_init(&d->guests, cfg->desk.max_clients + 1);
    d->tls = cfg->tls ? tw_rt_tls_ref(cfg->tls) : NULL;
    uv_timer_init(loop, &d->timer);
    d->timer.data = d;
    d->handles = 1;
    for (size_t i = 0; i < cfg->listener_n && !err; i++) {
        d->listeners[i] = (struct listener){ .addr = cfg->listener[i].addr, .tls = cfg->listener[i].tls };
        err = open_listener(d, &d->listeners[i]);
        if (err)
            *ret_bad = (int)i;
        d->listener_n += !err;
    }
    if (err) {
        int keep = errno;
        tw_rt_desk_free(d);
        errno = keep;
        return err;
    }
    *ret = d;
    return 0;
}

struct tw_addr tw_rt_desk_listener(const struct tw_rt_desk *d, size_t i)
{
    return d->listeners[i].addr;
}

void tw_rt_desk_set_tls(struct tw_rt_desk *d, struct tw_rt_tls *tls)
{
    tw_rt_tls_unref(d->tls);
    d->tls = tls ? tw_rt_tls_ref(tls) : NULL;
}

const struct tw_desk_stats *tw_rt_desk_stats(const struct tw_rt_desk *d)
{
    return tw_desk_stats(d->desk);
}

void tw_rt_desk_drain(struct tw_rt_desk *d)
{
    for (size_t i = 0; i < d->listener_n; i++)
        close_listener(&d->listeners[i]);
    tw_desk_drain(d->desk, tw_rt_now());
    pump(d);
}

void tw_rt_desk_free(struct tw_rt_desk *d)
{
    if (!d)
        return;
    d->over = true;
    tw_rt_polls_free(d->polls);
    d->polls = NULL;
    for (size_t i = 0; i < d->listener_n; i++)
        close_listener(&d->listeners[i]);
    for (uint32_t i = 0; d->guests.slots && i <= d->guests.mask;) {
        if (d->guests.slots[i].item)
            dismiss(d->guests.slots[i].item);
        else
            i++;
    }
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}
