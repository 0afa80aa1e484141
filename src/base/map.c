#include "base/map.h"

#include <sodium.h>
#include <stdlib.h>

#include <thalweg/error.h>

enum { FIRST_SLOTS = 16 };

void tw_map_init(struct tw_map *m, uint32_t max)
{
    *m = (struct tw_map){ .max = max };
}

void tw_map_fini(struct tw_map *m)
{
    free(m->slots);
    *m = (struct tw_map){ 0 };
}

void *tw_map_get(const struct tw_map *m, uint32_t hash, tw_map_eq *eq, const void *key)
{
    if (!m->slots)
        return NULL;
    for (uint32_t i = hash & m->mask; m->slots[i].item; i = (i + 1) & m->mask)
        if (m->slots[i].hash == hash && eq(m->slots[i].item, key))
            return m->slots[i].item;
    return NULL;
}

static void place(struct tw_map_slot *slots, uint32_t mask, struct tw_map_slot s)
{
    uint32_t i = s.hash & mask;
    while (slots[i].item)
        i = (i + 1) & mask;
    slots[i] = s;
}

/* Keeps at least a quarter of the slots free, so that probes stay short. */
static int make_room(struct tw_map *m)
{
    uint32_t n = m->slots ? m->mask + 1 : 0;
    if (n && m->len < n - n / 4)
        return 0;
    uint32_t grown = n ? 2 * n : FIRST_SLOTS;
    struct tw_map_slot *slots = calloc(grown, sizeof(*slots));
    if (!slots)
        return TW_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        if (m->slots[i].item)
            place(slots, grown - 1, m->slots[i]);
    free(m->slots);
    m->slots = slots;
    m->mask = grown - 1;
    return 0;
}

int tw_map_put(struct tw_map *m, uint32_t hash, void *item)
{
    if (m->len >= m->max)
        return TW_EFULL;
    int err = make_room(m);
    if (err)
        return err;
    place(m->slots, m->mask, (struct tw_map_slot){ item, hash });
    m->len++;
    return 0;
}

/* Closes the hole at i by moving back every follower whose home is not after the hole. */
static void close_hole(struct tw_map *m, uint32_t i)
{
    for (uint32_t j = (i + 1) & m->mask; m->slots[j].item; j = (j + 1) & m->mask) {
        uint32_t home = m->slots[j].hash & m->mask;
        if (((j - home) & m->mask) < ((j - i) & m->mask))
            continue;
        m->slots[i] = m->slots[j];
        i = j;
    }
    m->slots[i].item = NULL;
}

void tw_map_del(struct tw_map *m, uint32_t hash, const void *item)
{
    if (!m->slots)
        return;
    for (uint32_t i = hash & m->mask; m->slots[i].item; i = (i + 1) & m->mask) {
        if (m->slots[i].item != item)
            continue;
        close_hole(m, i);
        m->len--;
        return;
    }
}

void tw_hash_key_init(struct tw_hash_key *key, const struct tw_rng *rng)
{
    rng->fill(rng->ctx, key->k, sizeof(key->k));
}

uint64_t tw_hash(const struct tw_hash_key *key, const void *p, size_t n)
{
    union {
        uint8_t b[crypto_shorthash_BYTES];
        uint64_t v;
    } out;
    crypto_shorthash(out.b, p, n, key->k);
    return out.v;
}
