#include "endpoint_node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* --- the rendezvous -------------------------------------------------------------------------------- */

static void desk_pump(struct desk_node *n)
{
    uint32_t conn;
    struct tw_bytes b;
    for (bool close; tw_desk_poll_tx(n->desk, &conn, &b, &close);) {
        if (b.n)
            stream_send(&n->streams, conn, &b, 1);
        if (close) {
            stream_close(&n->streams, conn);
            tw_desk_disconnected(n->desk, sim_now(n->sim), conn);
        }
    }
    sim_set_deadline(n->host, tw_desk_deadline(n->desk));
}

static uint32_t desk_accepted(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                              const struct tw_addr *remote)
{
    struct desk_node *n = ctx;
    (void)listener, (void)local;
    return tw_desk_connected(n->desk, now, ++n->next, remote) ? 0 : n->next;
}

static void desk_bytes(void *ctx, tw_time now, struct stream *s, struct tw_bytes bytes)
{
    struct desk_node *n = ctx;
    uint8_t *copy = malloc(bytes.n);
    memcpy(copy, bytes.p, bytes.n);
    if (n->captured_n + bytes.n <= sizeof(n->captured)) {
        memcpy(n->captured + n->captured_n, copy, bytes.n);
        n->captured_n += bytes.n;
    }
    if (!n->tamper || n->tamper(n, copy, bytes.n))
        tw_desk_recv(n->desk, now, s->id, tw_bytes(copy, bytes.n));
    free(copy);
    desk_pump(n);
}

static void desk_left(void *ctx, tw_time now, const struct stream *gone)
{
    struct desk_node *n = ctx;
    tw_desk_disconnected(n->desk, now, gone->id);
    desk_pump(n);
}

static void desk_wake(void *ctx, tw_time now)
{
    struct desk_node *n = ctx;
    tw_desk_tick(n->desk, now);
    desk_pump(n);
}

static void desk_start(struct desk_node *n)
{
    struct tw_env env = { .rng = sim_rng(n->sim) };
    int err = tw_desk_new(&n->cfg, &env, &n->desk);
    assert(!err);
    (void)err;
    tw_desk_clock(n->desk, sim_now(n->sim), NODE_NOON + (uint64_t)(sim_now(n->sim) / TW_MSEC));
}

void desk_node_init(struct desk_node *n, struct sim *s, struct tw_addr ip, struct sim_link link,
                    struct relay_node *relay, bool web)
{
    static struct tw_rdv_server servers[4];
    static const char secret[] = "s3cret";
    struct tw_desk_config cfg = { .open = true, .lifetime = 86400, .max_clients = 100000, .patch_rate = 65536 };
    memset(n, 0, sizeof(*n));
    n->sim = s;
    n->host = sim_host(s, ip, NULL, link);
    sim_host_attach(n->host, n, NULL, NULL, desk_wake);
    streams_init(&n->streams, n->host, n);
    n->streams.accepted = desk_accepted;
    n->streams.frames = desk_bytes;
    n->streams.over = desk_left;
    n->streams.accepts = STREAM_RAW;
    if (relay) {
        servers[0] = (struct tw_rdv_server){ .addr = relay_node_addr(relay) };
        servers[1] = (struct tw_rdv_server){ .addr = relay_node_addr(relay), .turn = true };
        servers[2] = servers[1];
        servers[2].transport = TW_TRANSPORT_TCP;
        servers[3] = servers[1];
        servers[3].transport = TW_TRANSPORT_TLS;
        servers[3].addr.port = DESK_TLS_PORT;
        cfg.servers = servers;
        cfg.server_n = web ? 4 : 3;
        if (web)
            relay_node_listen(relay, DESK_TLS_PORT);
        cfg.secret = tw_bytes_str(secret);
        int err = tw_relay_users_add_guest_secret(relay->users, secret, 0);
        assert(!err);
        (void)err;
        relay->cfg.unix_offset = (tw_time)NODE_NOON * TW_MSEC - sim_now(s);
    }
    n->cfg = cfg;
    desk_start(n);
    for (uint32_t i = 0; i < 2; i++) {
        ip.port = i ? DESK_TLS_PORT : DESK_PORT;
        bool ok = sim_tcp_listen(n->host, i, ip, NULL);
        assert(ok);
        (void)ok;
    }
}

void desk_node_restart(struct desk_node *n)
{
    for (int i = 0; i < STREAMS; i++) {
        uint32_t id = n->streams.all[i].id;
        if (!id)
            continue;
        stream_close(&n->streams, id);
    }
    tw_desk_free(n->desk);
    n->cfg.fresh_until = sim_now(n->sim) + 30 * TW_SEC;
    desk_start(n);
}

void desk_node_fini(struct desk_node *n)
{
    streams_fini(&n->streams);
    tw_desk_free(n->desk);
}

/* --- sockets ---------------------------------------------------------------------------------------- */

static void open_ice(struct endpoint_node *n, const struct tw_ice_event *ev)
{
    struct tw_addr local, straight = { .family = TW_FAMILY_NONE };
    if (ev->type == TW_ICE_MAP)
        return;
    if (ev->type == TW_ICE_CLOSE) {
        if (stream_find(&n->streams, ev->sock))
            stream_close(&n->streams, ev->sock);
        else
            sim_close(n->host, ev->sock);
        return;
    }
    if (ev->socket == TW_ICE_SOCK_UDP || ev->socket == TW_ICE_SOCK_LISTEN) {
        bool ok = ev->socket == TW_ICE_SOCK_UDP ? sim_open(n->host, ev->sock, ev->local, &local)
                                                : sim_tcp_listen(n->host, ev->sock, ev->local, &local);
        tw_endpoint_opened(n->ep, sim_now(n->sim), ev->sock, ok ? 0 : TW_ESYS, ok ? &local : NULL);
        return;
    }
    bool tls = ev->socket == TW_ICE_SOCK_TURN
                   ? tw_endpoint_turn(n->ep, ev->sock, ev->server) == TW_TRANSPORT_TLS
                   : ev->via == TW_ICE_VIA_HTTPS; /* what is inside is not simulated */
    bool turn = ev->socket == TW_ICE_SOCK_TURN;
    stream_connect(&n->streams, ev->sock, ev->socket == TW_ICE_SOCK_CONNECT ? STREAM_RFC4571 : STREAM_STUN, tls, ev->local,
                   ev->remote, turn || ev->via ? n->proxy : straight);
}

static void open_link(struct endpoint_node *n, const struct tw_endpoint_event *ev)
{
    struct tw_addr to = strcmp(ev->server.host, "other.example") ? n->desk : n->other;
    struct tw_addr from = { .family = n->desk.family };
    stream_connect(&n->streams, ev->sock, STREAM_RAW, n->tls, from, to, n->proxy);
}

static bool is_link(uint32_t sock)
{
    return sock >> TW_ENDPOINT_SOCK_BITS == TW_ENDPOINT_CONNS_MAX + 1;
}

/* --- what the user sees ------------------------------------------------------------------------------ */

struct node_conn *endpoint_node_conn(struct endpoint_node *n, uint32_t id)
{
    for (unsigned i = 0; i < n->conn_n; i++)
        if (n->conns[i].id == id)
            return &n->conns[i];
    assert(n->conn_n < NODE_CONNS);
    struct node_conn *c = &n->conns[n->conn_n++];
    *c = (struct node_conn){ .id = id, .stream = -1, .bytes = malloc(NODE_INBOX) };
    return c;
}

static void take_bytes(struct endpoint_node *n, struct node_conn *c, int64_t stream)
{
    struct tw_bytes b;
    bool end = false;
    size_t wrote;
    if (c->stream < 0)
        c->stream = stream;
    while (!tw_endpoint_peek(n->ep, c->id, stream, &b, &end)) {
        if (b.n == 0)
            break;
        assert(c->got + b.n <= NODE_INBOX);
        if (!c->got)
            c->byte_at = sim_now(n->sim);
        memcpy(c->bytes + c->got, b.p, b.n);
        c->got += b.n;
        if (n->echo) {
            int err = tw_endpoint_write(n->ep, sim_now(n->sim), c->id, stream, b, end, &wrote);
            assert(!err && wrote == b.n);
            (void)err;
        }
        tw_endpoint_take(n->ep, sim_now(n->sim), c->id, stream, b.n);
    }
    c->end = c->end || end;
}

static void on_path(struct node_conn *c, tw_time now, const struct tw_endpoint_path *p)
{
    c->path = *p;
    c->paths++;
    if (!c->direct_at && (p->rung == TW_RUNG_UDP || p->rung == TW_RUNG_STUN || p->rung == TW_RUNG_TCP ||
                          p->rung == TW_RUNG_HTTP || p->rung == TW_RUNG_HTTPS))
        c->direct_at = now;
}

static void on_event(struct endpoint_node *n, const struct tw_endpoint_event *ev)
{
    tw_time now = sim_now(n->sim);
    struct node_conn *c = ev->conn ? endpoint_node_conn(n, ev->conn) : NULL;
    switch (ev->type) {
    case TW_EP_LINK:
        open_link(n, ev);
        break;
    case TW_EP_LINK_CLOSE:
        stream_close(&n->streams, ev->sock);
        break;
    case TW_EP_ICE:
        open_ice(n, &ev->ice);
        break;
    case TW_EP_ICE_END:
        for (int i = 0; i < STREAMS; i++)
            if (n->streams.all[i].id && n->streams.all[i].id >> TW_ENDPOINT_SOCK_BITS == ev->sock >> TW_ENDPOINT_SOCK_BITS)
                stream_close(&n->streams, n->streams.all[i].id);
        sim_close_range(n->host, ev->sock, ev->sock | ((1U << TW_ENDPOINT_SOCK_BITS) - 1));
        break;
    case TW_EP_SEEK:
    case TW_EP_REACHED:
        break;
    case TW_EP_ONLINE:
        n->onlines++;
        n->stop = true;
        break;
    case TW_EP_OFFLINE:
        n->offlines++;
        snprintf(n->offline_why, sizeof(n->offline_why), "%s", ev->why);
        break;
    case TW_EP_KNOCK:
        n->knocks++;
        break;
    case TW_EP_INVITED:
        n->invited++;
        break;
    case TW_EP_INCOMING:
        c->incoming = true;
        break;
    case TW_EP_EARLY:
        c->early_at = now;
        c->early_n = ev->data.n;
        memcpy(c->early, ev->data.p, ev->data.n);
        break;
    case TW_EP_TICKET:
        snprintf(n->ticket, sizeof(n->ticket), "%.*s", (int)ev->data.n, (const char *)ev->data.p);
        break;
    case TW_EP_READY:
        c->ready = true;
        c->ready_at = now;
        n->stop = true;
        break;
    case TW_EP_CONNECTED:
        c->connected = true;
        c->connected_at = now;
        n->stop = true;
        break;
    case TW_EP_STREAM:
        break;
    case TW_EP_READABLE:
        take_bytes(n, c, ev->stream);
        break;
    case TW_EP_WRITABLE:
    case TW_EP_ENDED:
        break;
    case TW_EP_DATAGRAM:
        c->datagrams++;
        break;
    case TW_EP_PATH:
        on_path(c, now, &ev->path);
        break;
    case TW_EP_CLOSED:
        c->closed = true;
        c->code = ev->code;
        snprintf(c->why, sizeof(c->why), "%s", ev->why ? ev->why : "");
        n->stop = true;
        break;
    case TW_EP_CLOSED_ALL:
        n->all_closed = true;
        break;
    }
}

static void send_all(struct endpoint_node *n)
{
    struct tw_datagram d;
    while (tw_endpoint_poll_tx(n->ep, &d))
        if (is_link(d.sock) || stream_find(&n->streams, d.sock))
            stream_send(&n->streams, d.sock, d.iov, d.iov_n);
        else
            sim_send(n->host, &d);
}

void endpoint_node_pump(struct endpoint_node *n)
{
    struct tw_endpoint_event ev;
    send_all(n);
    while (tw_endpoint_poll_event(n->ep, &ev)) {
        on_event(n, &ev);
        send_all(n);
    }
    sim_set_deadline(n->host, tw_endpoint_deadline(n->ep));
}

/* --- what comes ------------------------------------------------------------------------------------- */

static void on_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct endpoint_node *n = ctx;
    tw_endpoint_recv(n->ep, now, d);
    endpoint_node_pump(n);
}

static void on_wake(void *ctx, tw_time now)
{
    struct endpoint_node *n = ctx;
    tw_endpoint_tick(n->ep, now);
    endpoint_node_pump(n);
}

static void on_stream_open(void *ctx, tw_time now, struct stream *s)
{
    struct endpoint_node *n = ctx;
    struct tw_addr local = s->local, remote = s->remote;
    if (is_link(s->id))
        tw_endpoint_link_up(n->ep, now, s->id, &local, n->proxy.family ? NULL : &remote, NULL);
    else
        tw_endpoint_opened(n->ep, now, s->id, 0, &local);
    endpoint_node_pump(n);
}

static void on_bytes(void *ctx, tw_time now, struct stream *s, struct tw_bytes bytes)
{
    struct tw_datagram d = { .sock = s->id, .src = s->remote, .dst = s->local, .iov = &bytes, .iov_n = 1 };
    on_receive(ctx, now, &d);
}

static void on_stream_over(void *ctx, tw_time now, const struct stream *gone)
{
    struct endpoint_node *n = ctx;
    if (is_link(gone->id)) {
        tw_endpoint_link_up(n->ep, now, gone->id, NULL, NULL, "the connection was closed");
    } else {
        tw_endpoint_opened(n->ep, now, gone->id, TW_ESYS, NULL);
        tw_endpoint_disconnected(n->ep, now, gone->id);
    }
    endpoint_node_pump(n);
}

static uint32_t on_accepted(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                            const struct tw_addr *remote)
{
    struct endpoint_node *n = ctx;
    uint32_t id;
    (void)local;
    tw_endpoint_accepted(n->ep, now, listener, remote, TW_ICE_VIA_TCP, &id);
    return id;
}

static int name_servers(const struct endpoint_node *n, struct tw_address *ret)
{
    int err = 0;
    ret->server_n = 0;
    if (n->other.family)
        err = tw_rdv_addr_parse("ws://other.example", &ret->servers[ret->server_n++], NULL);
    return err ? err : tw_rdv_addr_parse("ws://desk.example", &ret->servers[ret->server_n++], NULL);
}

/* --- life ------------------------------------------------------------------------------------------- */

void endpoint_node_init(struct endpoint_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                        struct sim_link link, struct tw_addr desk, const struct endpoint_node_config *how)
{
    struct tw_env env = { .rng = sim_rng(s) };
    uint8_t seed[TW_SEED_SIZE] = { how->key };
    struct tw_endpoint_config cfg = { .seed = seed, .listen = how->listen, .allow_any = how->allow_any, .unlisted = how->unlisted,
                                      .rungs = how->rungs,
                                      .ice = { .tcp = how->tcp, .policy = how->policy, .servers = &how->server,
                                               .server_n = how->server.addr.family != TW_FAMILY_NONE } };
    memset(n, 0, sizeof(*n));
    n->sim = s;
    n->tls = how->tls;
    n->host = sim_host(s, ip, nat, link);
    n->desk = desk;
    n->desk.port = how->tls ? DESK_TLS_PORT : DESK_PORT;
    n->proxy = how->proxy;
    sim_host_attach(n->host, n, on_receive, NULL, on_wake);
    streams_init(&n->streams, n->host, n);
    n->streams.opened = on_stream_open;
    n->streams.frames = on_bytes;
    n->streams.over = on_stream_over;
    n->streams.accepted = on_accepted;
    n->streams.accepts = STREAM_RFC4571;
    n->interface = (struct tw_ice_interface){ .name = "eth0", .ip = ip };
    n->other = how->other;
    n->other.port = n->desk.port;
    struct tw_address at = { 0 };
    int err = name_servers(n, &at);
    memcpy(cfg.servers, at.servers, sizeof(cfg.servers));
    cfg.server_n = how->no_server ? 0 : at.server_n;
    err = err ? err : tw_ident_init(&n->id, seed);
    err = err ? err : tw_endpoint_new(&cfg, &env, sim_now(s), &n->ep);
    assert(!err);
    tw_endpoint_clock(n->ep, sim_now(s), NODE_NOON + (uint64_t)(sim_now(s) / TW_MSEC + how->clock_ms));
    err = tw_endpoint_interfaces(n->ep, sim_now(s), &n->interface, 1);
    assert(!err);
    (void)err;
    endpoint_node_pump(n);
}

void endpoint_node_fini(struct endpoint_node *n)
{
    tw_endpoint_free(n->ep);
    streams_fini(&n->streams);
    for (unsigned i = 0; i < n->conn_n; i++)
        free(n->conns[i].bytes);
}

static struct node_conn *dial(struct endpoint_node *n, struct tw_address *a, const char *early)
{
    uint32_t id;
    int err = name_servers(n, a);
    err = err ? err : tw_endpoint_dial(n->ep, sim_now(n->sim), a, tw_bytes_str(early ? early : ""), &id);
    assert(!err);
    (void)err;
    endpoint_node_pump(n);
    return endpoint_node_conn(n, id);
}

struct node_conn *endpoint_node_dial(struct endpoint_node *n, const struct endpoint_node *to, const char *early)
{
    struct tw_address a = { .key = to->id.key };
    return dial(n, &a, early);
}

struct node_conn *endpoint_node_come(struct endpoint_node *n, const struct endpoint_node *to,
                                     const uint8_t invite[TW_INVITE_SIZE])
{
    struct tw_address a = { .key = to->id.key, .invited = true };
    memcpy(a.invite, invite, TW_INVITE_SIZE);
    return dial(n, &a, NULL);
}

void endpoint_node_write(struct endpoint_node *n, struct node_conn *c, struct tw_bytes data, bool end)
{
    size_t wrote;
    int err = c->stream < 0 ? tw_endpoint_open(n->ep, sim_now(n->sim), c->id, &c->stream) : 0;
    err = err ? err : tw_endpoint_write(n->ep, sim_now(n->sim), c->id, c->stream, data, end, &wrote);
    assert(!err && wrote == data.n);
    (void)err;
    endpoint_node_pump(n);
}
