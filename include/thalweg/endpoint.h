/* An endpoint as a pure machine: a key that others can dial, and that dials others.
 *
 * It keeps a connection to its rendezvous servers, finds ways to its peers (ICE, with the server's own path
 * as a bridge), and runs one QUIC connection to each, authenticated by both keys. The caller runs the
 * sockets, as for tw_ice: docs/internals/own-event-loop.md.
 *
 * Life: tw_endpoint_new(); tw_endpoint_clock() and tw_endpoint_interfaces(), and again when they change;
 * tw_endpoint_dial(), or CONNECTED events of those who dialled us; streams and datagrams;
 * tw_endpoint_hangup(); tw_endpoint_close(), until CLOSED_ALL; tw_endpoint_free().
 *
 * Connections and streams are known by numbers: `conn` 1 .., `stream` as QUIC counts them. */
#ifndef THALWEG_ENDPOINT_H
#define THALWEG_ENDPOINT_H

#include <thalweg/ice.h>
#include <thalweg/ident.h>

TW_C_BEGIN

#define TW_ENDPOINT_SERVERS_MAX TW_ADDRESS_SERVERS_MAX
#define TW_ENDPOINT_CONNS_MAX 16382
#define TW_ENDPOINT_SOCK_BITS 18     /* of a socket's number that tell it from others of its connection */
#define TW_ENDPOINT_EARLY_MAX 4096   /* bytes of early data */
#define TW_ENDPOINT_DATAGRAM_MAX 1100
#define TW_ENDPOINT_INVITES_MAX 30
#define TW_ENDPOINT_TICKET_LIFE (600 * TW_SEC) /* so long a ticket can be answered */
#define TW_ENDPOINT_CODE_BYE 0       /* closed in peace */
#define TW_ENDPOINT_CODE_LOST 1      /* no way to the peer any more */
#define TW_ENDPOINT_CODE_REFUSED 2   /* a key was not what it should be, or not let in */
#define TW_ENDPOINT_CODE_ABSENT 3    /* nobody with that key is at the server */
#define TW_ENDPOINT_CODE_SERVER 4    /* no server could be reached */

/* What kind of way data goes: the rungs. */
#define TW_RUNGS(X)                                                                               \
    X(NONE, "none", "no way yet")                                                                  \
    X(UDP, "udp", "UDP straight between the peers' own addresses")                                 \
    X(STUN, "stun", "UDP between addresses that NATs gave, holes punched")                          \
    X(TCP, "tcp", "TCP straight between the peers")                                                \
    X(HTTP, "http", "the same inside HTTP, for networks that let that through")                     \
    X(HTTPS, "https", "inside HTTP inside TLS, for networks that let only that through")            \
    X(RELAY, "relay", "over a TURN relay")                                                         \
    X(PATCHED, "patched", "over the rendezvous server, slowly, until something better is found")
enum tw_rung {
#define TW_RUNG_ENUM(name, text, what) TW_RUNG_##name,
    TW_RUNGS(TW_RUNG_ENUM)
#undef TW_RUNG_ENUM
};
TW_API const char *tw_rung_name(enum tw_rung rung);

/* Copied by tw_endpoint_new, strings and all. */
enum tw_endpoint_trace { TW_TRACE_TAPE, TW_TRACE_QLOG };

struct tw_endpoint_config {
    const uint8_t *seed;         /* TW_SEED_SIZE bytes: the identity */
    bool listen;                 /* be there to be dialled */
    bool allow_any;              /* by anybody; otherwise by whom tw_endpoint_allow() names */
    bool unlisted;               /* but only by those who know an invite: no one else can find us, or see that we
                                    are there */
    struct tw_rdv_addr servers[TW_ENDPOINT_SERVERS_MAX]; /* ours */
    const char *tokens[TW_ENDPOINT_SERVERS_MAX];          /* to use them with; NULL: none */
    size_t server_n;
    struct tw_ice_config ice;    /* servers: used besides those that the rendezvous recommends; mux, tape, streams,
                                    components, controlling and own_peer are not looked at */
    bool lan;                    /* peers are also looked for in this network: SEEK events */
    unsigned rungs;              /* bits, 1 << TW_RUNG_UDP and so on: only these; 0: all. The handshake goes by way
                                    of the rendezvous in any case */
    bool no_aes;                 /* the CPU has no AES */
    uint32_t max_conns;          /* 0: 1024; at most TW_ENDPOINT_CONNS_MAX */
    void (*keylog)(void *ctx, const char *line); /* TLS secrets, to decrypt captures with; NULL: never */
    void *keylog_ctx;
    /* A trace of what happens on connection number `trace`, counted from 1: lines of an agent's tape (docs/internals/tape.md), or pieces
     * of QUIC's qlog. Neither has keys or content; addresses are masked in the one and not in the other. NULL: no trace. */
    void (*trace)(void *ctx, uint32_t trace, enum tw_endpoint_trace what, const void *data, size_t n);
    void *trace_ctx;
};

enum tw_endpoint_event_type {
    /* For who runs the sockets. */
    TW_EP_LINK,         /* open a connection to `server` as `sock`: tw_endpoint_link_up(), then its bytes are
                           datagrams without addresses, whatever their pieces */
    TW_EP_LINK_CLOSE,   /* sock */
    TW_EP_ICE,          /* ice: OPEN, CLOSE or MAP, its sock translated; TURN servers: tw_endpoint_turn() */
    TW_EP_SEEK,         /* conn, data: names of TW_KEY_SIZE bytes, one after the other: ask this network who has one
                           of them, tw_endpoint_found() */
    TW_EP_ICE_END,      /* sock: close every socket whose number has the same upper bits: TW_ENDPOINT_SOCK_BITS are lower */
    /* For the application. */
    TW_EP_REACHED,      /* server, seen, ahead_ms: one of ours answers */
    TW_EP_ONLINE,       /* server: we can be dialled there */
    TW_EP_OFFLINE,      /* server, why: no more, or not yet; it is tried again */
    TW_EP_KNOCK,        /* key: somebody who is not allowed dialled us */
    TW_EP_INVITED,      /* key, data: the invite that let it in; INCOMING follows */
    TW_EP_INCOMING,     /* conn, key: somebody who is allowed */
    TW_EP_EARLY,        /* conn, data: what came with the offer; at most once, may be lost */
    TW_EP_TICKET,       /* conn, data: text for a person to carry to the other side, whose answer it is, or whose
                           tw_endpoint_ticket() answers it */
    TW_EP_READY,        /* conn: the peer has proved its key; streams can be opened */
    TW_EP_CONNECTED,    /* conn: both have */
    TW_EP_STREAM,       /* conn, stream: the peer opened one */
    TW_EP_READABLE,     /* conn, stream */
    TW_EP_WRITABLE,     /* conn, stream */
    TW_EP_ENDED,        /* conn, stream, code */
    TW_EP_DATAGRAM,     /* conn, data: a view until the next call */
    TW_EP_PATH,         /* conn, path: data goes another way now */
    TW_EP_CLOSED,       /* conn, code, why, by_peer: forget its number */
    TW_EP_CLOSED_ALL,   /* after tw_endpoint_close() */
};

struct tw_endpoint_path {
    enum tw_rung rung;
    struct tw_addr local, remote; /* of ICE; else family NONE */
    tw_time rtt;                  /* 0: not known */
    tw_time waits;                /* in our stream, where it goes over one: tw_ice_waits() */
};

struct tw_endpoint_event {
    enum tw_endpoint_event_type type;
    uint32_t conn, sock;
    int64_t stream;
    uint64_t code;
    bool by_peer;
    bool polled;                  /* LINK: without a WebSocket (docs/protocol.md §3.3) */
    struct tw_key key;
    struct tw_rdv_addr server;
    struct tw_addr seen;          /* the address that it sees us at */
    int64_t ahead_ms;             /* so much its clock is ahead of ours */
    const char *why;              /* valid until the next call */
    struct tw_bytes data;
    struct tw_endpoint_path path;
    struct tw_ice_event ice;
};

struct tw_endpoint;

/* TW_ENOMEM, TW_ECRYPTO, TW_EINVAL: numbers out of range. */
TW_API TW_NODISCARD int tw_endpoint_new(const struct tw_endpoint_config *cfg, const struct tw_env *env,
                                        tw_time now, struct tw_endpoint **ret_endpoint);
TW_API void tw_endpoint_free(struct tw_endpoint *e);
TW_API const struct tw_key *tw_endpoint_key(const struct tw_endpoint *e);

/* The clock on the wall, in milliseconds since 1970, at the start and when it was set. */
TW_API void tw_endpoint_clock(struct tw_endpoint *e, tw_time now, uint64_t unix_ms);
/* As tw_ice_interfaces() and tw_ice_nat64(). */
TW_API TW_NODISCARD int tw_endpoint_interfaces(struct tw_endpoint *e, tw_time now,
                                               const struct tw_ice_interface *list, size_t n);
TW_API void tw_endpoint_nat64(struct tw_endpoint *e, tw_time now, const struct tw_range *prefix);

/* Completions of LINK and ICE events. why: lives as long as the endpoint, when a link could not be opened or is over; NULL: it
 * stands, from `local` to `remote` (NULL: not known, as behind a proxy). Is `local` not among the interfaces any more, it is begun anew. */
TW_API void tw_endpoint_link_up(struct tw_endpoint *e, tw_time now, uint32_t sock, const struct tw_addr *local, const struct tw_addr *remote,
                                const char *why);
TW_API void tw_endpoint_opened(struct tw_endpoint *e, tw_time now, uint32_t sock, int err,
                               const struct tw_addr *local);
TW_API void tw_endpoint_accepted(struct tw_endpoint *e, tw_time now, uint32_t listener,
                                 const struct tw_addr *remote, enum tw_ice_via via, uint32_t *ret_sock);
/* Ports of the web on which the caller listens for all agents: who comes with a token that tw_endpoint_web_listener() knows
 * is ACCEPTED at that socket. Before the first tw_endpoint_interfaces(). 0: none. */
TW_API void tw_endpoint_web(struct tw_endpoint *e, uint16_t http, uint16_t https);
/* The listening socket of the agent whose token this is; 0: nobody's. */
TW_API uint32_t tw_endpoint_web_listener(const struct tw_endpoint *e, const char *token);
TW_API void tw_endpoint_disconnected(struct tw_endpoint *e, tw_time now, uint32_t sock);
/* As tw_ice_waits(). */
TW_API void tw_endpoint_waits(struct tw_endpoint *e, tw_time now, uint32_t sock, tw_time wait);
TW_API void tw_endpoint_mapped(struct tw_endpoint *e, tw_time now, uint32_t sock, const struct tw_addr *outside);
/* How to reach the TURN server of an OPEN of kind TURN: its transport. */
TW_API enum tw_transport tw_endpoint_turn(const struct tw_endpoint *e, uint32_t sock, unsigned server);
/* And of one inside a WebSocket, at which rendezvous: as that is reached, with TW_TURN_PROTOCOL. NULL: it is gone. */
TW_API const struct tw_rdv_addr *tw_endpoint_turn_at(const struct tw_endpoint *e, uint32_t sock, unsigned server);
/* Before tw_endpoint_link_up(): that server may not be who it should be, or everybody can read along. Nothing depends on it,
 * but it is not shown the token: it is proved to it. */
TW_API void tw_endpoint_doubt(struct tw_endpoint *e, uint32_t sock);

/* Where a peer that is sought takes calls: the rendezvous that it runs itself, without TLS. */
TW_API void tw_endpoint_found(struct tw_endpoint *e, tw_time now, uint32_t conn, const struct tw_addr *at);
/* The names that we have ourselves, in this network, today and in the hours around midnight. Returns how many, at most
 * cap. */
TW_API size_t tw_endpoint_names(const struct tw_endpoint *e, struct tw_key *out, size_t cap);
/* The rendezvous that this endpoint's user runs for its network: it is called there. TW_ENOMEM, TW_EFULL. */
TW_API TW_NODISCARD int tw_endpoint_desk(struct tw_endpoint *e, tw_time now, const struct tw_addr *at,
                                         const char *token);

TW_API void tw_endpoint_recv(struct tw_endpoint *e, tw_time now, const struct tw_datagram *in);
TW_API void tw_endpoint_tick(struct tw_endpoint *e, tw_time now);
TW_API bool tw_endpoint_poll_tx(struct tw_endpoint *e, struct tw_datagram *ret_out);
TW_API bool tw_endpoint_poll_event(struct tw_endpoint *e, struct tw_endpoint_event *ret_event);
TW_API tw_time tw_endpoint_deadline(const struct tw_endpoint *e);

/* Lets a key in, or no more (its connections stay). TW_ENOMEM. */
TW_API TW_NODISCARD int tw_endpoint_allow(struct tw_endpoint *e, const struct tw_key *key);
TW_API void tw_endpoint_disallow(struct tw_endpoint *e, const struct tw_key *key);
/* Forgets all of them. */
TW_API void tw_endpoint_disallow_all(struct tw_endpoint *e);

struct tw_endpoint_invite {
    uint8_t secret[TW_INVITE_SIZE];
    uint32_t uses;               /* how many keys it lets in, still */
    uint64_t expires_ms;         /* since 1970; 0: never */
};
/* Has these invites from now on, and no others; copied. Who dials with one is let in, for good, and its uses are one
 * less. One without uses lets nobody new in, but an unlisted endpoint can be found by it. n: up to
 * TW_ENDPOINT_INVITES_MAX, else TW_EFULL. */
TW_API TW_NODISCARD int tw_endpoint_invites(struct tw_endpoint *e, tw_time now,
                                            const struct tw_endpoint_invite *list, size_t n);

/* Dials a key, at its server or, where it names none, at ours. early: sent with the first packet, may arrive
 * never, but not twice; the peer gets it before it has proved anything but its key.
 * TW_ENOTFOUND: there is no server to ask; TW_EINVAL: this is our own key, or too much early data;
 * TW_EFULL: too many connections; TW_EMALFORMED: no key; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_endpoint_dial(struct tw_endpoint *e, tw_time now, const struct tw_address *peer,
                                         struct tw_bytes early, uint32_t *ret_conn);
/* Dials a key without any server: TICKET follows within seconds, and is good for TW_ENDPOINT_TICKET_LIFE. TW_EINVAL,
 * TW_EFULL, TW_EMALFORMED, TW_ESTATE. */
TW_API TW_NODISCARD int tw_endpoint_dial_by_hand(struct tw_endpoint *e, tw_time now, const struct tw_address *peer,
                                                 uint32_t *ret_conn);
/* A ticket that a person brought: an offer, as an endpoint that listens takes it (INCOMING, and TICKET, the answer), or the
 * answer to ours. *ret_why, if not 0: a static string. TW_EMALFORMED; TW_EAUTH: not for us, or changed; TW_EDENIED: from
 * somebody who is not allowed; TW_ETIMEOUT: expired; TW_ESTATE: came before, or we do not listen; TW_ENOTFOUND: an answer to
 * nothing we wait for; TW_EFULL, TW_ENOMEM. */
TW_API TW_NODISCARD int tw_endpoint_ticket(struct tw_endpoint *e, tw_time now, const char *text,
                                           uint32_t *ret_conn, const char **ret_why);
/* Says goodbye to a peer. CLOSED follows. reason: for the peer, printable ASCII. */
TW_API void tw_endpoint_hangup(struct tw_endpoint *e, tw_time now, uint32_t conn, uint64_t code,
                               const char *reason);
/* To everybody. CLOSED_ALL follows within a second. */
TW_API void tw_endpoint_close(struct tw_endpoint *e, tw_time now);

/* --- streams and datagrams: TW_ENOTFOUND: no such connection or stream -------------------------------- */

/* TW_ESTATE: not READY; TW_EFULL: too many streams; TW_ENOMEM. The peer sees it with its first byte. */
TW_API TW_NODISCARD int tw_endpoint_open(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t *ret_stream);
/* Takes *ret_n bytes: all, or as many as there is room for; then WRITABLE comes. end: if all was taken,
 * nothing follows. TW_ESTATE: its end was sent; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_endpoint_write(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream,
                                          struct tw_bytes data, bool end, size_t *ret_n);
/* What has come: a view until the next call. *ret_end: nothing follows it. */
TW_API TW_NODISCARD int tw_endpoint_peek(struct tw_endpoint *e, uint32_t conn, int64_t stream,
                                         struct tw_bytes *ret_data, bool *ret_end);
/* Takes n bytes of it, and lets the peer send as many more. */
TW_API void tw_endpoint_take(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, size_t n);
/* Breaks it off, both ways. */
TW_API void tw_endpoint_reset(struct tw_endpoint *e, tw_time now, uint32_t conn, int64_t stream, uint64_t code);
/* May be lost. TW_EINVAL: too long; TW_EFULL: too many wait; TW_ESTATE; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_endpoint_datagram(struct tw_endpoint *e, tw_time now, uint32_t conn,
                                             struct tw_bytes data);

/* --- looking in ------------------------------------------------------------------------------------- */

struct tw_endpoint_conn {
    struct tw_key key;
    bool caller, connected;
    struct tw_endpoint_path path;
    tw_time rtt, min_rtt, jitter; /* of QUIC; 0: not known */
    uint64_t datagrams_acked, datagrams_lost; /* of those we sent */
    uint64_t sent, received;      /* bytes of packets */
    uint64_t window;              /* congestion window, bytes */
    size_t mtu;                   /* bytes of the largest packet sent on this path */
};
/* The STUN and TURN servers that are asked now: the configuration's and those that our rendezvous recommend. Strings in it
 * live until the next call. Returns how many, at most cap. */
TW_API size_t tw_endpoint_servers(const struct tw_endpoint *e, struct tw_ice_server *out, size_t cap);
/* The connection with the least number above this one; 0: there is none. */
TW_API uint32_t tw_endpoint_next(const struct tw_endpoint *e, uint32_t after);
TW_API TW_NODISCARD int tw_endpoint_conn(const struct tw_endpoint *e, uint32_t conn,
                                         struct tw_endpoint_conn *ret_conn);
/* The ways that work now, the one that is used among them. Returns how many, at most cap. */
TW_API size_t tw_endpoint_paths(const struct tw_endpoint *e, uint32_t conn, struct tw_endpoint_path *out,
                                size_t cap);
/* The last ways that a connection took, the oldest first, and when (of the clock that `now` is). Returns how many. */
struct tw_endpoint_step {
    tw_time at;
    struct tw_endpoint_path path;
};
TW_API size_t tw_endpoint_history(const struct tw_endpoint *e, uint32_t conn, struct tw_endpoint_step *out, size_t cap);
/* What all of it has cost so far: packets to networks and servers, their bytes, and how often time alone woke it. */
struct tw_endpoint_costs {
    uint64_t packets, bytes, wakes;
};
TW_API struct tw_endpoint_costs tw_endpoint_costs(const struct tw_endpoint *e);

/* What was tried and what came of it, for a person. Returns the length written. */
TW_API size_t tw_endpoint_explain(const struct tw_endpoint *e, uint32_t conn, char *out, size_t cap);

TW_C_END

#endif
