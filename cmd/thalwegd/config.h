/* From options, files and database to a configuration: a snapshot. */
#ifndef THALWEGD_CONFIG_H
#define THALWEGD_CONFIG_H

#include "db.h"
#include "options.h"
#include "rt/tls.h"
#include "state.h"

struct config {
    struct tw_relay_config relay;
    struct tw_relay_users *users;
    const char *realm;
    struct ranges allowed, denied, nat64, proxies, own, banned;
    struct tw_addr tcp[TW_RELAY_MAX_LISTENERS];
    unsigned tcp_n;
    struct tw_rt_tls *tls; /* NULL: neither TLS nor DTLS */
    bool self_signed;
    unsigned workers;
    int64_t ban_expiry;    /* when a ban ends next, 0: none does */
    char made_up[STATE_TEXT]; /* the password of the user that was made up, or "" */
    char rendezvous_secret[STATE_TEXT]; /* of the credentials that the rendezvous gives out, or "" */
    struct {
        unsigned users, secrets;
    } from_db;
};

#define CONFIG_MADE_UP_USER "thalweg"

/* False, after saying on stderr (or `say`) what is wrong; free it in either case. The options must
 * outlive the configuration. db: open, or NULL. before: the configuration so far, whose made-up
 * things are kept, or NULL. */
bool config_make(struct config *c, const struct options *o, struct db *db,
                 options_opener *open_file, const struct config *before);
bool config_wants_rendezvous(const struct options *o);
void config_free(struct config *c);

/* Listening and relay addresses that nobody named are those of the start, whatever this machine has by
 * now. False: those that were named differ from `now`, which takes a restart. */
bool config_keep_places(struct config *next, const struct options *o, const struct config *now);

/* What is switched off because of who the users are, one line each to `say`. */
void config_say_limits(const struct config *c, void (*say)(const char *line));

#endif
