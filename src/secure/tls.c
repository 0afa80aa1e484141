/* TLS by raw public keys (RFC 7250) on both sides, and QUIC's Initial keys from the offer's secret. */
#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <sodium.h>

#include "secure/internal.h"
#include "ident/ident.h"

/* An Ed25519 key as SubjectPublicKeyInfo, and a seed as PKCS #8 (RFC 8410 §4, §7): these, then 32 bytes. */
static const uint8_t spki_prefix[] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00 };
static const uint8_t pkcs8_prefix[] = { 0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70,
                                        0x04, 0x22, 0x04, 0x20 };
static const char alpn[] = "thalweg/1";

#define PRIORITY(ciphers)                                                                              \
    "NONE:+VERS-TLS1.3:+AEAD:" ciphers ":+ECDHE-ECDSA:+SIGN-EDDSA-ED25519:+GROUP-X25519:"               \
    "+CTYPE-SRV-RAWPK:+CTYPE-CLI-RAWPK:%DISABLE_TLS13_COMPAT_MODE"

/* Judges the peer's key: it must be the one this connection is for. */
static int judge(gnutls_session_t session)
{
    struct tw_secure *s = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(session))->user_data;
    unsigned n = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &n);
    return gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) == GNUTLS_CRT_RAWPK && list && n == 1 &&
                   list->size == sizeof(spki_prefix) + TW_KEY_SIZE &&
                   memcmp(list->data, spki_prefix, sizeof(spki_prefix)) == 0 &&
                   sodium_memcmp(list->data + sizeof(spki_prefix), s->cfg.peer.b, TW_KEY_SIZE) == 0
               ? 0
               : GNUTLS_E_CERTIFICATE_ERROR;
}

static int keylog(gnutls_session_t session, const char *label, const gnutls_datum_t *secret)
{
    struct tw_secure *s = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(session))->user_data;
    gnutls_datum_t random;
    char line[32 + 2 * 32 + 2 * 64 + 3], hex[2][130];
    gnutls_session_get_random(session, &random, NULL);
    if (random.size > 64 || secret->size > 64)
        return 0;
    sodium_bin2hex(hex[0], sizeof(hex[0]), random.data, random.size);
    sodium_bin2hex(hex[1], sizeof(hex[1]), secret->data, secret->size);
    snprintf(line, sizeof(line), "%.31s %.64s %.128s", label, hex[0], hex[1]);
    s->cfg.keylog(s->cfg.keylog_ctx, line);
    return 0;
}

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct tw_secure *)ref->user_data)->conn;
}

static int own_key(struct tw_secure *s)
{
    uint8_t spki[sizeof(spki_prefix) + TW_KEY_SIZE], pkcs8[sizeof(pkcs8_prefix) + TW_SEED_SIZE];
    memcpy(spki, spki_prefix, sizeof(spki_prefix));
    memcpy(spki + sizeof(spki_prefix), s->cfg.self->key.b, TW_KEY_SIZE);
    memcpy(pkcs8, pkcs8_prefix, sizeof(pkcs8_prefix));
    memcpy(pkcs8 + sizeof(pkcs8_prefix), s->cfg.self->seed, TW_SEED_SIZE);
    gnutls_datum_t pub = { spki, sizeof(spki) }, priv = { pkcs8, sizeof(pkcs8) };
    int rc = gnutls_certificate_set_rawpk_key_mem(s->cred, &pub, &priv, GNUTLS_X509_FMT_DER, NULL, 0, NULL, 0, 0);
    sodium_memzero(pkcs8, sizeof(pkcs8));
    return rc;
}

int secure_tls_start(struct tw_secure *s)
{
    unsigned side = s->cfg.server ? GNUTLS_SERVER : GNUTLS_CLIENT;
    gnutls_datum_t proto = { (unsigned char *)alpn, sizeof(alpn) - 1 };
    if (gnutls_certificate_allocate_credentials(&s->cred))
        return TW_ENOMEM;
    gnutls_certificate_set_verify_function(s->cred, judge);
    if (own_key(s) ||
        gnutls_init(&s->tls, side | GNUTLS_ENABLE_RAWPK | GNUTLS_NO_TICKETS | GNUTLS_NO_END_OF_EARLY_DATA))
        return TW_ECRYPTO;
    s->ref = (ngtcp2_crypto_conn_ref){ conn_of, s };
    gnutls_session_set_ptr(s->tls, &s->ref);
    if (gnutls_priority_set_direct(s->tls, s->cfg.no_aes
                                               ? PRIORITY("+CHACHA20-POLY1305:+AES-128-GCM:+AES-256-GCM")
                                               : PRIORITY("+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"),
                                   NULL) ||
        gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, s->cred) ||
        gnutls_alpn_set_protocols(s->tls, &proto, 1, GNUTLS_ALPN_MANDATORY) ||
        (s->cfg.server ? ngtcp2_crypto_gnutls_configure_server_session(s->tls)
                       : ngtcp2_crypto_gnutls_configure_client_session(s->tls)))
        return TW_ECRYPTO;
    if (s->cfg.server)
        gnutls_certificate_server_set_request(s->tls, GNUTLS_CERT_REQUIRE);
    if (s->cfg.keylog)
        gnutls_session_set_keylog_function(s->tls, keylog);
    return 0;
}

void secure_tls_end(struct tw_secure *s)
{
    if (s->tls)
        gnutls_deinit(s->tls);
    if (s->cred)
        gnutls_certificate_free_credentials(s->cred);
    s->tls = NULL;
    s->cred = NULL;
}

/* RFC 9001 §5.2 derives Initial keys from the client's first connection ID, which everybody sees. Ours
 * derive, by the same steps, from a hash of that and the secret. */
static ngtcp2_cid secret_cid(const struct tw_secure *s, const ngtcp2_cid *dcid)
{
    ngtcp2_cid cid = { .datalen = NGTCP2_MAX_CIDLEN };
    const struct tw_bytes parts[] = { tw_bytes(s->cfg.secret, sizeof(s->cfg.secret)),
                                      tw_bytes(dcid->data, dcid->datalen) };
    tw_digest("thalweg initial keys", parts, 2, cid.data, NGTCP2_MAX_CIDLEN);
    return cid;
}

int secure_client_initial(ngtcp2_conn *conn, void *user)
{
    ngtcp2_cid cid = secret_cid(user, ngtcp2_conn_get_dcid(conn));
    if (ngtcp2_crypto_recv_client_initial_cb(conn, &cid, user) || /* which knows whose side it is on */
        ngtcp2_crypto_read_write_crypto_data(conn, NGTCP2_ENCRYPTION_LEVEL_INITIAL, NULL, 0))
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

int secure_recv_client_initial(ngtcp2_conn *conn, const ngtcp2_cid *dcid, void *user)
{
    ngtcp2_cid cid = secret_cid(user, dcid);
    return ngtcp2_crypto_recv_client_initial_cb(conn, &cid, user);
}

const char *secure_tls_why(struct tw_secure *s)
{
    int alert = ngtcp2_conn_get_tls_alert(s->conn);
    switch (alert) {
    case GNUTLS_A_BAD_CERTIFICATE:
    case GNUTLS_A_CERTIFICATE_UNKNOWN:
        return "the other side has another key than the one that was dialled";
    case GNUTLS_A_NO_APPLICATION_PROTOCOL:
        return "the other side does not speak this protocol";
    default:
        return alert ? "the keys could not be agreed upon" : "the other side broke the rules of the protocol";
    }
}
