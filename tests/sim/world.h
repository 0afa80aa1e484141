/* Two peers behind networks of some kind, and the servers on the open network between them: the stage
 * of the sweep, of the population and of the scenarios. */
#ifndef TW_SIM_WORLD_H
#define TW_SIM_WORLD_H

#include "gateway_node.h"
#include "ice_node.h"
#include "nodes.h"
#include "proxy_node.h"

/* Where one peer is. */
struct place {
    bool natted;
    struct sim_nat_kind nat;
    bool carrier;               /* another NAT behind which that one is */
    struct sim_nat_kind outer;
    struct sim_link link;
    bool tcp;                   /* the agent offers and takes TCP */
    bool v6;                    /* addresses of IPv6: without a NAT, and without servers */
    bool proxied;               /* it reaches servers through the proxy */
    bool has_gateway;           /* the NAT's inside is known and may map ports */
    enum gateway_speech gateway;
};

struct world_options {
    struct place a, b;
    bool same_nat;              /* b is behind a's */
    bool same_carrier;          /* both are behind a's outer NAT */
    bool no_relay, no_stun;     /* servers there are not */
    bool web;                   /* the relay is named over TCP on 80 and TLS on 443, too */
    bool dead_server;           /* one more STUN and TURN server that answers nothing */
    bool foreign;               /* the agents take each other for strangers */
    bool no_probing;
    struct tw_ice_tape tape_a;  /* of a's agent */
    tw_time answer_delay;       /* so much later than b, a hears of the other */
    tw_time signal_delay, limit; /* limit: how long to try; 0: 15 s */
    uint64_t seed;
};

/* What came of it. */
struct outcome {
    bool connected, direct;
    uint8_t local_type, remote_type; /* of a's path */
    tw_time usable;             /* from both having candidates to both having a path; TW_NEVER */
    tw_time direct_after;       /* ... a direct path; TW_NEVER */
    uint64_t packets;           /* sent by the two, from then to the end */
    uint64_t probes;
};

struct world {
    struct sim *sim;
    struct relay_node relay;
    struct ice_node a, b;
    struct sim_nat *nat_a, *nat_b, *carrier_a;
    struct gateway_node gateway_a, gateway_b;
    struct proxy_node proxy;
};

/* Everything up to where both have gathered and begun to tell each other. */
void world_begin(struct world *w, const struct world_options *o);
/* Until both have a direct path, or the time is over. */
struct outcome world_connect(struct world *w, const struct world_options *o);
void world_end(struct world *w);

/* All three. */
struct outcome world_run(const struct world_options *o);

/* Every kind of NAT there is: 3 mappings x 3 filterings x 4 ways to pick a port. */
enum { NAT_KIND_COUNT = 36 };
struct sim_nat_kind nat_kind_at(unsigned i);
bool nat_kind_find(const char *name, struct sim_nat_kind *ret);
const char *nat_kind_name(const struct sim_nat_kind *k, char buf[32]);

/* Where world's proxy is. */
struct tw_addr proxy_addr(void);

bool blocks_udp(const struct place *p);

/* Whether two peers behind such NATs can be connected directly by somebody who knows all about both
 * but the numbers that are not drawn yet; see world.c. */
bool theory_allows(const struct place *a, const struct place *b);

#endif
