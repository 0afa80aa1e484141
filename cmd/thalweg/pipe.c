/* A stream of a connection, and two file descriptors: what comes from the one goes to the other, no faster
 * than it is taken. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer.h"
#include "rt/os.h"

enum { CHUNK = 65536 };

/* One of the two descriptors. A file can't be waited for, and need not be. */
struct end {
    struct pipe *pipe;
    int fd;              /* -1: closed */
    int flags;           /* as they were */
    bool is_file, open, watched;
    uv_poll_t poll;
    uv_idle_t idle;
};

struct pipe {
    struct pipe *next;
    struct peer *p;
    uint32_t conn;
    int64_t stream;
    struct end in, out;
    bool expect, in_over, out_over, waiting, over;
    const char *why;
    uint8_t *buf;        /* read from `in`, not taken by the stream yet */
    size_t at, n;
    unsigned handles;
    void (*on_end)(struct peer *p, void *user, const char *why);
    void *user;
};

static void read_in(struct pipe *s);
static void write_out(struct pipe *s);

/* --- descriptors ------------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *i)
{
    struct end *e = i->data;
    struct pipe *s = e->pipe;
    if (e == &s->in)
        read_in(s);
    else
        write_out(s);
    tw_rt_endpoint_pump(&s->p->rt);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct end *e = poll->data;
    struct pipe *s = e->pipe;
    (void)status, (void)events;
    if (e == &s->in)
        read_in(s);
    else
        write_out(s);
    tw_rt_endpoint_pump(&s->p->rt);
}

static void watch(struct end *e, int events)
{
    if (e->watched || !e->open)
        return;
    e->watched = true;
    if (e->is_file)
        uv_idle_start(&e->idle, on_idle);
    else
        uv_poll_start(&e->poll, events, on_ready);
}

static void unwatch(struct end *e)
{
    if (!e->watched)
        return;
    e->watched = false;
    if (e->is_file)
        uv_idle_stop(&e->idle);
    else
        uv_poll_stop(&e->poll);
}

static int open_end(struct pipe *s, struct end *e, int fd)
{
    struct stat st;
    *e = (struct end){ .pipe = s, .fd = fd };
    e->is_file = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
    e->flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, e->flags | O_NONBLOCK);
    e->poll.data = e->idle.data = e;
    int err = 0;
    if (e->is_file)
        uv_idle_init(s->p->loop, &e->idle);
    else if (uv_poll_init(s->p->loop, &e->poll, fd)) /* /dev/null, and such */
        err = uv_idle_init(s->p->loop, &e->idle), e->is_file = true;
    e->open = !err;
    s->handles += e->open;
    return err ? TW_ESYS : 0;
}

static void gone(struct pipe *s)
{
    if (--s->handles || !s->over)
        return;
    free(s->buf);
    free(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct end *e = h->data;
    fcntl(e->fd, F_SETFL, e->flags); /* it may be a terminal's, which others have, too */
    close(e->fd);
    e->fd = -1;
    gone(e->pipe);
}

static void close_end(struct end *e)
{
    if (!e->open)
        return;
    unwatch(e);
    e->open = false;
    uv_close(e->is_file ? (uv_handle_t *)&e->idle : (uv_handle_t *)&e->poll, on_handle_closed);
}

/* --- the two directions -------------------------------------------------------------------------------- */

static void finish(struct pipe *s, const char *why)
{
    if (s->over)
        return;
    struct pipe **at = &s->p->pipes;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->over = true;
    if (why)
        tw_endpoint_reset(s->p->rt.endpoint, tw_rt_now(), s->conn, s->stream, 1);
    close_end(&s->in);
    close_end(&s->out);
    s->on_end(s->p, s->user, why); /* the handles are closed later: s is still there */
}

static void check_end(struct pipe *s)
{
    if (s->in_over && s->out_over)
        finish(s, NULL);
}

/* True: all of it is with the stream now. */
static bool give(struct pipe *s, bool end)
{
    size_t took = 0;
    int err = tw_endpoint_write(s->p->rt.endpoint, tw_rt_now(), s->conn, s->stream,
                                tw_bytes(s->buf + s->at, s->n - s->at), end, &took);
    if (err) {
        finish(s, "the stream is gone");
        return false;
    }
    s->at += took;
    if (s->at < s->n) {
        s->waiting = true;
        unwatch(&s->in);
        return false;
    }
    s->at = s->n = 0;
    return true;
}

static void read_in(struct pipe *s)
{
    for (int i = 0; i < 16 && !s->over && !s->in_over && !s->waiting; i++) {
        ssize_t n = read(s->in.fd, s->buf, CHUNK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        s->at = 0;
        s->n = n > 0 ? (size_t)n : 0;
        if (n > 0) {
            give(s, false);
            continue;
        }
        s->in_over = true;
        close_end(&s->in);
        if (give(s, true))
            check_end(s);
        return;
    }
}

/* What the other side says before anything else. */
static bool hear_status(struct pipe *s)
{
    static char text[SERVICE_TEXT_MAX + 1];
    unsigned status;
    int heard = service_hear(s->p, s->conn, s->stream, &status, text);
    if (heard == 0)
        return false;
    s->expect = false;
    peer_json(s->p, "first_byte", ",\"conn\":%u,\"ms\":%f", s->conn, peer_ms(s->p));
    if (heard < 0 || status) {
        finish(s, heard < 0 ? "the other side ended the stream" : text[0] ? text : "the other side refused");
        return false;
    }
    return true;
}

static void write_out(struct pipe *s)
{
    struct tw_bytes b;
    bool end = false;
    if (s->expect && !hear_status(s))
        return;
    while (!s->over && !s->out_over) {
        if (tw_endpoint_peek(s->p->rt.endpoint, s->conn, s->stream, &b, &end)) {
            finish(s, "the stream broke off");
            return;
        }
        if (b.n == 0)
            break;
        ssize_t n = write(s->out.fd, b.p, b.n);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            watch(&s->out, UV_WRITABLE);
            return;
        }
        if (n < 0) {
            finish(s, strerror(errno));
            return;
        }
        tw_endpoint_take(s->p->rt.endpoint, tw_rt_now(), s->conn, s->stream, (size_t)n);
    }
    unwatch(&s->out);
    if (end && !s->over && !s->out_over) {
        s->out_over = true;
        shutdown(s->out.fd, SHUT_WR); /* of a socket, which `in` still reads */
        close_end(&s->out);
        check_end(s);
    }
}

int pipe_open(struct peer *p, uint32_t conn, int64_t stream, int in, int out, bool expect,
              void (*on_end)(struct peer *p, void *user, const char *why), void *user)
{
    struct pipe *s = calloc(1, sizeof(*s));
    if (s)
        s->buf = malloc(CHUNK);
    if (in == out)
        out = dup(in); /* each direction is watched by itself */
    if (!s || !s->buf || out < 0) {
        free(s ? s->buf : NULL);
        free(s);
        close(in);
        if (out >= 0)
            close(out);
        return TW_ENOMEM;
    }
    s->p = p;
    s->conn = conn;
    s->stream = stream;
    s->expect = expect;
    s->on_end = on_end;
    s->user = user;
    s->next = p->pipes;
    p->pipes = s;
    int err = open_end(s, &s->in, in);
    err = err ? err : open_end(s, &s->out, out);
    if (err) {
        finish(s, "the descriptor can't be watched");
        return err;
    }
    watch(&s->in, UV_READABLE);
    write_out(s);
    return 0;
}

bool pipe_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    struct pipe *s = p->pipes;
    bool closed = ev->type == TW_EP_CLOSED;
    if (closed) { /* all of its; and the verb hears of it, too */
        for (struct pipe *next; s; s = next) {
            next = s->next;
            if (s->conn == ev->conn)
                finish(s, ev->why && *ev->why ? ev->why : "the connection is closed");
        }
        return false;
    }
    if (ev->type != TW_EP_READABLE && ev->type != TW_EP_WRITABLE && ev->type != TW_EP_ENDED)
        return false;
    while (s && (s->conn != ev->conn || s->stream != ev->stream))
        s = s->next;
    if (!s)
        return false;
    if (ev->type == TW_EP_READABLE) {
        write_out(s);
    } else if (ev->type == TW_EP_WRITABLE && s->waiting) {
        s->waiting = false;
        if (give(s, s->in_over)) {
            if (s->in_over)
                check_end(s);
            else
                watch(&s->in, UV_READABLE);
        }
    } else if (ev->type == TW_EP_ENDED && ev->code) {
        finish(s, "the other side broke the stream off");
    }
    return true;
}

void pipes_end(struct peer *p)
{
    while (p->pipes)
        finish(p->pipes, "closed");
}
