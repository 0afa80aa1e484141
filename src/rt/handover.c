/* What one worker gives another: copied into a bounded queue, the receiver woken. */
#include <unistd.h>

#include "rt/worker.h"

/* What a hand-over looks like in a queue; the payload follows. */
struct wire {
    enum tw_relay_handover_type type;
    uint32_t from, sock;
    struct tw_addr src, dst;
    uint16_t segment;
    uint8_t tos, ttl, flags;
};

void worker_wake(struct worker *w)
{
    uint64_t one = 1;
    if (!atomic_exchange(&w->woken, true) && write(w->wake_fd, &one, sizeof(one)) < 0)
        atomic_store(&w->woken, false);
}

void worker_hand_over(struct worker *w, const struct tw_relay_handover *h)
{
    struct worker *to = &w->server->workers[h->to];
    size_t n = sizeof(struct wire);
    for (size_t i = 0; i < h->d.iov_n; i++)
        n += h->d.iov[i].n;
    uint8_t *p = tw_rt_queue_room(&to->in[w->index], n);
    if (!p) {
        w->queue_full++;
        return;
    }
    struct wire wire = { h->type, h->from, h->d.sock, h->d.src, h->d.dst,
                         h->d.segment, h->d.tos, h->d.ttl, h->d.flags };
    memcpy(p, &wire, sizeof(wire));
    p += sizeof(wire);
    for (size_t i = 0; i < h->d.iov_n; i++) {
        memcpy(p, h->d.iov[i].p, h->d.iov[i].n);
        p += h->d.iov[i].n;
    }
    tw_rt_queue_publish(&to->in[w->index], n);
    worker_wake(to);
}

void worker_take_handovers(struct worker *w, struct tw_rt_queue *q, tw_time now)
{
    enum { PER_PASS = 256 };
    struct tw_bytes msg;
    for (int i = 0; i < PER_PASS && tw_rt_queue_peek(q, &msg); i++) {
        struct wire wire;
        memcpy(&wire, msg.p, sizeof(wire));
        struct tw_bytes payload = tw_bytes(msg.p + sizeof(wire), msg.n - sizeof(wire));
        struct tw_relay_handover h = {
            .type = wire.type,
            .to = w->index,
            .from = wire.from,
            .d = { .sock = wire.sock, .segment = wire.segment, .tos = wire.tos, .ttl = wire.ttl,
                   .flags = wire.flags, .src = wire.src, .dst = wire.dst, .iov = &payload,
                   .iov_n = 1 },
        };
        tw_relay_recv_handover(w->relay, now, &h);
        worker_drain(w);
        tw_rt_queue_drop(q);
    }
    if (tw_rt_queue_peek(q, &msg))
        worker_wake(w);
}
