/* Clients on paths that lead to an allocation elsewhere: at another worker, which a token, a ticket
 * or a connection id in the request names; at this one, whose client has moved on (RFC 8016); or in
 * the server that this one takes over from. */
#include "relay/internal.h"

#include <stdlib.h>

static bool eq_foreign(const void *item, const void *key)
{
    return relay_on_path(&((const struct foreign *)item)->path, key);
}

struct foreign *relay_foreign_find(struct tw_relay *r, const struct tw_datagram *in)
{
    if (r->by_foreign.len == 0)
        return NULL;
    return tw_map_get(&r->by_foreign, relay_hash_addr(r, &in->src), eq_foreign, in);
}

void relay_foreign_drop(struct tw_relay *r, struct foreign *f)
{
    if (f->alloc) {
        f->alloc->moved = NULL;
        relay_foreign_gone(r, &f->path);
    }
    tw_timers_set(&r->foreign_timers, &f->timer, TW_NEVER);
    tw_map_del(&r->by_foreign, f->hash, f);
    free(f);
}

/* Tells the worker at which a path ends that it leads nowhere any more. */
void relay_foreign_gone(struct tw_relay *r, const struct path *path)
{
    struct tw_datagram *d = path->home == r->worker
                                ? NULL : relay_handover(r, TW_RELAY_HANDOVER_GONE, path->home);
    if (!d)
        return;
    d->sock = path->listener;
    d->src = path->client;
    d->dst = path->local;
}

static void hand_over(struct tw_relay *r, enum tw_relay_handover_type type, uint32_t to,
                      const struct tw_datagram *in, struct tw_bytes bytes)
{
    struct tw_datagram *d = relay_handover(r, type, to);
    if (!d)
        return;
    const struct tw_bytes *iov = d->iov;
    *d = *in;
    d->iov = iov;
    d->iov_n = 0;
    if (bytes.n != in->iov[0].n)
        d->segment = 0;
    if (!relay_iov(r, d, bytes.p, bytes.n))
        r->handover_n--;
}

void relay_foreign_forward(struct tw_relay *r, struct foreign *f, const struct tw_datagram *in,
                           struct tw_bytes bytes)
{
    tw_time keep = tw_time_from_sec(r->cfg->max_lifetime);
    tw_timers_set(&r->foreign_timers, &f->timer, tw_time_add(r->now, keep));
    hand_over(r, TW_RELAY_HANDOVER_CLIENT, f->worker, in, bytes);
}

/* NULL: no memory, or too many. */
struct foreign *relay_foreign_new(struct tw_relay *r, const struct path *path, uint32_t worker,
                                  struct alloc *alloc)
{
    if (tw_timers_reserve(&r->foreign_timers, r->by_foreign.len + 1))
        return NULL;
    struct foreign *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    *f = (struct foreign){ .path = *path, .worker = worker, .alloc = alloc };
    f->hash = relay_hash_addr(r, &path->client);
    if (tw_map_put(&r->by_foreign, f->hash, f)) {
        free(f);
        return NULL;
    }
    return f;
}

static int named_worker(const struct tw_relay *r, const struct tw_stun_msg *m)
{
    uint32_t id;
    if (m->method == TW_STUN_ALLOCATE && tw_stun_has(m, TW_STUN_A_RESERVATION_TOKEN))
        return tw_relay_token_worker(r->shared, tw_stun_get(m, TW_STUN_A_RESERVATION_TOKEN).p);
    if (m->method == TW_STUN_REFRESH && tw_stun_has(m, TW_STUN_A_MOBILITY_TICKET))
        return relay_ticket_worker(r, tw_stun_get(m, TW_STUN_A_MOBILITY_TICKET));
    if (m->method == TW_STUN_CONNECTION_BIND && tw_stun_get_u32(m, TW_STUN_A_CONNECTION_ID, &id))
        return (int)(id >> CONNECTION_WORKER_SHIFT);
    return -1;
}

/* A request that belongs to another worker: passes it on and remembers the client. False: it is for
 * us. */
bool relay_foreign_request(struct tw_relay *r, const struct tw_datagram *in,
                           const struct tw_stun_msg *m)
{
    int worker = r->from_worker == r->worker ? named_worker(r, m) : -1;
    if (worker < 0 || (uint32_t)worker == r->worker || (uint32_t)worker >= r->workers)
        return false;
    struct path path = relay_path(r, in);
    struct foreign *f = relay_foreign_new(r, &path, (uint32_t)worker, NULL);
    if (!f)
        return false;
    relay_foreign_forward(r, f, in, m->raw);
    tw_timers_set(&r->foreign_timers, &f->timer, tw_time_add(r->now, FOREIGN_SEC * TW_SEC));
    return true;
}

/* While we take over from another server: what nobody here knows may be its, unless it is a question
 * that anybody can answer. */
bool relay_elder(struct tw_relay *r, const struct tw_datagram *in, struct tw_bytes bytes)
{
    if (!r->cfg->elder || in->sock >= TW_RELAY_FIRST_SOCK || bytes.n == 0)
        return false;
    if (bytes.p[0] >> 6 == 0 && bytes.n >= TW_STUN_HEADER) {
        unsigned type = tw_get_u16(bytes.p);
        if (type == TW_STUN_BINDING || type == TW_STUN_ALLOCATE)
            return false;
    }
    hand_over(r, TW_RELAY_HANDOVER_ELDER, r->worker, in, bytes);
    return true;
}
