/* Users, secrets, quotas, bans and peers in SQLite. Read beside the loop into a snapshot. */
#ifndef THALWEGD_DB_H
#define THALWEGD_DB_H

#include <stdint.h>

#include <thalweg/relay.h>

#include "ranges.h"

struct db;

/* make: creates file and tables where they are missing, for thalwegadm. False, with *ret_why
 * (static, or the database's and good until the next call). */
bool db_open(const char *path, bool make, struct db **ret_db, const char **ret_why);
void db_close(struct db *db);

/* The handle (sqlite3 *), for thalwegadm's own statements. */
void *db_handle(struct db *db);

/* What it adds to a configuration. */
struct db_load {
    struct tw_relay_users *users;
    struct ranges *allowed, *denied, *banned;
    int64_t next_expiry;  /* Unix time at which a ban ends, 0: none does */
    unsigned users_n, secrets_n;
    /* settings of the realm, 0: none */
    uint64_t user_quota, total_quota, max_bps;
};
bool db_load(struct db *db, const char *realm, struct db_load *to, const char **ret_why);

/* Whether somebody has changed it since it was loaded. */
bool db_changed(struct db *db);

#endif
