/* What goes into an agent, written down line by line, so that it can be run again (docs/internals/tape.md). */
#ifndef TW_ICE_TAPE_H
#define TW_ICE_TAPE_H

#include <thalweg/ice.h>

struct tw_ice;
struct tape;

/* TW_ENOMEM. Wraps *rng so that what is drawn is written down, too. */
TW_NODISCARD int ice_tape_new(const struct tw_ice *a, const struct tw_ice_config *cfg,
                              struct tw_rng *rng, struct tape **ret_tape);
void ice_tape_free(struct tape *t);

/* One line; a tape of NULL is fine, for all of these. %A in fmt is a const struct tw_addr *, masked, or NULL; %X
 * a const struct tw_bytes *; the rest is printf's, of which only %s %d %u are known. */
void ice_tape(struct tape *t, tw_time now, const char *fmt, ...);
void ice_tape_sent(struct tape *t, tw_time now, const struct tw_datagram *d);
/* There is nothing to send; said once. */
void ice_tape_drained(struct tape *t, tw_time now);
/* prefix: NULL: none. */
void ice_tape_nat64(struct tape *t, tw_time now, const struct tw_range *prefix);
/* That server wants other credentials than these from now on. */
void ice_tape_renewed(struct tape *t, unsigned number, const struct tw_ice_server *before);
void ice_tape_server(struct tape *t, tw_time now, const struct tw_ice_server *v);
void ice_tape_interfaces(struct tape *t, tw_time now, const struct tw_ice_interface *list, size_t n);
void ice_tape_candidate(struct tape *t, tw_time now, const struct tw_ice_candidate *c);
/* Data becomes zeroes; addresses inside STUN messages are masked, and what was signed rightly stays so. */
void ice_tape_recv(const struct tw_ice *a, struct tape *t, tw_time now, const struct tw_datagram *in);

#endif
