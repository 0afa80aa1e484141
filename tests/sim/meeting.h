/* The usual cast of an endpoint's scenario: two endpoints, the rendezvous at which they meet, and the relay it recommends. */
#ifndef TW_SIM_MEETING_H
#define TW_SIM_MEETING_H

#include "endpoint_node.h"

struct meeting {
    struct sim *sim;
    struct relay_node relay;
    struct desk_node desk;
    struct endpoint_node a, b;
};

static inline struct tw_addr meeting_desk(void)
{
    return tw_addr_v4(203, 0, 114, 7, 0);
}

/* The servers are so far away from all; a and b are to be added. web: as of desk_node_init. */
static inline void meeting_begin(struct meeting *m, uint64_t seed, struct sim_link link, bool web)
{
    const uint8_t v6[16] = { 0x2a, 0, 0, 1, [15] = 1 };
    memset(m, 0, sizeof(*m));
    m->sim = sim_new(seed);
    relay_node_init(&m->relay, m->sim, tw_addr_v4(203, 0, 114, 1, 0), tw_addr_v6(v6, 0), link, 1);
    desk_node_init(&m->desk, m->sim, meeting_desk(), link, &m->relay, web);
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
