/* What a running process tells "thalweg status": it listens on a socket of its own, in a folder that only its user can
 * enter, and says its state to whoever connects. */
#ifndef THALWEG_STATUS_H
#define THALWEG_STATUS_H

#include "peer.h"

struct status;

/* The folder: $XDG_RUNTIME_DIR/thalweg, or /tmp/thalweg-UID; made if missing. False: it is not this user's alone. */
bool status_folder(char *buf, size_t cap);
/* NULL: it could not be done, and nobody can look. */
struct status *status_open(struct peer *p);
void status_close(struct status *s);

#endif
