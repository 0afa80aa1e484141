/* Puts away what networks of before have left, so that an agent may move as often as it likes. */
#include "ice/internal.h"

static bool is_path(const struct tw_ice *a, uint16_t pair)
{
    return a->comps[a->pairs[pair].comp].path == pair;
}

/* Of a base that is gone, and so is that from which another connection could be made. */
static bool is_dead(const struct tw_ice *a, const struct pair *p)
{
    return a->bases[p->base].state == BASE_DEAD && a->bases[p->from].state == BASE_DEAD;
}

static void drop_pairs(struct tw_ice *a, const bool *remote_goes)
{
    uint16_t kept = 0;
    for (uint16_t i = 0; i < a->pair_n; i++) {
        const struct pair *p = &a->pairs[i];
        if (!is_path(a, i) && (is_dead(a, p) || (remote_goes && remote_goes[p->remote])))
            continue;
        ice_pair_moves(a, i, kept);
        a->pairs[kept++] = *p;
    }
    a->pair_n = kept;
}

void ice_sweep(struct tw_ice *a)
{
    uint16_t kept = 0;
    drop_pairs(a, NULL);
    for (uint16_t i = 0; i < a->query_n; i++)
        if (a->bases[a->queries[i].base].state != BASE_DEAD)
            a->queries[kept++] = a->queries[i];
    a->query_n = kept;
}

void tw_ice_forget_remotes(struct tw_ice *a, tw_time now)
{
    bool goes[MAX_REMOTES * 32] = { 0 };
    uint16_t to[MAX_REMOTES * 32], kept = 0;
    a->now = now;
    ice_tape(a->tape, now, "forget");
    for (uint16_t r = 0; r < a->remote_n; r++)
        goes[r] = true;
    for (uint16_t i = 0; i < a->pair_n; i++)
        if (a->pairs[i].valid || is_path(a, i))
            goes[a->pairs[i].remote] = false;
    drop_pairs(a, goes);
    for (uint16_t r = 0; r < a->remote_n; r++) {
        to[r] = kept;
        if (!goes[r])
            a->remotes[kept++] = a->remotes[r];
    }
    a->remote_n = kept;
    for (uint16_t i = 0; i < a->pair_n; i++)
        a->pairs[i].remote = to[a->pairs[i].remote];
}
