/* The machines on simulated hosts, and the simplest of peers. */
#ifndef TW_SIM_NODES_H
#define TW_SIM_NODES_H

#include <thalweg/relay.h>
#include <thalweg/turn.h>

#include "sim.h"
#include "stream.h"

enum { NODE_WORKERS = 4, NODE_EVENTS = 64 };

/* A relay with up to NODE_WORKERS workers on one host. Which worker a client's packets arrive at is
 * decided by its port, as SO_REUSEPORT would by its hash. */
struct relay_node {
    struct sim *sim;
    struct sim_host *host;
    struct tw_relay_config cfg;
    struct tw_relay_users *users;
    struct tw_relay_shared *shared;
    struct tw_relay *relay[NODE_WORKERS];
    unsigned workers;
    unsigned opens, open_errors_left; /* the next so many OPENs find the port taken */
    struct tw_relay_event flow;       /* the last FLOW */
    bool quiet;                       /* answers nothing, as if switched off */
    struct streams streams;           /* clients over TCP, and what stands for TLS; one worker then */
    uint32_t stream_next;
};

/* User "user", password "pass", realm "realm"; listens on ip:3478 and relays on ip, and on ip6 when
 * it has a family. Change node->cfg and call relay_node_start(). */
void relay_node_init(struct relay_node *n, struct sim *s, struct tw_addr ip, struct tw_addr ip6,
                     struct sim_link link, unsigned workers);
void relay_node_start(struct relay_node *n);
/* Takes TCP and TLS at this port of its first address, too. */
void relay_node_listen(struct relay_node *n, uint16_t port);
void relay_node_stop(struct relay_node *n); /* forgets everything, as a crash does */
void relay_node_fini(struct relay_node *n);
struct tw_relay_stats relay_node_stats(const struct relay_node *n);
struct tw_addr relay_node_addr(const struct relay_node *n);

/* A TURN client on a host of its own. */
struct turn_node {
    struct sim *sim;
    struct sim_host *host;
    struct tw_turn *turn;
    struct tw_addr local;
    struct tw_turn_event events[NODE_EVENTS]; /* all but DATA, in order */
    unsigned event_n;
    struct tw_turn_event allocated, last;
    bool is_allocated, is_over, stop;
    uint64_t data_n, data_bytes;
    struct tw_addr data_from;
    uint8_t data[2048];  /* the last one, and how long */
    size_t data_len;
    uint8_t data_tos;
    bool echo;           /* sends back what it gets */
};

/* cfg's server, username and password are filled in from the relay unless set. */
void turn_node_init(struct turn_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                    struct sim_link link, const struct relay_node *relay,
                    struct tw_turn_config cfg);
void turn_node_fini(struct turn_node *n);
/* After any verb on n->turn. */
void turn_node_pump(struct turn_node *n);
/* Whether an event of this type has come, and which was the last of it. */
const struct tw_turn_event *turn_node_event(const struct turn_node *n,
                                            enum tw_turn_event_type type);
/* Allocates and runs until that is done; asserts that it worked. */
void turn_node_allocate(struct turn_node *n);

/* A plain UDP peer: remembers and, if asked, echoes. */
struct peer_node {
    struct sim *sim;
    struct sim_host *host;
    struct tw_addr local;
    bool echo;
    uint64_t n, bytes;
    struct tw_addr from;
    uint8_t data[2048];
    size_t len;
    uint8_t tos, ttl;
};

void peer_node_init(struct peer_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                    struct sim_link link);
void peer_node_send(struct peer_node *n, const struct tw_addr *to, const void *p, size_t len,
                    uint8_t tos);

#endif
