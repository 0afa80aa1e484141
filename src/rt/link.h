/* A client's connection to a server on a libuv loop: TCP, TLS or DTLS. */
#ifndef TW_RT_LINK_H
#define TW_RT_LINK_H

#include <uv.h>

#include <thalweg/uri.h>

#include "rt/conn.h"
#include "rt/wait.h"
#include "tunnel/proxy.h"
#include "tunnel/ws.h"

struct tw_rt_link_config {
    enum tw_transport transport; /* not UDP */
    struct tw_addr server, local; /* local: family NONE for any */
    struct tw_rt_tls *tls;       /* for TLS and DTLS; outlives the link */
    const char *host;            /* whose certificate it must be; NULL: anybody's */
    const char *sni;             /* what the ClientHello names, and not the host; NULL: the host. Static */
    const uint8_t *pin;          /* or whose public key: the first bytes of its SHA-256; NULL: any; copied */
    const char *alpn;            /* static; NULL: TURN's */
    bool lenient;                /* another certificate is no reason to fail: `doubt` says what is wrong with it */
    const struct tw_proxy_url *proxy; /* whose address `server` is; NULL: none. Copied, as is */
    const char *target;          /* where it is to connect to, */
    uint16_t target_port;        /* with this port */
    const struct tw_ws_config *ws; /* inside a WebSocket, whose messages are pieces of the stream; NULL: not. Copied */
    int fd;                      /* a connection that stands already, the link's from then on; 0: none */
    uint32_t queue;              /* bytes that may wait to be sent; 0: TW_RT_LINK_QUEUE */
};
enum { TW_RT_LINK_QUEUE = 1 << 20 };

/* What a listener takes that does not know what comes: a stream as it is, or HTTP with an upgrade to WebSocket, or either of
 * them in TLS; the first byte tells. */
struct tw_rt_link_any {
    struct tw_rt_tls *tls;       /* NULL: no TLS; outlives the link */
    const struct tw_ws_config *ws;
};
enum { TW_RT_PIN = 16 };

struct tw_rt_link;
struct tw_rt_link_events {
    void (*on_open)(struct tw_rt_link *l);
    /* Bytes, or, over DTLS, one datagram. Returns how many were used: the rest, of a stream, is
     * given again with more behind it. */
    size_t (*on_data)(struct tw_rt_link *l, struct tw_bytes data);
    /* It could not be opened, or is over. Once; only tw_rt_link_close() is legal then. */
    void (*on_over)(struct tw_rt_link *l, const char *why);
    /* Of an adopted link, before all else and before TLS: the first bytes. Returns how many were for nobody behind it: more
     * than 0, or 0 if too few have come, or TW_RT_PREFACE_NONE: there is none, or TW_RT_PREFACE_BAD. NULL: not asked. */
    size_t (*on_preface)(struct tw_rt_link *l, struct tw_bytes first);
    /* Of tw_rt_link_adopt_any() with a WebSocket for any path: whether this one is served. */
    bool (*on_request)(struct tw_rt_link *l, const char *path);
    /* What was sent has waited so long, besides a round trip (rt/wait.h). NULL: it is not measured. */
    void (*on_wait)(struct tw_rt_link *l, tw_time wait);
};
#define TW_RT_PREFACE_NONE SIZE_MAX
#define TW_RT_PREFACE_BAD (SIZE_MAX - 1)

struct tw_rt_link {
    struct tw_rt_link_config cfg;
    const struct tw_rt_link_events *events;
    void *user;
    struct conn conn;
    uv_poll_t poll;
    int watched;                 /* for what it is polled */
    bool open, over;
    enum link_step { LINK_CONNECTS, LINK_PREFACE, LINK_PROXY, LINK_LOOKS, LINK_TLS, LINK_LOOKS_INSIDE, LINK_WS, LINK_STANDS } step;
    enum link_step after_preface;
    const char *doubt;           /* NULL: the server is who it should be, or nobody in particular; static */
    struct tw_proxy *proxy;
    struct tw_ws *ws, *ws_any;   /* ws_any: if the first bytes are HTTP */
    uint8_t *gathered;           /* for one message, GATHER bytes */
    size_t gathered_n;
    bool gathered_data;          /* may be lost, all of it */
    struct tw_rt_wait wait;
    uint8_t *in;
    size_t in_n;
    char host[TW_URI_HOST_MAX + 1];
    uint8_t pin[TW_RT_PIN];
    void (*on_closed)(struct tw_rt_link *l);
};

/* Starts connecting. TW_ESYS (errno), TW_ENOMEM, TW_ECRYPTO. */
TW_NODISCARD int tw_rt_link_open(struct tw_rt_link *l, uv_loop_t *loop,
                                 const struct tw_rt_link_config *cfg,
                                 const struct tw_rt_link_events *events, void *user);
/* The same for a TCP connection that somebody else made, to `remote`; fd is the link's from then on. tls: it
 * begins with TLS, and we are the server; on_open is then called, and otherwise not: it is open. TW_ESYS,
 * TW_ENOMEM, TW_ECRYPTO; fd is then still the caller's. */
TW_NODISCARD int tw_rt_link_adopt(struct tw_rt_link *l, uv_loop_t *loop, int fd,
                                  const struct tw_addr *remote, struct tw_rt_tls *tls,
                                  const char *alpn,
                                  const struct tw_rt_link_events *events, void *user);
/* The same for one of which nothing has been read: on_open comes when it is known what it is. */
TW_NODISCARD int tw_rt_link_adopt_any(struct tw_rt_link *l, uv_loop_t *loop, int fd, const struct tw_addr *remote,
                                      const struct tw_rt_link_any *any, const struct tw_rt_link_events *events,
                                      void *user);
/* Takes the connection out of a link that has no WebSocket: *ret_fd and *ret_session (NULL: no TLS) are the caller's, and
 * tw_rt_link_close() is still to be called. */
void tw_rt_link_detach(struct tw_rt_link *l, int *ret_fd, gnutls_session_t *ret_session);
/* Sends, now or as soon as there is room. Over DTLS each call is a datagram. False: too much waits
 * already, or it is not open. */
bool tw_rt_link_send(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n);
/* A datagram, framed already, not before tw_rt_link_flush(): several together are sent better. Over a stream that is too
 * slow the oldest are lost that are data (conn_is_data()), and otherwise this one, as on a network. */
void tw_rt_link_put(struct tw_rt_link *l, const struct tw_bytes *iov, size_t iov_n, bool data);
void tw_rt_link_flush(struct tw_rt_link *l);
/* Bytes that wait to be sent. */
size_t tw_rt_link_pending(const struct tw_rt_link *l);
/* Closes; on_closed (may be NULL) comes from the loop, after which l may be freed or used again. */
void tw_rt_link_close(struct tw_rt_link *l, void (*on_closed)(struct tw_rt_link *l));

#endif
