#include "rt/source.h"

#include <string.h>

bool tw_rt_source_came(struct tw_rt_sources *s, const struct tw_addr *source, uint32_t max,
                       uint32_t *ret_slot)
{
    uint8_t prefix[1 + 8] = { source->family };
    memcpy(prefix + 1, source->ip, source->family == TW_FAMILY_V4 ? 4 : 8);
    uint32_t slot = (uint32_t)tw_hash(&s->key, prefix, sizeof(prefix)) % TW_RT_SOURCES;
    if (atomic_fetch_add(&s->open[slot], 1) >= max) {
        atomic_fetch_sub(&s->open[slot], 1);
        return false;
    }
    *ret_slot = slot;
    return true;
}

void tw_rt_source_left(struct tw_rt_sources *s, uint32_t slot)
{
    atomic_fetch_sub(&s->open[slot], 1);
}
