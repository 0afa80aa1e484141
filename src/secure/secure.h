/* One QUIC connection (RFC 9000, RFC 9001) between two keys, as a pure machine: streams and datagrams
 * inside TLS 1.3 by raw public keys (RFC 7250) on both sides.
 *
 * It knows no addresses. What it sends goes over whatever path there is, what comes from any is given to
 * it; a switch is shown to both ends' QUIC as a migration between made-up addresses, so that congestion
 * control and round-trip time start anew (tw_secure_new_path).
 *
 * Initial keys derive from a secret that both know before (the offer's): who does not have it can neither
 * make the server answer nor read the handshake's first flight. Version number on the wire: 0x54570001.
 *
 * Life: tw_secure_new(); recv, tick, poll; CONNECTED once both have judged the other's key; streams may be
 * opened from READY on. CLOSED is the last event; tw_secure_free(). */
#ifndef TW_SECURE_SECURE_H
#define TW_SECURE_SECURE_H

#include <thalweg/datagram.h>
#include <thalweg/ident.h>

#define TW_SECURE_MTU_MIN 1200        /* RFC 9000 §14 */
#define TW_SECURE_MTU_MAX 8192        /* bytes of a packet we ever make; on a stream that is a matter of CPU only */
#define TW_SECURE_DATAGRAM_MAX 1100   /* bytes of a datagram: fits whatever the path's MTU is */
#define TW_SECURE_BATCH (44 * 1472)   /* size of tx_buf: a run for one segmented send */
#define TW_SECURE_REASON_MAX 120

struct tw_secure;

struct tw_secure_config {
    bool server;
    const struct tw_ident *self; /* outlives the connection */
    struct tw_key peer;          /* the only key that is let in */
    uint8_t secret[32];
    bool no_aes;                 /* the CPU has no AES: ChaCha20 first */
    uint8_t *tx_buf;             /* TW_SECURE_BATCH bytes, may be shared by all connections of a thread:
                                    what poll_tx gave is in it until the next poll_tx of any */
    void (*keylog)(void *ctx, const char *line); /* NULL, unless the user wants to decrypt captures */
    void *keylog_ctx;
    void (*qlog)(void *ctx, const void *data, size_t n); /* pieces of a qlog file; NULL: none is wanted */
    void *qlog_ctx;
};

enum tw_secure_event_type {
    TW_SECURE_READY,     /* the peer has proved its key: streams can be opened, what they carry is safe */
    TW_SECURE_CONNECTED, /* and it has accepted ours */
    TW_SECURE_STREAM,    /* stream: the peer opened it */
    TW_SECURE_READABLE,  /* stream: there is data, or its end */
    TW_SECURE_WRITABLE,  /* stream: tw_secure_write() will take something again */
    TW_SECURE_ENDED,     /* stream: over in both directions, or broken off with `code`; forget its number */
    TW_SECURE_DATAGRAM,  /* data: a view until the next poll */
    TW_SECURE_CLOSED,    /* code, reason, by_peer */
};

struct tw_secure_event {
    enum tw_secure_event_type type;
    int64_t stream;
    uint64_t code;
    struct tw_bytes data;
    const char *reason;
    bool by_peer;
};

/* Application error codes of CONNECTION_CLOSE and RESET_STREAM. */
#define TW_SECURE_BYE 0
#define TW_SECURE_LOST 1    /* no path any more */
#define TW_SECURE_REFUSED 2

/* TW_ENOMEM, TW_ECRYPTO. */
TW_NODISCARD int tw_secure_new(const struct tw_secure_config *cfg, const struct tw_env *env, tw_time now,
                               struct tw_secure **ret_secure);
void tw_secure_free(struct tw_secure *s);

/* A datagram, or a run of them, of the peer's. What is not right is dropped and counted. */
void tw_secure_recv(struct tw_secure *s, tw_time now, const struct tw_datagram *in);
void tw_secure_tick(struct tw_secure *s, tw_time now);
/* Only iov, iov_n, segment and tos of *ret_out are set. */
bool tw_secure_poll_tx(struct tw_secure *s, struct tw_datagram *ret_out);
bool tw_secure_poll_event(struct tw_secure *s, struct tw_secure_event *ret_event);
tw_time tw_secure_deadline(const struct tw_secure *s);

/* Data goes over another path from now on: congestion control begins anew as soon as that is known to work. */
void tw_secure_new_path(struct tw_secure *s, tw_time now);
/* It works now, and a round trip takes so long: something has just come that says that the peer hears us. What was sent long before that
 * and has not been acknowledged is lost, and is sent again. */
void tw_secure_alive(struct tw_secure *s, tw_time now, tw_time rtt);
/* How large a datagram the path carries: TW_SECURE_MTU_MIN .. TW_SECURE_MTU_MAX. */
void tw_secure_set_mtu(struct tw_secure *s, tw_time now, size_t mtu);

/* TW_EFULL: the peer allows no more for now. TW_ESTATE: closed. TW_ENOMEM. */
TW_NODISCARD int tw_secure_open(struct tw_secure *s, tw_time now, int64_t *ret_stream);
/* Takes as much as there is room for, *ret_n; WRITABLE comes once there is more. fin, if all was taken:
 * that was the end. TW_ENOTFOUND: no such stream; TW_ESTATE: its end was sent already. TW_ENOMEM. */
TW_NODISCARD int tw_secure_write(struct tw_secure *s, tw_time now, int64_t stream, struct tw_bytes data,
                                 bool fin, size_t *ret_n);
/* What has come, without taking it: a view until the next call on the stream. *ret_end: nothing comes
 * behind it. TW_ENOTFOUND. */
TW_NODISCARD int tw_secure_peek(struct tw_secure *s, int64_t stream, struct tw_bytes *ret_data,
                                bool *ret_end);
/* Takes n of what peek showed: the peer may send as much more. */
void tw_secure_take(struct tw_secure *s, tw_time now, int64_t stream, size_t n);
/* Breaks a stream off, both ways. */
void tw_secure_reset(struct tw_secure *s, tw_time now, int64_t stream, uint64_t code);
/* TW_EINVAL: larger than TW_SECURE_DATAGRAM_MAX; TW_EFULL: too many wait; TW_ENOMEM. */
TW_NODISCARD int tw_secure_send_datagram(struct tw_secure *s, tw_time now, struct tw_bytes data);
/* Says goodbye, again and again until the peer has heard it: then CLOSED comes, or after three PTOs (RFC 9000 §10.2; 0.5 to 3 s); at
 * once before READY. reason: what the peer is told. */
void tw_secure_close(struct tw_secure *s, tw_time now, uint64_t code, const char *reason);

struct tw_secure_stats {
    tw_time rtt, min_rtt, jitter; /* smoothed; 0: not measured; jitter: mean deviation */
    uint64_t datagrams_acked, datagrams_lost; /* of those we sent */
    uint64_t sent, received;  /* bytes of packets */
    uint64_t window;          /* congestion window in bytes */
    uint64_t dropped;         /* packets that were not the peer's, or not of this connection */
};
/* Something was sent, and for two seconds nothing has been acknowledged. */
bool tw_secure_is_stuck(const struct tw_secure *s, tw_time now);
/* When data of ours was acknowledged last; 0: not since the path changed. */
tw_time tw_secure_acked_at(const struct tw_secure *s);
void tw_secure_stats(const struct tw_secure *s, struct tw_secure_stats *ret_stats);

#endif
