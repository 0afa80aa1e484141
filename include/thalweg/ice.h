/* An ICE agent (RFC 8445) as a pure machine: finds which pairs of addresses carry data between two
 * peers, and keeps the best of them.
 *
 * Life: tw_ice_new(); tw_ice_interfaces() with this machine's addresses, which starts gathering: the
 * agent asks for sockets with OPEN events, answered by tw_ice_opened(), and CANDIDATE events say what
 * to tell the peer (or all at once: tw_ice_write_sdp() at GATHERED). What the peer says goes in with
 * tw_ice_read_sdp(), or tw_ice_set_remote() and tw_ice_add_remote(). Then CONNECTED; tw_ice_send() and
 * DATA. tw_ice_interfaces() again when the machine's addresses change. tw_ice_close() to be polite,
 * tw_ice_free().
 *
 * The caller runs the sockets: docs/internals/own-event-loop.md. Nothing here is thread-safe. */
#ifndef THALWEG_ICE_H
#define THALWEG_ICE_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>
#include <thalweg/uri.h>

TW_C_BEGIN

#define TW_ICE_STREAMS_MAX 8
#define TW_ICE_COMPONENTS_MAX 4
#define TW_ICE_SERVERS_MAX 8
#define TW_ICE_INTERFACES_MAX 32
#define TW_ICE_CRED_MAX 256 /* characters in a ufrag or password (RFC 8839 §5.4) */
#define TW_ICE_LINE_MAX 512 /* a candidate as text, with its NUL */

/* RFC 8445 §5.1.1.1. */
enum tw_ice_type { TW_ICE_HOST, TW_ICE_SRFLX, TW_ICE_PRFLX, TW_ICE_RELAY };

/* RFC 6544 §4.5: the kinds of TCP candidate. */
enum tw_ice_transport { TW_ICE_UDP, TW_ICE_TCP_ACTIVE, TW_ICE_TCP_PASSIVE, TW_ICE_TCP_SO };

/* What a TCP connection between two of our kind begins with: nothing but RFC 4571's frames, or these inside a WebSocket,
 * or that inside TLS, for networks that let only the web through. */
enum tw_ice_via { TW_ICE_VIA_TCP, TW_ICE_VIA_HTTP, TW_ICE_VIA_HTTPS };
#define TW_ICE_WEB_MAX 32 /* characters of the token that the request names */

/* A candidate as it is told to the peer (RFC 8839 §5.1). Owns nothing. */
struct tw_ice_candidate {
    struct tw_addr addr;
    struct tw_addr related;  /* raddr and rport; family NONE: not told */
    uint32_t priority;       /* 1 .. 2^31 - 1 */
    uint8_t stream;          /* 0 .. : which m= section; not part of the line */
    uint8_t component;       /* 1 .. 256, as far as this agent has components */
    uint8_t type;            /* enum tw_ice_type */
    uint8_t transport;       /* enum tw_ice_transport */
    uint8_t via;             /* enum tw_ice_via, of TCP: only so; TCP: as RFC 6544 says, and if `web` is there also so */
    char web[TW_ICE_WEB_MAX + 1]; /* empty: it takes no HTTP */
    char foundation[33];
    char host[64];           /* a name instead of an address (mDNS); addr has then only a port */
    char extensions[192];    /* what we do not know, as it came: "network-id 1 network-cost 10" */
};

enum tw_ice_policy {
    TW_ICE_ALL,
    TW_ICE_NO_HOST,    /* this machine's own addresses are not told, nor used towards private ones */
    TW_ICE_RELAY_ONLY, /* the peer, and everyone on the way, sees the relay's address only */
};

/* A STUN or TURN server. The strings are copied. */
struct tw_ice_server {
    struct tw_addr addr;
    enum tw_transport transport;     /* of TURN; STUN is asked over UDP */
    bool turn;
    const char *username, *password; /* of TURN */
    const char *realm, *nonce;       /* known already: saves a round trip; NULL: learn them */
};

/* An address of this machine. The first of each family should be the one of the default route. */
struct tw_ice_interface {
    char name[16];
    struct tw_addr ip;   /* port ignored */
    struct tw_addr gateway; /* of its default route: asked for port mappings; family NONE: not known */
    bool temporary;      /* an IPv6 privacy address (RFC 8981): preferred, and then the only one of
                            its interface that is told */
    uint16_t cost;       /* 0: as good as any; higher: metered or slow, used when there is nothing else, the cheapest first */
};

/* Where everything that goes into an agent is written down, a line of text at a time, to be run again
 * (docs/internals/tape.md, icesim replay). No data and no password of a server is in it; the session's
 * ICE passwords are, which are of no use when it is over. */
struct tw_ice_tape {
    void (*write)(void *ctx, const char *line); /* without a newline; NULL: nowhere */
    void *ctx;
    bool addresses; /* as they are; otherwise others of the same kind stand for them */
};

struct tw_ice_mux;

/* Copied by tw_ice_new, strings and all; mux must outlive the agent. */
struct tw_ice_config {
    bool controlling;        /* RFC 8445 §6.1.1: the one who offers */
    bool lite;               /* RFC 8445 §2.5: only answers checks; for machines with a public address */
    bool own_peer;           /* the peer is known to be of our kind, before it says so */
    bool foreign;            /* do not say that we are of our kind: for tests and bug hunting */
    bool no_udp;             /* only TCP, and relays over TCP or TLS */
    bool tcp;                /* RFC 6544 candidates */
    const char *web;         /* its listeners take HTTP and TLS, too, that name this token, letters and digits; NULL: no */
    unsigned vias;           /* bits, 1 << enum tw_ice_via: TCP only so; 0: any */
    uint16_t web_ports[2];   /* and so does something else on this machine, for HTTP and for TLS; 0: nothing does */
    bool no_probing;         /* no port prediction and no birthday probing, ever */
    bool no_mapping;         /* do not ask gateways for port mappings (PCP, NAT-PMP), nor by MAP */
    enum tw_ice_policy policy;
    unsigned streams;        /* 1 .. TW_ICE_STREAMS_MAX; 0: 1 */
    unsigned components;     /* of each, 1 .. TW_ICE_COMPONENTS_MAX; 0: 1 */
    const struct tw_ice_server *servers; /* at most TW_ICE_SERVERS_MAX, STUN and TURN together */
    size_t server_n;
    const char *allow, *deny; /* interface names, comma-separated, "*" at an end: only these; not these */
    struct tw_ice_mux *mux;  /* shares sockets and the probing allowance with other agents, or NULL */
    struct tw_ice_tape tape; /* not with a mux */
    const char *software;    /* static; NULL: none */
};

enum tw_ice_event_type {
    TW_ICE_OPEN,         /* sock, transport, local, remote: see tw_ice_opened() */
    TW_ICE_CLOSE,        /* sock: it is not needed any more */
    TW_ICE_MAP,          /* sock, socket, local: behind a NAT whose gateway is not known, or gives no
                            mapping by PCP or NAT-PMP: one by other means (UPnP) is welcome, told with
                            tw_ice_mapped(), and the caller's to end. Never with a mux: see there */
    TW_ICE_CANDIDATE,    /* tell the peer, if you trickle (RFC 8838) */
    TW_ICE_GATHERED,     /* no more to come for now: end-of-candidates */
    TW_ICE_CONNECTED,    /* every component has a path; once until DISCONNECTED */
    TW_ICE_PATH,         /* stream, component: data now goes over `path` */
    TW_ICE_SILENCE,      /* the path, and there is no other one, is not answered any more, or is again: path.silent */
    TW_ICE_DATA,         /* stream, component, data: a view, valid until the next call but a poll */
    TW_ICE_DISCONNECTED, /* a component has no path any more; the search goes on */
    TW_ICE_FAILED,       /* nothing was found in all this time; tw_ice_explain() says why. A path that
                            is found later, or a restart, still leads to CONNECTED */
    TW_ICE_CLOSED,       /* relays have been given back after tw_ice_close() */
};

/* What OPEN asks for. */
enum tw_ice_socket {
    TW_ICE_SOCK_UDP,     /* bind to local (port 0: any) */
    TW_ICE_SOCK_LISTEN,  /* TCP, listen at local */
    TW_ICE_SOCK_CONNECT, /* TCP from local (port 0: any) to remote, RFC 4571 framing; `via`, and then `web` is the
                            token to be named */
    TW_ICE_SOCK_STUN,    /* TCP from local to remote, STUN framing. As CONNECT it may be from the port
                            of a listener (both need SO_REUSEPORT) */
    TW_ICE_SOCK_TURN,    /* a connection to server number `server` (index in the config) over its
                            transport, STUN framing (tw_stun_frame()) */
};

struct tw_ice_path {
    uint8_t local_type, remote_type; /* enum tw_ice_type; ours SRFLX: a NAT of ours is on the way; `local` is still the base's */
    uint8_t transport;               /* enum tw_ice_transport */
    uint8_t relay_transport;         /* enum tw_transport towards our relay, when local is RELAY */
    uint8_t via;                     /* enum tw_ice_via, of TCP */
    struct tw_addr local, remote;
    bool silent;                     /* what we send there is not answered any more, and nothing better is known */
    tw_time rtt;                     /* 0: not known */
    tw_time waits;                   /* so long data waits in our stream, where it goes over one: tw_ice_waits(); 0: not, or not known */
};

struct tw_ice_event {
    enum tw_ice_event_type type;
    uint8_t stream, component;
    uint32_t sock;
    enum tw_ice_socket socket;
    bool exclusive;         /* OPEN: not to be shared with other agents, even with a mux */
    unsigned server;
    uint8_t via;            /* OPEN: enum tw_ice_via */
    const char *web;        /* a view */
    struct tw_addr local, remote;
    struct tw_ice_candidate candidate;
    struct tw_ice_path path;
    struct tw_bytes data;
    uint8_t tos;
};

/* The peer's side of a stream (RFC 8839 §5.3 to §5.6). Strings are copied. */
struct tw_ice_remote {
    const char *ufrag, *pwd;
    bool lite;
    bool ice2;         /* speaks RFC 8445, not RFC 5245 */
    bool trickle;
    bool renomination; /* follows NOMINATION */
    bool own;          /* of our kind */
};

struct tw_ice;

/* TW_ENOMEM; TW_EINVAL: numbers out of range, servers without an address, a tape with a mux. */
TW_API TW_NODISCARD int tw_ice_new(const struct tw_ice_config *cfg, const struct tw_env *env,
                                   struct tw_ice **ret_ice);
/* Frees without a word to anybody. NULL is fine. */
TW_API void tw_ice_free(struct tw_ice *a);

/* This machine's addresses, at the start and whenever they change. What is gone is closed, what is
 * new is opened, gathered and tried; paths that still work go on working. TW_EINVAL: too many. */
TW_API TW_NODISCARD int tw_ice_interfaces(struct tw_ice *a, tw_time now,
                                          const struct tw_ice_interface *list, size_t n);
/* Whether an interface's name is in a list as that of allow. */
TW_API bool tw_ice_interface_in(const char *list, const char *name);

/* Further STUN and TURN servers, copied: asked from now on, and numbered on from those of before. TW_EFULL: more than TW_ICE_SERVERS_MAX; TW_EINVAL:
 * one without an address; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_ice_add_servers(struct tw_ice *a, tw_time now, const struct tw_ice_server *list, size_t n);

/* That server, by its number, is the same, but wants another name, password, realm or nonce from now on; a relay there that was
 * refused is asked for again. TW_EINVAL: no such number; TW_ENOMEM: it stays as it was. */
TW_API TW_NODISCARD int tw_ice_renew_server(struct tw_ice *a, tw_time now, unsigned number, const struct tw_ice_server *s);

/* The prefix (RFC 7050, RFC 8781; tw_nat64_parse) by which this network translates to IPv4; NULL: none. Used
 * while there is no IPv4 address: then IPv4 servers and peers are reached from IPv6 ones, and everything
 * that the agent says of them is said of their IPv4 addresses. */
TW_API void tw_ice_nat64(struct tw_ice *a, tw_time now, const struct tw_range *prefix);

/* Completion of an OPEN: err 0 and where it is bound, or an error and NULL. The agent may be told
 * the same socket for several of its ids when that is shared. */
TW_API void tw_ice_opened(struct tw_ice *a, tw_time now, uint32_t sock, int err,
                          const struct tw_addr *local);
/* Data goes over the path, and nothing has come back for two round trips and 200 ms: until that is settled, it may go over another
 * way as well. */
TW_API bool tw_ice_is_doubtful(const struct tw_ice *a, unsigned stream, unsigned component);
/* When a check over the path was answered last, and how long that takes by now; 0: never, or there is no path. */
TW_API tw_time tw_ice_answered_at(const struct tw_ice *a, unsigned stream, unsigned component, tw_time *ret_rtt);
/* The peer is about to tell all its candidates anew: those that are of no use now are forgotten. */
TW_API void tw_ice_forget_remotes(struct tw_ice *a, tw_time now);
/* Our candidates as they are now, those that the peer is to know. Returns how many were written. */
TW_API size_t tw_ice_candidates(const struct tw_ice *a, struct tw_ice_candidate *out, size_t cap);
/* The same datagram by the second best way. TW_ESTATE: no path; TW_ENOTFOUND: no other way. */
TW_API TW_NODISCARD int tw_ice_send_other(struct tw_ice *a, tw_time now, unsigned stream, unsigned component,
                                          struct tw_bytes data, uint8_t tos);

/* A connection came in at a listening socket. *ret_sock: its id from now on; 0: not wanted, close it. */
TW_API void tw_ice_accepted(struct tw_ice *a, tw_time now, uint32_t listener,
                            const struct tw_addr *remote, enum tw_ice_via via, uint32_t *ret_sock);
/* A socket that listens, for who comes by way of `web_ports`. False: there is none. */
TW_API bool tw_ice_listener(const struct tw_ice *a, uint32_t *ret_sock);
/* A connection is over. */
TW_API void tw_ice_disconnected(struct tw_ice *a, tw_time now, uint32_t sock);
/* What is sent over this connection waits so long before it or, once something was lost, behind that: head-of-line blocking. It
 * is told by tw_ice_path(). */
TW_API void tw_ice_waits(struct tw_ice *a, tw_time now, uint32_t sock, tw_time wait);

/* The outside address at which a port mapping that the caller made (see MAP) shows a UDP or listening
 * socket; family NONE: it is gone. */
TW_API void tw_ice_mapped(struct tw_ice *a, tw_time now, uint32_t sock,
                          const struct tw_addr *outside);

/* Which side this agent is on, if that was not known at tw_ice_new(): before the first
 * tw_ice_set_remote(). */
TW_API void tw_ice_set_controlling(struct tw_ice *a, tw_time now, bool controlling);
/* The peer begins when a person has carried our description to it: until then it is tried again every few seconds, so
 * that our NAT lets it in. */
TW_API void tw_ice_await(struct tw_ice *a, tw_time now, tw_time until);
/* Its own credentials for a stream: views until a restart. TW_EINVAL: no such stream. */
TW_API TW_NODISCARD int tw_ice_credentials(const struct tw_ice *a, unsigned stream,
                                           const char **ret_ufrag, const char **ret_pwd);
/* The peer's credentials for a stream. Different ones later are a restart of the peer's.
 * TW_EMALFORMED: not of RFC 8839's form; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_ice_set_remote(struct tw_ice *a, tw_time now, unsigned stream,
                                          const struct tw_ice_remote *r);
/* A candidate of the peer's. One that is no use to us is ignored. TW_EINVAL: no such stream or
 * component; TW_EFULL: there are 32 for this component already. */
TW_API TW_NODISCARD int tw_ice_add_remote(struct tw_ice *a, tw_time now,
                                          const struct tw_ice_candidate *c);
/* No more will come for this stream. */
TW_API void tw_ice_remote_end(struct tw_ice *a, tw_time now, unsigned stream);

/* RFC 8445 §9: new credentials; candidates are told again; the present path goes on until there is a
 * new one. TW_ENOMEM. */
TW_API TW_NODISCARD int tw_ice_restart(struct tw_ice *a, tw_time now);

/* Data to the peer. It is borrowed: poll_tx before the next call. TW_ESTATE: no path yet.
 * TW_EINVAL: no such stream or component, more than 65,000 bytes. TW_EFULL: see tw_turn_send(). */
TW_API TW_NODISCARD int tw_ice_send(struct tw_ice *a, tw_time now, unsigned stream,
                                    unsigned component, struct tw_bytes data, uint8_t tos);

/* The same for a run of datagrams, cut every `segment` bytes (struct tw_datagram): one is sent. Only over
 * UDP between our own socket and the peer; TW_EUNSUPPORTED: the path is another; send them one by one. */
TW_API TW_NODISCARD int tw_ice_send_run(struct tw_ice *a, tw_time now, unsigned stream,
                                        unsigned component, struct tw_bytes data, uint16_t segment,
                                        uint8_t tos);

/* What the layer above saw of the data it sent over the present path: how many packets were
 * acknowledged and lost since the last report. Paths are chosen by it. */
TW_API void tw_ice_feedback(struct tw_ice *a, tw_time now, unsigned stream, unsigned component,
                            uint32_t acked, uint32_t lost);

/* Names the one public address at which a server saw the peer: allows probing its NAT even when no
 * relay of ours has seen the peer there. */
TW_API void tw_ice_vouch(struct tw_ice *a, tw_time now, const struct tw_addr *ip);

/* Gives relays back. CLOSED comes when that is done, or after a while. */
TW_API void tw_ice_close(struct tw_ice *a, tw_time now);

/* 0: it was for us. TW_EMALFORMED: not. TW_EAUTH: a check with a wrong user name or password. On a connection, `in` is one
 * RFC 4571 frame without its length, or whole frames of STUN for SOCK_TURN and SOCK_STUN. */
TW_API TW_NODISCARD int tw_ice_recv(struct tw_ice *a, tw_time now, const struct tw_datagram *in);
TW_API void tw_ice_tick(struct tw_ice *a, tw_time now);
TW_API bool tw_ice_poll_tx(struct tw_ice *a, struct tw_datagram *ret_out);
TW_API bool tw_ice_poll_event(struct tw_ice *a, struct tw_ice_event *ret_event);
TW_API tw_time tw_ice_deadline(const struct tw_ice *a);

/* --- looking in --------------------------------------------------------------------------- */

TW_API bool tw_ice_is_controlling(const struct tw_ice *a);
/* The path a component has now. False: none. */
TW_API bool tw_ice_path(const struct tw_ice *a, unsigned stream, unsigned component,
                        struct tw_ice_path *ret_path);
/* All paths that a component could have now, the present one among them. Returns how many, at most cap. */
TW_API size_t tw_ice_paths(const struct tw_ice *a, unsigned stream, unsigned component, struct tw_ice_path *out,
                           size_t cap);
/* What was tried and what came of it, for a person, one finding a line. Returns the length written. */
TW_API size_t tw_ice_explain(const struct tw_ice *a, char *out, size_t cap);

/* X(name, text) */
#define TW_ICE_COUNTERS(X)                                                                        \
    X(checks_sent, "connectivity checks sent, repetitions included")                              \
    X(checks_received, "checks received that were right")                                         \
    X(checks_refused, "checks received with a wrong name, password or form")                      \
    X(responses_received, "answers to our checks")                                                \
    X(probes_sent, "packets sent to find a port of a hard NAT")                                   \
    X(withheld, "packets not sent because an address that does not answer has had enough")        \
    X(data_sent, "datagrams of data sent")                                                        \
    X(data_received, "datagrams of data received")                                                \
    X(data_strange, "datagrams of data from addresses that proved nothing, dropped")              \
    X(path_changes, "times that the path of a component changed")
struct tw_ice_stats {
#define TW_ICE_COUNTER_FIELD(name, text) uint64_t name;
    TW_ICE_COUNTERS(TW_ICE_COUNTER_FIELD)
#undef TW_ICE_COUNTER_FIELD
};
TW_API const struct tw_ice_stats *tw_ice_stats(const struct tw_ice *a);

/* --- SDP (RFC 8839, RFC 8840) --------------------------------------------------------------- */

/* The attributes of one stream, a line each: ice-ufrag, ice-pwd, ice-options, ice-lite, candidates so
 * far, and end-of-candidates when there are no more. TW_EFULL. *ret_n: without the NUL. */
TW_API TW_NODISCARD int tw_ice_write_sdp(const struct tw_ice *a, unsigned stream, char *out,
                                         size_t cap, size_t *ret_n);
/* Takes them out of a whole SDP, or a part of one: lines before the first m= are for all streams,
 * unknown lines are skipped. *ret_why (may be NULL): which line is wrong. TW_EMALFORMED: a line of ours that breaks
 * its rules, everything before it was taken; TW_ENOTFOUND: no credentials in it. */
TW_API TW_NODISCARD int tw_ice_read_sdp(struct tw_ice *a, tw_time now, const char *text,
                                        const char **ret_why);
/* "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host". TW_EFULL. */
TW_API TW_NODISCARD int tw_ice_write_candidate(const struct tw_ice_candidate *c, char *out,
                                               size_t cap);
/* With or without "a=" before it. TW_EMALFORMED; TW_EUNSUPPORTED: a transport or type nobody here
 * knows. stream is 0. */
TW_API TW_NODISCARD int tw_ice_read_candidate(const char *line, struct tw_ice_candidate *ret);

/* --- many agents on one socket --------------------------------------------------------------- */

/* Finds the agent a datagram is for: by transaction id, by user name, by address. The caller opens one
 * socket for each local address and answers every OPEN of the agents with it; such sockets are known
 * by their local address (in->dst, out->src), not by their id. Data from an address with which two
 * agents talk goes to the one that proved it last. Port mappings of such a socket are the caller's
 * business (tw_portmap), told to each agent with tw_ice_mapped(). TW_ENOMEM; TW_EINVAL: max_agents 0. */
TW_API TW_NODISCARD int tw_ice_mux_new(const struct tw_env *env, uint32_t max_agents,
                                       struct tw_ice_mux **ret_mux);
/* All its agents must be gone. */
TW_API void tw_ice_mux_free(struct tw_ice_mux *m);
/* The agent to give the datagram to; NULL: nobody's. */
TW_API struct tw_ice *tw_ice_mux_find(struct tw_ice_mux *m, const struct tw_datagram *in);

TW_C_END

#endif
