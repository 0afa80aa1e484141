/* What leaves the machine: datagrams, events and hand-overs in bounded arrays that are emptied by
 * polling and started afresh by the next call. */
#include "relay/internal.h"

void relay_reset_out(struct tw_relay *r)
{
    r->run = NULL;
    if (r->tx_at == r->tx_n && r->handover_at == r->handover_n) {
        r->tx_at = r->tx_n = 0;
        r->handover_at = r->handover_n = 0;
        r->iov_n = 0;
        r->scratch_n = 0;
    }
    if (r->event_at == r->event_n)
        r->event_at = r->event_n = 0;
}

uint8_t *relay_scratch(struct tw_relay *r, size_t n)
{
    if (n > SCRATCH - r->scratch_n) {
        r->stats.drop_full++;
        return NULL;
    }
    uint8_t *p = r->scratch + r->scratch_n;
    r->scratch_n += (uint32_t)n;
    return p;
}

struct tw_datagram *relay_tx(struct tw_relay *r, uint32_t sock, const struct tw_addr *src,
                             const struct tw_addr *dst)
{
    if (r->tx_n == TX_MAX) {
        r->stats.drop_full++;
        return NULL;
    }
    r->run = NULL;
    struct tw_datagram *d = &r->tx[r->tx_n++];
    d->sock = sock;
    d->segment = 0;
    d->tos = d->ttl = d->flags = 0;
    d->src = *src;
    d->dst = *dst;
    d->iov = &r->iov[r->iov_n];
    d->iov_n = 0;
    return d;
}

struct tw_datagram *relay_handover(struct tw_relay *r, enum tw_relay_handover_type type,
                                   uint32_t to)
{
    if (r->handover_n == HANDOVER_MAX) {
        r->stats.drop_full++;
        return NULL;
    }
    r->run = NULL;
    struct tw_relay_handover *h = &r->handovers[r->handover_n++];
    *h = (struct tw_relay_handover){ .type = type, .to = to, .from = r->worker };
    h->d.iov = &r->iov[r->iov_n];
    return &h->d;
}

/* Only the datagram made last can grow: the iov array is one and they follow each other in it. */
bool relay_iov(struct tw_relay *r, struct tw_datagram *d, const void *p, size_t n)
{
    if (r->iov_n == IOV_MAX_OUT)
        return false;
    r->iov[r->iov_n++] = tw_bytes(p, n);
    d->iov_n++;
    return true;
}

bool relay_events_free(const struct tw_relay *r, uint32_t n)
{
    return EVENT_MAX - r->event_n >= n;
}

struct tw_relay_event *relay_event(struct tw_relay *r, enum tw_relay_event_type type)
{
    struct tw_relay_event *ev = &r->events[r->event_n++];
    *ev = (struct tw_relay_event){ .type = type };
    return ev;
}

bool tw_relay_poll_tx(struct tw_relay *r, struct tw_datagram *ret_out)
{
    while (r->tx_at < r->tx_n) {
        *ret_out = r->tx[r->tx_at++];
        if (ret_out->iov_n) /* 0: it was given up half-way */
            return true;
    }
    return false;
}

bool tw_relay_poll_event(struct tw_relay *r, struct tw_relay_event *ret_event)
{
    if (r->event_at == r->event_n)
        return false;
    *ret_event = r->events[r->event_at++];
    if (r->event_at == r->event_n)
        r->event_at = r->event_n = 0;
    return true;
}

bool tw_relay_poll_handover(struct tw_relay *r, struct tw_relay_handover *ret_handover)
{
    if (r->handover_at == r->handover_n)
        return false;
    *ret_handover = r->handovers[r->handover_at++];
    return true;
}
