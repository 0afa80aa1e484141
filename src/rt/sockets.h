/* Runs a machine that asks for sockets (an ICE agent, an endpoint) on a libuv loop: its UDP sockets,
 * listeners, connections and timer, and this machine's addresses. */
#ifndef TW_RT_SOCKETS_H
#define TW_RT_SOCKETS_H

#include <uv.h>

#include <thalweg/endpoint.h>

#include "rt/clock.h"
#include "rt/interfaces.h"
#include "rt/link.h"
#include "rt/nat64.h"
#include "rt/udp.h"
#include "rt/upnp.h"

struct tw_rt_sockets;

/* How to drive a machine of some type. */
struct tw_rt_sockets_ops {
    void (*recv)(void *machine, tw_time now, const struct tw_datagram *in);
    void (*opened)(void *machine, tw_time now, uint32_t sock, int err, const struct tw_addr *local);
    void (*accepted)(void *machine, tw_time now, uint32_t listener, const struct tw_addr *remote,
                     enum tw_ice_via via, uint32_t *ret_sock);
    /* The listener for whose token somebody asks at a port that all share; 0: nobody's. NULL: no such ports. */
    uint32_t (*web_listener)(const void *machine, const char *token);
    void (*disconnected)(void *machine, tw_time now, uint32_t sock);
    void (*waits)(void *machine, tw_time now, uint32_t sock, tw_time wait);
    void (*mapped)(void *machine, tw_time now, uint32_t sock, const struct tw_addr *outside);
    int (*interfaces)(struct tw_rt_sockets *s, tw_time now, const struct tw_ice_interface *list, size_t n);
    void (*nat64)(void *machine, tw_time now, const struct tw_range *prefix);
    void (*tick)(void *machine, tw_time now);
    bool (*poll_tx)(void *machine, struct tw_datagram *ret_out);
    tw_time (*deadline)(const void *machine);
    /* Takes the machine's next event and does what it asks, with tw_rt_sockets_event() where it is about
     * sockets. Verbs may be called. False: there was none. */
    bool (*next_event)(struct tw_rt_sockets *s);
    /* Fills in transport, tls and host of a connection to a TURN server. */
    void (*turn)(struct tw_rt_sockets *s, const struct tw_ice_event *ev, struct tw_rt_link_config *how);
    /* What is sent to a socket that was not opened here. NULL: nowhere. */
    void (*send)(struct tw_rt_sockets *s, const struct tw_datagram *d);
};

struct rt_sock;

enum { TW_RT_SOCKETS_LISTS = 1024 };

struct tw_rt_sockets {
    const struct tw_rt_sockets_ops *ops;
    void *machine, *user;
    uv_loop_t *loop;
    struct tw_rt_tls *web_tls, *web_client; /* for who comes, and whom we go to, by TLS; they mean nobody in particular */
    const char *sni;                  /* of connections to peers inside TLS; NULL: none */
    const struct tw_proxy_url *proxy; /* connections inside HTTP go through it, at */
    const struct tw_addr *proxy_at;   /* this address; NULL: they do not, or not yet */
    unsigned pending;        /* connections that have come, and have not said what they are */
    struct rt_sock *socks[TW_RT_SOCKETS_LISTS]; /* those of one agent of an endpoint's stand in the same list */
    struct rt_sock *dirty;   /* connections with something to send */
    struct tw_rt_rx rx;
    struct tw_rt_tx *tx;
    uv_timer_t timer;
    tw_time due;             /* when it is to fire */
    struct tw_rt_clock clock;
    struct tw_rt_watch watch;
    struct tw_rt_nat64 nat64;
    struct tw_rt_upnp *upnp; /* NULL: was never needed */
    bool watching, draining, over;
    bool reads_first;        /* the timer was late, and fires again when what has come is read */
};

/* TW_ENOMEM, TW_ESYS. */
TW_NODISCARD int tw_rt_sockets_init(struct tw_rt_sockets *s, uv_loop_t *loop,
                                    const struct tw_rt_sockets_ops *ops, void *machine, void *user);
/* Tells the machine its interfaces, and when they change. */
void tw_rt_sockets_start(struct tw_rt_sockets *s);
/* Listens at a port that all of the machine's listeners share, for HTTP and TLS. False: it can't be had. */
bool tw_rt_sockets_web(struct tw_rt_sockets *s, uint16_t port);
/* OPEN, CLOSE or MAP; false: it is another event. */
bool tw_rt_sockets_event(struct tw_rt_sockets *s, const struct tw_ice_event *ev);
/* Closes all of one agent, whose ids are like this one above TW_ENDPOINT_SOCK_BITS. */
void tw_rt_sockets_close_all(struct tw_rt_sockets *s, uint32_t id);
/* After any verb that was not called from next_event: sends, takes events, arms the timer. */
void tw_rt_sockets_pump(struct tw_rt_sockets *s);
/* Closes everything; s is used until the loop has nothing left to close. The machine is not used again. */
void tw_rt_sockets_fini(struct tw_rt_sockets *s);

#endif
