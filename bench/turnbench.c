/* Loads a TURN server the way bench/run.py asks and prints one line of JSON.
 *
 * Everything is closed loop: a bounded number of packets is under way, so that nothing is lost and
 * both servers get the same input. The server's CPU time is read from its threads' schedstat,
 * which here contains the kernel's work on its behalf, loopback delivery included. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/dtls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thalweg/stun_client.h>

#include "rt/os.h"
#include "rt/sockaddr.h"
#include "rt/tls.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum { BATCH = 64, CHANNEL = 0x4000, MAX_CLIENTS = 20000 };

enum over { UDP, TCP, TLS, DTLS };

static struct {
    enum over over;
    const char *mode, *user, *password;
    struct tw_addr server;
    int pid;
    unsigned clients, size, window, burst;
    double seconds, rate;
    unsigned count, base;
} arg = { .mode = "up", .user = "u", .password = "p", .clients = 1, .size = 172, .window = 256,
          .burst = 1, .seconds = 2, .count = 1000, .base = 1 };

struct client {
    int fd;
    gnutls_session_t tls;
    size_t rest; /* bytes of a frame that has not come whole */
    struct tw_addr relayed;
};

static struct client clients[MAX_CLIENTS];
static int peer_fd;
static struct tw_addr peer_addr;
static struct tw_stun_cred cred;

static void die(const char *what)
{
    fprintf(stderr, "turnbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- the server's CPU time and memory ------------------------------------------------------- */

static double cpu_ns(void)
{
    char path[64], line[128];
    double total = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", arg.pid);
    DIR *dir = opendir(path);
    if (!dir)
        die(path);
    for (struct dirent *e; (e = readdir(dir));) {
        char file[384];
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s/schedstat", path, e->d_name);
        FILE *f = fopen(file, "re");
        if (f && fgets(line, sizeof(line), f))
            total += strtod(line, NULL);
        if (f)
            fclose(f);
    }
    closedir(dir);
    return total;
}

static double rss_kib(void)
{
    char path[64], line[128];
    double kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", arg.pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtod(line + 6, NULL);
    if (f)
        fclose(f);
    return kib;
}

/* --- sockets and requests ------------------------------------------------------------------- */

static int udp_socket(const struct tw_addr *local)
{
    struct sockaddr_storage ss;
    int size = 4 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (bind(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(local, &ss)))
        die("bind");
    return fd;
}

static struct tw_addr local_addr(int fd)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &n))
        die("getsockname");
    return tw_rt_addr(&ss);
}

static void connect_server(int fd)
{
    struct sockaddr_storage ss;
    if (connect(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(&arg.server, &ss)))
        die("connect");
}

/* --- over a connection ----------------------------------------------------------------------- */

static bool is_stream(void)
{
    return arg.over == TCP || arg.over == TLS;
}

static void wait_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (poll(&p, 1, 5000) != 1)
        die("no answer");
}

static void open_connection(struct client *c)
{
    static struct tw_rt_tls *cred_tls;
    const char *why;
    int one = 1;
    if (arg.over != DTLS) {
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        connect_server(c->fd);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (arg.over == TCP)
        return;
    unsigned flags = GNUTLS_CLIENT | GNUTLS_NONBLOCK | (arg.over == DTLS ? GNUTLS_DATAGRAM : 0u);
    if ((!cred_tls && tw_rt_tls_new_client(tw_bytes(NULL, 0), &cred_tls, &why)) ||
        tw_rt_tls_session(cred_tls, flags, NULL, &c->tls))
        die("TLS");
    gnutls_transport_set_int(c->tls, c->fd);
    for (int err; (err = gnutls_handshake(c->tls));) {
        if (err != GNUTLS_E_AGAIN)
            die(gnutls_strerror(err));
        wait_readable(c->fd);
    }
    if (arg.over == DTLS)
        gnutls_dtls_set_mtu(c->tls, 16384);
}

static bool client_send(struct client *c, const void *p, size_t n)
{
    ssize_t sent = c->tls ? gnutls_record_send(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
    while (c->tls && sent == GNUTLS_E_AGAIN) { /* the record is made: it has to go out */
        struct pollfd out = { .fd = c->fd, .events = POLLOUT };
        poll(&out, 1, 100);
        sent = gnutls_record_send(c->tls, NULL, 0);
    }
    while (is_stream() && sent >= 0 && (size_t)sent < n) {
        p = (const uint8_t *)p + sent;
        n -= (size_t)sent;
        struct pollfd out = { .fd = c->fd, .events = POLLOUT };
        poll(&out, 1, 100);
        sent = send(c->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0)
            sent = 0;
    }
    return sent >= 0;
}

static ssize_t client_recv(struct client *c, void *p, size_t n)
{
    return c->tls ? gnutls_record_recv(c->tls, p, n) : recv(c->fd, p, n, MSG_DONTWAIT);
}

/* How many ChannelData of the size in use have come, over whatever there is. */
static unsigned drain_client(struct client *c)
{
    static uint8_t buf[65536];
    size_t frame = 4 + ((arg.size + 3u) & ~3u);
    unsigned total = 0;
    ssize_t n;
    for (int i = 0; i < 16 && (n = client_recv(c, buf, sizeof(buf))) > 0; i++) {
        if (!is_stream()) {
            total++;
            continue;
        }
        c->rest += (size_t)n;
        total += (unsigned)(c->rest / frame);
        c->rest %= frame;
    }
    return total;
}

static void add_end(struct tw_stun_enc *e)
{
    tw_stun_add_u32(e, TW_STUN_A_LIFETIME, 0);
}

static void add_allocate(struct tw_stun_enc *e)
{
    tw_stun_add_u8(e, TW_STUN_A_REQUESTED_TRANSPORT, 17);
}

/* As large as the answer, like the first question of our own client: a server that budgets what
 * strangers get would count the others against one address. */
static void pad_question(const struct tw_stun_cred *c, struct tw_stun_enc *e)
{
    enum { LARGE = 100, HEADER = 4, PAD = 0xC07A };
    if (c->ready || e->w.n + HEADER > LARGE)
        return;
    size_t n = LARGE - e->w.n - HEADER;
    tw_wr_u16(&e->w, PAD);
    tw_wr_u16(&e->w, (uint16_t)n);
    tw_wr_zero(&e->w, n);
}

static void add_bind(struct tw_stun_enc *e)
{
    tw_stun_add_u16(e, TW_STUN_A_CHANNEL_NUMBER, CHANNEL);
    tw_stun_add_addr(e, TW_STUN_A_XOR_PEER_ADDRESS, &peer_addr);
}

/* One request, through challenges, to its success. */
static void request(struct client *c, unsigned method, void (*add)(struct tw_stun_enc *), struct tw_stun_msg *m,
                    uint8_t *buf, size_t cap)
{
    struct tw_rng rng = tw_rt_rng();
    for (int tries = 0; tries < 8; tries++) {
        uint8_t out[1500], tid[TW_STUN_TID];
        struct tw_stun_enc e;
        rng.fill(rng.ctx, tid, sizeof(tid));
        tw_stun_begin(&e, out, sizeof(out), TW_STUN_REQUEST, method, tid);
        add(&e);
        pad_question(&cred, &e);
        tw_stun_cred_sign(&cred, &e);
        if (tw_stun_end(&e) || !client_send(c, e.w.p, e.w.n))
            die("send");
        struct pollfd p = { .fd = c->fd, .events = POLLIN };
        ssize_t n = 0;
        for (int looks = 0; looks < 8 && n <= 0; looks++) /* tickets and the like are no answer */
            if (poll(&p, 1, 500) == 1)
                n = client_recv(c, buf, cap);
        if (n <= 0 || tw_stun_decode(tw_bytes(buf, (size_t)n), m) ||
            memcmp(m->tid, tid, sizeof(tid)) != 0)
            continue;
        if (tw_stun_cred_judge(&cred, m) == TW_STUN_OK && m->cls == TW_STUN_SUCCESS)
            return;
        if (m->cls == TW_STUN_ERROR)
            cred.proven = false;
    }
    fprintf(stderr, "turnbench: the server refused %s\n", tw_stun_method_name(method));
    exit(1);
}

static void open_client(struct client *c, const struct tw_addr *local)
{
    struct tw_stun_msg m;
    uint8_t buf[1500];
    c->fd = udp_socket(local);
    connect_server(c->fd);
    if (arg.over == TCP || arg.over == TLS)
        close(c->fd);
    if (arg.over != UDP)
        open_connection(c);
    cred.ready = false; /* a new client starts from the first challenge */
    request(c, TW_STUN_ALLOCATE, add_allocate, &m, buf, sizeof(buf));
    if (!tw_stun_get_addr(&m, TW_STUN_A_XOR_RELAYED_ADDRESS, &c->relayed))
        die("no relayed address");
}

static void open_all(void)
{
    struct tw_addr any = tw_addr_v4(127, 0, 0, 1, 0);
    struct tw_stun_msg m;
    uint8_t buf[1500];
    peer_fd = udp_socket(&any);
    peer_addr = local_addr(peer_fd);
    for (unsigned i = 0; i < arg.clients; i++) {
        open_client(&clients[i], &any);
        request(&clients[i], TW_STUN_CHANNEL_BIND, add_bind, &m, buf, sizeof(buf));
    }
}

/* So that the next run may get the same ports. */
static void close_all(void)
{
    struct tw_stun_msg m;
    uint8_t buf[65536];
    for (unsigned i = 0; i < arg.clients; i++) {
        while (client_recv(&clients[i], buf, sizeof(buf)) > 0) {
        }
        cred.ready = false;
        request(&clients[i], TW_STUN_REFRESH, add_end, &m, buf, sizeof(buf));
        close(clients[i].fd);
    }
}

static bool is_down(void)
{
    return strncmp(arg.mode, "down", 4) == 0;
}

/* --- counting what comes out ---------------------------------------------------------------- */

static unsigned pieces_of(struct msghdr *h, size_t n)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            return (unsigned)((n + (size_t)size - 1) / (size_t)size);
        }
    return 1;
}

static unsigned drain_fd(int fd)
{
    static _Thread_local uint8_t bufs[BATCH][65536];
    static _Thread_local uint8_t control[BATCH][64];
    struct mmsghdr m[BATCH];
    struct iovec iov[BATCH];
    unsigned total = 0;
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){ bufs[i], sizeof(bufs[i]) };
        m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1,
                                        .msg_control = control[i],
                                        .msg_controllen = sizeof(control[i]) };
    }
    int n = recvmmsg(fd, m, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++)
        total += pieces_of(&m[i].msg_hdr, m[i].msg_len);
    return total;
}

/* One thread sends and receives and never sleeps in a receive: the server's sends then wake nobody,
 * as they would not on a network. */
static int epoll_fd;

static void watch_outputs(void)
{
    bool down = is_down();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; down && i < arg.clients; i++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd, &ev);
    }
}

static unsigned receive_some(void)
{
    struct epoll_event ev[BATCH];
    unsigned total = 0;
    if (!is_down())
        return drain_fd(peer_fd);
    int n = epoll_wait(epoll_fd, ev, BATCH, 0);
    for (int i = 0; i < n; i++)
        total += arg.over == UDP ? drain_fd(clients[ev[i].data.u32].fd)
                                 : drain_client(&clients[ev[i].data.u32]);
    return total;
}

/* --- sending -------------------------------------------------------------------------------- */

static uint8_t payload[65536];

/* One datagram, or with arg.burst > 1 a run of them in one call (GSO). */
static bool send_one(uint64_t k)
{
    bool down = is_down();
    struct client *c = &clients[k % arg.clients];
    size_t piece = down ? arg.size : arg.size + 4u;
    struct sockaddr_storage ss;
    struct iovec iov = { payload, piece * arg.burst };
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (down) {
        h.msg_name = &ss;
        h.msg_namelen = tw_rt_sockaddr(&c->relayed, &ss);
    }
    if (arg.burst > 1) {
        uint16_t segment = (uint16_t)piece;
        h.msg_control = control;
        h.msg_controllen = sizeof(control);
        struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
        *cm = (struct cmsghdr){ .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT,
                                .cmsg_len = CMSG_LEN(sizeof(segment)) };
        memcpy(CMSG_DATA(cm), &segment, sizeof(segment));
    }
    if (!down && arg.over != UDP)
        return client_send(c, payload, is_stream() ? (piece + 3) & ~(size_t)3 : piece);
    return sendmsg(down ? peer_fd : c->fd, &h, 0) >= 0;
}

static void fill_payload(void)
{
    for (unsigned i = 0; i < arg.burst; i++) {
        uint8_t *p = payload + i * (arg.size + 4u);
        if ((i + 1) * (arg.size + 4u) > sizeof(payload))
            die("burst too large");
        tw_put_u16(p, CHANNEL);
        tw_put_u16(p + 2, (uint16_t)arg.size);
    }
}

struct tally {
    uint64_t sent, received, lost;
};

/* Keeps at most `window` packets under way until the time is up, then waits for the rest. When
 * nothing comes for a while, what is missing is lost and reported as such. */
static struct tally exchange(double seconds, bool (*send_next)(uint64_t k),
                             unsigned (*receive)(void))
{
    struct tally t = { 0 };
    tw_time start = tw_rt_now(), until = start + (tw_time)(seconds * 1e9), last = start;
    for (uint64_t k = 0;;) {
        tw_time now = tw_rt_now();
        unsigned got = receive();
        t.received += got;
        if (got)
            last = now;
        uint64_t under_way = t.sent - t.received - t.lost;
        if (now >= until && under_way == 0)
            return t;
        bool early = arg.rate > 0 && (double)t.sent > arg.rate * (double)(now - start) / 1e9;
        if (now < until && under_way + arg.burst <= arg.window && !early) {
            /* A few at once, so that asking for what came back does not dominate. */
            for (int i = 0; i < 16 && t.sent - t.received - t.lost + arg.burst <= arg.window; i++)
                if (send_next(k++))
                    t.sent += arg.burst;
        } else if (got == 0) {
            if (now - last > 100 * TW_MSEC) {
                t.lost += under_way;
                last = now;
            }
            sched_yield();
        }
    }
}

static void report(const char *rate_name, struct tally t, double cpu, double wall)
{
    double got = (double)t.received;
    printf("{\"packets\":%.0f,\"lost\":%llu,\"cpu_us\":%.4f,\"%s\":%.1f}\n", got,
           (unsigned long long)t.lost, cpu / got / 1e3, rate_name, got / wall * 1e6);
}

static void run_flow(void)
{
    int one = 1;
    open_all();
    fill_payload();
    if (arg.burst > 1) {
        setsockopt(peer_fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
        for (unsigned i = 0; i < arg.clients; i++)
            setsockopt(clients[i].fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
    }
    watch_outputs();
    exchange(0.3, send_one, receive_some); /* warm up */
    double cpu = cpu_ns();
    tw_time t0 = tw_rt_now();
    struct tally t = exchange(arg.seconds, send_one, receive_some);
    double wall = (double)(tw_rt_now() - t0);
    report("kpps", t, cpu_ns() - cpu, wall);
    close_all();
}

/* --- other measures ------------------------------------------------------------------------- */

/* A group of clients asks at the same time: first all without credentials, then all with. */
enum { GROUP = 64 };

static void send_allocate(int fd, const struct tw_stun_cred *c)
{
    uint8_t out[1500], tid[TW_STUN_TID];
    struct tw_rng rng = tw_rt_rng();
    struct tw_stun_enc e;
    rng.fill(rng.ctx, tid, sizeof(tid));
    tw_stun_begin(&e, out, sizeof(out), TW_STUN_REQUEST, TW_STUN_ALLOCATE, tid);
    add_allocate(&e);
    pad_question(c, &e);
    tw_stun_cred_sign(c, &e);
    if (tw_stun_end(&e) || send(fd, e.w.p, e.w.n, 0) < 0)
        die("send");
}

static enum tw_stun_class receive_answer(int fd, struct tw_stun_cred *c)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct tw_stun_msg m;
    uint8_t buf[1500];
    if (poll(&p, 1, 2000) != 1)
        die("no answer");
    ssize_t n = recv(fd, buf, sizeof(buf), 0);
    if (n <= 0 || tw_stun_decode(tw_bytes(buf, (size_t)n), &m))
        die("answer");
    (void)tw_stun_cred_judge(c, &m);
    return (enum tw_stun_class)m.cls;
}

static void allocate_group(unsigned first, unsigned n)
{
    static struct tw_stun_cred creds[GROUP];
    int fds[GROUP];
    for (unsigned i = 0; i < n; i++) {
        unsigned k = arg.base * 25000 + first + i;
        struct tw_addr local = tw_addr_v4(127, 1, (uint8_t)(k / 25000), 1,
                                          (uint16_t)(20000 + k % 25000));
        fds[i] = udp_socket(&local);
        connect_server(fds[i]);
        if (tw_stun_cred_init(&creds[i], arg.user, arg.password))
            die("credentials");
    }
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < n; i++)
            send_allocate(fds[i], &creds[i]);
        for (unsigned i = 0; i < n; i++)
            if (receive_answer(fds[i], &creds[i]) != (round ? TW_STUN_SUCCESS : TW_STUN_ERROR))
                die("the server refused Allocate");
    }
    for (unsigned i = 0; i < n; i++)
        close(fds[i]); /* the allocation stays */
}

static void run_allocate(void)
{
    double cpu = cpu_ns(), rss = rss_kib();
    tw_time t0 = tw_rt_now();
    for (unsigned made = 0; made < arg.count; made += GROUP)
        allocate_group(made, arg.count - made < GROUP ? arg.count - made : GROUP);
    printf("{\"allocations\":%u,\"cpu_us\":%.3f,\"rss_kib\":%.4f,\"per_second\":%.0f}\n",
           arg.count, (cpu_ns() - cpu) / arg.count / 1e3, (rss_kib() - rss) / arg.count,
           arg.count / ((double)(tw_rt_now() - t0) / 1e9));
}

/* Clients that come, allocate and stay: what a handshake costs, and what a client takes. */
static void run_connect(void)
{
    struct tw_addr any = tw_addr_v4(127, 0, 0, 1, 0);
    double cpu = cpu_ns(), rss = rss_kib();
    for (unsigned i = 0; i < arg.clients; i++)
        open_client(&clients[i], &any);
    printf("{\"clients\":%u,\"cpu_us\":%.1f,\"rss_kib\":%.2f}\n", arg.clients,
           (cpu_ns() - cpu) / arg.clients / 1e3, (rss_kib() - rss) / arg.clients);
    close_all();
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run_latency(void)
{
    double *us = calloc(arg.count, sizeof(*us));
    struct sockaddr_storage from;
    uint8_t buf[2048];
    open_all();
    fill_payload();
    for (unsigned i = 0; i < arg.count; i++) {
        struct pollfd p = { .fd = peer_fd, .events = POLLIN };
        tw_time t0 = tw_rt_now();
        socklen_t n = sizeof(from);
        if (!send_one(0) || poll(&p, 1, 1000) != 1)
            die("no packet at the peer");
        ssize_t got = recvfrom(peer_fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &n);
        if (got < 0 || sendto(peer_fd, buf, (size_t)got, 0, (struct sockaddr *)&from, n) < 0)
            die("echo");
        p.fd = clients[0].fd;
        if (poll(&p, 1, 1000) != 1 || recv(clients[0].fd, buf, sizeof(buf), 0) < 0)
            die("no packet at the client");
        us[i] = (double)(tw_rt_now() - t0) / 1e3;
        usleep(200);
    }
    qsort(us, arg.count, sizeof(*us), compare);
    close_all();
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", us[arg.count / 2], us[arg.count * 99 / 100]);
}

static struct tw_bytes binding_request;

static bool send_binding(uint64_t k)
{
    (void)k;
    return send(clients[0].fd, binding_request.p, binding_request.n, 0) > 0;
}

static unsigned receive_binding(void)
{
    return drain_fd(clients[0].fd);
}

static void run_binding(void)
{
    struct tw_addr any = tw_addr_v4(127, 0, 0, 1, 0);
    uint8_t buf[64], tid[TW_STUN_TID] = { 1 };
    struct tw_stun_enc e;
    clients[0].fd = udp_socket(&any);
    connect_server(clients[0].fd);
    tw_stun_begin(&e, buf, sizeof(buf), TW_STUN_REQUEST, TW_STUN_BINDING, tid);
    if (tw_stun_end(&e))
        die("encode");
    binding_request = tw_bytes(e.w.p, e.w.n);
    exchange(0.3, send_binding, receive_binding);
    double cpu = cpu_ns();
    tw_time t0 = tw_rt_now();
    struct tally t = exchange(arg.seconds, send_binding, receive_binding);
    report("kpps", t, cpu_ns() - cpu, (double)(tw_rt_now() - t0));
}

static void usage(void)
{
    fprintf(stderr, "usage: turnbench up|down|allocate|connect|latency|binding --server IP:PORT --pid PID\n"
                    "  [--clients N] [--size BYTES] [--window N] [--burst N] [--rate PPS]\n"
                    "  [--seconds S] [--count N] [--base N] [--over udp|tcp|tls|dtls]\n");
    exit(2);
}

static void read_args(int argc, char **argv)
{
    if (argc < 2)
        usage();
    arg.mode = argv[1];
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *v = argv[i + 1];
        if (!strcmp(name, "--server")) {
            if (tw_addr_parse(v, 3478, &arg.server))
                usage();
        } else if (!strcmp(name, "--pid")) {
            arg.pid = atoi(v);
        } else if (!strcmp(name, "--over")) {
            arg.over = !strcmp(v, "tcp") ? TCP : !strcmp(v, "tls") ? TLS : !strcmp(v, "dtls") ? DTLS
                                                                                             : UDP;
        } else if (!strcmp(name, "--clients")) {
            arg.clients = (unsigned)atoi(v);
        } else if (!strcmp(name, "--size")) {
            arg.size = (unsigned)atoi(v);
        } else if (!strcmp(name, "--window")) {
            arg.window = (unsigned)atoi(v);
        } else if (!strcmp(name, "--burst")) {
            arg.burst = (unsigned)atoi(v);
        } else if (!strcmp(name, "--rate")) {
            arg.rate = atof(v);
        } else if (!strcmp(name, "--seconds")) {
            arg.seconds = atof(v);
        } else if (!strcmp(name, "--count")) {
            arg.count = (unsigned)atoi(v);
        } else if (!strcmp(name, "--base")) {
            arg.base = (unsigned)atoi(v);
        } else {
            usage();
        }
    }
    if (!arg.server.family || !arg.pid || arg.clients < 1 || arg.clients > MAX_CLIENTS ||
        arg.burst < 1)
        usage();
}

int main(int argc, char **argv)
{
    read_args(argc, argv);
    tw_rt_raise_files(MAX_CLIENTS + 100);
    if (tw_stun_cred_init(&cred, arg.user, arg.password))
        die("credentials");
    if (!strcmp(arg.mode, "up") || !strcmp(arg.mode, "down"))
        run_flow();
    else if (!strcmp(arg.mode, "allocate"))
        run_allocate();
    else if (!strcmp(arg.mode, "connect"))
        run_connect();
    else if (!strcmp(arg.mode, "latency"))
        run_latency();
    else if (!strcmp(arg.mode, "binding"))
        run_binding();
    else
        usage();
    return 0;
}
