/* An HTTP proxy that knows CONNECT and no other word (RFC 9110 §9.3.6). */
#ifndef TW_SIM_PROXY_NODE_H
#define TW_SIM_PROXY_NODE_H

#include "sim.h"

enum { PROXY_CONNS = 64 };

struct proxy_node {
    struct sim_host *host;
    uint16_t only_port;  /* connects to no other; 0: to all */
    uint32_t next;
    unsigned tunnels, refused;
    struct {
        uint32_t in, out; /* ids of the two sides; 0: none */
        bool joined;
        char text[256];
        size_t n;
    } conns[PROXY_CONNS];
};

/* Listens on ip:3128. */
void proxy_node_init(struct proxy_node *n, struct sim *s, struct tw_addr ip, struct sim_link link);

#endif
