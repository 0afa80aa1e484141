/* How many connections each source has open, counted in a table of fixed size. */
#ifndef TW_RT_SOURCE_H
#define TW_RT_SOURCE_H

#include <stdatomic.h>

#include <thalweg/addr.h>

#include "base/map.h"

enum { TW_RT_SOURCES = 1 << 15 };

/* A source is an IPv4 address or an IPv6 /64. Two may share a counter, by chance: the key is
 * secret. */
struct tw_rt_sources {
    struct tw_hash_key key;
    _Atomic uint32_t open[TW_RT_SOURCES];
};

/* Counts one more; false when there are `max` already. *ret_slot is for tw_rt_source_left(). */
bool tw_rt_source_came(struct tw_rt_sources *s, const struct tw_addr *source, uint32_t max,
                       uint32_t *ret_slot);
void tw_rt_source_left(struct tw_rt_sources *s, uint32_t slot);

#endif
