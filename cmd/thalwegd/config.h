/* From options to the relay's configuration. */
#ifndef THALWEGD_CONFIG_H
#define THALWEGD_CONFIG_H

#include "options.h"

struct config {
    struct tw_relay_config relay;
    struct tw_relay_users *users;
    struct tw_range *ranges;   /* allowed, denied and NAT64 prefixes in one array */
    unsigned workers;
};

/* False, after saying on stderr what is wrong; free it in either case. The options must outlive
 * the configuration. */
bool config_make(struct config *c, const struct options *o);
void config_free(struct config *c);

#endif
