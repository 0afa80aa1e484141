/* Runs one client machine over a UDP socket, or a connection, on a libuv loop: the four steps of
 * every machine (call, drain datagrams, drain events, arm the deadline), written once. */
#ifndef TW_RT_AGENT_H
#define TW_RT_AGENT_H

#include <uv.h>

#include "rt/link.h"
#include "rt/udp.h"

/* How to drive a machine of some type. */
struct tw_rt_machine {
    int (*recv)(void *machine, tw_time now, const struct tw_datagram *in);
    void (*tick)(void *machine, tw_time now);
    bool (*poll_tx)(void *machine, struct tw_datagram *ret_out);
    tw_time (*deadline)(const void *machine);
};

extern const struct tw_rt_machine tw_rt_stun_client; /* struct tw_stun_client */
extern const struct tw_rt_machine tw_rt_turn;        /* struct tw_turn */
extern const struct tw_rt_machine tw_rt_behaviour;   /* struct tw_behaviour */

struct tw_rt_agent {
    const struct tw_rt_machine *ops;
    void *machine;
    void (*on_events)(struct tw_rt_agent *a, tw_time now); /* drain the machine's events here */
    /* Over a connection: it is over, or never was; why is static. May be NULL. */
    void (*on_over)(struct tw_rt_agent *a, const char *why);
    void *user;
    struct tw_rt_udp udp; /* unless linked: socket 0 of the machine */
    struct tw_rt_udp second; /* socket 1, once there is one */
    uv_poll_t second_poll;
    bool has_second;
    struct tw_rt_rx rx;
    struct tw_rt_tx *tx;
    uv_poll_t poll;
    struct tw_rt_link link;
    bool linked, over;
    struct tw_addr server; /* of the link */
    uv_timer_t timer;
    unsigned closing;
};

/* Opens a socket on local (port 0: any) and watches it. The loop and the machine belong to the
 * caller and outlive the agent. TW_ESYS (errno), TW_ENOMEM, TW_EADDRINUSE. */
TW_NODISCARD int tw_rt_agent_init(struct tw_rt_agent *a, uv_loop_t *loop,
                                  const struct tw_addr *local, const struct tw_rt_machine *ops,
                                  void *machine,
                                  void (*on_events)(struct tw_rt_agent *a, tw_time now));

/* The same over TCP, TLS or DTLS. What the machine sends before the connection stands waits. Errors
 * as for tw_rt_link_open(). */
TW_NODISCARD int tw_rt_agent_connect(struct tw_rt_agent *a, uv_loop_t *loop,
                                     const struct tw_rt_link_config *how,
                                     const struct tw_rt_machine *ops, void *machine,
                                     void (*on_events)(struct tw_rt_agent *a, tw_time now));

/* Opens another UDP socket for the machine, which calls it 1. Errors as for tw_rt_agent_init(). */
TW_NODISCARD int tw_rt_agent_second(struct tw_rt_agent *a, const struct tw_addr *local);

/* To be called after any verb on the machine: sends, drains events, arms the timer. */
void tw_rt_agent_pump(struct tw_rt_agent *a);

/* Sends what the machine has ready without looking at events: for use inside on_events. */
void tw_rt_agent_send(struct tw_rt_agent *a);

/* The same, and out with it, for use outside. */
void tw_rt_agent_flush(struct tw_rt_agent *a);

/* Closes the handles; the loop must run once more before `a` may be freed or used again. */
void tw_rt_agent_fini(struct tw_rt_agent *a);

#endif
