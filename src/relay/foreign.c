/* Clients whose allocation another worker owns. A RESERVATION-TOKEN names the worker that keeps the
 * port; a client that presents it elsewhere is from then on passed through to that worker. */
#include "relay/internal.h"

#include <stdlib.h>

static bool eq_foreign(const void *item, const void *key)
{
    const struct foreign *f = item;
    const struct tw_datagram *in = key;
    return f->listener == in->sock && tw_addr_eq(&f->client, &in->src) &&
           tw_addr_eq(&f->local, &in->dst);
}

struct foreign *relay_foreign_find(struct tw_relay *r, const struct tw_datagram *in)
{
    if (r->by_foreign.len == 0)
        return NULL;
    return tw_map_get(&r->by_foreign, relay_hash_addr(r, &in->src), eq_foreign, in);
}

void relay_foreign_drop(struct tw_relay *r, struct foreign *f)
{
    tw_timers_set(&r->foreign_timers, &f->timer, TW_NEVER);
    tw_map_del(&r->by_foreign, f->hash, f);
    free(f);
}

void relay_foreign_forward(struct tw_relay *r, struct foreign *f, const struct tw_datagram *in)
{
    tw_time keep = tw_time_from_sec(r->cfg->max_lifetime);
    tw_timers_set(&r->foreign_timers, &f->timer, tw_time_add(r->now, keep));
    struct tw_datagram *d = relay_handover(r, TW_RELAY_HANDOVER_CLIENT, f->worker);
    if (!d)
        return;
    const struct tw_bytes *iov = d->iov;
    *d = *in;
    d->iov = iov;
    d->iov_n = 0;
    if (!relay_iov(r, d, in->iov[0].p, in->iov[0].n))
        r->handover_n--;
}

static struct foreign *foreign_new(struct tw_relay *r, const struct tw_datagram *in,
                                   uint32_t worker)
{
    if (tw_timers_reserve(&r->foreign_timers, MAX_FOREIGN))
        return NULL;
    struct foreign *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    *f = (struct foreign){ .client = in->src, .local = in->dst, .listener = in->sock,
                           .worker = worker };
    f->hash = relay_hash_addr(r, &in->src);
    if (tw_map_put(&r->by_foreign, f->hash, f)) {
        free(f);
        return NULL;
    }
    return f;
}

/* An Allocate with a token of another worker: passes it on and remembers the client. False: the
 * request is for us. */
bool relay_foreign_token(struct tw_relay *r, const struct tw_datagram *in,
                         const struct tw_stun_msg *m)
{
    if (r->from_worker != r->worker || !tw_stun_has(m, TW_STUN_A_RESERVATION_TOKEN))
        return false;
    int worker = tw_relay_token_worker(r->shared, tw_stun_get(m, TW_STUN_A_RESERVATION_TOKEN).p);
    if (worker < 0 || (uint32_t)worker == r->worker || (uint32_t)worker >= r->workers)
        return false;
    struct foreign *f = foreign_new(r, in, (uint32_t)worker);
    if (!f)
        return false;
    relay_foreign_forward(r, f, in);
    tw_timers_set(&r->foreign_timers, &f->timer, tw_time_add(r->now, FOREIGN_SEC * TW_SEC));
    return true;
}
