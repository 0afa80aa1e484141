/* Simulated NATs and firewalls: what they let through, and as what. */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

struct sim_nat *sim_nat(struct sim *s, struct tw_addr outside, struct sim_nat_kind kind,
                        struct sim_nat *outer)
{
    assert(s->nat_n < MAX_NATS);
    struct sim_nat *n = calloc(1, sizeof(*n));
    assert(n);
    *n = (struct sim_nat){ .sim = s, .outside = outside, .outer = outer, .next_port = 20000 };
    sim_nat_become(n, kind);
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

void sim_nat_become(struct sim_nat *n, struct sim_nat_kind kind)
{
    n->kind = kind;
    if (!kind.idle)
        n->kind.idle = 120 * TW_SEC;
}

void sim_nat_set_link(struct sim_nat *n, struct sim_link link)
{
    n->link = link;
    n->has_link = true;
}

static struct tw_addr part(const struct tw_addr *a, enum sim_dependence d)
{
    return d == SIM_INDEPENDENT ? (struct tw_addr){ 0 } : d == SIM_ADDRESS ? tw_addr_ip_only(a) : *a;
}

static bool is_alive(const struct sim_nat *n, const struct mapping *m)
{
    enum { TCP_IDLE_SEC = 7200 }; /* RFC 5382 REQ-5 */
    if (m->until)
        return n->sim->now < m->until;
    if (m->tcp)
        return m->used && n->sim->now - m->last < TCP_IDLE_SEC * TW_SEC;
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

static bool port_free(const struct sim_nat *n, bool tcp, uint16_t port)
{
    for (int i = n->by_port[port % BUCKETS]; i >= 0; i = n->maps[i].next_port)
        if (n->maps[i].port == port && n->maps[i].tcp == tcp && is_alive(n, &n->maps[i]))
            return false;
    return true;
}

static uint16_t pick_port(struct sim_nat *n, bool tcp, uint16_t inside)
{
    uint16_t port = inside;
    if (n->kind.firewall || (n->kind.ports == SIM_PORTS_PRESERVED && port_free(n, tcp, port)))
        return port;
    do {
        if (n->kind.ports == SIM_PORTS_RANDOM)
            port = (uint16_t)(1024 + sim_draw(n->sim) % 64000);
        else
            port = n->next_port++;
        if (n->kind.ports == SIM_PORTS_PARITY && port % 2 != inside % 2)
            continue;
    } while (!port_free(n, tcp, port));
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

static struct mapping *map_out(struct sim_nat *n, bool tcp, const struct tw_addr *inside,
                               const struct tw_addr *dst)
{
    bool taken = n->kind.collides && !tcp && seen_has(&n->seen, taken_key(dst, inside->port));
    struct tw_addr key = taken ? *dst : part(dst, n->kind.mapping);
    for (int i = *bucket_of(n, inside); i >= 0; i = n->maps[i].next_out) {
        struct mapping *m = &n->maps[i];
        if (m->tcp == tcp && tw_addr_eq(&m->inside, inside) && (m->until || tw_addr_eq(&m->key, &key)) &&
            is_alive(n, m))
            return m;
    }
    uint16_t port = taken ? (uint16_t)(1024 + sim_draw(n->sim) % 64000) : pick_port(n, tcp, inside->port);
    return add_mapping(n, &(struct mapping){ .used = true, .tcp = tcp, .inside = *inside,
                                             .key = key, .port = port });
}

uint16_t sim_nat_forward(struct sim_nat *n, bool tcp, const struct tw_addr *inside, uint16_t port,
                         tw_time until)
{
    for (int i = *bucket_of(n, inside); i >= 0; i = n->maps[i].next_out) {
        struct mapping *m = &n->maps[i];
        if (m->until && m->tcp == tcp && tw_addr_eq(&m->inside, inside) && is_alive(n, m)) {
            m->until = until;
            return m->port;
        }
    }
    if (until <= n->sim->now)
        return 0;
    while (!port || !port_free(n, tcp, port))
        port = (uint16_t)(1024 + sim_draw(n->sim) % 64000);
    struct mapping *m = add_mapping(n, &(struct mapping){ .used = true, .tcp = tcp,
                                                          .inside = *inside, .port = port,
                                                          .until = until });
    return m ? m->port : 0;
}

/* What has gone out over a connection, for those who look into it. */
static uint64_t flow_key(const struct packet *p, uint64_t what)
{
    return hash_addr(hash_addr(what, &p->src), &p->dst) | 1;
}

enum { KEY_SYN = 0x51, KEY_TLS = 0x715 };

/* Does the network's policy let this go? */
static bool is_allowed(struct sim_nat *n, struct packet *p)
{
    enum { TLS_HANDSHAKE = 22, TLS_MAJOR = 3 };
    const struct sim_nat_kind *k = &n->kind;
    if (k->only_to.family && !tw_addr_eq_ip(&k->only_to, &p->dst))
        return false;
    if (!p->tcp)
        return !k->no_udp;
    if (k->only_ports[0] && p->dst.port != k->only_ports[0] && p->dst.port != k->only_ports[1])
        return false;
    if (!k->tls_only || p->n == 0 || seen_has(&n->seen, flow_key(p, KEY_TLS)))
        return true;
    if (p->n < 2 || p->bytes[0] != TLS_HANDSHAKE || p->bytes[1] != TLS_MAJOR) {
        p->control = TCP_RST; /* such a box ends what it does not understand */
        return false;
    }
    seen_put(&n->seen, flow_key(p, KEY_TLS));
    return true;
}

/* Outwards: the source is replaced. */
bool sim_nat_out(struct sim_nat *n, struct packet *p)
{
    if (n->kind.nat64.first.port && !tw_nat64_extract(&n->kind.nat64, &p->dst, &p->dst))
        return false;
    if (!is_allowed(n, p) || --p->ttl == 0)
        return false;
    struct mapping *m = map_out(n, p->tcp, &p->src, &p->dst);
    if (!m)
        return false;
    m->last = n->sim->now;
    if (n->kind.filtering != SIM_INDEPENDENT)
        seen_put(&n->seen, seen_key(n, m, &p->dst));
    if (!n->kind.firewall)
        p->src = n->outside;
    p->src.port = m->port;
    if (p->tcp && p->control == TCP_SYN)
        seen_put(&n->seen, flow_key(p, KEY_SYN));
    return true;
}

/* A connection that begins on both sides at once (RFC 5382 REQ-2). */
static bool crosses(const struct sim_nat *n, const struct packet *p)
{
    struct packet back = { .src = p->dst, .dst = p->src };
    return p->tcp && p->control == TCP_SYN && seen_has(&n->seen, flow_key(&back, KEY_SYN));
}

/* Inwards: the destination is replaced. */
bool sim_nat_in(struct sim_nat *n, struct packet *p)
{
    if (n->kind.no_simultaneous && crosses(n, p))
        return false;
    for (int i = n->by_port[p->dst.port % BUCKETS]; i >= 0; i = n->maps[i].next_port) {
        struct mapping *m = &n->maps[i];
        if (m->port != p->dst.port || m->tcp != p->tcp || !is_alive(n, m) ||
            (n->kind.firewall && !tw_addr_eq_ip(&m->inside, &p->dst)) ||
            (n->kind.filtering != SIM_INDEPENDENT && !m->until &&
             !seen_has(&n->seen, seen_key(n, m, &p->src))))
            continue;
        p->dst = m->inside;
        if (n->kind.nat64.first.port)
            p->src = tw_nat64_embed(&n->kind.nat64, &p->src);
        return true;
    }
    if (n->kind.collides && !p->tcp)
        seen_put(&n->seen, taken_key(&p->src, p->dst.port));
    if (n->kind.tcp_reset && p->tcp && p->control == TCP_SYN)
        p->control = TCP_RST;
    return false;
}
