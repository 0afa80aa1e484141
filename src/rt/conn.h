/* A client's connection: TCP, TLS over it, or a DTLS association. Belongs to one worker. */
#ifndef TW_RT_CONN_H
#define TW_RT_CONN_H

#include <thalweg/addr.h>
#include <thalweg/bytes.h>

#include "base/timer.h"
#include "rt/tls.h"

enum { TW_RT_CONN_FRAME = 65536 }; /* the longest frame taken */

struct splice;
struct tw_rt_udp;
struct tw_ws;

struct conn {
    struct tw_timer timer; /* first member: handshake, retransmission, idleness */
    uint32_t id, gen;
    int fd;                /* -1: DTLS */
    enum {
        CONN_NEW,       /* nothing has come yet */
        CONN_HANDSHAKE,
        CONN_OPEN,
        CONN_JOINED,    /* bytes for a peer (RFC 6062) */
        CONN_CLOSED,
    } state;
    bool half_open, dirty;
    bool held;             /* not read until its ConnectionBind is answered: what comes behind may be
                              the peer's */
    bool told;             /* JOINED: the client was told the end */
    uint32_t watched;      /* events that epoll watches for */
    uint32_t source, half_source; /* slots in the tables of sources */
    struct tw_addr remote, local;
    gnutls_session_t tls;
    struct tw_rt_tls *cred;
    struct tw_ws *ws;      /* inside one; NULL: not */
    tw_time heard;

    uint8_t *rest;         /* the beginning of a frame that has not come whole */
    uint32_t rest_n;
    uint8_t *out;          /* to be sent */
    uint32_t out_n, out_at, out_cap;
    uint32_t in_flight;    /* bytes of out that TLS has taken but the socket has not */
    struct conn *next_dirty;
    struct splice *splice;

    struct tw_rt_udp *udp; /* DTLS: the listener, and the record being read */
    struct tw_bytes record;
    uint32_t hash;
};

/* Reads what is there, at most cap bytes. 0: nothing now; TW_EFULL: the end of the stream;
 * TW_ESYS, TW_ECRYPTO: broken. *ret_n on 0 is how much. */
TW_NODISCARD int conn_read(struct conn *c, uint8_t *to, size_t cap, size_t *ret_n);

/* Bytes to send: kept until conn_write(). False: there is no room. */
bool conn_put(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max);

/* Sends of what is kept as much as the socket takes. TW_ESYS, TW_ECRYPTO: broken. */
TW_NODISCARD int conn_write(struct conn *c);

static inline uint32_t conn_pending(const struct conn *c)
{
    return c->out_n - c->out_at;
}

/* Goes on with the handshake: 1 done, 0 not yet, TW_ECRYPTO. */
TW_NODISCARD int conn_handshake(struct conn *c);

#endif
