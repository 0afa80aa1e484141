#include "rt/polls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/map.h"
#include "rt/os.h"

enum {
    SESSIONS_MAX = 4096,
    OF_ONE_MAX = 512,            /* a whole office is behind one proxy */
    KEPT_MAX = 4 * TW_POLL_BODY,
    KEPT_ALL_MAX = 64 << 20,     /* of all sessions: then nothing more is read for them */
};
#define HOLD (20 * TW_SEC)    /* a question waits so long for something to answer; proxies give up later */
#define SILENT (60 * TW_SEC)  /* nobody asks any more */

struct session {
    struct session *next;
    struct tw_rt_polls *of;
    char id[TW_POLL_SESSION + 1];
    struct tw_addr remote;
    int fd;
    uv_poll_t poll;
    bool over, closing;       /* over: the stream has ended; closing: the session has */
    uint64_t up, down;        /* of the stream: what has come; what surely has arrived */
    uint8_t *kept;            /* from `down` on; only as long as there is something */
    size_t kept_n, kept_cap;
    uint32_t hash;
    uint32_t waiting;         /* who asks; 0: nobody */
    tw_time heard, asked;
};

struct tw_rt_polls {
    uv_loop_t *loop;
    const struct tw_rt_polls_ops *ops;
    void *user;
    struct session *sessions;
    struct tw_map by_id;
    struct tw_hash_key key;
    size_t kept_all;          /* bytes that sessions have taken for what they keep */
    bool freed;
};

static void say(struct tw_rt_polls *p, uint32_t asker, unsigned status, struct tw_bytes body)
{
    char head[TW_POLL_HEAD];
    const struct tw_bytes parts[] = { tw_bytes(head, tw_poll_answer(status, body.n, head)), body };
    if (asker)
        p->ops->answer(p->user, asker, parts, 2);
}

static void free_polls(struct tw_rt_polls *p)
{
    tw_map_fini(&p->by_id);
    free(p);
}

static void forget_kept(struct session *s)
{
    s->of->kept_all -= s->kept_cap;
    free(s->kept);
    s->kept = NULL;
    s->kept_n = s->kept_cap = 0;
}

/* Room for more to be kept. False: there is enough already. */
static bool has_room(struct session *s)
{
    struct tw_rt_polls *p = s->of;
    size_t cap = s->kept_cap ? 2 * s->kept_cap : 2048;
    if (s->kept_n < s->kept_cap)
        return true;
    if (cap > KEPT_MAX || p->kept_all + cap > KEPT_ALL_MAX)
        return false;
    uint8_t *kept = realloc(s->kept, cap);
    if (!kept)
        return false;
    p->kept_all += cap - s->kept_cap;
    s->kept = kept;
    s->kept_cap = cap;
    return true;
}

static void on_closed(uv_handle_t *h)
{
    struct session *s = h->data;
    struct tw_rt_polls *p = s->of;
    struct session **at = &p->sessions;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    close(s->fd);
    forget_kept(s);
    free(s);
    if (p->freed && !p->sessions)
        free_polls(p);
}

static void end(struct session *s)
{
    if (s->closing)
        return;
    s->closing = true;
    tw_map_del(&s->of->by_id, s->hash, s);
    uint32_t asker = s->waiting;
    s->waiting = 0;
    uv_close((uv_handle_t *)&s->poll, on_closed);
    if (!s->of->freed)
        say(s->of, asker, 410, tw_bytes(NULL, 0));
}

static void answer(struct session *s)
{
    uint32_t asker = s->waiting;
    size_t n = s->kept_n < TW_POLL_BODY ? s->kept_n : TW_POLL_BODY;
    s->waiting = 0;
    say(s->of, asker, 200, tw_bytes(s->kept, n));
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void watch(struct session *s)
{
    if (!s->over && !s->closing && has_room(s))
        uv_poll_start(&s->poll, UV_READABLE, on_readable);
    else if (!s->closing)
        uv_poll_stop(&s->poll);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct session *s = poll->data;
    (void)status, (void)events;
    if (!has_room(s)) {
        watch(s);
        return;
    }
    ssize_t n = recv(s->fd, s->kept + s->kept_n, s->kept_cap - s->kept_n, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    s->over = n <= 0;
    s->kept_n += n > 0 ? (size_t)n : 0;
    if (s->waiting && s->kept_n)
        answer(s);
    if (s->over && s->kept_n == 0)
        end(s);
    else
        watch(s);
}

static bool has_id(const void *item, const void *id)
{
    return memcmp(((const struct session *)item)->id, id, TW_POLL_SESSION) == 0;
}

static uint32_t hash_of(const struct tw_rt_polls *p, const char *id)
{
    return (uint32_t)tw_hash(&p->key, id, TW_POLL_SESSION);
}

static struct session *create(struct tw_rt_polls *p, const char *id, const struct tw_addr *remote)
{
    unsigned of_one = 0;
    int pair[2];
    for (struct session *s = p->sessions; s; s = s->next)
        of_one += tw_addr_eq_ip(&s->remote, remote);
    struct session *s = of_one < OF_ONE_MAX ? calloc(1, sizeof(*s)) : NULL;
    if (!s || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) {
        free(s);
        return NULL;
    }
    s->of = p;
    memcpy(s->id, id, sizeof(s->id));
    s->remote = *remote;
    s->fd = pair[0];
    s->hash = hash_of(p, id);
    if (tw_map_put(&p->by_id, s->hash, s)) {
        close(pair[1]);
    } else if (p->ops->came(p->user, pair[1], remote) && !uv_poll_init(p->loop, &s->poll, s->fd)) {
        s->poll.data = s;
        s->next = p->sessions;
        p->sessions = s;
        watch(s);
        return s;
    }
    tw_map_del(&p->by_id, s->hash, s);
    close(s->fd);
    free(s);
    return NULL;
}

/* What has been brought before is brought again when an answer was lost. */
static bool bring(struct session *s, uint64_t at, struct tw_bytes body)
{
    if (at > s->up)
        return false;
    uint64_t had = s->up - at;
    if (had >= body.n)
        return true;
    struct tw_bytes fresh = tw_bytes(body.p + had, body.n - (size_t)had);
    ssize_t n = send(s->fd, fresh.p, fresh.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    s->up += fresh.n;
    return n == (ssize_t)fresh.n; /* who is behind this reads as fast as anybody can bring */
}

static bool confirm(struct session *s, uint64_t down)
{
    if (down < s->down || down - s->down > s->kept_n)
        return false;
    size_t n = (size_t)(down - s->down);
    s->down = down;
    if (n == s->kept_n) {
        forget_kept(s);
        return true;
    }
    s->kept_n -= n;
    memmove(s->kept, s->kept + n, s->kept_n);
    return true;
}

void tw_rt_polls_request(struct tw_rt_polls *p, uint32_t asker, const struct tw_addr *remote,
                         const struct tw_poll_request *r)
{
    struct session *s = tw_map_get(&p->by_id, hash_of(p, r->session), has_id, r->session);
    bool begins = !s && r->up == 0 && r->down == 0;
    if (begins)
        s = create(p, r->session, remote);
    if (!s) {
        say(p, asker, begins ? 503 : 410, tw_bytes(NULL, 0));
        return;
    }
    s->heard = tw_rt_now();
    bool ok = r->body.n ? bring(s, r->up, r->body) : confirm(s, r->down);
    if (!ok || (s->over && s->kept_n == 0)) {
        say(p, asker, 410, tw_bytes(NULL, 0));
        end(s);
        return;
    }
    if (r->body.n) {
        say(p, asker, 200, tw_bytes(NULL, 0));
        return;
    }
    if (s->waiting)
        answer(s); /* it asks anew */
    s->waiting = asker;
    s->asked = s->heard;
    if (s->kept_n)
        answer(s);
    watch(s);
}

void tw_rt_polls_gone(struct tw_rt_polls *p, uint32_t asker)
{
    for (struct session *s = p->sessions; s; s = s->next)
        if (s->waiting == asker)
            s->waiting = 0;
}

void tw_rt_polls_tick(struct tw_rt_polls *p)
{
    tw_time now = tw_rt_now();
    for (struct session *s = p->sessions, *next; s; s = next) {
        next = s->next;
        if (s->waiting && now - s->asked >= HOLD)
            answer(s);
        if (now - s->heard >= SILENT)
            end(s);
    }
}

int tw_rt_polls_new(uv_loop_t *loop, const struct tw_rt_polls_ops *ops, void *user, struct tw_rt_polls **ret)
{
    struct tw_rt_polls *p = calloc(1, sizeof(*p));
    if (!p)
        return TW_ENOMEM;
    *p = (struct tw_rt_polls){ .loop = loop, .ops = ops, .user = user };
    struct tw_rng rng = tw_rt_rng();
    tw_map_init(&p->by_id, SESSIONS_MAX);
    tw_hash_key_init(&p->key, &rng);
    *ret = p;
    return 0;
}

void tw_rt_polls_free(struct tw_rt_polls *p)
{
    if (!p)
        return;
    p->freed = true;
    if (!p->sessions) {
        free_polls(p);
        return;
    }
    for (struct session *s = p->sessions; s; s = s->next)
        end(s);
}
