/* What the files of the simulated network share. */
#ifndef TW_SIM_INTERNAL_H
#define TW_SIM_INTERNAL_H

#include "sim.h"

enum { MAX_HOSTS = 32, MAX_NATS = 32, MAX_MAPPINGS = 4096, BUCKETS = 256, MAX_IPS = 4 };

struct mapping {
    bool used, tcp;
    struct tw_addr inside, key; /* key: the part of the destination the mapping depends on */
    uint16_t port;
    uint32_t generation;        /* tells it from others at the same place */
    tw_time last, made;
    tw_time until;              /* of one that was asked for; 0: it is none */
    int next_out, next_port;    /* of the same bucket, -1: none */
};

/* To which remotes each mapping has sent, as hashes: an open table that grows. */
struct seen {
    uint64_t *slots;
    uint32_t len, cap;
};

struct sim_nat {
    struct sim *sim;
    struct tw_addr outside;
    struct sim_nat_kind kind;
    struct sim_nat *outer;
    struct sim_link link;
    bool has_link;
    tw_time busy_out, busy_in, bad_out, bad_in;
    uint16_t next_port;
    uint32_t generation;
    struct mapping *maps;
    int map_n, map_cap;
    int by_inside[BUCKETS], by_port[BUCKETS];
    struct seen seen;
};

struct sock {
    bool used, listens;
    uint32_t id;
    struct tw_addr local;
};

struct sim_host {
    struct sim *sim;
    struct tw_addr ips[MAX_IPS];
    unsigned ip_n;
    struct sim_nat *nat;
    struct sim_link link;
    tw_time busy_out, busy_in; /* until when the link is occupied */
    void *ctx;
    sim_receive *receive;
    sim_error *error;
    sim_wake *wake;
    tw_time deadline;
    const struct sim_tcp *tcp;  /* NULL: refuses all connections */
    void *tcp_ctx;
    struct conn *conns;
    tw_time tcp_deadline;
    bool raw;
    tw_time asleep_until, bad_out, bad_in; /* bad: the link loses everything until then */
    uint16_t next_port;
    struct sock *socks;
    int sock_n, sock_cap;
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

struct packet {
    tw_time at;
    uint64_t order;
    struct sim_host *to;     /* NULL: in the middle of the network, to be routed ... */
    struct sim_nat *enters;  /* ... into this NAT ... */
    struct sim_nat *place;   /* ... or on from behind this one; NULL: on the open network */
    struct sim_host *from;
    uint32_t from_sock;
    struct tw_addr src, dst;
    struct tw_addr sent_to;  /* dst as the sender wrote it */
    uint8_t tos, ttl, flags;
    bool tcp;
    uint8_t control;         /* TCP_SYN ... */
    uint32_t seq, ack;
    size_t n;
    uint8_t bytes[];
};

struct sim {
    tw_time now;
    uint64_t random, order;
    struct packet **queue;   /* a heap by time, then order */
    size_t queue_n, queue_cap;
    sim_watch *watch;
    void *watch_ctx;
    sim_fault *fault;
    void *fault_ctx;
    struct sim_host hosts[MAX_HOSTS];
    unsigned host_n;
    struct sim_nat *nats[MAX_NATS];
    unsigned nat_n;
    struct sim_counts counts;
};

uint64_t sim_draw(struct sim *s);

/* nat.c: both change the packet's addresses. False: it does not get through; one that is answered by a reset
 * is marked so: its control is TCP_RST. */
bool sim_nat_out(struct sim_nat *n, struct packet *p);
bool sim_nat_in(struct sim_nat *n, struct packet *p);

/* sim.c */
struct sock *sim_sock_at(struct sim_host *h, const struct tw_addr *local, bool listens);
bool sim_bind(struct sim_host *h, uint32_t sock, struct tw_addr local, bool listens,
              struct tw_addr *ret_local);
bool sim_has_ip(const struct sim_host *h, const struct tw_addr *ip);
/* A packet leaves its host. Takes it. */
void sim_leave(struct sim_host *h, struct packet *p);

/* tcp.c */
void sim_tcp_deliver(struct sim_host *h, const struct packet *p);
void sim_tcp_tick(struct sim_host *h);
void sim_tcp_free(struct sim_host *h);

#endif
