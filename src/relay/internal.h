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
    MAX_FOREIGN = 4096,    /* clients whose allocation another worker owns */
    OPEN_TRIES = 8,        /* ports tried when binding fails */
    RESERVATION_SEC = 30,  /* RFC 8656 §7.2: a reserved port is kept at least 30 s */
    OPENING_SEC = 30,
    FOREIGN_SEC = 60,      /* until the client shows that it has an allocation there */

    TX_MAX = 256,
    IOV_MAX_OUT = 1024,
    SCRATCH = 24576,
    EVENT_MAX = 64,
    EVENTS_PER_REQUEST = 4, /* the most one request can cause */
    HANDOVER_MAX = 128,
    REPLY_MAX = 1280,
};

/* RFC 8656 §9: by IP address. Sorted by address within an allocation. */
struct permission {
    struct tw_addr ip;
    tw_time until;
};

/* RFC 8656 §12: by transport address. Sorted by peer within an allocation. */
struct channel {
    struct tw_addr peer;
    tw_time until;
    tw_time permitted; /* until when the permission for the peer's address holds */
    uint16_t number;
    uint8_t own;       /* enum own_peer */
};

/* What a peer's IP is to this server. */
enum own_peer {
    PEER_ELSEWHERE,
    PEER_OWN,         /* a relay address of ours: only live relayed addresses on it may be peers */
    PEER_OWN_ALLOWED, /* the same, but policy allows everything on it */
};

struct alloc;

/* A relayed transport address. */
struct rsock {
    struct alloc *owner;   /* NULL: reserved by a token, or given up while it is being opened */
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
};

struct alloc {
    struct tw_timer timer; /* first member: the timer is the allocation */
    struct tw_addr client, local;
    uint32_t listener;
    uint32_t hash;
    uint32_t home;         /* the worker at which the client's datagrams arrive */
    uint8_t state;         /* enum alloc_state */
    uint8_t opening;       /* OPENs not answered yet */
    uint8_t wanted;        /* bit per family */
    bool has_token;
    bool draft_families;   /* both families were asked for with the draft's attribute */
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
};

/* A client whose allocation lives at another worker. */
struct foreign {
    struct tw_timer timer;
    struct tw_addr client, local;
    uint32_t listener, hash, worker;
};

/* The three kinds of thing a timer can belong to have heaps of their own. */
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
    struct alloc *last;       /* the client heard last */
    struct rsock **socks;     /* by id - TW_RELAY_FIRST_SOCK */
    uint32_t sock_cap, sock_free; /* sock_free: where to look for a free id */
    struct reservation *reservations;
    struct tw_timers alloc_timers, reservation_timers, foreign_timers;

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
bool relay_authenticate(struct tw_relay *r, const struct tw_datagram *in,
                        const struct tw_stun_msg *m, struct auth *ret_auth);

/* reply.c: answers to requests */
struct reply {
    struct tw_stun_enc e;
    const struct auth *auth;
};
bool relay_reply_begin(struct tw_relay *r, struct reply *p, enum tw_stun_class cls, unsigned method,
                       const uint8_t tid[TW_STUN_TID], const struct auth *auth);
void relay_reply_send(struct tw_relay *r, struct reply *p, uint32_t listener,
                      const struct tw_addr *local, const struct tw_addr *client);
void relay_error(struct tw_relay *r, const struct tw_datagram *in, const struct tw_stun_msg *m,
                 const struct auth *auth, unsigned code);

/* alloc.c: the tables */
uint32_t relay_hash_addr(const struct tw_relay *r, const struct tw_addr *a);
struct alloc *relay_find(struct tw_relay *r, const struct tw_datagram *in);
struct alloc *relay_alloc_new(struct tw_relay *r, const struct tw_datagram *in);
void relay_release(struct tw_relay *r, struct alloc *a, const char *why);
struct rsock *relay_sock(const struct tw_relay *r, uint32_t id);
struct rsock *relay_sock_new(struct tw_relay *r, uint32_t relay, uint16_t port);
void relay_sock_free(struct tw_relay *r, struct rsock *rs);
bool relay_sock_open(struct tw_relay *r, struct rsock *rs);
struct rsock *relay_sock_by_told(struct tw_relay *r, const struct tw_addr *told);
int relay_own_index(const struct tw_relay *r, const struct tw_addr *ip);
void relay_reservation_free(struct tw_relay *r, struct reservation *v, bool keep_sock);

/* foreign.c */
struct foreign *relay_foreign_find(struct tw_relay *r, const struct tw_datagram *in);
void relay_foreign_forward(struct tw_relay *r, struct foreign *f, const struct tw_datagram *in);
bool relay_foreign_token(struct tw_relay *r, const struct tw_datagram *in,
                         const struct tw_stun_msg *m);
void relay_foreign_drop(struct tw_relay *r, struct foreign *f);

/* perm.c */
struct permission *relay_perm_find(const struct alloc *a, const struct tw_addr *peer);
bool relay_permitted(const struct tw_relay *r, const struct alloc *a, const struct tw_addr *peer);
int relay_perm_room(struct tw_relay *r, struct alloc *a, uint32_t more);
void relay_perm_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer);
struct channel *relay_chan_by_number(const struct alloc *a, uint16_t number);
struct channel *relay_chan_by_peer(const struct alloc *a, const struct tw_addr *peer);
int relay_chan_room(struct tw_relay *r, struct alloc *a);
struct channel *relay_chan_set(struct tw_relay *r, struct alloc *a, const struct tw_addr *peer,
                               uint16_t number);
enum own_peer relay_own_peer(const struct tw_relay *r, const struct tw_addr *peer);
unsigned relay_judge_peer(const struct tw_relay *r, const struct alloc *a,
                          const struct tw_addr *peer);

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
