#include "ice_node.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* --- words between the two -------------------------------------------------------------------- */

static struct ice_word *say(struct ice_node *to, tw_time at)
{
    assert(to->inbox_n < ICE_INBOX);
    struct ice_word *w = &to->inbox[to->inbox_n++];
    *w = (struct ice_word){ .at = at };
    return w;
}

/* By the host's clock. */
static tw_time clock_of(const struct ice_node *n)
{
    return sim_now(n->sim) + n->clock;
}

static void arm(struct ice_node *n)
{
    tw_time at = n->ice ? tw_ice_deadline(n->ice) : TW_NEVER;
    if (at != TW_NEVER)
        at -= n->clock;
    for (unsigned i = 0; i < n->inbox_n; i++)
        at = tw_time_min(at, n->inbox[i].at);
    sim_set_deadline(n->host, at);
}

static void say_candidate(struct ice_node *n, const struct tw_ice_candidate *c)
{
    struct ice_word *w = say(n->peer, sim_now(n->sim) + n->signal_delay);
    w->what = ICE_WORD_CANDIDATE;
    w->candidate = *c;
    arm(n->peer);
}

static bool value(const char *text, const char *name, char *out, size_t cap)
{
    const char *at = strstr(text, name);
    if (!at)
        return false;
    at += strlen(name);
    size_t len = strcspn(at, "\r\n");
    assert(len < cap);
    memcpy(out, at, len);
    out[len] = 0;
    return true;
}

/* Through the text, as it would go in SDP. */
void ice_node_tell(struct ice_node *n)
{
    static char text[65536];
    size_t len;
    int err = tw_ice_write_sdp(n->ice, 0, text, sizeof(text) - 1, &len);
    assert(!err);
    (void)err;
    struct ice_word *w = say(n->peer, sim_now(n->sim) + n->signal_delay);
    w->what = ICE_WORD_REMOTE;
    w->lite = strstr(text, "a=ice-lite") != NULL;
    w->own = strstr(text, "thalweg") != NULL;
    bool ok = value(text, "a=ice-ufrag:", w->ufrag, sizeof(w->ufrag)) &&
              value(text, "a=ice-pwd:", w->pwd, sizeof(w->pwd));
    assert(ok);
    (void)ok;
    for (const char *l = strstr(text, "a=candidate:"); l; l = strstr(l + 1, "a=candidate:")) {
        struct tw_ice_candidate c;
        err = tw_ice_read_candidate(l, &c);
        assert(!err);
        say_candidate(n, &c);
    }
    if (n->gathered)
        say(n->peer, sim_now(n->sim) + n->signal_delay)->what = ICE_WORD_END;
    n->speaks = true;
    arm(n->peer);
}

static void hear(struct ice_node *n, const struct ice_word *w, tw_time now)
{
    int err = 0;
    struct tw_ice_remote r = { .ufrag = w->ufrag, .pwd = w->pwd, .lite = w->lite, .ice2 = true,
                               .trickle = true, .own = w->own };
    switch (w->what) {
    case ICE_WORD_REMOTE:
        err = tw_ice_set_remote(n->ice, clock_of(n), 0, &r);
        break;
    case ICE_WORD_CANDIDATE:
        err = tw_ice_add_remote(n->ice, clock_of(n), &w->candidate);
        if (!n->heard_at)
            n->heard_at = now;
        break;
    case ICE_WORD_END:
        tw_ice_remote_end(n->ice, clock_of(n), 0);
        break;
    }
    assert(!err || err == TW_EFULL);
    (void)err;
}

static void read_inbox(struct ice_node *n, tw_time now)
{
    unsigned kept = 0, count = n->inbox_n;
    struct ice_word due[ICE_INBOX];
    unsigned due_n = 0;
    for (unsigned i = 0; i < count; i++)
        if (n->inbox[i].at <= now)
            due[due_n++] = n->inbox[i];
        else
            n->inbox[kept++] = n->inbox[i];
    n->inbox_n = kept;
    for (unsigned i = 0; i < due_n; i++)
        hear(n, &due[i], now);
    if (due_n)
        tw_ice_tick(n->ice, clock_of(n));
}

/* --- the agent's events ----------------------------------------------------------------------- */

static void connect_out(struct ice_node *n, const struct tw_ice_event *ev)
{
    static const struct tw_addr straight = { .family = TW_FAMILY_NONE };
    bool turn = ev->socket == TW_ICE_SOCK_TURN;
    bool tls = turn && n->transports[ev->server] == TW_TRANSPORT_TLS;
    stream_connect(&n->streams, ev->sock,
                   ev->socket == TW_ICE_SOCK_CONNECT ? STREAM_RFC4571 : STREAM_STUN, tls, ev->local,
                   ev->remote, turn ? n->proxy : straight);
}

static void on_open(struct ice_node *n, const struct tw_ice_event *ev)
{
    struct tw_addr local;
    bool ok;
    if (ev->socket == TW_ICE_SOCK_CONNECT || ev->socket == TW_ICE_SOCK_STUN ||
        (ev->socket == TW_ICE_SOCK_TURN && n->transports[ev->server] != TW_TRANSPORT_UDP)) {
        connect_out(n, ev);
        return;
    }
    ok = ev->socket == TW_ICE_SOCK_LISTEN ? sim_tcp_listen(n->host, ev->sock, ev->local, &local)
                                          : sim_open(n->host, ev->sock, ev->local, &local);
    n->opened += ok;
    tw_ice_opened(n->ice, clock_of(n), ev->sock, ok ? 0 : TW_ESYS, ok ? &local : NULL);
}

static void on_data(struct ice_node *n, const struct tw_ice_event *ev)
{
    n->data_n++;
    n->data_at = sim_now(n->sim);
    n->data_len = ev->data.n < sizeof(n->data) ? ev->data.n : sizeof(n->data);
    memcpy(n->data, ev->data.p, n->data_len);
}

bool ice_node_is_direct(const struct ice_node *n)
{
    return n->paths && n->path.local_type != TW_ICE_RELAY && n->path.remote_type != TW_ICE_RELAY;
}

static void on_path(struct ice_node *n, const struct tw_ice_event *ev)
{
    n->path = ev->path;
    n->paths++;
    if (ice_node_is_direct(n) && !n->direct_at)
        n->direct_at = sim_now(n->sim);
}

static void on_event(struct ice_node *n, const struct tw_ice_event *ev)
{
    switch (ev->type) {
    case TW_ICE_OPEN:
        on_open(n, ev);
        break;
    case TW_ICE_MAP:
        n->maps_wanted++;
        break;
    case TW_ICE_CLOSE:
        if (stream_find(&n->streams, ev->sock)) {
            stream_close(&n->streams, ev->sock);
            break;
        }
        n->opened--;
        sim_close(n->host, ev->sock);
        break;
    case TW_ICE_CANDIDATE:
        if (n->speaks)
            say_candidate(n, &ev->candidate);
        break;
    case TW_ICE_GATHERED:
        n->gathered = n->stop = true;
        n->gathered_at = sim_now(n->sim);
        if (n->speaks)
            say(n->peer, sim_now(n->sim) + n->signal_delay)->what = ICE_WORD_END;
        break;
    case TW_ICE_CONNECTED:
        n->connected = n->stop = true;
        n->connected_at = sim_now(n->sim);
        break;
    case TW_ICE_PATH:
        on_path(n, ev);
        n->stop = true;
        break;
    case TW_ICE_DATA:
        on_data(n, ev);
        break;
    case TW_ICE_DISCONNECTED:
        n->connected = false;
        n->disconnects++;
        n->stop = true;
        break;
    case TW_ICE_SILENCE:
        n->silences++;
        break;
    case TW_ICE_FAILED:
        n->failed = n->stop = true;
        break;
    case TW_ICE_CLOSED:
        n->closed = n->stop = true;
        break;
    }
}

static void send_all(struct ice_node *n)
{
    struct tw_datagram d;
    while (tw_ice_poll_tx(n->ice, &d))
        if (stream_find(&n->streams, d.sock))
            stream_send(&n->streams, d.sock, d.iov, d.iov_n);
        else
            sim_send(n->host, &d);
}

void ice_node_pump(struct ice_node *n)
{
    struct tw_ice_event ev;
    send_all(n);
    while (tw_ice_poll_event(n->ice, &ev)) {
        bool echo = ev.type == TW_ICE_DATA && n->echo;
        on_event(n, &ev);
        if (echo)
            (void)!tw_ice_send(n->ice, clock_of(n), ev.stream, ev.component, ev.data, 0);
        send_all(n);
    }
    arm(n);
}

static void on_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct ice_node *n = ctx;
    (void)now;
    (void)!tw_ice_recv(n->ice, clock_of(n), d);
    ice_node_pump(n);
}

static void on_wake(void *ctx, tw_time now)
{
    struct ice_node *n = ctx;
    read_inbox(n, now);
    tw_ice_tick(n->ice, clock_of(n));
    ice_node_pump(n);
}

/* --- connections ------------------------------------------------------------------------------ */

static void on_stream_open(void *ctx, tw_time now, struct stream *s)
{
    struct ice_node *n = ctx;
    (void)now;
    struct tw_addr local = s->local;
    tw_ice_opened(n->ice, clock_of(n), s->id, 0, &local);
    ice_node_pump(n);
}

static void on_frames(void *ctx, tw_time now, struct stream *s, struct tw_bytes bytes)
{
    struct ice_node *n = ctx;
    (void)now;
    struct tw_datagram d = { .sock = s->id, .src = s->remote, .dst = s->local, .iov = &bytes,
                             .iov_n = 1 };
    (void)!tw_ice_recv(n->ice, clock_of(n), &d);
    ice_node_pump(n);
}

static void on_stream_over(void *ctx, tw_time now, const struct stream *gone)
{
    struct ice_node *n = ctx;
    (void)now;
    tw_ice_opened(n->ice, clock_of(n), gone->id, TW_ESYS, NULL); /* counts only while it is opening */
    tw_ice_disconnected(n->ice, clock_of(n), gone->id);
    ice_node_pump(n);
}

static uint32_t on_accepted(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                            const struct tw_addr *remote)
{
    struct ice_node *n = ctx;
    uint32_t id;
    (void)now, (void)local;
    tw_ice_accepted(n->ice, clock_of(n), listener, remote, TW_ICE_VIA_TCP, &id);
    return id;
}

/* --- life ------------------------------------------------------------------------------------- */

void ice_node_init(struct ice_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                   struct sim_link link, const struct tw_ice_config *cfg)
{
    struct tw_env env = { .rng = sim_rng(s) };
    memset(n, 0, sizeof(*n));
    n->sim = s;
    n->nat = nat;
    n->cfg = *cfg;
    n->host = sim_host(s, ip, nat, link);
    sim_host_attach(n->host, n, on_receive, NULL, on_wake);
    streams_init(&n->streams, n->host, n);
    n->streams.opened = on_stream_open;
    n->streams.frames = on_frames;
    n->streams.over = on_stream_over;
    n->streams.accepted = on_accepted;
    n->streams.accepts = STREAM_RFC4571;
    for (size_t i = 0; i < cfg->server_n; i++)
        n->transports[i] = cfg->servers[i].transport;
    n->interfaces[n->interface_n++] = (struct tw_ice_interface){ .name = "eth0", .ip = ip };
    int err = tw_ice_new(&n->cfg, &env, &n->ice);
    assert(!err);
    (void)err;
}

void ice_node_fini(struct ice_node *n)
{
    tw_ice_free(n->ice);
    n->ice = NULL;
    streams_fini(&n->streams);
}

void ice_node_gather(struct ice_node *n)
{
    int err = tw_ice_interfaces(n->ice, clock_of(n), n->interfaces, n->interface_n);
    assert(!err);
    (void)err;
    ice_node_pump(n);
}

void ice_node_meet(struct ice_node *a, struct ice_node *b, tw_time there, tw_time back)
{
    a->peer = b;
    b->peer = a;
    a->signal_delay = there;
    b->signal_delay = back;
    ice_node_tell(a);
    ice_node_tell(b);
}

int ice_node_send(struct ice_node *n, const void *p, size_t len)
{
    int err = tw_ice_send(n->ice, clock_of(n), 0, 1, tw_bytes(p, len), 0);
    ice_node_pump(n);
    return err;
}
