/* thalweg turn --tcp-relay: a TCP connection through two allocations (RFC 6062). */
#ifndef THALWEG_CMD_TURN_TCP_H
#define THALWEG_CMD_TURN_TCP_H

#include "cmd.h"

struct cmd_turn_tcp {
    const struct tw_uri *uri;
    const struct tw_addr *server;
    const struct cmd_tls *tls;
    const char *user, *password;
    unsigned pings, seconds; /* seconds 0: no throughput */
    bool v6, json;
};

int cmd_turn_tcp(const struct cmd_turn_tcp *how);

#endif
