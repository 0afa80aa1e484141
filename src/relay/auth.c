/* Who is asking: stateless nonces and the long-term credential mechanism (RFC 8489 §9.2.4). */
#include "relay/internal.h"

#include <sodium.h>

/* "obMatJos2" + features, then base64 of: expiry (32-bit seconds), 80 bits of MAC over expiry
 * and the client's address. 32 characters; a 401 stays within 100 bytes. One that came with a guest's name is of
 * another length: users.c. */
enum {
    NONCE_MAC = 10,
    NONCE_BODY = 4 + NONCE_MAC,
    NONCE_TEXT = 19,
    NONCE_LEN = TW_STUN_NONCE_COOKIE_LEN + NONCE_TEXT,
};

static const uint8_t algorithms[] = { 0, TW_STUN_ALGO_SHA256, 0, 0, 0, TW_STUN_ALGO_MD5, 0, 0 };

static void nonce_mac(const struct tw_relay *r, uint32_t expiry, const struct tw_datagram *in,
                      uint8_t mac[NONCE_MAC])
{
    uint8_t msg[4 + 1 + 16 + 2] = { 0 }, out[crypto_shorthash_siphashx24_BYTES];
    tw_put_u32(msg, expiry);
    msg[4] = in->src.family;
    memcpy(msg + 5, in->src.ip, 16);
    /* A connection proves its address by itself. A client's data connections (RFC 6062) come from
     * other ports, and may use the nonce they know. */
    tw_put_u16(msg + 21, is_connection(in->sock) ? 0 : in->src.port);
    crypto_shorthash_siphashx24(out, msg, sizeof(msg), r->shared->keys.nonce.k);
    memcpy(mac, out, NONCE_MAC);
}

static bool offers_sha256(const struct tw_relay *r)
{
    return r->cfg->users && tw_relay_users_sha256(r->cfg->users);
}

static uint32_t features_on_offer(const struct tw_relay *r)
{
    return (r->cfg->users && tw_relay_users_anonymity(r->cfg->users) ? TW_STUN_FEATURE_ANONYMITY : 0) |
           (offers_sha256(r) ? TW_STUN_FEATURE_ALGORITHMS : 0);
}

void relay_add_nonce(struct tw_relay *r, struct tw_stun_enc *e, const struct tw_datagram *in)
{
    char nonce[NONCE_LEN + 1];
    uint8_t body[NONCE_BODY];
    tw_put_u32(body, (uint32_t)(r->now / TW_SEC) + r->cfg->nonce_lifetime);
    nonce_mac(r, tw_get_u32(body), in, body + 4);
    tw_stun_nonce_prefix(features_on_offer(r), nonce);
    sodium_bin2base64(nonce + TW_STUN_NONCE_COOKIE_LEN, NONCE_TEXT + 1, body, sizeof(body),
                      sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
    tw_stun_add(e, TW_STUN_A_NONCE, tw_bytes(nonce, NONCE_LEN));
}

bool relay_nonce_fresh(const struct tw_relay *r, const struct tw_datagram *in,
                       struct tw_bytes nonce)
{
    uint8_t body[NONCE_BODY], mac[NONCE_MAC];
    size_t n;
    if (nonce.n != NONCE_LEN ||
        sodium_base642bin(body, sizeof(body), (const char *)nonce.p + TW_STUN_NONCE_COOKIE_LEN,
                          NONCE_TEXT, NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL_NO_PADDING) ||
        n != sizeof(body))
        return false;
    nonce_mac(r, tw_get_u32(body), in, mac);
    return sodium_memcmp(mac, body + 4, NONCE_MAC) == 0 &&
           tw_get_u32(body) > (uint32_t)(r->now / TW_SEC);
}

static bool nonce_good(const struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m)
{
    struct tw_bytes nonce = tw_stun_get(m, TW_STUN_A_NONCE);
    return nonce.n == NONCE_LEN
               ? relay_nonce_fresh(r, in, nonce)
               : tw_relay_users_timed_nonce(r->cfg->users, tw_stun_get(m, TW_STUN_A_USERNAME), nonce,
                                            (r->now + r->cfg->unix_offset) / TW_SEC);
}

/* 401 or 438: realm, nonce and algorithms; no reason, no SOFTWARE, no integrity. */
static void challenge(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                      unsigned code)
{
    struct reply p;
    if (!relay_reply_begin(r, &p, TW_STUN_ERROR, m->method, m->tid, NULL))
        return;
    p.asked = m->raw.n;
    tw_stun_add_error(&p.e, code, tw_bytes(NULL, 0));
    tw_stun_add(&p.e, TW_STUN_A_REALM, tw_bytes_str(r->cfg->users->realm));
    relay_add_nonce(r, &p.e, in);
    if (offers_sha256(r))
        tw_stun_add(&p.e, TW_STUN_A_PASSWORD_ALGORITHMS, tw_bytes(algorithms, sizeof(algorithms)));
    r->stats.challenges_sent++;
    relay_reply_send(r, &p, in->sock, &in->dst, &in->src);
}

/* Which algorithm the request was signed with; 0: its claims do not fit what we offered. */
static unsigned chosen_algorithm(const struct tw_relay *r, const struct tw_stun_msg *m)
{
    bool one = tw_stun_has(m, TW_STUN_A_PASSWORD_ALGORITHM);
    bool list = tw_stun_has(m, TW_STUN_A_PASSWORD_ALGORITHMS);
    if (!one && !list)
        return TW_STUN_ALGO_MD5;
    if (!offers_sha256(r))
        return one && tw_get_u16(tw_stun_get(m, TW_STUN_A_PASSWORD_ALGORITHM).p) ==
                              TW_STUN_ALGO_MD5 ? TW_STUN_ALGO_MD5 : 0;
    if (!one || !list ||
        !tw_bytes_eq(tw_stun_get(m, TW_STUN_A_PASSWORD_ALGORITHMS),
                     tw_bytes(algorithms, sizeof(algorithms))))
        return 0; /* somebody changed the list on the way: RFC 8489 §9.2.4 */
    unsigned algo = tw_get_u16(tw_stun_get(m, TW_STUN_A_PASSWORD_ALGORITHM).p);
    return algo == TW_STUN_ALGO_MD5 || algo == TW_STUN_ALGO_SHA256 ? algo : 0;
}

/* A request is signed by a user that is known, or under a time-limited name by whoever was given its
 * password. */
struct claim {
    const struct tw_stun_msg *m;
    enum tw_stun_algorithm algo;
    struct tw_bytes id; /* what quotas and bans go by */
    uint32_t quota;
    bool guest;
};

static bool is_signed_with(const struct claim *c, const struct tw_stun_key *key)
{
    struct tw_bytes k = tw_bytes(key->k, key->n);
    return tw_stun_has(c->m, TW_STUN_A_MESSAGE_INTEGRITY_SHA256) ? tw_stun_verify_sha256(c->m, k)
                                                                 : tw_stun_verify(c->m, k);
}

static bool signed_by_secret(const struct tw_relay *r, struct claim *c, struct tw_stun_key *ret_key)
{
    const struct tw_relay_users *u = r->cfg->users;
    struct tw_bytes name = tw_stun_get(c->m, TW_STUN_A_USERNAME);
    for (uint32_t i = 0; i < u->secret_n; i++)
        if (!tw_relay_users_timed_key(u, i, name, c->algo, ret_key) && is_signed_with(c, ret_key)) {
            c->guest = u->guest[i];
            c->quota = c->guest ? u->guest_quota : 0;
            return true;
        }
    return false;
}

static const struct user *find_user(const struct tw_relay *r, const struct tw_stun_msg *m)
{
    if (tw_stun_has(m, TW_STUN_A_USERHASH))
        return tw_relay_users_by_hash(r->cfg->users, tw_stun_get(m, TW_STUN_A_USERHASH));
    return tw_relay_users_by_name(r->cfg->users, tw_stun_get(m, TW_STUN_A_USERNAME));
}

/* Whose signature this is; false: nobody's. */
static bool identify(struct tw_relay *r, struct claim *c, struct tw_stun_key *ret_key)
{
    static const struct user nobody = { .md5.n = 16, .sha256.n = 32 };
    const struct tw_relay_users *u = r->cfg->users;
    const struct user *user = find_user(r, c->m);
    int64_t unix_now = (r->now + r->cfg->unix_offset) / TW_SEC;
    bool timed = !user && tw_relay_users_timed(u, tw_stun_get(c->m, TW_STUN_A_USERNAME), unix_now,
                                               &c->id);
    bool right;
    if (timed) {
        right = signed_by_secret(r, c, ret_key);
    } else {
        /* An unknown user is checked against a key nobody has, so that both cost the same time. */
        const struct user *of = user ? user : &nobody;
        *ret_key = c->algo == TW_STUN_ALGO_SHA256 ? of->sha256 : of->md5;
        right = is_signed_with(c, ret_key) && user;
        c->id = tw_bytes_str(user ? user->name : "");
        c->quota = of->quota;
    }
    if (!timed && !user)
        r->stats.auth_unknown_user++;
    else if (!right)
        r->stats.auth_wrong_key++;
    else if (!tw_relay_users_banned(u, c->id))
        return true;
    else
        r->stats.auth_unknown_user++;
    return false;
}

static bool complete(const struct tw_stun_msg *m)
{
    return (tw_stun_has(m, TW_STUN_A_USERNAME) || tw_stun_has(m, TW_STUN_A_USERHASH)) &&
           tw_stun_has(m, TW_STUN_A_REALM) && tw_stun_has(m, TW_STUN_A_NONCE);
}

bool relay_authenticate(struct tw_relay *r, const struct tw_datagram *in,
                        const struct tw_stun_msg *m, struct auth *ret_auth)
{
    *ret_auth = (struct auth){ .user = 1 };
    if (!r->cfg->users)
        return true;

    bool sha256 = tw_stun_has(m, TW_STUN_A_MESSAGE_INTEGRITY_SHA256);
    if (!sha256 && !tw_stun_has(m, TW_STUN_A_MESSAGE_INTEGRITY)) {
        challenge(r, in, m, TW_STUN_CODE_UNAUTHENTICATED);
        return false;
    }
    unsigned algo = complete(m) ? chosen_algorithm(r, m) : 0;
    if (!algo) {
        relay_error(r, in, m, NULL, TW_STUN_CODE_BAD_REQUEST);
        return false;
    }
    /* The cheap MAC of the nonce is judged before the costly one of the message. */
    if (!nonce_good(r, in, m)) {
        r->stats.auth_stale++;
        challenge(r, in, m, TW_STUN_CODE_STALE_NONCE);
        return false;
    }
    struct claim claim = { .m = m, .algo = (enum tw_stun_algorithm)algo };
    if (!identify(r, &claim, &ret_auth->key)) {
        sodium_memzero(&ret_auth->key, sizeof(ret_auth->key));
        challenge(r, in, m, TW_STUN_CODE_UNAUTHENTICATED);
        return false;
    }
    ret_auth->sha256 = sha256;
    ret_auth->user = tw_relay_user_id(r->shared, claim.id);
    ret_auth->quota = claim.quota;
    ret_auth->guest = claim.guest;
    return true;
}
