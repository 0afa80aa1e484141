/* Giving up what the server does not need once it runs. */
#ifndef THALWEGD_SANDBOX_H
#define THALWEGD_SANDBOX_H

#include <stdbool.h>

/* Becomes user and group for good. False after a complaint. */
bool sandbox_become(const char *user, const char *group);

/* No io_uring, whose operations seccomp does not see: newer libuv does without when it finds none, so
 * this comes before the first loop. False after a complaint. */
bool sandbox_without_rings(void);

/* Leaves only the system calls that a running server makes; others fail with EPERM. For all threads.
 * False after a complaint. */
bool sandbox_enter(void);

#endif
