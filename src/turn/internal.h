/* What the files of the TURN client share. */
#ifndef TW_TURN_INTERNAL_H
#define TW_TURN_INTERNAL_H

#include <thalweg/turn.h>

enum {
    EVENT_MAX = 32,
    HELD_MAX = 16,        /* datagrams waiting for a channel */
    MAX_DATA = 65000,
    MAX_CHALLENGES = 4,   /* 401 and 438 in a row before we give up */
    MAX_REDIRECTS = 3,
    CHANNEL_FIRST = 0x4000,
    CHANNEL_LAST = 0x4fff,
    CHANNEL_HEADER = 4,
    PERMISSION_SEC = 300, /* RFC 8656 §9 */
    CHANNEL_SEC = 600,    /* RFC 8656 §12 */
    REFRESH_EARLY_SEC = 60, /* RFC 8656 §8.1: about a minute before the end */
    ATTR_PAD = 0xC07A,    /* comprehension-optional, so that every server skips it */
    CHALLENGE_MAX = 100, /* what our server's 401 takes at most */
    TICKET_MAX = 256,
    BUILD_MAX = 2400,     /* name, realm and nonce at their longest, and the rest */
};

enum turn_state {
    TURN_IDLE,
    TURN_ALLOCATING,
    TURN_CLEARING,   /* ends the allocation of before that is in the way */
    TURN_READY,
    TURN_REFRESHING, /* ready, with a Refresh in flight */
    TURN_CLOSING,
    TURN_ENDED,
};

/* A request in flight and what came of it so far. */
struct request {
    struct tw_stun_txn txn;
    bool want;          /* to be sent at the next poll_tx */
    uint8_t challenges;
};

/* A peer's IP with a permission, or its transport address with a channel too. */
struct peer {
    struct tw_addr addr;
    bool keep;         /* refresh what it has */
    bool want_connect, connecting; /* a Connect is wanted; is in flight */
    bool want_channel; /* the request in flight, or the next one, is a ChannelBind */
    bool announced, bound_announced;
    uint16_t number;   /* 0: no channel yet */
    tw_time permitted_until, bound_until;
    tw_time refresh_at;
    tw_time used_at;   /* when it was last asked for, or sent to, or heard over its channel */
    struct request rq;
};

struct held {
    struct held *next;
    struct tw_addr peer;
    uint8_t tos;
    size_t n;
    uint8_t data[];
};

struct tw_turn {
    struct tw_turn_config cfg; /* strings are NULL: see below */
    struct tw_env env;
    struct tw_stun_cred cred;
    bool has_cred;
    char software[64];
    enum turn_state state;
    tw_time now;
    struct request main;       /* Allocate or Refresh */
    uint32_t lifetime;
    tw_time refresh_at, expires_at;
    struct tw_addr relayed[2], mapped;
    unsigned relayed_n;
    uint8_t redirects;
    bool cleared;              /* an allocation of before has been ended: once is enough */
    uint16_t next_channel;
    uint8_t ticket[TICKET_MAX];
    uint16_t ticket_n;         /* 0: none */
    bool moving;               /* the Refresh in flight goes out of move_sock */
    uint32_t move_sock;
    struct peer *peers;        /* room for max_peers */
    uint16_t peer_n;           /* that have been used */
    uint16_t last_peer;        /* the one used last */

    struct held *held, **held_tail, *sent_held;
    unsigned held_n;

    struct tw_turn_event events[EVENT_MAX];
    unsigned event_n, event_at;
    struct tw_datagram in;     /* what is being read piece by piece by poll_event */
    size_t in_off;
    struct tw_bytes in_bytes;

    struct tw_datagram out;    /* data from tw_turn_send() */
    bool has_out;
    struct tw_bytes iov[3];
    uint8_t head[80];
    uint8_t build[BUILD_MAX];
};

/* peer.c */
struct peer *turn_peer_find(struct tw_turn *t, const struct tw_addr *addr);
struct peer *turn_peer_permitting(const struct tw_turn *t, tw_time now, const struct tw_addr *addr);
struct peer *turn_peer_sharing(const struct tw_turn *t, const struct tw_addr *addr);
struct peer *turn_peer_add(struct tw_turn *t, const struct tw_addr *addr);
struct peer *turn_peer_of_channel(struct tw_turn *t, uint16_t number);
void turn_peer_start(struct tw_turn *t, struct peer *p);
void turn_peer_tick(struct tw_turn *t, struct peer *p);
void turn_peer_response(struct tw_turn *t, struct peer *p, const struct tw_stun_msg *m);
tw_time turn_peer_deadline(const struct peer *p);
bool turn_has_family(const struct tw_turn *t, const struct tw_addr *peer);

/* build.c: the bytes of a request, a view into t->build; empty when it does not fit. */
struct tw_bytes turn_build_main(struct tw_turn *t);
struct tw_bytes turn_build_peer(struct tw_turn *t, const struct peer *p);
struct tw_bytes turn_build_connection_bind(struct tw_stun_cred *cred, uint8_t *buf, size_t cap,
                                           const uint8_t tid[TW_STUN_TID], uint32_t connection);

/* data.c */
void turn_data_out(struct tw_turn *t, const struct tw_addr *peer, const struct peer *channel,
                   struct tw_bytes data, uint8_t tos, uint8_t flags);
bool turn_held_out(struct tw_turn *t);
void turn_held_drop(struct tw_turn *t, const struct tw_addr *peer);
void turn_held_sent(struct tw_turn *t);
size_t turn_next_piece(const struct tw_turn *t, size_t off);
bool turn_next_data(struct tw_turn *t, struct tw_turn_event *ret);

/* turn.c */
struct tw_turn_event *turn_event(struct tw_turn *t, enum tw_turn_event_type type);
void turn_lost(struct tw_turn *t, unsigned code, const char *why);
/* What this error says of the allocation itself; NULL: nothing, it is about the request. */
const char *turn_why_lost(unsigned code);
/* What a judged response means for a request: 1 it is an answer, 0 it was dealt with. */
int turn_judge(struct tw_turn *t, struct request *rq, const struct tw_stun_msg *m);

#endif
