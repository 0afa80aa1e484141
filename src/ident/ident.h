/* What the layers above make of an identity: signatures for one purpose, mailbox names, sealed boxes. */
#ifndef TW_IDENT_IDENT_H
#define TW_IDENT_IDENT_H

#include <thalweg/ident.h>

/* Every use of the identity key has a purpose of its own, so that what was signed for one can't be shown
 * for another. */
#define TW_FOR_OFFER "thalweg offer"
#define TW_FOR_PREKEY "thalweg prekey"

/* A hash over parts, each preceded by its length, for a purpose. out_n: 16 to 64 bytes. */
void tw_digest(const char *purpose, const struct tw_bytes *parts, size_t n, void *out, size_t out_n);

/* Signs the hash of the parts. */
TW_NODISCARD int tw_ident_sign(const struct tw_ident *id, const char *purpose,
                               const struct tw_bytes *parts, size_t n, uint8_t sig[TW_SIG_SIZE]);
bool tw_key_verify(const struct tw_key *key, const char *purpose, const struct tw_bytes *parts, size_t n,
                   const uint8_t sig[TW_SIG_SIZE]);

/* --- blinding ------------------------------------------------------------------------------------ */

/* Which mailbox of a key: that of a day (days since 1970 in UTC) at a server, and, for an unlisted one,
 * of those who know a secret. */
struct tw_mailbox_of {
    uint32_t epoch;
    const char *server;     /* host name, lower case */
    struct tw_bytes secret; /* may be empty */
};

/* The name of a key's mailbox. TW_EMALFORMED: this is no point of the curve's large subgroup. */
TW_NODISCARD int tw_mailbox_name(const struct tw_key *key, const struct tw_mailbox_of *of,
                                 struct tw_key *ret_name);
/* A signature that verifies under the mailbox's name as an ordinary Ed25519 one, made by the key's owner
 * only. */
TW_NODISCARD int tw_mailbox_sign(const struct tw_ident *id, const struct tw_mailbox_of *of,
                                 struct tw_bytes msg, uint8_t sig[TW_SIG_SIZE]);
bool tw_mailbox_verify(const struct tw_key *name, struct tw_bytes msg, const uint8_t sig[TW_SIG_SIZE]);

/* --- sealing ------------------------------------------------------------------------------------- */

#define TW_PREKEY_SIZE 32
#define TW_SEAL_OVERHEAD (1 + 32 + 16)

/* A day's X25519 key, whose secret is erased after two days: what was sealed to it can't be opened later,
 * even by who gets the identity's seed. */
struct tw_prekey {
    uint32_t epoch;
    uint8_t pub[TW_PREKEY_SIZE], secret[TW_PREKEY_SIZE];
};

/* A prekey as it is published: epoch, key, signature. */
#define TW_PREKEY_WIRE (4 + TW_PREKEY_SIZE + TW_SIG_SIZE)
void tw_prekey_make(struct tw_prekey *p, uint32_t epoch, const struct tw_rng *rng);
TW_NODISCARD int tw_prekey_publish(const struct tw_prekey *p, const struct tw_ident *id,
                                   uint8_t out[TW_PREKEY_WIRE]);
/* TW_EMALFORMED; TW_EAUTH: not that key's. */
TW_NODISCARD int tw_prekey_read(struct tw_bytes wire, const struct tw_key *owner,
                                struct tw_prekey *ret_prekey);

/* Seals msg to a key, and to its prekey if that is not NULL: TW_SEAL_OVERHEAD more bytes than msg.
 * Nobody can tell from it who made it or for whom it is. */
TW_NODISCARD int tw_seal(const struct tw_key *to, const struct tw_prekey *prekey, const struct tw_rng *rng,
                         struct tw_bytes msg, uint8_t *out);
/* Opens it; prekeys are tried one by one. out: sealed.n - TW_SEAL_OVERHEAD bytes. TW_EAUTH: it is not for
 * us, or was changed. */
TW_NODISCARD int tw_seal_open(const struct tw_ident *id, const struct tw_prekey *prekeys, size_t n,
                              struct tw_bytes sealed, uint8_t *out);

/* --- two who share a secret ----------------------------------------------------------------------- */

#define TW_BOX_OVERHEAD (8 + 16)

/* Messages one way under a key that both know: a number, which never comes twice, and the ciphertext. */
struct tw_box {
    uint8_t key[32];
    uint64_t next; /* to be sent, or expected at least */
};
void tw_box_init(struct tw_box *b, const uint8_t secret[32], const char *direction);
/* out: msg.n + TW_BOX_OVERHEAD bytes. */
void tw_box_seal(struct tw_box *b, struct tw_bytes msg, uint8_t *out);
/* out: in.n - TW_BOX_OVERHEAD bytes. TW_EAUTH: changed, or one that came before. */
TW_NODISCARD int tw_box_open(struct tw_box *b, struct tw_bytes in, uint8_t *out);

#endif
