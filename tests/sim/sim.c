#include "sim.h"

#include <assert.h>
#include <stdlib.h>

enum { MAX_HOSTS = 32, MAX_NATS = 32, MAX_MAPPINGS = 4096, BUCKETS = 256, MAX_IPS = 4 };

struct mapping {
    bool used;
    struct tw_addr inside, key; /* key: the part of the destination the mapping depends on */
    uint16_t port;
    uint32_t generation;        /* tells it from others at the same place */
    tw_time last, made;
    tw_time until;              /* of one that was asked for; 0: it is none */
    int next_out, next_port;    /* of the same bucket, -1: none */
};

/* To which remotes each mapping has sent, as hashes: an open table that grows. */
struct seen {
    uint64_t *slots;
    uint32_t len, cap;
};

struct sim_nat {
    struct sim *sim;
    struct tw_addr outside;
    struct sim_nat_kind kind;
    struct sim_nat *outer;
    struct sim_link link;
    bool has_link;
    tw_time busy_out, busy_in, bad_out, bad_in;
    uint16_t next_port;
    uint32_t generation;
    struct mapping *maps;
    int map_n, map_cap;
    int by_inside[BUCKETS], by_port[BUCKETS];
    struct seen seen;
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
    bool raw;
    tw_time asleep_until, bad_out, bad_in; /* bad: the link loses everything until then */
    uint16_t next_port;
    struct sock *socks;
    int sock_n, sock_cap;
};

struct packet {
    tw_time at;
    uint64_t order;
    struct sim_host *to;     /* NULL: in the middle of the network, to be routed ... */
    struct sim_nat *enters;  /* ... into this NAT ... */
    struct sim_nat *place;   /* ... or on from behind this one; NULL: on the open network */
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
    struct packet **queue;   /* a heap by time, then order */
    size_t queue_n, queue_cap;
    sim_watch *watch;
    void *watch_ctx;
    sim_fault *fault;
    void *fault_ctx;
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
    for (size_t i = 0; i < s->queue_n; i++)
        free(s->queue[i]);
    for (unsigned i = 0; i < s->nat_n; i++) {
        free(s->nats[i]->maps);
        free(s->nats[i]->seen.slots);
        free(s->nats[i]);
    }
    for (unsigned i = 0; i < s->host_n; i++)
        free(s->hosts[i].socks);
    free(s->queue);
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
    sim_nat_reboot(n);
    s->nats[s->nat_n++] = n;
    return n;
}

void sim_nat_reboot(struct sim_nat *n)
{
    n->map_n = 0;
    memset(n->by_inside, -1, sizeof(n->by_inside));
    memset(n->by_port, -1, sizeof(n->by_port));
    n->seen.len = 0;
    if (n->seen.slots)
        memset(n->seen.slots, 0, n->seen.cap * sizeof(*n->seen.slots));
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

void sim_nat_set_link(struct sim_nat *n, struct sim_link link)
{
    n->link = link;
    n->has_link = true;
}

void sim_host_move(struct sim_host *h, struct tw_addr ip, struct sim_nat *nat)
{
    h->ips[0] = ip;
    h->ip_n = 1;
    h->nat = nat;
}

void sim_host_sleep(struct sim_host *h, tw_time until)
{
    h->asleep_until = until;
}

void sim_set_fault(struct sim *s, sim_fault *fault, void *ctx)
{
    s->fault = fault;
    s->fault_ctx = ctx;
}

void sim_set_watch(struct sim *s, sim_watch *watch, void *ctx)
{
    s->watch = watch;
    s->watch_ctx = ctx;
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
    for (int i = 0; i < h->sock_n; i++)
        if (h->socks[i].used && h->socks[i].local.port == local->port &&
            tw_addr_eq(&h->socks[i].local, local))
            return &h->socks[i];
    return NULL;
}

static struct sock *sock_by_id(struct sim_host *h, uint32_t id)
{
    for (int i = 0; i < h->sock_n; i++)
        if (h->socks[i].used && h->socks[i].id == id)
            return &h->socks[i];
    return NULL;
}

static struct sock *free_sock(struct sim_host *h)
{
    for (int i = 0; i < h->sock_n; i++)
        if (!h->socks[i].used)
            return &h->socks[i];
    if (h->sock_n == h->sock_cap) {
        h->sock_cap = h->sock_cap ? 2 * h->sock_cap : 8;
        h->socks = realloc(h->socks, (size_t)h->sock_cap * sizeof(*h->socks));
        assert(h->socks);
    }
    return &h->socks[h->sock_n++];
}

bool sim_open(struct sim_host *h, uint32_t sock, struct tw_addr local, struct tw_addr *ret_local)
{
    while (!local.port || (local.port == h->next_port && sock_at(h, &local)))
        local.port = h->next_port++;
    if (sock_at(h, &local))
        return false;
    *free_sock(h) = (struct sock){ true, sock, local };
    if (ret_local)
        *ret_local = local;
    return true;
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
    if (m->until)
        return n->sim->now < m->until;
    return m->used && n->sim->now - m->last < n->kind.idle &&
           (!n->kind.life || n->sim->now - m->made < n->kind.life);
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static uint64_t hash_addr(uint64_t h, const struct tw_addr *a)
{
    h = mix(h ^ 0xcbf29ce484222325u, a->ip, a->family == TW_FAMILY_V4 ? 4 : 16);
    return mix(h, &a->port, sizeof(a->port));
}

static int *bucket_of(struct sim_nat *n, const struct tw_addr *inside)
{
    return &n->by_inside[hash_addr(0, inside) % BUCKETS];
}

static bool port_free(const struct sim_nat *n, uint16_t port)
{
    for (int i = n->by_port[port % BUCKETS]; i >= 0; i = n->maps[i].next_port)
        if (n->maps[i].port == port && is_alive(n, &n->maps[i]))
            return false;
    return true;
}

static uint16_t pick_port(struct sim_nat *n, uint16_t inside)
{
    uint16_t port = inside;
    if (n->kind.firewall || (n->kind.ports == SIM_PORTS_PRESERVED && port_free(n, port)))
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

/* --- what a mapping has sent to */

static void seen_put(struct seen *s, uint64_t key)
{
    if (2 * s->len >= s->cap) {
        struct seen grown = { .cap = s->cap ? 2 * s->cap : 32 };
        grown.slots = calloc(grown.cap, sizeof(*grown.slots));
        assert(grown.slots);
        for (uint32_t i = 0; i < s->cap; i++)
            if (s->slots[i])
                seen_put(&grown, s->slots[i]);
        free(s->slots);
        *s = grown;
    }
    uint32_t i = (uint32_t)key & (s->cap - 1);
    while (s->slots[i] && s->slots[i] != key)
        i = (i + 1) & (s->cap - 1);
    s->len += !s->slots[i];
    s->slots[i] = key;
}

static bool seen_has(const struct seen *s, uint64_t key)
{
    if (!s->cap)
        return false;
    uint32_t i = (uint32_t)key & (s->cap - 1);
    while (s->slots[i] && s->slots[i] != key)
        i = (i + 1) & (s->cap - 1);
    return s->slots[i] == key;
}

static uint64_t seen_key(const struct sim_nat *n, const struct mapping *m,
                         const struct tw_addr *remote)
{
    struct tw_addr p = part(remote, n->kind.filtering);
    return hash_addr((uint64_t)m->generation * 0x9e3779b97f4a7c15u, &p) | 1;
}

/* --- mappings */

static void link_mapping(struct sim_nat *n, int i)
{
    struct mapping *m = &n->maps[i];
    int *out = bucket_of(n, &m->inside), *port = &n->by_port[m->port % BUCKETS];
    m->next_out = *out;
    *out = i;
    m->next_port = *port;
    *port = i;
}

/* Throws dead ones out when there are many. */
static void sweep(struct sim_nat *n)
{
    int kept = 0;
    memset(n->by_inside, -1, sizeof(n->by_inside));
    memset(n->by_port, -1, sizeof(n->by_port));
    for (int i = 0; i < n->map_n; i++)
        if (is_alive(n, &n->maps[i])) {
            n->maps[kept] = n->maps[i];
            link_mapping(n, kept++);
        }
    n->map_n = kept;
}

/* NULL: the table is full. */
static struct mapping *add_mapping(struct sim_nat *n, const struct mapping *like)
{
    if (n->map_n == MAX_MAPPINGS)
        sweep(n);
    if (n->map_n == MAX_MAPPINGS)
        return NULL;
    if (n->map_n == n->map_cap) {
        n->map_cap = n->map_cap ? 2 * n->map_cap : 16;
        n->maps = realloc(n->maps, (size_t)n->map_cap * sizeof(*n->maps));
        assert(n->maps);
    }
    struct mapping *m = &n->maps[n->map_n];
    *m = *like;
    m->made = n->sim->now;
    m->generation = ++n->generation;
    link_mapping(n, n->map_n++);
    return m;
}

static uint64_t taken_key(const struct tw_addr *remote, uint16_t port)
{
    return hash_addr(0xbadc0ffe0ddf00du ^ (uint64_t)port << 32, remote) | 1;
}

static struct mapping *map_out(struct sim_nat *n, const struct tw_addr *inside,
                               const struct tw_addr *dst)
{
    bool taken = n->kind.collides && seen_has(&n->seen, taken_key(dst, inside->port));
    struct tw_addr key = taken ? *dst : part(dst, n->kind.mapping);
    for (int i = *bucket_of(n, inside); i >= 0; i = n->maps[i].next_out) {
        struct mapping *m = &n->maps[i];
        if (tw_addr_eq(&m->inside, inside) && (m->until || tw_addr_eq(&m->key, &key)) &&
            is_alive(n, m))
            return m;
    }
    uint16_t port = taken ? (uint16_t)(1024 + draw(n->sim) % 64000) : pick_port(n, inside->port);
    return add_mapping(n, &(struct mapping){ .used = true, .inside = *inside, .key = key,
                                             .port = port });
}

uint16_t sim_nat_forward(struct sim_nat *n, bool tcp, const struct tw_addr *inside, uint16_t port,
                         tw_time until)
{
    (void)tcp;
    for (int i = *bucket_of(n, inside); i >= 0; i = n->maps[i].next_out) {
        struct mapping *m = &n->maps[i];
        if (m->until && tw_addr_eq(&m->inside, inside) && is_alive(n, m)) {
            m->until = until;
            return m->port;
        }
    }
    if (until <= n->sim->now)
        return 0;
    while (!port || !port_free(n, port))
        port = (uint16_t)(1024 + draw(n->sim) % 64000);
    struct mapping *m = add_mapping(n, &(struct mapping){ .used = true, .inside = *inside,
                                                          .port = port, .until = until });
    return m ? m->port : 0;
}

/* Outwards: the source is replaced. */
static bool pass_out(struct sim_nat *n, struct packet *p)
{
    if (n->kind.no_udp || --p->ttl == 0)
        return false;
    struct mapping *m = map_out(n, &p->src, &p->dst);
    if (!m)
        return false;
    m->last = n->sim->now;
    if (n->kind.filtering != SIM_INDEPENDENT)
        seen_put(&n->seen, seen_key(n, m, &p->dst));
    if (!n->kind.firewall)
        p->src = n->outside;
    p->src.port = m->port;
    return true;
}

/* Inwards: the destination is replaced. */
static bool pass_in(struct sim_nat *n, struct packet *p)
{
    for (int i = n->by_port[p->dst.port % BUCKETS]; i >= 0; i = n->maps[i].next_port) {
        struct mapping *m = &n->maps[i];
        if (m->port != p->dst.port || !is_alive(n, m) ||
            (n->kind.firewall && !tw_addr_eq_ip(&m->inside, &p->dst)) ||
            (n->kind.filtering != SIM_INDEPENDENT && !m->until &&
             !seen_has(&n->seen, seen_key(n, m, &p->src))))
            continue;
        p->dst = m->inside;
        return true;
    }
    if (n->kind.collides)
        seen_put(&n->seen, taken_key(&p->src, p->dst.port));
    return false;
}

/* --- packets ------------------------------------------------------------------------------ */

static bool earlier(const struct packet *a, const struct packet *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void enqueue(struct sim *s, struct packet *p)
{
    p->order = s->order++;
    if (s->queue_n == s->queue_cap) {
        s->queue_cap = s->queue_cap ? 2 * s->queue_cap : 64;
        s->queue = realloc(s->queue, s->queue_cap * sizeof(struct packet *));
        assert(s->queue);
    }
    size_t i = s->queue_n++;
    for (; i > 0 && earlier(p, s->queue[(i - 1) / 2]); i = (i - 1) / 2)
        s->queue[i] = s->queue[(i - 1) / 2];
    s->queue[i] = p;
}

static struct packet *dequeue(struct sim *s)
{
    struct packet *first = s->queue[0], *last = s->queue[--s->queue_n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < s->queue_n) {
        if (child + 1 < s->queue_n && earlier(s->queue[child + 1], s->queue[child]))
            child++;
        if (!earlier(s->queue[child], last))
            break;
        s->queue[i] = s->queue[child];
        i = child;
    }
    s->queue[i] = last;
    return first;
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
static void cross(struct sim *s, const struct sim_link *l, tw_time *busy, tw_time *bad,
                  struct packet *p)
{
    bool lost = chance(s, l->loss);
    if (lost)
        *bad = s->now + l->burst;
    if (lost || s->now < *bad) {
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
    if (l->black_hole) {
        free(p);
        return;
    }
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

/* The NAT that has this address, or the firewall behind which it is. */
static struct sim_nat *find_nat(struct sim *s, const struct tw_addr *dst,
                                const struct sim_nat *outer)
{
    for (unsigned i = 0; i < s->nat_n; i++) {
        struct sim_nat *n = s->nats[i];
        if (n->outer == outer && (n->kind.firewall ? find_host(s, dst, n) != NULL
                                                   : tw_addr_eq_ip(&n->outside, dst)))
            return n;
    }
    return NULL;
}

/* Over a NAT's link, after which it is at `place`, or enters. False: it has none, or did not fit. */
static bool over_link(struct sim *s, struct packet *p, struct sim_nat *n, bool inwards)
{
    if (!n->has_link)
        return false;
    if (too_big(p, &n->link)) {
        refuse_size(p, &n->link);
        return true;
    }
    p->enters = inwards ? n : NULL;
    p->place = inwards ? NULL : n->outer;
    if (inwards)
        cross(s, &n->link, &n->busy_in, &n->bad_in, p);
    else
        cross(s, &n->link, &n->busy_out, &n->bad_out, p);
    return true;
}

static void drop(struct sim *s, struct packet *p)
{
    s->counts.filtered++;
    free(p);
}

/* From some place in the network (inside of NAT `at`, or the open network for NULL) to a host. */
static void route(struct sim *s, struct packet *p, struct sim_nat *at)
{
    if (!at && --p->ttl == 0) { /* the open network counts as one hop */
        drop(s, p);
        return;
    }
    for (int hops = 0; hops < 16; hops++) {
        struct sim_host *h = find_host(s, &p->dst, at);
        if (h) {
            if (too_big(p, &h->link)) {
                refuse_size(p, &h->link);
                return;
            }
            p->to = h;
            cross(s, &h->link, &h->busy_in, &h->bad_in, p);
            return;
        }
        struct sim_nat *in = find_nat(s, &p->dst, at);
        if (in) {
            if (over_link(s, p, in, true))
                return;
            if (!pass_in(in, p))
                break;
            at = in;
            continue;
        }
        /* Hairpin: from inside to the own outside address. A NAT that does not do it keeps such
         * packets for itself. */
        if (at && !at->kind.firewall && tw_addr_eq_ip(&at->outside, &p->dst)) {
            if (at->kind.hairpin && pass_out(at, p) && pass_in(at, p))
                continue;
            break;
        }
        if (!at || !pass_out(at, p))
            break;
        if (over_link(s, p, at, false))
            return;
        at = at->outer;
    }
    drop(s, p);
}

/* A packet has come to the end of a link in the middle. */
static void go_on(struct sim *s, struct packet *p)
{
    struct sim_nat *n = p->enters;
    p->enters = NULL;
    if (n && !pass_in(n, p))
        drop(s, p);
    else
        route(s, p, n ? n : p->place);
}

static void deliver(struct sim *s, struct packet *p)
{
    struct sim_host *h = p->to;
    struct sock *sock = sock_at(h, &p->dst);
    if (s->now < h->asleep_until) {
        s->counts.lost++;
        free(p);
        return;
    }
    if ((!sock && !h->raw) || !h->receive) {
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
    struct tw_datagram d = { .sock = sock ? sock->id : 0, .tos = p->tos, .ttl = p->ttl, .src = p->src,
                             .dst = p->dst, .iov = &b, .iov_n = 1 };
    s->counts.delivered++;
    free(p);
    h->receive(h->ctx, s->now, &d);
    free(bytes);
}

static void send_piece(struct sim_host *h, const struct tw_datagram *d, const struct tw_addr *src,
                       const uint8_t *bytes, size_t n)
{
    struct packet *p = calloc(1, sizeof(*p) + n);
    assert(p);
    p->from = h;
    p->place = h->nat;
    p->from_sock = d->sock;
    p->src = *src;
    p->dst = p->sent_to = d->dst;
    p->tos = d->tos;
    p->ttl = d->ttl ? d->ttl : 64;
    p->flags = d->flags;
    p->n = n;
    memcpy(p->bytes, bytes, n);
    h->sim->counts.sent++;
    if (h->sim->watch)
        h->sim->watch(h->sim->watch_ctx, h->sim->now, h, &p->src, &p->dst, tw_bytes(bytes, n));
    if (h->sim->fault && h->sim->fault(h->sim->fault_ctx, &p->src, &p->dst, tw_bytes(bytes, n))) {
        h->sim->counts.lost++;
        free(p);
    } else if (too_big(p, &h->link))
        refuse_size(p, &h->link);
    else
        cross(h->sim, &h->link, &h->busy_out, &h->bad_out, p);
}

static bool has_ip(const struct sim_host *h, const struct tw_addr *ip)
{
    for (unsigned i = 0; i < h->ip_n; i++)
        if (tw_addr_eq_ip(&h->ips[i], ip))
            return true;
    return false;
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
    if (!sock || !has_ip(h, &sock->local))
        return;
    size_t step = d->segment ? d->segment : n, off = 0;
    do {
        size_t len = n - off < step ? n - off : step;
        send_piece(h, d, &sock->local, bytes + off, len);
        off += len;
    } while (off < n);
}

void sim_host_set_raw(struct sim_host *h)
{
    h->raw = true;
}

void sim_inject(struct sim_host *h, const struct tw_datagram *d)
{
    send_piece(h, d, &d->src, d->iov[0].p, d->iov[0].n);
}

tw_time sim_next(const struct sim *s)
{
    tw_time at = s->queue_n ? s->queue[0]->at : TW_NEVER;
    for (unsigned i = 0; i < s->host_n; i++)
        at = tw_time_min(at, s->hosts[i].deadline);
    return at;
}

/* --- time --------------------------------------------------------------------------------- */

static struct sim_host *next_host(struct sim *s)
{
    struct sim_host *best = NULL;
    for (unsigned i = 0; i < s->host_n; i++) {
        struct sim_host *h = &s->hosts[i];
        if (h->deadline == TW_NEVER)
            continue;
        if (h->deadline < h->asleep_until)
            h->deadline = h->asleep_until;
        if (!best || h->deadline < best->deadline)
            best = h;
    }
    return best;
}

void sim_run(struct sim *s, tw_time until, const bool *stop)
{
    while (!stop || !*stop) {
        struct sim_host *h = next_host(s);
        tw_time wake = h ? h->deadline : TW_NEVER, arrive = s->queue_n ? s->queue[0]->at : TW_NEVER;
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
        struct packet *p = dequeue(s);
        if (p->to)
            deliver(s, p);
        else
            go_on(s, p);
    }
}
