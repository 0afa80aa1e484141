/* Certificates and sessions for TLS and DTLS (GnuTLS). */
#ifndef TW_RT_TLS_H
#define TW_RT_TLS_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <thalweg/bytes.h>

/* A certificate and its key, shared by the sessions made with it. */
struct tw_rt_tls {
    _Atomic unsigned refs;
    gnutls_certificate_credentials_t cred;
    gnutls_priority_t priority;
};

struct tw_rt_tls_config {
    struct tw_bytes cert, key;  /* PEM; the chain, own certificate first */
    const char *key_password;   /* NULL: none */
    const char *priority;       /* GnuTLS priority string, NULL: ours */
};

/* *ret_why says what is wrong: static. TW_ENOMEM, TW_ECRYPTO. */
TW_NODISCARD int tw_rt_tls_new(const struct tw_rt_tls_config *cfg, struct tw_rt_tls **ret_tls,
                               const char **ret_why);

/* A certificate for nobody in particular, made up on the spot: ECDSA P-256, a year. key_pem: a text of cap bytes, the key to use, or
 * empty: then the one that is made goes there; NULL: nobody wants it again. */
TW_NODISCARD int tw_rt_tls_new_self_signed(const char *priority, char *key_pem, size_t cap, struct tw_rt_tls **ret_tls,
                                           const char **ret_why);

/* For clients: checks certificates against the system's, or, with ca, against that PEM only. */
TW_NODISCARD int tw_rt_tls_new_client(struct tw_bytes ca, struct tw_rt_tls **ret_tls,
                                      const char **ret_why);

/* For clients that trust nobody's signature: they compare pins, or do without (tw_rt_link_config). */
TW_NODISCARD int tw_rt_tls_new_trusting_none(struct tw_rt_tls **ret_tls);

/* The SHA-256 of a public key (RFC 7469 §2.4): of the certificate that t shows, or of the one that the other
 * side of a session has shown. False: there is none. */
bool tw_rt_tls_pin(struct tw_rt_tls *t, uint8_t ret_pin[32]);
bool tw_rt_tls_peer_pin(gnutls_session_t session, uint8_t ret_pin[32]);

struct tw_rt_tls *tw_rt_tls_ref(struct tw_rt_tls *t);
void tw_rt_tls_unref(struct tw_rt_tls *t);

/* RFC 7301 lists, the most wanted first; RFC 7443 for those of TURN. */
#define TW_RT_ALPN_TURN "stun.turn,stun.nat-discovery"
#define TW_RT_ALPN_WEB "http/1.1"

/* A session; flags as for gnutls_init. alpn: up to four names with commas; NULL: TURN's.
 * TW_ECRYPTO, TW_ENOMEM. */
TW_NODISCARD int tw_rt_tls_session(struct tw_rt_tls *t, unsigned flags, const char *alpn,
                                   gnutls_session_t *ret_session);

#endif
