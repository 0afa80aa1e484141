/* The TURN client (RFC 8656) as a pure machine: one allocation on one server.
 *
 * Life: tw_turn_new(), tw_turn_allocate(), an ALLOCATED event; then tw_turn_permit(),
 * tw_turn_bind() and tw_turn_send() towards peers, DATA events from them; tw_turn_close(), a CLOSED
 * event, tw_turn_free(). FAILED and LOST end it too, and say why.
 *
 * Allocation, permissions and channels are refreshed in time as long as tick is called at the
 * deadline. Nothing here is thread-safe. */
#ifndef THALWEG_TURN_H
#define THALWEG_TURN_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>
#include <thalweg/stun_client.h>

TW_C_BEGIN

#define TW_TURN_V4 0x1u
#define TW_TURN_V6 0x2u
#define TW_TURN_TOKEN 8 /* bytes in a RESERVATION-TOKEN */
#define TW_TURN_BARE 0x80 /* for tw_turn_send(): as an indication, and bind no channel for it */

enum tw_turn_port {
    TW_TURN_PORT_ANY,
    TW_TURN_PORT_EVEN,  /* EVEN-PORT */
    TW_TURN_PORT_PAIR,  /* EVEN-PORT with R: the next one is reserved, see ALLOCATED.token */
    TW_TURN_PORT_TOKEN, /* the port that `token` reserved */
};

/* Copied by tw_turn_new, strings and all. */
struct tw_turn_config {
    struct tw_addr server;
    uint32_t sock;          /* the id its datagrams carry */
    bool stream;            /* over TCP or TLS: nothing is retransmitted, ChannelData is padded.
                               What is received is then whole frames (tw_stun_frame). */
    bool tcp;               /* relay TCP (RFC 6062); needs stream */
    bool mobility;          /* ask for a ticket (RFC 8016), so that tw_turn_move() works */
    const char *username, *password; /* NULL: the server asks for none */
    const char *realm, *nonce;       /* known already: saves a round trip; NULL: learn them */
    unsigned families;      /* TW_TURN_V4 (0 too), TW_TURN_V6, or both */
    enum tw_turn_port port;
    uint8_t token[TW_TURN_TOKEN];
    bool dont_fragment;     /* ask that the server can keep DF (RFC 8656 §7.1) */
    uint32_t lifetime;      /* seconds to ask for; 0: the server's default */
    uint16_t max_payload;   /* UDP payload that surely gets to the server; 0: 1232, what IPv6's
                               minimum MTU leaves. Data that would not fit a Send indication waits
                               for the channel. */
    uint16_t max_peers;     /* 1 .. 1024; 0: 32 */
    const struct tw_stun_timing *timing; /* static; NULL: tw_stun_timing_rfc */
    const char *software;   /* NULL: none */
};

enum tw_turn_event_type {
    TW_TURN_ALLOCATED, /* relayed, relayed_n, mapped, lifetime; token if has_token */
    TW_TURN_FAILED,    /* the allocation was not made: code, why */
    TW_TURN_REDIRECT,  /* over a stream: connect to `peer` instead and start again */
    TW_TURN_PERMITTED, /* peer may send, from any port of its IP address; data may go there */
    TW_TURN_BOUND,     /* a channel to peer stands */
    TW_TURN_REFUSED,   /* no permission or channel for peer: code, why */
    TW_TURN_DATA,      /* data from peer: a view, valid until the next call that is not a poll */
    TW_TURN_ICMP,      /* data sent to peer met an ICMP error (RFC 8656 §11.6) */
    TW_TURN_LOST,      /* the allocation is gone (server restarted, or does not answer): code, why */
    TW_TURN_CONNECTED, /* a TCP connection to peer stands: bind `connection` (RFC 6062) */
    TW_TURN_ATTEMPT,   /* a peer has connected: bind `connection` within 30 s to take it */
    TW_TURN_MOVED,     /* the server sends to the new socket now; mapped is the new address */
    TW_TURN_CLOSED,    /* after tw_turn_close() */
};

struct tw_turn_event {
    enum tw_turn_event_type type;
    struct tw_addr peer;
    struct tw_addr relayed[2]; /* IPv4 first when both */
    unsigned relayed_n;
    struct tw_addr mapped;     /* our address as the server sees it */
    uint32_t lifetime;         /* seconds */
    bool has_token;
    uint8_t token[TW_TURN_TOKEN];
    bool mobile;               /* ALLOCATED: the server gave a ticket */
    uint32_t connection;       /* CONNECTION-ID */
    unsigned code;             /* the server's error code; 0: no answer */
    const char *why;           /* static */
    struct tw_bytes data;
    uint8_t tos;               /* of DATA: DSCP << 2 | ECN as it reached us */
    uint8_t icmp_type, icmp_code;
    uint32_t icmp_data;
};

struct tw_turn;

/* TW_ENOMEM; TW_EINVAL: no server, max_peers; TW_EMALFORMED, TW_EFULL: user name or password. */
TW_API TW_NODISCARD int tw_turn_new(const struct tw_turn_config *cfg, const struct tw_env *env,
                                    struct tw_turn **ret_turn);
/* Frees without telling the server; close first to be polite. NULL is fine. */
TW_API void tw_turn_free(struct tw_turn *t);

/* Asks for the allocation. Where the server still has one of this user's for the same socket (437: the answer got lost, or the client
 * before this one ended without a word), that is ended first: so one socket is for one allocation. TW_ESTATE when asked before. */
TW_API TW_NODISCARD int tw_turn_allocate(struct tw_turn *t, tw_time now);

/* Permission for peer's IP address (RFC 8656 §9), kept until tw_turn_forget(), or, when there are max_peers, until another peer needs
 * the place and this one has no channel and was asked for and sent to longest ago. All ports of an address share one permission, and
 * its one PERMITTED or REFUSED, except where each asked for may be judged by itself: on the server's own address.
 * TW_ESTATE before ALLOCATED; TW_EINVAL: a family we have no relayed address of; TW_EFULL. */
TW_API TW_NODISCARD int tw_turn_permit(struct tw_turn *t, tw_time now, const struct tw_addr *peer);

/* A channel to peer, and with it a permission. Errors as above. */
TW_API TW_NODISCARD int tw_turn_bind(struct tw_turn *t, tw_time now, const struct tw_addr *peer);

/* No more refreshing for this peer: as it was named to tw_turn_bind(), or to the tw_turn_permit() that came first for its address. */
TW_API void tw_turn_forget(struct tw_turn *t, const struct tw_addr *peer);

/* Data to peer. A channel is bound on the way if there is none; until it stands, small data goes
 * as a Send indication if a permission is there, and other data waits (up to 16 datagrams; then
 * TW_EFULL). flags TW_DGRAM_DF: must not be fragmented behind the server either (sent as an
 * indication, RFC 8656 §11.1). With TW_TURN_BARE nothing is bound and nothing waits: TW_ESTATE when
 * there is no permission. data is borrowed: poll_tx before the next call.
 * TW_ESTATE, TW_EINVAL, TW_EFULL as above, TW_EINVAL for more than 65,000 bytes. */
TW_API TW_NODISCARD int tw_turn_send(struct tw_turn *t, tw_time now, const struct tw_addr *peer,
                                     struct tw_bytes data, uint8_t tos, uint8_t flags);

/* Asks the server for a TCP connection to peer (RFC 6062 §4.3): CONNECTED or REFUSED. Errors as for
 * tw_turn_permit(); TW_ESTATE when the allocation is not one of TCP. */
TW_API TW_NODISCARD int tw_turn_connect(struct tw_turn *t, tw_time now, const struct tw_addr *peer);

/* Moves the allocation to another socket of ours, on a new address or over another connection
 * (RFC 8016): asks over the new one while the old one goes on; with MOVED everything has gone over.
 * When it fails, the old one stays: REFUSED with no peer. TW_ESTATE: no ticket, or not the time. */
TW_API TW_NODISCARD int tw_turn_move(struct tw_turn *t, tw_time now, uint32_t sock);

/* Gives the allocation back (Refresh with lifetime 0). CLOSED comes when the server has answered
 * or has not for a while; at once when there was no allocation. */
TW_API void tw_turn_close(struct tw_turn *t, tw_time now);

/* Whether there is a permission for peer's IP address now. */
TW_API bool tw_turn_is_permitted(const struct tw_turn *t, tw_time now, const struct tw_addr *peer);

/* Whether data to peer goes over a channel now. */
TW_API bool tw_turn_is_bound(const struct tw_turn *t, tw_time now, const struct tw_addr *peer);

/* 0: it was for us. TW_EMALFORMED: it was not from our server: ignored. poll_event reads the data
 * out of `in` piece by piece, so its bytes must stay until there are no more events. */
TW_API TW_NODISCARD int tw_turn_recv(struct tw_turn *t, tw_time now, const struct tw_datagram *in);
TW_API void tw_turn_tick(struct tw_turn *t, tw_time now);
TW_API bool tw_turn_poll_tx(struct tw_turn *t, struct tw_datagram *ret_out);
TW_API bool tw_turn_poll_event(struct tw_turn *t, struct tw_turn_event *ret_event);
TW_API tw_time tw_turn_deadline(const struct tw_turn *t);

/* --- the client's data connection (RFC 6062 §4.4, §5.4) ------------------------------------- */

/* Binds a TCP or TLS connection that the caller has made to the server to a `connection` of
 * CONNECTED or ATTEMPT. Once it is open, all bytes on it are the peer's. */
struct tw_turn_conn;

enum tw_turn_conn_state { TW_TURN_CONN_BINDING, TW_TURN_CONN_OPEN, TW_TURN_CONN_FAILED };

/* Takes credentials from the allocation's client, which may go before it. TW_ENOMEM. */
TW_API TW_NODISCARD int tw_turn_conn_new(const struct tw_turn *t, tw_time now, uint32_t connection,
                                         struct tw_turn_conn **ret_conn);
TW_API void tw_turn_conn_free(struct tw_turn_conn *c);
/* Bytes from the server. *ret_used: how many were ours; the rest, once OPEN, is the peer's; when
 * still BINDING, offer them again with more behind. TW_EMALFORMED: this is no TURN server. */
TW_API TW_NODISCARD int tw_turn_conn_recv(struct tw_turn_conn *c, tw_time now, struct tw_bytes in,
                                          size_t *ret_used);
/* What to send, until false. A view, valid until the next call. */
TW_API bool tw_turn_conn_poll_tx(struct tw_turn_conn *c, struct tw_bytes *ret_out);
/* *ret_code: why FAILED, 0: no answer by then. Tick by calling it: it looks at the time. */
TW_API enum tw_turn_conn_state tw_turn_conn_state(struct tw_turn_conn *c, tw_time now,
                                                  unsigned *ret_code);

TW_C_END

#endif
