/* The usual cast of an endpoint's scenario: two endpoints, the rendezvous at which they meet, and the relay it recommends. */
#ifndef TW_SIM_MEETING_H
#define TW_SIM_MEETING_H

#include "../test.h"
#include "endpoint_node.h"

struct meeting {
    struct sim *sim;
    struct relay_node relay;
    struct desk_node desk;
    struct endpoint_node a, b;
};

#define MEETING_DESK "203.0.114.7"

/* The servers are so far away from all; a and b are to be added. web: as of desk_node_init. */
static inline void meeting_begin(struct meeting *m, uint64_t seed, struct sim_link link, bool web)
{
    memset(m, 0, sizeof(*m));
    m->sim = sim_new(seed);
    relay_node_init(&m->relay, m->sim, ip("203.0.114.1"), ip("2a00:1::1"), link, 1);
    desk_node_init(&m->desk, m->sim, ip(MEETING_DESK), link, &m->relay, web);
    relay_node_start(&m->relay);
    relay_node_listen(&m->relay, 3478);
}

static inline void meeting_end(struct meeting *m)
{
    endpoint_node_fini(&m->a);
    endpoint_node_fini(&m->b);
    desk_node_fini(&m->desk);
    relay_node_fini(&m->relay);
    sim_free(m->sim);
}

#endif
