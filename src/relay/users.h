/* Looking up users. */
#ifndef TW_RELAY_USERS_H
#define TW_RELAY_USERS_H

#include <thalweg/relay.h>

struct user {
    char *name;
    struct tw_stun_key md5, sha256; /* sha256.n 0: not known */
    uint8_t userhash[TW_STUN_USERHASH];
};

struct tw_relay_users {
    char realm[TW_RELAY_REALM_MAX + 1];
    struct user *users; /* sorted by name */
    uint32_t *by_hash;  /* indices sorted by userhash */
    uint32_t n, cap;
    bool all_sha256;
};

/* NULL when there is no such user. */
const struct user *tw_relay_users_by_name(const struct tw_relay_users *u, struct tw_bytes name);
const struct user *tw_relay_users_by_hash(const struct tw_relay_users *u, struct tw_bytes hash);

#endif
