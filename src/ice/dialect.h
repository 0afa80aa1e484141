/* How we speak with which kind of peer: one table, chosen once. */
#ifndef TW_ICE_DIALECT_H
#define TW_ICE_DIALECT_H

#include <stdbool.h>
#include <stdint.h>

#include <thalweg/time.h>

struct dialect {
    tw_time ta;          /* between the first checks of two pairs */
    uint8_t burst;       /* how many may start at once all the same */
    tw_time rto;         /* before the first repetition; doubles */
    tw_time rto_max;
    uint8_t sends;       /* of one check over UDP, in all ... */
    uint8_t relay_sends; /* ... and from a relay */
    uint8_t rm;          /* after the last one, wait rm x the last wait ... */
    tw_time late;        /* ... and at least so long: what is lost on TCP to a relay comes late */
    bool freeze;         /* RFC 8445 §6.1.2.6 */
    tw_time nominate_direct, nominate_relay; /* how long the controlling agent waits for something
                                                better than the first valid pair */
    tw_time consent;     /* between checks of the path while it carries data */
    tw_time keep;        /* between keepalives while it carries none */
    tw_time spare;       /* between checks of the pairs kept in reserve; 0: none are kept */
    unsigned spares;
};

/* Towards agents of our kind: everything at once, repeated within a round trip. */
extern const struct dialect ice_dialect_own;
/* Towards all others: RFC 8445 §14, RFC 7675 §5.1. */
extern const struct dialect ice_dialect_rfc;

#endif
