/* What the files of the relay share. */
#ifndef TW_RELAY_INTERNAL_H
#define TW_RELAY_INTERNAL_H

#include <thalweg/relay.h>

#include "base/map.h"
#include "base/timer.h"
#include "relay/shared.h"
#include "relay/users.h"

enum {
    MAX_PERMISSIONS = 256, /* per allocation; a hostile client costs at most 18 KiB */
    MAX_CHANNELS = 256,
    MAX_FOREIGN = 4096,    /* clients whose allocation another worker owns, or that have moved */
    MAX_CONNECTIONS = 32,  /* TCP connections of one allocation */
    CONNECTION_WORKER_SHIFT = 26, /* CONNECTION-ID: six bits of worker, the rest chance */
    CONNECTION_SEC = 30,   /* RFC 6062 §5.2, §5.3: to be established, and to be bound */
    MOVED_SEC = 10,        /* what is still on its way from the client's address before */
    OPEN_TRIES = 8,        /* ports tried when binding fails */
    RESERVATION_SEC = 30,  /* RFC 8656 §7.2: a reserved port is kept at least 30 s */
    OPENING_SEC = 30,
    FOREIGN_SEC = 60,      /* until the client shows that it has an allocation there */

    TX_MAX = 256,
    IOV_MAX_OUT = 1024,
    SCRATCH = 24576,
    EVENT_MAX = 256,
    EVENTS_PER_RELEASE = MAX_CONNECTIONS + 4, /* the most the end of an allocation can cause */
    EVENTS_PER_REQUEST = EVENTS_PER_RELEASE,
    HANDOVER_MAX = 128,
    REPLY_MAX = 1280,
};

/* RFC 8656 §9: by IP address. Sorted by address within an allocation. */
struct permission {
    struct tw_addr ip;
    tw_time until;
    bool wanted;       /* of a guest: the peer has answered */
    struct tw_bucket asked;
};

/* RFC 8656 §12: by transport address. Sorted by peer within an allocation. */
struct channel {
    struct tw_addr peer;
    tw_time until;
    tw_time permitted; /* until when the permission for the peer's address holds */
    uint16_t number;
    uint8_t own;       /* enum own_peer */
    bool wanted;       /* as the permission */
};

/* What a peer's IP is to this server. */
enum own_peer {
    PEER_ELSEWHERE,
    PEER_OWN,         /* a relay address of ours: only live relayed addresses on it may be peers */
    PEER_OWN_ALLOWED, /* the same, but policy allows everything on it */
};

struct alloc;
struct connection;

/* A relayed transport address, or a TCP connection from one to a peer. */
struct rsock {
    struct alloc *owner;   /* NULL: reserved by a token, given up, or a connection */
    struct connection *conn;
    bool connection;       /* to a peer: it has no port of its own, and conn until it is given up */
    bool tcp, given_up;    /* given up: while it is being opened */
    struct tw_addr addr;   /* where it is bound */
    struct tw_addr told;   /* the relayed transport address as peers and client see it */
    uint32_t id;
    uint8_t relay;         /* index of the relay address */
    uint8_t tries;
    bool asked, open;      /* OPEN is out; it is bound */
    uint32_t hash;         /* of told, for by_relayed */
};

/* A port kept for a RESERVATION-TOKEN. */
struct reservation {
    struct tw_timer timer;
    struct rsock *rs;
    uint64_t user;
    uint8_t token[8];
    struct reservation *next;
};

/* Where an allocation is in its life. */
enum alloc_state {
    ALLOC_OPENING, /* waiting for tw_relay_opened() */
    ALLOC_LIVE,
};

enum { V4, V6, FAMILIES };

/* How a request was signed, so that the reply is signed alike. key.n 0: not signed. */
struct auth {
    struct tw_stun_key key;
    bool sha256;
    uint64_t user;
    uint32_t quota; /* of this user */
    bool guest;
};

/* Where a client is: the 5-tuple, and the worker at which its datagrams arrive. */
struct path {
    struct tw_addr client, local;
    uint32_t listener; /* or the id of its connection */
    uint32_t home;
};

/* RFC 6062: a connection between a relayed address and a peer, bound to a client's or not yet. */
struct connection {
    struct tw_timer timer; /* first member; TW_NEVER once it is joined */
    struct alloc *alloc;
    struct connection *next;
    struct rsock *rs;
    struct tw_addr peer;
    uint32_t number;       /* CONNECTION-ID: worker and chance */
    enum { CONNECTION_OPENING, CONNECTION_WAITING, CONNECTION_JOINED } state;
    struct auth *auth;     /* of the Connect, while OPENING */
    uint8_t tid[TW_STUN_TID];
};

struct alloc {
    struct tw_timer timer; /* first member: the timer is the allocation */
    struct path path;
    uint32_t hash;         /* of path.client */
    uint8_t state;         /* enum alloc_state */
    bool tcp;              /* RFC 6062 */
    bool guest;            /* tw_relay_users_add_guest_secret() */
    bool mobile;           /* RFC 8016 */
    uint32_t ticket_serial;
    struct foreign *moved; /* the path before, while it still counts */
    struct connection *connections;
    uint32_t connection_n;
    uint8_t opening;       /* OPENs not answered yet */
    uint8_t wanted;        /* bit per family */
    bool has_token;
    bool draft_families;   /* both families were asked for with the draft's attribute */
    uint16_t asked;        /* bytes of the Allocate */
    uint16_t family_error; /* one of two families could not be served: the code */
    uint16_t perm_n, perm_cap, chan_n, chan_cap;
    uint16_t last_up, last_down; /* channels used last: the next one is most likely the same */
    uint32_t lifetime;     /* seconds, as granted at Allocate */
    struct rsock *rs[FAMILIES];
    struct permission *perms;
    struct channel *chans;
    struct quota *quota;
    uint64_t user;
    uint8_t tid[TW_STUN_TID]; /* of the Allocate: a retransmission gets the same answer */
    uint8_t token[8];
    struct auth *pending_auth; /* while ALLOC_OPENING */
    struct reservation *pending_reservation; /* while ALLOC_OPENING: the odd port of a pair */
    uint64_t up_packets, up_bytes, down_packets, down_bytes;
    struct tw_bucket up, down; /* --max-bps */
};

/* A client whose allocation lives at another worker, or that has another path by now. */
struct foreign {
    struct tw_timer timer;
    struct path path;
    uint32_t hash, worker;
    struct alloc *alloc; /* ours; NULL: the worker's */
};

/* The four kinds of thing a timer can belong to have heaps of their own. */
struct tw_relay {
    const struct tw_relay_config *cfg; /* &config */
    struct tw_relay_config config;     /* with the defaults filled in */
    struct tw_relay_shared *shared;
    struct tw_env env;
    uint32_t worker, workers;
    tw_time now;
    uint32_t from_worker; /* where the datagram being handled arrived */

    struct tw_hash_key hash_key;
    struct tw_map by_client;  /* alloc */
    struct tw_map by_relayed; /* rsock, by told */
    struct tw_map by_foreign; /* foreign */
    struct tw_map by_connection; /* connection, by number */
    struct tw_map by_ticket;  /* alloc, by serial */
    struct alloc *last;       /* the client heard last */
    struct rsock **socks;     /* by id - TW_RELAY_FIRST_SOCK */
    uint32_t sock_cap, sock_free; /* sock_free: where to look for a free id */
    struct reservation *reservations;
    struct tw_timers alloc_timers, reservation_timers, foreign_timers, connection_timers;

    struct tw_relay_stats stats;

    struct tw_datagram tx[TX_MAX];
    uint32_t tx_n, tx_at;
    struct tw_bytes iov[IOV_MAX_OUT];
    uint32_t iov_n;
    uint8_t scratch[SCRATCH];
    uint32_t scratch_n;
    struct tw_relay_event events[EVENT_MAX];
    uint32_t event_n, event_at;
    struct tw_relay_handover handovers[HANDOVER_MAX];
    uint32_t handover_n, handover_at;

    /* The last datagram in tx while it can still grow: data for one receiver in equal pieces. */
    struct tw_datagram *run;
    const void *run_key;      /* which flow it is of */
    const uint8_t *run_header;
    size_t run_piece, run_bytes;
};

/* Whether this is a connection over which whole frames come one after the other. */
static inline bool is_stream(uint32_t sock)
{
    return sock & TW_RELAY_STREAM;
}

/* Whether the client's address is proven by how it reached us. */
static inline bool is_connection(uint32_t sock)
{
    return sock & (TW_RELAY_STREAM | TW_RELAY_SESSION);
}

static inline int family_index(const struct tw_addr *a)
{
    return a->family == TW_FAMILY_V4 ? V4 : V6;
}

/* out.c: what leaves the machine */
void relay_reset_out(struct tw_relay *r);
uint8_t *relay_scratch(struct tw_relay *r, size_t n);
struct tw_datagram *relay_tx(struct tw_relay *r, uint32_t sock, const struct tw_addr *src,
                             const struct tw_addr *dst);
struct tw_datagram *relay_handover(struct tw_relay *r, enum tw_relay_handover_type type,
                                   uint32_t to);
bool relay_iov(struct tw_relay *r, struct tw_datagram *d, const void *p, size_t n);
struct tw_relay_event *relay_event(struct tw_relay *r, enum tw_relay_event_type type);
bool relay_events_free(const struct tw_relay *r, uint32_t n);

/* auth.c */
void relay_add_nonce(struct tw_relay *r, struct tw_stun_enc *e, const struct tw_datagram *in);
bool relay_nonce_fresh(const struct tw_relay *r, const struct tw_datagram *in,
                       struct tw_bytes nonce);
bool relay_authenticate(struct tw_relay *r, const struct tw_datagram *in,
                        const struct tw_stun_msg *m, struct auth *ret_auth);

/* reply.c: answers to requests */
struct reply {
    struct tw_stun_enc e;
    const struct auth *auth;
    size_t asked; /* bytes of the request when a stranger may have sent it, 0: none can have */
};
bool relay_reply_begin(struct tw_relay *r, struct reply *p, enum tw_stun_class cls, unsigned method,
                       const uint8_t tid[TW_STUN_TID], const struct auth *auth);
void relay_reply_send(struct tw_relay *r, struct reply *p, uint32_t listener,
                      const struct tw_addr *local, const struct tw_addr *client);
bool relay_affordable(struct tw_relay *r, uint32_t sock, const struct tw_addr *client,
                      size_t asked, size_t answer);
void relay_success(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                   const struct auth *auth);
void relay_error(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                 const struct auth *auth, unsigned code);

/* alloc.c: the tables */
uint32_t relay_hash_addr(const struct tw_relay *r, const struct tw_addr *a);
struct alloc *relay_find(struct tw_relay *r, const struct tw_datagram *in);
struct alloc *relay_alloc_new(struct tw_relay *r, const struct tw_datagram *in);
struct path relay_path(const struct tw_relay *r, const struct tw_datagram *in);
bool relay_on_path(const struct path *p, const struct tw_datagram *in);
void relay_release(struct tw_relay *r, struct alloc *a, const char *why);
struct rsock *relay_sock(const struct tw_relay *r, uint32_t id);
struct rsock *relay_sock_new(struct tw_relay *r, uint32_t relay, uint16_t port);
struct rsock *relay_sock_new_connection(struct tw_relay *r, const struct rsock *from,
                                        struct connection *c);
void relay_sock_free(struct tw_relay *r, struct rsock *rs);
bool relay_sock_open(struct tw_relay *r, struct rsock *rs);
struct rsock *relay_sock_by_told(struct tw_relay *r, const struct tw_addr *told);
int relay_own_index(const struct tw_relay *r, const struct tw_addr *ip);
void relay_reservation_free(struct tw_relay *r, struct reservation *v, bool keep_sock);

/* foreign.c */
struct foreign *relay_foreign_find(struct tw_relay *r, const struct tw_datagram *in);
struct foreign *relay_foreign_new(struct tw_relay *r, const struct path *path, uint32_t worker,
                                  struct alloc *alloc);
void relay_foreign_forward(struct tw_relay *r, struct foreign *f, const struct tw_datagram *in,
                           struct tw_bytes bytes);
bool relay_foreign_request(struct tw_relay *r, const struct tw_datagram *in,
                           const struct tw_stun_msg *m);
void relay_foreign_drop(struct tw_relay *r, struct foreign *f);
void relay_foreign_gone(struct tw_relay *r, const struct path *path);
bool relay_elder(struct tw_relay *r, const struct tw_datagram *in, struct tw_bytes bytes);

/* mobility.c */
bool relay_ticket_serial(struct tw_relay *r, struct alloc *a);
void relay_add_ticket(struct tw_relay *r, struct tw_stun_enc *e, const struct alloc *a);
int relay_ticket_worker(const struct tw_relay *r, struct tw_bytes ticket);
struct alloc *relay_ticket_alloc(struct tw_relay *r, struct tw_bytes ticket);
unsigned relay_move(struct tw_relay *r, struct alloc *a, const struct tw_datagram *in);
void relay_forget_move(struct tw_relay *r, struct alloc *a);

/* tcp.c */
unsigned relay_connect(struct tw_relay *r, struct alloc *a, const struct tw_stun_msg *m,
                       const struct auth *auth);
unsigned relay_connection_bind(struct tw_relay *r, const struct tw_datagram *in,
                               const struct tw_stun_msg *m, const struct auth *auth);
void relay_connection_opened(struct tw_relay *r, struct connection *c, int error);
void relay_connection_free(struct tw_relay *r, struct connection *c);
void relay_connection_expired(struct tw_relay *r, struct connection *c);

/* behaviour.c */
void relay_answer_binding(struct tw_relay *r, const struct tw_datagram *in,
                          const struct tw_stun_msg *m);

/* perm.c */
struct permission *relay_perm_find(const struct alloc *a, const struct tw_addr *peer);
bool relay_permitted(const struct tw_relay *r, const struct alloc *a, const struct tw_addr *peer);
/* Of a guest's: whether this may go to that peer. What comes from it may make it wanted. */
bool relay_guest_may(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer, struct tw_bytes data);
void relay_guest_hears(struct alloc *a, const struct tw_addr *peer, struct tw_bytes data);
int relay_perm_room(struct tw_relay *r, struct alloc *a, uint32_t more);
void relay_perm_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer);
struct channel *relay_chan_by_number(const struct alloc *a, uint16_t number);
struct channel *relay_chan_by_peer(const struct alloc *a, const struct tw_addr *peer);
int relay_chan_room(struct tw_relay *r, struct alloc *a);
struct channel *relay_chan_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer,
                               uint16_t number);
enum own_peer relay_own_peer(const struct tw_relay *r, const struct tw_addr *peer);
bool relay_is_relayed(const struct tw_relay *r, const struct tw_addr *peer, bool tcp);
unsigned relay_judge_peer(struct tw_relay *r, const struct alloc *a, const struct tw_addr *peer);

/* request.c, allocate.c, data.c */
void relay_request(struct tw_relay *r, const struct tw_datagram *in, struct tw_bytes bytes);
void relay_allocate(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                    const struct auth *auth);
void relay_allocate_answer(struct tw_relay *r, struct alloc *a, const struct auth *auth);
void relay_from_client(struct tw_relay *r, const struct tw_datagram *in);
void relay_from_peer(struct tw_relay *r, struct rsock *rs, const struct tw_datagram *in,
                     bool inside);
void relay_data_indication(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer,
                           struct tw_bytes icmp, const struct tw_datagram *in,
                           struct tw_bytes data);
void relay_send_indication(struct tw_relay *r, const struct tw_datagram *in,
                           const struct tw_stun_msg *m);

#endif
