/* What is made up once and must be the same after a restart: the key of the self-signed certificate (a pin in people's addresses means
 * it), the rendezvous's token, the secret of its users' names at the relay. In a folder of the server's own. */
#ifndef THALWEGD_STATE_H
#define THALWEGD_STATE_H

#include <stdbool.h>
#include <stddef.h>

struct options;

/* The text that is kept under this name; false: none is, or there is no such folder. */
bool state_get(const struct options *o, const char *name, char *text, size_t cap);
/* Keeps it, if there is a folder for it. What goes wrong is said, and the server runs without. */
void state_put(const struct options *o, const char *name, const char *text);

#endif
