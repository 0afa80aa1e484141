/* What one worker gives another: copied into a bounded queue, the receiver woken. And what a server
 * that takes over passes to the one before it. */
#include <sys/socket.h>
#include <unistd.h>

#include "rt/worker.h"

enum wire_kind {
    WIRE_MACHINE, /* for the relay machine */
    WIRE_FAR,     /* for a client's connection */
    WIRE_NOTE,    /* about a joined connection */
};

/* What goes through a queue; the payload follows. */
struct wire {
    enum wire_kind kind;
    enum tw_relay_handover_type type;
    enum worker_note note;
    uint32_t from, sock;
    struct tw_addr src, dst;
    uint64_t up, down; /* NOTE_PEER_GONE: bytes */
    uint16_t segment;
    uint8_t tos, ttl, flags;
};

void worker_wake(struct worker *w)
{
    uint64_t one = 1;
    if (!atomic_exchange(&w->woken, true) && write(w->wake_fd, &one, sizeof(one)) < 0)
        atomic_store(&w->woken, false);
}

static struct wire wire_of(const struct worker *w, enum wire_kind kind, const struct tw_datagram *d)
{
    return (struct wire){ .kind = kind, .from = w->index, .sock = d->sock, .src = d->src,
                          .dst = d->dst, .segment = d->segment, .tos = d->tos, .ttl = d->ttl,
                          .flags = d->flags };
}

static void give(struct worker *w, uint32_t index, const struct wire *wire,
                 const struct tw_bytes *iov, size_t iov_n)
{
    struct worker *to = &w->server->workers[index];
    size_t n = sizeof(*wire);
    for (size_t i = 0; i < iov_n; i++)
        n += iov[i].n;
    uint8_t *p = tw_rt_queue_room(&to->in[w->index], n);
    if (!p) {
        w->count.queue_full++;
        return;
    }
    memcpy(p, wire, sizeof(*wire));
    p += sizeof(*wire);
    for (size_t i = 0; i < iov_n; i++) {
        memcpy(p, iov[i].p, iov[i].n);
        p += iov[i].n;
    }
    tw_rt_queue_publish(&to->in[w->index], n);
    worker_wake(to);
}

void worker_send_far(struct worker *w, uint32_t to, const struct tw_datagram *d)
{
    struct wire wire = wire_of(w, WIRE_FAR, d);
    if (to < w->server->worker_n)
        give(w, to, &wire, d->iov, d->iov_n);
}

static void take_note(struct worker *w, const struct wire *wire)
{
    if (wire->note == NOTE_PEER_GONE) {
        tw_relay_flow_report(w->relay, wire->sock, 0, wire->up, 0, wire->down, w->now);
        tw_relay_peer_gone(w->relay, w->now, wire->sock);
        worker_drain(w);
        return;
    }
    for (uint32_t i = 0; i < w->conn_cap; i++) {
        struct conn *c = w->conns[i];
        if (c && c->state == CONN_JOINED && worker_splice_is(c, wire->from, wire->sock)) {
            worker_conn_close(w, c);
            return;
        }
    }
}

void worker_note(struct worker *w, uint32_t to, enum worker_note note, uint32_t sock, uint64_t up,
                 uint64_t down)
{
    struct wire wire = { .kind = WIRE_NOTE, .note = note, .from = w->index, .sock = sock, .up = up,
                         .down = down };
    if (to == w->index)
        take_note(w, &wire);
    else
        give(w, to, &wire, NULL, 0);
}

void worker_take_handovers(struct worker *w, struct tw_rt_queue *q)
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
        if (wire.kind == WIRE_MACHINE) {
            tw_relay_recv_handover(w->relay, w->now, &h);
            worker_drain(w);
        } else if (wire.kind == WIRE_FAR) {
            worker_conn_send(w, &h.d);
        } else {
            take_note(w, &wire);
        }
        tw_rt_queue_drop(q);
    }
    if (tw_rt_queue_peek(q, &msg))
        worker_wake(w);
}

/* --- two servers -------------------------------------------------------------------------- */

static void give_elder(struct worker *w, const struct wire *wire, const struct tw_datagram *d)
{
    struct iovec iov[2] = { { (void *)(uintptr_t)wire, sizeof(*wire) },
                            { (void *)(uintptr_t)d->iov[0].p, d->iov[0].n } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
    if (w->elder_fd < 0 || sendmsg(w->elder_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        w->count.queue_full++;
}

void worker_hand_over(struct worker *w, const struct tw_relay_handover *h)
{
    struct wire wire = wire_of(w, WIRE_MACHINE, &h->d);
    wire.type = h->type;
    if (h->type == TW_RELAY_HANDOVER_ELDER)
        give_elder(w, &wire, &h->d);
    else
        give(w, h->to, &wire, h->d.iov, h->d.iov_n);
}

void worker_to_elder(struct worker *w, const struct tw_datagram *d)
{
    struct wire wire = wire_of(w, WIRE_MACHINE, d);
    if (w->elder_fd >= 0)
        give_elder(w, &wire, d);
}

/* The elder reads what came to its heir: as if it had come to its own listener. */
void worker_take_from_heir(struct worker *w)
{
    enum { PER_PASS = 256 };
    for (int i = 0; i < PER_PASS; i++) {
        struct wire wire;
        uint8_t *buf = worker_buffer(w);
        struct iovec iov[2] = { { &wire, sizeof(wire) }, { buf, TW_RT_CONN_FRAME } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
        ssize_t n = recvmsg(w->heir_fd, &m, MSG_DONTWAIT);
        if (n < (ssize_t)sizeof(wire))
            return;
        struct tw_bytes bytes = tw_bytes(buf, (size_t)n - sizeof(wire));
        struct tw_datagram d = { .sock = wire.sock, .segment = wire.segment, .tos = wire.tos,
                                 .ttl = wire.ttl, .flags = wire.flags, .src = wire.src,
                                 .dst = wire.dst, .iov = &bytes, .iov_n = 1 };
        if (wire.sock < w->listener_n && bytes.n)
            worker_from_listener(w, &d);
    }
}
