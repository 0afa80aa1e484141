#include "tunnel/poll.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "tunnel/http.h"

enum { HEAD_MAX = 4096, UP_MAX = 2 * TW_POLL_BODY };

/* --- the server's side ------------------------------------------------------------------------------- */

static bool part(struct tw_bytes *rest, struct tw_bytes *ret)
{
    const uint8_t *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    size_t n = slash ? (size_t)(slash - rest->p) : rest->n;
    *ret = tw_bytes(rest->p, n);
    *rest = tw_bytes(rest->p + n + (slash != NULL), rest->n - n - (slash != NULL));
    return n > 0;
}

static bool read_target(struct tw_bytes target, struct tw_poll_request *r)
{
    static const char path[] = TW_POLL_PATH;
    struct tw_bytes session, up, down;
    if (target.n < sizeof(path) - 1 || memcmp(target.p, path, sizeof(path) - 1) != 0)
        return false;
    target = tw_bytes(target.p + sizeof(path) - 1, target.n - (sizeof(path) - 1));
    if (!part(&target, &session) || session.n != TW_POLL_SESSION || !part(&target, &up) || !part(&target, &down) || target.n)
        return false;
    for (size_t i = 0; i < session.n; i++)
        if (!((session.p[i] >= '0' && session.p[i] <= '9') || (session.p[i] >= 'a' && session.p[i] <= 'f')))
            return false;
    memcpy(r->session, session.p, TW_POLL_SESSION);
    r->session[TW_POLL_SESSION] = 0;
    return tw_http_number(up, UINT64_MAX / 16, &r->up) && tw_http_number(down, UINT64_MAX / 16, &r->down);
}

int tw_poll_parse(struct tw_bytes in, struct tw_poll_request *r, size_t *ret_used)
{
    struct tw_http h;
    size_t head;
    uint64_t body = 0;
    int err = tw_http_parse(in, true, &h, &head);
    if (err == TW_ESHORT && in.n < HEAD_MAX)
        return TW_ESHORT;
    if (err || !tw_bytes_eq(h.method, tw_bytes_str("POST")) || !read_target(h.target, r) ||
        !tw_http_number(tw_http_get(&h, "content-length"), TW_POLL_BODY, &body))
        return TW_EMALFORMED;
    if (in.n - head < body)
        return TW_ESHORT;
    r->body = tw_bytes(in.p + head, (size_t)body);
    *ret_used = head + (size_t)body;
    return 0;
}

size_t tw_poll_answer(unsigned status, size_t body, char out[TW_POLL_HEAD])
{
    return (size_t)snprintf(out, TW_POLL_HEAD,
                            "HTTP/1.1 %u %s\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\n"
                            "Content-Length: %zu\r\n\r\n",
                            status, status == 200 ? "OK" : status == 503 ? "Service Unavailable" : "Gone", body);
}

/* --- the client's ------------------------------------------------------------------------------------ */

struct tw_poll {
    char session[TW_POLL_SESSION + 1], host[300];
    uint64_t up_at, down_at;      /* of the stream: what is surely up there; what has come */
    uint8_t up[UP_MAX], down[TW_POLL_BODY];
    size_t up_n, down_n, bringing; /* bringing: of up, in the request that is under way */
    bool asked[TW_POLL_CONNS];
    uint8_t out[TW_POLL_HEAD + 512 + TW_POLL_BODY];
};

int tw_poll_new(const char *host, const struct tw_env *env, struct tw_poll **ret)
{
    uint8_t id[TW_POLL_SESSION / 2];
    struct tw_poll *p = calloc(1, sizeof(*p));
    if (!p)
        return TW_ENOMEM;
    env->rng.fill(env->rng.ctx, id, sizeof(id));
    sodium_bin2hex(p->session, sizeof(p->session), id, sizeof(id));
    snprintf(p->host, sizeof(p->host), "%s", host);
    *ret = p;
    return 0;
}

void tw_poll_free(struct tw_poll *p)
{
    free(p);
}

size_t tw_poll_room(const struct tw_poll *p)
{
    return sizeof(p->up) - p->up_n;
}

size_t tw_poll_send(struct tw_poll *p, struct tw_bytes in)
{
    size_t n = in.n < tw_poll_room(p) ? in.n : tw_poll_room(p);
    if (n)
        memcpy(p->up + p->up_n, in.p, n);
    p->up_n += n;
    return n;
}

struct tw_bytes tw_poll_out(struct tw_poll *p, unsigned conn)
{
    size_t body = conn == TW_POLL_BRINGS ? p->up_n : 0;
    body = body < TW_POLL_BODY ? body : TW_POLL_BODY;
    /* The first question may come only when the session is there: bringing something makes it. */
    if (p->asked[conn] || (conn == TW_POLL_BRINGS ? body == 0 : p->up_at == 0 || p->down_n))
        return tw_bytes(NULL, 0);
    p->asked[conn] = true;
    p->bringing = body ? body : p->bringing;
    int n = snprintf((char *)p->out, TW_POLL_HEAD + 512,
                     "POST " TW_POLL_PATH "%s/%llu/%llu HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     p->session, (unsigned long long)p->up_at, (unsigned long long)p->down_at, p->host, body);
    if (body)
        memcpy(p->out + n, p->up, body);
    return tw_bytes(p->out, (size_t)n + body);
}

static void brought(struct tw_poll *p)
{
    p->up_at += p->bringing;
    p->up_n -= p->bringing;
    memmove(p->up, p->up + p->bringing, p->up_n);
    p->bringing = 0;
}

int tw_poll_recv(struct tw_poll *p, unsigned conn, struct tw_bytes in, size_t *ret_used)
{
    struct tw_http h;
    size_t head;
    uint64_t body;
    *ret_used = 0;
    int err = tw_http_parse(in, false, &h, &head);
    if (err == TW_ESHORT && in.n < HEAD_MAX)
        return 0;
    if (err || !p->asked[conn])
        return TW_EMALFORMED;
    if (!tw_bytes_eq(h.status, tw_bytes_str("200")))
        return TW_ENOTFOUND;
    if (!tw_http_number(tw_http_get(&h, "content-length"), TW_POLL_BODY, &body))
        return TW_EMALFORMED;
    if (in.n - head < body)
        return 0;
    *ret_used = head + (size_t)body;
    p->asked[conn] = false;
    if (conn == TW_POLL_BRINGS) {
        brought(p);
        return 0;
    }
    memcpy(p->down, in.p + head, (size_t)body);
    p->down_n = (size_t)body;
    p->down_at += body;
    return 0;
}

void tw_poll_lost(struct tw_poll *p, unsigned conn)
{
    p->asked[conn] = false;
    if (conn == TW_POLL_BRINGS)
        p->bringing = 0; /* what of it has arrived, the other side knows by the number */
}

struct tw_bytes tw_poll_came(const struct tw_poll *p)
{
    return tw_bytes(p->down, p->down_n);
}

void tw_poll_took(struct tw_poll *p, size_t n)
{
    p->down_n -= n;
    memmove(p->down, p->down + n, p->down_n);
}
