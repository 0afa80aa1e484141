/* Many agents on shared sockets: which of them a datagram is for. */
#include "ice/internal.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/map.h"

enum { CLAIMS_EACH = 4, TAG = 4 };

struct name {
    struct tw_ice *agent;
    char ufrag[]; /* of ours */
};

/* An address that proved to be some agent's peer. */
struct claim {
    struct tw_addr local, remote;
    struct tw_ice *agent;
    struct claim *next; /* of the same agent's */
};

struct tw_ice_mux {
    struct tw_hash_key key;
    struct tw_map names, claims;
    struct tw_ice **agents; /* by number - 1 */
    uint32_t agent_n, cap, max;
    struct allowance allowance;
};

int tw_ice_mux_new(const struct tw_env *env, uint32_t max_agents, struct tw_ice_mux **ret_mux)
{
    if (max_agents == 0 || max_agents > 1u << 24)
        return TW_EINVAL;
    struct tw_ice_mux *m = calloc(1, sizeof(*m));
    if (!m)
        return TW_ENOMEM;
    m->max = max_agents;
    tw_hash_key_init(&m->key, &env->rng);
    tw_map_init(&m->names, 2 * max_agents); /* two at a restart */
    tw_map_init(&m->claims, CLAIMS_EACH * max_agents);
    *ret_mux = m;
    return 0;
}

void tw_ice_mux_free(struct tw_ice_mux *m)
{
    if (!m)
        return;
    tw_map_fini(&m->names);
    tw_map_fini(&m->claims);
    free(m->agents);
    free(m);
}

struct allowance *ice_mux_allowance(struct tw_ice_mux *m)
{
    return &m->allowance;
}

static uint32_t hash(const struct tw_ice_mux *m, const void *p, size_t n)
{
    return (uint32_t)tw_hash(&m->key, p, n);
}

static uint32_t hash_claim(const struct tw_ice_mux *m, const struct tw_addr *local,
                           const struct tw_addr *remote)
{
    uint8_t key[2 * sizeof(*local)];
    memcpy(key, local, sizeof(*local));
    memcpy(key + sizeof(*local), remote, sizeof(*remote));
    return hash(m, key, sizeof(key));
}

/* --- agents ------------------------------------------------------------------------------------------ */

int ice_mux_join(struct tw_ice_mux *m, struct tw_ice *a, uint32_t *ret_tag)
{
    uint32_t i = 0;
    while (i < m->agent_n && m->agents[i])
        i++;
    if (i == m->max)
        return TW_EFULL;
    if (i == m->cap) {
        uint32_t cap = m->cap ? 2 * m->cap : 8;
        struct tw_ice **bigger = realloc(m->agents, cap * sizeof(struct tw_ice *));
        if (!bigger)
            return TW_ENOMEM;
        m->agents = bigger;
        m->cap = cap;
    }
    m->agents[i] = a;
    if (i == m->agent_n)
        m->agent_n++;
    *ret_tag = i + 1;
    return 0;
}

void ice_mux_leave(struct tw_ice_mux *m, struct tw_ice *a)
{
    m->agents[a->tag - 1] = NULL;
    while (a->claims) {
        struct claim *c = a->claims;
        a->claims = c->next;
        tw_map_del(&m->claims, hash_claim(m, &c->local, &c->remote), c);
        free(c);
    }
    if (m->allowance.user == a)
        m->allowance.user = NULL;
}

/* --- names ------------------------------------------------------------------------------------------- */

struct text {
    const char *p;
    size_t n;
};

static bool name_eq(const void *item, const void *key)
{
    const struct name *n = item;
    const struct text *t = key;
    return strlen(n->ufrag) == t->n && memcmp(n->ufrag, t->p, t->n) == 0;
}

int ice_mux_name(struct tw_ice_mux *m, struct tw_ice *a, const char *ufrag)
{
    size_t len = strlen(ufrag);
    struct name *n = malloc(sizeof(*n) + len + 1);
    if (!n)
        return TW_ENOMEM;
    n->agent = a;
    memcpy(n->ufrag, ufrag, len + 1);
    int err = tw_map_put(&m->names, hash(m, ufrag, len), n);
    if (err)
        free(n);
    return err;
}

void ice_mux_unname(struct tw_ice_mux *m, struct tw_ice *a, const char *ufrag)
{
    struct text t = { ufrag, strlen(ufrag) };
    uint32_t h = hash(m, ufrag, t.n);
    struct name *n = tw_map_get(&m->names, h, name_eq, &t);
    if (!n || n->agent != a)
        return;
    tw_map_del(&m->names, h, n);
    free(n);
}

/* --- addresses --------------------------------------------------------------------------------------- */

static bool claim_eq(const void *item, const void *key)
{
    const struct claim *c = item, *k = key;
    return tw_addr_eq(&c->local, &k->local) && tw_addr_eq(&c->remote, &k->remote);
}

static void unlink_claim(struct claim *c)
{
    struct claim **at = &c->agent->claims;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

void ice_mux_claim(struct tw_ice_mux *m, struct tw_ice *a, const struct tw_addr *local,
                   const struct tw_addr *remote)
{
    struct tw_addr seen = ice_outwards(a, local, remote);
    struct claim key = { *local, seen, a, NULL };
    uint32_t h = hash_claim(m, local, &seen);
    struct claim *c = tw_map_get(&m->claims, h, claim_eq, &key);
    if (c && c->agent == a)
        return;
    if (c) {
        unlink_claim(c);
    } else {
        c = malloc(sizeof(*c));
        if (!c)
            return;
        *c = key;
        if (tw_map_put(&m->claims, h, c)) {
            free(c);
            return;
        }
    }
    c->agent = a;
    c->next = a->claims;
    a->claims = c;
}

/* --- transactions ------------------------------------------------------------------------------------ */

/* The first four bytes are the agent's number, hidden under a keyed hash of the other eight, so that
 * a stranger sees 96 random bits, and an answer finds its agent without a table. */
static void mask(const struct tw_ice_mux *m, uint8_t tid[TW_STUN_TID], uint32_t tag)
{
    tw_put_u32(tid, tag ^ hash(m, tid + TAG, TW_STUN_TID - TAG));
}

void ice_mux_draw_tid(struct tw_ice_mux *m, uint32_t tag, const struct tw_rng *rng,
                      uint8_t tid[TW_STUN_TID])
{
    rng->fill(rng->ctx, tid + TAG, TW_STUN_TID - TAG);
    mask(m, tid, tag);
}

static struct tw_ice *by_tid(const struct tw_ice_mux *m, const uint8_t *tid)
{
    uint32_t tag = tw_get_u32(tid) ^ hash(m, tid + TAG, TW_STUN_TID - TAG);
    return tag >= 1 && tag <= m->agent_n ? m->agents[tag - 1] : NULL;
}

static struct tw_ice *by_name(const struct tw_ice_mux *m, struct tw_bytes in)
{
    struct tw_stun_msg msg;
    if (tw_stun_decode(in, &msg))
        return NULL;
    struct tw_bytes name = tw_stun_get(&msg, TW_STUN_A_USERNAME);
    const uint8_t *colon = name.n ? memchr(name.p, ':', name.n) : NULL;
    if (!colon)
        return NULL;
    struct text t = { (const char *)name.p, (size_t)(colon - name.p) };
    const struct name *n = tw_map_get(&m->names, hash(m, t.p, t.n), name_eq, &t);
    return n ? n->agent : NULL;
}

struct tw_ice *tw_ice_mux_find(struct tw_ice_mux *m, const struct tw_datagram *in)
{
    enum { CLASS_BITS = 0x0110, REQUEST = 0 };
    struct tw_bytes b = in->iov_n == 1 ? in->iov[0] : tw_bytes(NULL, 0);
    if (b.n >= TW_STUN_HEADER && tw_stun_is(b.p, in->segment && in->segment < b.n ? in->segment : b.n)) {
        struct tw_ice *a = (tw_get_u16(b.p) & CLASS_BITS) == REQUEST ? by_name(m, b)
                                                                      : by_tid(m, b.p + 8);
        if (a)
            return a;
    }
    struct claim key = { .local = in->dst, .remote = in->src };
    const struct claim *c = tw_map_get(&m->claims, hash_claim(m, &in->dst, &in->src), claim_eq, &key);
    return c ? c->agent : NULL;
}
