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
    bool in_flight;        /* TLS has taken bytes of out that the socket has not */
    uint64_t written;      /* bytes that were in out, ever */
    struct conn_waiting *waiting; /* the messages in out; NULL: the socket takes all there is */
    struct conn *next_dirty;
    struct splice *splice;

    struct tw_rt_udp *udp; /* DTLS: the listener, and the record being read */
    struct tw_bytes record;
    uint32_t hash;
};

/* Reads what is there, at most cap bytes. 0: nothing now; TW_EFULL: the end of the stream;
 * TW_ESYS, TW_ECRYPTO: broken. *ret_n on 0 is how much. */
TW_NODISCARD int conn_read(struct conn *c, uint8_t *to, size_t cap, size_t *ret_n);

/* A message to send: kept until conn_write(). max: bytes that may wait. False: there is no room. */
bool conn_put(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max);

/* One that is better lost than late, as may be those put so before it: once the socket takes no more and max bytes wait,
 * the oldest of them go. Returns how many are lost; the new one may be among them. */
unsigned conn_put_datagram(struct conn *c, const struct tw_bytes *iov, size_t iov_n, uint32_t max);

/* Whether this is for that: data of an application, ChannelData and Data and Send indications among it, and no STUN
 * that somebody waits for. */
static inline bool conn_is_data(struct tw_bytes b)
{
    return b.n && (b.p[0] >> 6 != 0 || (b.n > 1 && b.p[0] == 0 && (b.p[1] == 0x16 || b.p[1] == 0x17)));
}

void conn_free_out(struct conn *c);

/* Sends of what is kept as much as the socket takes. TW_ESYS, TW_ECRYPTO: broken. */
TW_NODISCARD int conn_write(struct conn *c);

static inline uint32_t conn_pending(const struct conn *c)
{
    return c->out_n - c->out_at;
}

/* Goes on with the handshake: 1 done, 0 not yet, TW_ECRYPTO. */
TW_NODISCARD int conn_handshake(struct conn *c);

#endif
