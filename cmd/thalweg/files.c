/* What both sides of a transfer of files share. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "rt/os.h"

/* --- the list ---------------------------------------------------------------------------------------- */

bool files_add(struct files_list *l, const struct files_entry *e)
{
    l->names += strlen(e->name);
    if (l->n == FILES_MAX || l->names > FILES_NAMES_MAX)
        return false;
    if ((l->n & (l->n - 1)) == 0) { /* doubles at powers of two */
        struct files_entry *more = realloc(l->at, (l->n ? 2UL * l->n : 1) * sizeof(*more));
        if (!more)
            return false;
        l->at = more;
    }
    l->at[l->n++] = *e;
    l->files += e->kind == FILES_FILE;
    l->bytes += e->size;
    return true;
}

void files_free(struct files_list *l)
{
    for (unsigned i = 0; i < l->n; i++) {
        free(l->at[i].name);
        free(l->at[i].path);
    }
    free(l->at);
    *l = (struct files_list){ 0 };
}

const char *files_name_fault(const char *name, size_t n)
{
    if (n == 0 || n > FILES_NAME_MAX)
        return "it is empty, or too long";
    if (name[0] == '/')
        return "it begins at the root";
    for (size_t at = 0; at <= n;) {
        size_t len = 0;
        while (at + len < n && name[at + len] != '/')
            len++;
        if (len == 0 || len > 255)
            return "a part of it is empty, or too long";
        if (name[at] == '.' && (len == 1 || (len == 2 && name[at + 1] == '.')))
            return "it leads elsewhere";
        at += len + 1;
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127)
            return "it has a control character";
    return NULL;
}

const char *files_shown(const char *name)
{
    static char out[120];
    size_t n = 0;
    for (; *name && n < sizeof(out) - 1; name++)
        out[n++] = (unsigned char)*name < ' ' || *name == 127 ? '?' : *name;
    out[n] = 0;
    return out;
}

/* --- messages ------------------------------------------------------------------------------------- */

/* Collects until there are `need` bytes. */
static int collect(struct peer *p, uint32_t conn, int64_t stream, struct files_in *in, size_t need)
{
    struct tw_bytes b;
    bool end;
    while (in->n < need) {
        if (tw_endpoint_peek(p->rt.endpoint, conn, stream, &b, &end))
            return -1;
        size_t n = b.n < need - in->n ? b.n : need - in->n;
        if (n == 0)
            return end ? -1 : 0;
        memcpy(in->buf + in->n, b.p, n);
        in->n += n;
        tw_endpoint_take(p->rt.endpoint, tw_rt_now(), conn, stream, n);
    }
    return 1;
}

int files_hear(struct peer *p, uint32_t conn, int64_t stream, struct files_in *in, unsigned *ret_type,
               struct tw_bytes *ret_body)
{
    bool end;
    *ret_type = FILES_BYTES;
    if (!in->raw) {
        int got = collect(p, conn, stream, in, FILES_HEAD);
        if (got <= 0)
            return got;
        size_t n = tw_get_u32(in->buf + 1);
        *ret_type = in->buf[0];
        if (*ret_type == FILES_BYTES) {
            in->raw = n;
            in->n = 0;
            if (n == 0 || n > FILES_PIECE)
                return -1;
        } else {
            if (n > FILES_MESSAGE_MAX)
                return -1;
            got = collect(p, conn, stream, in, FILES_HEAD + n);
            if (got <= 0)
                return got;
            *ret_body = tw_bytes(in->buf + FILES_HEAD, n);
            in->n = 0;
            return 1;
        }
    }
    if (tw_endpoint_peek(p->rt.endpoint, conn, stream, ret_body, &end))
        return -1;
    if (ret_body->n > in->raw)
        ret_body->n = in->raw;
    return ret_body->n ? 1 : end ? -1 : 0;
}

void files_took(struct peer *p, uint32_t conn, int64_t stream, struct files_in *in, size_t n)
{
    in->raw -= n;
    tw_endpoint_take(p->rt.endpoint, tw_rt_now(), conn, stream, n);
}

uint8_t *files_say(struct files_out *o, unsigned type, size_t n)
{
    if (o->n + FILES_HEAD + n > o->cap) {
        size_t cap = o->n + FILES_HEAD + n + FILES_PIECE;
        uint8_t *more = realloc(o->buf, cap);
        if (!more)
            return NULL;
        o->buf = more;
        o->cap = cap;
    }
    o->buf[o->n] = (uint8_t)type;
    return o->buf + o->n + FILES_HEAD;
}

void files_said(struct files_out *o, size_t n)
{
    tw_put_u32(o->buf + o->n + 1, (uint32_t)n);
    o->n += FILES_HEAD + n;
}

bool files_flush(struct peer *p, uint32_t conn, int64_t stream, struct files_out *o, bool *ret_gone)
{
    size_t took = 0;
    *ret_gone = o->at < o->n && tw_endpoint_write(p->rt.endpoint, tw_rt_now(), conn, stream,
                                                  tw_bytes(o->buf + o->at, o->n - o->at), false, &took);
    o->at += took;
    if (*ret_gone || o->at < o->n)
        return false;
    o->at = o->n = 0;
    return true;
}

/* --- progress ---------------------------------------------------------------------------------------- */

enum { BAR = 24, SHOW_EVERY_MS = 200, TELL_EVERY_MS = 1000 };

static const char *amount(double bytes, char out[16])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    unsigned u = 0;
    for (; bytes >= 1000 && u < 4; u++)
        bytes /= 1000;
    snprintf(out, 16, u && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

static void clear_line(struct files_progress *g)
{
    if (g->line)
        fputs("\r\033[K", stderr);
    g->line = false;
}

void files_progress(struct files_progress *g, bool now)
{
    char done[16], total[16], rate[16], bar[BAR + 1];
    const struct peer *p = g->peer;
    tw_time at = tw_rt_now();
    if (!now && at - g->shown < (p->o->json ? TELL_EVERY_MS : SHOW_EVERY_MS) * TW_MSEC)
        return;
    g->shown = at;
    double seconds = (double)(at - g->begun) / (double)TW_SEC + 1e-9, speed = (double)g->moved / seconds;
    peer_json(p, "progress", ",\"bytes\":%l,\"total\":%l,\"files\":%u,\"of\":%u,\"bytes_per_s\":%f", g->done, g->total,
              g->files, g->file_n, speed);
    if (!p->ladder)
        return;
    unsigned full = g->total ? (unsigned)(g->done * BAR / g->total) : 0;
    for (unsigned i = 0; i < BAR; i++)
        bar[i] = i < full ? '#' : '-';
    bar[BAR] = 0;
    double left = speed > 0 ? (double)(g->total - g->done) / speed : 0;
    fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s of %s  %s/s  %u:%02u left  %.40s", bar,
            g->total ? 100.0 * (double)g->done / (double)g->total : 100.0, amount((double)g->done, done),
            amount((double)g->total, total), amount(speed, rate), (unsigned)left / 60, (unsigned)left % 60,
            g->name ? files_shown(g->name) : "");
    g->line = true;
}

void files_report(struct files_progress *g, const char *name, uint64_t size, enum files_result r, const char *why)
{
    static const char *const words[] = { "done", "was there", "failed" };
    char text[16];
    g->files++;
    g->failed += r == FILES_FAILED;
    clear_line(g);
    peer_json(g->peer, "file", ",\"name\":%s,\"bytes\":%l,\"result\":%s,\"why\":%s", name, size, words[r], why);
    if (r == FILES_FAILED)
        peer_say(g->peer, "thalweg: %s: %s", files_shown(name), why);
    else if (g->receiving || g->peer->o->verbose)
        peer_say(g->peer, "%s  %s%s", files_shown(name), amount((double)size, text), r == FILES_WAS_THERE ? "  was there" : "");
}

void files_summary(struct files_progress *g)
{
    char moved[16], rate[16];
    double seconds = (double)(tw_rt_now() - g->begun) / (double)TW_SEC + 1e-9;
    clear_line(g);
    peer_json(g->peer, "done", ",\"files\":%u,\"failed\":%u,\"bytes\":%l,\"moved\":%l,\"seconds\":%f", g->files, g->failed,
              g->total, g->moved, seconds);
    peer_say(g->peer, "%s %u file%s, %s in %.1f s (%s/s), each checked by its hash%s", g->receiving ? "got" : "sent",
             g->files - g->failed, g->files - g->failed == 1 ? "" : "s", amount((double)g->moved, moved), seconds,
             amount((double)g->moved / seconds, rate), g->failed ? "; some failed" : "");
}
