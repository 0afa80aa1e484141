#include "rt/link.h"

#include <errno.h>
#include <gnutls/dtls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include <thalweg/error.h>

#include "rt/os.h"
#include "rt/sockaddr.h"

enum {
    IN_MAX = 2 * TW_RT_CONN_FRAME,
    GATHER = 16000,          /* bytes of a WebSocket message: with its head in one record of TLS */
    RAW = 16384,
    UNSENT = 128 << 10,      /* that wait in the kernel: what is queued there is late */
    FIRST_TLS = 22,          /* RFC 7983 §7 */
    DTLS_MTU = 1400,
    DTLS_DATA_MTU = 16384,
};

static void on_ready(uv_poll_t *p, int status, int events);

static bool is_datagram(const struct tw_rt_link *l)
{
    return l->cfg.transport == TW_TRANSPORT_DTLS;
}

static void watch(struct tw_rt_link *l)
{
    if (l->over)
        return;
    bool out = l->step == LINK_CONNECTS || conn_pending(&l->conn) > 0;
    int events = UV_READABLE | (out ? UV_WRITABLE : 0);
    if (events != l->watched)
        uv_poll_start(&l->poll, events, on_ready);
    l->watched = events;
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
    l->step = LINK_STANDS;
    l->open = true;
    if (is_datagram(l))
        gnutls_dtls_set_mtu(l->conn.tls, DTLS_DATA_MTU);
    l->events->on_open(l);
}

/* As the library puts what is wrong with the certificate; NULL: nothing. */
static const char *why_untrusted(const struct tw_rt_link *l)
{
    static char text[256];
    gnutls_datum_t said;
    unsigned status = 0;
    if (!l->host[0] || l->cfg.pin)
        return NULL;
    if (gnutls_certificate_verify_peers3(l->conn.tls, l->host, &status))
        return "its certificate cannot be checked";
    if (status == 0)
        return NULL;
    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &said, 0) < 0)
        return "its certificate is not to be trusted";
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

static int start_tls(struct tw_rt_link *l, unsigned side);

static void look_at_wait(struct tw_rt_link *l)
{
    if (l->open && tw_rt_wait_over(&l->wait, &l->conn, tw_rt_now()))
        l->events->on_wait(l, l->wait.smoothed);
}

/* --- one layer after the other --------------------------------------------------------------------- */

static uint32_t queue_limit(const struct tw_rt_link *l)
{
    return l->cfg.queue ? l->cfg.queue : TW_RT_LINK_QUEUE;
}

static bool put(struct tw_rt_link *l, const struct tw_bytes *iov, size_t n)
{
    return conn_put(&l->conn, iov, n, queue_limit(l));
}

static void say(struct tw_rt_link *l, struct tw_bytes out)
{
    if (!l->over && out.n && (!put(l, &out, 1) || conn_write(&l->conn)))
        over(l, "the connection broke");
}

/* Raw bytes or TLS's, until something is there. */
static bool read_raw(struct tw_rt_link *l, uint8_t *to, size_t cap, size_t *ret_n)
{
    int err = conn_read(&l->conn, to, cap, ret_n);
    if (err)
        over(l, err == TW_EFULL ? "the server closed the connection" : "the connection broke");
    return !err && *ret_n;
}

/* What came goes to the owner; what of it was not used waits for more. */
static void hand_on(struct tw_rt_link *l)
{
    size_t used = l->events->on_data(l, tw_bytes(l->in, l->in_n));
    if (is_datagram(l))
        used = l->in_n;
    memmove(l->in, l->in + used, l->in_n - used);
    l->in_n -= used;
}

static void take_messages(struct tw_rt_link *l)
{
    struct tw_ws_event ev;
    while (!l->over && tw_ws_poll_event(l->ws, &ev)) {
        if (ev.type == TW_WS_REQUEST) {
            tw_ws_answer(l->ws, l->events->on_request(l, (const char *)ev.data.p));
            say(l, tw_ws_out(l->ws));
        } else if (ev.type == TW_WS_OPEN) {
            opened(l);
        } else if (ev.type == TW_WS_CLOSED) {
            say(l, tw_ws_out(l->ws));
            over(l, ev.why);
        } else if (ev.data.n > IN_MAX - l->in_n) {
            over(l, "the other side sends something else than what was agreed");
        } else {
            if (ev.data.n)
                memcpy(l->in + l->in_n, ev.data.p, ev.data.n);
            l->in_n += ev.data.n;
            hand_on(l);
        }
    }
}

static void feed_ws(struct tw_rt_link *l, struct tw_bytes in)
{
    tw_ws_recv(l->ws, in);
    say(l, tw_ws_out(l->ws));
    take_messages(l);
}

static void start_ws(struct tw_rt_link *l)
{
    l->step = LINK_WS;
    say(l, tw_ws_out(l->ws));
}

static void after_tls(struct tw_rt_link *l)
{
    if (l->ws_any)
        l->step = LINK_LOOKS_INSIDE;
    else if (l->ws)
        start_ws(l);
    else
        opened(l);
}

static void shake_hands(struct tw_rt_link *l)
{
    int step = conn_handshake(&l->conn);
    if (step < 0)
        over(l, "the TLS handshake failed");
    if (step <= 0)
        return;
    l->doubt = !is_pinned(l) ? "the server has another certificate than the pin after # says" : why_untrusted(l);
    if (l->doubt && !l->cfg.lenient)
        over(l, l->doubt);
    else
        after_tls(l);
}

static void after_connection(struct tw_rt_link *l)
{
    if (l->cfg.transport == TW_TRANSPORT_TCP) {
        after_tls(l);
        return;
    }
    l->step = LINK_TLS;
    if (start_tls(l, GNUTLS_CLIENT))
        over(l, "out of memory");
    else
        shake_hands(l);
}

static int open_socket(struct tw_rt_link *l, int *ret_fd);

/* The proxy has closed, or will: what was learned from it goes over another connection. */
static void connect_again(struct tw_rt_link *l)
{
    int fd;
    uv_poll_stop(&l->poll);
    l->watched = 0;
    if (open_socket(l, &fd)) {
        over(l, strerror(errno));
        return;
    }
    dup2(fd, l->conn.fd);
    close(fd);
    tw_proxy_restart(l->proxy);
    l->step = LINK_CONNECTS;
}

static void talk_to_proxy(struct tw_rt_link *l)
{
    uint8_t buf[4096];
    size_t n, used;
    while (!l->over && l->step == LINK_PROXY) {
        ssize_t got = recv(l->conn.fd, buf, sizeof(buf), MSG_DONTWAIT);
        n = got > 0 ? (size_t)got : 0;
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n == 0) {
            over(l, "the proxy closed the connection");
            return;
        }
        switch (tw_proxy_recv(l->proxy, tw_bytes(buf, n), &used)) {
        case TW_PROXY_MORE:
            say(l, tw_proxy_out(l->proxy));
            break;
        case TW_PROXY_DONE:
            if (used < n) /* nobody here lets the server speak first */
                over(l, "what answered through the proxy is not that server");
            else
                after_connection(l);
            break;
        case TW_PROXY_AGAIN:
            connect_again(l);
            return;
        case TW_PROXY_FAILED:
            over(l, tw_proxy_why(l->proxy));
            break;
        }
    }
}

static void connected(struct tw_rt_link *l)
{
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(l->conn.fd, SOL_SOCKET, SO_ERROR, &error, &n) || error) {
        over(l, strerror(error ? error : errno));
    } else if (l->proxy) {
        l->step = LINK_PROXY;
        say(l, tw_proxy_out(l->proxy));
    } else {
        after_connection(l);
    }
}

static void read_preface(struct tw_rt_link *l)
{
    uint8_t first[1024];
    ssize_t n = recv(l->conn.fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    size_t used = n > 0 ? l->events->on_preface(l, tw_bytes(first, (size_t)n)) : TW_RT_PREFACE_BAD;
    if (used == TW_RT_PREFACE_BAD) {
        over(l, "the connection was closed");
        return;
    }
    if (used == 0)
        return;
    if (used != TW_RT_PREFACE_NONE)
        (void)!recv(l->conn.fd, first, used, MSG_DONTWAIT);
    l->step = l->after_preface;
    l->open = l->step == LINK_STANDS;
}

/* RFC 4571's lengths and STUN begin with a byte below those of letters. */
static void look_at_first_byte(struct tw_rt_link *l)
{
    uint8_t first;
    ssize_t n = recv(l->conn.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        over(l, "the connection was closed");
    } else if (first == FIRST_TLS && l->cfg.tls) {
        l->cfg.transport = TW_TRANSPORT_TLS;
        l->step = LINK_TLS;
        if (start_tls(l, GNUTLS_SERVER))
            over(l, "out of memory");
        else
            shake_hands(l);
    } else {
        l->step = LINK_LOOKS_INSIDE;
    }
}

static void look_inside(struct tw_rt_link *l)
{
    uint8_t buf[RAW];
    size_t n;
    if (!read_raw(l, buf, sizeof(buf), &n))
        return;
    if (buf[0] >= 'A' && buf[0] <= 'Z') {
        l->ws = l->ws_any;
        l->ws_any = NULL;
        l->step = LINK_WS;
        feed_ws(l, tw_bytes(buf, n));
        return;
    }
    opened(l);
    memcpy(l->in, buf, n);
    l->in_n = n;
    if (!l->over)
        hand_on(l);
}

/* --- reading ------------------------------------------------------------------------------------------ */

static bool read_ws(struct tw_rt_link *l)
{
    uint8_t buf[RAW];
    size_t n;
    if (!read_raw(l, buf, sizeof(buf), &n))
        return false;
    feed_ws(l, tw_bytes(buf, n));
    return !l->over && (n == sizeof(buf) || (l->conn.tls && gnutls_record_check_pending(l->conn.tls) > 0));
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
    hand_on(l);
    if (l->in_n == IN_MAX)
        over(l, "the server sends something that is not TURN");
    return !l->over && (is_datagram(l) || n == room ||
                        (l->conn.tls && gnutls_record_check_pending(l->conn.tls) > 0));
}

static void on_ready(uv_poll_t *p, int status, int events)
{
    struct tw_rt_link *l = p->data;
    (void)status;
    if (l->step == LINK_CONNECTS)
        connected(l);
    if (!l->over && l->step == LINK_PREFACE)
        read_preface(l);
    if (!l->over && l->step == LINK_PROXY)
        talk_to_proxy(l);
    if (!l->over && l->step == LINK_LOOKS)
        look_at_first_byte(l);
    if (!l->over && l->step == LINK_TLS)
        shake_hands(l);
    if (!l->over && l->step > LINK_TLS && events & UV_WRITABLE && conn_write(&l->conn))
        over(l, "the connection broke");
    if (!l->over && l->step == LINK_LOOKS_INSIDE)
        look_inside(l);
    while (!l->over && l->ws && l->step >= LINK_WS && read_ws(l)) {
    }
    while (l->open && !l->ws && read_some(l)) {
    }
    watch(l);
    look_at_wait(l);
}

static int start_tls(struct tw_rt_link *l, unsigned side)
{
    unsigned flags = side | GNUTLS_NONBLOCK | (is_datagram(l) ? GNUTLS_DATAGRAM : 0u);
    int err = tw_rt_tls_session(l->cfg.tls, flags, l->cfg.alpn, &l->conn.tls);
    struct tw_addr ip;
    if (err)
        return err;
    gnutls_transport_set_int(l->conn.tls, l->conn.fd);
    const char *name = l->cfg.sni ? l->cfg.sni : l->host;
    if (*name && tw_addr_parse(name, 0, &ip)) /* RFC 6066 §3: names only */
        gnutls_server_name_set(l->conn.tls, GNUTLS_NAME_DNS, name, strlen(name));
    if (is_datagram(l)) {
        gnutls_dtls_set_mtu(l->conn.tls, DTLS_MTU);
        gnutls_dtls_set_timeouts(l->conn.tls, 500, 10000);
    }
    return 0;
}

static int open_socket(struct tw_rt_link *l, int *ret_fd)
{
    struct sockaddr_storage ss;
    int one = 1, unsent = UNSENT, type = is_datagram(l) ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(l->cfg.server.family == TW_FAMILY_V4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return TW_ESYS;
    if (!is_datagram(l)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    }
    if (l->cfg.local.port && !is_datagram(l)) /* somebody listens there */
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if ((l->cfg.local.family && bind(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(&l->cfg.local, &ss))) ||
        (connect(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(&l->cfg.server, &ss)) && errno != EINPROGRESS)) {
        int keep = errno;
        close(fd);
        errno = keep;
        return TW_ESYS;
    }
    *ret_fd = fd;
    return 0;
}

static void let_go(struct tw_rt_link *l)
{
    if (l->conn.tls)
        gnutls_deinit(l->conn.tls);
    tw_proxy_free(l->proxy);
    tw_ws_free(l->ws);
    tw_ws_free(l->ws_any);
    free(l->gathered);
    conn_free_out(&l->conn);
    free(l->in);
    l->in = NULL;
}

static int begin(struct tw_rt_link *l, uv_loop_t *loop)
{
    if (uv_poll_init(loop, &l->poll, l->conn.fd))
        return TW_ESYS;
    l->poll.data = l;
    watch(l);
    return 0;
}

/* What its layers need. */
static int prepare(struct tw_rt_link *l, const struct tw_rt_link_config *cfg, struct tw_ws **to)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    l->in = malloc(IN_MAX);
    int err = l->in ? 0 : TW_ENOMEM;
    if (!err && cfg->ws)
        err = tw_ws_new(cfg->ws, &env, to);
    if (!err && cfg->ws && !(l->gathered = malloc(GATHER)))
        err = TW_ENOMEM;
    if (!err && cfg->proxy)
        err = tw_proxy_new(cfg->proxy, cfg->target, cfg->target_port, &env, &l->proxy);
    l->cfg.proxy = NULL;
    l->cfg.ws = NULL;
    l->cfg.target = NULL;
    return err;
}

int tw_rt_link_open(struct tw_rt_link *l, uv_loop_t *loop, const struct tw_rt_link_config *cfg,
                    const struct tw_rt_link_events *events, void *user)
{
    *l = (struct tw_rt_link){ .cfg = *cfg, .events = events, .user = user, .conn.fd = cfg->fd ? cfg->fd : -1 };
    if (cfg->host)
        snprintf(l->host, sizeof(l->host), "%s", cfg->host);
    if (cfg->pin)
        memcpy(l->pin, cfg->pin, TW_RT_PIN);
    int err = prepare(l, cfg, &l->ws);
    if (!err && !cfg->fd)
        err = open_socket(l, &l->conn.fd);
    err = err ? err : begin(l, loop);
    if (err) {
        int keep = errno;
        if (l->conn.fd >= 0)
            close(l->conn.fd);
        let_go(l);
        errno = keep;
    }
    return err;
}

static int adopt(struct tw_rt_link *l, uv_loop_t *loop, int fd, const struct tw_rt_link_config *cfg, enum link_step step,
                 const struct tw_rt_link_events *events, void *user)
{
    int one = 1, unsent = UNSENT;
    *l = (struct tw_rt_link){ .cfg = *cfg, .events = events, .user = user, .conn.fd = fd, .step = step,
                              .open = step == LINK_STANDS };
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    int err = prepare(l, cfg, &l->ws_any);
    if (!err && step == LINK_TLS)
        err = start_tls(l, GNUTLS_SERVER);
    if (events->on_preface) {
        l->after_preface = step;
        l->step = LINK_PREFACE;
        l->open = false;
    }
    err = err ? err : begin(l, loop);
    if (err)
        let_go(l);
    return err;
}

int tw_rt_link_adopt(struct tw_rt_link *l, uv_loop_t *loop, int fd, const struct tw_addr *remote,
                     struct tw_rt_tls *tls, const char *alpn, const struct tw_rt_link_events *events,
                     void *user)
{
    const struct tw_rt_link_config cfg = { .transport = tls ? TW_TRANSPORT_TLS : TW_TRANSPORT_TCP, .server = *remote,
                                           .tls = tls, .alpn = alpn };
    return adopt(l, loop, fd, &cfg, tls ? LINK_TLS : LINK_STANDS, events, user);
}

int tw_rt_link_adopt_any(struct tw_rt_link *l, uv_loop_t *loop, int fd, const struct tw_addr *remote,
                         const struct tw_rt_link_any *any, const struct tw_rt_link_events *events, void *user)
{
    const struct tw_rt_link_config cfg = { .transport = TW_TRANSPORT_TCP, .server = *remote, .tls = any->tls,
                                           .alpn = TW_RT_ALPN_WEB, .ws = any->ws };
    return adopt(l, loop, fd, &cfg, LINK_LOOKS, events, user);
}

void tw_rt_link_detach(struct tw_rt_link *l, int *ret_fd, gnutls_session_t *ret_session)
{
    *ret_fd = l->conn.fd;
    *ret_session = l->conn.tls;
    uv_poll_stop(&l->poll);
    l->open = false;
    l->over = true;
    l->conn.fd = -1;
    l->conn.tls = NULL;
}

size_t tw_rt_link_pending(const struct tw_rt_link *l)
{
    return conn_pending(&l->conn);
}

/* False: something was lost. */
static bool put_message(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n, bool data)
{
    struct tw_bytes framed;
    if (l->ws) {
        if (tw_ws_send_stream(l->ws, iov, iov_n, GATHER))
            return false;
        framed = tw_ws_out(l->ws);
        iov = &framed;
        iov_n = 1;
    }
    return data ? conn_put_datagram(&l->conn, iov, iov_n, queue_limit(l)) == 0 : put(l, iov, iov_n);
}

static void send_gathered(struct tw_rt_link *l)
{
    const struct tw_bytes all = tw_bytes(l->gathered, l->gathered_n);
    l->gathered_n = 0;
    if (all.n)
        (void)!put_message(l, &all, 1, l->gathered_data);
}

/* Small ones share a message of a WebSocket: each costs its head, and a pass of the other side's. */
static void gather(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n, size_t n, bool data)
{
    if (n > GATHER - l->gathered_n || data != l->gathered_data)
        send_gathered(l);
    l->gathered_data = data;
    if (n > GATHER) {
        (void)!put_message(l, iov, iov_n, data);
        return;
    }
    for (size_t i = 0; i < iov_n; i++) {
        if (iov[i].n)
            memcpy(l->gathered + l->gathered_n, iov[i].p, iov[i].n);
        l->gathered_n += iov[i].n;
    }
}

void tw_rt_link_put(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n, bool data)
{
    size_t n = 0;
    for (size_t i = 0; i < iov_n; i++)
        n += iov[i].n;
    if (!l->open || n == 0)
        return;
    if (l->ws)
        gather(l, iov, iov_n, n, data);
    else
        (void)!put_message(l, iov, iov_n, data && !is_datagram(l));
    if (is_datagram(l)) /* each is a record */
        tw_rt_link_flush(l);
}

void tw_rt_link_flush(struct tw_rt_link *l)
{
    if (!l->open)
        return;
    send_gathered(l);
    if (l->over)
        return;
    if (l->events->on_wait && conn_pending(&l->conn))
        tw_rt_wait_begin(&l->wait, &l->conn, tw_rt_now());
    if (conn_pending(&l->conn) && conn_write(&l->conn)) {
        over(l, "the connection broke");
        return;
    }
    watch(l);
    look_at_wait(l);
}

bool tw_rt_link_send(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n)
{
    if (!l->open)
        return false;
    send_gathered(l);
    if (!put_message(l, iov, iov_n, false))
        return false;
    tw_rt_link_flush(l);
    return l->open;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct tw_rt_link *l = h->data;
    if (l->conn.fd >= 0)
        close(l->conn.fd);
    let_go(l);
    if (l->on_closed)
        l->on_closed(l);
}

void tw_rt_link_close(struct tw_rt_link *l, void (*on_closed)(struct tw_rt_link *l))
{
    if (l->open && l->ws) {
        tw_ws_close(l->ws);
        say(l, tw_ws_out(l->ws));
    }
    if (l->open && l->conn.tls)
        gnutls_bye(l->conn.tls, GNUTLS_SHUT_WR);
    l->open = false;
    l->over = true;
    l->on_closed = on_closed;
    uv_close((uv_handle_t *)&l->poll, on_handle_closed);
}
