/* What the workers of one server share: keys, ports and quotas. Lock-free. */
#ifndef TW_RELAY_SHARED_H
#define TW_RELAY_SHARED_H

#include <stdatomic.h>

#include <thalweg/relay.h>

#include "base/map.h"

enum { QUOTA_SLOTS = 1 << 16 };

/* Live allocations of one user. */
struct quota {
    _Atomic uint64_t user; /* 0: free */
    _Atomic uint32_t live;
};

/* The ports of one relay address: who owns each. 0: free, else worker + 1. */
struct ports {
    struct tw_addr ip, told;
    _Atomic uint8_t owner[65536];
};

struct tw_relay_shared {
    struct tw_hash_key nonce_key, user_key, token_key;
    _Atomic uint32_t live;
    _Atomic uint32_t last_token;
    struct quota *quotas;
    uint32_t relay_n;
    struct ports *ports;
};

/* A name's stand-in, the same in every worker, never 0. */
uint64_t tw_relay_user_id(const struct tw_relay_shared *s, const char *name);

/* Takes one allocation out of the user's and the server's quota. NULL: one of them is used up. */
struct quota *tw_relay_quota_take(struct tw_relay_shared *s, uint64_t user, uint32_t user_quota,
                                  uint32_t total_quota);
void tw_relay_quota_give(struct tw_relay_shared *s, struct quota *q);

enum port_want { PORT_ANY, PORT_EVEN, PORT_PAIR };

/* A random free port (for a pair: the even one of two neighbours) of a relay address, now owned by
 * the worker; 0 when there is none. */
uint16_t tw_relay_port_take(struct tw_relay_shared *s, uint32_t relay, uint32_t worker,
                            enum port_want want, uint16_t min, uint16_t max,
                            const struct tw_rng *rng);
void tw_relay_port_give(struct tw_relay_shared *s, uint32_t relay, uint16_t port);

/* The worker that owns a relayed address, -1: nobody. */
int tw_relay_port_owner(const struct tw_relay_shared *s, uint32_t relay, uint16_t port);

/* A fresh RESERVATION-TOKEN of this worker, and back: the worker, -1 when it is not ours. */
void tw_relay_token_make(struct tw_relay_shared *s, uint32_t worker, uint8_t ret_token[8]);
int tw_relay_token_worker(const struct tw_relay_shared *s, const uint8_t token[8]);

#endif
