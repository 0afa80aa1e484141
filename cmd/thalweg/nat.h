/* What the NATs on the way to a STUN server do (RFC 5780). */
#ifndef THALWEG_NAT_H
#define THALWEG_NAT_H

#include <thalweg/behaviour.h>

#include "cmd.h"

struct nat {
    struct tw_behaviour machine;
    struct tw_rt_agent agent;
    struct tw_stun_timing timing;
    struct tw_addr local;
    struct tw_behaviour_event result;
    void (*on_done)(struct nat *n);
    void *user;
};

/* timeout_ms: for each answer. on_done: once, then result is there, and tw_rt_agent_fini(&n->agent) is due. TW_ESYS. */
int nat_start(struct nat *n, uv_loop_t *loop, const struct tw_addr *server, unsigned timeout_ms,
              void (*on_done)(struct nat *n), void *user);
const char *nat_mapping_text(enum tw_nat_dependence d);
const char *nat_filtering_text(enum tw_nat_dependence d);
const char *nat_name(enum tw_nat_dependence d);

#endif
