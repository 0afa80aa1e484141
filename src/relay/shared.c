#include "relay/shared.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

int tw_relay_shared_new(const struct tw_relay_addr *relays, uint32_t relay_n,
                        const struct tw_rng *rng, struct tw_relay_shared **ret_shared)
{
    if (relay_n > TW_RELAY_MAX_ADDRS)
        return TW_EINVAL;
    struct tw_relay_shared *s = calloc(1, sizeof(*s));
    if (s) {
        s->quotas = calloc(QUOTA_SLOTS, sizeof(*s->quotas));
        s->ports = calloc(relay_n ? relay_n : 1, sizeof(*s->ports));
        s->budgets = calloc(BUDGET_SLOTS, sizeof(*s->budgets));
    }
    if (!s || !s->quotas || !s->ports || !s->budgets) {
        tw_relay_shared_free(s);
        return TW_ENOMEM;
    }
    tw_hash_key_init(&s->keys.nonce, rng);
    tw_hash_key_init(&s->keys.user, rng);
    tw_hash_key_init(&s->keys.token, rng);
    tw_hash_key_init(&s->keys.ticket, rng);
    tw_hash_key_init(&s->budget_key, rng);
    s->relay_n = relay_n;
    for (uint32_t i = 0; i < relay_n; i++) {
        s->ports[i].ip = relays[i].ip;
        s->ports[i].told = relays[i].external.family ? relays[i].external : relays[i].ip;
        s->ports[i].ip.port = s->ports[i].told.port = 0;
    }
    *ret_shared = s;
    return 0;
}

void tw_relay_shared_free(struct tw_relay_shared *s)
{
    if (!s)
        return;
    free(s->quotas);
    free(s->ports);
    free(s->budgets);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

uint32_t tw_relay_shared_allocations(const struct tw_relay_shared *s)
{
    return atomic_load(&s->live);
}

uint64_t tw_relay_user_id(const struct tw_relay_shared *s, struct tw_bytes name)
{
    uint64_t id = tw_hash(&s->keys.user, name.p, name.n);
    return id ? id : 1;
}

/* --- quotas ------------------------------------------------------------------------------- */

/* The user's slot; slots are never given up, so a reader needs no care. NULL when all are taken. */
static struct quota *find_quota(struct tw_relay_shared *s, uint64_t user)
{
    for (uint32_t i = 0; i < QUOTA_SLOTS; i++) {
        struct quota *q = &s->quotas[(user + i) % QUOTA_SLOTS];
        uint64_t there = 0;
        if (atomic_load_explicit(&q->user, memory_order_relaxed) == user ||
            atomic_compare_exchange_strong(&q->user, &there, user) || there == user)
            return q;
    }
    return NULL;
}

static bool take_one(_Atomic uint32_t *count, uint32_t limit)
{
    if (atomic_fetch_add(count, 1) < limit || limit == 0)
        return true;
    atomic_fetch_sub(count, 1);
    return false;
}

struct quota *tw_relay_quota_take(struct tw_relay_shared *s, uint64_t user, uint32_t user_quota,
                                  uint32_t total_quota)
{
    struct quota *q = find_quota(s, user);
    if (!q || !take_one(&s->live, total_quota))
        return NULL;
    if (take_one(&q->live, user_quota))
        return q;
    atomic_fetch_sub(&s->live, 1);
    return NULL;
}

void tw_relay_quota_give(struct tw_relay_shared *s, struct quota *q)
{
    atomic_fetch_sub(&q->live, 1);
    atomic_fetch_sub(&s->live, 1);
}

/* --- ports -------------------------------------------------------------------------------- */

static bool claim(struct ports *p, uint32_t port, uint8_t mark)
{
    uint8_t none = 0;
    return atomic_compare_exchange_strong(&p->owner[port], &none, mark);
}

static bool claim_as(struct ports *p, uint32_t port, uint8_t mark, enum port_want want)
{
    if (!claim(p, port, mark))
        return false;
    if (want != PORT_PAIR || claim(p, port + 1, mark))
        return true;
    atomic_store(&p->owner[port], 0);
    return false;
}

uint16_t tw_relay_port_take(struct tw_relay_shared *s, uint32_t relay, uint8_t mark,
                            enum port_want want, uint16_t min, uint16_t max,
                            const struct tw_rng *rng)
{
    struct ports *p = &s->ports[relay];
    uint32_t step = want == PORT_ANY ? 1 : 2;
    uint32_t first = want == PORT_ANY ? min : min + (min & 1u);
    uint32_t last = want == PORT_PAIR ? max - 1u : max;
    uint32_t start;
    if (first > last)
        return 0;
    uint32_t n = (last - first) / step + 1;
    rng->fill(rng->ctx, &start, sizeof(start));
    /* RFC 8656 §7.2, §21: a port that cannot be guessed. One random start and then a walk would
     * follow the crowd, so a few independent draws come first. */
    for (int i = 0; i < 16; i++) {
        uint32_t port = first + start % n * step;
        if (claim_as(p, port, mark, want))
            return (uint16_t)port;
        rng->fill(rng->ctx, &start, sizeof(start));
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t port = first + (start % n + i) % n * step;
        if (claim_as(p, port, mark, want))
            return (uint16_t)port;
    }
    return 0;
}

void tw_relay_port_give(struct tw_relay_shared *s, uint32_t relay, uint16_t port)
{
    atomic_store(&s->ports[relay].owner[port], 0);
}

uint8_t tw_relay_port_mark(const struct tw_relay_shared *s, uint32_t relay, uint16_t port)
{
    return atomic_load_explicit(&s->ports[relay].owner[port], memory_order_relaxed);
}

/* --- the server before this one ----------------------------------------------------------- */

static_assert(sizeof(((struct tw_relay_shared *)0)->keys) == TW_RELAY_KEYS, "all keys fit");

void tw_relay_shared_keys(const struct tw_relay_shared *s, uint8_t ret_keys[TW_RELAY_KEYS])
{
    memcpy(ret_keys, &s->keys, TW_RELAY_KEYS);
}

void tw_relay_shared_set_keys(struct tw_relay_shared *s, const uint8_t keys[TW_RELAY_KEYS])
{
    memcpy(&s->keys, keys, TW_RELAY_KEYS);
}

void tw_relay_shared_ports(const struct tw_relay_shared *s, uint32_t relay,
                           uint8_t ret_bits[TW_RELAY_PORT_BITS])
{
    memset(ret_bits, 0, TW_RELAY_PORT_BITS);
    for (uint32_t port = 0; port < 65536; port++)
        if (atomic_load_explicit(&s->ports[relay].owner[port], memory_order_relaxed))
            ret_bits[port / 8] |= (uint8_t)(1u << port % 8);
}

void tw_relay_shared_set_elder_ports(struct tw_relay_shared *s, uint32_t relay,
                                     const uint8_t bits[TW_RELAY_PORT_BITS])
{
    for (uint32_t port = 0; port < 65536; port++) {
        uint8_t from = bits[port / 8] >> port % 8 & 1 ? 0 : PORT_OF_ELDER;
        atomic_compare_exchange_strong(&s->ports[relay].owner[port], &from,
                                       (uint8_t)(from ? 0 : PORT_OF_ELDER));
    }
}

/* --- budgets ------------------------------------------------------------------------------ */

/* By /24 and /56: whoever holds one address of these most likely holds all. */
static struct tw_bucket *bucket_of(struct tw_relay_shared *s, const struct tw_addr *a, uint8_t use)
{
    uint8_t prefix[2 + 7] = { use, a->family };
    memcpy(prefix + 2, a->ip, a->family == TW_FAMILY_V4 ? 3 : 7);
    return &s->budgets[tw_hash(&s->budget_key, prefix, sizeof(prefix)) % BUDGET_SLOTS];
}

enum { USE_ANSWERS, USE_WORK };

bool tw_relay_budget_take(struct tw_relay_shared *s, tw_time now, const struct tw_addr *client,
                          const struct tw_relay_budget *b)
{
    tw_time one = tw_bucket_cost(1, b->rate), each = tw_bucket_cost(1, b->total);
    return tw_bucket_take(bucket_of(s, client, USE_ANSWERS), now, one, one * b->burst) &&
           tw_bucket_take(&s->budget_total, now, each, TW_SEC);
}

tw_time tw_relay_shared_carried(struct tw_relay_shared *s, tw_time now, bool up, size_t n,
                                uint64_t total_bps)
{
    return tw_bucket_charge(up ? &s->up : &s->down, now, tw_bucket_cost(n, total_bps), TW_SEC);
}

bool tw_relay_shared_afford(struct tw_relay_shared *s, tw_time now, const struct tw_addr *source,
                            uint32_t rate, uint32_t burst)
{
    tw_time one = tw_bucket_cost(1, rate);
    return tw_bucket_take(bucket_of(s, source, USE_WORK), now, one, one * burst);
}

/* --- tokens: worker, 24-bit serial number, 32-bit MAC --------------------------------------- */

static uint32_t token_mac(const struct tw_relay_shared *s, const uint8_t token[8])
{
    return (uint32_t)tw_hash(&s->keys.token, token, 4);
}

void tw_relay_token_make(struct tw_relay_shared *s, uint32_t worker, uint8_t ret_token[8])
{
    uint32_t serial = atomic_fetch_add(&s->last_token, 1) + 1;
    tw_put_u32(ret_token, worker << 24 | (serial & 0xffffff));
    tw_put_u32(ret_token + 4, token_mac(s, ret_token));
}

int tw_relay_token_worker(const struct tw_relay_shared *s, const uint8_t token[8])
{
    uint8_t mac[4];
    tw_put_u32(mac, token_mac(s, token));
    return sodium_memcmp(mac, token + 4, 4) == 0 ? token[0] : -1;
}
