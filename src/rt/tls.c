#include "rt/tls.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <thalweg/error.h>

/* TLS 1.2 and 1.3 only, forward secrecy and AEAD only. */
static const char default_priority[] =
    "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+VERS-DTLS1.2:-RSA:-CIPHER-ALL:+AES-128-GCM:"
    "+CHACHA20-POLY1305:+AES-256-GCM:%SERVER_PRECEDENCE";

static int make(const char *priority, struct tw_rt_tls **ret, const char **why)
{
    struct tw_rt_tls *t = calloc(1, sizeof(*t));
    if (!t || gnutls_certificate_allocate_credentials(&t->cred)) {
        free(t);
        return TW_ENOMEM;
    }
    t->refs = 1;
    if (gnutls_priority_init(&t->priority, priority ? priority : default_priority, NULL)) {
        t->priority = NULL;
        tw_rt_tls_unref(t);
        *why = "the cipher list is not a GnuTLS priority string";
        return TW_ECRYPTO;
    }
    *ret = t;
    return 0;
}

static gnutls_datum_t datum(struct tw_bytes b)
{
    return (gnutls_datum_t){ (uint8_t *)(uintptr_t)b.p, (unsigned)b.n };
}

int tw_rt_tls_new(const struct tw_rt_tls_config *cfg, struct tw_rt_tls **ret_tls,
                  const char **ret_why)
{
    struct tw_rt_tls *t;
    *ret_why = "out of memory";
    int err = make(cfg->priority, &t, ret_why);
    if (err)
        return err;
    gnutls_datum_t cert = datum(cfg->cert), key = datum(cfg->key);
    err = gnutls_certificate_set_x509_key_mem2(t->cred, &cert, &key, GNUTLS_X509_FMT_PEM,
                                               cfg->key_password, 0);
    if (err < 0) {
        *ret_why = gnutls_strerror(err);
        tw_rt_tls_unref(t);
        return TW_ECRYPTO;
    }
    *ret_tls = t;
    return 0;
}

static int sign_self(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    static const char name[] = "thalweg";
    uint8_t serial[16];
    time_t now = time(NULL);
    enum { DAY = 86400 };
    int err = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] &= 0x7f;
    if (err >= 0)
        err = gnutls_x509_crt_set_version(crt, 3);
    if (err >= 0)
        err = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (err >= 0)
        err = gnutls_x509_crt_set_activation_time(crt, now - DAY);
    if (err >= 0)
        err = gnutls_x509_crt_set_expiration_time(crt, now + 365 * DAY);
    if (err >= 0)
        err = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                            sizeof(name) - 1);
    if (err >= 0)
        err = gnutls_x509_crt_set_key(crt, key);
    if (err >= 0)
        err = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return err;
}

/* The key that text has, or a new one, which is written there. */
static int get_key(gnutls_x509_privkey_t key, char *text, size_t cap)
{
    gnutls_datum_t pem = { (uint8_t *)text, text ? (unsigned)strlen(text) : 0 };
    size_t n = cap;
    if (pem.size && gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM) >= 0)
        return 0;
    int err = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    return err < 0 || !text ? err : gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, text, &n);
}

int tw_rt_tls_new_self_signed(const char *priority, char *key_pem, size_t cap, struct tw_rt_tls **ret_tls, const char **ret_why)
{
    struct tw_rt_tls *t;
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    *ret_why = "out of memory";
    int err = make(priority, &t, ret_why);
    if (err)
        return err;
    err = gnutls_x509_crt_init(&crt);
    if (err >= 0)
        err = gnutls_x509_privkey_init(&key);
    if (err >= 0)
        err = get_key(key, key_pem, cap);
    if (err >= 0)
        err = sign_self(crt, key);
    if (err >= 0)
        err = gnutls_certificate_set_x509_key(t->cred, &crt, 1, key);
    if (crt)
        gnutls_x509_crt_deinit(crt);
    if (key)
        gnutls_x509_privkey_deinit(key);
    if (err < 0) {
        *ret_why = gnutls_strerror(err);
        tw_rt_tls_unref(t);
        return TW_ECRYPTO;
    }
    *ret_tls = t;
    return 0;
}

int tw_rt_tls_new_client(struct tw_bytes ca, struct tw_rt_tls **ret_tls, const char **ret_why)
{
    struct tw_rt_tls *t;
    *ret_why = "out of memory";
    int err = make(NULL, &t, ret_why);
    if (err)
        return err;
    gnutls_datum_t pem = datum(ca);
    err = ca.n ? gnutls_certificate_set_x509_trust_mem(t->cred, &pem, GNUTLS_X509_FMT_PEM)
               : gnutls_certificate_set_x509_system_trust(t->cred);
    if (err < 0 || (ca.n && err == 0)) {
        *ret_why = ca.n ? "there is no certificate in the CA file" : gnutls_strerror(err);
        tw_rt_tls_unref(t);
        return TW_ECRYPTO;
    }
    *ret_tls = t;
    return 0;
}

int tw_rt_tls_new_trusting_none(struct tw_rt_tls **ret_tls)
{
    const char *why;
    return make(NULL, ret_tls, &why);
}

static bool pin_of(gnutls_x509_crt_t crt, uint8_t pin[32])
{
    size_t n = 32;
    return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, pin, &n) == 0 && n == 32;
}

bool tw_rt_tls_pin(struct tw_rt_tls *t, uint8_t ret_pin[32])
{
    gnutls_x509_crt_t *list;
    unsigned n;
    if (gnutls_certificate_get_x509_crt(t->cred, 0, &list, &n) < 0)
        return false;
    bool ok = n && pin_of(list[0], ret_pin);
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(list[i]);
    gnutls_free(list);
    return ok;
}

bool tw_rt_tls_peer_pin(gnutls_session_t session, uint8_t ret_pin[32])
{
    unsigned n = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t crt;
    if (!list || n == 0 || gnutls_x509_crt_init(&crt))
        return false;
    bool ok = gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) >= 0 && pin_of(crt, ret_pin);
    gnutls_x509_crt_deinit(crt);
    return ok;
}

struct tw_rt_tls *tw_rt_tls_ref(struct tw_rt_tls *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void tw_rt_tls_unref(struct tw_rt_tls *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    gnutls_certificate_free_credentials(t->cred);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    free(t);
}

/* All at once: GnuTLS adds to what was set. */
static int set_alpn(gnutls_session_t s, const char *list)
{
    enum { MAX = 4 };
    gnutls_datum_t names[MAX];
    unsigned n = 0;
    for (const char *at = list; *at && n < MAX; at += names[n].size, at += *at == ',', n++)
        names[n] = (gnutls_datum_t){ (uint8_t *)(uintptr_t)at, (unsigned)strcspn(at, ",") };
    return gnutls_alpn_set_protocols(s, names, n, 0);
}

int tw_rt_tls_session(struct tw_rt_tls *t, unsigned flags, const char *alpn, gnutls_session_t *ret_session)
{
    gnutls_session_t s;
    if (gnutls_init(&s, flags | GNUTLS_NO_SIGNAL))
        return TW_ENOMEM;
    if (gnutls_priority_set(s, t->priority) || gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, t->cred) ||
        set_alpn(s, alpn ? alpn : TW_RT_ALPN_TURN)) {
        gnutls_deinit(s);
        return TW_ECRYPTO;
    }
    *ret_session = s;
    return 0;
}
