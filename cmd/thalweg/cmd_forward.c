#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"
#include "redial.h"
#include "rt/os.h"
#include "rt/sockaddr.h"

enum { SOCKS_MAX = 600 };

/* A connection that has come to our port: to be joined with a stream once the other side is there, and with
 * --socks once it has said where to. */
struct guest {
    struct guest *next;
    int fd;
    uv_poll_t poll;
    uint8_t in[SOCKS_MAX];
    size_t n;
    bool greeted, asked, closing;
    int64_t stream;      /* -1: none yet */
    char target[SERVICE_TEXT_MAX + 1];
};

static struct forward {
    struct peer peer;
    const char *target;
    char key_and_server[TW_ADDRESS_TEXT_MAX];
    struct redial redial;
    bool ready, socks, udp;
    int fd;
    uv_poll_t poll;
    struct guest *guests;
} f;

static void on_pipe_end(struct peer *p, void *user, const char *why)
{
    (void)user;
    if (why && !p->ending)
        peer_say(p, "thalweg: a connection ended: %s", why);
}

static void on_guest_closed(uv_handle_t *h)
{
    struct guest *g = h->data;
    struct guest **at = &f.guests;
    int fd = g->fd;
    int64_t stream = g->stream;
    bool asked = g->asked;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    free(g);
    if (!asked || stream < 0) {
        close(fd);
        return;
    }
    (void)!pipe_open(&f.peer, f.redial.conn, stream, fd, fd, true, on_pipe_end, NULL);
    tw_rt_endpoint_pump(&f.peer.rt);
}

static void leave(struct guest *g)
{
    if (g->closing)
        return;
    g->closing = true;
    uv_close((uv_handle_t *)&g->poll, on_guest_closed);
}

/* Its stream, if the other side is there. */
static void ask(struct guest *g)
{
    if (!f.ready || g->closing || !g->asked)
        return;
    if (tw_endpoint_open(f.peer.rt.endpoint, tw_rt_now(), f.redial.conn, &g->stream) ||
        service_say(&f.peer, f.redial.conn, g->stream, g->target[0] ? SERVICE_TCP : SERVICE_DEFAULT, g->target))
        g->stream = -1;
    leave(g);
}

/* --- SOCKS5 (RFC 1928), without authentication, CONNECT only -------------------------------------------- */

static void say(struct guest *g, const void *bytes, size_t n)
{
    if (send(g->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
        leave(g);
}

static void fail(struct guest *g, uint8_t code)
{
    const uint8_t reply[] = { 5, code, 0, 1, 0, 0, 0, 0, 0, 0 };
    say(g, reply, sizeof(reply));
    leave(g);
}

static bool read_target(struct guest *g, size_t *ret_used)
{
    struct tw_rd r = tw_rd(tw_bytes(g->in, g->n));
    struct tw_addr a = { 0 };
    char text[TW_ADDR_STRLEN];
    tw_rd_bytes(&r, 3);
    uint8_t kind = tw_rd_u8(&r);
    size_t n = kind == 1 ? 4 : kind == 4 ? 16 : kind == 3 ? tw_rd_u8(&r) : 0;
    struct tw_bytes host = tw_rd_bytes(&r, n);
    unsigned port = tw_rd_u16(&r);
    if (r.error)
        return false;
    if (kind == 3) {
        snprintf(g->target, sizeof(g->target), "%.*s:%u", (int)host.n, (const char *)host.p, port);
    } else {
        a.family = kind == 1 ? TW_FAMILY_V4 : TW_FAMILY_V6;
        memcpy(a.ip, host.p, host.n);
        a.port = (uint16_t)port;
        snprintf(g->target, sizeof(g->target), "%s", tw_addr_format(&a, text));
    }
    *ret_used = g->n - r.n;
    return true;
}

static void on_socks(struct guest *g)
{
    static const uint8_t method[] = { 5, 0 }, yes[] = { 5, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
    size_t used;
    if (!g->greeted) {
        if (g->n < 2 || g->n < 2u + g->in[1])
            return;
        if (g->in[0] != 5 || !memchr(g->in + 2, 0, g->in[1])) {
            leave(g);
            return;
        }
        used = 2u + g->in[1];
        memmove(g->in, g->in + used, g->n - used);
        g->n -= used;
        g->greeted = true;
        say(g, method, sizeof(method));
    }
    if (g->n < 4)
        return;
    if (g->in[1] != 1 || (g->in[3] != 1 && g->in[3] != 3 && g->in[3] != 4)) {
        fail(g, g->in[1] != 1 ? 7 : 8);
        return;
    }
    if (!read_target(g, &used))
        return;
    /* Success is said before the other side has: that saves a round trip; if it says no, the connection
     * ends. */
    g->asked = true;
    say(g, yes, sizeof(yes));
    ask(g);
}

static void on_guest_ready(uv_poll_t *poll, int status, int events)
{
    struct guest *g = poll->data;
    (void)status, (void)events;
    ssize_t n = recv(g->fd, g->in + g->n, sizeof(g->in) - g->n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        leave(g);
        return;
    }
    g->n += (size_t)n;
    on_socks(g);
    if (!g->asked && g->n == sizeof(g->in))
        leave(g);
    if (g->asked && !g->closing)
        uv_poll_stop(poll);
    tw_rt_endpoint_pump(&f.peer.rt);
}

/* --- the port ------------------------------------------------------------------------------------------- */

static void on_accept(uv_poll_t *poll, int status, int events)
{
    int one = 1;
    (void)poll, (void)status, (void)events;
    int fd = accept4(f.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct guest *g = calloc(1, sizeof(*g));
    if (!g) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    g->fd = fd;
    g->stream = -1;
    if (uv_poll_init(f.peer.loop, &g->poll, fd)) {
        close(fd);
        free(g);
        return;
    }
    g->next = f.guests;
    f.guests = g;
    g->poll.data = g;
    if (f.socks) {
        uv_poll_start(&g->poll, UV_READABLE, on_guest_ready);
        return;
    }
    snprintf(g->target, sizeof(g->target), "%s", f.target ? f.target : "");
    g->asked = true;
    ask(g);
    tw_rt_endpoint_pump(&f.peer.rt);
}

static void on_flow_end(struct peer *p, const char *why)
{
    if (why && !p->ending)
        peer_say(p, "thalweg: a flow ended: %s", why);
}

static struct flow *begin_flow(const struct sockaddr_storage *from, socklen_t from_n)
{
    struct peer *p = &f.peer;
    int64_t stream;
    if (!f.ready || tw_endpoint_open(p->rt.endpoint, tw_rt_now(), f.redial.conn, &stream))
        return NULL; /* lost, as UDP may be */
    if (service_say(p, f.redial.conn, stream, SERVICE_UDP, f.target ? f.target : "") ||
        flow_open(p, f.redial.conn, stream, f.fd, from, from_n, true, on_flow_end)) {
        tw_endpoint_reset(p->rt.endpoint, tw_rt_now(), f.redial.conn, stream, 1);
        return NULL;
    }
    return flow_of(p, from, from_n);
}

static void on_datagrams(uv_poll_t *poll, int status, int events)
{
    static uint8_t buf[FLOW_LONGEST];
    (void)poll, (void)status, (void)events;
    for (int i = 0; i < 64; i++) {
        struct sockaddr_storage from = { 0 };
        socklen_t from_n = sizeof(from);
        ssize_t n = recvfrom(f.fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_n);
        if (n < 0)
            break;
        struct flow *flow = flow_of(&f.peer, &from, from_n);
        flow = flow ? flow : begin_flow(&from, from_n);
        if (flow)
            flow_send(flow, tw_bytes(buf, (size_t)n));
    }
    tw_rt_endpoint_pump(&f.peer.rt);
}

/* [HOST:]PORT */
static int open_port(const char *text)
{
    struct sockaddr_storage ss;
    struct tw_addr at = tw_addr_v4(127, 0, 0, 1, 0);
    char *end;
    int one = 1;
    unsigned long port = strtoul(text, &end, 10);
    if (!*end && port && port < 65536) {
        at.port = (uint16_t)port;
    } else if (tw_addr_parse(text, 0, &at) || !at.port) {
        fprintf(stderr, "thalweg: \"%s\" is neither PORT nor IP:PORT\n", text);
        return EXIT_USAGE;
    }
    socklen_t n = tw_rt_sockaddr(&at, &ss);
    f.fd = socket(ss.ss_family, (f.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f.fd >= 0 && !f.udp)
        setsockopt(f.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (f.fd < 0 || bind(f.fd, (struct sockaddr *)&ss, n) || (!f.udp && listen(f.fd, 128))) {
        fprintf(stderr, "thalweg: cannot listen on %s: %s\n", text, strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* --- the other side --------------------------------------------------------------------------------------- */

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    if (ev->type == TW_EP_READY) {
        f.ready = true;
        for (struct guest *g = f.guests, *next; g; g = next) {
            next = g->next;
            ask(g);
        }
    } else if (ev->type == TW_EP_CONNECTED) {
        peer_say(p, "thalweg: connected");
    } else if (ev->type == TW_EP_CLOSED) {
        f.ready = false;
    }
    redial_event(&f.redial, ev);
}

/* ADDRESS[:HOST:PORT] */
static void split_address(const char *text)
{
    size_t n = tw_address_span(text);
    snprintf(f.key_and_server, sizeof(f.key_and_server), "%.*s", (int)n, text);
    f.target = text[n] == ':' ? text + n + 1 : NULL;
}

int cmd_forward(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg forward [options] [IP:]PORT ADDRESS[:HOST:PORT]\n"
        "       thalweg forward [options] --socks [IP:]PORT ADDRESS\n\n"
        "Makes a TCP or, with --udp, a UDP port of this machine lead to what \"thalweg listen\" offers on another\n"
        "one, or to HOST:PORT as seen from there, if it is allowed there (--allow-target); with --socks to whatever a\n"
        "SOCKS5 client asks for. Dials again when the connection is lost.\n\n";
    static struct peer_options o;
    const struct cmd_option options[] = {
        { "--socks", NULL, &f.socks, 0, 0, "be a SOCKS5 proxy" },
        { "--udp", NULL, &f.udp, 0, 0, "a UDP port" },
        PEER_OPTIONS(&o),
        { NULL },
    };
    struct tw_endpoint_config cfg = { 0 };
    struct cmd_operands args = { 2, 2, "which port, and to whom? For example: 8080 ADDRESS:localhost:80", "" };
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &args, &done);
    if (status || done)
        return status;
    if (f.socks && f.udp) {
        fprintf(stderr, "thalweg: --socks is for TCP; --udp leads to one target\n");
        return EXIT_USAGE;
    }
    split_address(args.at[1]);
    status = open_port(args.at[0]);
    if (status)
        return status;
    f.redial.stubborn = true;
    f.peer.verb = argv[0];
    f.peer.on_event = on_event;
    f.peer.serves = true;
    status = peer_open(&f.peer, &o, &cfg, false);
    if (status)
        return status;
    if (tw_rt_watch(f.peer.loop, &f.poll, f.fd, UV_READABLE, f.udp ? on_datagrams : on_accept, NULL)) {
        fprintf(stderr, "thalweg: the port can't be watched: %s\n", strerror(errno));
        peer_end(&f.peer, EXIT_FAILED);
        return peer_run(&f.peer);
    }
    uv_unref((uv_handle_t *)&f.poll);
    status = redial_start(&f.redial, &f.peer, f.key_and_server);
    if (status)
        peer_end(&f.peer, status);
    return peer_run(&f.peer);
}
