/* Key blinding as Tor's third version of onion services does it for its descriptors (rend-spec-v3,
 * appendix A): with h a hash of the key and the mailbox's day, server and secret, the mailbox is h·A, and
 * a·h signs for it. */
#include <sodium.h>

#include "ident/ident.h"

static void factor(const struct tw_key *key, const struct tw_mailbox_of *of,
                   uint8_t h[crypto_core_ed25519_SCALARBYTES])
{
    uint8_t wide[crypto_core_ed25519_NONREDUCEDSCALARBYTES], epoch[4];
    tw_put_u32(epoch, of->epoch);
    const struct tw_bytes parts[] = { tw_bytes(key->b, TW_KEY_SIZE), tw_bytes(epoch, sizeof(epoch)),
                                      tw_bytes_str(of->server), of->secret };
    tw_digest("thalweg mailbox", parts, 4, wide, sizeof(wide));
    crypto_core_ed25519_scalar_reduce(h, wide);
}

int tw_mailbox_name(const struct tw_key *key, const struct tw_mailbox_of *of, struct tw_key *ret_name)
{
    uint8_t h[crypto_core_ed25519_SCALARBYTES];
    if (!crypto_core_ed25519_is_valid_point(key->b))
        return TW_EMALFORMED;
    factor(key, of, h);
    return crypto_scalarmult_ed25519_noclamp(ret_name->b, h, key->b) ? TW_EMALFORMED : 0;
}

static void challenge(const uint8_t r[32], const struct tw_key *name, struct tw_bytes msg, uint8_t k[32])
{
    crypto_hash_sha512_state s;
    uint8_t wide[64];
    crypto_hash_sha512_init(&s);
    crypto_hash_sha512_update(&s, r, 32);
    crypto_hash_sha512_update(&s, name->b, TW_KEY_SIZE);
    crypto_hash_sha512_update(&s, msg.p, msg.n);
    crypto_hash_sha512_final(&s, wide);
    crypto_core_ed25519_scalar_reduce(k, wide);
}

int tw_mailbox_sign(const struct tw_ident *id, const struct tw_mailbox_of *of, struct tw_bytes msg,
                    uint8_t sig[TW_SIG_SIZE])
{
    uint8_t expanded[64], h[32], a[32], wide[64], r[32], k[32];
    struct tw_key name;
    int err = tw_mailbox_name(&id->key, of, &name);
    if (err)
        return err;
    crypto_hash_sha512(expanded, id->seed, TW_SEED_SIZE); /* RFC 8032 §5.1.5 */
    expanded[0] &= 248;
    expanded[31] &= 127;
    expanded[31] |= 64;
    factor(&id->key, of, h);
    crypto_core_ed25519_scalar_mul(a, h, expanded);
    /* RFC 8032 §5.1.6, with a nonce of our own making: secret, and another one for another mailbox or
     * message. */
    const struct tw_bytes parts[] = { tw_bytes(expanded + 32, 32), tw_bytes(name.b, TW_KEY_SIZE), msg };
    tw_digest("thalweg mailbox nonce", parts, 3, wide, sizeof(wide));
    crypto_core_ed25519_scalar_reduce(r, wide);
    err = crypto_scalarmult_ed25519_base_noclamp(sig, r);
    challenge(sig, &name, msg, k);
    crypto_core_ed25519_scalar_mul(k, k, a);
    crypto_core_ed25519_scalar_add(sig + 32, k, r);
    sodium_memzero(expanded, sizeof(expanded));
    sodium_memzero(a, sizeof(a));
    sodium_memzero(r, sizeof(r));
    sodium_memzero(wide, sizeof(wide));
    return err ? TW_ECRYPTO : 0;
}

bool tw_mailbox_verify(const struct tw_key *name, struct tw_bytes msg, const uint8_t sig[TW_SIG_SIZE])
{
    return crypto_sign_verify_detached(sig, msg.p, msg.n, name->b) == 0;
}
