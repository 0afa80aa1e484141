/* What the files of the ICE agent share. */
#ifndef TW_ICE_INTERNAL_H
#define TW_ICE_INTERNAL_H

#include <thalweg/ice.h>
#include <thalweg/portmap.h>
#include <thalweg/stun_client.h>
#include <thalweg/turn.h>

#include "ice/dialect.h"
#include "ice/tape.h"

enum {
    NONE = 0xffff,         /* no index */
    NONE8 = 0xff,
    MAX_BASES = 400,       /* probing sockets included */
    METERED = 1000,        /* the order of a base that costs by the byte is this much higher */
    MAX_HOSTS = 8,         /* of a component, and two more on interfaces that are likely junk */
    MAX_REMOTES = 32,      /* of a component, those learned from checks included */
    MAX_PAIRS = 100,       /* of a component (RFC 8445 §6.1.2.5) */
    MAX_GATEWAYS = 4,
    MAX_TARGETS = 128,     /* addresses whose packets are counted */
    MAX_EVENTS = 640,
    MAX_ANSWERS = 8,       /* responses waiting to be sent */
    MAX_DATA = 65000,
    MAX_PIECES = 64,       /* datagrams of data in one input */
    SILENT_MAX = 12,       /* packets to an IP address from which nothing comes ... */
    PROVED_MAX = 12,       /* ... and to a port from which checks come, but no answers to ours */
    SAMPLES = 8,
    PROBE_PORTS = 16,      /* ports one side expects to be seen at */
    BUILD_MAX = 1024,
};

/* RFC 8863 §3: how long connectivity is awaited patiently. */
static const tw_time PATIENCE = 39500 * TW_MSEC;
static const tw_time AWAIT_EVERY = 10 * TW_SEC; /* sooner than NATs forget a packet that was not answered */
static const tw_time WEB_LATER = 100 * TW_MSEC; /* that TCP is tried inside HTTP; twice that: inside TLS */
/* So many datagrams came, and for so long none has: is the way still there? Who just receives would not notice. */
enum { FLOW = 5 };
static const tw_time STOPPED = TW_SEC;
static const tw_time CONSENT_LIFE = 30 * TW_SEC; /* RFC 7675 §5.1 */

/* --- where packets leave from ----------------------------------------------------------------- */

enum base_kind { BASE_UDP, BASE_LISTEN, BASE_CONN, BASE_TURN, BASE_ASK, BASE_CANARY,
                 BASE_RELAY };
enum base_state { BASE_OPENING, BASE_OPEN, BASE_DEAD };

/* A socket, a connection, or a relayed address. RFC 8445 §4: "base". A dead one keeps its place until
 * nothing points at it. */
struct base {
    uint32_t sock;
    struct tw_addr local;   /* as bound; the relayed address */
    struct tw_addr gateway; /* of its interface, family NONE: not known */
    struct tw_addr mapped;  /* outside address by port mapping, family NONE: none */
    uint8_t map_id;         /* at the gateway's machine, NONE8: none */
    uint16_t comp;
    uint16_t relay;         /* of BASE_TURN and BASE_RELAY: index into relays */
    uint16_t parent;        /* of BASE_CONN and BASE_ASK: the listener from whose port it comes, NONE */
    uint16_t order;         /* of its interface: 0 is the best; METERED and up */
    uint8_t kind, state;
    uint8_t via;            /* of BASE_CONN */
    bool probe;             /* opened for probing, and nothing has come of it yet */
    bool exclusive;         /* not a shared socket: known by its id */
    struct tw_addr remote;  /* BASE_CONN, BASE_ASK */
    tw_time waits;          /* BASE_CONN, BASE_TURN: tw_ice_waits() */
    tw_time keep_at;        /* when its mapping is to be refreshed, before there is a path */
};

/* A candidate of ours. */
struct local {
    struct tw_addr addr, related;
    uint32_t priority, foundation;
    uint16_t base, comp;
    uint8_t type, transport, via;
    bool told;
};

/* A candidate of the peer's. */
struct remote {
    struct tw_addr addr;
    uint32_t priority, foundation;
    uint16_t comp;
    uint8_t type, transport, via;
    bool metered;  /* it costs the peer by the byte */
    bool answered; /* a check of ours was answered from there */
    bool proved;   /* it sent a check with our password, or answered one of ours: data may come */
    uint8_t unanswered; /* packets sent there, being proved or on a server of ours, that were not answered */
};

/* An IP address to which we sent without being asked. */
struct target {
    struct tw_addr ip;
    uint8_t silent; /* packets sent to ports there that have not answered */
    tw_time first;  /* when the first one was */
};

enum pair_state { PAIR_FROZEN, PAIR_WAITING, PAIR_IN_PROGRESS, PAIR_SUCCEEDED, PAIR_FAILED };

struct pair {
    uint16_t base, remote, comp;
    uint16_t from;      /* the base it was formed with: of TCP the listener, while base is the connection */
    uint8_t state, sent, transmissions; /* sent: as planned; transmissions: in fact */
    bool want_tx;       /* the check is to be sent at the next poll_tx */
    bool use_candidate; /* the check in flight nominates */
    bool nominate;      /* the peer nominated it; in force once it is valid */
    bool nominated;
    bool triggered;     /* the peer's check came over it */
    bool valid;
    bool opening;       /* waits for its connection */
    bool permitted;     /* the relay lets it through; true where there is none */
    bool silent;        /* it was valid, and its last check was not answered */
    bool old;           /* of before the restart: keeps its credentials until there is a new path */
    bool translated;    /* the peer sees another address than the base's */
    uint64_t priority;
    tw_time not_before; /* ways that cost more are tried a little later */
    uint32_t nomination;
    tw_time due;        /* next transmission, or the end of the transaction */
    tw_time first_sent, check_at; /* check_at: the next check of a valid pair */
    struct {
        uint32_t after;      /* us after the first */
        uint32_t data_sent;  /* until then */
    } sends[8];              /* each transmission */
    tw_time look_at; /* whether data that has come over it has stopped, TW_NEVER: none has */
    uint32_t look_from; /* data_received when that began */
    tw_time valid_until, last_answer, last_heard; /* heard: anything that proves the way here */
    tw_time rtt;        /* smoothed; 0: not known */
    tw_time banned_until; /* it answers checks but carries no data */
    uint8_t tid[TW_STUN_TID];
    uint16_t loss;      /* of data, per mille, smoothed */
    uint8_t bans, connects; /* connects: how often a connection was tried in vain */
    uint32_t data_sent, data_received; /* datagrams */
    uint32_t marked_sent, marked_received; /* at the last report of the peer's, and what it said */
    const char *why;    /* of FAILED; static */
};

/* One of our checks of STUN and TURN servers. */
struct query {
    struct tw_addr server;
    struct tw_stun_txn txn;
    tw_time rtt;
    uint16_t base;
    uint8_t index;      /* of the server in the config; NONE8: one it told us of */
    bool want_tx, done, failed, probe;
    unsigned code;
};

struct relay {
    struct tw_turn *turn;
    uint16_t comp, base;  /* the socket to the server */
    uint8_t server;
    bool ready, failed, stirred; /* stirred: it may have datagrams to send */
    tw_time again_at, wait;      /* when it is asked again after it failed; 0: it is not */
    unsigned code;
    const char *why;
};

/* The gateway of one of our addresses, which may map ports. */
struct gateway {
    struct tw_portmap *map;
    struct tw_addr local, server;
    uint16_t base;         /* the socket that speaks with it */
    tw_time began;
    const char *why;       /* the last refusal; static */
};

struct component {
    uint16_t path;        /* index of the pair data goes over, NONE */
    bool announced;       /* PATH has been said */
    bool search;          /* the path has fallen silent, and there is no better one: all is to be tried again */
    tw_time valid_since;  /* when the first pair became valid; TW_NEVER */
    tw_time better_since; /* since when another pair has been better than the path; TW_NEVER */
    uint16_t better;
    tw_time retry_at, retry_wait; /* when the direct ways are tried again */
    tw_time used;         /* when data was sent or came last */
};

struct creds {
    char *ufrag, *pwd;
};

struct stream {
    struct creds local, remote, old_local, old_remote;
    bool renomination, own;
    bool begun;           /* credentials of both are there */
    char web[TW_ICE_WEB_MAX + 1]; /* the peer's token */
};

struct answer {
    uint16_t base;
    struct tw_addr dst;
    uint8_t tid[TW_STUN_TID];
    uint8_t stream;
    uint16_t code;        /* 0: success */
    uint32_t counter;     /* TRANSACTION-TRANSMIT-COUNTER, to be sent back; 0: none */
    bool own, old;        /* old: signed with the credentials of before the restart */
    uint32_t received;    /* data received over this pair, for our kind */
};

/* --- NATs ---------------------------------------------------------------------------------------- */

/* How the NAT on the way picks ports, as far as samples show. Travels in the own attribute. */
enum nat_kind {
    NAT_UNKNOWN,
    NAT_EASY,       /* one mapping for all (RFC 4787 §4.1: endpoint-independent), or no NAT */
    NAT_PRESERVING, /* a socket's first mapping keeps its port, others do not */
    NAT_SEQUENTIAL, /* the next mapping gets the next port, or the next but one */
    NAT_RANDOM,
    NAT_KINDS,
};

struct sample {
    struct tw_addr dst, mapped;
    tw_time at; /* when the mapping must have been made */
    uint16_t base;
};

struct nat {
    struct sample samples[SAMPLES];
    uint8_t n, kind;
    bool by_address; /* one mapping for all ports of an address (RFC 4787 §4.1) */
    int8_t step;     /* of NAT_SEQUENTIAL; of NAT_EASY: EASY_KEEPS or 0 */
};
enum { EASY_KEEPS = 1 }; /* the port outside is the one inside */

/* What peers of our kind tell each other in every check: attribute TW_STUN_A_ICE_OWN. */
struct own_info {
    uint8_t kind;     /* enum nat_kind */
    bool by_address;
    int8_t step;
    uint8_t round;    /* of probing, 0: none */
    uint8_t phase;    /* see probe.c */
    uint32_t received; /* data received over this pair */
    uint8_t port_n;
    uint16_t ports[PROBE_PORTS];
};

enum probe_state { PROBE_IDLE, PROBE_PREPARING, PROBE_READY, PROBE_RUNNING, PROBE_OVER };

enum { PROBE_SOCKETS = 256 };

struct probe {
    uint8_t state, role, round;
    struct own_info mine, peer;  /* the plans of this round */
    bool has_peer;               /* the peer's has come */
    uint16_t bases[PROBE_SOCKETS + 1]; /* sockets opened for this; the last one measures */
    uint16_t base_n, waiting;    /* waiting: how many are not open yet */
    bool measuring;
    uint16_t next;               /* the next packet's number */
    uint16_t key;                /* where in the permutation of ports we began */
    tw_time at, until;           /* the next packet; when we give up */
    bool want_tx;
};

/* See lifetime.c. */
struct lifetime {
    uint8_t state, server, nonce_n;
    bool want_tx;
    uint16_t base, port;     /* the socket that is left alone, and where it is seen */
    struct tw_stun_txn txn;
    tw_time wait, at;        /* how long it is left alone, and until when */
    tw_time proven;          /* mappings live at least so long; 0: not known */
    uint8_t nonce[128];
};

/* Who may probe whom, and how much: shared by all agents of a mux. */
struct allowance {
    const struct tw_ice *user; /* who is at it: never two at once */
    struct {
        struct tw_addr ip;
        tw_time since;
        uint16_t sent;
    } peers[16];
};
struct claim;

/* --- the agent ------------------------------------------------------------------------------------- */

struct note {
    uint8_t type;
    uint16_t index;
    uint32_t sock;
};

struct piece {
    struct tw_bytes data;
    uint16_t comp;
    uint8_t tos;
};

struct tw_ice {
    struct tw_ice_config cfg; /* pointers in it are NULL: see below */
    struct tw_env env;
    struct tw_ice_mux *mux;
    uint32_t tag;             /* our number at the mux */
    char *allow, *deny, *web;
    tw_time now, began, closing_until, gather_until;
    tw_time await_until, await_at; /* a peer that may begin any time is tried again, next at; 0: it is not */
    uint64_t tiebreaker;
    uint32_t seed;            /* of foundations */
    bool controlling, gathering, gathered_said, connected, failed, closing, closed_said;
    bool has_v4;              /* an IPv4 address that leads out */
    struct tw_range nat64;    /* first.port 0: none */
    uint32_t next_sock, nomination;
    tw_time pace_at;          /* when the next new check may start */
    uint16_t comp_n;

    struct tw_ice_server servers[TW_ICE_SERVERS_MAX]; /* the strings are ours */
    unsigned server_n;
    struct stream streams[TW_ICE_STREAMS_MAX];
    struct component *comps;
    struct base *bases;
    struct local *locals;
    struct remote *remotes;
    struct pair *pairs;
    struct query *queries;
    struct relay *relays;
    struct target *targets;
    struct gateway gateways[MAX_GATEWAYS];
    uint8_t gateway_n;
    uint16_t base_n, local_n, remote_n, pair_n, query_n, relay_n, target_n;
    uint16_t base_cap, local_cap, remote_cap, pair_cap, query_cap, relay_cap, target_cap;

    struct note *notes;
    uint16_t note_n, note_at, note_cap;
    struct answer answers[MAX_ANSWERS];
    uint8_t answer_n;
    struct piece pieces[MAX_PIECES];
    uint8_t piece_n, piece_at;

    struct nat nat;
    struct lifetime lifetime;
    struct tape *tape;        /* NULL: none */
    struct own_info peer_info; /* what it said last */
    struct tw_addr seen;      /* where a server saw the peer: the one address that is probed */
    uint8_t probe_round;      /* of the last one */
    const char *probe_why;    /* how it ended; static */
    struct probe *probe;      /* NULL while there is none */
    struct allowance *allowance; /* own one, without a mux */
    struct claim *claims;     /* at the mux */
    struct tw_ice_stats stats;

    bool has_out;
    struct tw_datagram out;
    struct tw_bytes iov[1];
    uint8_t build[BUILD_MAX];
};

/* Room for one more in a table that grows; false: full, or no memory. */
bool ice_grow(void **table, uint16_t *cap, uint16_t n, size_t size, uint16_t max);
#define ICE_GROW(a, table, one, max)                                                              \
    ice_grow((void **)&(a)->table, &(a)->one##_cap, (a)->one##_n, sizeof(*(a)->table), (max))

/* agent.c */
void ice_tick(struct tw_ice *a);
void ice_note(struct tw_ice *a, enum tw_ice_event_type type, uint16_t index, uint32_t sock);
int ice_server_add(struct tw_ice *a, const struct tw_ice_server *s);
struct stream *ice_stream_of(struct tw_ice *a, uint16_t comp);
/* By the numbers that the caller uses; NULL: there is none such. */
struct component *ice_component(const struct tw_ice *a, unsigned stream, unsigned component);
uint8_t ice_component_id(const struct tw_ice *a, uint16_t comp);
void ice_draw_tid(struct tw_ice *a, uint8_t tid[TW_STUN_TID]);
/* As tw_stun_txn_start(), with such an id. */
void ice_txn_start(struct tw_ice *a, struct tw_stun_txn *t);
const struct dialect *ice_dialect(const struct tw_ice *a, uint16_t comp);
void ice_data_recv(struct tw_ice *a, uint16_t base, const struct tw_addr *src, struct tw_bytes data,
                   uint8_t tos);
/* One datagram over a base; data is borrowed until the next. TW_EFULL and others of tw_turn_send(). */
int ice_emit(struct tw_ice *a, uint16_t base, const struct tw_addr *dst, struct tw_bytes data,
             uint8_t tos, bool check);

/* base.c */
bool ice_is_stream(const struct base *b);
uint16_t ice_base_add(struct tw_ice *a, enum base_kind kind, uint16_t comp,
                      const struct tw_addr *local);
/* The socket is gone, or goes. What was built on it goes with it. */
void ice_base_kill(struct tw_ice *a, uint16_t base);
/* Its order, METERED and up if it, or the socket of that relay, is. */
uint16_t ice_base_order(const struct tw_ice *a, const struct base *b);
/* Which one a datagram came to; NONE. */
uint16_t ice_base_find(const struct tw_ice *a, const struct tw_datagram *in);

/* sdp.c */
bool ice_is_web_token(const char *text);

/* candidate.c */
/* The order that is in one of these. */
uint16_t ice_priority_order(uint32_t priority, bool tcp);
uint32_t ice_priority(const struct tw_ice *a, enum tw_ice_type type,
                      enum tw_ice_transport transport, uint16_t order, uint16_t comp);
/* A candidate of ours on a base. server: who told us the address; NULL: nobody. */
uint16_t ice_local_add(struct tw_ice *a, uint16_t base, enum tw_ice_type type,
                       const struct tw_addr *addr, const struct tw_addr *server);
void ice_local_fill(const struct tw_ice *a, const struct local *l, struct tw_ice_candidate *ret);
/* Whether the peer may learn it: not what the policy keeps back, and not what it sees for itself. */
bool ice_is_told(const struct tw_ice *a, const struct local *l);
/* Marks it as to be told, unless it is kept back. */
void ice_local_tell(struct tw_ice *a, struct local *l);
/* It is not told any more. */
void ice_local_forget(struct tw_ice *a, uint16_t base, const struct tw_addr *addr);
uint16_t ice_remote_find(const struct tw_ice *a, uint16_t comp, const struct tw_addr *addr,
                         bool tcp, uint8_t via);
uint16_t ice_remote_learn(struct tw_ice *a, uint16_t comp, const struct tw_addr *addr, bool tcp, uint8_t via,
                          uint32_t priority);
bool ice_is_private(const struct tw_addr *a);
bool ice_is_tcp(uint8_t transport);

/* nat64.c: what stands between the addresses the agent knows and those on its sockets. */
bool ice_reaches(const struct tw_ice *a, const struct base *b, const struct tw_addr *far);
struct tw_addr ice_outwards(const struct tw_ice *a, const struct tw_addr *local,
                            const struct tw_addr *far);
struct tw_addr ice_inwards(const struct tw_ice *a, const struct tw_addr *far);

/* gather.c */
void ice_gather_base(struct tw_ice *a, uint16_t base);
void ice_gather_servers(struct tw_ice *a, uint16_t base);
void ice_gather_all_servers(struct tw_ice *a);
void ice_gather_tick(struct tw_ice *a);
tw_time ice_gather_deadline(const struct tw_ice *a);
bool ice_gather_response(struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m,
                         const struct tw_addr *src);
bool ice_gather_tx(struct tw_ice *a);
void ice_gather_keep(struct tw_ice *a, uint16_t base, const struct tw_addr *server, uint8_t index);
uint16_t ice_query_add(struct tw_ice *a, uint16_t base, const struct tw_addr *server,
                       uint8_t index, bool probe);

/* relay.c */
/* That server's credentials are others now. */
void ice_relay_renewed(struct tw_ice *a, unsigned server);
void ice_relay_start(struct tw_ice *a, uint16_t base);
/* It is no more, and its candidates with it. again: the server is asked again, if that may help. */
void ice_relay_over(struct tw_ice *a, uint16_t relay, unsigned code, const char *why, bool again);
void ice_relay_opened(struct tw_ice *a, uint16_t base);
void ice_relay_events(struct tw_ice *a, uint16_t relay);
bool ice_relay_recv(struct tw_ice *a, uint16_t base, const struct tw_datagram *in);
bool ice_relay_tx(struct tw_ice *a);
void ice_relay_tick(struct tw_ice *a);
tw_time ice_relay_deadline(const struct tw_ice *a);
void ice_relay_permit(struct tw_ice *a, struct pair *p);
void ice_relay_bind(struct tw_ice *a, const struct pair *p);
bool ice_relay_pending(const struct tw_ice *a);
const char *ice_relay_transport(const struct tw_ice *a, const struct relay *r);

/* map.c */
void ice_map_base(struct tw_ice *a, uint16_t base);
void ice_map_unbase(struct tw_ice *a, uint16_t base);
bool ice_map_recv(struct tw_ice *a, uint16_t base, const struct tw_datagram *in);
bool ice_map_tx(struct tw_ice *a, struct tw_datagram *ret_out);
void ice_map_tick(struct tw_ice *a);
/* Something has happened to the way out. */
void ice_map_refresh(struct tw_ice *a);
void ice_map_close(struct tw_ice *a);
bool ice_map_pending(const struct tw_ice *a);
tw_time ice_map_deadline(const struct tw_ice *a);

/* pair.c */
void ice_pair_local(struct tw_ice *a, uint16_t base);
void ice_pair_remote(struct tw_ice *a, uint16_t remote);
/* old: the one of before the restart, which goes on meanwhile. */
uint16_t ice_pair_find(const struct tw_ice *a, uint16_t base, uint16_t remote, bool old);
uint16_t ice_pair_add(struct tw_ice *a, uint16_t base, uint16_t remote);
void ice_pairs_recompute(struct tw_ice *a);
/* It is about to lie somewhere else in the table. */
void ice_pair_moves(struct tw_ice *a, uint16_t from, uint16_t to);
void ice_pairs_trim(struct tw_ice *a, uint16_t comp);

/* sweep.c */
void ice_sweep(struct tw_ice *a);
void ice_pairs_unfreeze(struct tw_ice *a, const struct pair *like);
void ice_pair_retry(struct tw_ice *a, struct pair *p);
void ice_pair_fail(struct tw_ice *a, struct pair *p, const char *why);
/* Two round trips and a little, 5 s at most: a path on which nothing has come for so long is in doubt, one whose checks are not answered
 * for so long is silent. */
tw_time ice_pair_patience(const struct pair *p);

/* check.c */
void ice_check_start(struct tw_ice *a, struct pair *p);
void ice_check_tick(struct tw_ice *a);
tw_time ice_check_deadline(const struct tw_ice *a);
bool ice_check_tx(struct tw_ice *a);
/* A connection could not be made. */
void ice_check_refused(struct tw_ice *a, uint16_t base);
int ice_check_recv(struct tw_ice *a, uint16_t base, const struct tw_addr *src,
                   const struct tw_stun_msg *m, const struct tw_addr *via_relay);
/* The bytes of a check in a->build; p: NULL for one that belongs to no pair yet. */
struct tw_bytes ice_check_build(struct tw_ice *a, uint16_t comp, uint16_t order,
                                const uint8_t tid[TW_STUN_TID], const struct pair *p);

/* select.c */
uint16_t ice_select_other(const struct tw_ice *a, uint16_t comp);
void ice_select_valid(struct tw_ice *a, uint16_t pair);
void ice_select_nominated(struct tw_ice *a, uint16_t pair);
void ice_select_tick(struct tw_ice *a);
tw_time ice_select_deadline(const struct tw_ice *a);
void ice_select_lost(struct tw_ice *a, uint16_t comp);
void ice_select_report(struct tw_ice *a, struct pair *p, uint32_t data_sent, uint32_t received, bool was_silent);
bool ice_is_relayed(const struct tw_ice *a, const struct pair *p);
void ice_path_fill(const struct tw_ice *a, const struct pair *p, struct tw_ice_path *ret);
tw_time ice_keep_interval(const struct tw_ice *a, const struct pair *p);

/* lifetime.c */
/* Another network: nothing is known. */
void ice_lifetime_reset(struct tw_ice *a);
void ice_lifetime_opened(struct tw_ice *a);
bool ice_lifetime_recv(struct tw_ice *a, uint16_t base, const struct tw_stun_msg *m);
void ice_lifetime_tick(struct tw_ice *a);
tw_time ice_lifetime_deadline(const struct tw_ice *a);
bool ice_lifetime_tx(struct tw_ice *a);
/* How often an idle path is refreshed: as usual, or less often where that is known to do. */
tw_time ice_lifetime_keep(const struct tw_ice *a, tw_time usual);

/* nat.c */
void ice_nat_sample(struct tw_ice *a, uint16_t base, const struct tw_addr *dst,
                    const struct tw_addr *mapped, tw_time at);
const char *ice_nat_text(enum nat_kind k);

/* probe.c */
void ice_probe_tick(struct tw_ice *a);
tw_time ice_probe_deadline(const struct tw_ice *a);
bool ice_probe_tx(struct tw_ice *a);
void ice_probe_opened(struct tw_ice *a, uint16_t base);
void ice_probe_measured(struct tw_ice *a, const struct tw_addr *mapped);
void ice_probe_info(struct tw_ice *a, const struct own_info *info);
void ice_probe_hit(struct tw_ice *a, uint16_t base);
/* More is known of our NAT: the peer plans by it. */
void ice_probe_news(struct tw_ice *a);
/* Whether one packet may go to this address because a server saw the peer there; it is then taken from
 * what probing may send. */
bool ice_probe_allows(struct tw_ice *a, const struct tw_addr *addr);
void ice_probe_end(struct tw_ice *a);
void ice_probe_fill(const struct tw_ice *a, struct own_info *ret);

/* own.c */
void ice_own_write(struct tw_stun_enc *e, const struct own_info *info);
bool ice_own_read(const struct tw_stun_msg *m, struct own_info *ret);

/* mux.c */
int ice_mux_join(struct tw_ice_mux *m, struct tw_ice *a, uint32_t *ret_tag);
void ice_mux_leave(struct tw_ice_mux *m, struct tw_ice *a);
int ice_mux_name(struct tw_ice_mux *m, struct tw_ice *a, const char *ufrag);
void ice_mux_unname(struct tw_ice_mux *m, struct tw_ice *a, const char *ufrag);
void ice_mux_claim(struct tw_ice_mux *m, struct tw_ice *a, const struct tw_addr *local,
                   const struct tw_addr *remote);
void ice_mux_draw_tid(struct tw_ice_mux *m, uint32_t tag, const struct tw_rng *rng,
                      uint8_t tid[TW_STUN_TID]);
struct allowance *ice_mux_allowance(struct tw_ice_mux *m);

#endif
