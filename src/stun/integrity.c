#include "stun/integrity.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>

int tw_stun_hmac(enum tw_stun_hmac hmac, struct tw_bytes key, struct tw_bytes message,
                 uint16_t length, uint8_t *ret_mac)
{
    gnutls_mac_algorithm_t algo =
        hmac == TW_STUN_HMAC_SHA1 ? GNUTLS_MAC_SHA1 : GNUTLS_MAC_SHA256;
    uint8_t header[4] = { message.p[0], message.p[1] };
    gnutls_hmac_hd_t h;
    tw_put_u16(header + 2, length);
    if (gnutls_hmac_init(&h, algo, key.p, key.n))
        return TW_ECRYPTO;
    int err = gnutls_hmac(h, header, sizeof(header));
    if (!err)
        err = gnutls_hmac(h, message.p + sizeof(header), message.n - sizeof(header));
    gnutls_hmac_deinit(h, ret_mac);
    return err ? TW_ECRYPTO : 0;
}

static bool verify(const struct tw_stun_msg *m, enum tw_stun_attr a, enum tw_stun_hmac hmac,
                   size_t len, struct tw_bytes key)
{
    uint8_t mac[TW_STUN_MI_SHA256];
    struct tw_bytes value = tw_stun_get(m, a);
    if (value.n != len) /* no usage of ours allows the truncation of RFC 8489 §14.6 */
        return false;
    size_t covered = m->at[a].off - (size_t)4;
    size_t length = m->at[a].off + len - TW_STUN_HEADER;
    return !tw_stun_hmac(hmac, key, tw_bytes(m->raw.p, covered), (uint16_t)length, mac) &&
           sodium_memcmp(mac, value.p, len) == 0;
}

bool tw_stun_verify(const struct tw_stun_msg *m, struct tw_bytes key)
{
    return verify(m, TW_STUN_A_MESSAGE_INTEGRITY, TW_STUN_HMAC_SHA1, TW_STUN_MI, key);
}

bool tw_stun_verify_sha256(const struct tw_stun_msg *m, struct tw_bytes key)
{
    return verify(m, TW_STUN_A_MESSAGE_INTEGRITY_SHA256, TW_STUN_HMAC_SHA256, TW_STUN_MI_SHA256,
                  key);
}

static int hash_joined(gnutls_digest_algorithm_t algo, const struct tw_bytes *parts, size_t n,
                       uint8_t *ret)
{
    gnutls_hash_hd_t h;
    if (gnutls_hash_init(&h, algo))
        return TW_ECRYPTO;
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) {
        if (i)
            err = gnutls_hash(h, ":", 1);
        if (!err && parts[i].n)
            err = gnutls_hash(h, parts[i].p, parts[i].n);
    }
    gnutls_hash_deinit(h, ret);
    return err ? TW_ECRYPTO : 0;
}

int tw_stun_long_term_key(enum tw_stun_algorithm algo, struct tw_bytes username,
                          struct tw_bytes realm, struct tw_bytes password,
                          struct tw_stun_key *ret_key)
{
    const struct tw_bytes parts[] = { username, realm, password };
    if (algo == TW_STUN_ALGO_SHA256) {
        ret_key->n = 32;
        return hash_joined(GNUTLS_DIG_SHA256, parts, 3, ret_key->k);
    }
    if (algo != TW_STUN_ALGO_MD5)
        return TW_EUNSUPPORTED;
    /* RFC 8489 §18.5.1.1 asks for MD5 here; in FIPS mode the library must be told it is meant. */
    GNUTLS_FIPS140_SET_LAX_MODE();
    int err = hash_joined(GNUTLS_DIG_MD5, parts, 3, ret_key->k);
    GNUTLS_FIPS140_SET_STRICT_MODE();
    ret_key->n = 16;
    return err;
}

void tw_stun_userhash(struct tw_bytes username, struct tw_bytes realm,
                      uint8_t ret_hash[TW_STUN_USERHASH])
{
    const struct tw_bytes parts[] = { username, realm };
    if (hash_joined(GNUTLS_DIG_SHA256, parts, 2, ret_hash))
        memset(ret_hash, 0, TW_STUN_USERHASH);
}

int tw_stun_opaque_string(struct tw_bytes in, char *ret_text, size_t cap)
{
    gnutls_datum_t out;
    if (in.n == 0 || in.n > UINT16_MAX)
        return TW_EMALFORMED;
    if (gnutls_utf8_password_normalize(in.p, (unsigned)in.n, &out, 0))
        return TW_EMALFORMED;
    int err = out.size < cap ? 0 : TW_EFULL;
    if (!err) {
        memcpy(ret_text, out.data, out.size);
        ret_text[out.size] = 0;
    }
    sodium_memzero(out.data, out.size);
    gnutls_free(out.data);
    return err;
}
