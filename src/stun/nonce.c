#include <thalweg/stun.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
enum { COOKIE = sizeof(TW_STUN_NONCE_COOKIE) - 1 };

uint32_t tw_stun_nonce_features(struct tw_bytes nonce)
{
    uint32_t features = 0;
    if (nonce.n < TW_STUN_NONCE_COOKIE_LEN || memcmp(nonce.p, TW_STUN_NONCE_COOKIE, COOKIE) != 0)
        return 0;
    for (size_t i = COOKIE; i < TW_STUN_NONCE_COOKIE_LEN; i++) {
        const char *at = nonce.p[i] ? strchr(alphabet, nonce.p[i]) : NULL;
        if (!at)
            return 0;
        features = features << 6 | (uint32_t)(at - alphabet);
    }
    return features;
}

void tw_stun_nonce_prefix(uint32_t features, char ret_prefix[TW_STUN_NONCE_COOKIE_LEN])
{
    memcpy(ret_prefix, TW_STUN_NONCE_COOKIE, COOKIE);
    for (int i = 0; i < 4; i++)
        ret_prefix[COOKIE + i] = alphabet[features >> (18 - 6 * i) & 63];
}
