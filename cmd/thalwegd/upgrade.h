/* A new server takes over from a running one: sockets, keys and ports change hands over a channel
 * between the two, and the old one stays until its allocations have ended. */
#ifndef THALWEGD_UPGRADE_H
#define THALWEGD_UPGRADE_H

#include "rt/server.h"

enum { UPGRADE_SOCKETS = 2048 };

/* What the elder leaves. */
struct upgrade {
    struct tw_rt_legacy legacy;
    int heirs[TW_RT_LEGACY_FDS];
    struct tw_rt_inherited sockets[UPGRADE_SOCKETS];
    unsigned socket_n;
};

/* Elder: gives all away. The server must read nothing any more. False: the other end is gone. */
bool upgrade_give(int channel, struct tw_rt_server *server);
/* Heir: asks for it and takes it, waiting some seconds. */
bool upgrade_take(int channel, struct upgrade *ret);
/* One byte each way: 'h' the heir is there, 'r' it works. */
bool upgrade_say(int channel, char what);

#endif
