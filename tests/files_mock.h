/* Two sides of a transfer of files, without a network: what one writes to its stream the other one reads. Included once
 * by a program that is linked with cmd/thalweg/{files,sending,receiving}.c; it stands for the endpoint under them. */
#ifndef TW_FILES_MOCK_H
#define TW_FILES_MOCK_H

#include <stdlib.h>
#include <string.h>

#include "../cmd/thalweg/files.h"

struct side {
    struct peer peer;
    struct peer_options options;
    struct side *other;      /* who reads what this one writes; NULL: nobody */
    uint8_t *in;
    size_t at, n, cap;
    bool end, broken;
    size_t room;             /* so many bytes it may write, until the other one has read; 0: no limit */
};

static inline struct side *side_of(const struct tw_endpoint *e)
{
    return (struct side *)(uintptr_t)e;
}

static inline void side_init(struct side *s, uv_loop_t *loop)
{
    memset(s, 0, sizeof(*s));
    s->peer.rt.endpoint = (struct tw_endpoint *)s;
    s->peer.loop = loop;
    s->peer.o = &s->options;
    s->peer.events = stdout;
}

static inline void side_put(struct side *s, const void *bytes, size_t n)
{
    if (s->n + n > s->cap) {
        s->cap = (s->n + n) * 2;
        s->in = realloc(s->in, s->cap);
        if (!s->in)
            abort();
    }
    memcpy(s->in + s->n, bytes, n);
    s->n += n;
}

int tw_endpoint_peek(struct tw_endpoint *e, uint32_t conn, int64_t stream, struct tw_bytes *ret, bool *ret_end)
{
    struct side *s = side_of(e);
    (void)conn, (void)stream;
    if (s->broken)
        return TW_ENOTFOUND;
    *ret = s->n ? tw_bytes(s->in + s->at, s->n - s->at) : tw_bytes(NULL, 0);
    *ret_end = s->end;
    return 0;
}

void tw_endpoint_take(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, size_t n)
{
    struct side *s = side_of(e);
    (void)conn, (void)stream, (void)now;
    s->at += n;
    if (s->at == s->n)
        s->at = s->n = 0;
}

int tw_endpoint_write(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, struct tw_bytes data,
                      bool end, size_t *ret_n)
{
    struct side *s = side_of(e), *to = s->other;
    (void)conn, (void)stream, (void)now;
    if (s->broken)
        return TW_ENOTFOUND;
    *ret_n = data.n;
    if (to && s->room && to->n - to->at + data.n > s->room)
        *ret_n = s->room > to->n - to->at ? s->room - (to->n - to->at) : 0;
    if (to && *ret_n)
        side_put(to, data.p, *ret_n);
    if (to && end)
        to->end = true;
    return 0;
}

void tw_rt_endpoint_pump(struct tw_rt_endpoint *r)
{
    (void)r;
}

void peer_json(const struct peer *p, const char *event, const char *more, ...)
{
    (void)p, (void)event, (void)more;
}

void peer_say(const struct peer *p, const char *fmt, ...)
{
    (void)p, (void)fmt;
}

#endif
