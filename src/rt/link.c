#include "rt/link.h"

#include <errno.h>
#include <gnutls/dtls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include <thalweg/error.h>

#include "rt/sockaddr.h"

enum { IN_MAX = 2 * TW_RT_CONN_FRAME, OUT_MAX = 1 << 20, DTLS_MTU = 1400, DTLS_DATA_MTU = 16384 };

static void on_ready(uv_poll_t *p, int status, int events);

static bool is_datagram(const struct tw_rt_link *l)
{
    return l->cfg.transport == TW_TRANSPORT_DTLS;
}

static void watch(struct tw_rt_link *l)
{
    if (l->over)
        return;
    bool out = l->connecting || conn_pending(&l->conn) > 0;
    uv_poll_start(&l->poll, UV_READABLE | (out ? UV_WRITABLE : 0), on_ready);
}

static void over(struct tw_rt_link *l, const char *why)
{
    if (l->over)
        return;
    l->over = true;
    l->open = false;
    uv_poll_stop(&l->poll);
    l->events->on_over(l, why);
}

static void opened(struct tw_rt_link *l)
{
    l->open = true;
    if (is_datagram(l))
        gnutls_dtls_set_mtu(l->conn.tls, DTLS_DATA_MTU);
    l->events->on_open(l);
}

/* Who the server is: as the certificate says, or as the library puts what is wrong with it. */
static const char *why_untrusted(const struct tw_rt_link *l)
{
    static char text[256];
    gnutls_datum_t said;
    unsigned status = gnutls_session_get_verify_cert_status(l->conn.tls);
    if (status == 0 || status == (unsigned)-1 ||
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &said, 0) < 0)
        return "the TLS handshake failed";
    snprintf(text, sizeof(text), "%s", (const char *)said.data);
    gnutls_free(said.data);
    return text;
}

/* The certificate's key must be the one that was named. */
static bool is_pinned(const struct tw_rt_link *l)
{
    uint8_t pin[32];
    return !l->cfg.pin || (tw_rt_tls_peer_pin(l->conn.tls, pin) && memcmp(pin, l->pin, TW_RT_PIN) == 0);
}

static void shake_hands(struct tw_rt_link *l)
{
    int step = conn_handshake(&l->conn);
    if (step < 0)
        over(l, why_untrusted(l));
    else if (step > 0 && !is_pinned(l))
        over(l, "the server has another certificate than the pin after # says");
    else if (step > 0)
        opened(l);
}

static void connected(struct tw_rt_link *l)
{
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(l->conn.fd, SOL_SOCKET, SO_ERROR, &error, &n) || error) {
        over(l, strerror(error ? error : errno));
        return;
    }
    l->connecting = false;
    if (l->conn.tls)
        shake_hands(l);
    else
        opened(l);
}

/* True: there may be more. */
static bool read_some(struct tw_rt_link *l)
{
    size_t n, room = is_datagram(l) ? TW_RT_CONN_FRAME : IN_MAX - l->in_n;
    int err = 0;
    if (is_datagram(l)) {
        ssize_t got = gnutls_record_recv(l->conn.tls, l->in, room);
        n = got > 0 ? (size_t)got : 0;
        err = got == 0 || (got < 0 && gnutls_error_is_fatal((int)got)) ? TW_EFULL : 0;
    } else {
        err = conn_read(&l->conn, l->in + l->in_n, room, &n);
    }
    if (err) {
        over(l, err == TW_EFULL ? "the server closed the connection" : "the connection broke");
        return false;
    }
    if (n == 0)
        return false;
    l->in_n += n;
    size_t used = l->events->on_data(l, tw_bytes(l->in, l->in_n));
    if (is_datagram(l))
        used = l->in_n;
    memmove(l->in, l->in + used, l->in_n - used);
    l->in_n -= used;
    if (l->in_n == IN_MAX)
        over(l, "the server sends something that is not TURN");
    return !l->over && (is_datagram(l) || n == room ||
                        (l->conn.tls && gnutls_record_check_pending(l->conn.tls) > 0));
}

static void on_ready(uv_poll_t *p, int status, int events)
{
    struct tw_rt_link *l = p->data;
    (void)status;
    if (l->connecting)
        connected(l);
    else if (!l->open)
        shake_hands(l);
    if (l->open && events & UV_WRITABLE && conn_write(&l->conn))
        over(l, "the connection broke");
    while (l->open && read_some(l)) {
    }
    watch(l);
}

static int start_tls(struct tw_rt_link *l, unsigned side)
{
    unsigned flags = side | GNUTLS_NONBLOCK | (is_datagram(l) ? GNUTLS_DATAGRAM : 0u);
    int err = tw_rt_tls_session(l->cfg.tls, flags, &l->conn.tls);
    struct tw_addr ip;
    if (err)
        return err;
    if (l->cfg.alpn) {
        gnutls_datum_t alpn = { (uint8_t *)(uintptr_t)l->cfg.alpn, (unsigned)strlen(l->cfg.alpn) };
        gnutls_alpn_set_protocols(l->conn.tls, &alpn, 1, 0);
    }
    gnutls_transport_set_int(l->conn.tls, l->conn.fd);
    if (l->host[0] && !l->cfg.pin)
        gnutls_session_set_verify_cert(l->conn.tls, l->host, 0);
    if (l->host[0] && tw_addr_parse(l->host, 0, &ip)) /* RFC 6066 §3: names only */
        gnutls_server_name_set(l->conn.tls, GNUTLS_NAME_DNS, l->host, strlen(l->host));
    if (is_datagram(l)) {
        gnutls_dtls_set_mtu(l->conn.tls, DTLS_MTU);
        gnutls_dtls_set_timeouts(l->conn.tls, 500, 10000);
    }
    return 0;
}

static int open_socket(struct tw_rt_link *l)
{
    struct sockaddr_storage ss;
    int one = 1, type = is_datagram(l) ? SOCK_DGRAM : SOCK_STREAM;
    l->conn.fd = socket(l->cfg.server.family == TW_FAMILY_V4 ? AF_INET : AF_INET6,
                        type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->conn.fd < 0)
        return TW_ESYS;
    if (!is_datagram(l))
        setsockopt(l->conn.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (l->cfg.local.port && !is_datagram(l)) /* somebody listens there */
        setsockopt(l->conn.fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (l->cfg.local.family &&
        bind(l->conn.fd, (struct sockaddr *)&ss, tw_rt_sockaddr(&l->cfg.local, &ss)))
        return TW_ESYS;
    if (connect(l->conn.fd, (struct sockaddr *)&ss, tw_rt_sockaddr(&l->cfg.server, &ss)) &&
        errno != EINPROGRESS)
        return TW_ESYS;
    l->connecting = true;
    return 0;
}

int tw_rt_link_open(struct tw_rt_link *l, uv_loop_t *loop, const struct tw_rt_link_config *cfg,
                    const struct tw_rt_link_events *events, void *user)
{
    *l = (struct tw_rt_link){ .cfg = *cfg, .events = events, .user = user, .conn.fd = -1 };
    if (cfg->host)
        snprintf(l->host, sizeof(l->host), "%s", cfg->host);
    if (cfg->pin)
        memcpy(l->pin, cfg->pin, TW_RT_PIN);
    l->in = malloc(IN_MAX);
    int err = l->in ? open_socket(l) : TW_ENOMEM;
    if (!err && cfg->transport != TW_TRANSPORT_TCP)
        err = start_tls(l, GNUTLS_CLIENT);
    if (!err && uv_poll_init(loop, &l->poll, l->conn.fd))
        err = TW_ESYS;
    if (err) {
        int keep = errno;
        if (l->conn.fd >= 0)
            close(l->conn.fd);
        free(l->in);
        errno = keep;
        return err;
    }
    l->poll.data = l;
    watch(l);
    return 0;
}

int tw_rt_link_adopt(struct tw_rt_link *l, uv_loop_t *loop, int fd, const struct tw_addr *remote,
                     struct tw_rt_tls *tls, const char *alpn, const struct tw_rt_link_events *events,
                     void *user)
{
    int one = 1;
    *l = (struct tw_rt_link){ .cfg = { .transport = tls ? TW_TRANSPORT_TLS : TW_TRANSPORT_TCP,
                                       .server = *remote, .tls = tls, .alpn = alpn },
                              .events = events, .user = user, .conn.fd = fd, .open = !tls };
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    l->in = malloc(IN_MAX);
    int err = l->in ? 0 : TW_ENOMEM;
    if (!err && tls)
        err = start_tls(l, GNUTLS_SERVER);
    if (!err && uv_poll_init(loop, &l->poll, fd))
        err = TW_ESYS;
    if (err) {
        if (l->conn.tls)
            gnutls_deinit(l->conn.tls);
        free(l->in);
        return err;
    }
    l->poll.data = l;
    watch(l);
    return 0;
}

size_t tw_rt_link_pending(const struct tw_rt_link *l)
{
    return conn_pending(&l->conn);
}

bool tw_rt_link_send(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n)
{
    if (!l->open || !conn_put(&l->conn, iov, iov_n, OUT_MAX))
        return false;
    if (conn_write(&l->conn)) {
        over(l, "the connection broke");
        return false;
    }
    watch(l);
    return true;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct tw_rt_link *l = h->data;
    if (l->conn.tls)
        gnutls_deinit(l->conn.tls);
    close(l->conn.fd);
    free(l->conn.out);
    free(l->in);
    l->in = NULL;
    if (l->on_closed)
        l->on_closed(l);
}

void tw_rt_link_close(struct tw_rt_link *l, void (*on_closed)(struct tw_rt_link *l))
{
    if (l->open && l->conn.tls)
        gnutls_bye(l->conn.tls, GNUTLS_SHUT_WR);
    l->open = false;
    l->over = true;
    l->on_closed = on_closed;
    uv_close((uv_handle_t *)&l->poll, on_handle_closed);
}
