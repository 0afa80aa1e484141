/* An ICE agent on a simulated host, and two of them that tell each other their candidates. */
#ifndef TW_SIM_ICE_NODE_H
#define TW_SIM_ICE_NODE_H

#include <thalweg/ice.h>

#include "sim.h"
#include "stream.h"

enum { ICE_INBOX = 160 };

struct ice_node;

/* Something the peer said, on its way. */
struct ice_word {
    tw_time at;
    enum { ICE_WORD_REMOTE, ICE_WORD_CANDIDATE, ICE_WORD_END } what;
    struct tw_ice_candidate candidate;
    char ufrag[32], pwd[40];
    bool lite, own;
};

struct ice_node {
    struct sim *sim;
    struct sim_host *host;
    struct sim_nat *nat;
    struct tw_ice *ice;
    struct tw_ice_config cfg;
    struct tw_ice_interface interfaces[4];
    unsigned interface_n;
    tw_time clock;           /* the host's clock is so much ahead; change it at any time */
    struct ice_node *peer;
    tw_time signal_delay;    /* of what is said to the peer */
    struct ice_word inbox[ICE_INBOX];
    unsigned inbox_n;
    bool gathered, connected, failed, closed, stop, speaks;
    struct streams streams;
    enum tw_transport transports[TW_ICE_SERVERS_MAX]; /* of the servers */
    struct tw_addr proxy;    /* connections to servers go through it; family NONE: straight */
    unsigned opened;         /* sockets now */
    unsigned maps_wanted;    /* MAP events */
    tw_time gathered_at, heard_at, connected_at, direct_at; /* 0: not yet */
    struct tw_ice_path path;
    unsigned paths, disconnects, silences; /* silences: that began or ended */
    uint64_t data_n;
    uint8_t data[64];
    size_t data_len;
    tw_time data_at;
    bool echo;
};

/* A host with one address and an agent on it. cfg is completed: one that is not own_peer is. */
void ice_node_init(struct ice_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                   struct sim_link link, const struct tw_ice_config *cfg);
void ice_node_fini(struct ice_node *n);
/* Tells the agent its interfaces. */
void ice_node_gather(struct ice_node *n);
/* From now on the two tell each other what they have, and what they will have. */
void ice_node_meet(struct ice_node *a, struct ice_node *b, tw_time there, tw_time back);
/* After any verb on n->ice. */
void ice_node_pump(struct ice_node *n);
/* Data over the first component. */
int ice_node_send(struct ice_node *n, const void *p, size_t len);
bool ice_node_is_direct(const struct ice_node *n);
/* Its credentials and candidates of now, to the peer: at the beginning and after a restart. */
void ice_node_tell(struct ice_node *n);

#endif
