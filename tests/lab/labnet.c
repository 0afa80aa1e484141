/* The simulated network between real kernels: datagrams of TUN devices go through its NATs and links, in
 * real time. What nftables cannot do, every kind of NAT and delay, real sockets get so.
 *
 *   labnet DELAY-MS NAME=IP[,IP][:DELAY-MS][@NAT] ...    NAT as icesim names it: I/AP/keep. Behind one, IP is what the
 *                                            host has; outside it is 198.51.1xx.1, 101 for the first.
 *
 * LABNET_LOSS: of 1000 datagrams so many are lost on each host's link, each way; LABNET_RATE: bytes a second of it. What is
 * sent faster waits, for TCP at most 300 ms, and is lost then; TCP loses nothing else.
 *
 * "blocked" is a NAT that lets no UDP through; "web" is one that lets out TCP to ports 80 and 443 and nothing else, "tls" TCP
 * whose first bytes look like a ClientHello, "proxied" what goes to 203.0.114.3. Makes a TUN device for each name, says "ready", and runs until its
 * input ends. Lines of it are accidents: cut NAME, mend NAME (its link); forget NAME (its NAT, everything); noudp NAME, udp NAME;
 * web NAME (lets out what "web" does), all NAME; loss NAME PER-MILLE, each way; mtu NAME BYTES: larger IP packets vanish, each way. A NAT
 * ends its mappings after so long, used or not: I/AP/keep/life=SECONDS.
 * IPv4 only. TCP is not the simulator's: its packets are delayed as much; a NAT hides the host's address,
 * lets nobody outside begin, and, unless it maps all destinations alike (I/...), draws a port for each. */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "../sim/world.h"

enum { MAX_NODES = 24, IP_HEADER = 20, UDP_HEADER = 8, TCP_HEADER = 20, UDP = 17, TCP = 6, FLOWS = 1024 };

struct node {
    int fd;
    char name[16];
    struct sim_host *host;
    struct sim_nat *nat;           /* NULL: none */
    bool cut, no_udp;
    int loss;                      /* per mille, besides what the link loses */
    size_t mtu;                    /* larger IP packets vanish; 0: none do */
    uint8_t inside[4], outside[4]; /* alike without a NAT */
    bool natted, hard;
    enum { ALL, WEB, TLS, PROXIED } lets; /* what of TCP goes out */
    struct flow {
        uint16_t port, outside, remote_port;
        uint8_t remote[4];
        bool began, refused;       /* its first bytes have been seen; and were not liked */
    } flows[FLOWS];                /* that the host began, the newest */
    unsigned flow_at;
    tw_time tcp_up, tcp_down;      /* when its link is free again */
    tw_time delay;                 /* of its link, one way */
};

static struct node nodes[MAX_NODES]; /* s=203.0.114.1,.2 has two addresses; TCP goes to the first */
static int node_n;
static struct sim *s;

static tw_time now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec;
}

static uint16_t checksum(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < n; i += 2)
        sum += tw_get_u16(p + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Of UDP or TCP, to where its header has it. */
static void put_checksum(uint8_t *p, size_t n, uint8_t *to)
{
    size_t head = (p[0] & 15u) * 4, len = n - head;
    uint8_t pseudo[65536 + 12] = { 0 };
    tw_put_u16(to, 0);
    memcpy(pseudo, p + 12, 8);
    pseudo[9] = p[9];
    tw_put_u16(pseudo + 10, (uint16_t)len);
    memcpy(pseudo + 12, p + head, len);
    uint16_t sum = checksum(pseudo, 12 + len + (len & 1));
    tw_put_u16(to, p[9] == UDP && !sum ? 0xffff : sum);
}

static bool is_lost(const struct node *n, bool udp, size_t size)
{
    return n->cut || (udp && n->no_udp) || (n->mtu && size > n->mtu) || rand() % 1000 < n->loss;
}

static void from_network(void *ctx, tw_time at, const struct tw_datagram *d)
{
    const struct node *n = ctx;
    uint8_t p[65536] = { 0x45 };
    size_t len = d->iov[0].n, all = IP_HEADER + UDP_HEADER + len;
    (void)at;
    if (is_lost(n, true, all))
        return;
    tw_put_u16(p + 2, (uint16_t)all);
    p[6] = 0x40;
    p[8] = d->ttl;
    p[9] = UDP;
    memcpy(p + 12, d->src.ip, 4);
    memcpy(p + 16, d->dst.ip, 4);
    tw_put_u16(p + 10, checksum(p, IP_HEADER));
    tw_put_u16(p + IP_HEADER, d->src.port);
    tw_put_u16(p + IP_HEADER + 2, d->dst.port);
    tw_put_u16(p + IP_HEADER + 4, (uint16_t)(UDP_HEADER + len));
    memcpy(p + IP_HEADER + UDP_HEADER, d->iov[0].p, len);
    put_checksum(p, all, p + IP_HEADER + 6); /* without one nothing translates it to IPv6 (RFC 7915 §4.5) */
    if (write(n->fd, p, all) < 0)
        perror("labnet: write");
}

/* --- TCP ------------------------------------------------------------------------------------------ */

/* A packet on its way, in the order in which they arrive. */
struct late {
    struct late *next;
    tw_time at;
    const struct node *to;
    size_t n;
    uint8_t b[];
};
static struct late *late_first, *late_last;

static uint64_t rate; /* bytes a second of each host's link; 0: no limit */
enum { TCP_QUEUE_MS = 300 };

/* When a packet that is put on a link now has left it; 0: the queue before it is full. */
static tw_time through(tw_time *free_at, tw_time at, size_t n)
{
    tw_time start = *free_at > at ? *free_at : at;
    if (!rate)
        return at;
    if (start - at > TCP_QUEUE_MS * TW_MSEC)
        return 0;
    *free_at = start + (tw_time)(n * (uint64_t)TW_SEC / rate);
    return *free_at;
}

static void fix_checksums(uint8_t *p, size_t n)
{
    size_t head = (p[0] & 15u) * 4;
    tw_put_u16(p + 10, 0);
    tw_put_u16(p + 10, checksum(p, head));
    put_checksum(p, n, p + head + 16);
}

static struct flow *find_flow(struct node *n, bool from_inside, uint16_t port, const uint8_t remote[4],
                              uint16_t remote_port)
{
    for (int i = 0; i < FLOWS; i++)
        if ((from_inside ? n->flows[i].port : n->flows[i].outside) == port &&
            n->flows[i].remote_port == remote_port && memcmp(n->flows[i].remote, remote, 4) == 0)
            return &n->flows[i];
    return NULL;
}

/* What a firewall that looks at it lets out. */
static bool is_let_out(const struct node *n, struct flow *f, const uint8_t *p, size_t len, const uint8_t *tcp)
{
    static const uint8_t proxy[] = { 203, 0, 114, 3 };
    const uint8_t *payload = tcp + (tcp[12] >> 4) * 4;
    switch (n->lets) {
    case WEB:
        return f->remote_port == 80 || f->remote_port == 443;
    case PROXIED:
        return memcmp(f->remote, proxy, 4) == 0;
    case TLS:
        if (!f->began && payload + 1 < p + len) {
            f->began = true;
            f->refused = payload[0] != 0x16 || payload[1] != 3;
        }
        return !f->refused;
    default:
        return true;
    }
}

static bool outwards(struct node *n, uint8_t *p, size_t len, uint8_t *ports)
{
    uint16_t src = tw_get_u16(ports), dst = tw_get_u16(ports + 2);
    struct flow *f = find_flow(n, true, src, p + 16, dst);
    if (!f) {
        f = &n->flows[n->flow_at++ % FLOWS];
        *f = (struct flow){ .port = src, .remote_port = dst,
                            .outside = n->hard ? (uint16_t)(20000 + rand() % 40000) : src };
        memcpy(f->remote, p + 16, 4);
    }
    if (!is_let_out(n, f, p, len, ports))
        return false;
    memcpy(p + 12, n->outside, 4);
    tw_put_u16(ports, f->outside);
    return true;
}

static bool inwards(struct node *n, uint8_t *p, uint8_t *ports)
{
    const struct flow *f = find_flow(n, false, tw_get_u16(ports + 2), p + 12, tw_get_u16(ports));
    if (!f)
        return false;
    memcpy(p + 16, n->inside, 4);
    tw_put_u16(ports + 2, f->port);
    return true;
}

static void forward_tcp(struct node *from, uint8_t *p, size_t n)
{
    uint8_t *ports = p + (p[0] & 15u) * 4;
    struct node *to = NULL;
    for (int i = 0; i < node_n; i++)
        if (memcmp(nodes[i].outside, p + 16, 4) == 0)
            to = &nodes[i];
    if (is_lost(from, false, n) || (to && is_lost(to, false, n)) || (from->natted && !outwards(from, p, n, ports)))
        return;
    if (!to || (to->natted && !inwards(to, p, ports)))
        return;
    fix_checksums(p, n);
    tw_time at = through(&from->tcp_up, now(), n);
    at = at ? through(&to->tcp_down, at, n) : 0;
    struct late *l = at ? malloc(sizeof(*l) + n) : NULL;
    if (!l)
        return;
    *l = (struct late){ .at = at + from->delay + to->delay, .to = to, .n = n };
    memcpy(l->b, p, n);
    struct late **place = &late_first;
    if (late_last && late_last->at <= l->at) /* nearly always */
        place = &late_last->next;
    for (; *place && (*place)->at <= l->at; place = &(*place)->next) {
    }
    l->next = *place;
    *place = l;
    if (!l->next)
        late_last = l;
}

static void deliver_late(void)
{
    while (late_first && late_first->at <= now()) {
        struct late *l = late_first;
        late_first = l->next;
        if (!late_first)
            late_last = NULL;
        if (write(l->to->fd, l->b, l->n) < 0)
            perror("labnet: write");
        free(l);
    }
}

static void from_kernel(struct node *n)
{
    uint8_t p[65536];
    ssize_t got;
    while ((got = read(n->fd, p, sizeof(p))) > 0) {
        size_t head = (p[0] & 15u) * 4;
        bool fragment = tw_get_u16(p + 6) & 0x3fff;
        if (p[0] >> 4 == 4 && p[9] == TCP && !fragment && (size_t)got >= head + TCP_HEADER)
            forward_tcp(n, p, (size_t)got);
        if (p[0] >> 4 != 4 || p[9] != UDP || fragment || is_lost(n, true, (size_t)got) || (size_t)got < head + UDP_HEADER)
            continue;
        struct tw_bytes data = tw_bytes(p + head + UDP_HEADER, (size_t)got - head - UDP_HEADER);
        struct tw_datagram d = { .ttl = p[8], .tos = p[1], .iov = &data, .iov_n = 1,
                                 .src = tw_addr_v4(p[12], p[13], p[14], p[15], tw_get_u16(p + head)),
                                 .dst = tw_addr_v4(p[16], p[17], p[18], p[19],
                                                   tw_get_u16(p + head + 2)) };
        sim_inject(n->host, &d);
    }
}

static bool add(char *text, tw_time delay)
{
    struct node *n = &nodes[node_n];
    char *ip = strchr(text, '='), *kind = strchr(text, '@');
    struct sim_nat *nat = NULL;
    struct sim_nat_kind k;
    struct tw_addr addr;
    struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    const char *loss = getenv("LABNET_LOSS");
    struct sim_link link = { .delay = delay, .loss = loss ? (unsigned)atoi(loss) : 0,
                             .rate = rate };
    if (!ip || node_n == MAX_NODES)
        return false;
    *ip++ = 0;
    char *own = strchr(ip, ':');
    if (own) {
        *own++ = 0;
        link.delay = (tw_time)atoi(own) * TW_MSEC;
    }
    n->delay = link.delay;
    if (kind) {
        *kind++ = 0;
        static const char *const filters[] = { "blocked", "web", "tls", "proxied" };
        bool blocked = false;
        for (unsigned i = 0; i < 4; i++)
            if (!strcmp(kind, filters[i])) {
                blocked = true;
                n->lets = i;
            }
        char *life = strstr(kind, "/life=");
        if (life)
            *life = 0;
        if (!nat_kind_find(blocked ? "I/AP/keep" : kind, &k))
            return false;
        k.life = life ? (tw_time)atoi(life + 6) * TW_SEC : 0;
        k.no_udp = blocked;
        n->natted = true;
        n->hard = k.mapping != SIM_INDEPENDENT;
        nat = sim_nat(s, tw_addr_v4(198, 51, (uint8_t)(101 + node_n), 1, 0), k, NULL);
        sim_nat_set_link(nat, link);
        n->nat = nat;
        link = (struct sim_link){ .delay = 0 };
    }
    for (char *one = strtok(ip, ","); one; one = strtok(NULL, ",")) {
        if (tw_addr_parse(one, 0, &addr))
            return false;
        if (n->host) {
            sim_host_add_ip(n->host, addr);
            continue;
        }
        n->host = sim_host(s, addr, nat, link);
        memcpy(n->inside, addr.ip, 4);
        memcpy(n->outside, nat ? (const uint8_t[]){ 198, 51, (uint8_t)(101 + node_n), 1 } : addr.ip, 4);
    }
    sim_host_set_raw(n->host);
    sim_host_attach(n->host, n, from_network, NULL, NULL);
    snprintf(n->name, sizeof(n->name), "%.15s", text);
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.15s", text);
    n->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (n->fd < 0 || ioctl(n->fd, TUNSETIFF, &ifr)) {
        perror("labnet: TUN");
        return false;
    }
    node_n++;
    return true;
}

/* A line of our input. */
static void accident(const char *line)
{
    char what[16], name[16];
    int number = 0;
    if (sscanf(line, "%15s %15s %d", what, name, &number) < 2)
        return;
    for (int i = 0; i < node_n; i++) {
        struct node *n = &nodes[i];
        if (strcmp(n->name + 3, name) != 0) /* behind "tun" */
            continue;
        if (!strcmp(what, "cut") || !strcmp(what, "mend"))
            n->cut = *what == 'c';
        else if (!strcmp(what, "noudp") || !strcmp(what, "udp"))
            n->no_udp = *what == 'n';
        else if (!strcmp(what, "loss"))
            n->loss = number;
        else if (!strcmp(what, "mtu"))
            n->mtu = (size_t)number;
        else if (!strcmp(what, "web") || !strcmp(what, "all")) {
            n->no_udp = *what == 'w';
            n->lets = n->no_udp ? WEB : ALL;
            memset(n->flows, 0, sizeof(n->flows));
        }
        else if (!strcmp(what, "forget") && n->nat)
            sim_nat_reboot(n->nat), memset(n->flows, 0, sizeof(n->flows));
    }
}

/* False: the input is at its end. */
static bool read_input(void)
{
    static char text[256];
    static size_t at;
    ssize_t n = read(0, text + at, sizeof(text) - 1 - at);
    if (n <= 0)
        return false;
    at += (size_t)n;
    text[at] = 0;
    for (char *end; (end = strchr(text, '\n'));) {
        *end = 0;
        accident(text);
        at -= (size_t)(end + 1 - text);
        memmove(text, end + 1, at + 1);
    }
    return at < sizeof(text) - 1;
}

int main(int argc, char **argv)
{
    s = sim_new((uint64_t)now());
    tw_time delay = argc > 1 ? (tw_time)atoi(argv[1]) * TW_MSEC : 0, offset = sim_now(s) - now();
    rate = getenv("LABNET_RATE") ? (uint64_t)atoll(getenv("LABNET_RATE")) : 0;
    for (int i = 2; i < argc; i++)
        if (!add(argv[i], delay)) {
            fprintf(stderr, "labnet: %s?\n", argv[i]);
            return 2;
        }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[MAX_NODES + 1] = { { .fd = 0, .events = POLLIN } };
        struct timespec wait = { .tv_sec = 3600 };
        tw_time next = sim_next(s), at = now() + offset;
        if (next != TW_NEVER) {
            tw_time left = next > at ? next - at : 0;
            wait = (struct timespec){ .tv_sec = left / TW_SEC, .tv_nsec = left % TW_SEC };
        }
        if (late_first) {
            tw_time left = late_first->at > now() ? late_first->at - now() : 0;
            if (left < wait.tv_sec * TW_SEC + wait.tv_nsec)
                wait = (struct timespec){ .tv_sec = left / TW_SEC, .tv_nsec = left % TW_SEC };
        }
        for (int i = 0; i < node_n; i++)
            fds[i + 1] = (struct pollfd){ .fd = nodes[i].fd, .events = POLLIN };
        ppoll(fds, (nfds_t)node_n + 1, &wait, NULL);
        sim_run(s, now() + offset, NULL);
        deliver_late();
        for (int i = 0; i < node_n; i++)
            from_kernel(&nodes[i]);
        if (fds[0].revents && !read_input())
            break;
    }
    sim_free(s);
    return 0;
}
