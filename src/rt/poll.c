#include "rt/poll.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/os.h"
#include "tunnel/poll.h"

enum { FAILURES_MAX = 4 };

struct carrier {
    struct tw_rt_link link;
    struct poll *of;
    enum { CARRIER_NONE, CARRIER_RUNS, CARRIER_CLOSES } state;
};

struct poll {
    struct tw_poll *machine;
    uv_loop_t *loop;
    struct tw_rt_link_config how;
    struct tw_proxy_url proxy;
    char host[256], target[256];
    uint8_t pin[TW_RT_PIN];
    struct carrier carriers[TW_POLL_CONNS];
    int fd, watched;
    uv_poll_t poll;
    bool ended, poll_closed;
    unsigned failures; /* since something came through */
};

static void stir(struct poll *p);

static void forget(struct poll *p)
{
    if (!p->ended || !p->poll_closed)
        return;
    for (int i = 0; i < TW_POLL_CONNS; i++)
        if (p->carriers[i].state != CARRIER_NONE)
            return;
    close(p->fd);
    tw_poll_free(p->machine);
    free(p);
}

static void on_carrier_closed(struct tw_rt_link *l)
{
    struct carrier *c = l->user;
    c->state = CARRIER_NONE;
    if (c->of->ended)
        forget(c->of);
    else
        stir(c->of);
}

static void close_carrier(struct carrier *c)
{
    if (c->state != CARRIER_RUNS)
        return;
    c->state = CARRIER_CLOSES;
    tw_rt_link_close(&c->link, on_carrier_closed);
}

static void on_poll_closed(uv_handle_t *h)
{
    struct poll *p = h->data;
    p->poll_closed = true;
    forget(p);
}

static void end(struct poll *p)
{
    if (p->ended)
        return;
    p->ended = true;
    shutdown(p->fd, SHUT_RDWR);
    for (int i = 0; i < TW_POLL_CONNS; i++)
        close_carrier(&p->carriers[i]);
    uv_close((uv_handle_t *)&p->poll, on_poll_closed);
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void watch(struct poll *p)
{
    int events = (tw_poll_room(p->machine) ? UV_READABLE : 0) | (tw_poll_came(p->machine).n ? UV_WRITABLE : 0);
    if (p->ended || events == p->watched)
        return;
    p->watched = events;
    if (events)
        uv_poll_start(&p->poll, events, on_ready);
    else
        uv_poll_stop(&p->poll);
}

static void open_carrier(struct poll *p, unsigned i);

/* Sends what is to be sent, over connections that are opened when they are needed. */
static void stir(struct poll *p)
{
    for (unsigned i = 0; i < TW_POLL_CONNS && !p->ended; i++) {
        struct carrier *c = &p->carriers[i];
        if (c->state == CARRIER_NONE)
            open_carrier(p, i);
        if (p->ended || c->state != CARRIER_RUNS || !c->link.open)
            continue;
        struct tw_bytes out = tw_poll_out(p->machine, i);
        if (out.n)
            (void)!tw_rt_link_send(&c->link, &out, 1); /* one that breaks says so */
    }
    watch(p);
}

static void deliver(struct poll *p)
{
    struct tw_bytes b = tw_poll_came(p->machine);
    ssize_t n = b.n ? send(p->fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n > 0)
        tw_poll_took(p->machine, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        end(p);
}

static void on_open(struct tw_rt_link *l)
{
    stir(((struct carrier *)l->user)->of);
}

static size_t on_data(struct tw_rt_link *l, struct tw_bytes data)
{
    struct carrier *c = l->user;
    struct poll *p = c->of;
    size_t used = 0, n = 1;
    while (!p->ended && used < data.n && n) {
        if (tw_poll_recv(p->machine, (unsigned)(c - p->carriers), tw_bytes(data.p + used, data.n - used), &n)) {
            end(p);
            return data.n;
        }
        used += n;
        p->failures = n ? 0 : p->failures;
    }
    if (p->ended)
        return data.n;
    deliver(p);
    stir(p);
    return used;
}

static void on_over(struct tw_rt_link *l, const char *why)
{
    struct carrier *c = l->user;
    struct poll *p = c->of;
    (void)why;
    tw_poll_lost(p->machine, (unsigned)(c - p->carriers));
    close_carrier(c); /* the next one is opened once this is closed */
    if (++p->failures >= FAILURES_MAX)
        end(p);
}

static const struct tw_rt_link_events events = { .on_open = on_open, .on_data = on_data, .on_over = on_over };

static void open_carrier(struct poll *p, unsigned i)
{
    struct carrier *c = &p->carriers[i];
    c->of = p;
    if (tw_rt_link_open(&c->link, p->loop, &p->how, &events, c)) {
        end(p);
        return;
    }
    c->state = CARRIER_RUNS;
}

static void on_ready(uv_poll_t *poll, int status, int ready)
{
    struct poll *p = poll->data;
    uint8_t buf[TW_POLL_BODY];
    size_t room = tw_poll_room(p->machine);
    (void)status;
    if (ready & UV_WRITABLE)
        deliver(p);
    if (ready & UV_READABLE && room && !p->ended) {
        ssize_t n = recv(p->fd, buf, room < sizeof(buf) ? room : sizeof(buf), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            end(p);
        else if (n > 0)
            (void)tw_poll_send(p->machine, tw_bytes(buf, (size_t)n));
    }
    stir(p);
}

int tw_rt_poll_open(uv_loop_t *loop, const struct tw_rt_link_config *how, const char *host, int *ret_fd)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    struct poll *p = calloc(1, sizeof(*p));
    int pair[2];
    if (!p || tw_poll_new(host, &env, &p->machine)) {
        free(p);
        return TW_ENOMEM;
    }
    p->loop = loop;
    p->how = *how;
    if (how->host) {
        snprintf(p->host, sizeof(p->host), "%s", how->host);
        p->how.host = p->host;
    }
    if (how->pin) {
        memcpy(p->pin, how->pin, TW_RT_PIN);
        p->how.pin = p->pin;
    }
    if (how->proxy) {
        p->proxy = *how->proxy;
        snprintf(p->target, sizeof(p->target), "%s", how->target);
        p->how.proxy = &p->proxy;
        p->how.target = p->target;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) {
        tw_poll_free(p->machine);
        free(p);
        return TW_ESYS;
    }
    p->fd = pair[0];
    if (uv_poll_init(loop, &p->poll, p->fd)) {
        close(pair[0]);
        close(pair[1]);
        tw_poll_free(p->machine);
        free(p);
        return TW_ESYS;
    }
    p->poll.data = p;
    watch(p);
    *ret_fd = pair[1];
    return 0;
}
