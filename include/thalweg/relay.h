/* The TURN and STUN server (RFC 8656, RFC 8489) as a pure machine: one per worker thread.
 *
 * Life: tw_relay_shared_new() once, tw_relay_new() per worker; then tw_relay_recv() for every
 * datagram from a client's socket or a relay socket, tw_relay_tick() at tw_relay_deadline(), and
 * after any call poll events, datagrams and hand-overs until there are none.
 *
 * Sockets. Ids below TW_RELAY_FIRST_SOCK are the UDP listeners, in the order of the configuration. A
 * relayed transport address is a socket that the machine asks for with an OPEN event and gives back
 * with CLOSE; the runtime answers OPEN with tw_relay_opened(), and the success reply to the client
 * waits for that. Ids are used again after CLOSE.
 *
 * Connections. A client's TCP or TLS connection, or DTLS association, has an id that the runtime
 * makes (TW_RELAY_STREAM or TW_RELAY_SESSION, worker, number). What comes on it is given to
 * tw_relay_recv() like a datagram: for a stream, whole frames (tw_stun_frame), one or many; what
 * leaves for a stream is whole frames too. tw_relay_disconnected() tells that it is gone.
 *
 * TCP relaying (RFC 6062). OPEN with `tcp` listens; a connection that arrives there is told with
 * tw_relay_peer_arrived(), CONNECT asks for one outwards, and JOIN ties such a connection to the
 * client's data connection: from then on bytes flow between the two without the machine.
 *
 * Workers. A client's datagrams must all reach the same worker (SO_REUSEPORT does that). What
 * belongs to another worker leaves as a hand-over: the runtime copies it into a bounded queue and
 * gives it to tw_relay_recv_handover() there. */
#ifndef THALWEG_RELAY_H
#define THALWEG_RELAY_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>
#include <thalweg/stun.h>

TW_C_BEGIN

#define TW_RELAY_FIRST_SOCK 64u   /* ids of relay sockets start here */
#define TW_RELAY_STREAM 0x80000000u  /* ids of clients' TCP and TLS connections ... */
#define TW_RELAY_SESSION 0x40000000u /* ... and DTLS associations: this bit, */
#define TW_RELAY_CONN_WORKER_SHIFT 24 /* the worker that has it (6 bits), a number (24 bits) */
#define TW_RELAY_MAX_ADDRS 32     /* relay addresses */
#define TW_RELAY_MAX_LISTENERS 64
#define TW_RELAY_MAX_WORKERS 64
#define TW_RELAY_REALM_MAX 127    /* RFC 8489 §14.9 */

/* --- users -------------------------------------------------------------------------------- */

/* The users of one realm. Built by one thread, then read-only and shared. */
struct tw_relay_users;

/* TW_ENOMEM, TW_EMALFORMED for a realm that OpaqueString refuses or that is too long. */
TW_API TW_NODISCARD int tw_relay_users_new(const char *realm, struct tw_relay_users **ret_users);
TW_API void tw_relay_users_free(struct tw_relay_users *u);

/* Adds a user by password; it is not kept, only its keys are. TW_EMALFORMED for a name or password
 * that OpaqueString refuses, TW_ESTATE when the name is there already. */
TW_API TW_NODISCARD int tw_relay_users_add(struct tw_relay_users *u, const char *name,
                                           const char *password);

/* Adds a user by keys (tw_stun_long_term_key). coturn stores only the MD5 one: with sha256 NULL such
 * a user cannot use SHA-256. Errors as above. */
TW_API TW_NODISCARD int tw_relay_users_add_keys(struct tw_relay_users *u, const char *name,
                                                const uint8_t md5[16], const uint8_t sha256[32]);

/* Allocations this user may have at a time, 0: what the configuration says. TW_ENOTFOUND. */
TW_API TW_NODISCARD int tw_relay_users_set_quota(struct tw_relay_users *u, const char *name,
                                                 uint32_t quota);

/* Shuts a user out, or the ID of time-limited names, whether known or not. TW_EMALFORMED, TW_ENOMEM. */
TW_API TW_NODISCARD int tw_relay_users_ban(struct tw_relay_users *u, const char *name);

/* Lets in whoever shows a time-limited name "EXPIRY:ID" (Unix seconds, any text) with the password
 * base64(HMAC-SHA1(secret, name)): coturn's --use-auth-secret, draft-uberti-behave-turn-rest. Up to
 * eight secrets hold at once, so that they can be rotated. TW_EFULL, TW_ENOMEM. */
TW_API TW_NODISCARD int tw_relay_users_add_secret(struct tw_relay_users *u, const char *secret);
/* The same for guests, people whom nobody knows: what they allocate relays UDP only, and only to those who want it. Until
 * a peer's address has answered a STUN Binding request through the allocation, nothing but Binding messages goes there,
 * 20 at once and 10 a second. quota: allocations of each ID at a time; 0: the configuration's. */
TW_API TW_NODISCARD int tw_relay_users_add_guest_secret(struct tw_relay_users *u, const char *secret,
                                                        uint32_t quota);
/* What stands between EXPIRY and ID; ':' unless set. */
TW_API void tw_relay_users_set_separator(struct tw_relay_users *u, char separator);

/* The password of a time-limited name: base64(HMAC-SHA1(secret, name)), 28 characters. TW_ECRYPTO. */
TW_API TW_NODISCARD int tw_relay_timed_password(const char *secret, const char *name,
                                                char ret_password[29]);
/* A nonce for a guest's time-limited name, handed out with it: with realm and nonce known an Allocate takes one round
 * trip. From any address, for TW_RELAY_TIMED_NONCE_LIFETIME seconds, at every server that has the secret. */
enum { TW_RELAY_TIMED_NONCE = 33, TW_RELAY_TIMED_NONCE_LIFETIME = 120 };
TW_API void tw_relay_timed_nonce(const char *secret, const char *name, int64_t unix_now,
                                 char ret_nonce[TW_RELAY_TIMED_NONCE + 1]);

/* Whether every user has a SHA-256 key: only then PASSWORD-ALGORITHMS may be offered, since a
 * client that sees it will not fall back. */
TW_API bool tw_relay_users_sha256(const struct tw_relay_users *u);

/* Whether all names are known, so that USERHASH can be looked up: not when there are secrets. */
TW_API bool tw_relay_users_anonymity(const struct tw_relay_users *u);

/* --- configuration ------------------------------------------------------------------------ */

struct tw_relay_addr {
    struct tw_addr ip;       /* where relay sockets are bound; port 0 */
    struct tw_addr external; /* what clients are told, when a NAT stands between; else family 0 */
};

/* The four listeners of one family that behaviour discovery needs (RFC 5780 §6): two addresses, the
 * same two ports on each. */
struct tw_relay_behaviour {
    uint32_t listener[2][2]; /* [address][port] */
};

/* How much a stranger's address gets in answers that are larger than the questions. */
struct tw_relay_budget {
    uint32_t rate, burst; /* answers a second for a /24 or /56, and at once; 20 and 100 */
    uint32_t total;       /* answers a second for all together; 10,000 */
};

/* A snapshot, plain and const. What it points to must live until it is replaced. Spans are in
 * seconds. Zero in a field with a default means the default. */
struct tw_relay_config {
    const struct tw_relay_users *users;        /* NULL: no authentication */
    struct tw_addr listeners[TW_RELAY_MAX_LISTENERS];
    uint32_t listener_n;
    struct tw_relay_addr relays[TW_RELAY_MAX_ADDRS];
    uint32_t relay_n;
    uint16_t min_port, max_port;               /* 49152 and 65535 */
    uint32_t default_lifetime, max_lifetime;   /* 600 and 3600 (RFC 8656 §7.2) */
    uint32_t permission_lifetime;              /* 300 (RFC 8656 §9) */
    uint32_t channel_lifetime;                 /* 600 (RFC 8656 §12) */
    uint32_t nonce_lifetime;                   /* 600 */
    uint32_t max_allocations;                  /* of this worker; 1,000,000 */
    uint32_t user_quota, total_quota;          /* allocations, over all workers; 0: no limit */
    uint64_t max_bps, total_bps;               /* bytes a second each way, of an allocation (of TCP:
                                                  of each connection) and of all together; 0: any */
    struct tw_relay_budget budget;
    const struct tw_range *allowed, *denied;   /* peers; allowed beats denied beats the defaults */
    size_t allowed_n, denied_n;
    const struct tw_range *nat64;              /* prefixes that hide IPv4, see tw_nat64_parse() */
    size_t nat64_n;
    const struct tw_range *own;                /* this machine's addresses: never peers, but for
                                                  what `allowed` says and live relayed addresses */
    size_t own_n;
    const struct tw_range *banned;             /* clients that get no answer to TURN requests */
    size_t banned_n;
    struct tw_relay_behaviour behaviour[2];    /* RFC 5780 */
    uint32_t behaviour_n;
    tw_time unix_offset;                       /* Unix time minus the machine's clock */
    bool allow_loopback;                       /* 127/8 and ::1 may be peers */
    bool no_turn;                              /* STUN only */
    bool no_udp_relay, no_tcp_relay;           /* Allocate for that transport gets 442 */
    bool mobility;                             /* RFC 8016 */
    bool draining;                             /* no new allocations */
    bool elder;                                /* hand what nobody here knows to the server that
                                                  this one takes over from */
    bool publish_flows;                        /* emit FLOW events */
    struct tw_addr alternate;                  /* send everyone there with 300; family 0: no */
    const char *software;                      /* SOFTWARE in authenticated successes, NULL: none */
};

/* Whether the relay may exchange data with this peer, whatever way it is written. The one policy
 * function: every path asks it. Our own relayed addresses are judged by the machine before. */
TW_API bool tw_relay_peer_allowed(const struct tw_relay_config *cfg, const struct tw_addr *peer);
/* Whether an address, with a port, is on the open Internet: what a relay without any configuration allows. */
TW_API bool tw_relay_is_public(const struct tw_addr *addr);

/* --- what the workers share --------------------------------------------------------------- */

/* Keys, ports and quotas. Only atomics inside: no locks. Outlives its workers. */
struct tw_relay_shared;

/* relays: as in every configuration used with it. TW_ENOMEM, TW_EINVAL. */
TW_API TW_NODISCARD int tw_relay_shared_new(const struct tw_relay_addr *relays, uint32_t relay_n,
                                            const struct tw_rng *rng,
                                            struct tw_relay_shared **ret_shared);
TW_API void tw_relay_shared_free(struct tw_relay_shared *s);

/* Live allocations over all workers. */
TW_API uint32_t tw_relay_shared_allocations(const struct tw_relay_shared *s);

/* For a server that takes over from another: the keys under which nonces, tokens and tickets were
 * given out, and the ports that the other still uses on its relay addresses, one bit each. */
#define TW_RELAY_KEYS 64
#define TW_RELAY_PORT_BITS 8192
TW_API void tw_relay_shared_keys(const struct tw_relay_shared *s, uint8_t ret_keys[TW_RELAY_KEYS]);
TW_API void tw_relay_shared_set_keys(struct tw_relay_shared *s, const uint8_t keys[TW_RELAY_KEYS]);
TW_API void tw_relay_shared_ports(const struct tw_relay_shared *s, uint32_t relay,
                                  uint8_t ret_bits[TW_RELAY_PORT_BITS]);
/* Marks them as the other's; all zeroes give back what is the other's. */
TW_API void tw_relay_shared_set_elder_ports(struct tw_relay_shared *s, uint32_t relay,
                                            const uint8_t bits[TW_RELAY_PORT_BITS]);

/* n bytes have gone over a joined connection of RFC 6062. Returns when more may, with no more than
 * total_bps bytes a second in all. */
TW_API tw_time tw_relay_shared_carried(struct tw_relay_shared *s, tw_time now, bool up, size_t n,
                                       uint64_t total_bps);

/* A stranger's share of costly work, such as handshakes: takes `one` out of the budget of its /24 or
 * /56 at `rate` a second, `burst` at once. False: it has used it up. */
TW_API bool tw_relay_shared_afford(struct tw_relay_shared *s, tw_time now,
                                   const struct tw_addr *source, uint32_t rate, uint32_t burst);

/* --- the machine -------------------------------------------------------------------------- */

/* X(name, what it counts) */
#define TW_RELAY_COUNTERS(X)                                                                      \
    X(up_packets, "datagrams relayed from clients to peers")                                      \
    X(up_bytes, "payload bytes relayed from clients to peers")                                    \
    X(down_packets, "datagrams relayed from peers to clients")                                    \
    X(down_bytes, "payload bytes relayed from peers to clients")                                  \
    X(local_packets, "of both, those between two relayed addresses of this server")               \
    X(icmp_relayed, "ICMP errors relayed to clients")                                             \
    X(bindings, "Binding requests answered")                                                      \
    X(allocations_made, "allocations made")                                                       \
    X(allocations_ended, "allocations ended")                                                     \
    X(errors_sent, "error responses sent")                                                        \
    X(challenges_sent, "401 and 438 responses sent")                                              \
    X(auth_unknown_user, "requests by users that are not known, expired or banned")               \
    X(auth_wrong_key, "requests whose integrity is wrong")                                        \
    X(auth_stale, "requests with a nonce that is stale or another's")                             \
    X(quota_refused, "allocations refused by a quota")                                            \
    X(policy_refused, "peers refused by policy")                                                  \
    X(mobility_moves, "allocations that moved to another client address")                         \
    X(tcp_connections, "TCP connections relayed")                                                 \
    X(drop_budget, "questions left unanswered because the answer would be larger")                \
    X(drop_banned, "requests from banned addresses")                                              \
    X(drop_bandwidth, "data beyond the bandwidth allowed")                                            \
    X(drop_malformed, "datagrams that are neither STUN nor ChannelData, or break their rules")    \
    X(drop_no_allocation, "data from addresses without an allocation")                            \
    X(drop_no_permission, "data to or from peers without a permission")                           \
    X(drop_no_channel, "ChannelData for numbers that are not bound")                              \
    X(drop_policy, "data to peers that policy forbids")                                           \
    X(drop_unwanted, "data of guests to peers that have not answered a Binding request yet")       \
    X(drop_ttl, "data whose hop limit ran out")                                                   \
    X(drop_full, "datagrams dropped because a bounded queue was full")                            \
    X(drop_handover, "hand-overs for addresses that were gone")

struct tw_relay_stats {
#define TW_RELAY_COUNTER_FIELD(name, text) uint64_t name;
    TW_RELAY_COUNTERS(TW_RELAY_COUNTER_FIELD)
#undef TW_RELAY_COUNTER_FIELD
};

enum tw_relay_event_type {
    TW_RELAY_OPEN,  /* bind a UDP socket to addr (tcp: listen there), call it sock, answer with
                       tw_relay_opened() */
    TW_RELAY_CLOSE, /* close sock */
    TW_RELAY_CONNECT, /* connect from addr to peer by TCP, call it sock, answer as for OPEN */
    TW_RELAY_JOIN,  /* sock is the peer's connection, conn the client's: pass bytes between them,
                       close one when the other closes, report with tw_relay_flow_report(), and tell
                       the end with tw_relay_peer_gone() */
    TW_RELAY_FLOW,  /* data between client and peer may bypass the machine until `until` */
};

struct tw_relay_event {
    enum tw_relay_event_type type;
    uint32_t sock;       /* the relay socket */
    uint32_t conn;
    bool tcp;
    struct tw_addr addr; /* OPEN, CONNECT: where to bind */
    /* FLOW: ChannelData `channel` from `client` on `listener` goes to `peer` out of `sock`, and
     * back. Nothing else may bypass; report with tw_relay_flow_report(). */
    struct tw_addr client, peer;
    uint32_t listener;
    uint16_t channel;
    tw_time until;
};

enum tw_relay_handover_type {
    TW_RELAY_HANDOVER_DATA,   /* from one relayed address of this server to another */
    TW_RELAY_HANDOVER_CLIENT, /* a client's datagram whose allocation another worker owns */
    TW_RELAY_HANDOVER_GONE,   /* that allocation has ended: stop handing over */
    TW_RELAY_HANDOVER_LEFT,   /* the client's connection has closed */
    TW_RELAY_HANDOVER_ELDER,  /* nobody here knows it: for the server this one takes over from */
};

struct tw_relay_handover {
    enum tw_relay_handover_type type;
    uint32_t to, from;    /* workers */
    struct tw_datagram d; /* views as in poll_tx */
};

struct tw_relay;

/* cfg stays owned by the caller and must live until replaced or the machine is freed. worker is
 * this one's index, below workers. TW_ENOMEM, TW_EINVAL (too many of something, ports
 * upside down, a relay address that shared does not know). */
TW_API TW_NODISCARD int tw_relay_new(const struct tw_relay_config *cfg,
                                     struct tw_relay_shared *shared, const struct tw_env *env,
                                     uint32_t worker, uint32_t workers, struct tw_relay **ret_relay);

/* Frees everything, without events: the caller closes the sockets it opened. */
TW_API void tw_relay_free(struct tw_relay *r);

/* Replaces the configuration. Live allocations keep what they have; listeners and relay addresses
 * must be the same ones. TW_EINVAL otherwise. */
TW_API TW_NODISCARD int tw_relay_configure(struct tw_relay *r, const struct tw_relay_config *cfg);

/* A datagram that arrived on a listener or a relay socket. Bad ones are counted and dropped. */
TW_API void tw_relay_recv(struct tw_relay *r, tw_time now, const struct tw_datagram *in);

/* A hand-over from another worker. */
TW_API void tw_relay_recv_handover(struct tw_relay *r, tw_time now,
                                   const struct tw_relay_handover *h);

/* The answer to OPEN. error: 0, TW_EADDRINUSE (another port will be tried, a bounded number of
 * times) or anything else (the client gets 508). */
TW_API void tw_relay_opened(struct tw_relay *r, tw_time now, uint32_t sock, int error);

/* The connection of a client is gone. client, local: as its datagrams carried them. */
TW_API void tw_relay_disconnected(struct tw_relay *r, tw_time now, uint32_t conn,
                                  const struct tw_addr *client, const struct tw_addr *local);

/* A peer has connected to a relay socket that listens. Returns the id the connection has from now
 * on, 0: close it. Nothing must be read from it before JOIN. */
TW_API uint32_t tw_relay_peer_arrived(struct tw_relay *r, tw_time now, uint32_t sock,
                                      const struct tw_addr *peer);

/* The connection to a peer is gone (closed by either end, or it broke). */
TW_API void tw_relay_peer_gone(struct tw_relay *r, tw_time now, uint32_t sock);

/* An ICMP error came back for a datagram sent from a relay socket to peer (RFC 8656 §11.5, §18.13).
 * data: the MTU for "packet too big" and "fragmentation needed", else 0. */
TW_API void tw_relay_icmp(struct tw_relay *r, tw_time now, uint32_t sock,
                          const struct tw_addr *peer, uint8_t type, uint8_t code, uint32_t data);

/* What bypassed the machine on a flow since the last report, and when it was last seen. */
TW_API void tw_relay_flow_report(struct tw_relay *r, uint32_t sock, uint64_t up_packets,
                                 uint64_t up_bytes, uint64_t down_packets, uint64_t down_bytes,
                                 tw_time last_seen);

TW_API void tw_relay_tick(struct tw_relay *r, tw_time now);
TW_API bool tw_relay_poll_tx(struct tw_relay *r, struct tw_datagram *ret_out);
TW_API bool tw_relay_poll_event(struct tw_relay *r, struct tw_relay_event *ret_event);
TW_API bool tw_relay_poll_handover(struct tw_relay *r, struct tw_relay_handover *ret_handover);
TW_API tw_time tw_relay_deadline(const struct tw_relay *r);

TW_API const struct tw_relay_stats *tw_relay_stats(const struct tw_relay *r);
TW_API uint32_t tw_relay_allocations(const struct tw_relay *r);

TW_C_END

#endif
