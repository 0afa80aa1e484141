/* What the workers of one server share: keys, ports and quotas. Lock-free. */
#ifndef TW_RELAY_SHARED_H
#define TW_RELAY_SHARED_H

#include <stdatomic.h>

#include <thalweg/relay.h>

#include "base/bucket.h"
#include "base/map.h"

enum {
    QUOTA_SLOTS = 1 << 16,
    BUDGET_SLOTS = 1 << 15,
    PORT_TCP = 0x80,      /* in a port's mark, with the worker: it relays TCP */
    PORT_OF_ELDER = 0xff, /* mark of a port that the server before this one still uses */
};

/* Live allocations of one user. */
struct quota {
    _Atomic uint64_t user; /* 0: free */
    _Atomic uint32_t live;
};

/* The ports of one relay address: who owns each. 0: free, PORT_OF_ELDER, or worker + 1, with PORT_TCP
 * where the relayed address is one of TCP. */
struct ports {
    struct tw_addr ip, told;
    _Atomic uint8_t owner[65536];
};

struct tw_relay_shared {
    struct {
        struct tw_hash_key nonce, user, token, ticket;
    } keys; /* what a server that takes over needs */
    struct tw_hash_key budget_key;
    struct tw_bucket *budgets;           /* by a keyed hash of the prefix: strangers that share one
                                            do so by chance */
    struct tw_bucket budget_total, up, down;
    _Atomic uint32_t live;
    _Atomic uint32_t last_token;
    struct quota *quotas;
    uint32_t relay_n;
    struct ports *ports;
};

/* A name's stand-in, the same in every worker, never 0. */
uint64_t tw_relay_user_id(const struct tw_relay_shared *s, struct tw_bytes name);

/* Takes one allocation out of the user's and the server's quota. NULL: one of them is used up. */
struct quota *tw_relay_quota_take(struct tw_relay_shared *s, uint64_t user, uint32_t user_quota,
                                  uint32_t total_quota);
void tw_relay_quota_give(struct tw_relay_shared *s, struct quota *q);

enum port_want { PORT_ANY, PORT_EVEN, PORT_PAIR };

/* A random free port (for a pair: the even one of two neighbours) of a relay address, now with this
 * mark; 0 when there is none. */
uint16_t tw_relay_port_take(struct tw_relay_shared *s, uint32_t relay, uint8_t mark,
                            enum port_want want, uint16_t min, uint16_t max,
                            const struct tw_rng *rng);
void tw_relay_port_give(struct tw_relay_shared *s, uint32_t relay, uint16_t port);

/* The mark of a port, 0: nobody has it. */
uint8_t tw_relay_port_mark(const struct tw_relay_shared *s, uint32_t relay, uint16_t port);

/* Whether a stranger may have an answer that is larger than the question. */
bool tw_relay_budget_take(struct tw_relay_shared *s, tw_time now, const struct tw_addr *client,
                          const struct tw_relay_budget *budget);

/* A fresh RESERVATION-TOKEN of this worker, and back: the worker, -1 when it is not ours. */
void tw_relay_token_make(struct tw_relay_shared *s, uint32_t worker, uint8_t ret_token[8]);
int tw_relay_token_worker(const struct tw_relay_shared *s, const uint8_t token[8]);

#endif
