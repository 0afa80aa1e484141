#include "relay/users.h"

#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdlib.h>

#include "ident/ident.h"

enum { USERS_MAX = 1 << 28 };

int tw_relay_users_new(const char *realm, struct tw_relay_users **ret_users)
{
    struct tw_relay_users *u = calloc(1, sizeof(*u));
    if (!u)
        return TW_ENOMEM;
    int err = tw_stun_opaque_string(tw_bytes_str(realm), u->realm, sizeof(u->realm));
    if (err) {
        free(u);
        return TW_EMALFORMED;
    }
    tw_map_init(&u->by_name, USERS_MAX);
    tw_map_init(&u->by_hash, USERS_MAX);
    tw_map_init(&u->banned, USERS_MAX);
    u->all_sha256 = true;
    u->separator = ':';
    *ret_users = u;
    return 0;
}

static void free_user(struct user *user)
{
    free(user->name);
    sodium_memzero(user, sizeof(*user));
    free(user);
}

void tw_relay_users_free(struct tw_relay_users *u)
{
    if (!u)
        return;
    for (uint32_t i = 0; u->by_name.slots && i <= u->by_name.mask; i++)
        if (u->by_name.slots[i].item)
            free_user(u->by_name.slots[i].item);
    for (uint32_t i = 0; u->banned.slots && i <= u->banned.mask; i++)
        free(u->banned.slots[i].item);
    for (uint32_t i = 0; i < u->secret_n; i++) {
        uint8_t *p = (uint8_t *)(uintptr_t)u->secrets[i].p;
        sodium_memzero(p, u->secrets[i].n);
        free(p);
    }
    tw_map_fini(&u->by_name);
    tw_map_fini(&u->by_hash);
    tw_map_fini(&u->banned);
    free(u);
}

/* --- finding ------------------------------------------------------------------------------ */

/* The names in these maps are the operator's, so their hash needs no secret. */
static uint32_t hash_bytes(struct tw_bytes b)
{
    static const struct tw_hash_key key;
    return (uint32_t)tw_hash(&key, b.p, b.n);
}

static bool eq_name(const void *item, const void *key)
{
    const struct user *user = item;
    return tw_bytes_eq(tw_bytes_str(user->name), *(const struct tw_bytes *)key);
}

static bool eq_hash(const void *item, const void *key)
{
    const struct user *user = item;
    return memcmp(user->userhash, ((const struct tw_bytes *)key)->p, TW_STUN_USERHASH) == 0;
}

static bool eq_text(const void *item, const void *key)
{
    return tw_bytes_eq(tw_bytes_str(item), *(const struct tw_bytes *)key);
}

const struct user *tw_relay_users_by_name(const struct tw_relay_users *u, struct tw_bytes name)
{
    return tw_map_get(&u->by_name, hash_bytes(name), eq_name, &name);
}

const struct user *tw_relay_users_by_hash(const struct tw_relay_users *u, struct tw_bytes hash)
{
    return hash.n == TW_STUN_USERHASH
               ? tw_map_get(&u->by_hash, hash_bytes(hash), eq_hash, &hash) : NULL;
}

bool tw_relay_users_banned(const struct tw_relay_users *u, struct tw_bytes name)
{
    return u->banned.len && tw_map_get(&u->banned, hash_bytes(name), eq_text, &name);
}

/* --- adding ------------------------------------------------------------------------------- */

static int insert(struct tw_relay_users *u, const struct user *user)
{
    struct tw_bytes name = tw_bytes_str(user->name);
    if (tw_relay_users_by_name(u, name))
        return TW_ESTATE;
    struct user *kept = malloc(sizeof(*kept));
    if (!kept)
        return TW_ENOMEM;
    *kept = *user;
    tw_stun_userhash(name, tw_bytes_str(u->realm), kept->userhash);
    struct tw_bytes hash = tw_bytes(kept->userhash, TW_STUN_USERHASH);
    int err = tw_map_put(&u->by_name, hash_bytes(name), kept);
    if (!err) {
        err = tw_map_put(&u->by_hash, hash_bytes(hash), kept);
        if (err)
            tw_map_del(&u->by_name, hash_bytes(name), kept);
    }
    if (err) {
        sodium_memzero(kept, sizeof(*kept));
        free(kept);
        return err;
    }
    u->all_sha256 = u->all_sha256 && user->sha256.n;
    return 0;
}

static int prepare(const char *text, char **ret)
{
    char prepared[TW_STUN_MAX_NAME + 1];
    if (tw_stun_opaque_string(tw_bytes_str(text), prepared, sizeof(prepared)))
        return TW_EMALFORMED;
    *ret = strdup(prepared);
    return *ret ? 0 : TW_ENOMEM;
}

int tw_relay_users_add(struct tw_relay_users *u, const char *name, const char *password)
{
    struct user user = { 0 };
    char prepared[TW_STUN_MAX_TEXT + 1];
    int err = tw_stun_opaque_string(tw_bytes_str(password), prepared, sizeof(prepared));
    if (err)
        return TW_EMALFORMED;
    err = prepare(name, &user.name);
    if (!err)
        err = tw_stun_long_term_key(TW_STUN_ALGO_MD5, tw_bytes_str(user.name),
                                    tw_bytes_str(u->realm), tw_bytes_str(prepared), &user.md5);
    if (!err)
        err = tw_stun_long_term_key(TW_STUN_ALGO_SHA256, tw_bytes_str(user.name),
                                    tw_bytes_str(u->realm), tw_bytes_str(prepared), &user.sha256);
    if (!err)
        err = insert(u, &user);
    if (err)
        free(user.name);
    sodium_memzero(prepared, sizeof(prepared));
    sodium_memzero(&user, sizeof(user));
    return err;
}

int tw_relay_users_add_keys(struct tw_relay_users *u, const char *name, const uint8_t md5[16],
                            const uint8_t sha256[32])
{
    struct user user = { .md5.n = 16, .sha256.n = sha256 ? 32 : 0 };
    memcpy(user.md5.k, md5, 16);
    if (sha256)
        memcpy(user.sha256.k, sha256, 32);
    int err = prepare(name, &user.name);
    if (!err)
        err = insert(u, &user);
    if (err)
        free(user.name);
    sodium_memzero(&user, sizeof(user));
    return err;
}

int tw_relay_users_set_quota(struct tw_relay_users *u, const char *name, uint32_t quota)
{
    struct tw_bytes key = tw_bytes_str(name);
    struct user *user = tw_map_get(&u->by_name, hash_bytes(key), eq_name, &key);
    if (!user)
        return TW_ENOTFOUND;
    user->quota = quota;
    return 0;
}

int tw_relay_users_ban(struct tw_relay_users *u, const char *name)
{
    char *kept;
    int err = prepare(name, &kept);
    if (err)
        return err;
    err = tw_relay_users_banned(u, tw_bytes_str(kept))
              ? TW_ESTATE : tw_map_put(&u->banned, hash_bytes(tw_bytes_str(kept)), kept);
    if (err)
        free(kept);
    return err == TW_ESTATE ? 0 : err;
}

int tw_relay_users_add_secret(struct tw_relay_users *u, const char *secret)
{
    size_t n = strlen(secret);
    if (u->secret_n == SECRETS_MAX)
        return TW_EFULL;
    uint8_t *kept = malloc(n + 1);
    if (!kept)
        return TW_ENOMEM;
    memcpy(kept, secret, n + 1);
    u->secrets[u->secret_n++] = tw_bytes(kept, n);
    return 0;
}

int tw_relay_users_add_guest_secret(struct tw_relay_users *u, const char *secret, uint32_t quota)
{
    int err = tw_relay_users_add_secret(u, secret);
    if (err)
        return err;
    u->guest[u->secret_n - 1] = true;
    u->guest_quota = quota;
    return 0;
}

void tw_relay_users_set_separator(struct tw_relay_users *u, char separator)
{
    u->separator = separator;
}

bool tw_relay_users_sha256(const struct tw_relay_users *u)
{
    return u->all_sha256;
}

bool tw_relay_users_anonymity(const struct tw_relay_users *u)
{
    return u->secret_n == 0;
}

/* --- time-limited names (draft-uberti-behave-turn-rest) ----------------------------------- */

bool tw_relay_users_timed(const struct tw_relay_users *u, struct tw_bytes name, int64_t now_unix,
                          struct tw_bytes *ret_id)
{
    int64_t expiry = 0;
    size_t i = 0;
    for (; i < name.n && i < 12 && name.p[i] >= '0' && name.p[i] <= '9'; i++)
        expiry = expiry * 10 + (name.p[i] - '0');
    if (u->secret_n == 0 || i == 0 || (i < name.n && name.p[i] != (uint8_t)u->separator) ||
        expiry <= now_unix)
        return false;
    *ret_id = i + 1 < name.n ? tw_bytes(name.p + i + 1, name.n - i - 1) : name;
    return true;
}

static int timed_password(struct tw_bytes secret, struct tw_bytes name, char ret[29])
{
    enum { SHA1 = 20, TEXT = 29 };
    uint8_t mac[SHA1];
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA1, secret.p, secret.n, name.p, name.n, mac))
        return TW_ECRYPTO;
    sodium_bin2base64(ret, TEXT, mac, sizeof(mac), sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(mac, sizeof(mac));
    return 0;
}

int tw_relay_timed_password(const char *secret, const char *name, char ret_password[29])
{
    return timed_password(tw_bytes_str(secret), tw_bytes_str(name), ret_password);
}

int tw_relay_users_timed_key(const struct tw_relay_users *u, uint32_t i, struct tw_bytes name,
                             enum tw_stun_algorithm algo, struct tw_stun_key *ret_key)
{
    char password[29];
    int err = timed_password(u->secrets[i], name, password);
    if (!err)
        err = tw_stun_long_term_key(algo, name, tw_bytes_str(u->realm), tw_bytes_str(password),
                                    ret_key);
    sodium_memzero(password, sizeof(password));
    return err;
}

/* --- nonces that come with them ------------------------------------------------------------- */

/* As an address's nonce (auth.c), but longer: expiry (32-bit Unix seconds), 88 bits of MAC over it and the name. */
enum { TIMED_MAC = 11, TIMED_BODY = 4 + TIMED_MAC, TIMED_TEXT = 20 };

static void timed_nonce_body(struct tw_bytes secret, struct tw_bytes name, uint32_t expiry, uint8_t body[TIMED_BODY])
{
    tw_put_u32(body, expiry);
    const struct tw_bytes parts[] = { secret, tw_bytes(body, 4), name };
    uint8_t mac[16];
    tw_digest("thalweg relay nonce", parts, 3, mac, sizeof(mac));
    memcpy(body + 4, mac, TIMED_MAC);
}

void tw_relay_timed_nonce(const char *secret, const char *name, int64_t unix_now,
                          char ret_nonce[TW_RELAY_TIMED_NONCE + 1])
{
    uint8_t body[TIMED_BODY];
    timed_nonce_body(tw_bytes_str(secret), tw_bytes_str(name),
                     (uint32_t)(unix_now + TW_RELAY_TIMED_NONCE_LIFETIME), body);
    tw_stun_nonce_prefix(0, ret_nonce);
    sodium_bin2base64(ret_nonce + TW_STUN_NONCE_COOKIE_LEN, TIMED_TEXT + 1, body, sizeof(body),
                      sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
}

bool tw_relay_users_timed_nonce(const struct tw_relay_users *u, struct tw_bytes name, struct tw_bytes nonce,
                                int64_t now_unix)
{
    uint8_t body[TIMED_BODY], right[TIMED_BODY];
    size_t n;
    if (nonce.n != TW_RELAY_TIMED_NONCE ||
        sodium_base642bin(body, sizeof(body), (const char *)nonce.p + TW_STUN_NONCE_COOKIE_LEN, TIMED_TEXT, NULL,
                          &n, NULL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) ||
        n != sizeof(body) || tw_get_u32(body) <= now_unix)
        return false;
    for (uint32_t i = 0; i < u->secret_n; i++) {
        timed_nonce_body(u->secrets[i], name, tw_get_u32(body), right);
        if (u->guest[i] && sodium_memcmp(body, right, sizeof(body)) == 0)
            return true;
    }
    return false;
}
