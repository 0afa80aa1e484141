/* Endpoints on simulated hosts, and the rendezvous server at which they meet. */
#ifndef TW_SIM_ENDPOINT_NODE_H
#define TW_SIM_ENDPOINT_NODE_H

#include <thalweg/endpoint.h>

#include "nodes.h"
#include "rendezvous/server.h"
#include "stream.h"

enum { DESK_PORT = 80, DESK_TLS_PORT = 443, NODE_CONNS = 8, NODE_INBOX = 1 << 20 };
#define NODE_NOON ((uint64_t)20000 * 86400000 + 43200000) /* what clocks say when a run begins */

struct desk_node {
    struct sim *sim;
    struct sim_host *host;
    struct tw_desk *desk;
    struct tw_desk_config cfg;
    struct streams streams;
    uint32_t next;
    uint8_t captured[1 << 20]; /* what it saw of its users */
    size_t captured_n;
    bool (*tamper)(struct desk_node *n, uint8_t *p, size_t len); /* false: the bytes are dropped */
};

/* Recommends the relay (NULL: none), whose users it knows the secret of; web: at 443, too, in TLS, which also stands for TURN inside
 * the rendezvous. */
void desk_node_init(struct desk_node *n, struct sim *s, struct tw_addr ip, struct sim_link link,
                    struct relay_node *relay, bool web);
/* All its connections break, and it knows nobody any more. */
void desk_node_restart(struct desk_node *n);
void desk_node_fini(struct desk_node *n);

/* What an endpoint's user saw of a connection. */
struct node_conn {
    uint32_t id;
    bool incoming, ready, connected, closed;
    tw_time ready_at, connected_at, early_at, byte_at, direct_at;
    uint64_t code;
    char why[128];
    struct tw_endpoint_path path;
    unsigned paths;
    int64_t stream;            /* the first that was opened, by either; -1: none */
    bool end;
    size_t got, early_n, datagrams;
    uint8_t *bytes;            /* of the stream, NODE_INBOX at most */
    uint8_t early[TW_ENDPOINT_EARLY_MAX];
};

struct endpoint_node {
    struct sim *sim;
    struct sim_host *host;
    struct tw_endpoint *ep;
    struct tw_ident id;
    struct tw_ice_interface interface;
    struct streams streams;
    struct tw_addr desk;       /* every server's name means this, but other.example */
    struct tw_addr other;      /* family NONE: there is none */
    struct tw_addr proxy;      /* through which all goes but what is straight to a peer; family NONE: there is none */
    struct node_conn conns[NODE_CONNS];
    unsigned conn_n, knocks, onlines, offlines, invited;
    char offline_why[128], ticket[16384]; /* ticket: the last one to be carried by hand */
    bool echo, stop, all_closed, tls;
};

struct endpoint_node_config {
    uint8_t key;               /* which identity */
    bool listen, allow_any, unlisted, no_server, tcp;
    bool tls;                  /* the rendezvous is spoken to in TLS */
    struct tw_addr proxy;      /* family NONE: there is none */
    struct tw_addr other;      /* a second rendezvous, and named first; family NONE: there is none */
    unsigned rungs;
    enum tw_ice_policy policy;
    int64_t clock_ms;          /* so much is its clock ahead */
    struct tw_ice_server server; /* known without a rendezvous; family NONE: there is none */
};

void endpoint_node_init(struct endpoint_node *n, struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                        struct sim_link link, struct tw_addr desk, const struct endpoint_node_config *cfg);
void endpoint_node_fini(struct endpoint_node *n);
void endpoint_node_pump(struct endpoint_node *n);
/* Dials; returns what will be seen of it. */
struct node_conn *endpoint_node_dial(struct endpoint_node *n, const struct endpoint_node *to, const char *early);
/* The same with an invite. */
struct node_conn *endpoint_node_come(struct endpoint_node *n, const struct endpoint_node *to,
                                     const uint8_t invite[TW_INVITE_SIZE]);
struct node_conn *endpoint_node_conn(struct endpoint_node *n, uint32_t id);
/* Writes to the connection's stream, which it opens if there is none; all of it must fit. */
void endpoint_node_write(struct endpoint_node *n, struct node_conn *c, struct tw_bytes data, bool end);

#endif
