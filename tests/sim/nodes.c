#include "nodes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* --- relay -------------------------------------------------------------------------------- */

static void relay_drain(struct relay_node *n, unsigned w);

static unsigned worker_of(const struct relay_node *n, const struct tw_datagram *d)
{
    if (d->sock >= TW_RELAY_FIRST_SOCK)
        return d->sock >> 24;
    return d->src.port % n->workers;
}

/* Relay sockets of all workers live on one host: the worker goes into the id's top byte. */
static uint32_t outer_id(unsigned worker, uint32_t sock)
{
    return sock < TW_RELAY_FIRST_SOCK ? sock : sock | worker << 24;
}

static void relay_handovers(struct relay_node *n, unsigned w)
{
    struct tw_relay_handover h;
    while (tw_relay_poll_handover(n->relay[w], &h)) {
        uint8_t bytes[65536];
        size_t len = 0;
        for (size_t i = 0; i < h.d.iov_n; i++) {
            memcpy(bytes + len, h.d.iov[i].p, h.d.iov[i].n);
            len += h.d.iov[i].n;
        }
        struct tw_bytes b = tw_bytes(bytes, len);
        h.d.iov = &b;
        h.d.iov_n = 1;
        tw_relay_recv_handover(n->relay[h.to], sim_now(n->sim), &h);
        relay_drain(n, h.to);
    }
}

static void relay_event(struct relay_node *n, unsigned w, const struct tw_relay_event *ev)
{
    switch (ev->type) {
    case TW_RELAY_OPEN:
        n->opens++;
        bool taken = n->open_errors_left && n->open_errors_left--;
        bool ok = !taken && sim_open(n->host, outer_id(w, ev->sock), ev->addr, NULL);
        tw_relay_opened(n->relay[w], sim_now(n->sim), ev->sock, ok ? 0 : TW_EADDRINUSE);
        break;
    case TW_RELAY_CLOSE:
        sim_close(n->host, outer_id(w, ev->sock));
        break;
    case TW_RELAY_CONNECT:
    case TW_RELAY_JOIN:
        break; /* no TCP here */
    case TW_RELAY_FLOW:
        n->flow = *ev;
        break;
    }
}

static void relay_drain(struct relay_node *n, unsigned w)
{
    struct tw_datagram d;
    struct tw_relay_event ev;
    for (;;) {
        while (tw_relay_poll_tx(n->relay[w], &d)) {
            if (d.sock & TW_RELAY_STREAM) {
                stream_send(&n->streams, d.sock, d.iov, d.iov_n);
                continue;
            }
            d.sock = outer_id(w, d.sock);
            sim_send(n->host, &d);
        }
        relay_handovers(n, w);
        if (!tw_relay_poll_event(n->relay[w], &ev))
            break;
        relay_event(n, w, &ev);
    }
    tw_time at = TW_NEVER;
    for (unsigned i = 0; i < n->workers; i++)
        at = tw_time_min(at, tw_relay_deadline(n->relay[i]));
    sim_set_deadline(n->host, at);
}

static void relay_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct relay_node *n = ctx;
    if (n->quiet)
        return;
    unsigned w = worker_of(n, d);
    struct tw_datagram in = *d;
    if (in.sock >= TW_RELAY_FIRST_SOCK)
        in.sock &= 0xffffff;
    tw_relay_recv(n->relay[w], now, &in);
    relay_drain(n, w);
}

static void relay_icmp(void *ctx, tw_time now, uint32_t sock, const struct tw_addr *peer,
                       uint8_t type, uint8_t code, uint32_t data)
{
    struct relay_node *n = ctx;
    unsigned w = sock >> 24;
    if (sock < TW_RELAY_FIRST_SOCK)
        return;
    tw_relay_icmp(n->relay[w], now, sock & 0xffffff, peer, type, code, data);
    relay_drain(n, w);
}

static void relay_wake(void *ctx, tw_time now)
{
    struct relay_node *n = ctx;
    for (unsigned w = 0; w < n->workers; w++) {
        tw_relay_tick(n->relay[w], now);
        relay_drain(n, w);
    }
}

static uint32_t relay_accepted(void *ctx, tw_time now, uint32_t listener,
                               const struct tw_addr *local, const struct tw_addr *remote)
{
    struct relay_node *n = ctx;
    (void)now, (void)listener, (void)local, (void)remote;
    return n->quiet || !n->relay[0] ? 0 : TW_RELAY_STREAM | ++n->stream_next;
}

static void relay_frames(void *ctx, tw_time now, struct stream *s, struct tw_bytes bytes)
{
    struct relay_node *n = ctx;
    struct tw_datagram d = { .sock = s->id, .src = s->remote, .dst = s->local, .iov = &bytes,
                             .iov_n = 1 };
    tw_relay_recv(n->relay[0], now, &d);
    relay_drain(n, 0);
}

static void relay_left(void *ctx, tw_time now, const struct stream *gone)
{
    struct relay_node *n = ctx;
    tw_relay_disconnected(n->relay[0], now, gone->id, &gone->remote, &gone->local);
    relay_drain(n, 0);
}

void relay_node_listen(struct relay_node *n, uint16_t port)
{
    struct tw_addr at = n->cfg.listeners[0];
    at.port = port;
    assert(n->workers == 1);
    bool ok = sim_tcp_listen(n->host, 1000u + port, at, NULL);
    assert(ok);
    (void)ok;
}

void relay_node_init(struct relay_node *n, struct sim *s, struct tw_addr ip, struct tw_addr ip6,
                     struct sim_link link, unsigned workers)
{
    *n = (struct relay_node){ .sim = s, .workers = workers };
    n->host = sim_host(s, ip, NULL, link);
    sim_host_attach(n->host, n, relay_receive, relay_icmp, relay_wake);
    streams_init(&n->streams, n->host, n);
    n->streams.frames = relay_frames;
    n->streams.over = relay_left;
    n->streams.accepted = relay_accepted;
    n->streams.accepts = STREAM_STUN;
    int err = tw_relay_users_new("realm", &n->users);
    assert(!err);
    err = tw_relay_users_add(n->users, "user", "pass");
    assert(!err);
    (void)err;
    n->cfg.users = n->users;
    n->cfg.listeners[0] = ip;
    n->cfg.listeners[0].port = 3478;
    n->cfg.listener_n = 1;
    n->cfg.relays[n->cfg.relay_n++].ip = ip;
    if (ip6.family) {
        sim_host_add_ip(n->host, ip6);
        n->cfg.relays[n->cfg.relay_n++].ip = ip6;
    }
    bool ok = sim_open(n->host, 0, n->cfg.listeners[0], NULL);
    assert(ok);
    (void)ok;
}

void relay_node_start(struct relay_node *n)
{
    struct tw_env env = { .rng = sim_rng(n->sim) };
    int err = tw_relay_shared_new(n->cfg.relays, n->cfg.relay_n, &env.rng, &n->shared);
    assert(!err);
    for (uint32_t i = 1; i < n->cfg.listener_n; i++) { /* the first one is open since init */
        bool ok = sim_open(n->host, i, n->cfg.listeners[i], NULL);
        assert(ok);
        (void)ok;
    }
    for (unsigned w = 0; w < n->workers; w++) {
        err = tw_relay_new(&n->cfg, n->shared, &env, w, n->workers, &n->relay[w]);
        assert(!err);
    }
    (void)err;
}

void relay_node_stop(struct relay_node *n)
{
    for (int i = 0; i < STREAMS; i++)
        stream_close(&n->streams, n->streams.all[i].id);
    for (uint32_t i = 1; i < n->cfg.listener_n; i++)
        sim_close(n->host, i);
    for (unsigned w = 0; w < n->workers; w++) {
        tw_relay_free(n->relay[w]);
        n->relay[w] = NULL;
        for (uint32_t id = TW_RELAY_FIRST_SOCK; id < TW_RELAY_FIRST_SOCK + 256; id++)
            sim_close(n->host, outer_id(w, id));
    }
    tw_relay_shared_free(n->shared);
    n->shared = NULL;
    sim_set_deadline(n->host, TW_NEVER);
}

void relay_node_fini(struct relay_node *n)
{
    relay_node_stop(n);
    streams_fini(&n->streams);
    tw_relay_users_free(n->users);
}

struct tw_relay_stats relay_node_stats(const struct relay_node *n)
{
    struct tw_relay_stats sum = { 0 };
    for (unsigned w = 0; w < n->workers; w++) {
        const struct tw_relay_stats *st = tw_relay_stats(n->relay[w]);
#define ADD(name, text) sum.name += st->name;
        TW_RELAY_COUNTERS(ADD)
#undef ADD
    }
    return sum;
}

struct tw_addr relay_node_addr(const struct relay_node *n)
{
    return n->cfg.listeners[0];
}

/* --- TURN client -------------------------------------------------------------------------- */

static void on_data(struct turn_node *n, const struct tw_turn_event *ev)
{
    n->data_n++;
    n->data_bytes += ev->data.n;
    n->data_from = ev->peer;
    n->data_tos = ev->tos;
    n->data_len = ev->data.n < sizeof(n->data) ? ev->data.n : sizeof(n->data);
    memcpy(n->data, ev->data.p, n->data_len);
    if (n->echo) {
        struct tw_datagram d;
        if (!tw_turn_send(n->turn, sim_now(n->sim), &ev->peer, ev->data, 0, 0))
            while (tw_turn_poll_tx(n->turn, &d))
                sim_send(n->host, &d);
    }
}

void turn_node_pump(struct turn_node *n)
{
    struct tw_datagram d;
    struct tw_turn_event ev;
    while (tw_turn_poll_tx(n->turn, &d))
        sim_send(n->host, &d);
    while (tw_turn_poll_event(n->turn, &ev)) {
        if (ev.type == TW_TURN_DATA) {
            on_data(n, &ev);
            continue;
        }
        if (n->event_n < NODE_EVENTS)
            n->events[n->event_n++] = ev;
        n->last = ev;
        if (ev.type == TW_TURN_ALLOCATED) {
            n->allocated = ev;
            n->is_allocated = true;
        }
        n->is_over = ev.type == TW_TURN_FAILED || ev.type == TW_TURN_LOST ||
                     ev.type == TW_TURN_CLOSED;
        n->stop = n->is_over || ev.type == TW_TURN_ALLOCATED;
    }
    while (tw_turn_poll_tx(n->turn, &d))
        sim_send(n->host, &d);
    sim_set_deadline(n->host, tw_turn_deadline(n->turn));
}

static void turn_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct turn_node *n = ctx;
    if (!tw_turn_recv(n->turn, now, d))
        turn_node_pump(n);
}

static void turn_wake(void *ctx, tw_time now)
{
    struct turn_node *n = ctx;
    tw_turn_tick(n->turn, now);
    turn_node_pump(n);
}

void turn_node_init(struct turn_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                    struct sim_link link, const struct relay_node *relay,
                    struct tw_turn_config cfg)
{
    struct tw_env env = { .rng = sim_rng(s) };
    *n = (struct turn_node){ .sim = s };
    n->host = sim_host(s, ip, nat, link);
    sim_host_attach(n->host, n, turn_receive, NULL, turn_wake);
    if (!cfg.server.family)
        cfg.server = relay_node_addr(relay);
    if (!cfg.username) {
        cfg.username = "user";
        cfg.password = "pass";
    }
    cfg.sock = 1;
    int err = tw_turn_new(&cfg, &env, &n->turn);
    assert(!err);
    (void)err;
    bool ok = sim_open(n->host, 1, ip, &n->local);
    assert(ok);
    (void)ok;
}

void turn_node_fini(struct turn_node *n)
{
    tw_turn_free(n->turn);
}

const struct tw_turn_event *turn_node_event(const struct turn_node *n, enum tw_turn_event_type type)
{
    for (unsigned i = n->event_n; i > 0; i--)
        if (n->events[i - 1].type == type)
            return &n->events[i - 1];
    return NULL;
}

void turn_node_allocate(struct turn_node *n)
{
    int err = tw_turn_allocate(n->turn, sim_now(n->sim));
    assert(!err);
    (void)err;
    turn_node_pump(n);
    sim_run(n->sim, sim_now(n->sim) + 60 * TW_SEC, &n->stop);
    n->stop = false;
    assert(n->is_allocated);
}

/* --- plain peer --------------------------------------------------------------------------- */

static void peer_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct peer_node *n = ctx;
    (void)now;
    n->n++;
    n->bytes += d->iov[0].n;
    n->from = d->src;
    n->tos = d->tos;
    n->ttl = d->ttl;
    n->len = d->iov[0].n < sizeof(n->data) ? d->iov[0].n : sizeof(n->data);
    memcpy(n->data, d->iov[0].p, n->len);
    if (n->echo)
        peer_node_send(n, &d->src, d->iov[0].p, d->iov[0].n, d->tos);
}

void peer_node_init(struct peer_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                    struct sim_link link)
{
    *n = (struct peer_node){ .sim = s };
    n->host = sim_host(s, ip, nat, link);
    sim_host_attach(n->host, n, peer_receive, NULL, NULL);
    bool ok = sim_open(n->host, 1, ip, &n->local);
    assert(ok);
    (void)ok;
}

void peer_node_send(struct peer_node *n, const struct tw_addr *to, const void *p, size_t len,
                    uint8_t tos)
{
    struct tw_bytes b = tw_bytes(p, len);
    struct tw_datagram d = { .sock = 1, .dst = *to, .tos = tos, .iov = &b, .iov_n = 1 };
    sim_send(n->host, &d);
}
