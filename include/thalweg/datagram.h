/* A datagram on its way in or out of a machine. */
#ifndef THALWEG_DATAGRAM_H
#define THALWEG_DATAGRAM_H

#include <thalweg/addr.h>
#include <thalweg/bytes.h>

#define TW_DGRAM_DF 0x01 /* must not be fragmented on the way (IPv4 DF set; IPv6 no fragments) */

/* One datagram, or, when segment is not 0, a run of them between the same two addresses: the bytes
 * are cut every `segment` bytes, the last piece may be shorter. Received runs (GRO) go in whole and
 * leave whole (GSO).
 *
 * In: iov has one element. Out: iov may have many, whose boundaries mean nothing; what they point
 * to is owned by the machine or is part of the input it was given, and is valid until the next
 * call on the machine that is not a poll. */
struct tw_datagram {
    uint32_t sock;    /* which socket: an id the runtime and the machine agreed on */
    uint16_t segment; /* bytes per piece, 0: a single datagram */
    uint8_t tos;      /* DSCP << 2 | ECN */
    uint8_t ttl;      /* hop limit; 0: not known (in), the system's default (out) */
    uint8_t flags;    /* TW_DGRAM_* */
    struct tw_addr src, dst;
    const struct tw_bytes *iov;
    size_t iov_n;
};

#endif
