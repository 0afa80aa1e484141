#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thalweg/relay.h>

#include "access.h"
#include "flow.h"
#include "rt/os.h"
#include "rt/sockaddr.h"

/* A stream whose wish is not known yet, is being granted (a socket is connected), or is to be echoed. */
struct wish {
    struct wish *next;
    uint32_t conn;
    int64_t stream;
    enum { WISH_ASKED, WISH_LOOKUP, WISH_CONNECT, WISH_ECHO, WISH_DEAD } state;
    uv_getaddrinfo_t lookup;
    uv_poll_t poll;
    struct addrinfo *found, *at;
    int fd;
    bool udp, anywhere;  /* anywhere: allowed by "*" only, so on the open Internet only */
};

static struct listen {
    struct peer peer;
    struct peer_options o;
    struct access access;
    struct cmd_list targets;
    const char *forward, *exec;
    bool echo, stdio, i_know, stdio_taken;
    unsigned peers;
    uv_signal_t child;
    struct wish *wishes;
} l;

static void forget(struct wish *w)
{
    struct wish **at = &l.wishes;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->found)
        uv_freeaddrinfo(w->found);
    free(w);
}

/* No, and why. */
static void refuse(struct wish *w, const char *why)
{
    size_t n;
    if (!service_say(&l.peer, w->conn, w->stream, 1, why))
        (void)!tw_endpoint_write(l.peer.rt.endpoint, tw_rt_now(), w->conn, w->stream, tw_bytes(NULL, 0), true, &n);
    forget(w);
}

static void on_pipe_end(struct peer *p, void *user, const char *why)
{
    if (why && p->o->verbose && !p->ending)
        peer_say(p, "thalweg: a stream ended: %s", why);
    if (user && !p->ending)
        peer_end(p, why ? EXIT_FAILED : EXIT_OK);
}

/* Yes; user: the whole program ends with it. */
static void join(struct wish *w, int in, int out, void *user)
{
    uint32_t conn = w->conn;
    int64_t stream = w->stream;
    forget(w);
    (void)!service_say(&l.peer, conn, stream, 0, "");
    (void)!pipe_open(&l.peer, conn, stream, in, out, false, on_pipe_end, user);
}

/* --- echo ------------------------------------------------------------------------------------------- */

static void echo(struct wish *w)
{
    struct tw_endpoint *e = l.peer.rt.endpoint;
    struct tw_bytes b;
    size_t n;
    bool end;
    for (;;) {
        if (tw_endpoint_peek(e, w->conn, w->stream, &b, &end) || (b.n == 0 && !end))
            return;
        if (tw_endpoint_write(e, tw_rt_now(), w->conn, w->stream, b, end, &n)) {
            forget(w);
            return;
        }
        bool all = n == b.n;
        tw_endpoint_take(e, tw_rt_now(), w->conn, w->stream, n);
        if (end && all) {
            forget(w);
            return;
        }
        if (!all)
            return; /* WRITABLE comes */
    }
}

/* --- programs --------------------------------------------------------------------------------------- */

static void on_child(uv_signal_t *s, int number)
{
    (void)s, (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

static void run_program(struct wish *w)
{
    struct tw_endpoint_conn c;
    char key[TW_ADDRESS_LEN + 1] = "";
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        refuse(w, "out of descriptors");
        return;
    }
    if (!tw_endpoint_conn(l.peer.rt.endpoint, w->conn, &c))
        tw_key_format(&c.key, key);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pair[1], 0);
        dup2(pair[1], 1);
        setenv("THALWEG_PEER", key, 1);
        execl("/bin/sh", "sh", "-c", l.exec, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    if (pid > 0) {
        join(w, pair[0], pair[0], NULL);
        return;
    }
    close(pair[0]);
    refuse(w, "no process could be started");
}

/* --- TCP -------------------------------------------------------------------------------------------- */

static void try_address(struct wish *w);

static void on_poll_closed(uv_handle_t *h)
{
    struct wish *w = h->data;
    int fd = w->fd, error = 0;
    socklen_t n = sizeof(error);
    if (w->state == WISH_DEAD) {
        close(fd);
        forget(w);
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) || error) {
        close(fd);
        w->at = w->at->ai_next;
        try_address(w);
    } else {
        join(w, fd, fd, NULL);
    }
    tw_rt_endpoint_pump(&l.peer.rt);
}

static void on_connected(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    uv_close((uv_handle_t *)poll, on_poll_closed);
}

/* It is where the wish may go. */
static bool is_allowed(const struct wish *w, const struct addrinfo *to)
{
    struct sockaddr_storage ss = { 0 };
    memcpy(&ss, to->ai_addr, to->ai_addrlen);
    struct tw_addr a = tw_rt_addr(&ss);
    return !w->anywhere || tw_relay_is_public(&a);
}

/* UDP: connected at once. */
static void join_flow(struct wish *w)
{
    uint32_t conn = w->conn;
    int64_t stream = w->stream;
    int fd = w->fd;
    if (l.peer.flow_n >= FLOW_MAX) {
        close(fd);
        refuse(w, "too many flows");
        return;
    }
    forget(w);
    if (service_say(&l.peer, conn, stream, 0, "") || flow_open(&l.peer, conn, stream, fd, NULL, 0, false, NULL))
        close(fd);
}

static void try_address(struct wish *w)
{
    int one = 1;
    bool any = false;
    for (; w->at; w->at = w->at->ai_next) {
        if (!is_allowed(w, w->at))
            continue;
        any = true;
        w->fd = socket(w->at->ai_family, (w->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (w->fd < 0)
            continue;
        if (!w->udp)
            setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (!connect(w->fd, w->at->ai_addr, w->at->ai_addrlen) || errno == EINPROGRESS) {
            if (w->udp) {
                join_flow(w);
                return;
            }
            if (!tw_rt_watch(l.peer.loop, &w->poll, w->fd, UV_WRITABLE, on_connected, w)) {
                w->state = WISH_CONNECT;
                return;
            }
        }
        close(w->fd);
    }
    refuse(w, any || !w->found || !w->anywhere
                  ? "the target does not answer"
                  : "that target is not on the open Internet, and not named here (--allow-target)");
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct wish *w = req->data;
    w->found = found;
    if (w->state == WISH_DEAD) {
        forget(w);
        return;
    }
    w->at = status ? NULL : found;
    try_address(w);
    tw_rt_endpoint_pump(&l.peer.rt);
}

/* HOST:PORT, the host maybe in brackets. */
static bool split_target(const char *target, char *host, size_t cap, const char **ret_port)
{
    const char *colon = strrchr(target, ':');
    size_t n = colon ? (size_t)(colon - target) : 0;
    if (n >= 2 && target[0] == '[' && target[n - 1] == ']') {
        target++;
        n -= 2;
    }
    if (!colon || !colon[1] || n == 0 || n >= cap)
        return false;
    memcpy(host, target, n);
    host[n] = 0;
    *ret_port = colon + 1;
    return true;
}

static void connect_to(struct wish *w, const char *target)
{
    const struct addrinfo hints = { .ai_socktype = w->udp ? SOCK_DGRAM : SOCK_STREAM };
    char host[256];
    const char *port;
    if (!split_target(target, host, sizeof(host), &port)) {
        refuse(w, "that is not HOST:PORT");
        return;
    }
    w->state = WISH_LOOKUP;
    w->lookup.data = w;
    if (uv_getaddrinfo(l.peer.loop, &w->lookup, on_looked_up, host, port, &hints))
        refuse(w, "the target's name can't be looked up");
}

/* Only what was named, "HOST:*" standing for any port; "*" is anything on the open Internet. */
static bool is_target(const char *target, bool *ret_anywhere)
{
    const char *colon = strrchr(target, ':');
    *ret_anywhere = false;
    if (l.forward && !strcmp(l.forward, target))
        return true;
    for (unsigned i = 0; i < l.targets.n; i++) {
        const char *t = l.targets.at[i], *star = strstr(t, ":*");
        if (!strcmp(t, target) ||
            (star && !star[2] && colon && star - t == colon - target && !strncmp(t, target, (size_t)(star - t)))) {
            *ret_anywhere = false;
            return true;
        }
        *ret_anywhere = *ret_anywhere || !strcmp(t, "*");
    }
    return *ret_anywhere;
}

/* --- wishes ------------------------------------------------------------------------------------------- */

static void serve_default(struct wish *w)
{
    if (l.echo) {
        (void)!service_say(&l.peer, w->conn, w->stream, 0, "");
        w->state = WISH_ECHO;
        echo(w);
    } else if (l.forward) {
        connect_to(w, l.forward);
    } else if (l.exec) {
        run_program(w);
    } else if (l.stdio && !l.stdio_taken) {
        l.stdio_taken = true;
        join(w, STDIN_FILENO, STDOUT_FILENO, &l);
    } else {
        refuse(w, l.stdio ? "somebody is connected already" : "nothing is offered here but what is named");
    }
}

static void serve_target(struct wish *w, bool udp, const char *target)
{
    w->udp = udp;
    if (udp && !*target && l.forward)
        connect_to(w, l.forward);
    else if (is_target(target, &w->anywhere))
        connect_to(w, target);
    else
        refuse(w, "that target is not allowed here (--allow-target)");
}

static void read_wish(struct wish *w)
{
    static char text[SERVICE_TEXT_MAX + 1];
    unsigned what;
    int heard = service_hear(&l.peer, w->conn, w->stream, &what, text);
    if (heard == 0)
        return;
    if (heard < 0)
        refuse(w, "that is no request");
    else if (what == SERVICE_DEFAULT)
        serve_default(w);
    else if (what == SERVICE_TCP || what == SERVICE_UDP)
        serve_target(w, what == SERVICE_UDP, text);
    else
        refuse(w, "that is not offered here");
}

static void on_stream(const struct tw_endpoint_event *ev)
{
    struct wish *w = calloc(1, sizeof(*w));
    if (!w) {
        tw_endpoint_reset(l.peer.rt.endpoint, tw_rt_now(), ev->conn, ev->stream, 1);
        return;
    }
    w->conn = ev->conn;
    w->stream = ev->stream;
    w->next = l.wishes;
    l.wishes = w;
}

static void drop_wish(struct wish *w)
{
    if (w->state == WISH_LOOKUP)
        uv_cancel((uv_req_t *)&w->lookup);
    else if (w->state == WISH_CONNECT && !uv_is_closing((uv_handle_t *)&w->poll))
        uv_close((uv_handle_t *)&w->poll, on_poll_closed);
    else if (w->state != WISH_CONNECT) {
        forget(w);
        return;
    }
    w->state = WISH_DEAD;
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    (void)p;
    access_event(&l.access, ev);
    if (ev->type == TW_EP_STREAM) {
        on_stream(ev);
        return;
    }
    for (struct wish *w = l.wishes, *next; w; w = next) {
        next = w->next;
        if (w->conn != ev->conn || w->state == WISH_DEAD)
            continue;
        if (ev->type == TW_EP_CLOSED || (ev->type == TW_EP_ENDED && ev->stream == w->stream))
            drop_wish(w);
        else if (ev->stream == w->stream && ev->type == TW_EP_READABLE && w->state == WISH_ASKED)
            read_wish(w);
        else if (ev->stream == w->stream && w->state == WISH_ECHO)
            echo(w);
    }
}

/* --- the verb ----------------------------------------------------------------------------------------- */

static int check(void)
{
    int offers = l.echo + l.stdio + (l.forward != NULL) + (l.exec != NULL);
    if (offers > 1 || (offers == 0 && l.targets.n == 0)) {
        fprintf(stderr, "thalweg: offer one of --echo, --stdio, --forward HOST:PORT, --exec COMMAND, or "
                        "--allow-target HOST:PORT\n");
        return EXIT_USAGE;
    }
    if (l.exec && l.access.allow_any && !l.i_know) {
        fprintf(stderr, "thalweg: --exec with --allow-any lets the whole world run that; add --i-know if it should\n");
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

static void say_ready(void)
{
    const struct tw_endpoint_config *cfg = &l.peer.rt.cfg.endpoint;
    struct tw_address a = tw_address_of(tw_endpoint_key(l.peer.rt.endpoint), cfg->servers, cfg->server_n);
    char text[TW_ADDRESS_TEXT_MAX];
    if (tw_address_format(&a, text, sizeof(text)))
        return;
    peer_json(&l.peer, "listening", ",\"address\":%s", text);
    peer_say(&l.peer, "listening as %s", text);
    if (!l.access.allow_any && l.access.allow.n == 0)
        peer_say(&l.peer, "let in: whom %s names, and who has an invite (thalweg invite new)", l.access.allow_file);
}

int cmd_listen(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg listen [options] (--echo | --stdio | --forward HOST:PORT | --exec COMMAND)\n\n"
        "Is there to be dialled by those who are allowed, and offers them one thing. Nobody is let in\n"
        "unless named by --allow or in the allow file; that file is followed while this runs.\n\n";
    const struct cmd_option options[] = {
        ACCESS_OPTIONS(&l.access),
        { "--echo", NULL, &l.echo, 0, 0, "send back what comes" },
        { "--stdio", NULL, &l.stdio, 0, 0, "standard input and output, for the first who connects" },
        { "--forward", "HOST:PORT", &l.forward, 0, 0, "a TCP or UDP service" },
        { "--exec", "COMMAND", &l.exec, 0, 0, "a program, by sh -c; THALWEG_PEER says who it is for" },
        { "--allow-target", "HOST:PORT", &l.targets, 1, 0, "also this for \"forward\"; HOST:*: any port; *: the open Internet; repeat" },
        { "--i-know", NULL, &l.i_know, 0, 0, "--exec for everybody, really" },
        { "--max-peers", "N", &l.peers, 1, TW_ENDPOINT_CONNS_MAX, "connections at a time (1024)" },
        PEER_OPTIONS(&l.o),
        { NULL },
    };
    struct tw_endpoint_config cfg = { .listen = true };
    bool done;
    int status = cmd_read(argc, argv, usage, options, NULL, &done);
    if (status || done)
        return status;
    status = check();
    if (status)
        return status;
    cfg.max_conns = l.peers;
    cfg.allow_any = l.access.allow_any;
    cfg.unlisted = l.access.unlisted;
    l.peer.verb = argv[0];
    l.peer.on_event = on_event;
    l.peer.serves = true;
    status = peer_open(&l.peer, &l.o, &cfg, l.stdio);
    if (status)
        return status;
    status = access_open(&l.access, &l.peer);
    status = status ? status : peer_can_be_found(&l.peer, &cfg);
    uv_signal_init(l.peer.loop, &l.child);
    uv_signal_start(&l.child, on_child, SIGCHLD);
    uv_unref((uv_handle_t *)&l.child);
    if (status)
        peer_end(&l.peer, status);
    else
        say_ready();
    return peer_run(&l.peer);
}
