/* A growing list of address ranges. */
#ifndef THALWEGD_RANGES_H
#define THALWEGD_RANGES_H

#include <stdlib.h>

#include <thalweg/addr.h>

struct ranges {
    struct tw_range *v; /* owned */
    size_t n;
};

/* False: no memory. */
static inline bool ranges_add(struct ranges *r, const struct tw_range *range)
{
    struct tw_range *v = realloc(r->v, (r->n + 1) * sizeof(*v));
    if (!v)
        return false;
    r->v = v;
    v[r->n++] = *range;
    return true;
}

#endif
