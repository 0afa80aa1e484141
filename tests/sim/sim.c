#include "internal.h"

#include <assert.h>
#include <stdlib.h>

/* --- randomness --------------------------------------------------------------------------- */

uint64_t sim_draw(struct sim *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool chance(struct sim *s, unsigned per_mille)
{
    return per_mille && sim_draw(s) % 1000 < per_mille;
}

static void fill(void *ctx, void *out, size_t n)
{
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(sim_draw(ctx) >> 24);
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
    for (unsigned i = 0; i < s->host_n; i++) {
        sim_tcp_free(&s->hosts[i]);
        free(s->hosts[i].socks);
    }
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

struct sim_host *sim_host(struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                          struct sim_link link)
{
    assert(s->host_n < MAX_HOSTS);
    struct sim_host *h = &s->hosts[s->host_n++];
    h->sim = s;
    h->ips[h->ip_n++] = ip;
    h->nat = nat;
    h->link = link;
    h->deadline = h->tcp_deadline = TW_NEVER;
    h->next_port = 40000;
    return h;
}

void sim_host_add_ip(struct sim_host *h, struct tw_addr ip)
{
    assert(h->ip_n < MAX_IPS);
    h->ips[h->ip_n++] = ip;
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

struct sock *sim_sock_at(struct sim_host *h, const struct tw_addr *local, bool listens)
{
    for (int i = 0; i < h->sock_n; i++)
        if (h->socks[i].used && h->socks[i].listens == listens && h->socks[i].local.port == local->port &&
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

bool sim_bind(struct sim_host *h, uint32_t sock, struct tw_addr local, bool listens,
              struct tw_addr *ret_local)
{
    while (!local.port || (local.port == h->next_port && sim_sock_at(h, &local, listens)))
        local.port = h->next_port++;
    if (sim_sock_at(h, &local, listens))
        return false;
    *free_sock(h) = (struct sock){ true, listens, sock, local };
    if (ret_local)
        *ret_local = local;
    return true;
}

bool sim_open(struct sim_host *h, uint32_t sock, struct tw_addr local, struct tw_addr *ret_local)
{
    return sim_bind(h, sock, local, false, ret_local);
}

void sim_close(struct sim_host *h, uint32_t sock)
{
    sim_close_range(h, sock, sock);
}

void sim_close_range(struct sim_host *h, uint32_t first, uint32_t last)
{
    for (int i = 0; i < h->sock_n; i++)
        if (h->socks[i].id >= first && h->socks[i].id <= last)
            h->socks[i].used = false;
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
    return p->n + (p->src.family == TW_FAMILY_V4 ? 20 : 40) + (p->tcp ? 20 : 8);
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
    p->at = start + l->delay + (l->jitter ? (tw_time)(sim_draw(s) % (uint64_t)l->jitter) : 0);
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
    if (!p->tcp && h->error && sock_by_id(h, p->from_sock))
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

static void route(struct sim *s, struct packet *p, struct sim_nat *at);

/* Where it was dropped a reset may be made in its stead: `at` is where the sender can be reached from. */
static void drop(struct sim *s, struct packet *p, struct sim_nat *at)
{
    s->counts.filtered++;
    if (p->tcp && p->control == TCP_RST && p->ack != p->seq + 1) {
        struct tw_addr src = p->src;
        p->src = p->dst;
        p->dst = src;
        p->ack = p->seq + 1; /* and that one is not answered by another */
        p->seq = 0;
        p->n = 0;
        p->ttl = 64;
        route(s, p, at);
        return;
    }
    if (at && at->kind.rejects && !p->tcp)
        report_error(p, 3, 13, 0);
    else
        free(p);
}

/* From some place in the network (inside of NAT `at`, or the open network for NULL) to a host. */
static void route(struct sim *s, struct packet *p, struct sim_nat *at)
{
    if (!at && --p->ttl == 0) { /* the open network counts as one hop */
        drop(s, p, NULL);
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
            if (!sim_nat_in(in, p))
                break;
            at = in;
            continue;
        }
        /* Hairpin: from inside to the own outside address. A NAT that does not do it keeps such
         * packets for itself. */
        if (at && !at->kind.firewall && tw_addr_eq_ip(&at->outside, &p->dst)) {
            if (at->kind.hairpin && sim_nat_out(at, p) && sim_nat_in(at, p))
                continue;
            break;
        }
        if (!at || !sim_nat_out(at, p))
            break;
        if (over_link(s, p, at, false))
            return;
        at = at->outer;
    }
    drop(s, p, at);
}

/* A packet has come to the end of a link in the middle. */
static void go_on(struct sim *s, struct packet *p)
{
    struct sim_nat *n = p->enters;
    p->enters = NULL;
    if (n && !sim_nat_in(n, p))
        drop(s, p, n->outer);
    else
        route(s, p, n ? n : p->place);
}

static void deliver(struct sim *s, struct packet *p)
{
    struct sim_host *h = p->to;
    struct sock *sock = sim_sock_at(h, &p->dst, false);
    if (s->now < h->asleep_until) {
        s->counts.lost++;
        free(p);
        return;
    }
    if (p->tcp) {
        s->counts.delivered++;
        sim_tcp_deliver(h, p);
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

void sim_leave(struct sim_host *h, struct packet *p)
{
    struct sim *s = h->sim;
    struct tw_bytes bytes = tw_bytes(p->bytes, p->n);
    p->from = h;
    p->place = h->nat;
    s->counts.sent++;
    if (s->watch)
        s->watch(s->watch_ctx, s->now, h, &p->src, &p->dst, bytes);
    if (s->fault && s->fault(s->fault_ctx, &p->src, &p->dst, bytes)) {
        s->counts.lost++;
        free(p);
    } else if (too_big(p, &h->link)) {
        refuse_size(p, &h->link);
    } else {
        cross(s, &h->link, &h->busy_out, &h->bad_out, p);
    }
}

static void send_piece(struct sim_host *h, const struct tw_datagram *d, const struct tw_addr *src,
                       const uint8_t *bytes, size_t n)
{
    struct packet *p = calloc(1, sizeof(*p) + n);
    assert(p);
    p->from_sock = d->sock;
    p->src = *src;
    p->dst = p->sent_to = d->dst;
    p->tos = d->tos;
    p->ttl = d->ttl ? d->ttl : 64;
    p->flags = d->flags;
    p->n = n;
    memcpy(p->bytes, bytes, n);
    sim_leave(h, p);
}

bool sim_has_ip(const struct sim_host *h, const struct tw_addr *ip)
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
    if (!sock || !sim_has_ip(h, &sock->local))
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

static tw_time due(const struct sim_host *h)
{
    return tw_time_min(h->deadline, h->tcp_deadline);
}

tw_time sim_next(const struct sim *s)
{
    tw_time at = s->queue_n ? s->queue[0]->at : TW_NEVER;
    for (unsigned i = 0; i < s->host_n; i++)
        at = tw_time_min(at, due(&s->hosts[i]));
    return at;
}

/* --- time --------------------------------------------------------------------------------- */

static struct sim_host *next_host(struct sim *s)
{
    struct sim_host *best = NULL;
    for (unsigned i = 0; i < s->host_n; i++) {
        struct sim_host *h = &s->hosts[i];
        if (due(h) == TW_NEVER)
            continue;
        if (h->deadline < h->asleep_until)
            h->deadline = h->asleep_until;
        if (h->tcp_deadline < h->asleep_until)
            h->tcp_deadline = h->asleep_until;
        if (!best || due(h) < due(best))
            best = h;
    }
    return best;
}

void sim_run(struct sim *s, tw_time until, const bool *stop)
{
    while (!stop || !*stop) {
        struct sim_host *h = next_host(s);
        tw_time wake = h ? due(h) : TW_NEVER, arrive = s->queue_n ? s->queue[0]->at : TW_NEVER;
        tw_time next = wake < arrive ? wake : arrive;
        if (next > until) {
            s->now = until;
            return;
        }
        if (next > s->now)
            s->now = next;
        if (wake < arrive && h->tcp_deadline == wake) {
            sim_tcp_tick(h);
            continue;
        }
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
