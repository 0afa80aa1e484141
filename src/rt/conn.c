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

static bool grow(struct conn *c, uint32_t need)
{
    uint32_t cap = c->out_cap ? c->out_cap : 2048;
    if (c->out_at) {
        memmove(c->out, c->out + c->out_at, c->out_n - c->out_at);
        c->out_n -= c->out_at;
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

bool conn_put(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < iov_n; i++)
        n += iov[i].n;
    if (n > max || conn_pending(c) > max - n ||
        (c->out_n + n > c->out_cap && !grow(c, (uint32_t)n)))
        return false;
    for (size_t i = 0; i < iov_n; i++) {
        if (iov[i].n)
            memcpy(c->out + c->out_n, iov[i].p, iov[i].n);
        c->out_n += (uint32_t)iov[i].n;
    }
    return true;
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
        c->in_flight = 1;
        errno = EAGAIN;
        return -1;
    }
    c->in_flight = 0;
    errno = EPROTO;
    return n < 0 ? -1 : n;
}

int conn_write(struct conn *c)
{
    while (c->out_at < c->out_n) {
        ssize_t n = write_some(c);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : TW_ESYS;
        c->out_at += (uint32_t)n;
    }
    /* Memory is for those who need it now. */
    free(c->out);
    c->out = NULL;
    c->out_n = c->out_at = c->out_cap = 0;
    return 0;
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
