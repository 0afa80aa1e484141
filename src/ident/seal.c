#include <sodium.h>
#include <stdlib.h>

#include "ident/ident.h"

enum { VERSION = 1, EPHEMERAL = 32 };

/* --- prekeys ------------------------------------------------------------------------------------- */

void tw_prekey_make(struct tw_prekey *p, uint32_t epoch, const struct tw_rng *rng)
{
    p->epoch = epoch;
    rng->fill(rng->ctx, p->secret, sizeof(p->secret));
    crypto_scalarmult_curve25519_base(p->pub, p->secret);
}

int tw_prekey_publish(const struct tw_prekey *p, const struct tw_ident *id, uint8_t out[TW_PREKEY_WIRE])
{
    tw_put_u32(out, p->epoch);
    memcpy(out + 4, p->pub, TW_PREKEY_SIZE);
    const struct tw_bytes part = tw_bytes(out, 4 + TW_PREKEY_SIZE);
    return tw_ident_sign(id, TW_FOR_PREKEY, &part, 1, out + 4 + TW_PREKEY_SIZE);
}

int tw_prekey_read(struct tw_bytes wire, const struct tw_key *owner, struct tw_prekey *ret_prekey)
{
    if (wire.n != TW_PREKEY_WIRE)
        return TW_EMALFORMED;
    const struct tw_bytes part = tw_bytes(wire.p, 4 + TW_PREKEY_SIZE);
    if (!tw_key_verify(owner, TW_FOR_PREKEY, &part, 1, wire.p + 4 + TW_PREKEY_SIZE))
        return TW_EAUTH;
    *ret_prekey = (struct tw_prekey){ .epoch = tw_get_u32(wire.p) };
    memcpy(ret_prekey->pub, wire.p + 4, TW_PREKEY_SIZE);
    return 0;
}

/* --- sealing ------------------------------------------------------------------------------------- */

/* The key of a sealed box, of both Diffie-Hellman results and everything they came from. prekey: its public
 * half, or NULL. */
static void box_key(const uint8_t with_identity[32], const uint8_t with_prekey[32],
                    const uint8_t ephemeral[32], const struct tw_key *to, const uint8_t *prekey,
                    uint8_t key[32])
{
    const struct tw_bytes parts[] = { tw_bytes(with_identity, 32), tw_bytes(with_prekey, prekey ? 32 : 0),
                                      tw_bytes(ephemeral, 32), tw_bytes(to->b, TW_KEY_SIZE),
                                      tw_bytes(prekey, prekey ? TW_PREKEY_SIZE : 0) };
    tw_digest("thalweg seal", parts, 5, key, 32);
}

/* Each key is for one message: the nonce may be constant. */
static const uint8_t zero_nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

int tw_seal(const struct tw_key *to, const struct tw_prekey *prekey, const struct tw_rng *rng,
            struct tw_bytes msg, uint8_t *out)
{
    uint8_t secret[32], theirs[32], first[32] = { 0 }, second[32] = { 0 }, key[32];
    rng->fill(rng->ctx, secret, sizeof(secret));
    out[0] = VERSION;
    crypto_scalarmult_curve25519_base(out + 1, secret);
    int err = crypto_sign_ed25519_pk_to_curve25519(theirs, to->b) ||
              crypto_scalarmult_curve25519(first, secret, theirs) ||
              (prekey && crypto_scalarmult_curve25519(second, secret, prekey->pub));
    if (!err) {
        box_key(first, second, out + 1, to, prekey ? prekey->pub : NULL, key);
        crypto_aead_chacha20poly1305_ietf_encrypt(out + 1 + EPHEMERAL, NULL, msg.p, msg.n, out,
                                                  1 + EPHEMERAL, NULL, zero_nonce, key);
    }
    sodium_memzero(secret, sizeof(secret));
    sodium_memzero(first, sizeof(first));
    sodium_memzero(second, sizeof(second));
    sodium_memzero(key, sizeof(key));
    return err ? TW_ECRYPTO : 0;
}

static bool open_with(const struct tw_ident *id, const uint8_t first[32], const struct tw_prekey *prekey,
                      struct tw_bytes in, uint8_t *out)
{
    uint8_t second[32] = { 0 }, key[32];
    if (prekey && crypto_scalarmult_curve25519(second, prekey->secret, in.p + 1))
        return false;
    box_key(first, second, in.p + 1, &id->key, prekey ? prekey->pub : NULL, key);
    int err = crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in.p + 1 + EPHEMERAL,
                                                        in.n - 1 - EPHEMERAL, in.p, 1 + EPHEMERAL,
                                                        zero_nonce, key);
    sodium_memzero(second, sizeof(second));
    sodium_memzero(key, sizeof(key));
    return err == 0;
}

int tw_seal_open(const struct tw_ident *id, const struct tw_prekey *prekeys, size_t n,
                 struct tw_bytes in, uint8_t *out)
{
    uint8_t ours[64], first[32];
    bool open = false;
    if (in.n < TW_SEAL_OVERHEAD || in.p[0] != VERSION)
        return TW_EAUTH;
    crypto_hash_sha512(ours, id->seed, TW_SEED_SIZE); /* the scalar of Ed25519 is one of X25519, too */
    if (!crypto_scalarmult_curve25519(first, ours, in.p + 1)) {
        for (size_t i = 0; i < n && !open; i++)
            open = open_with(id, first, &prekeys[i], in, out);
        open = open || open_with(id, first, NULL, in, out);
    }
    sodium_memzero(ours, sizeof(ours));
    sodium_memzero(first, sizeof(first));
    return open ? 0 : TW_EAUTH;
}

/* --- a shared secret ------------------------------------------------------------------------------ */

void tw_box_init(struct tw_box *b, const uint8_t secret[32], const char *direction)
{
    const struct tw_bytes part = tw_bytes(secret, 32);
    tw_digest(direction, &part, 1, b->key, sizeof(b->key));
    b->next = 0;
}

static void number_nonce(const uint8_t number[8], uint8_t nonce[12])
{
    memset(nonce, 0, 4);
    memcpy(nonce + 4, number, 8);
}

void tw_box_seal(struct tw_box *b, struct tw_bytes msg, uint8_t *out)
{
    uint8_t nonce[12];
    tw_put_u64(out, b->next);
    b->next++;
    number_nonce(out, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(out + 8, NULL, msg.p, msg.n, out, 8, NULL, nonce, b->key);
}

int tw_box_open(struct tw_box *b, struct tw_bytes in, uint8_t *out)
{
    uint8_t nonce[12];
    if (in.n < TW_BOX_OVERHEAD)
        return TW_EAUTH;
    uint64_t number = tw_get_u64(in.p);
    number_nonce(in.p, nonce);
    if (number < b->next || crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in.p + 8, in.n - 8,
                                                                      in.p, 8, nonce, b->key))
        return TW_EAUTH;
    b->next = number + 1;
    return 0;
}
