/* What goes between two peers: QUIC over whatever way there is. */
#include <stdlib.h>

#include "endpoint/internal.h"

enum { PATHS_MAX = 64 };

void ep_mark(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    if (!c->in_tx) {
        c->in_tx = true;
        c->next_tx = NULL;
        *e->tx_tail = c;
        e->tx_tail = &c->next_tx;
    }
    ep_mark_event(c);
}

void ep_mark_event(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    if (!c->in_ev) {
        c->in_ev = true;
        c->next_ev = NULL;
        *e->ev_tail = c;
        e->ev_tail = &c->next_ev;
    }
}

static void write_qlog(void *ctx, const void *data, size_t n)
{
    const struct conn *c = ctx;
    c->e->cfg.trace(c->e->cfg.trace_ctx, c->trace, TW_TRACE_QLOG, data, n);
}

int ep_secure_start(struct conn *c, bool server)
{
    struct tw_endpoint *e = c->e;
    struct tw_secure_config cfg = { .server = server, .self = &e->self, .peer = c->peer.key,
                                    .no_aes = e->cfg.no_aes, .tx_buf = e->tx_buf, .keylog = e->cfg.keylog,
                                    .keylog_ctx = e->cfg.keylog_ctx, .qlog = e->cfg.trace ? write_qlog : NULL,
                                    .qlog_ctx = c };
    memcpy(cfg.secret, c->secret, sizeof(cfg.secret));
    int err = tw_secure_new(&cfg, &e->env, e->now, &c->secure);
    if (!err)
        ep_conn_choose(c);
    return err;
}

/* --- the way ---------------------------------------------------------------------------------------- */

static enum tw_rung rung_of(const struct tw_ice_path *p)
{
    if (p->local_type == TW_ICE_RELAY || p->remote_type == TW_ICE_RELAY)
        return TW_RUNG_RELAY;
    if (p->transport != TW_ICE_UDP)
        return p->via == TW_ICE_VIA_HTTPS ? TW_RUNG_HTTPS : p->via == TW_ICE_VIA_HTTP ? TW_RUNG_HTTP : TW_RUNG_TCP;
    return p->local_type == TW_ICE_HOST && p->remote_type == TW_ICE_HOST ? TW_RUNG_UDP : TW_RUNG_STUN;
}

static struct tw_endpoint_path path_of(const struct tw_ice_path *p)
{
    return (struct tw_endpoint_path){ rung_of(p), p->local, p->remote, p->rtt, p->waits };
}

struct tw_endpoint_path ep_conn_path(const struct conn *c)
{
    struct tw_ice_path p;
    return c->ice_up && tw_ice_path(c->ice, 0, 1, &p) ? path_of(&p) : c->path;
}

size_t tw_endpoint_paths(const struct tw_endpoint *e, uint32_t conn, struct tw_endpoint_path *out, size_t cap)
{
    struct tw_ice_path all[PATHS_MAX];
    const struct conn *c = ep_conn_find(e, conn);
    size_t n = c && c->ice ? tw_ice_paths(c->ice, 0, 1, all, cap < PATHS_MAX ? cap : PATHS_MAX) : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = path_of(&all[i]);
    return n;
}

/* Where a stream carries the packets, they may be as large as pays; once the other side is known to be there. */
static void set_mtu(struct conn *c)
{
    bool stream = c->path.rung == TW_RUNG_TCP || c->path.rung == TW_RUNG_HTTP || c->path.rung == TW_RUNG_HTTPS;
    if (c->secure)
        tw_secure_set_mtu(c->secure, c->e->now, stream && c->connected ? TW_SECURE_MTU_MAX : c->mtu.now);
}

void ep_look_alive(struct conn *c)
{
    static const tw_time a_little = 200 * TW_MSEC;
    tw_time rtt, at = c->secure && c->ice_up ? tw_ice_answered_at(c->ice, 0, 1, &rtt) : 0;
    if (!at || at == c->answered_at)
        return;
    c->answered_at = at;
    if (c->e->now - at <= 2 * rtt + a_little && c->path.rung != TW_RUNG_PATCHED)
        tw_secure_alive(c->secure, c->e->now, rtt);
}

void ep_call_alive(struct conn *c)
{
    static const tw_time most = 2 * TW_SEC;
    if (c->secure && c->call.link)
        tw_secure_alive(c->secure, c->e->now, 2 * tw_time_min(ep_link_delay(c->call.link), most));
}

void ep_conn_choose(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    struct tw_endpoint_path was = c->path, now = { 0 };
    struct tw_ice_path p;
    uint8_t token[8];
    bool has_call = c->call.on && (c->call.answered || !c->connected);
    if (c->connected && ep_is_lost(c)) /* what broke the way may have broken that by which the call goes */
        ep_links_doubt(e);
    if (c->ice_up && tw_ice_path(c->ice, 0, 1, &p) && !(p.silent && has_call)) {
        now = path_of(&p);
    } else if (has_call && (ep_has_rung(e, TW_RUNG_PATCHED) || !c->connected)) {
        now.rung = TW_RUNG_PATCHED;
    }
    c->path = now;
    if (now.rung == was.rung && tw_addr_eq(&now.local, &was.local) && tw_addr_eq(&now.remote, &was.remote))
        return;
    c->history[c->steps++ % HISTORY] = (struct tw_endpoint_step){ e->now, now };
    if (c->connected)
        c->give_up_at = now.rung == TW_RUNG_NONE ? e->now + LOST_WITHIN : TW_NEVER;
    ep_random(e, token, sizeof(token));
    tw_mtu_reset(&c->mtu, e->now, now.rung == TW_RUNG_UDP || now.rung == TW_RUNG_STUN, token);
    set_mtu(c);
    if (c->secure && now.rung != TW_RUNG_NONE)
        tw_secure_new_path(c->secure, e->now);
    c->answered_at = 0;
    ep_look_alive(c);
    if (!c->id || c->state == CONN_ENDING)
        return;
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_PATH);
    ev->conn = c->id;
    ev->path = now;
}

/* --- in --------------------------------------------------------------------------------------------- */

static void send_raw(struct conn *c, struct tw_bytes b)
{
    (void)!tw_ice_send(c->ice, c->e->now, 0, 1, b, 0);
}

void ep_conn_recv(struct conn *c, struct tw_bytes data, uint8_t tos)
{
    struct tw_endpoint *e = c->e;
    struct tw_datagram d = { .iov = &data, .iov_n = 1, .tos = tos };
    size_t n;
    ep_ticket_way(c);
    if (!c->secure)
        return;
    if (tw_mtu_recv(&c->mtu, e->now, data, e->word, &n)) {
        if (n && c->ice_up)
            send_raw(c, tw_bytes(e->word, n));
        set_mtu(c);
        return;
    }
    tw_secure_recv(c->secure, e->now, &d);
}

/* --- out -------------------------------------------------------------------------------------------- */

/* Over the rendezvous, and, until there is an answer, over both. */
static void send_patched(struct conn *c, struct tw_bytes piece)
{
    tw_time now = c->e->now;
    (void)!tw_rdv_datagram(c->call.link->rdv, now, c->call.id, piece);
    if (c->state != CONN_CALLING || piece.n > TW_RDV_DATAGRAM_MAX)
        return;
    if (c->alt.on)
        (void)!tw_rdv_datagram(c->alt.link->rdv, now, c->alt.id, piece);
    if (!c->flight)
        c->flight = calloc(1, sizeof(*c->flight));
    for (int i = 0; c->flight && i < 2; i++)
        if (!c->flight->n[i]) {
            memcpy(c->flight->data[i], piece.p, piece.n);
            c->flight->n[i] = piece.n;
            break;
        }
}

/* A part of the run, or all of it, to the agent or the server. */
static void send_part(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    size_t step = c->run.segment && c->run_left.n > c->run.segment ? c->run.segment : c->run_left.n;
    struct tw_bytes piece = tw_bytes(c->run_left.p, step);
    bool doubt = c->ice_up && tw_ice_is_doubtful(c->ice, 0, 1);
    if (c->ice_up && step < c->run_left.n && !doubt &&
        !tw_ice_send_run(c->ice, e->now, 0, 1, c->run_left, c->run.segment, c->run.tos)) {
        c->run_left.n = 0;
        return;
    }
    if (c->ice_up)
        (void)!tw_ice_send(c->ice, e->now, 0, 1, piece, c->run.tos);
    if (doubt)
        c->doubled = piece;
    else if (c->path.rung == TW_RUNG_PATCHED && c->call.on)
        send_patched(c, piece);
    c->run_left = tw_bytes(c->run_left.p + step, c->run_left.n - step);
}

/* What may have been sent in vain goes another way, too: the agent's second best, or that of the call. */
static void send_doubled(struct conn *c)
{
    (void)!tw_ice_send_other(c->ice, c->e->now, 0, 1, c->doubled, c->run.tos); /* which may not be there */
    if (c->call.on && c->call.answered)
        send_patched(c, c->doubled);
    c->doubled.n = 0;
}

static bool next_probe(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    size_t before = c->mtu.now, n = c->ice_up && c->connected ? tw_mtu_probe(&c->mtu, e->now, e->tx_buf) : 0;
    if (c->mtu.now != before) {
        set_mtu(c);
        tw_secure_alive(c->secure, e->now, c->path.rtt); /* smaller ones get through */
    }
    if (n)
        send_raw(c, tw_bytes(e->tx_buf, n));
    return n;
}

bool ep_conn_tx(struct conn *c, struct tw_datagram *out)
{
    for (;;) {
        if (tw_ice_poll_tx(c->ice, out)) {
            out->sock |= (uint32_t)c->slot << SOCK_BITS;
            return true;
        }
        if (c->doubled.n) {
            send_doubled(c);
        } else if (c->run_left.n) {
            send_part(c);
        } else if (c->secure && c->path.rung != TW_RUNG_NONE && tw_secure_poll_tx(c->secure, &c->run)) {
            c->run_left = c->run.iov[0];
            tw_mtu_sent(&c->mtu, c->e->now, c->run.segment ? c->run.segment : c->run_left.n, tw_secure_acked_at(c->secure), c->path.rtt);
        } else if (!next_probe(c)) {
            return false;
        }
    }
}

/* --- events ----------------------------------------------------------------------------------------- */

static bool translate(struct conn *c, const struct tw_secure_event *in, struct tw_endpoint_event *ev)
{
    static const enum tw_endpoint_event_type types[] = {
        [TW_SECURE_READY] = TW_EP_READY, [TW_SECURE_CONNECTED] = TW_EP_CONNECTED,
        [TW_SECURE_STREAM] = TW_EP_STREAM, [TW_SECURE_READABLE] = TW_EP_READABLE,
        [TW_SECURE_WRITABLE] = TW_EP_WRITABLE, [TW_SECURE_ENDED] = TW_EP_ENDED,
        [TW_SECURE_DATAGRAM] = TW_EP_DATAGRAM,
    };
    if (in->type == TW_SECURE_CLOSED) {
        ep_conn_over(c, in->code, in->reason, in->by_peer);
        return false;
    }
    *ev = (struct tw_endpoint_event){ .type = types[in->type], .conn = c->id, .stream = in->stream,
                                      .code = in->code, .data = in->data, .key = c->peer.key };
    if (in->type == TW_SECURE_READY)
        c->ready = true;
    if (in->type == TW_SECURE_CONNECTED) {
        c->connected = true;
        set_mtu(c);
        c->give_up_at = c->path.rung == TW_RUNG_NONE ? c->e->now + LOST_WITHIN : TW_NEVER;
        if (c->state == CONN_LINKING) /* its call was just lost: it is made again as that of a connection that stands */
            c->state = CONN_TALKING;
        ep_conn_stir(c);
    }
    return true;
}

bool ep_conn_event(struct conn *c, struct tw_endpoint_event *ev)
{
    struct tw_secure_event in;
    while (c->secure && c->id && tw_secure_poll_event(c->secure, &in))
        if (translate(c, &in, ev))
            return true;
    if (c->state == CONN_ENDING && c->id && !c->told_closed) {
        c->told_closed = true;
        *ev = (struct tw_endpoint_event){ .type = TW_EP_CLOSED, .conn = c->id, .code = c->code, .key = c->peer.key,
                                          .why = c->why, .by_peer = c->by_peer };
        return true;
    }
    return false;
}

/* --- verbs ------------------------------------------------------------------------------------------ */

static struct conn *touch(struct tw_endpoint *e, tw_time now, uint32_t conn)
{
    struct conn *c = ep_conn_find(e, conn);
    e->now = now;
    return c && c->secure && c->state != CONN_ENDING ? c : NULL;
}

int tw_endpoint_open(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t *ret_stream)
{
    struct conn *c = touch(e, now, conn);
    if (!c)
        return TW_ENOTFOUND;
    return c->ready ? tw_secure_open(c->secure, now, ret_stream) : TW_ESTATE;
}

int tw_endpoint_write(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, struct tw_bytes data,
                      bool end, size_t *ret_n)
{
    struct conn *c = touch(e, now, conn);
    if (!c)
        return TW_ENOTFOUND;
    ep_mark(c);
    return tw_secure_write(c->secure, now, stream, data, end, ret_n);
}

int tw_endpoint_peek(struct tw_endpoint *e, uint32_t conn, int64_t stream, struct tw_bytes *ret_data,
                     bool *ret_end)
{
    struct conn *c = ep_conn_find(e, conn);
    return c && c->secure ? tw_secure_peek(c->secure, stream, ret_data, ret_end) : TW_ENOTFOUND;
}

void tw_endpoint_take(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, size_t n)
{
    struct conn *c = ep_conn_find(e, conn);
    e->now = now;
    if (!c || !c->secure) /* one that ends as well: what can be peeked at can be taken */
        return;
    tw_secure_take(c->secure, now, stream, n);
    ep_mark(c);
}

void tw_endpoint_reset(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, uint64_t code)
{
    struct conn *c = touch(e, now, conn);
    if (!c)
        return;
    tw_secure_reset(c->secure, now, stream, code);
    ep_mark(c);
}

int tw_endpoint_datagram(struct tw_endpoint *e, tw_time now, uint32_t conn, struct tw_bytes data)
{
    struct conn *c = touch(e, now, conn);
    if (!c)
        return TW_ENOTFOUND;
    ep_mark(c);
    return tw_secure_send_datagram(c->secure, now, data);
}
