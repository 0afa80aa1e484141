/* The messages between a rendezvous server and its users: docs/protocol.md §3. */
#ifndef TW_RENDEZVOUS_WIRE_H
#define TW_RENDEZVOUS_WIRE_H

#include <thalweg/addr.h>
#include <thalweg/ident.h>
#include <thalweg/uri.h>

#define TW_RDV_CALLEE 0x80000000U /* numbers of calls that the server gives have this bit, others do not */
#define TW_RDV_DAY_MS (86400 * 1000ULL)           /* an epoch */
#define TW_RDV_NEIGHBOUR_MS (2 * 3600 * 1000ULL) /* around midnight the mailboxes of both days are asked for */
#define TW_RDV_PROTOCOL "thalweg-rendezvous.1"
#define TW_RDV_CHALLENGE 32
#define TW_RDV_BODY_MAX 12288    /* bytes of an offer or signal */
#define TW_RDV_DATAGRAM_MAX 1500
#define TW_RDV_MESSAGE_MAX (TW_RDV_BODY_MAX + 64)
#define TW_RDV_SERVERS_MAX 4
#define TW_RDV_TEXT_MAX 128      /* characters of a user name, password, realm or nonce */

enum tw_rdv_type {
    TW_RDV_M_REGISTER = 1,   /* to the server: mailbox, signature, program, number of its connection */
    TW_RDV_M_CALL = 2,       /* to the server: call, mailbox, offer; from it: call, offer */
    TW_RDV_M_SIGNAL = 3,     /* call, bytes */
    TW_RDV_M_DATAGRAM = 4,   /* call, bytes; may be dropped */
    TW_RDV_M_HANGUP = 5,     /* call, reason */
    TW_RDV_M_PING = 6,       /* answered by PONG */
    TW_RDV_M_PONG = 7,
    TW_RDV_M_PROVE = 8,      /* to the server: H32("thalweg token", token, challenge); answered by another HELLO */
    TW_RDV_M_HELLO = 0x81,
    TW_RDV_M_REGISTERED = 0x82, /* mailbox, 0: it is yours; 1: somebody newer took it; 2: refused */
    TW_RDV_M_DRAIN = 0x83,   /* the server is about to end: go elsewhere */
};

/* Why a call is over. */
#define TW_RDV_REASONS(X)                                                                         \
    X(HUNG_UP, 0, "the other side hung up")                                                        \
    X(NOT_HERE, 1, "nobody with that key is at this server now")                                   \
    X(BUSY, 2, "there are too many calls for this server or that key; try again in a while")       \
    X(REFUSED, 3, "the other side did not let this key in")                                        \
    X(OTHER_WAY, 4, "the other side is calling us")                                                \
    X(LOST, 5, "the connection to the server is lost")
enum tw_rdv_reason {
#define TW_RDV_REASON_ENUM(name, value, text) TW_RDV_##name = (value),
    TW_RDV_REASONS(TW_RDV_REASON_ENUM)
#undef TW_RDV_REASON_ENUM
};
const char *tw_rdv_reason(unsigned reason);

/* A STUN or TURN server that the rendezvous recommends. Views while decoded, borrowed while encoded. */
struct tw_rdv_server {
    bool turn;
    enum tw_transport transport;
    struct tw_addr addr; /* any address: the rendezvous's own, with this port */
    struct tw_bytes username, password, realm, nonce; /* of TURN */
};

struct tw_rdv_hello {
    uint8_t version;
    uint8_t challenge[TW_RDV_CHALLENGE];
    uint64_t unix_ms;
    bool may_register;  /* the token is right, or none is needed */
    bool fresh;         /* the server was just started: who is not there may be back in a moment */
    struct tw_addr seen; /* the address the client comes from */
    struct tw_rdv_server server[TW_RDV_SERVERS_MAX];
    size_t server_n;
    uint8_t early;      /* messages in the request that were taken */
};

#define TW_RDV_HELLO_MAX 4096
TW_NODISCARD int tw_rdv_hello_encode(const struct tw_rdv_hello *h, struct tw_wr *w);
/* TW_EMALFORMED, TW_EUNSUPPORTED: another version. */
TW_NODISCARD int tw_rdv_hello_decode(struct tw_bytes in, struct tw_rdv_hello *ret_hello);

/* In one network, by multicast: docs/protocol.md §3.1. Names are of TW_KEY_SIZE bytes, one after the other. */
enum { TW_LAN_NAMES = 4, TW_LAN_HEAD = 14, TW_LAN_MAX = TW_LAN_HEAD + TW_LAN_NAMES * TW_KEY_SIZE };
size_t tw_lan_question(const struct tw_key *names, size_t n, uint8_t out[TW_LAN_MAX]);
size_t tw_lan_answer(const struct tw_key *name, uint16_t port, uint8_t out[TW_LAN_MAX]);
/* Returns how many names are asked for, copied; 0: it is no question. */
size_t tw_lan_read_question(struct tw_bytes in, struct tw_key ret_names[TW_LAN_NAMES]);
bool tw_lan_read_answer(struct tw_bytes in, struct tw_key *ret_name, uint16_t *ret_port);

/* What an owner signs to get a mailbox: "thalweg register", a NUL, and the challenge. */
#define TW_RDV_SIGNED (17 + TW_RDV_CHALLENGE)
void tw_rdv_signed(const uint8_t challenge[TW_RDV_CHALLENGE], uint8_t out[TW_RDV_SIGNED]);

#define TW_RDV_PROOF 32
void tw_rdv_proof(struct tw_bytes token, const uint8_t challenge[TW_RDV_CHALLENGE], uint8_t out[TW_RDV_PROOF]);

/* Addresses on the wire: family (0 none, 4, 6), port, 4 or 16 bytes. */
void tw_wr_addr(struct tw_wr *w, const struct tw_addr *a);
struct tw_addr tw_rd_addr(struct tw_rd *r);

#endif
