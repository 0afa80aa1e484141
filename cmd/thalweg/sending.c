/* The side of a transfer that has the files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "rt/os.h"

struct want {
    uint64_t have;
    uint8_t hash[FILES_HASH];
    bool known, only_same, over;
};

struct sending {
    struct peer *p;
    uint32_t conn;
    int64_t stream;
    const struct files_list *list;
    struct files_progress *g;
    struct want *wants;
    struct files_in in;
    struct files_out out;
    unsigned listed, next, results; /* entries told, the one that is sent, files the other side is done with */
    enum { BETWEEN, HASHING, READING } state;
    int fd;
    uint64_t at;
    crypto_generichash_state hash;
    bool list_ended, idling, over;
    uv_idle_t idle;
    void (*on_end)(struct sending *s, const char *why);
};

static void on_idle(uv_idle_t *i);

static void on_closed(uv_handle_t *h)
{
    struct sending *s = h->data;
    s->on_end = NULL;
    free(s);
}

void sending_free(struct sending *s)
{
    if (s->fd >= 0)
        close(s->fd);
    free(s->wants);
    free(s->out.buf);
    s->over = true;
    uv_close((uv_handle_t *)&s->idle, on_closed);
}

static void finish(struct sending *s, const char *why)
{
    if (s->over)
        return;
    void (*on_end)(struct sending *s, const char *why) = s->on_end;
    sending_free(s);
    on_end(s, why);
}

/* --- what is said ---------------------------------------------------------------------------------- */

static bool say_entry(struct sending *s, const struct files_entry *e)
{
    size_t n = strlen(e->name);
    uint8_t *m = files_say(&s->out, FILES_ENTRY, 19 + n);
    if (!m)
        return false;
    m[0] = (uint8_t)e->kind;
    tw_put_u16(m + 1, (uint16_t)e->mode);
    tw_put_u64(m + 3, e->size);
    tw_put_u64(m + 11, e->mtime);
    memcpy(m + 19, e->name, n);
    files_said(&s->out, 19 + n);
    return true;
}

static void say_begin(struct sending *s, uint64_t from)
{
    uint8_t *m = files_say(&s->out, FILES_BEGIN, 12);
    if (!m)
        return;
    tw_put_u32(m, s->next);
    tw_put_u64(m + 4, from);
    files_said(&s->out, 12);
}

static void say_text(struct sending *s, enum files_type type, const void *text, size_t n)
{
    uint8_t *m = files_say(&s->out, type, n);
    if (!m)
        return;
    memcpy(m, text, n);
    files_said(&s->out, n);
}

static void end_file(struct sending *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->state = BETWEEN;
    s->next++;
}

static void broken(struct sending *s, const char *why)
{
    say_text(s, FILES_BROKEN, why, strlen(why));
    end_file(s);
}

/* --- a file -------------------------------------------------------------------------------------------- */

static void begin_file(struct sending *s)
{
    const struct files_entry *e = &s->list->at[s->next];
    const struct want *w = &s->wants[s->next];
    struct stat st;
    s->g->name = e->name;
    s->fd = open(e->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (s->fd < 0 || fstat(s->fd, &st) || !S_ISREG(st.st_mode)) {
        int err = errno;
        say_begin(s, 0);
        broken(s, s->fd < 0 ? strerror(err) : "it is no file any more");
        return;
    }
    crypto_generichash_init(&s->hash, NULL, 0, FILES_HASH);
    s->at = 0;
    s->state = HASHING;
    if (w->have == 0) {
        say_begin(s, 0);
        s->state = READING;
    }
}

/* What the other side has already: is it the beginning of this file? */
static void hash_some(struct sending *s)
{
    static uint8_t buf[FILES_SLICE];
    const struct want *w = &s->wants[s->next];
    uint8_t hash[FILES_HASH];
    size_t want = w->have - s->at < sizeof(buf) ? (size_t)(w->have - s->at) : sizeof(buf);
    ssize_t n = read(s->fd, buf, want);
    if (n > 0) {
        crypto_generichash_update(&s->hash, buf, (size_t)n);
        s->at += (uint64_t)n;
    }
    if (n > 0 && s->at < w->have)
        return;
    crypto_generichash_state so_far = s->hash;
    crypto_generichash_final(&so_far, hash, sizeof(hash));
    if (n > 0 && memcmp(hash, w->hash, sizeof(hash)) == 0) {
        s->g->done += s->at;
        say_begin(s, s->at);
        s->state = READING;
    } else if (w->only_same) {
        s->g->done += s->list->at[s->next].size;
        say_begin(s, FILES_NOT);
        end_file(s);
    } else { /* another file of that name: all of it */
        lseek(s->fd, 0, SEEK_SET);
        s->at = 0;
        crypto_generichash_init(&s->hash, NULL, 0, FILES_HASH);
        say_begin(s, 0);
        s->state = READING;
    }
}

static void read_some(struct sending *s)
{
    const struct files_entry *e = &s->list->at[s->next];
    uint8_t hash[FILES_HASH];
    if (s->at == e->size) {
        crypto_generichash_final(&s->hash, hash, sizeof(hash));
        say_text(s, FILES_END, hash, sizeof(hash));
        end_file(s);
        return;
    }
    size_t want = e->size - s->at < FILES_PIECE ? (size_t)(e->size - s->at) : FILES_PIECE;
    uint8_t *m = files_say(&s->out, FILES_BYTES, want);
    ssize_t n = m ? read(s->fd, m, want) : -1;
    if (n <= 0) {
        broken(s, n == 0 ? "it became shorter while it was read" : strerror(errno));
        return;
    }
    files_said(&s->out, (size_t)n);
    crypto_generichash_update(&s->hash, m, (size_t)n);
    s->at += (uint64_t)n;
    s->g->done += (uint64_t)n;
    s->g->moved += (uint64_t)n;
}

/* The next thing to say. False: there is none now. */
static bool produce(struct sending *s)
{
    if (s->listed < s->list->n)
        return say_entry(s, &s->list->at[s->listed++]);
    if (!s->list_ended) {
        s->list_ended = true;
        say_text(s, FILES_LIST_END, "", 0);
        return true;
    }
    while (s->next < s->list->n && s->state == BETWEEN &&
           (s->list->at[s->next].kind != FILES_FILE ||
            (s->wants[s->next].known && s->wants[s->next].have == FILES_NOT))) {
        s->g->done += s->list->at[s->next].size;
        s->next++;
    }
    if (s->next == s->list->n || (s->state == BETWEEN && !s->wants[s->next].known))
        return false;
    if (s->state == BETWEEN)
        begin_file(s);
    else if (s->state == HASHING)
        hash_some(s);
    else
        read_some(s);
    return true;
}

static void go_on(struct sending *s)
{
    bool gone = false, more = true;
    unsigned slices = 0;
    while (!s->over && more && files_flush(s->p, s->conn, s->stream, &s->out, &gone)) {
        slices += s->state == HASHING;
        if (slices > 4)
            break; /* others get their turn */
        more = produce(s);
    }
    files_progress(s->g, false);
    bool idle = s->state == HASHING && slices > 4;
    if (idle != s->idling && !s->over) {
        if (idle)
            uv_idle_start(&s->idle, on_idle);
        else
            uv_idle_stop(&s->idle);
        s->idling = idle;
    }
    if (gone)
        finish(s, "the stream broke off");
}

static void on_idle(uv_idle_t *i)
{
    struct sending *s = i->data;
    go_on(s);
    tw_rt_endpoint_pump(&s->p->rt);
}

/* --- what is heard ---------------------------------------------------------------------------------- */

static bool on_message(struct sending *s, unsigned type, struct tw_bytes body)
{
    struct tw_rd r = tw_rd(body);
    uint32_t i = tw_rd_u32(&r);
    char why[200];
    if (r.error || i >= s->list->n || s->list->at[i].kind != FILES_FILE)
        return false;
    struct want *w = &s->wants[i];
    const struct files_entry *e = &s->list->at[i];
    if (type == FILES_WANT && !w->known) {
        w->have = tw_rd_u64(&r);
        struct tw_bytes hash = tw_rd_bytes(&r, FILES_HASH);
        w->only_same = tw_rd_u8(&r);
        if (r.error || (w->have > e->size && w->have != FILES_NOT))
            return false;
        memcpy(w->hash, hash.p, FILES_HASH);
        w->known = true;
        return true;
    }
    if (type != FILES_RESULT || w->over)
        return false;
    unsigned result = tw_rd_u8(&r);
    struct tw_bytes text = tw_rd_bytes(&r, r.n);
    if (r.error || result > FILES_FAILED)
        return false;
    snprintf(why, sizeof(why), "%.*s", (int)text.n, (const char *)text.p);
    snprintf(why, sizeof(why), "%s", files_shown(why));
    w->over = true;
    s->results++;
    files_report(s->g, e->name, e->size, (enum files_result)result, why);
    return true;
}

/* The other side has said of every file what came of it. */
static bool all_done(const struct sending *s)
{
    return s->list_ended && s->results == s->list->files && s->out.n == 0;
}

static void hear(struct sending *s)
{
    unsigned type;
    struct tw_bytes body;
    int got;
    while (!s->over && !all_done(s) && (got = files_hear(s->p, s->conn, s->stream, &s->in, &type, &body)) != 0) {
        if (got < 0 || type == FILES_BYTES || !on_message(s, type, body)) {
            finish(s, got < 0 ? "the other side ended in the middle" : "the other side says nonsense");
            return;
        }
    }
}

void sending_event(struct sending *s, const struct tw_endpoint_event *ev)
{
    size_t n;
    if (s->over)
        return;
    if (ev->type == TW_EP_CLOSED || ev->type == TW_EP_ENDED) {
        finish(s, ev->why && *ev->why ? ev->why : "the stream broke off");
        return;
    }
    hear(s);
    if (!s->over)
        go_on(s);
    if (!s->over && all_done(s)) {
        (void)!tw_endpoint_write(s->p->rt.endpoint, tw_rt_now(), s->conn, s->stream, tw_bytes(NULL, 0), true, &n);
        finish(s, NULL);
    }
}

struct sending *sending_new(struct peer *p, uint32_t conn, int64_t stream, const struct files_list *list,
                            struct files_progress *g, void (*on_end)(struct sending *s, const char *why))
{
    struct sending *s = calloc(1, sizeof(*s));
    struct want *wants = calloc(list->n + 1UL, sizeof(*wants));
    if (!s || !wants) {
        free(s);
        free(wants);
        return NULL;
    }
    *s = (struct sending){ .p = p, .conn = conn, .stream = stream, .list = list, .g = g, .wants = wants, .fd = -1,
                           .on_end = on_end };
    uv_idle_init(p->loop, &s->idle);
    s->idle.data = s;
    return s;
}
