#include "sim.h"

#include <assert.h>
#include <stdlib.h>

enum { MAX_HOSTS = 32, MAX_NATS = 32, MAX_SOCKS = 512, MAX_MAPPINGS = 1024, MAX_REMOTES = 64,
       MAX_IPS = 4, HOPS = 1 };

struct mapping {
    bool used;
    struct tw_addr inside, key; /* key: the part of the destination the mapping depends on */
    uint16_t port;
    tw_time last;
    struct tw_addr remotes[MAX_REMOTES];
    unsigned remote_n;
};

struct sim_nat {
    struct sim *sim;
    struct tw_addr outside;
    struct sim_nat_kind kind;
    struct sim_nat *outer;
    uint16_t next_port;
    struct mapping maps[MAX_MAPPINGS];
};

struct sock {
    bool used;
    uint32_t id;
    struct tw_addr local;
};

struct sim_host {
    struct sim *sim;
    struct tw_addr ips[MAX_IPS];
    unsigned ip_n;
    struct sim_nat *nat;
    struct sim_link link;
    tw_time busy_out, busy_in; /* until when the link is occupied */
    void *ctx;
    sim_receive *receive;
    sim_error *error;
    sim_wake *wake;
    tw_time deadline;
    uint16_t next_port;
    struct sock socks[MAX_SOCKS];
};

struct packet {
    struct packet *next;
    tw_time at;
    uint64_t order;
    struct sim_host *to;     /* NULL: in the middle of the network, to be routed */
    struct sim_host *from;
    uint32_t from_sock;
    struct tw_addr src, dst;
    struct tw_addr sent_to;  /* dst as the sender wrote it */
    uint8_t tos, ttl, flags;
    size_t n;
    uint8_t bytes[];
};

struct sim {
    tw_time now;
    uint64_t random, order;
    struct packet *queue;    /* sorted by time, then order */
    struct sim_host hosts[MAX_HOSTS];
    unsigned host_n;
    struct sim_nat *nats[MAX_NATS];
    unsigned nat_n;
    struct sim_counts counts;
};

/* --- randomness --------------------------------------------------------------------------- */

static uint64_t draw(struct sim *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool chance(struct sim *s, unsigned per_mille)
{
    return per_mille && draw(s) % 1000 < per_mille;
}

static void fill(void *ctx, void *out, size_t n)
{
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(draw(ctx) >> 24);
}

struct tw_rng sim_rng(struct sim *s)
{
    return (struct tw_rng){ fill, s };
}

/* --- making things ------------------------------------------------------------------------ */

struct sim *sim_new(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof(*s));
    assert(s);
    s->random = seed;
    s->now = 1000 * TW_SEC; /* a clock that did not start with the run */
    return s;
}

void sim_free(struct sim *s)
{
    for (struct packet *p = s->queue, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    for (unsigned i = 0; i < s->nat_n; i++)
        free(s->nats[i]);
    free(s);
}

tw_time sim_now(const struct sim *s)
{
    return s->now;
}

struct sim_counts sim_counts(const struct sim *s)
{
    return s->counts;
}

struct sim_nat *sim_nat(struct sim *s, struct tw_addr outside, struct sim_nat_kind kind,
                        struct sim_nat *outer)
{
    assert(s->nat_n < MAX_NATS);
    struct sim_nat *n = calloc(1, sizeof(*n));
    assert(n);
    *n = (struct sim_nat){ .sim = s, .outside = outside, .kind = kind, .outer = outer,
                           .next_port = 20000 };
    if (!n->kind.idle)
        n->kind.idle = 120 * TW_SEC;
    s->nats[s->nat_n++] = n;
    return n;
}

void sim_nat_reboot(struct sim_nat *n)
{
    memset(n->maps, 0, sizeof(n->maps));
}

struct sim_host *sim_host(struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                          struct sim_link link)
{
    assert(s->host_n < MAX_HOSTS);
    struct sim_host *h = &s->hosts[s->host_n++];
    h->sim = s;
    h->ips[h->ip_n++] = ip;
    h->nat = nat;
    h->link = link;
    h->deadline = TW_NEVER;
    h->next_port = 40000;
    return h;
}

void sim_host_add_ip(struct sim_host *h, struct tw_addr ip)
{
    assert(h->ip_n < MAX_IPS);
    h->ips[h->ip_n++] = ip;
}

void sim_host_attach(struct sim_host *h, void *ctx, sim_receive *receive, sim_error *error,
                     sim_wake *wake)
{
    h->ctx = ctx;
    h->receive = receive;
    h->error = error;
    h->wake = wake;
}

void sim_host_set_link(struct sim_host *h, struct sim_link link)
{
    h->link = link;
}

void sim_set_deadline(struct sim_host *h, tw_time at)
{
    h->deadline = at;
}

/* --- sockets ------------------------------------------------------------------------------ */

static struct sock *sock_at(struct sim_host *h, const struct tw_addr *local)
{
    for (int i = 0; i < MAX_SOCKS; i++)
        if (h->socks[i].used && tw_addr_eq(&h->socks[i].local, local))
            return &h->socks[i];
    return NULL;
}

static struct sock *sock_by_id(struct sim_host *h, uint32_t id)
{
    for (int i = 0; i < MAX_SOCKS; i++)
        if (h->socks[i].used && h->socks[i].id == id)
            return &h->socks[i];
    return NULL;
}

bool sim_open(struct sim_host *h, uint32_t sock, struct tw_addr local, struct tw_addr *ret_local)
{
    while (!local.port || (local.port == h->next_port && sock_at(h, &local)))
        local.port = h->next_port++;
    if (sock_at(h, &local))
        return false;
    for (int i = 0; i < MAX_SOCKS; i++)
        if (!h->socks[i].used) {
            h->socks[i] = (struct sock){ true, sock, local };
            if (ret_local)
                *ret_local = local;
            return true;
        }
    return false;
}

void sim_close(struct sim_host *h, uint32_t sock)
{
    struct sock *s = sock_by_id(h, sock);
    if (s)
        s->used = false;
}

/* --- NATs --------------------------------------------------------------------------------- */

static struct tw_addr part(const struct tw_addr *a, enum sim_dependence d)
{
    return d == SIM_INDEPENDENT ? (struct tw_addr){ 0 } : d == SIM_ADDRESS ? tw_addr_ip_only(a) : *a;
}

static bool is_alive(const struct sim_nat *n, const struct mapping *m)
{
    return m->used && n->sim->now - m->last < n->kind.idle;
}

static bool port_free(const struct sim_nat *n, uint16_t port)
{
    for (int i = 0; i < MAX_MAPPINGS; i++)
        if (is_alive(n, &n->maps[i]) && n->maps[i].port == port)
            return false;
    return true;
}

static uint16_t pick_port(struct sim_nat *n, uint16_t inside)
{
    uint16_t port = inside;
    if (n->kind.ports == SIM_PORTS_PRESERVED && port_free(n, port))
        return port;
    do {
        if (n->kind.ports == SIM_PORTS_RANDOM)
            port = (uint16_t)(1024 + draw(n->sim) % 64000);
        else
            port = n->next_port++;
        if (n->kind.ports == SIM_PORTS_PARITY && port % 2 != inside % 2)
            continue;
    } while (!port_free(n, port));
    return port;
}

static void remember(struct mapping *m, const struct tw_addr *remote)
{
    for (unsigned i = 0; i < m->remote_n; i++)
        if (tw_addr_eq(&m->remotes[i], remote))
            return;
    m->remotes[m->remote_n++ % MAX_REMOTES] = *remote;
    if (m->remote_n > MAX_REMOTES)
        m->remote_n = MAX_REMOTES;
}

static struct mapping *map_out(struct sim_nat *n, const struct tw_addr *inside,
                               const struct tw_addr *dst)
{
    struct tw_addr key = part(dst, n->kind.mapping);
    struct mapping *unused = NULL;
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        struct mapping *m = &n->maps[i];
        if (!is_alive(n, m))
            unused = unused ? unused : m;
        else if (tw_addr_eq(&m->inside, inside) && tw_addr_eq(&m->key, &key))
            return m;
    }
    if (!unused)
        return NULL;
    uint16_t port = pick_port(n, inside->port);
    *unused = (struct mapping){ .used = true, .inside = *inside, .key = key, .port = port };
    return unused;
}

/* Outwards: the source is replaced. */
static bool pass_out(struct sim_nat *n, struct packet *p)
{
    struct mapping *m = map_out(n, &p->src, &p->dst);
    if (!m)
        return false;
    m->last = n->sim->now;
    remember(m, &p->dst);
    p->src = n->outside;
    p->src.port = m->port;
    return true;
}

static bool let_in(const struct sim_nat *n, const struct mapping *m, const struct tw_addr *from)
{
    struct tw_addr want = part(from, n->kind.filtering);
    if (n->kind.filtering == SIM_INDEPENDENT)
        return true;
    for (unsigned i = 0; i < m->remote_n; i++) {
        struct tw_addr have = part(&m->remotes[i], n->kind.filtering);
        if (tw_addr_eq(&have, &want))
            return true;
    }
    return false;
}

/* Inwards: the destination is replaced. */
static bool pass_in(struct sim_nat *n, struct packet *p)
{
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        struct mapping *m = &n->maps[i];
        if (!is_alive(n, m) || m->port != p->dst.port || !let_in(n, m, &p->src))
            continue;
        p->dst = m->inside;
        return true;
    }
    return false;
}

/* --- packets ------------------------------------------------------------------------------ */

static void enqueue(struct sim *s, struct packet *p)
{
    p->order = s->order++;
    struct packet **at = &s->queue;
    while (*at && (*at)->at <= p->at)
        at = &(*at)->next;
    p->next = *at;
    *at = p;
}

static size_t ip_size(const struct packet *p)
{
    return p->n + (p->src.family == TW_FAMILY_V4 ? 28 : 48);
}

static struct packet *copy_packet(const struct packet *p)
{
    struct packet *c = malloc(sizeof(*c) + p->n);
    assert(c);
    memcpy(c, p, sizeof(*c) + p->n);
    return c;
}

/* Puts a packet on a link: it comes out at the other end later, perhaps twice, perhaps never. */
static void cross(struct sim *s, const struct sim_link *l, tw_time *busy, struct packet *p)
{
    if (chance(s, l->loss)) {
        s->counts.lost++;
        free(p);
        return;
    }
    tw_time start = *busy > s->now ? *busy : s->now;
    if (l->rate) {
        start += (tw_time)(ip_size(p) * (uint64_t)TW_SEC / l->rate);
        *busy = start;
    }
    p->at = start + l->delay + (l->jitter ? (tw_time)(draw(s) % (uint64_t)l->jitter) : 0);
    if (chance(s, l->late))
        p->at += 3 * (l->delay + l->jitter);
    if (chance(s, l->twice)) {
        struct packet *c = copy_packet(p);
        c->at += TW_MSEC;
        enqueue(s, c);
    }
    enqueue(s, p);
}

static void report_error(struct packet *p, uint8_t type, uint8_t code, uint32_t data)
{
    struct sim_host *h = p->from;
    if (h->error && sock_by_id(h, p->from_sock))
        h->error(h->ctx, h->sim->now, p->from_sock, &p->sent_to, type, code, data);
    free(p);
}

/* Too big for the link, and not to be cut: the sender is told (RFC 792, RFC 4443). */
static bool too_big(struct packet *p, const struct sim_link *l)
{
    return l->mtu && ip_size(p) > l->mtu &&
           (p->flags & TW_DGRAM_DF || p->src.family == TW_FAMILY_V6);
}

static void refuse_size(struct packet *p, const struct sim_link *l)
{
    bool v4 = p->src.family == TW_FAMILY_V4;
    report_error(p, v4 ? 3 : 2, v4 ? 4 : 0, (uint32_t)l->mtu);
}

static struct sim_host *find_host(struct sim *s, const struct tw_addr *dst,
                                  const struct sim_nat *behind)
{
    for (unsigned i = 0; i < s->host_n; i++)
        for (unsigned k = 0; k < s->hosts[i].ip_n; k++)
            if (s->hosts[i].nat == behind && tw_addr_eq_ip(&s->hosts[i].ips[k], dst))
                return &s->hosts[i];
    return NULL;
}

static struct sim_nat *find_nat(struct sim *s, const struct tw_addr *dst,
                                const struct sim_nat *outer)
{
    for (unsigned i = 0; i < s->nat_n; i++)
        if (s->nats[i]->outer == outer && tw_addr_eq_ip(&s->nats[i]->outside, dst))
            return s->nats[i];
    return NULL;
}

/* From some place in the network (inside of NAT `at`, or the open network for NULL) to a host. */
static void route(struct sim *s, struct packet *p, struct sim_nat *at)
{
    for (int hops = 0; hops < 16; hops++) {
        struct sim_host *h = find_host(s, &p->dst, at);
        if (h) {
            if (too_big(p, &h->link)) {
                refuse_size(p, &h->link);
                return;
            }
            p->to = h;
            cross(s, &h->link, &h->busy_in, p);
            return;
        }
        struct sim_nat *in = find_nat(s, &p->dst, at);
        if (in && pass_in(in, p)) {
            at = in;
            continue;
        }
        /* Hairpin: from inside to the own outside address. A NAT that does not do it keeps such
         * packets for itself. */
        if (at && tw_addr_eq_ip(&at->outside, &p->dst)) {
            if (at->kind.hairpin && pass_out(at, p) && pass_in(at, p))
                continue;
            break;
        }
        if (in || !at || !pass_out(at, p))
            break;
        at = at->outer;
    }
    s->counts.filtered++;
    free(p);
}

static void deliver(struct sim *s, struct packet *p)
{
    struct sim_host *h = p->to;
    struct sock *sock = sock_at(h, &p->dst);
    if (!sock || !h->receive) {
        s->counts.refused++;
        report_error(p, p->src.family == TW_FAMILY_V4 ? 3 : 1,
                     p->src.family == TW_FAMILY_V4 ? 3 : 4, 0);
        return;
    }
    /* Bytes of their own, so that a reader that runs past the end is caught. */
    uint8_t *bytes = malloc(p->n ? p->n : 1);
    assert(bytes);
    memcpy(bytes, p->bytes, p->n);
    struct tw_bytes b = tw_bytes(bytes, p->n);
    struct tw_datagram d = { .sock = sock->id, .tos = p->tos, .ttl = p->ttl, .src = p->src,
                             .dst = p->dst, .iov = &b, .iov_n = 1 };
    s->counts.delivered++;
    free(p);
    h->receive(h->ctx, s->now, &d);
    free(bytes);
}

static void send_piece(struct sim_host *h, const struct tw_datagram *d, const struct sock *sock,
                       const uint8_t *bytes, size_t n)
{
    struct packet *p = calloc(1, sizeof(*p) + n);
    assert(p);
    p->from = h;
    p->from_sock = d->sock;
    p->src = sock->local;
    p->dst = p->sent_to = d->dst;
    p->tos = d->tos;
    p->ttl = (uint8_t)((d->ttl ? d->ttl : 64) - HOPS);
    p->flags = d->flags;
    p->n = n;
    memcpy(p->bytes, bytes, n);
    if (too_big(p, &h->link))
        refuse_size(p, &h->link);
    else
        cross(h->sim, &h->link, &h->busy_out, p);
}

void sim_send(struct sim_host *h, const struct tw_datagram *d)
{
    uint8_t bytes[65536];
    size_t n = 0;
    struct sock *sock = sock_by_id(h, d->sock);
    for (size_t i = 0; i < d->iov_n; i++) {
        assert(n + d->iov[i].n <= sizeof(bytes));
        if (d->iov[i].n)
            memcpy(bytes + n, d->iov[i].p, d->iov[i].n);
        n += d->iov[i].n;
    }
    if (!sock)
        return;
    size_t step = d->segment ? d->segment : n, off = 0;
    do {
        size_t len = n - off < step ? n - off : step;
        send_piece(h, d, sock, bytes + off, len);
        off += len;
    } while (off < n);
}

/* --- time --------------------------------------------------------------------------------- */

static struct sim_host *next_host(struct sim *s)
{
    struct sim_host *best = NULL;
    for (unsigned i = 0; i < s->host_n; i++)
        if (s->hosts[i].deadline != TW_NEVER && (!best || s->hosts[i].deadline < best->deadline))
            best = &s->hosts[i];
    return best;
}

void sim_run(struct sim *s, tw_time until, const bool *stop)
{
    while (!stop || !*stop) {
        struct sim_host *h = next_host(s);
        tw_time wake = h ? h->deadline : TW_NEVER, arrive = s->queue ? s->queue->at : TW_NEVER;
        tw_time next = wake < arrive ? wake : arrive;
        if (next > until) {
            s->now = until;
            return;
        }
        if (next > s->now)
            s->now = next;
        if (wake < arrive) {
            h->deadline = TW_NEVER;
            h->wake(h->ctx, s->now);
            continue;
        }
        struct packet *p = s->queue;
        s->queue = p->next;
        if (p->to)
            deliver(s, p);
        else
            route(s, p, p->from->nat);
    }
}
