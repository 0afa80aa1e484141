/* The client side of STUN: credentials, retransmission, and a Binding request as a machine. */
#ifndef THALWEG_STUN_CLIENT_H
#define THALWEG_STUN_CLIENT_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>
#include <thalweg/stun.h>

TW_C_BEGIN

/* --- retransmission (RFC 8489 §6.2.1, §6.2.2) ---------------------------------------------- */

/* How requests are repeated. Over a stream they are not: only `stream_timeout` counts. */
struct tw_stun_timing {
    tw_time rto;            /* wait before the first repetition; doubles each time */
    uint8_t rc;             /* how often a request is sent in all, 1 .. 16 */
    uint8_t rm;             /* after the last one, wait rm x rto for an answer */
    tw_time stream_timeout; /* Ti */
};

/* RFC 8489: 500 ms, 7 times, 16 x; 39.5 s. */
extern TW_API const struct tw_stun_timing tw_stun_timing_rfc;

/* One request in flight. Embedded; no ownership. */
struct tw_stun_txn {
    uint8_t tid[TW_STUN_TID];
    uint8_t sent;   /* how often, 0: idle */
    tw_time first;  /* when it was sent first */
    tw_time due;    /* next repetition, or the end; TW_NEVER when idle */
};

/* Draws a transaction id and marks the request as due now. */
TW_API void tw_stun_txn_start(struct tw_stun_txn *t, const struct tw_rng *rng, tw_time now);

/* Call when due: 1: (re)send it now; 0: nothing yet; TW_ETIMEOUT: it has failed and is idle. */
TW_API TW_NODISCARD int tw_stun_txn_step(struct tw_stun_txn *t, const struct tw_stun_timing *timing,
                                         bool stream, tw_time now);

/* Idle again. */
TW_API void tw_stun_txn_stop(struct tw_stun_txn *t);

static inline bool tw_stun_txn_is(const struct tw_stun_txn *t, const uint8_t tid[TW_STUN_TID])
{
    return t->sent && memcmp(t->tid, tid, TW_STUN_TID) == 0;
}

/* --- long-term credentials, the client's side (RFC 8489 §9.2) ------------------------------ */

#define TW_STUN_PASSWORD_MAX 511
#define TW_STUN_ALGOS_MAX 64

struct tw_stun_cred {
    char username[TW_STUN_MAX_NAME + 1];
    char password[TW_STUN_PASSWORD_MAX + 1];
    char realm[TW_STUN_MAX_TEXT + 1]; /* learned; "" before the first challenge */
    char nonce[TW_STUN_MAX_TEXT + 1]; /* learned */
    struct tw_bytes algos;            /* PASSWORD-ALGORITHMS as the server sent it */
    uint8_t algos_buf[TW_STUN_ALGOS_MAX];
    enum tw_stun_algorithm algo;      /* the one chosen */
    bool sha256;                      /* integrity is MESSAGE-INTEGRITY-SHA256 */
    bool anonymous;                   /* USERHASH instead of USERNAME */
    bool ready;                       /* a challenge has been taken; requests can be signed */
    bool proven;                      /* the server accepted a signed request */
    struct tw_stun_key key;
};

/* Prepares name and password (RFC 8265 OpaqueString). The caller keeps nothing alive.
 * TW_EMALFORMED: not allowed in a user name or password; TW_EFULL: too long. */
TW_API TW_NODISCARD int tw_stun_cred_init(struct tw_stun_cred *c, const char *username,
                                          const char *password);
/* Wipes the secrets. */
TW_API void tw_stun_cred_fini(struct tw_stun_cred *c);

/* Takes realm and nonce from elsewhere than a 401 (credentials handed out with a nonce): the
 * first request is then signed. TW_EFULL, TW_EMALFORMED. */
TW_API TW_NODISCARD int tw_stun_cred_preset(struct tw_stun_cred *c, const char *realm,
                                            const char *nonce);

/* Adds user name, realm, nonce, algorithm and integrity, in that order. Nothing before ready. */
TW_API void tw_stun_cred_sign(const struct tw_stun_cred *c, struct tw_stun_enc *e);

enum tw_stun_verdict {
    TW_STUN_OK,     /* answer it is; integrity was right where there must be one */
    TW_STUN_IGNORE, /* forged, or not for us: behave as if it had not come */
    TW_STUN_RETRY,  /* a challenge was taken: send the request again with a new transaction id */
};

/* Judges a response to a request that was signed as of now (or not signed, before ready).
 * A first 401, and any 438 with a new nonce, is a RETRY. Everything else is OK or IGNORE; the
 * caller reads the error code of an OK itself. A nonce that promises password algorithms without
 * PASSWORD-ALGORITHMS being there is ignored: somebody removed it (RFC 8489 §9.2.5). */
TW_API enum tw_stun_verdict tw_stun_cred_judge(struct tw_stun_cred *c,
                                               const struct tw_stun_msg *response);

/* --- Binding ------------------------------------------------------------------------------ */

/* Asks a server for our reflexive address. Life: init; poll_tx, recv, tick as for every machine;
 * one event; fini is not needed. */
struct tw_stun_client_config {
    struct tw_addr server;
    uint32_t sock;                       /* the id its datagrams carry */
    bool stream;                         /* over TCP or TLS: sent once, never repeated */
    const struct tw_stun_timing *timing; /* NULL: tw_stun_timing_rfc */
    struct tw_bytes software;            /* SOFTWARE, empty: none; copied by nobody, keep it alive */
    struct tw_bytes username, password;  /* short-term credentials (RFC 8489 §9.1), empty: none; an
                                            answer must then be signed too. Keep them alive. */
    bool sha256;                         /* sign with MESSAGE-INTEGRITY-SHA256 */
};

enum tw_stun_client_event_type {
    TW_STUN_CLIENT_NONE,
    TW_STUN_CLIENT_MAPPED,   /* mapped and rtt are set */
    TW_STUN_CLIENT_REDIRECT, /* 300: ask `alternate` instead */
    TW_STUN_CLIENT_FAILED,   /* code is the server's, or 0: no answer, or one we cannot use */
};

struct tw_stun_client_event {
    enum tw_stun_client_event_type type;
    struct tw_addr mapped, alternate;
    tw_time rtt;          /* answer minus the last transmission; exact only if sent once */
    uint8_t sent;         /* how often it was sent */
    unsigned code;
    const char *why;      /* static, for FAILED */
};

struct tw_stun_client {
    struct tw_stun_client_config cfg;
    struct tw_env env;
    struct tw_stun_txn txn;
    tw_time last_sent;
    bool want_tx;
    uint8_t buf[1400];
    struct tw_bytes tx;
    struct tw_stun_client_event event;
};

/* Starts the request. Copies cfg. */
TW_API void tw_stun_client_init(struct tw_stun_client *c, const struct tw_stun_client_config *cfg,
                                const struct tw_env *env, tw_time now);
/* 0, or TW_EMALFORMED when the datagram was not our answer (it was counted by nobody, ignore it). */
TW_API TW_NODISCARD int tw_stun_client_recv(struct tw_stun_client *c, tw_time now,
                                            const struct tw_datagram *in);
TW_API void tw_stun_client_tick(struct tw_stun_client *c, tw_time now);
TW_API bool tw_stun_client_poll_tx(struct tw_stun_client *c, struct tw_datagram *ret_out);
TW_API bool tw_stun_client_poll_event(struct tw_stun_client *c, struct tw_stun_client_event *ret);
TW_API tw_time tw_stun_client_deadline(const struct tw_stun_client *c);

TW_C_END

#endif
