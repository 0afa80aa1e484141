/* Runs an endpoint on a libuv loop: what rt/sockets.h does, and the connections to rendezvous servers with
 * their names and certificates. */
#ifndef TW_RT_ENDPOINT_H
#define TW_RT_ENDPOINT_H

#include <thalweg/endpoint.h>

#include "rt/lan.h"
#include "rt/sockets.h"

struct tw_rt_endpoint;

struct tw_rt_endpoint_config {
    struct tw_endpoint_config endpoint;
    /* Every event of the endpoint but those about sockets. Verbs may be called from here. */
    void (*on_event)(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev);
    /* What can't be known about a server: without a name and a pin its certificate says nothing. NULL: nobody
     * asks. wrong: or what is wrong with it. */
    void (*on_note)(struct tw_rt_endpoint *r, const struct tw_rdv_addr *server, const char *note, bool wrong);
    struct tw_proxy_url proxy; /* to rendezvous servers, and relays inside them, through it; kind NONE: straight */
    const char *no_proxy;      /* but not to these hosts (tw_proxy_is_exempt()); NULL: to none */
    const char *sni;           /* what TLS names to servers and peers, for networks that want a certain name; NULL: the server's
                                  own. Static */
    const char *metered;       /* names of interfaces, with commas between and "*" at an end, that cost by the byte, as modems do
                                  anyway: used when there is nothing else. NULL: none. Static */
    bool web;                  /* listen at the ports of the web, too, if they are free: networks let others through to them */
    bool strict;               /* no server with a certificate that is not the right one */
    struct tw_bytes ca; /* PEM: trust only these; empty: the system's */
    void *user;
};

struct rdv_link;

struct tw_rt_endpoint {
    struct tw_rt_endpoint_config cfg;
    struct tw_endpoint *endpoint;
    struct tw_rt_sockets sockets;
    struct tw_rt_lan lan; /* if the endpoint's configuration says so */
    struct rdv_link *links;
    char why[200];        /* the last one failed */
    struct tw_addr proxy_at;
    struct tw_rt_tls *trusting, *trusting_none; /* NULL: were never needed */
    bool over;
};

/* TW_ENOMEM, TW_EINVAL, TW_ECRYPTO, TW_ESYS. */
TW_NODISCARD int tw_rt_endpoint_init(struct tw_rt_endpoint *r, uv_loop_t *loop,
                                     const struct tw_rt_endpoint_config *cfg);
void tw_rt_endpoint_start(struct tw_rt_endpoint *r);
/* After any verb on r->endpoint that was not called from on_event. */
void tw_rt_endpoint_pump(struct tw_rt_endpoint *r);
/* How to reach the TURN server inside a rendezvous that is connected: by the same way. False: it is not connected. What *how
 * points to lives as long as r. */
bool tw_rt_endpoint_inside(struct tw_rt_endpoint *r, const struct tw_rdv_addr *server, struct tw_rt_link_config *how);
/* Frees the endpoint and closes everything; r is used until the loop has nothing left to close. */
void tw_rt_endpoint_fini(struct tw_rt_endpoint *r);

#endif
