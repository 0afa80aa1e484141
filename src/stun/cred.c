#include <thalweg/stun_client.h>

#include <sodium.h>

int tw_stun_cred_init(struct tw_stun_cred *c, const char *username, const char *password)
{
    memset(c, 0, sizeof(*c));
    int err = tw_stun_opaque_string(tw_bytes_str(username), c->username, sizeof(c->username));
    if (!err)
        err = tw_stun_opaque_string(tw_bytes_str(password), c->password, sizeof(c->password));
    return err;
}

void tw_stun_cred_fini(struct tw_stun_cred *c)
{
    sodium_memzero(c, sizeof(*c));
}

static int copy_text(char *to, size_t cap, struct tw_bytes from)
{
    if (from.n >= cap || memchr(from.p, 0, from.n))
        return TW_EMALFORMED;
    memcpy(to, from.p, from.n);
    to[from.n] = 0;
    return 0;
}

/* The first algorithm of the server's list that we know (RFC 8489 §9.2.5). */
static int choose_algorithm(struct tw_bytes list, enum tw_stun_algorithm *ret)
{
    struct tw_rd r = tw_rd(list);
    while (r.n) {
        unsigned algo = tw_rd_u16(&r);
        size_t n = tw_rd_u16(&r);
        tw_rd_bytes(&r, (n + 3) & ~(size_t)3);
        if (r.error)
            return TW_EMALFORMED;
        if ((algo != TW_STUN_ALGO_MD5 && algo != TW_STUN_ALGO_SHA256) || n != 0)
            continue;
        *ret = (enum tw_stun_algorithm)algo;
        return 0;
    }
    return TW_EUNSUPPORTED;
}

static int take_algorithms(struct tw_stun_cred *c, struct tw_bytes list)
{
    uint32_t features = tw_stun_nonce_features(tw_bytes_str(c->nonce));
    c->sha256 = false;
    c->algos.n = 0;
    c->algo = TW_STUN_ALGO_MD5;
    c->anonymous = features & TW_STUN_FEATURE_ANONYMITY;
    if (!(features & TW_STUN_FEATURE_ALGORITHMS))
        return 0;
    if (list.n == 0 || list.n > sizeof(c->algos_buf))
        return TW_EMALFORMED;
    int err = choose_algorithm(list, &c->algo);
    if (err)
        return err;
    memcpy(c->algos_buf, list.p, list.n);
    c->algos = tw_bytes(c->algos_buf, list.n);
    c->sha256 = true;
    return 0;
}

static int take(struct tw_stun_cred *c, struct tw_bytes realm, struct tw_bytes nonce,
                struct tw_bytes algos)
{
    struct tw_stun_cred next = *c;
    int err = copy_text(next.realm, sizeof(next.realm), realm);
    if (!err)
        err = copy_text(next.nonce, sizeof(next.nonce), nonce);
    if (!err)
        err = take_algorithms(&next, algos);
    if (!err)
        err = tw_stun_long_term_key(next.algo, tw_bytes_str(next.username),
                                    tw_bytes_str(next.realm), tw_bytes_str(next.password),
                                    &next.key);
    if (!err) {
        next.ready = true;
        *c = next;
        c->algos.p = c->algos_buf;
    }
    sodium_memzero(&next, sizeof(next));
    return err;
}

int tw_stun_cred_preset(struct tw_stun_cred *c, const char *realm, const char *nonce)
{
    /* A nonce handed out together with its realm comes with this one list. */
    static const uint8_t both[] = { 0, TW_STUN_ALGO_SHA256, 0, 0, 0, TW_STUN_ALGO_MD5, 0, 0 };
    return take(c, tw_bytes_str(realm), tw_bytes_str(nonce), tw_bytes(both, sizeof(both)));
}

void tw_stun_cred_sign(const struct tw_stun_cred *c, struct tw_stun_enc *e)
{
    if (!c->ready)
        return;
    if (c->anonymous) {
        uint8_t hash[TW_STUN_USERHASH];
        tw_stun_userhash(tw_bytes_str(c->username), tw_bytes_str(c->realm), hash);
        tw_stun_add(e, TW_STUN_A_USERHASH, tw_bytes(hash, sizeof(hash)));
    } else {
        tw_stun_add(e, TW_STUN_A_USERNAME, tw_bytes_str(c->username));
    }
    tw_stun_add(e, TW_STUN_A_REALM, tw_bytes_str(c->realm));
    tw_stun_add(e, TW_STUN_A_NONCE, tw_bytes_str(c->nonce));
    struct tw_bytes key = tw_bytes(c->key.k, c->key.n);
    if (!c->sha256) {
        tw_stun_add_integrity(e, key);
        return;
    }
    const uint8_t chosen[4] = { 0, (uint8_t)c->algo, 0, 0 };
    tw_stun_add(e, TW_STUN_A_PASSWORD_ALGORITHM, tw_bytes(chosen, sizeof(chosen)));
    tw_stun_add(e, TW_STUN_A_PASSWORD_ALGORITHMS, c->algos);
    tw_stun_add_integrity_sha256(e, key);
}

/* 401 and 438 carry no integrity: whoever can see our requests can forge them. All they can do is
 * make us try once more with a nonce of theirs. */
static enum tw_stun_verdict take_challenge(struct tw_stun_cred *c, const struct tw_stun_msg *m,
                                           unsigned code)
{
    struct tw_bytes realm = tw_stun_get(m, TW_STUN_A_REALM);
    struct tw_bytes nonce = tw_stun_get(m, TW_STUN_A_NONCE);
    if (!tw_stun_has(m, TW_STUN_A_NONCE) || (code == 401 && !tw_stun_has(m, TW_STUN_A_REALM)))
        return TW_STUN_IGNORE;
    if (realm.n == 0)
        realm = tw_bytes_str(c->realm);
    if (code == 401 && c->ready && tw_bytes_eq(realm, tw_bytes_str(c->realm)))
        return TW_STUN_OK; /* the server looked at our signature and refused it */
    if (code == 438 && tw_bytes_eq(nonce, tw_bytes_str(c->nonce)))
        return TW_STUN_OK; /* the very nonce it just called stale: no use in trying */
    return take(c, realm, nonce, tw_stun_get(m, TW_STUN_A_PASSWORD_ALGORITHMS)) ? TW_STUN_IGNORE
                                                                               : TW_STUN_RETRY;
}

enum tw_stun_verdict tw_stun_cred_judge(struct tw_stun_cred *c, const struct tw_stun_msg *response)
{
    unsigned code = 0;
    struct tw_bytes reason;
    if (response->cls == TW_STUN_ERROR && !tw_stun_get_error(response, &code, &reason))
        return TW_STUN_IGNORE;
    if (code == 401 || code == 438)
        return take_challenge(c, response, code);
    if (!c->ready)
        return TW_STUN_OK;
    struct tw_bytes key = tw_bytes(c->key.k, c->key.n);
    bool right = c->sha256 ? tw_stun_verify_sha256(response, key) : tw_stun_verify(response, key);
    if (!right) {
        /* RFC 8489 §9.2.5: without integrity it is as if it had not come. The exceptions are
         * 300 and 400 from a server that could not check ours, before it ever accepted us. */
        bool may_lack = (code == 300 || code == 400) && !c->proven &&
                        !tw_stun_has(response, TW_STUN_A_MESSAGE_INTEGRITY) &&
                        !tw_stun_has(response, TW_STUN_A_MESSAGE_INTEGRITY_SHA256);
        return may_lack ? TW_STUN_OK : TW_STUN_IGNORE;
    }
    c->proven = true;
    return TW_STUN_OK;
}
