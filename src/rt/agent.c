#include "rt/agent.h"

#include <stdlib.h>

#include <thalweg/behaviour.h>
#include <thalweg/stun.h>
#include <thalweg/turn.h>

#include "rt/os.h"

#define MACHINE(name, type, prefix)                                                               \
    static int name##_recv(void *m, tw_time now, const struct tw_datagram *in)                    \
    {                                                                                             \
        return prefix##_recv((type *)m, now, in);                                                 \
    }                                                                                             \
    static void name##_tick(void *m, tw_time now)                                                 \
    {                                                                                             \
        prefix##_tick((type *)m, now);                                                            \
    }                                                                                             \
    static bool name##_poll_tx(void *m, struct tw_datagram *ret_out)                              \
    {                                                                                             \
        return prefix##_poll_tx((type *)m, ret_out);                                              \
    }                                                                                             \
    static tw_time name##_deadline(const void *m)                                                 \
    {                                                                                             \
        return prefix##_deadline((const type *)m);                                                \
    }                                                                                             \
    const struct tw_rt_machine tw_rt_##name = { name##_recv, name##_tick, name##_poll_tx,         \
                                                name##_deadline };

MACHINE(stun_client, struct tw_stun_client, tw_stun_client)
MACHINE(turn, struct tw_turn, tw_turn)
MACHINE(behaviour, struct tw_behaviour, tw_behaviour)

static void on_timer(uv_timer_t *timer)
{
    struct tw_rt_agent *a = timer->data;
    a->ops->tick(a->machine, tw_rt_now());
    tw_rt_agent_pump(a);
}

/* A run is one datagram after the other where there are datagrams. */
static void link_send(struct tw_rt_agent *a, const struct tw_datagram *d)
{
    (void)!tw_rt_link_send(&a->link, d->iov, d->iov_n); /* full: dropped, like on a network */
}

void tw_rt_agent_send(struct tw_rt_agent *a)
{
    struct tw_datagram d;
    if (a->linked && !a->link.open)
        return;
    while (a->ops->poll_tx(a->machine, &d)) {
        if (a->linked)
            link_send(a, &d);
        else
            tw_rt_tx_add(a->tx, d.sock && a->has_second ? &a->second : &a->udp, &d);
    }
}

void tw_rt_agent_flush(struct tw_rt_agent *a)
{
    tw_rt_agent_send(a);
    if (!a->linked)
        tw_rt_tx_flush(a->tx);
}

static void drain(struct tw_rt_agent *a)
{
    tw_rt_agent_send(a);
    a->on_events(a, tw_rt_now());
    tw_rt_agent_send(a);
}

void tw_rt_agent_pump(struct tw_rt_agent *a)
{
    drain(a);
    if (!a->linked)
        tw_rt_tx_flush(a->tx);
    if (!a->closing && !a->over)
        tw_rt_timer_at(&a->timer, a->ops->deadline(a->machine), on_timer);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct tw_rt_agent *a = poll->data;
    struct tw_rt_udp *udp = poll == &a->second_poll ? &a->second : &a->udp;
    struct tw_datagram d;
    struct tw_rt_icmp ignored; /* the peer's ICMP errors come through the server, not here */
    (void)status;
    (void)events;
    while (tw_rt_udp_error(udp, &ignored)) {
    }
    unsigned n = tw_rt_rx_read(&a->rx, udp);
    for (unsigned i = 0; i < n && !a->closing; i++) {
        tw_rt_rx_get(&a->rx, i, &d);
        if (!a->ops->recv(a->machine, tw_rt_now(), &d))
            drain(a);
    }
    if (!a->closing)
        tw_rt_agent_pump(a);
    tw_rt_rx_reset(&a->rx);
}

int tw_rt_agent_init(struct tw_rt_agent *a, uv_loop_t *loop, const struct tw_addr *local,
                     const struct tw_rt_machine *ops, void *machine,
                     void (*on_events)(struct tw_rt_agent *a, tw_time now))
{
    *a = (struct tw_rt_agent){ .ops = ops, .machine = machine, .on_events = on_events };
    int err = tw_rt_rx_init(&a->rx);
    if (err)
        return err;
    a->tx = malloc(sizeof(*a->tx));
    err = a->tx ? tw_rt_udp_open(&a->udp, local, TW_RT_GRO) : TW_ENOMEM;
    if (!err && (err = tw_rt_watch(loop, &a->poll, a->udp.fd, UV_READABLE, on_readable, a)))
        tw_rt_udp_close(&a->udp);
    if (err) {
        free(a->tx);
        tw_rt_rx_fini(&a->rx);
        return err;
    }
    tw_rt_tx_init(a->tx, &a->rx);
    a->udp.burst = a->udp.min_burst = TW_RT_RX_MAX;
    uv_timer_init(loop, &a->timer);
    a->timer.data = a;
    return 0;
}

int tw_rt_agent_second(struct tw_rt_agent *a, const struct tw_addr *local)
{
    int err = tw_rt_udp_open(&a->second, local, TW_RT_GRO);
    if (!err && (err = tw_rt_watch(a->timer.loop, &a->second_poll, a->second.fd, UV_READABLE, on_readable, a)))
        tw_rt_udp_close(&a->second);
    if (err)
        return err;
    a->second.id = 1;
    a->second.burst = a->second.min_burst = TW_RT_RX_MAX;
    a->has_second = true;
    return 0;
}

/* --- over a connection ---------------------------------------------------------------------- */

static void on_open(struct tw_rt_link *l)
{
    tw_rt_agent_pump(l->user);
}

static size_t whole_frames(struct tw_bytes in)
{
    size_t n = 0, len;
    while (n < in.n && !tw_stun_frame(in.p + n, in.n - n, &len) && len)
        n += len;
    return n;
}

static size_t on_data(struct tw_rt_link *l, struct tw_bytes in)
{
    struct tw_rt_agent *a = l->user;
    struct tw_bytes whole = tw_bytes(in.p, l->cfg.transport == TW_TRANSPORT_DTLS
                                               ? in.n : whole_frames(in));
    struct tw_datagram d = { .src = a->server, .iov = &whole, .iov_n = 1 };
    if (whole.n && !a->closing && !a->ops->recv(a->machine, tw_rt_now(), &d))
        tw_rt_agent_pump(a);
    return whole.n;
}

static void on_over(struct tw_rt_link *l, const char *why)
{
    struct tw_rt_agent *a = l->user;
    a->over = true;
    uv_timer_stop(&a->timer);
    if (a->on_over)
        a->on_over(a, why);
}

int tw_rt_agent_connect(struct tw_rt_agent *a, uv_loop_t *loop,
                        const struct tw_rt_link_config *how, const struct tw_rt_machine *ops,
                        void *machine, void (*on_events)(struct tw_rt_agent *a, tw_time now))
{
    static const struct tw_rt_link_events events = { on_open, on_data, on_over };
    *a = (struct tw_rt_agent){ .ops = ops, .machine = machine, .on_events = on_events,
                               .linked = true, .server = how->server };
    int err = tw_rt_link_open(&a->link, loop, how, &events, a);
    if (err)
        return err;
    uv_timer_init(loop, &a->timer);
    a->timer.data = a;
    return 0;
}

/* --- the end -------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_agent *a = h->data;
    if (a->linked || ++a->closing != 3u + a->has_second)
        return;
    tw_rt_udp_close(&a->udp);
    if (a->has_second)
        tw_rt_udp_close(&a->second);
    tw_rt_rx_fini(&a->rx);
    free(a->tx);
}

void tw_rt_agent_fini(struct tw_rt_agent *a)
{
    a->closing = 1;
    if (a->linked) {
        tw_rt_link_close(&a->link, NULL);
    } else {
        tw_rt_tx_flush(a->tx);
        uv_close((uv_handle_t *)&a->poll, on_closed);
        if (a->has_second)
            uv_close((uv_handle_t *)&a->second_poll, on_closed);
    }
    uv_close((uv_handle_t *)&a->timer, on_closed);
}
