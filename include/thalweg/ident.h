/* Who a peer is: an Ed25519 key, its text form, and what is derived from it.
 *
 * A peer is known by its key alone. What appears on a wire is either sealed, or a mailbox: the key
 * blinded for a day and a server, which nobody can link to the key or to another day's. */
#ifndef THALWEG_IDENT_H
#define THALWEG_IDENT_H

#include <thalweg/bytes.h>
#include <thalweg/env.h>

TW_C_BEGIN

#define TW_KEY_SIZE 32
#define TW_SEED_SIZE 32
#define TW_SIG_SIZE 64
#define TW_ADDRESS_LEN 56      /* characters of a key as text */
#define TW_ADDRESS_SERVERS_MAX 4
#define TW_SERVER_MAX 253      /* characters of a server's name */
#define TW_SERVER_TEXT_MAX 300 /* of a server as text, with its NUL */
#define TW_PIN_SIZE 16
#define TW_INVITE_SIZE 16
#define TW_INVITE_LEN 26       /* characters of an invite's secret as text */
#define TW_ADDRESS_TEXT_MAX (TW_ADDRESS_LEN + 1 + TW_INVITE_LEN + 1 + TW_ADDRESS_SERVERS_MAX * TW_SERVER_TEXT_MAX) /* with its NUL */

/* A public key. All zero: none (it is not a point that anybody has). */
struct tw_key {
    uint8_t b[TW_KEY_SIZE];
};

/* An identity: a key pair. Embedded in the caller's struct; wipe with tw_ident_fini(). */
struct tw_ident {
    struct tw_key key;
    uint8_t seed[TW_SEED_SIZE]; /* secret (RFC 8032 §5.1.5) */
};

/* A rendezvous server as a person names it: [ws://|wss://]HOST[:PORT][#PIN]. Without a scheme: wss. */
struct tw_rdv_addr {
    char host[TW_SERVER_MAX + 1]; /* lower case; empty: none */
    uint16_t port;                /* 443, for ws 80, unless given */
    bool plain;                   /* ws: without TLS */
    bool pinned;
    uint8_t pin[TW_PIN_SIZE]; /* the first bytes of the SHA-256 of the certificate's SubjectPublicKeyInfo */
};

/* A peer as a person names it: KEY[+INVITE][@SERVER[,SERVER...]]. */
struct tw_address {
    struct tw_key key;
    bool invited;
    uint8_t invite[TW_INVITE_SIZE]; /* a secret that lets its bearer in */
    struct tw_rdv_addr servers[TW_ADDRESS_SERVERS_MAX]; /* where it can be dialled; those that come first are preferred */
    size_t server_n;
};

/* Of a key that can be dialled at these servers, TW_ADDRESS_SERVERS_MAX at most. */
static inline struct tw_address tw_address_of(const struct tw_key *key, const struct tw_rdv_addr *servers, size_t n)
{
    struct tw_address a;
    memset(&a, 0, sizeof(a));
    a.key = *key;
    a.server_n = n;
    memcpy(a.servers, servers, n * sizeof(*servers));
    return a;
}

/* The identity that belongs to a seed. TW_ECRYPTO: libsodium can't be used. */
TW_API TW_NODISCARD int tw_ident_init(struct tw_ident *id, const uint8_t seed[TW_SEED_SIZE]);
/* A new one. */
TW_API TW_NODISCARD int tw_ident_make(struct tw_ident *id, const struct tw_rng *rng);
TW_API void tw_ident_fini(struct tw_ident *id);

static inline bool tw_key_eq(const struct tw_key *a, const struct tw_key *b)
{
    return memcmp(a->b, b->b, TW_KEY_SIZE) == 0;
}

/* The key as text: lower-case base32 (RFC 4648 §6) of a version byte, the key, and two bytes of
 * BLAKE2b over both, without padding. */
TW_API void tw_key_format(const struct tw_key *key, char ret_text[TW_ADDRESS_LEN + 1]);

/* Reads KEY[+INVITE][@SERVER[,SERVER...]]. TW_EMALFORMED: *ret_why (may be NULL) says which part is wrong and how, a static
 * text. Upper case is taken, too. */
TW_API TW_NODISCARD int tw_address_parse(const char *text, struct tw_address *ret_address,
                                         const char **ret_why);
/* How many characters at the beginning of a text are an address. What follows begins with a colon, or is the end:
 * in KEY@HOST:80:other:22 that is ":other:22". */
TW_API size_t tw_address_span(const char *text);
/* cap: TW_ADDRESS_TEXT_MAX is always enough. TW_EFULL. */
TW_API TW_NODISCARD int tw_address_format(const struct tw_address *a, char *out, size_t cap);
/* The secret of an invite, as it stands in an address: 26 characters. TW_EMALFORMED. */
TW_API TW_NODISCARD int tw_invite_parse(const char *text, uint8_t ret_secret[TW_INVITE_SIZE]);
TW_API void tw_invite_format(const uint8_t secret[TW_INVITE_SIZE], char ret_text[TW_INVITE_LEN + 1]);
TW_API TW_NODISCARD int tw_rdv_addr_parse(const char *text, struct tw_rdv_addr *ret_server,
                                          const char **ret_why);
TW_API TW_NODISCARD int tw_rdv_addr_format(const struct tw_rdv_addr *s, char *out, size_t cap);
static inline bool tw_rdv_addr_eq(const struct tw_rdv_addr *a, const struct tw_rdv_addr *b)
{
    return a->port == b->port && a->plain == b->plain && strcmp(a->host, b->host) == 0;
}

TW_C_END

#endif
