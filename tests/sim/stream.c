#include "stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include <thalweg/stun.h>

#include "tunnel/frame.h"

/* A record of the handshake without a word in it: what an inspecting firewall looks at. */
static const uint8_t hello[5] = { STREAM_TLS, 3, 1, 0, 0 };

/* It is nobody's any more, and its machine is told. */
static void finish(struct streams *t, tw_time now, struct stream *s)
{
    struct stream gone = *s;
    *s = (struct stream){ 0 };
    t->over(t->ctx, now, &gone);
    free(gone.in);
}

static void let_go(struct stream *s)
{
    free(s->in);
    *s = (struct stream){ 0 };
}

void streams_fini(struct streams *t)
{
    for (int i = 0; i < STREAMS; i++)
        let_go(&t->all[i]);
}

struct stream *stream_find(struct streams *t, uint32_t id)
{
    for (int i = 0; i < STREAMS && id; i++)
        if (t->all[i].id == id)
            return &t->all[i];
    return NULL;
}

static struct stream *add(struct streams *t, uint32_t id)
{
    for (int i = 0; i < STREAMS; i++)
        if (!t->all[i].id) {
            t->all[i] = (struct stream){ .id = id, .in = malloc(STREAM_BUFFER) };
            assert(t->all[i].in);
            return &t->all[i];
        }
    return NULL;
}

void stream_connect(struct streams *t, uint32_t id, enum stream_framing framing, bool tls,
                    struct tw_addr local, struct tw_addr remote, struct tw_addr proxy)
{
    struct stream *s = add(t, id);
    assert(s);
    s->framing = framing;
    s->tls = tls;
    s->remote = remote;
    if (proxy.family)
        s->target = remote;
    sim_tcp_connect(t->host, id, local, proxy.family ? proxy : remote);
}

void stream_send(struct streams *t, uint32_t id, const struct tw_bytes *iov, size_t iov_n)
{
    static uint8_t bytes[4 << 20];
    const struct stream *s = stream_find(t, id);
    size_t n = TW_FRAME_HEADER;
    if (!s || s->state != STREAM_OPEN)
        return;
    for (size_t i = 0; i < iov_n; i++) {
        assert(n + iov[i].n <= sizeof(bytes));
        memcpy(bytes + n, iov[i].p, iov[i].n);
        n += iov[i].n;
    }
    tw_frame_header(n - TW_FRAME_HEADER, bytes);
    size_t skip = s->framing == STREAM_RFC4571 ? 0 : TW_FRAME_HEADER;
    sim_tcp_send(t->host, id, tw_bytes(bytes + skip, n - skip));
}

void stream_close(struct streams *t, uint32_t id)
{
    struct stream *s = stream_find(t, id);
    if (!s)
        return;
    let_go(s);
    sim_tcp_close(t->host, id);
}

/* --- what comes ----------------------------------------------------------------------------- */

/* The next step of opening. */
static void go_on(struct streams *t, tw_time now, struct stream *s)
{
    char text[128], addr[TW_ADDR_STRLEN];
    if (s->target.family && s->state == STREAM_CONNECTING) {
        int n = snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\n\r\n",
                         tw_addr_format(&s->target, addr));
        s->state = STREAM_PROXY;
        sim_tcp_send(t->host, s->id, tw_bytes(text, (size_t)n));
    } else if (s->tls && s->state != STREAM_HELLO) {
        s->state = STREAM_HELLO;
        sim_tcp_send(t->host, s->id, tw_bytes(hello, sizeof(hello)));
    } else {
        s->state = STREAM_OPEN;
        t->opened(t->ctx, now, s);
    }
}

static void on_connected(void *ctx, tw_time now, uint32_t id, int err, const struct tw_addr *local)
{
    struct streams *t = ctx;
    struct stream *s = stream_find(t, id);
    if (!s)
        return;
    if (err) {
        finish(t, now, s);
        return;
    }
    s->local = *local;
    go_on(t, now, s);
}

static uint32_t on_accepted(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                            const struct tw_addr *remote)
{
    struct streams *t = ctx;
    uint32_t id = t->accepted ? t->accepted(t->ctx, now, listener, local, remote) : 0;
    struct stream *s = id ? add(t, id) : NULL;
    if (!s)
        return 0;
    s->framing = t->accepts;
    s->state = STREAM_OPEN;
    s->server = true;
    s->local = *local;
    s->remote = *remote;
    return id;
}

static void on_closed(void *ctx, tw_time now, uint32_t id)
{
    struct streams *t = ctx;
    struct stream *s = stream_find(t, id);
    if (s)
        finish(t, now, s);
}

static void eat(struct stream *s, size_t n)
{
    memmove(s->in, s->in + n, s->n - n);
    s->n -= n;
}

/* False: more is needed, or it has ended. */
static bool open_further(struct streams *t, tw_time now, struct stream *s)
{
    static const char ok[] = "HTTP/1.1 200 ";
    if (s->state == STREAM_HELLO) {
        if (s->n < sizeof(hello))
            return false;
        eat(s, sizeof(hello));
    } else {
        uint8_t *end = memmem(s->in, s->n, "\r\n\r\n", 4);
        if (!end)
            return false;
        if (memcmp(s->in, ok, sizeof(ok) - 1) != 0) {
            sim_tcp_close(t->host, s->id);
            finish(t, now, s);
            return false;
        }
        eat(s, (size_t)(end + 4 - s->in));
    }
    go_on(t, now, s);
    return true;
}

static size_t whole(const struct stream *s)
{
    size_t at = 0, n = 0;
    struct tw_bytes payload;
    if (s->framing == STREAM_RAW)
        return s->n;
    if (s->framing == STREAM_RFC4571)
        return tw_frame_next(tw_bytes(s->in, s->n), &payload, &n) ? n : 0;
    while (!tw_stun_frame(s->in + at, s->n - at, &n) && n)
        at += n;
    return at;
}

static void on_data(void *ctx, tw_time now, uint32_t id, struct tw_bytes data)
{
    struct streams *t = ctx;
    struct stream *s = stream_find(t, id);
    size_t n;
    if (!s)
        return;
    assert(s->n + data.n <= STREAM_BUFFER);
    memcpy(s->in + s->n, data.p, data.n);
    s->n += data.n;
    while ((s = stream_find(t, id)) && s->state != STREAM_OPEN)
        if (!open_further(t, now, s))
            return;
    if (s && s->server && s->n >= sizeof(hello)) { /* the first bytes: nothing else that is spoken begins so */
        s->server = false;
        if (s->in[0] == STREAM_TLS) {
            eat(s, sizeof(hello));
            sim_tcp_send(t->host, id, tw_bytes(hello, sizeof(hello)));
        }
    }
    while ((s = stream_find(t, id)) && (n = whole(s)) > 0) {
        uint8_t *frames = malloc(n);
        assert(frames);
        memcpy(frames, s->in, n);
        eat(s, n);
        size_t skip = s->framing == STREAM_RFC4571 ? TW_FRAME_HEADER : 0;
        t->frames(t->ctx, now, s, tw_bytes(frames + skip, n - skip));
        free(frames);
    }
}

static const struct sim_tcp tcp = { on_accepted, on_connected, on_data, on_closed };

void streams_init(struct streams *t, struct sim_host *h, void *ctx)
{
    t->host = h;
    t->ctx = ctx;
    sim_host_attach_tcp(h, t, &tcp);
}
