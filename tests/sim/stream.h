/* Connections with something on them: a proxy to be asked first, a handshake that stands for TLS, frames.
 * For machines on simulated hosts. */
#ifndef TW_SIM_STREAM_H
#define TW_SIM_STREAM_H

#include "sim.h"

enum { STREAMS = 64, STREAM_BUFFER = 70000, STREAM_TLS = 22 };

enum stream_framing {
    STREAM_STUN,    /* STUN messages and ChannelData (RFC 8656 §12.5) */
    STREAM_RFC4571, /* 16 bits of length before each */
    STREAM_RAW,     /* bytes as they come */
};

struct stream {
    uint32_t id;    /* 0: free */
    enum { STREAM_CONNECTING, STREAM_PROXY, STREAM_HELLO, STREAM_OPEN } state;
    enum stream_framing framing;
    bool tls;       /* client: begin with a ClientHello and wait for the answer */
    bool server;    /* whoever begins with a ClientHello gets an answer */
    struct tw_addr local, remote, target; /* target: for the proxy, family NONE: there is none */
    uint8_t *in;
    size_t n;
};

struct streams {
    struct sim_host *host;
    void *ctx;
    /* All of them are ready, whole frames have come, it is over. */
    void (*opened)(void *ctx, tw_time now, struct stream *s);
    void (*frames)(void *ctx, tw_time now, struct stream *s, struct tw_bytes bytes);
    void (*over)(void *ctx, tw_time now, const struct stream *gone);
    /* Of a listener: the id of a connection that has come, 0: none. NULL: no listeners. */
    uint32_t (*accepted)(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                         const struct tw_addr *remote);
    enum stream_framing accepts; /* framing of those */
    struct stream all[STREAMS];
};

/* After it, set what is to be called. */
void streams_init(struct streams *t, struct sim_host *h, void *ctx);
void streams_fini(struct streams *t);
/* proxy: family NONE: straight. */
void stream_connect(struct streams *t, uint32_t id, enum stream_framing framing, bool tls,
                    struct tw_addr local, struct tw_addr remote, struct tw_addr proxy);
struct stream *stream_find(struct streams *t, uint32_t id);
/* One frame: RFC 4571's length is put before it. */
void stream_send(struct streams *t, uint32_t id, const struct tw_bytes *iov, size_t iov_n);
void stream_close(struct streams *t, uint32_t id);

#endif
