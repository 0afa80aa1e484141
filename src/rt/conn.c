#include "rt/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <thalweg/error.h>

static int read_plain(struct conn *c, uint8_t *to, size_t cap, size_t *ret_n)
{
    ssize_t n = recv(c->fd, to, cap, MSG_DONTWAIT);
    if (n > 0)
        *ret_n = (size_t)n;
    if (n == 0)
        return TW_EFULL;
    return n > 0 || errno == EAGAIN || errno == EINTR ? 0 : TW_ESYS;
}

static int read_tls(struct conn *c, uint8_t *to, size_t cap, size_t *ret_n)
{
    while (*ret_n < cap) {
        ssize_t n = gnutls_record_recv(c->tls, to + *ret_n, cap - *ret_n);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            return 0;
        if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
            return *ret_n ? 0 : TW_EFULL;
        if (n < 0 && !gnutls_error_is_fatal((int)n))
            continue;
        if (n < 0)
            return TW_ECRYPTO; /* renegotiation is not asked for, and not done */
        *ret_n += (size_t)n;
    }
    return 0;
}

int conn_read(struct conn *c, uint8_t *to, size_t cap, size_t *ret_n)
{
    *ret_n = 0;
    return c->tls ? read_tls(c, to, cap, ret_n) : read_plain(c, to, cap, ret_n);
}

/* --- what waits ---------------------------------------------------------------------------------- */

/* Messages in out, in their order. What is before `from` stood there when the socket took no more: it is sent as it is. */
struct conn_waiting {
    uint32_t from;       /* where in out the first one begins */
    uint32_t n, cap;
    uint32_t len[];      /* with KEEP, if it must not be lost */
};
enum { RECORD = 16384 }; /* bytes that TLS takes at once */
#define KEEP (1U << 31)

static void begin_waiting(struct conn *c)
{
    enum { FIRST = 64 };
    struct conn_waiting *w = malloc(sizeof(*w) + FIRST * sizeof(w->len[0]));
    if (!w)
        return; /* then the newest are lost */
    *w = (struct conn_waiting){ .from = c->out_n, .cap = FIRST };
    c->waiting = w;
}

/* False: no memory, and nothing is known of what waits any more. */
static bool remember(struct conn *c, size_t n, bool keep)
{
    struct conn_waiting *w = c->waiting;
    if (w && w->n == w->cap) {
        w = realloc(w, sizeof(*w) + 2 * w->cap * sizeof(w->len[0]));
        if (!w)
            return false;
        w->cap *= 2;
        c->waiting = w;
    }
    if (w)
        w->len[w->n++] = (uint32_t)n | (keep ? KEEP : 0);
    return true;
}

/* What the socket has taken is forgotten; of what has begun the rest must follow. */
static void forget_written(struct conn *c)
{
    struct conn_waiting *w = c->waiting;
    uint32_t gone = 0;
    while (gone < w->n && w->from + (w->len[gone] & ~KEEP) <= c->out_at)
        w->from += w->len[gone++] & ~KEEP;
    w->n -= gone;
    memmove(w->len, w->len + gone, w->n * sizeof(w->len[0]));
    if (w->n && w->from < c->out_at) {
        w->len[0] = (w->len[0] - (c->out_at - w->from)) | KEEP;
        w->from = c->out_at;
    }
}

/* Takes old datagrams out, until there is so much room, if they are enough. Returns how many. */
static unsigned drop_oldest(struct conn *c, uint32_t want)
{
    struct conn_waiting *w = c->waiting;
    uint32_t at, to, freed = 0, kept = 0, fixed = c->out_at + (c->in_flight ? RECORD : 0);
    unsigned dropped = 0;
    if (!w)
        return 0;
    at = to = w->from;
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t len = w->len[i] & ~KEEP;
        if (freed < want && at >= fixed && !(w->len[i] & KEEP)) {
            freed += len;
            dropped++;
        } else {
            memmove(c->out + to, c->out + at, len);
            to += len;
            w->len[kept++] = w->len[i];
        }
        at += len;
    }
    w->n = kept;
    c->out_n = to;
    return dropped;
}

static bool grow(struct conn *c, uint32_t need)
{
    uint32_t cap = c->out_cap ? c->out_cap : 2048;
    if (c->out_at) {
        memmove(c->out, c->out + c->out_at, c->out_n - c->out_at);
        c->out_n -= c->out_at;
        if (c->waiting)
            c->waiting->from -= c->out_at;
        c->out_at = 0;
    }
    while (cap < c->out_n + need)
        cap *= 2;
    if (cap == c->out_cap)
        return true;
    uint8_t *out = realloc(c->out, cap);
    if (!out)
        return false;
    c->out = out;
    c->out_cap = cap;
    return true;
}

static size_t length_of(const struct tw_bytes *iov, size_t iov_n)
{
    size_t n = 0;
    for (size_t i = 0; i < iov_n; i++)
        n += iov[i].n;
    return n;
}

static bool put(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max, bool keep)
{
    size_t n = length_of(iov, iov_n);
    if (n > max || conn_pending(c) > max - n || (c->out_n + n > c->out_cap && !grow(c, (uint32_t)n)) || !remember(c, n, keep))
        return false;
    for (size_t i = 0; i < iov_n; i++) {
        if (iov[i].n)
            memcpy(c->out + c->out_n, iov[i].p, iov[i].n);
        c->out_n += (uint32_t)iov[i].n;
    }
    return true;
}

bool conn_put(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max)
{
    return put(c, iov, iov_n, max, true);
}

unsigned conn_put_datagram(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max)
{
    size_t n = length_of(iov, iov_n);
    unsigned lost = 0;
    if (n <= max && conn_pending(c) > max - n)
        lost = drop_oldest(c, (uint32_t)n + max / 4); /* several at once: each time costs as much as is kept */
    return lost + !put(c, iov, iov_n, max, false);
}

static ssize_t write_some(struct conn *c)
{
    if (!c->tls)
        return send(c->fd, c->out + c->out_at, c->out_n - c->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* GnuTLS keeps a record that the socket did not take, and wants to be asked with nothing. */
    ssize_t n = c->in_flight
                    ? gnutls_record_send(c->tls, NULL, 0)
                    : gnutls_record_send(c->tls, c->out + c->out_at, c->out_n - c->out_at);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
        c->in_flight = true;
        errno = EAGAIN;
        return -1;
    }
    c->in_flight = false;
    errno = EPROTO;
    return n < 0 ? -1 : n;
}

int conn_write(struct conn *c)
{
    while (c->out_at < c->out_n) {
        ssize_t n = write_some(c);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (!c->waiting)
                begin_waiting(c);
            return 0;
        }
        if (n < 0)
            return TW_ESYS;
        c->out_at += (uint32_t)n;
        c->written += (uint64_t)n;
        if (c->waiting)
            forget_written(c);
    }
    conn_free_out(c); /* memory is for those who need it now */
    return 0;
}

void conn_free_out(struct conn *c)
{
    free(c->out);
    free(c->waiting);
    c->out = NULL;
    c->waiting = NULL;
    c->out_n = c->out_at = c->out_cap = 0;
}

int conn_handshake(struct conn *c)
{
    for (;;) {
        int err = gnutls_handshake(c->tls);
        if (err == 0)
            return 1;
        if (err == GNUTLS_E_AGAIN || err == GNUTLS_E_INTERRUPTED)
            return 0;
        if (gnutls_error_is_fatal(err))
            return TW_ECRYPTO;
    }
}
