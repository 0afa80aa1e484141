#include "db.h"

#include <sqlite3.h>
#include <string.h>
#include <time.h>

enum { SCHEMA = 1, BUSY_MS = 2000 };

struct db {
    sqlite3 *sql;
    int64_t version; /* PRAGMA data_version when it was loaded */
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS user(realm TEXT NOT NULL, name TEXT NOT NULL, md5 BLOB NOT NULL,"
    " sha256 BLOB, quota INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(realm, name));"
    "CREATE TABLE IF NOT EXISTS secret(realm TEXT NOT NULL, value TEXT NOT NULL,"
    " PRIMARY KEY(realm, value));"
    "CREATE TABLE IF NOT EXISTS ban(kind TEXT NOT NULL CHECK(kind IN ('user', 'address')),"
    " value TEXT NOT NULL, until INTEGER, reason TEXT, PRIMARY KEY(kind, value));"
    "CREATE TABLE IF NOT EXISTS peer(rule TEXT NOT NULL CHECK(rule IN ('allow', 'deny')),"
    " range TEXT NOT NULL, PRIMARY KEY(rule, range));"
    "CREATE TABLE IF NOT EXISTS setting(realm TEXT NOT NULL, name TEXT NOT NULL,"
    " value INTEGER NOT NULL, PRIMARY KEY(realm, name));"
    "PRAGMA user_version = 1;";

static int64_t pragma(struct db *db, const char *text)
{
    sqlite3_stmt *st;
    int64_t v = -1;
    if (sqlite3_prepare_v2(db->sql, text, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return v;
}

bool db_open(const char *path, bool make, struct db **ret_db, const char **ret_why)
{
    static struct db db;
    int flags = make ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    db = (struct db){ .version = -1 };
    *ret_db = &db;
    if (sqlite3_open_v2(path, &db.sql, flags, NULL) != SQLITE_OK) {
        *ret_why = sqlite3_errmsg(db.sql);
        return false;
    }
    sqlite3_busy_timeout(db.sql, BUSY_MS);
    int64_t version = pragma(&db, "PRAGMA user_version");
    if (make && version == 0 && sqlite3_exec(db.sql, schema, NULL, NULL, NULL) == SQLITE_OK)
        version = SCHEMA;
    if (version == SCHEMA)
        return true;
    *ret_why = version > SCHEMA ? "it was made by a newer version"
                                : "it is no database of thalwegd's; make one with thalwegadm";
    return false;
}

void db_close(struct db *db)
{
    sqlite3_close(db->sql);
    db->sql = NULL;
}

void *db_handle(struct db *db)
{
    return db->sql;
}

bool db_changed(struct db *db)
{
    return pragma(db, "PRAGMA data_version") != db->version;
}

static const char *text(sqlite3_stmt *st, int column)
{
    const char *t = (const char *)sqlite3_column_text(st, column);
    return t ? t : "";
}

/* Runs a query with the realm as its parameter, if it has one, and gives each row to `row`, which
 * says what is wrong with it or NULL. */
typedef const char *row_fn(sqlite3_stmt *st, struct db_load *to);

static const char *each(struct db *db, const char *query, const char *realm, struct db_load *to,
                        row_fn *row)
{
    sqlite3_stmt *st;
    const char *why = NULL;
    if (sqlite3_prepare_v2(db->sql, query, -1, &st, NULL) != SQLITE_OK)
        return sqlite3_errmsg(db->sql);
    if (sqlite3_bind_parameter_count(st))
        sqlite3_bind_text(st, 1, realm, -1, SQLITE_STATIC);
    int step;
    while (!why && (step = sqlite3_step(st)) == SQLITE_ROW)
        why = row(st, to);
    if (!why && step != SQLITE_DONE)
        why = sqlite3_errmsg(db->sql);
    sqlite3_finalize(st);
    return why;
}

static const char *user_row(sqlite3_stmt *st, struct db_load *to)
{
    const void *md5 = sqlite3_column_blob(st, 1), *sha256 = sqlite3_column_blob(st, 2);
    int sha256_n = sqlite3_column_bytes(st, 2);
    if (sqlite3_column_bytes(st, 1) != 16 || (sha256 && sha256_n != 32))
        return "a user's key has the wrong length";
    int err = tw_relay_users_add_keys(to->users, text(st, 0), md5, sha256);
    if (!err)
        err = tw_relay_users_set_quota(to->users, text(st, 0), (uint32_t)sqlite3_column_int(st, 3));
    to->users_n += !err;
    return !err || err == TW_ESTATE ? NULL /* the configuration's own user goes first */
                                    : tw_strerror(err);
}

static const char *secret_row(sqlite3_stmt *st, struct db_load *to)
{
    to->secrets_n++;
    return tw_relay_users_add_secret(to->users, text(st, 0)) ? "there are too many secrets" : NULL;
}

static const char *ban_row(sqlite3_stmt *st, struct db_load *to)
{
    struct tw_range range;
    int64_t until = sqlite3_column_int64(st, 2);
    if (until && (!to->next_expiry || until < to->next_expiry))
        to->next_expiry = until;
    if (strcmp(text(st, 0), "user") == 0) {
        int err = tw_relay_users_ban(to->users, text(st, 1));
        return err == TW_ENOMEM ? tw_strerror(err) : NULL; /* what is no name cannot log in */
    }
    if (tw_range_parse(text(st, 1), &range))
        return "a banned address is not an address, a prefix or a range";
    return ranges_add(to->banned, &range) ? NULL : tw_strerror(TW_ENOMEM);
}

static const char *peer_row(sqlite3_stmt *st, struct db_load *to)
{
    struct tw_range range;
    struct ranges *list = strcmp(text(st, 0), "allow") == 0 ? to->allowed : to->denied;
    if (tw_range_parse(text(st, 1), &range))
        return "a peer rule is not an address, a prefix or a range";
    return ranges_add(list, &range) ? NULL : tw_strerror(TW_ENOMEM);
}

static const char *setting_row(sqlite3_stmt *st, struct db_load *to)
{
    const struct {
        const char *name;
        uint64_t *at;
    } known[] = { { "user-quota", &to->user_quota },
                  { "total-quota", &to->total_quota },
                  { "max-bps", &to->max_bps } };
    for (int i = 0; i < 3; i++)
        if (strcmp(known[i].name, text(st, 0)) == 0)
            *known[i].at = (uint64_t)sqlite3_column_int64(st, 1);
    return NULL;
}

bool db_load(struct db *db, const char *realm, struct db_load *to, const char **ret_why)
{
    const char *why = NULL;
    if (sqlite3_exec(db->sql, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        why = sqlite3_errmsg(db->sql);
    if (!why)
        why = each(db, "SELECT name, md5, sha256, quota FROM user WHERE realm = ?1", realm, to,
                   user_row);
    if (!why)
        why = each(db, "SELECT value FROM secret WHERE realm = ?1", realm, to, secret_row);
    if (!why)
        why = each(db, "SELECT kind, value, until FROM ban"
                       " WHERE until IS NULL OR until > unixepoch()", realm, to, ban_row);
    if (!why)
        why = each(db, "SELECT rule, range FROM peer", realm, to, peer_row);
    if (!why)
        why = each(db, "SELECT name, value FROM setting WHERE realm = ?1", realm, to, setting_row);
    sqlite3_exec(db->sql, "COMMIT", NULL, NULL, NULL);
    db->version = pragma(db, "PRAGMA data_version");
    if (why)
        *ret_why = why;
    return !why;
}
