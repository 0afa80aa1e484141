/* The side of a transfer that gets the files. It believes nothing: names stay inside the folder, nothing is written
 * over unless it was asked to, and what has no right hash does not get its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "rt/os.h"

#define PART ".thalweg-part"

struct got {
    crypto_generichash_state *hash; /* of what was there; NULL: nothing was */
    uint64_t have;
    bool whole, over;               /* whole: a file of that size has that name already */
};

struct receiving {
    struct peer *p;
    uint32_t conn;
    int64_t stream;
    int folder;
    bool overwrite;
    struct files_list list;
    struct files_progress g;
    struct got *got;
    struct files_in in;
    struct files_out out;
    unsigned asked;                 /* entries asked for */
    int ask_fd;                     /* being hashed, to ask for the rest; -1: none */
    int fd;                         /* being received; -1: none, or it failed */
    unsigned index;
    uint64_t at;
    crypto_generichash_state hash;
    enum { BETWEEN, WRITING, COMPARING, DISCARDING } state;
    bool list_ended, idling, ended, over;
    uv_idle_t idle;
    void (*on_end)(struct receiving *r, const char *why);
    void *user;
};

static void on_idle(uv_idle_t *i);

static void on_closed(uv_handle_t *h)
{
    struct receiving *r = h->data;
    files_free(&r->list);
    free(r);
}

void receiving_free(struct receiving *r)
{
    if (r->fd >= 0)
        close(r->fd);
    if (r->ask_fd >= 0)
        close(r->ask_fd);
    for (unsigned i = 0; r->got && i < r->list.n; i++)
        free(r->got[i].hash);
    free(r->got);
    free(r->out.buf);
    close(r->folder);
    r->over = true;
    uv_close((uv_handle_t *)&r->idle, on_closed);
}

static void finish(struct receiving *r, const char *why)
{
    if (r->over)
        return;
    if (!why)
        files_summary(&r->g);
    r->on_end(r, why);
    receiving_free(r);
}

/* --- places ------------------------------------------------------------------------------------------- */

/* The folder that a name is in, made if missing, and the name's last part. No link is followed. -1: errno. */
static int open_parent(const struct receiving *r, const char *name, const char **ret_leaf)
{
    int at = dup(r->folder);
    for (const char *slash; at >= 0 && (slash = strchr(name, '/')); name = slash + 1) {
        char part[256];
        snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
        int next = mkdirat(at, part, 0777) && errno != EEXIST
                       ? -1
                       : openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(at);
        errno = saved;
        at = next;
    }
    *ret_leaf = name;
    return at;
}

static bool part_name(const char *leaf, char part[256 + sizeof(PART)])
{
    snprintf(part, 256 + sizeof(PART), "%s" PART, leaf);
    return strlen(part) <= 255;
}

static int take_name(const struct receiving *r, int parent, const char *part, const char *leaf)
{
    if (r->overwrite)
        return renameat(parent, part, parent, leaf);
    if (linkat(parent, part, parent, leaf, 0)) { /* never over another one */
        if (errno == EEXIST || renameat2(parent, part, parent, leaf, RENAME_NOREPLACE))
            return -1;
        return 0;
    }
    return unlinkat(parent, part, 0);
}

/* --- what is said ---------------------------------------------------------------------------------------- */

static void say_result(struct receiving *r, unsigned i, enum files_result result, const char *why)
{
    size_t n = strlen(why);
    uint8_t *m = files_say(&r->out, FILES_RESULT, 5 + n);
    if (r->got[i].over || !m)
        return;
    r->got[i].over = true;
    free(r->got[i].hash);
    r->got[i].hash = NULL;
    tw_put_u32(m, i);
    m[4] = (uint8_t)result;
    memcpy(m + 5, why, n);
    files_said(&r->out, 5 + n);
    files_report(&r->g, r->list.at[i].name, r->list.at[i].size, result, why);
}

static void say_want(struct receiving *r, unsigned i, uint64_t have, bool only_same)
{
    uint8_t *m = files_say(&r->out, FILES_WANT, 12 + FILES_HASH + 1);
    if (!m)
        return;
    tw_put_u32(m, i);
    tw_put_u64(m + 4, have);
    memset(m + 12, 0, FILES_HASH);
    if (r->got[i].hash) {
        crypto_generichash_state so_far = *r->got[i].hash;
        crypto_generichash_final(&so_far, m + 12, FILES_HASH);
    }
    m[12 + FILES_HASH] = only_same;
    files_said(&r->out, 12 + FILES_HASH + 1);
}

static void refuse(struct receiving *r, unsigned i, const char *why)
{
    say_want(r, i, FILES_NOT, false);
    say_result(r, i, FILES_FAILED, why);
    r->g.done += r->list.at[i].size;
}

/* --- asking ------------------------------------------------------------------------------------------- */

/* Whether there is something already: the file, or the beginning of it. Opens it to be hashed. */
static void look(struct receiving *r, unsigned i)
{
    const struct files_entry *e = &r->list.at[i];
    char part[256 + sizeof(PART)];
    const char *leaf;
    struct stat st;
    int parent = open_parent(r, e->name, &leaf);
    if (parent < 0 || !part_name(leaf, part)) {
        refuse(r, i, parent < 0 ? strerror(errno) : "its name is too long");
    } else if (!fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) &&
               !(S_ISREG(st.st_mode) && ((uint64_t)st.st_size == e->size || r->overwrite))) {
        refuse(r, i, S_ISREG(st.st_mode) ? "another one is there already (--overwrite replaces it)"
                                         : "something that is no file has that name there");
    } else {
        r->got[i].whole = !fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) && (uint64_t)st.st_size == e->size;
        r->ask_fd = openat(parent, r->got[i].whole ? leaf : part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (r->ask_fd >= 0 && (fstat(r->ask_fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > e->size)) {
            close(r->ask_fd);
            r->ask_fd = -1;
        }
        r->got[i].hash = r->ask_fd >= 0 ? malloc(sizeof(*r->got[i].hash)) : NULL;
        if (r->got[i].hash)
            crypto_generichash_init(r->got[i].hash, NULL, 0, FILES_HASH);
        else if (r->ask_fd < 0)
            r->got[i].whole = false;
    }
    if (parent >= 0)
        close(parent);
}

/* One step of asking. False: nothing is left. */
static bool ask(struct receiving *r)
{
    static uint8_t buf[FILES_SLICE];
    if (r->asked == r->list.n)
        return false;
    unsigned i = r->asked;
    struct got *g = &r->got[i];
    const struct files_entry *e = &r->list.at[i];
    if (r->ask_fd >= 0) {
        ssize_t n = g->hash ? read(r->ask_fd, buf, sizeof(buf)) : 0;
        if (n > 0) {
            crypto_generichash_update(g->hash, buf, (size_t)n);
            g->have += (uint64_t)n;
            return true;
        }
        close(r->ask_fd);
        r->ask_fd = -1;
    } else if (e->kind == FILES_FOLDER) {
        const char *leaf;
        int parent = open_parent(r, e->name, &leaf);
        if (parent < 0 || (mkdirat(parent, leaf, 0777) && errno != EEXIST))
            peer_say(r->p, "thalweg: %s: %s", files_shown(e->name), strerror(errno));
        if (parent >= 0)
            close(parent);
        r->asked++;
        return true;
    } else if (!g->over) {
        look(r, i);
        if (r->ask_fd >= 0)
            return true;
    }
    r->asked++;
    if (!g->over && g->have > e->size) /* it grew meanwhile */
        refuse(r, i, "somebody else writes to it");
    else if (!g->over)
        say_want(r, i, g->have, g->whole && !r->overwrite);
    return true;
}

/* --- receiving -------------------------------------------------------------------------------------------- */

static void fail(struct receiving *r, const char *why)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    say_result(r, r->index, FILES_FAILED, why);
    r->g.done += r->list.at[r->index].size - r->at;
    r->state = DISCARDING;
}

static void open_part(struct receiving *r, uint64_t from)
{
    const struct files_entry *e = &r->list.at[r->index];
    struct got *g = &r->got[r->index];
    char part[256 + sizeof(PART)];
    const char *leaf;
    int parent = open_parent(r, e->name, &leaf);
    if (parent >= 0 && part_name(leaf, part))
        r->fd = openat(parent, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int err = errno;
    if (parent >= 0)
        close(parent);
    if (r->fd < 0)
        fail(r, strerror(err));
    else if (flock(r->fd, LOCK_EX | LOCK_NB))
        fail(r, "it is being received already");
    else if (ftruncate(r->fd, (off_t)from) || lseek(r->fd, (off_t)from, SEEK_SET) < 0)
        fail(r, strerror(errno));
    else if (from)
        r->hash = *g->hash;
    else
        crypto_generichash_init(&r->hash, NULL, 0, FILES_HASH);
}

static bool on_begin(struct receiving *r, struct tw_bytes body)
{
    struct tw_rd rd = tw_rd(body);
    uint32_t i = tw_rd_u32(&rd);
    uint64_t from = tw_rd_u64(&rd);
    if (rd.error || r->state != BETWEEN || i >= r->asked || r->list.at[i].kind != FILES_FILE || r->got[i].over)
        return false;
    r->index = i;
    r->at = 0;
    r->g.name = r->list.at[i].name;
    const struct got *g = &r->got[i];
    if (from == FILES_NOT) {
        fail(r, "another one is there already (--overwrite replaces it)");
        r->state = BETWEEN;
        return true;
    }
    if (from != 0 && from != g->have)
        return false;
    r->at = from;
    r->g.done += from;
    r->state = g->whole && from == g->have ? COMPARING : WRITING;
    if (r->state == COMPARING)
        r->hash = *g->hash;
    else
        open_part(r, from);
    return true;
}

static bool on_bytes(struct receiving *r, struct tw_bytes body)
{
    if (r->state == DISCARDING)
        return true;
    if (r->state != WRITING || body.n > r->list.at[r->index].size - r->at)
        return false;
    for (size_t at = 0; at < body.n;) {
        ssize_t n = write(r->fd, body.p + at, body.n - at);
        if (n < 0) {
            fail(r, strerror(errno));
            return true;
        }
        at += (size_t)n;
    }
    crypto_generichash_update(&r->hash, body.p, body.n);
    r->at += body.n;
    r->g.done += body.n;
    r->g.moved += body.n;
    return true;
}

/* It is whole: gives it its name. */
static const char *settle(struct receiving *r)
{
    const struct files_entry *e = &r->list.at[r->index];
    const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)e->mtime } };
    char part[256 + sizeof(PART)];
    const char *leaf;
    mode_t mask = umask(0);
    umask(mask);
    (void)!fchmod(r->fd, (e->mode & 0777 & ~mask) | 0600);
    (void)!futimens(r->fd, times);
    int parent = open_parent(r, e->name, &leaf);
    bool ok = parent >= 0 && part_name(leaf, part) && take_name(r, parent, part, leaf) == 0;
    int err = errno;
    if (parent >= 0)
        close(parent);
    bool closed = close(r->fd) == 0;
    r->fd = -1;
    return ok && closed ? NULL : strerror(ok ? errno : err);
}

static bool on_file_end(struct receiving *r, struct tw_bytes theirs)
{
    uint8_t hash[FILES_HASH];
    if (r->state == DISCARDING) {
        r->state = BETWEEN;
        return true;
    }
    if (r->state == BETWEEN || theirs.n != FILES_HASH || r->at != r->list.at[r->index].size)
        return false;
    crypto_generichash_final(&r->hash, hash, sizeof(hash));
    if (memcmp(hash, theirs.p, sizeof(hash)) != 0) {
        if (r->fd >= 0 && ftruncate(r->fd, 0)) {
        }
        fail(r, "its hash is wrong: it changed while it was sent; send it again");
    } else if (r->state == COMPARING) {
        say_result(r, r->index, FILES_WAS_THERE, "");
    } else {
        const char *why = settle(r);
        say_result(r, r->index, why ? FILES_FAILED : FILES_DONE, why ? why : "");
    }
    r->state = BETWEEN;
    return true;
}

static bool on_entry(struct receiving *r, struct tw_bytes body)
{
    struct tw_rd rd = tw_rd(body);
    struct files_entry e = { .kind = (enum files_kind)tw_rd_u8(&rd) };
    e.mode = tw_rd_u16(&rd) & 0777;
    e.size = tw_rd_u64(&rd);
    e.mtime = tw_rd_u64(&rd);
    struct tw_bytes name = tw_rd_bytes(&rd, rd.n);
    const char *fault = rd.error ? "it is cut off" : files_name_fault((const char *)name.p, name.n);
    if (r->list_ended || (e.kind != FILES_FOLDER && e.kind != FILES_FILE) || e.size > INT64_MAX ||
        (e.kind == FILES_FOLDER && e.size))
        return false;
    if (fault) {
        peer_say(r->p, "thalweg: the other side sends a bad name: %s; nothing more is taken from it", fault);
        return false;
    }
    e.name = strndup((const char *)name.p, name.n);
    if (e.name && files_add(&r->list, &e))
        return true;
    free(e.name);
    return false;
}

static bool on_list_end(struct receiving *r)
{
    if (r->list_ended || !(r->got = calloc(r->list.n + 1UL, sizeof(*r->got))))
        return false;
    r->g.total = r->list.bytes;
    r->g.file_n = r->list.files;
    r->g.begun = tw_rt_now();
    r->list_ended = true;
    return true;
}

static bool on_message(struct receiving *r, unsigned type, struct tw_bytes body)
{
    char why[200];
    switch (type) {
    case FILES_ENTRY:
        return on_entry(r, body);
    case FILES_LIST_END:
        return on_list_end(r);
    case FILES_BEGIN:
        return r->list_ended && on_begin(r, body);
    case FILES_BYTES:
        return on_bytes(r, body);
    case FILES_END:
        return on_file_end(r, body);
    case FILES_BROKEN:
        snprintf(why, sizeof(why), "%.*s", body.n < 150 ? (int)body.n : 150, (const char *)body.p);
        if (r->state == WRITING || r->state == COMPARING)
            fail(r, files_shown(why));
        r->state = BETWEEN;
        return true;
    default:
        return false;
    }
}

static void hear(struct receiving *r)
{
    unsigned type;
    struct tw_bytes body;
    int got;
    while (!r->over && (got = files_hear(r->p, r->conn, r->stream, &r->in, &type, &body)) != 0) {
        if (got < 0 && r->ended) {
            finish(r, NULL);
            return;
        }
        if (got < 0 || !on_message(r, type, body)) {
            finish(r, got < 0 ? "the other side ended in the middle" : "the other side says nonsense");
            return;
        }
        if (type == FILES_BYTES)
            files_took(r->p, r->conn, r->stream, &r->in, body.n);
        files_progress(&r->g, false);
    }
}

static void go_on(struct receiving *r)
{
    bool gone = false, more = true;
    size_t n;
    hear(r);
    for (unsigned slices = 0; !r->over && r->list_ended && more && slices < 4;) {
        if (!files_flush(r->p, r->conn, r->stream, &r->out, &gone))
            break;
        slices += r->ask_fd >= 0;
        more = ask(r);
    }
    if (!r->over)
        files_flush(r->p, r->conn, r->stream, &r->out, &gone);
    if (!r->over && r->list_ended && !r->ended && r->g.files == r->list.files && r->asked == r->list.n && !r->out.n) {
        r->ended = true;
        (void)!tw_endpoint_write(r->p->rt.endpoint, tw_rt_now(), r->conn, r->stream, tw_bytes(NULL, 0), true, &n);
    }
    bool idle = !r->over && r->ask_fd >= 0;
    if (idle != r->idling && !r->over) {
        if (idle)
            uv_idle_start(&r->idle, on_idle);
        else
            uv_idle_stop(&r->idle);
        r->idling = idle;
    }
    if (gone)
        finish(r, "the stream broke off");
}

static void on_idle(uv_idle_t *i)
{
    struct receiving *r = i->data;
    go_on(r);
    tw_rt_endpoint_pump(&r->p->rt);
}

void receiving_event(struct receiving *r, const struct tw_endpoint_event *ev)
{
    if (r->over)
        return;
    if (ev->type == TW_EP_CLOSED || ev->type == TW_EP_ENDED)
        finish(r, r->ended ? NULL : ev->why && *ev->why ? ev->why : "the stream broke off");
    else
        go_on(r);
}

void *receiving_user(const struct receiving *r)
{
    return r->user;
}

const struct files_progress *receiving_progress(const struct receiving *r)
{
    return &r->g;
}

struct receiving *receiving_new(struct peer *p, uint32_t conn, int64_t stream, int folder, bool overwrite,
                                void (*on_end)(struct receiving *r, const char *why), void *user)
{
    struct receiving *r = calloc(1, sizeof(*r));
    int own = dup(folder);
    if (!r || own < 0) {
        free(r);
        if (own >= 0)
            close(own);
        return NULL;
    }
    *r = (struct receiving){ .p = p, .conn = conn, .stream = stream, .folder = own, .overwrite = overwrite, .fd = -1,
                             .ask_fd = -1, .on_end = on_end, .user = user,
                             .g = { .peer = p, .receiving = true, .begun = tw_rt_now() } };
    uv_idle_init(p->loop, &r->idle);
    r->idle.data = r;
    return r;
}
