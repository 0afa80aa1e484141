/* Offers that have come, remembered for as long as they could be repeated. In the order in which they came, and by caller: each may
 * have only so many, and what is looked for stands among its own. */
#include <stdlib.h>

#include "endpoint/internal.h"

enum { SEEN_MAX = 1 << 15, LISTS = 1 << 12, SEEN_OF_ONE = 64 };

struct seen {
    uint8_t id[16], caller[8];
    tw_time until;               /* 0: free */
    uint16_t next, list;         /* of the same list; 1 more than the index, 0: none */
};

struct seen_offers {
    struct tw_hash_key key;
    unsigned at;                 /* the oldest */
    uint16_t lists[LISTS];
    struct seen all[SEEN_MAX];
};

struct seen_offers *ep_seen_new(const struct tw_env *env)
{
    struct seen_offers *o = calloc(1, sizeof(*o));
    if (o)
        tw_hash_key_init(&o->key, &env->rng);
    return o;
}

static void forget(struct seen_offers *o, struct seen *s)
{
    uint16_t *at = &o->lists[s->list];
    if (!s->until)
        return;
    while (&o->all[*at - 1] != s)
        at = &o->all[*at - 1].next;
    *at = s->next;
    s->until = 0;
}

int ep_seen_put(struct seen_offers *o, const struct tw_word *offer, tw_time now, tw_time until)
{
    struct seen *s = &o->all[o->at], fresh = { .until = until };
    const struct tw_bytes parts[] = { tw_bytes(offer->caller.b, TW_KEY_SIZE), tw_bytes(offer->secret, 32) };
    unsigned of_caller = 0;
    tw_digest("thalweg seen", parts, 2, fresh.id, sizeof(fresh.id));
    memcpy(fresh.caller, offer->caller.b, sizeof(fresh.caller));
    fresh.list = tw_hash(&o->key, fresh.caller, sizeof(fresh.caller)) % LISTS;
    for (uint16_t i = o->lists[fresh.list]; i; i = o->all[i - 1].next) {
        const struct seen *old = &o->all[i - 1];
        if (now >= old->until || memcmp(old->caller, fresh.caller, sizeof(fresh.caller)) != 0)
            continue;
        if (memcmp(old->id, fresh.id, sizeof(fresh.id)) == 0)
            return TW_ESTATE;
        of_caller++;
    }
    if (of_caller >= SEEN_OF_ONE || now < s->until)
        return TW_EFULL;
    forget(o, s);
    fresh.next = o->lists[fresh.list];
    *s = fresh;
    o->lists[fresh.list] = (uint16_t)(o->at + 1);
    o->at = (o->at + 1) % SEEN_MAX;
    return 0;
}
