#include "relay/users.h"

#include <sodium.h>
#include <stdlib.h>

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
    u->all_sha256 = true;
    *ret_users = u;
    return 0;
}

void tw_relay_users_free(struct tw_relay_users *u)
{
    if (!u)
        return;
    for (uint32_t i = 0; i < u->n; i++)
        free(u->users[i].name);
    if (u->users)
        sodium_memzero(u->users, u->n * sizeof(*u->users));
    free(u->users);
    free(u->by_hash);
    free(u);
}

static int compare_name(const char *name, struct tw_bytes key)
{
    size_t n = strlen(name);
    int d = memcmp(name, key.p, n < key.n ? n : key.n);
    return d ? d : (n > key.n) - (n < key.n);
}

/* The place of a key in either order, or where it would go. */
static uint32_t place_by_name(const struct tw_relay_users *u, struct tw_bytes name)
{
    uint32_t lo = 0, hi = u->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (compare_name(u->users[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static uint32_t place_by_hash(const struct tw_relay_users *u, const uint8_t *hash)
{
    uint32_t lo = 0, hi = u->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (memcmp(u->users[u->by_hash[mid]].userhash, hash, TW_STUN_USERHASH) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct user *tw_relay_users_by_name(const struct tw_relay_users *u, struct tw_bytes name)
{
    uint32_t i = place_by_name(u, name);
    return i < u->n && compare_name(u->users[i].name, name) == 0 ? &u->users[i] : NULL;
}

const struct user *tw_relay_users_by_hash(const struct tw_relay_users *u, struct tw_bytes hash)
{
    if (hash.n != TW_STUN_USERHASH)
        return NULL;
    uint32_t i = place_by_hash(u, hash.p);
    if (i == u->n || memcmp(u->users[u->by_hash[i]].userhash, hash.p, TW_STUN_USERHASH) != 0)
        return NULL;
    return &u->users[u->by_hash[i]];
}

static int grow(struct tw_relay_users *u)
{
    if (u->n < u->cap)
        return 0;
    uint32_t cap = u->cap ? 2 * u->cap : 8;
    struct user *users = calloc(cap, sizeof(*users));
    uint32_t *by_hash = realloc(u->by_hash, cap * sizeof(*by_hash));
    if (by_hash)
        u->by_hash = by_hash;
    if (!users || !by_hash) {
        free(users);
        return TW_ENOMEM;
    }
    if (u->n) {
        memcpy(users, u->users, u->n * sizeof(*users));
        sodium_memzero(u->users, u->n * sizeof(*users));
    }
    free(u->users);
    u->users = users;
    u->cap = cap;
    return 0;
}

static int insert(struct tw_relay_users *u, struct user user)
{
    struct tw_bytes name = tw_bytes_str(user.name);
    if (tw_relay_users_by_name(u, name))
        return TW_ESTATE;
    int err = grow(u);
    if (err)
        return err;
    tw_stun_userhash(name, tw_bytes_str(u->realm), user.userhash);
    uint32_t h = place_by_hash(u, user.userhash), i = place_by_name(u, name);
    memmove(&u->users[i + 1], &u->users[i], (u->n - i) * sizeof(*u->users));
    u->users[i] = user;
    for (uint32_t k = 0; k < u->n; k++)
        u->by_hash[k] += u->by_hash[k] >= i;
    memmove(&u->by_hash[h + 1], &u->by_hash[h], (u->n - h) * sizeof(*u->by_hash));
    u->by_hash[h] = i;
    u->n++;
    u->all_sha256 = u->all_sha256 && user.sha256.n;
    return 0;
}

static int prepare_name(const char *name, struct user *user)
{
    char prepared[TW_STUN_MAX_NAME + 1];
    int err = tw_stun_opaque_string(tw_bytes_str(name), prepared, sizeof(prepared));
    if (err)
        return TW_EMALFORMED;
    user->name = strdup(prepared);
    return user->name ? 0 : TW_ENOMEM;
}

int tw_relay_users_add(struct tw_relay_users *u, const char *name, const char *password)
{
    struct user user = { 0 };
    char prepared[TW_STUN_MAX_TEXT + 1];
    int err = tw_stun_opaque_string(tw_bytes_str(password), prepared, sizeof(prepared));
    if (err)
        return TW_EMALFORMED;
    err = prepare_name(name, &user);
    if (!err)
        err = tw_stun_long_term_key(TW_STUN_ALGO_MD5, tw_bytes_str(user.name),
                                    tw_bytes_str(u->realm), tw_bytes_str(prepared), &user.md5);
    if (!err)
        err = tw_stun_long_term_key(TW_STUN_ALGO_SHA256, tw_bytes_str(user.name),
                                    tw_bytes_str(u->realm), tw_bytes_str(prepared), &user.sha256);
    if (!err)
        err = insert(u, user);
    if (err)
        free(user.name);
    sodium_memzero(prepared, sizeof(prepared));
    sodium_memzero(&user, sizeof(user));
    return err;
}

int tw_relay_users_add_key(struct tw_relay_users *u, const char *name, const uint8_t md5_key[16])
{
    struct user user = { .md5.n = 16 };
    memcpy(user.md5.k, md5_key, 16);
    int err = prepare_name(name, &user);
    if (!err)
        err = insert(u, user);
    if (err)
        free(user.name);
    return err;
}

bool tw_relay_users_sha256(const struct tw_relay_users *u)
{
    return u->all_sha256;
}
