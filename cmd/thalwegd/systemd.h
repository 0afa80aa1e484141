/* What systemd gives and wants: sockets, readiness. Both do nothing elsewhere. */
#ifndef THALWEGD_SYSTEMD_H
#define THALWEGD_SYSTEMD_H

#include "rt/server.h"

/* Sockets passed by a .socket unit (LISTEN_FDS). Returns how many of at most cap. */
unsigned systemd_sockets(struct tw_rt_inherited *ret, unsigned cap);

/* sd_notify(3): "READY=1" and the like. */
void systemd_notify(const char *state);

#endif
