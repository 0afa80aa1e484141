/* What two peers tell each other through a call, sealed: docs/protocol.md §4. An offer is sealed to the
 * callee's key; everything after it, both ways, is boxed with the offer's secret. */
#ifndef TW_RENDEZVOUS_OFFER_H
#define TW_RENDEZVOUS_OFFER_H

#include <thalweg/ice.h>

#include "ident/ident.h"

enum {
    TW_OFFER_CANDIDATES = 32,
    TW_OFFER_EARLY_MAX = 4096,
    TW_OFFER_NONCE = 16,
    TW_OFFER_MAX = 8192,       /* of the plaintext, padded */
    TW_OFFER_SEALED_MAX = TW_OFFER_MAX + TW_SEAL_OVERHEAD,
};

enum tw_word_kind {
    TW_WORD_OFFER = 1,  /* the caller's first */
    TW_WORD_ANSWER = 2, /* the callee's first: it is let in */
    TW_WORD_RETRY = 3,  /* the callee's: your clock is wrong by more than allowed; again, with this nonce */
    TW_WORD_MORE = 4,   /* candidates, or new credentials after a restart */
};

/* One word of a conversation. Strings and bytes are views when decoded. */
struct tw_word {
    enum tw_word_kind kind;
    struct tw_key caller;          /* OFFER */
    uint8_t secret[32];            /* OFFER */
    uint64_t unix_ms;              /* OFFER, RETRY: the sender's clock */
    uint64_t expires_ms;           /* OFFER on a ticket: by the caller's clock; 0: it is none */
    uint64_t again;                /* OFFER of a connection that stands: how often it has been made again; 0: of a new one */
    uint8_t nonce[TW_OFFER_NONCE]; /* RETRY, and the OFFER after it */
    bool has_nonce;
    char ufrag[TW_ICE_CRED_MAX + 1], pwd[TW_ICE_CRED_MAX + 1]; /* empty: not said */
    struct tw_ice_candidate candidate[TW_OFFER_CANDIDATES];
    size_t candidate_n;
    char web[TW_ICE_WEB_MAX + 1];  /* of them, while decoded */
    bool end;                      /* no more candidates for now */
    struct tw_bytes early;         /* OFFER: data for the callee, at most once */
    struct tw_bytes invite;        /* OFFER: the secret of an invite */
    uint8_t prekey[TW_PREKEY_WIRE]; /* ANSWER: the callee's for next time */
    bool has_prekey;
};

/* An offer from `self` to `callee`, signed, padded and sealed. out: TW_OFFER_SEALED_MAX bytes. TW_EFULL: the
 * early data is too long. TW_ECRYPTO. */
TW_NODISCARD int tw_offer_seal(const struct tw_word *offer, const struct tw_ident *self,
                               const struct tw_key *callee, const struct tw_prekey *prekey,
                               const struct tw_rng *rng, uint8_t *out, size_t *ret_n);
/* Opens one and checks who made it; buf (TW_OFFER_MAX bytes) holds what the views point to. TW_EAUTH: not
 * for us, changed, or not signed by whom it names; TW_EMALFORMED. */
TW_NODISCARD int tw_offer_open(struct tw_bytes sealed, const struct tw_ident *self,
                               const struct tw_prekey *prekeys, size_t prekey_n, uint8_t *buf,
                               struct tw_word *ret_offer);

/* Any other word. out: TW_OFFER_MAX + TW_BOX_OVERHEAD bytes. TW_EFULL. */
TW_NODISCARD int tw_word_seal(const struct tw_word *word, struct tw_box *box, uint8_t *out, size_t *ret_n);
TW_NODISCARD int tw_word_open(struct tw_bytes sealed, struct tw_box *box, uint8_t *buf,
                              struct tw_word *ret_word);

#endif
