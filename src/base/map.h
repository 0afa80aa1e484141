/* A bounded hash map of pointers: open addressing, linear probing, no tombstones.
 *
 * The map does not own its items. Whoever calls computes the hash (tw_hash with a secret key for
 * anything a stranger chooses) and says what equal means. */
#ifndef TW_BASE_MAP_H
#define TW_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <thalweg/env.h>

struct tw_map_slot {
    void *item;
    uint32_t hash;
};

struct tw_map {
    struct tw_map_slot *slots;
    uint32_t mask; /* slots - 1, or 0 while there are none */
    uint32_t len;  /* items in it */
    uint32_t max;  /* the most it will hold */
};

typedef bool tw_map_eq(const void *item, const void *key);

/* An empty map that will hold at most max items (1 .. 2^30). Allocates nothing yet. */
void tw_map_init(struct tw_map *m, uint32_t max);
void tw_map_fini(struct tw_map *m);

/* The item with this hash that eq says matches the key, or NULL. */
void *tw_map_get(const struct tw_map *m, uint32_t hash, tw_map_eq *eq, const void *key);

/* Adds an item that is not in the map yet. TW_EFULL at max, TW_ENOMEM; the map is then unchanged. */
TW_NODISCARD int tw_map_put(struct tw_map *m, uint32_t hash, void *item);

/* Takes this very item out; nothing happens when it is not in. */
void tw_map_del(struct tw_map *m, uint32_t hash, const void *item);

/* Of numbers that are ours, and come in order. */
static inline uint32_t tw_map_hash_number(uint32_t n)
{
    return n * 2654435761U;
}

/* A keyed hash (SipHash-2-4) that strangers cannot steer. */
struct tw_hash_key {
    uint8_t k[16];
};
void tw_hash_key_init(struct tw_hash_key *key, const struct tw_rng *rng);
uint64_t tw_hash(const struct tw_hash_key *key, const void *p, size_t n);

#endif
