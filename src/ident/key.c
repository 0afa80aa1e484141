#include <sodium.h>

#include "ident/ident.h"

int tw_ident_init(struct tw_ident *id, const uint8_t seed[TW_SEED_SIZE])
{
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    if (sodium_init() < 0)
        return TW_ECRYPTO;
    memmove(id->seed, seed, TW_SEED_SIZE);
    crypto_sign_seed_keypair(id->key.b, secret, id->seed);
    sodium_memzero(secret, sizeof(secret));
    return 0;
}

int tw_ident_make(struct tw_ident *id, const struct tw_rng *rng)
{
    uint8_t seed[TW_SEED_SIZE];
    rng->fill(rng->ctx, seed, sizeof(seed));
    int err = tw_ident_init(id, seed);
    sodium_memzero(seed, sizeof(seed));
    return err;
}

void tw_ident_fini(struct tw_ident *id)
{
    sodium_memzero(id, sizeof(*id));
}

void tw_digest(const char *purpose, const struct tw_bytes *parts, size_t n, void *out, size_t out_n)
{
    crypto_generichash_state h;
    uint8_t length[4];
    crypto_generichash_init(&h, NULL, 0, out_n);
    crypto_generichash_update(&h, (const uint8_t *)purpose, strlen(purpose) + 1);
    for (size_t i = 0; i < n; i++) {
        tw_put_u32(length, (uint32_t)parts[i].n);
        crypto_generichash_update(&h, length, sizeof(length));
        crypto_generichash_update(&h, parts[i].p, parts[i].n);
    }
    crypto_generichash_final(&h, out, out_n);
}

/* What Ed25519 signs: the purpose, and the hash of what it is about. */
enum { SIGNED_MAX = 32 + 64 };
static size_t to_be_signed(const char *purpose, const struct tw_bytes *parts, size_t n,
                           uint8_t out[SIGNED_MAX])
{
    size_t len = strlen(purpose) + 1;
    memcpy(out, purpose, len);
    tw_digest(purpose, parts, n, out + len, 64);
    return len + 64;
}

int tw_ident_sign(const struct tw_ident *id, const char *purpose, const struct tw_bytes *parts, size_t n,
                  uint8_t sig[TW_SIG_SIZE])
{
    uint8_t msg[SIGNED_MAX], secret[crypto_sign_SECRETKEYBYTES];
    size_t len = to_be_signed(purpose, parts, n, msg);
    memcpy(secret, id->seed, TW_SEED_SIZE); /* libsodium's form: seed, then public key */
    memcpy(secret + TW_SEED_SIZE, id->key.b, TW_KEY_SIZE);
    int err = crypto_sign_detached(sig, NULL, msg, len, secret);
    sodium_memzero(secret, sizeof(secret));
    return err ? TW_ECRYPTO : 0;
}

bool tw_key_verify(const struct tw_key *key, const char *purpose, const struct tw_bytes *parts, size_t n,
                   const uint8_t sig[TW_SIG_SIZE])
{
    uint8_t msg[SIGNED_MAX];
    size_t len = to_be_signed(purpose, parts, n, msg);
    return crypto_sign_verify_detached(sig, msg, len, key->b) == 0;
}
