/* Two ICE agents in one process on a poll() loop of one's own: they find each other over loopback and say
 * hello. The four steps of docs/internals/own-event-loop.md are marked. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <thalweg/ice.h>

enum { SOCKETS = 8 };

struct peer {
    struct tw_ice *ice;
    struct pollfd fds[SOCKETS];
    uint32_t ids[SOCKETS];
    struct tw_addr at[SOCKETS];
    nfds_t n;
    bool ready, connected, greeted;
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

/* IPv4 is enough here. */
static struct tw_addr from_kernel(const struct sockaddr_in *sin)
{
    const uint8_t *ip = (const uint8_t *)&sin->sin_addr;
    return tw_addr_v4(ip[0], ip[1], ip[2], ip[3], ntohs(sin->sin_port));
}

static struct sockaddr_in to_kernel(const struct tw_addr *a)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(a->port) };
    memcpy(&sin.sin_addr, a->ip, 4);
    return sin;
}

static void open_socket(struct peer *p, const struct tw_ice_event *ev)
{
    struct sockaddr_in sin = to_kernel(&ev->local);
    socklen_t len = sizeof(sin);
    int fd = p->n < SOCKETS ? socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, len) ||
        getsockname(fd, (struct sockaddr *)&sin, &len)) {
        tw_ice_opened(p->ice, now(), ev->sock, TW_ESYS, NULL);
        return;
    }
    p->fds[p->n] = (struct pollfd){ .fd = fd, .events = POLLIN };
    p->ids[p->n] = ev->sock;
    p->at[p->n] = from_kernel(&sin);
    tw_ice_opened(p->ice, now(), ev->sock, 0, &p->at[p->n]);
    p->n++;
}

/* Step 2: send what it has to send. */
static void send_all(struct peer *p)
{
    struct tw_datagram d;
    while (tw_ice_poll_tx(p->ice, &d))
        for (nfds_t i = 0; i < p->n; i++)
            if (p->ids[i] == d.sock) {
                struct sockaddr_in to = to_kernel(&d.dst);
                struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to),
                                    .msg_iov = (struct iovec *)(uintptr_t)d.iov,
                                    .msg_iovlen = d.iov_n };
                (void)!sendmsg(p->fds[i].fd, &m, 0);
            }
}

/* Steps 2 and 3, after every call: send, and take what happened. */
static void pump(struct peer *p)
{
    struct tw_ice_event ev;
    send_all(p);
    while (tw_ice_poll_event(p->ice, &ev)) {
        if (ev.type == TW_ICE_OPEN)
            open_socket(p, &ev);
        else if (ev.type == TW_ICE_GATHERED)
            p->ready = true;
        else if (ev.type == TW_ICE_CONNECTED)
            p->connected = true;
        else if (ev.type == TW_ICE_DATA)
            p->greeted = printf("got \"%.*s\"\n", (int)ev.data.n, (const char *)ev.data.p) > 0;
        send_all(p);
    }
}

/* Step 1: give it what came. */
static void receive(struct peer *p, nfds_t i)
{
    uint8_t buf[65536];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n;
    while ((n = recvfrom(p->fds[i].fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len)) >= 0) {
        struct tw_bytes b = tw_bytes(buf, (size_t)n);
        struct tw_datagram d = { .sock = p->ids[i], .src = from_kernel(&from), .dst = p->at[i],
                                 .iov = &b, .iov_n = 1 };
        (void)!tw_ice_recv(p->ice, now(), &d);
        pump(p);
    }
}

/* Step 4: wait no longer than until its deadline. */
static void turn(struct peer *p)
{
    tw_time left = tw_ice_deadline(p->ice) - now();
    int ms = left > 20 * TW_MSEC ? 20 : left > 0 ? (int)(left / TW_MSEC) + 1 : 0;
    if (poll(p->fds, p->n, ms) > 0)
        for (nfds_t i = 0; i < p->n; i++)
            if (p->fds[i].revents)
                receive(p, i);
    tw_ice_tick(p->ice, now());
    pump(p);
}

static void tell(struct peer *from, struct peer *to)
{
    char sdp[8192];
    size_t n;
    if (tw_ice_write_sdp(from->ice, 0, sdp, sizeof(sdp), &n) || tw_ice_read_sdp(to->ice, now(), sdp, NULL))
        abort();
    pump(to);
}

int main(void)
{
    struct peer p[2] = { 0 };
    struct tw_env env = { .rng = { randomness, NULL } };
    struct tw_ice_interface lo = { .name = "lo", .ip = tw_addr_v4(127, 0, 0, 1, 0) };
    tw_time end = now() + 10 * TW_SEC;
    bool told = false, said = false;
    for (int i = 0; i < 2; i++) {
        struct tw_ice_config cfg = { .controlling = i == 0 };
        if (tw_ice_new(&cfg, &env, &p[i].ice) || tw_ice_interfaces(p[i].ice, now(), &lo, 1))
            return 1;
        pump(&p[i]);
    }
    while (now() < end && !(p[0].greeted && p[1].greeted)) {
        for (int i = 0; i < 2; i++)
            turn(&p[i]);
        if (!told && p[0].ready && p[1].ready) {
            tell(&p[0], &p[1]); /* in real life this goes over some signalling */
            tell(&p[1], &p[0]);
            told = true;
        }
        if (!said && p[0].connected && p[1].connected) {
            for (int i = 0; i < 2; i++) {
                (void)!tw_ice_send(p[i].ice, now(), 0, 1, tw_bytes_str("hello"), 0);
                pump(&p[i]);
            }
            said = true;
        }
    }
    for (int i = 0; i < 2; i++) {
        tw_ice_free(p[i].ice);
        for (nfds_t k = 0; k < p[i].n; k++)
            close(p[i].fds[k].fd);
    }
    return p[0].greeted && p[1].greeted ? 0 : 1;
}
