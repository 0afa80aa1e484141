/* A process that keeps the rights the server gives up: it opens the files named at the start, again
 * and again, and starts the server's successor. It ends with the server. */
#ifndef THALWEGD_HELPER_H
#define THALWEGD_HELPER_H

#include <stdbool.h>

#include "options.h"

/* Forks it, before there are threads. argv: what a successor is started with. Only the files that o
 * names are opened. False after a complaint. */
bool helper_start(const struct options *o, char **argv);

/* Opens for reading, or for appending. -1 and errno; EACCES for a file that o did not name. Before
 * helper_start() it opens by itself. */
int helper_open(const char *path);
int helper_append(const char *path);

/* Creates, and removes, the pid file, as the helper's user. */
bool helper_write_pid(const char *path, long pid);
void helper_remove(const char *path);

/* Starts a successor that inherits fd; its number is in the environment as HELPER_FD. False: it
 * could not be started. */
#define HELPER_FD "THALWEGD_TAKEOVER"
bool helper_successor(int fd);

#endif
