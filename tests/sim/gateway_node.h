/* The router behind which a simulated host is, as far as it maps ports when asked: PCP or NAT-PMP. */
#ifndef TW_SIM_GATEWAY_NODE_H
#define TW_SIM_GATEWAY_NODE_H

#include "sim.h"

enum gateway_speech {
    GATEWAY_PCP,        /* RFC 6887 */
    GATEWAY_NATPMP,     /* RFC 6886, and says so when it is asked by PCP */
    GATEWAY_NATPMP_SHY, /* RFC 6886, silent when it is asked by PCP */
    GATEWAY_DUMB,       /* neither */
};

struct gateway_node {
    struct sim *sim;
    struct sim_nat *nat;
    struct sim_host *host;
    struct tw_addr outside;
    enum gateway_speech speech;
    uint32_t lifetime;  /* the most it grants, s */
    unsigned refuse;    /* answers all with this code; 0: does as asked */
    bool lie;           /* answers with another nonce than it was asked with */
    tw_time booted;
    unsigned asked, mapped, removed; /* requests for mappings in all; those that it made; ended */
};

/* At `ip`, inside of nat, whose outside address is `outside`. */
void gateway_node_init(struct gateway_node *n, struct sim *s, struct sim_nat *nat, struct tw_addr ip,
                       struct tw_addr outside, enum gateway_speech speech);
/* A power cut: mappings and clock begin anew. */
void gateway_node_reboot(struct gateway_node *n);

#endif
