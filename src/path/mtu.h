/* How large a datagram a path carries (after RFC 8899): probes of our own, a few bytes of header and
 * padding, acknowledged by the peer. */
#ifndef TW_PATH_MTU_H
#define TW_PATH_MTU_H

#include "secure/secure.h"

/* What a probe begins with: in the range that RFC 9443 leaves to nobody that shares our socket. */
enum { TW_MTU_PROBE = 0xa0, TW_MTU_ACK = 0xa1, TW_MTU_HEADER = 1 + 8 + 2, TW_MTU_BASE = TW_SECURE_MTU_MIN,
       TW_MTU_MAX = 1472 };

struct tw_mtu {
    size_t now;          /* bytes that surely arrive */
    unsigned step;       /* which size is tried; all tried: none is */
    unsigned tries;
    tw_time next;        /* when something is to be sent; TW_NEVER */
    tw_time verify_at;   /* when it is seen to that as much still arrives; TW_NEVER */
    tw_time since;       /* ... the first that large was sent */
    tw_time wait;        /* for an answer to a probe */
    unsigned verifying;  /* how often that was asked */
    uint8_t token[8];
    bool on;
};

/* The path has changed: from the beginning. probing: false where large packets are no use. */
void tw_mtu_reset(struct tw_mtu *m, tw_time now, bool probing, const uint8_t token[8]);
/* So large a datagram was sent, and something that was sent has been acknowledged at acked_at, 0: never: while such are, it is asked
 * again and again whether they arrive (RFC 8899 §4.3), and soon when there are no acknowledgements. rtt: 0: not known. */
void tw_mtu_sent(struct tw_mtu *m, tw_time now, size_t size, tw_time acked_at, tw_time rtt);
tw_time tw_mtu_deadline(const struct tw_mtu *m);
/* The probe that is due: its size; 0: none. buf: TW_MTU_MAX bytes. May find that a black hole is there: `now` is TW_MTU_BASE then. */
size_t tw_mtu_probe(struct tw_mtu *m, tw_time now, uint8_t *buf);
/* Whether these bytes are a probe or an acknowledgement. *ret_reply: TW_MTU_HEADER bytes to send back, or
 * none. */
bool tw_mtu_recv(struct tw_mtu *m, tw_time now, struct tw_bytes in, uint8_t *reply, size_t *ret_reply_n);

#endif
