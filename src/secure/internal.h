#ifndef TW_SECURE_INTERNAL_H
#define TW_SECURE_INTERNAL_H

#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "base/map.h"
#include "secure/buf.h"
#include "secure/secure.h"

enum {
    CID_LEN = 8,
    STREAMS_MAX = 128,         /* open at once, of each side's */
    SEND_MAX = 4 << 20,        /* bytes that wait on one stream to be acknowledged */
    DATAGRAMS_MAX = 64,        /* that wait to be sent or to be taken */
    HEARD = 0xa2,              /* what answers a goodbye begins with: as the path's probes do, no packet of QUIC's */
    HEARD_OF = 16,             /* the goodbye's last bytes, which no other packet has */
};
#define BYE_WITHIN_MIN (500 * TW_MSEC)
#define BYE_WITHIN_MAX (3 * TW_SEC)
#define BYE_WAIT_MIN (50 * TW_MSEC)
#define BYE_WAIT_MAX (250 * TW_MSEC) /* a path that has just changed may have a PTO of seconds */

/* A stream. In the ready list while it has something to tell, in the send list while it has something to
 * send. */
struct stream {
    struct stream *next_ready, *next_send;
    int64_t id;
    struct buf rx, tx;
    size_t sent;               /* of tx: given to QUIC, not acknowledged */
    uint64_t code;
    bool ready, sending;
    bool fresh;                /* the peer's, not told yet */
    bool readable, writable;   /* to be told */
    bool full;                 /* the writer was told to wait */
    bool rx_end, rx_end_told;
    bool fin, fin_sent;
    bool blocked;              /* by the peer's flow control */
    bool dead;                 /* QUIC has forgotten it */
};

struct datagram {
    struct datagram *next;
    size_t n;
    uint8_t b[];
};

struct datagrams {
    struct datagram *head, *tail;
    size_t n;
};

struct tw_secure {
    struct tw_secure_config cfg;
    struct tw_env env;
    tw_time now;
    ngtcp2_conn *conn;         /* of a server: NULL until the first packet */
    ngtcp2_crypto_conn_ref ref;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t cred;
    struct sockaddr_in local, remote; /* labels */
    ngtcp2_path path;
    size_t mtu;
    struct tw_map streams;
    struct stream *ready, **ready_tail, *send, **send_tail;
    struct datagrams out, in;
    struct datagram *shown;    /* the one the last event is a view of */
    struct tw_bytes iov;
    tw_time last_switch;
    unsigned switches;         /* since something was acknowledged */
    bool switch_wanted, alive; /* the path has changed, and QUIC is not told yet; it is known to work */
    tw_time wanted_at;
    bool anew_wanted;          /* though the path has not changed */
    tw_time anew_at;           /* last wanted */
    tw_time quiet_at;          /* of a client: until then it says something each second; 0: it need not */
    tw_time acked_at;          /* something was, since the path changed; 0: nothing */
    tw_time ahead;             /* of the time, QUIC's clock */
    uint64_t flight;           /* bytes sent and not acknowledged, nor given up ... */
    tw_time flight_at;         /* ... when some of those were, or joined them */
    tw_time progress_at;       /* ... when some of those were */
    tw_time hurried_at;        /* what is lost was sent again */
    tw_time patience, look_at; /* how long that may be; when it is looked at again, TW_NEVER */
    uint8_t looks, hurry;      /* hurry: so many timers may be hurried until what is lost is sent again */
    bool heard;                /* a packet under the right Initial keys has come */
    bool completed, completed_told, confirmed, confirmed_told;
    bool closing, closed, closed_told, by_peer;
    struct datagram *bye;      /* ours, which is sent until it is answered, or until bye_until */
    tw_time bye_at, bye_wait, bye_until; /* at: again */
    bool bye_due;
    uint8_t heard_bye[HEARD_OF]; /* the end of the peer's, to be answered */
    bool answer_due;
    uint64_t code, dropped, bytes_sent, bytes_received, datagrams_acked, datagrams_lost;
    char reason[TW_SECURE_REASON_MAX + 1];
};

/* Something of ours has arrived. */
static inline void secure_acked(struct tw_secure *s)
{
    s->acked_at = s->now;
    s->switches = 0;
}

/* --- path.c --- */
/* What QUIC believes the time to be. */
static inline ngtcp2_tstamp secure_clock(const struct tw_secure *s)
{
    return (ngtcp2_tstamp)(s->now + s->ahead);
}
void secure_path_init(struct tw_secure *s);
/* Something is about to be read; has been read, or written. */
void secure_path_heard(struct tw_secure *s);
void secure_path_read(struct tw_secure *s);
void secure_path_sent(struct tw_secure *s);
void secure_path_tick(struct tw_secure *s);
tw_time secure_path_deadline(const struct tw_secure *s);

/* --- tls.c --- */
/* The TLS session for conn, whose keys they are. */
TW_NODISCARD int secure_tls_start(struct tw_secure *s);
void secure_tls_end(struct tw_secure *s);
int secure_client_initial(ngtcp2_conn *conn, void *user);
int secure_recv_client_initial(ngtcp2_conn *conn, const ngtcp2_cid *dcid, void *user);
const char *secure_tls_why(struct tw_secure *s);

/* --- version.c --- */
/* Changes the version number of every long header in a datagram. */
void secure_set_version(uint8_t *p, size_t n, uint32_t version);
#define SECURE_VERSION_ON_WIRE 0x54570001U

/* --- stream.c --- */
struct stream *secure_stream_find(struct tw_secure *s, int64_t id);
struct stream *secure_stream_add(struct tw_secure *s, int64_t id);
void secure_stream_ready(struct tw_secure *s, struct stream *t);
void secure_stream_sendable(struct tw_secure *s, struct stream *t);
/* The next that may send, taken off the list; NULL: none. */
struct stream *secure_stream_next(struct tw_secure *s);
void secure_streams_free(struct tw_secure *s);
int secure_on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t n, void *user, void *stream_user);
int secure_on_acked(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t n, void *user,
                    void *stream_user);
int secure_on_stream_close(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream_user);
int secure_on_stream_reset(ngtcp2_conn *conn, int64_t id, uint64_t final_size, uint64_t code, void *user,
                           void *stream_user);
int secure_on_stop_sending(ngtcp2_conn *conn, int64_t id, uint64_t code, void *user, void *stream_user);
int secure_on_more_stream_data(ngtcp2_conn *conn, int64_t id, uint64_t max, void *user,
                               void *stream_user);
/* The next event of a stream. */
bool secure_stream_event(struct tw_secure *s, struct tw_secure_event *ret_event);

#endif
