/* An ICE agent in a thread of its own. Other threads talk with it by messages over a socket pair, which is its
 * queue, its wake-up and its lock in one: a message is one letter and text.
 *
 *   to the agent      S a description of the peer    D data to send    Q end
 *   from the agent    S its own description          D data            C connected
 *
 * Two of them find each other over loopback and say hello. The loop is that of ice_poll.c. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <thalweg/ice.h>

enum { SOCKETS = 8, QUEUE = SOCKETS, MESSAGE = 9000 };

struct agent {
    struct tw_ice *ice;
    pthread_t thread;
    int outside;                     /* the others' end of the queue */
    struct pollfd fds[SOCKETS + 1];  /* the last one is the agent's end */
    uint32_t ids[SOCKETS];
    struct tw_addr at[SOCKETS];
    int n;
    bool controlling, over;
};

static tw_time now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec;
}

static void randomness(void *ctx, void *out, size_t n)
{
    (void)ctx;
    if (getrandom(out, n, 0) != (ssize_t)n)
        abort();
}

static void post(int fd, char what, struct tw_bytes text)
{
    struct iovec iov[2] = { { &what, 1 }, { (void *)(uintptr_t)text.p, text.n } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
    if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
        perror("sendmsg");
}

/* --- in the agent's thread ------------------------------------------------------------------- */

/* IPv4 is enough here. */
static struct tw_addr from_kernel(const struct sockaddr_in *sin)
{
    const uint8_t *ip = (const uint8_t *)&sin->sin_addr;
    return tw_addr_v4(ip[0], ip[1], ip[2], ip[3], ntohs(sin->sin_port));
}

static void open_socket(struct agent *a, const struct tw_ice_event *ev)
{
    struct sockaddr_in sin = { .sin_family = AF_INET };
    socklen_t len = sizeof(sin);
    memcpy(&sin.sin_addr, ev->local.ip, 4);
    int fd = a->n < SOCKETS ? socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, len) ||
        getsockname(fd, (struct sockaddr *)&sin, &len)) {
        tw_ice_opened(a->ice, now(), ev->sock, TW_ESYS, NULL);
        return;
    }
    a->fds[a->n] = (struct pollfd){ .fd = fd, .events = POLLIN };
    a->ids[a->n] = ev->sock;
    a->at[a->n] = from_kernel(&sin);
    tw_ice_opened(a->ice, now(), ev->sock, 0, &a->at[a->n++]);
}

static void send_all(struct agent *a)
{
    struct tw_datagram d;
    while (tw_ice_poll_tx(a->ice, &d))
        for (int i = 0; i < a->n; i++)
            if (a->ids[i] == d.sock) {
                struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(d.dst.port) };
                struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to),
                                    .msg_iov = (struct iovec *)(uintptr_t)d.iov,
                                    .msg_iovlen = d.iov_n };
                memcpy(&to.sin_addr, d.dst.ip, 4);
                (void)!sendmsg(a->fds[i].fd, &m, 0);
            }
}

static void tell_sdp(struct agent *a)
{
    char sdp[MESSAGE];
    size_t n;
    if (!tw_ice_write_sdp(a->ice, 0, sdp, sizeof(sdp), &n))
        post(a->fds[QUEUE].fd, 'S', tw_bytes(sdp, n));
}

static void pump(struct agent *a)
{
    struct tw_ice_event ev;
    send_all(a);
    while (tw_ice_poll_event(a->ice, &ev)) {
        if (ev.type == TW_ICE_OPEN)
            open_socket(a, &ev);
        else if (ev.type == TW_ICE_GATHERED)
            tell_sdp(a);
        else if (ev.type == TW_ICE_CONNECTED)
            post(a->fds[QUEUE].fd, 'C', tw_bytes(NULL, 0));
        else if (ev.type == TW_ICE_DATA)
            post(a->fds[QUEUE].fd, 'D', ev.data);
        send_all(a);
    }
}

static void take_message(struct agent *a)
{
    char m[MESSAGE];
    ssize_t n = recv(a->fds[QUEUE].fd, m, sizeof(m) - 1, MSG_DONTWAIT);
    if (n <= 0 || m[0] == 'Q') {
        a->over = true;
        return;
    }
    m[n] = 0;
    if (m[0] == 'S')
        (void)!tw_ice_read_sdp(a->ice, now(), m + 1, NULL);
    else if (m[0] == 'D')
        (void)!tw_ice_send(a->ice, now(), 0, 1, tw_bytes(m + 1, (size_t)n - 1), 0);
    pump(a); /* before m goes: what is to be sent is a view of it */
}

static void receive(struct agent *a, int i)
{
    uint8_t buf[65536];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n = recvfrom(a->fds[i].fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
    if (n < 0)
        return;
    struct tw_bytes b = tw_bytes(buf, (size_t)n);
    struct tw_datagram d = { .sock = a->ids[i], .src = from_kernel(&from), .dst = a->at[i],
                             .iov = &b, .iov_n = 1 };
    (void)!tw_ice_recv(a->ice, now(), &d);
    pump(a); /* before buf goes: data is a view of it */
}

static void *run(void *arg)
{
    struct agent *a = arg;
    struct tw_env env = { .rng = { randomness, NULL } };
    struct tw_ice_config cfg = { .controlling = a->controlling };
    struct tw_ice_interface lo = { .name = "lo", .ip = tw_addr_v4(127, 0, 0, 1, 0) };
    if (tw_ice_new(&cfg, &env, &a->ice) || tw_ice_interfaces(a->ice, now(), &lo, 1))
        a->over = true;
    while (!a->over) {
        pump(a);
        tw_time at = tw_ice_deadline(a->ice), left = at == TW_NEVER ? TW_SEC : at - now();
        int ms = left > TW_SEC ? 1000 : left > 0 ? (int)(left / TW_MSEC) + 1 : 0;
        for (int i = a->n; i < SOCKETS; i++)
            a->fds[i].fd = -1;
        if (poll(a->fds, SOCKETS + 1, ms) > 0)
            for (int i = 0; i < a->n; i++)
                if (a->fds[i].revents)
                    receive(a, i);
        if (a->fds[QUEUE].revents)
            take_message(a);
        tw_ice_tick(a->ice, now());
    }
    tw_ice_free(a->ice);
    for (int i = 0; i < a->n; i++)
        close(a->fds[i].fd);
    close(a->fds[QUEUE].fd);
    return NULL;
}

/* --- the others ------------------------------------------------------------------------------- */

static int start(struct agent *a, bool controlling)
{
    int ends[2];
    *a = (struct agent){ .controlling = controlling };
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        return -1;
    a->outside = ends[0];
    a->fds[QUEUE] = (struct pollfd){ .fd = ends[1], .events = POLLIN };
    return pthread_create(&a->thread, NULL, run, a);
}

int main(void)
{
    struct agent agents[2];
    int connected = 0, greeted = 0;
    if (start(&agents[0], true) || start(&agents[1], false))
        return 1;
    struct pollfd fds[2] = { { .fd = agents[0].outside, .events = POLLIN },
                             { .fd = agents[1].outside, .events = POLLIN } };
    while (greeted < 2 && poll(fds, 2, 10000) > 0)
        for (int i = 0; i < 2; i++) {
            char m[MESSAGE];
            ssize_t n = fds[i].revents ? recv(fds[i].fd, m, sizeof(m), 0) : 0;
            if (n <= 0)
                continue;
            if (m[0] == 'S') /* in real life this goes over some signalling */
                post(agents[!i].outside, 'S', tw_bytes(m + 1, (size_t)n - 1));
            else if (m[0] == 'C' && ++connected == 2)
                for (int k = 0; k < 2; k++)
                    post(agents[k].outside, 'D', tw_bytes_str("hello"));
            else if (m[0] == 'D')
                greeted += printf("got \"%.*s\"\n", (int)n - 1, m + 1) > 0;
        }
    for (int i = 0; i < 2; i++) {
        post(agents[i].outside, 'Q', tw_bytes(NULL, 0));
        pthread_join(agents[i].thread, NULL);
        close(agents[i].outside);
    }
    return greeted == 2 ? 0 : 1;
}
