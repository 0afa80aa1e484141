/* A connection that is dialled again when it is lost. */
#ifndef THALWEG_REDIAL_H
#define THALWEG_REDIAL_H

#include "peer.h"

struct redial {
    struct peer *peer;
    const char *address;
    uint32_t conn;
    bool stubborn;        /* dial on even if it never was connected */
    bool ever;            /* it was */
    unsigned patience_ms; /* without any way the connection is given up so soon; 0: it decides itself */
    unsigned wait_ms;     /* before the next dialling */
    char why[128];        /* what was said last */
    uv_timer_t timer, patience;
};

/* Dials for the first time. Returns an exit status, after a complaint; then it is not dialled again. */
int redial_start(struct redial *r, struct peer *p, const char *address);
/* Of every event of the peer: CLOSED leads to another dialling, unless the other side refused us, or it never was
 * connected; then the program ends. */
void redial_event(struct redial *r, const struct tw_endpoint_event *ev);

#endif
