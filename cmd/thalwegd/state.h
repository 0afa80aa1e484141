/* What is made up once and must be the same after a restart: the key of the self-signed certificate (a pin in people's addresses means
 * it), the password of a server without options, the rendezvous's token, the secret of its users' names at the relay. In a folder of
 * the server's own. */
#ifndef THALWEGD_STATE_H
#define THALWEGD_STATE_H

#include <stdbool.h>
#include <stddef.h>

struct options;

/* The text that is kept under this name; false: none is (text is empty then), or there is no such folder. */
bool state_get(const struct options *o, const char *name, char *text, size_t cap);
/* Keeps it, if there is a folder for it. What goes wrong is said, and the server runs without. */
void state_put(const struct options *o, const char *name, const char *text);
/* What is kept under this name, or else so many random bytes, at most 24, in URL-safe base64, which are kept from now on. */
enum { STATE_TEXT = 33 };
void state_make_up(const struct options *o, const char *name, unsigned random, char text[STATE_TEXT]);

#endif
