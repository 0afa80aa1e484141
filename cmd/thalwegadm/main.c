/* thalwegadm: the database of thalwegd's users. */
#include <sodium.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../thalwegd/db.h"
#include "version.h"

enum { OK, FAILED, USAGE };

static const char usage[] =
    "usage: thalwegadm --db FILE [--realm REALM] COMMAND ...\n\n"
    "Keeps the users of thalwegd (its --userdb) in a SQLite database, which is made when it is not\n"
    "there. A running server sees changes within two seconds.\n\n"
    "Commands:\n"
    "  user add NAME [PASSWORD]      the password is read from standard input when it is not given\n"
    "  user delete NAME\n"
    "  user quota NAME N             allocations at a time; 0: what the server's options say\n"
    "  user list\n"
    "  secret add [SECRET]           for time-limited names; made up and shown when not given\n"
    "  secret delete SECRET\n"
    "  secret list\n"
    "  credential ID [SECONDS]       a time-limited name and its password, under the first secret\n"
    "  ban user NAME [SECONDS [REASON]]\n"
    "  ban address RANGE [SECONDS [REASON]]\n"
    "  unban user|address WHAT\n"
    "  ban list\n"
    "  peer allow|deny|forget RANGE\n"
    "  peer list\n"
    "  set user-quota|total-quota|max-bps N\n"
    "  import FILE                   users, secrets and peers from coturn's turndb\n\n"
    "Options:\n"
    "  --db FILE       the database\n"
    "  --realm REALM   default: thalweg\n"
    "  --json          lists as JSON, one object a line\n"
    "  --help, --version\n";

static sqlite3 *sql;
static const char *realm = "thalweg";
static bool json;

/* --- statements --------------------------------------------------------------------------- */

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "thalwegadm: %s: %s\n", what, why);
    return FAILED;
}

/* A statement with text parameters; NULLs are NULL. */
static sqlite3_stmt *prepare(const char *text, const char *const *params)
{
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(sql, text, -1, &st, NULL) != SQLITE_OK) {
        complain("the database", sqlite3_errmsg(sql));
        exit(FAILED);
    }
    for (int i = 0; params && params[i]; i++)
        sqlite3_bind_text(st, i + 1, params[i], -1, SQLITE_STATIC);
    return st;
}

/* Runs it; how many rows it changed in *ret_n if that is not NULL. */
static int run(sqlite3_stmt *st, int *ret_n)
{
    int step = sqlite3_step(st);
    sqlite3_finalize(st);
    if (step != SQLITE_DONE)
        return complain("the database", sqlite3_errmsg(sql));
    if (ret_n)
        *ret_n = sqlite3_changes(sql);
    return OK;
}

static int change(const char *what, const char *text, const char *const *params)
{
    int n;
    int status = run(prepare(text, params), &n);
    return status || n ? status : complain(what, "there is no such thing");
}

/* A name or the like may hold anything: control characters do not reach the terminal. */
static void print_value(const char *v)
{
    if (json)
        putchar('"');
    for (; *v; v++) {
        unsigned char c = (unsigned char)*v;
        if (json && (c == '"' || c == '\\'))
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            printf(json ? "\\u%04x" : "\\x%02x", c);
        else
            putchar(c);
    }
    if (json)
        putchar('"');
}

static int list(const char *text, const char *const *params)
{
    sqlite3_stmt *st = prepare(text, params);
    int step;
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        if (json)
            putchar('{');
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            const char *v = (const char *)sqlite3_column_text(st, i);
            if (json)
                printf("%s\"%s\":", i ? "," : "", sqlite3_column_name(st, i));
            else if (i)
                putchar('\t');
            if (v || !json)
                print_value(v ? v : "");
            else
                fputs("null", stdout);
        }
        puts(json ? "}" : "");
    }
    sqlite3_finalize(st);
    return step == SQLITE_DONE ? OK : complain("the database", sqlite3_errmsg(sql));
}

/* --- users -------------------------------------------------------------------------------- */

static char *read_password(void)
{
    static char line[1024];
    if (isatty(STDIN_FILENO))
        fputs("Password: ", stderr);
    if (!fgets(line, sizeof(line), stdin))
        return NULL;
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static int user_add(const char *name, const char *password)
{
    char n[TW_STUN_MAX_NAME + 1], r[TW_STUN_MAX_TEXT + 1], p[TW_STUN_MAX_TEXT + 1];
    struct tw_stun_key md5, sha256;
    if (!password)
        password = read_password();
    if (!password || !*password)
        return complain("user add", "a password is needed");
    if (tw_stun_opaque_string(tw_bytes_str(name), n, sizeof(n)) ||
        tw_stun_opaque_string(tw_bytes_str(realm), r, sizeof(r)) ||
        tw_stun_opaque_string(tw_bytes_str(password), p, sizeof(p)))
        return complain("user add", "name, realm and password must be UTF-8 without control "
                                    "characters");
    if (tw_stun_long_term_key(TW_STUN_ALGO_MD5, tw_bytes_str(n), tw_bytes_str(r), tw_bytes_str(p),
                              &md5) ||
        tw_stun_long_term_key(TW_STUN_ALGO_SHA256, tw_bytes_str(n), tw_bytes_str(r),
                              tw_bytes_str(p), &sha256))
        return complain("user add", "no key could be made");
    sqlite3_stmt *st = prepare("INSERT INTO user(realm, name, md5, sha256) VALUES(?1, ?2, ?3, ?4)"
                               " ON CONFLICT(realm, name) DO UPDATE SET md5 = ?3, sha256 = ?4",
                               (const char *const[]){ r, n, NULL });
    sqlite3_bind_blob(st, 3, md5.k, md5.n, SQLITE_STATIC);
    sqlite3_bind_blob(st, 4, sha256.k, sha256.n, SQLITE_STATIC);
    return run(st, NULL);
}

static bool is_number(const char *v)
{
    return v && *v && strspn(v, "0123456789") == strlen(v) && strlen(v) < 16;
}

static int do_user(int argc, char **argv)
{
    if (argc >= 2 && argc <= 3 && !strcmp(argv[0], "add"))
        return user_add(argv[1], argc == 3 ? argv[2] : NULL);
    if (argc == 2 && !strcmp(argv[0], "delete"))
        return change(argv[1], "DELETE FROM user WHERE realm = ?1 AND name = ?2",
                      (const char *const[]){ realm, argv[1], NULL });
    if (argc == 3 && !strcmp(argv[0], "quota") && is_number(argv[2]))
        return change(argv[1], "UPDATE user SET quota = ?3 WHERE realm = ?1 AND name = ?2",
                      (const char *const[]){ realm, argv[1], argv[2], NULL });
    if (argc == 1 && !strcmp(argv[0], "list"))
        return list("SELECT name, quota, sha256 IS NOT NULL AS sha256 FROM user WHERE realm = ?1"
                    " ORDER BY name", (const char *const[]){ realm, NULL });
    return USAGE;
}

/* --- secrets ------------------------------------------------------------------------------ */

static int do_secret(int argc, char **argv)
{
    char made_up[44 + 1];
    uint8_t random[32];
    if (argc >= 1 && argc <= 2 && !strcmp(argv[0], "add")) {
        randombytes_buf(random, sizeof(random));
        sodium_bin2base64(made_up, sizeof(made_up), random, sizeof(random),
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        if (argc == 1)
            puts(made_up);
        return run(prepare("INSERT OR IGNORE INTO secret(realm, value) VALUES(?1, ?2)",
                           (const char *const[]){ realm, argc == 2 ? argv[1] : made_up, NULL }),
                   NULL);
    }
    if (argc == 2 && !strcmp(argv[0], "delete"))
        return change("secret", "DELETE FROM secret WHERE realm = ?1 AND value = ?2",
                      (const char *const[]){ realm, argv[1], NULL });
    if (argc == 1 && !strcmp(argv[0], "list"))
        return list("SELECT value FROM secret WHERE realm = ?1", (const char *const[]){ realm, NULL });
    return USAGE;
}

static int do_credential(int argc, char **argv)
{
    char name[TW_STUN_MAX_NAME + 1], password[64];
    if (argc < 1 || argc > 2 || (argc == 2 && !is_number(argv[1])))
        return USAGE;
    long long seconds = argc == 2 ? atoll(argv[1]) : 86400;
    snprintf(name, sizeof(name), "%lld:%s", (long long)time(NULL) + seconds, argv[0]);
    sqlite3_stmt *st = prepare("SELECT value FROM secret WHERE realm = ?1 ORDER BY rowid LIMIT 1",
                               (const char *const[]){ realm, NULL });
    if (sqlite3_step(st) != SQLITE_ROW) {
        sqlite3_finalize(st);
        return complain("credential", "there is no secret; add one with \"secret add\"");
    }
    int err = tw_relay_timed_password((const char *)sqlite3_column_text(st, 0), name, password);
    sqlite3_finalize(st);
    if (err)
        return complain("credential", tw_strerror(err));
    if (json) {
        fputs("{\"username\":", stdout);
        print_value(name);
        printf(",\"credential\":\"%s\"}\n", password);
    } else {
        print_value(name);
        printf("\n%s\n", password);
    }
    return OK;
}

/* --- bans, peers, settings ---------------------------------------------------------------- */

static bool is_range(const char *v)
{
    struct tw_range range;
    return !tw_range_parse(v, &range);
}

static int do_ban(int argc, char **argv)
{
    char until[24], name[TW_STUN_MAX_NAME + 1];
    if (argc == 1 && !strcmp(argv[0], "list"))
        return list("SELECT kind, value, datetime(until, 'unixepoch') AS until, reason FROM ban"
                    " WHERE until IS NULL OR until > unixepoch() ORDER BY kind, value", NULL);
    if (argc < 2 || argc > 4 || (strcmp(argv[0], "user") != 0 && strcmp(argv[0], "address") != 0) ||
        (argc > 2 && !is_number(argv[2])))
        return USAGE;
    if (!strcmp(argv[0], "address") && !is_range(argv[1]))
        return complain(argv[1], "is not an address, a prefix or a range");
    if (!strcmp(argv[0], "user") && tw_stun_opaque_string(tw_bytes_str(argv[1]), name, sizeof(name)))
        return complain("ban user", "a name must be UTF-8 without control characters");
    snprintf(until, sizeof(until), "%lld", (long long)time(NULL) + (argc > 2 ? atoll(argv[2]) : 0));
    sqlite3_stmt *st = prepare("INSERT OR REPLACE INTO ban(kind, value, until, reason)"
                               " VALUES(?1, ?2, CAST(?3 AS INTEGER), ?4)",
                               (const char *const[]){ argv[0], argv[1], NULL });
    if (argc > 2)
        sqlite3_bind_text(st, 3, until, -1, SQLITE_STATIC);
    if (argc > 3)
        sqlite3_bind_text(st, 4, argv[3], -1, SQLITE_STATIC);
    return run(st, NULL);
}

static int do_unban(int argc, char **argv)
{
    if (argc != 2)
        return USAGE;
    return change(argv[1], "DELETE FROM ban WHERE kind = ?1 AND value = ?2",
                  (const char *const[]){ argv[0], argv[1], NULL });
}

static int do_peer(int argc, char **argv)
{
    if (argc == 1 && !strcmp(argv[0], "list"))
        return list("SELECT rule, range FROM peer ORDER BY rule, range", NULL);
    if (argc == 2 && !strcmp(argv[0], "forget"))
        return change(argv[1], "DELETE FROM peer WHERE range = ?1",
                      (const char *const[]){ argv[1], NULL });
    if (argc != 2 || (strcmp(argv[0], "allow") != 0 && strcmp(argv[0], "deny") != 0))
        return USAGE;
    if (!is_range(argv[1]))
        return complain(argv[1], "is not an address, a prefix or a range");
    return run(prepare("INSERT OR IGNORE INTO peer(rule, range) VALUES(?1, ?2)",
                       (const char *const[]){ argv[0], argv[1], NULL }), NULL);
}

static int do_set(int argc, char **argv)
{
    if (argc != 2 || !is_number(argv[1]) ||
        (strcmp(argv[0], "user-quota") != 0 && strcmp(argv[0], "total-quota") != 0 &&
         strcmp(argv[0], "max-bps") != 0))
        return USAGE;
    return run(prepare("INSERT OR REPLACE INTO setting(realm, name, value)"
                       " VALUES(?1, ?2, CAST(?3 AS INTEGER))",
                       (const char *const[]){ realm, argv[0], argv[1], NULL }), NULL);
}

/* --- coturn's turndb ------------------------------------------------------------------------ */

/* One statement a table: the users' MD5 keys come as hex; who has none is left out. */
static const struct {
    const char *what, *text;
} imports[] = {
    { "users", "INSERT OR REPLACE INTO user(realm, name, md5) SELECT realm, name, unhex32(hmackey)"
               " FROM coturn.turnusers_lt WHERE length(hmackey) = 32" },
    { "secrets", "INSERT OR IGNORE INTO secret SELECT realm, value FROM coturn.turn_secret" },
    { "allowed peers", "INSERT OR IGNORE INTO peer SELECT 'allow', ip_range"
                       " FROM coturn.allowed_peer_ip" },
    { "denied peers", "INSERT OR IGNORE INTO peer SELECT 'deny', ip_range"
                      " FROM coturn.denied_peer_ip" },
    { "settings", "INSERT OR REPLACE INTO setting SELECT realm, opt, CAST(value AS INTEGER)"
                  " FROM coturn.turn_realm_option"
                  " WHERE opt IN ('user-quota', 'total-quota', 'max-bps')" },
};

static void unhex32(sqlite3_context *ctx, int n, sqlite3_value **v)
{
    uint8_t key[16];
    size_t len;
    const char *hex = (const char *)sqlite3_value_text(v[0]);
    (void)n;
    if (hex && !sodium_hex2bin(key, sizeof(key), hex, 32, NULL, &len, NULL) && len == 16)
        sqlite3_result_blob(ctx, key, 16, SQLITE_TRANSIENT);
    else
        sqlite3_result_error(ctx, "a key is not hexadecimal", -1);
}

static int do_import(int argc, char **argv)
{
    if (argc != 1)
        return USAGE;
    if (access(argv[0], R_OK))
        return complain(argv[0], "cannot be read");
    sqlite3_create_function(sql, "unhex32", 1, SQLITE_UTF8, NULL, unhex32, NULL, NULL);
    if (run(prepare("ATTACH ?1 AS coturn", (const char *const[]){ argv[0], NULL }), NULL))
        return FAILED;
    sqlite3_exec(sql, "BEGIN", NULL, NULL, NULL);
    for (size_t i = 0; i < sizeof(imports) / sizeof(imports[0]); i++) {
        sqlite3_stmt *st;
        int n;
        if (sqlite3_prepare_v2(sql, imports[i].text, -1, &st, NULL) != SQLITE_OK || run(st, &n)) {
            complain(argv[0], sqlite3_errmsg(sql));
            sqlite3_exec(sql, "ROLLBACK", NULL, NULL, NULL);
            return FAILED;
        }
        printf("%d %s\n", n, imports[i].what);
    }
    return sqlite3_exec(sql, "COMMIT", NULL, NULL, NULL) == SQLITE_OK
               ? OK : complain("the database", sqlite3_errmsg(sql));
}

/* --- the command line --------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "user", do_user },   { "secret", do_secret }, { "credential", do_credential },
    { "ban", do_ban },     { "unban", do_unban },   { "peer", do_peer },
    { "set", do_set },     { "import", do_import },
};

int main(int argc, char **argv)
{
    const char *path = NULL, *why;
    struct db *db;
    int i = 1;
    if (sodium_init() < 0)
        return FAILED;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return OK;
        } else if (!strcmp(argv[i], "--version")) {
            puts("thalwegadm " THALWEG_VERSION);
            return OK;
        } else if (!strcmp(argv[i], "--json")) {
            json = true;
        } else if (i + 1 < argc && (!strcmp(argv[i], "--db") || !strcmp(argv[i], "-b"))) {
            path = argv[++i];
        } else if (i + 1 < argc && (!strcmp(argv[i], "--realm") || !strcmp(argv[i], "-r"))) {
            realm = argv[++i];
        } else {
            fprintf(stderr, "thalwegadm: unknown option %s; see --help\n", argv[i]);
            return USAGE;
        }
    }
    if (!path || i == argc) {
        fputs(usage, stderr);
        return USAGE;
    }
    umask(077); /* keys and secrets are in it */
    if (!db_open(path, true, &db, &why))
        return complain(path, why);
    sql = db_handle(db);
    int status = USAGE;
    for (size_t k = 0; k < sizeof(commands) / sizeof(commands[0]); k++)
        if (!strcmp(commands[k].name, argv[i]))
            status = commands[k].run(argc - i - 1, argv + i + 1);
    if (status == USAGE)
        fprintf(stderr, "thalwegadm: that is no command, or not how it goes; see --help\n");
    db_close(db);
    return status;
}
