/* Looking up users. */
#ifndef TW_RELAY_USERS_H
#define TW_RELAY_USERS_H

#include <thalweg/relay.h>

#include "base/map.h"

enum { SECRETS_MAX = 8 };

struct user {
    char *name;
    struct tw_stun_key md5, sha256; /* sha256.n 0: not known */
    uint8_t userhash[TW_STUN_USERHASH];
    uint32_t quota;                 /* 0: the configuration's */
};

struct tw_relay_users {
    char realm[TW_RELAY_REALM_MAX + 1];
    struct tw_map by_name, by_hash; /* user; nobody but the operator adds to them */
    struct tw_map banned;           /* names */
    struct tw_bytes secrets[SECRETS_MAX];
    uint32_t secret_n;
    bool guest[SECRETS_MAX];        /* whose names are guests' */
    uint32_t guest_quota;
    char separator;                 /* between expiry and name in a time-limited user name */
    bool all_sha256;
};

/* NULL when there is no such user. */
const struct user *tw_relay_users_by_name(const struct tw_relay_users *u, struct tw_bytes name);
const struct user *tw_relay_users_by_hash(const struct tw_relay_users *u, struct tw_bytes hash);

/* A time-limited user name, "EXPIRY:ID": false when it is none or has expired at the Unix time
 * now_unix. ret_id is the part that quotas and bans go by; just EXPIRY stands for itself. */
bool tw_relay_users_timed(const struct tw_relay_users *u, struct tw_bytes name, int64_t now_unix,
                          struct tw_bytes *ret_id);

/* The key that the i-th secret gives a time-limited user name. */
TW_NODISCARD int tw_relay_users_timed_key(const struct tw_relay_users *u, uint32_t i,
                                          struct tw_bytes name, enum tw_stun_algorithm algo,
                                          struct tw_stun_key *ret_key);

/* Whether a nonce was made for this name by one who knows the secret of a guest's, and has not expired. */
bool tw_relay_users_timed_nonce(const struct tw_relay_users *u, struct tw_bytes name, struct tw_bytes nonce,
                                int64_t now_unix);

bool tw_relay_users_banned(const struct tw_relay_users *u, struct tw_bytes name);

#endif
