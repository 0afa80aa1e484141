#include "flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/os.h"

enum { HEAD = 4, LENGTH = 2 }; /* of a datagram: the stream's number; of what goes by the stream: its length */

struct flow {
    struct flow *next;
    struct peer *p;
    uint32_t conn;
    int64_t stream;
    int fd;
    bool own, waits, over;
    struct sockaddr_storage to;
    socklen_t to_n;
    uv_poll_t poll;             /* if own */
    uv_timer_t idle;
    unsigned handles;
    tw_time used;
    uint8_t *in;                /* a long one that is not whole yet */
    size_t n;
    void (*on_end)(struct peer *p, const char *why);
};

static void on_closed(uv_handle_t *h)
{
    struct flow *f = h->data;
    if (--f->handles)
        return;
    if (f->own)
        close(f->fd);
    free(f->in);
    free(f);
}

static void finish(struct flow *f, const char *why)
{
    struct flow **at = &f->p->flows;
    if (f->over)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->p->flow_n--;
    f->over = true;
    tw_endpoint_reset(f->p->rt.endpoint, tw_rt_now(), f->conn, f->stream, 1);
    uv_close((uv_handle_t *)&f->idle, on_closed);
    if (f->own)
        uv_close((uv_handle_t *)&f->poll, on_closed);
    if (f->on_end)
        f->on_end(f->p, why);
}

static void on_idle(uv_timer_t *t)
{
    struct flow *f = t->data;
    tw_time left = f->used + FLOW_IDLE_S * TW_SEC - tw_rt_now();
    if (left > 0) {
        uv_timer_start(t, on_idle, (uint64_t)(left / TW_MSEC) + 1, 0);
        return;
    }
    struct peer *p = f->p;
    finish(f, NULL);
    tw_rt_endpoint_pump(&p->rt);
}

static void by_stream(struct flow *f, struct tw_bytes data)
{
    static uint8_t buf[LENGTH + FLOW_LONGEST];
    size_t took = 0;
    tw_put_u16(buf, (uint16_t)data.n);
    memcpy(buf + LENGTH, data.p, data.n);
    /* A part of one would spoil all that follow: then rather none of them. */
    if (tw_endpoint_write(f->p->rt.endpoint, tw_rt_now(), f->conn, f->stream, tw_bytes(buf, LENGTH + data.n), false,
                          &took) ||
        took != LENGTH + data.n)
        finish(f, "too much at once");
}

void flow_send(struct flow *f, struct tw_bytes data)
{
    uint8_t buf[TW_ENDPOINT_DATAGRAM_MAX];
    f->used = tw_rt_now();
    if (f->waits || data.n > sizeof(buf) - HEAD) {
        by_stream(f, data);
        return;
    }
    tw_put_u32(buf, (uint32_t)f->stream);
    memcpy(buf + HEAD, data.p, data.n);
    (void)!tw_endpoint_datagram(f->p->rt.endpoint, tw_rt_now(), f->conn, tw_bytes(buf, HEAD + data.n));
}

/* To the program that it is for. */
static void deliver(struct flow *f, struct tw_bytes data)
{
    f->used = tw_rt_now();
    if (f->own)
        (void)!send(f->fd, data.p, data.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        (void)!sendto(f->fd, data.p, data.n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&f->to, f->to_n);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    static uint8_t buf[FLOW_LONGEST];
    struct flow *f = poll->data;
    struct peer *p = f->p;
    ssize_t n = 0;
    (void)status, (void)events;
    for (int i = 0; i < 64 && !f->over && (n = recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT)) >= 0; i++)
        flow_send(f, tw_bytes(buf, (size_t)n));
    tw_rt_endpoint_pump(&p->rt);
}

/* Long ones, and those of the beginning. False: it is over. */
static bool read_stream(struct flow *f)
{
    struct tw_endpoint *e = f->p->rt.endpoint;
    static char text[SERVICE_TEXT_MAX + 1];
    struct tw_bytes b;
    unsigned status;
    bool end = false;
    if (f->waits) {
        int heard = service_hear(f->p, f->conn, f->stream, &status, text);
        if (heard == 0)
            return true;
        if (heard < 0 || status) {
            finish(f, heard > 0 && text[0] ? text : "the other side refused");
            return false;
        }
        f->waits = false;
    }
    while (!tw_endpoint_peek(e, f->conn, f->stream, &b, &end) && b.n) {
        size_t want = f->n < LENGTH ? LENGTH - f->n : LENGTH + tw_get_u16(f->in) - f->n;
        size_t n = b.n < want ? b.n : want;
        if (!f->in && !(f->in = malloc(LENGTH + 65535))) {
            finish(f, "out of memory");
            return false;
        }
        memcpy(f->in + f->n, b.p, n);
        f->n += n;
        tw_endpoint_take(e, tw_rt_now(), f->conn, f->stream, n);
        if (f->n >= LENGTH && f->n == LENGTH + (size_t)tw_get_u16(f->in)) {
            deliver(f, tw_bytes(f->in + LENGTH, f->n - LENGTH));
            f->n = 0;
        }
    }
    if (end)
        finish(f, NULL);
    return !end;
}

int flow_open(struct peer *p, uint32_t conn, int64_t stream, int fd, const struct sockaddr_storage *to, socklen_t to_n,
              bool waits, void (*on_end)(struct peer *p, const char *why))
{
    if (p->flow_n >= FLOW_MAX)
        return TW_EFULL;
    struct flow *f = calloc(1, sizeof(*f));
    if (!f)
        return TW_ENOMEM;
    *f = (struct flow){ .p = p, .conn = conn, .stream = stream, .fd = fd, .own = to == NULL, .waits = waits,
                        .to_n = to_n, .used = tw_rt_now(), .on_end = on_end, .next = p->flows };
    f->idle.data = f->poll.data = f;
    if (to)
        f->to = *to;
    else if (uv_poll_init(p->loop, &f->poll, fd)) {
        free(f);
        return TW_ESYS;
    }
    uv_timer_init(p->loop, &f->idle);
    uv_unref((uv_handle_t *)&f->idle);
    uv_timer_start(&f->idle, on_idle, FLOW_IDLE_S * 1000, 0);
    f->handles = 1 + f->own;
    p->flows = f;
    p->flow_n++;
    if (f->own) {
        uv_poll_start(&f->poll, UV_READABLE, on_ready);
        read_stream(f);
    }
    return 0;
}

struct flow *flow_of(const struct peer *p, const struct sockaddr_storage *to, socklen_t to_n)
{
    struct flow *f = p->flows;
    while (f && (f->own || f->to_n != to_n || memcmp(&f->to, to, to_n) != 0))
        f = f->next;
    return f;
}

bool flow_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    struct flow *f = p->flows;
    if (ev->type == TW_EP_CLOSED) { /* all of its; and the verb hears of it, too */
        for (struct flow *next; f; f = next) {
            next = f->next;
            if (f->conn == ev->conn)
                finish(f, NULL);
        }
        return false;
    }
    bool datagram = ev->type == TW_EP_DATAGRAM && ev->data.n >= HEAD;
    int64_t stream = datagram ? (int64_t)tw_get_u32(ev->data.p) : ev->stream;
    if (!datagram && ev->type != TW_EP_READABLE && ev->type != TW_EP_ENDED)
        return false;
    while (f && (f->conn != ev->conn || f->stream != stream))
        f = f->next;
    if (!f)
        return false;
    if (datagram)
        deliver(f, tw_bytes(ev->data.p + HEAD, ev->data.n - HEAD));
    else if (ev->type == TW_EP_READABLE)
        read_stream(f);
    else
        finish(f, NULL);
    return true;
}

void flows_end(struct peer *p)
{
    while (p->flows)
        finish(p->flows, NULL);
}
