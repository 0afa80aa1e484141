/* WebSocket (RFC 6455) as a pure machine: HTTP/1.1 Upgrade, then binary messages, over bytes that somebody
 * else carries. Both sides; frames are wslay's work. */
#ifndef TW_TUNNEL_WS_H
#define TW_TUNNEL_WS_H

#include <thalweg/bytes.h>
#include <thalweg/env.h>

struct tw_ws;

struct tw_ws_config {
    bool server;
    const char *path;      /* what is asked for, copied; of a server: what it serves, static, or NULL: REQUEST says */
    const char *protocol;  /* static: Sec-WebSocket-Protocol */
    const char *host;      /* client: what Host says; copied */
    const char *token;     /* client: Authorization: Bearer; NULL: none; copied */
    const char *page;      /* server, static: HTML for who opens "/" with a browser; NULL: there is none */
    size_t max_message;    /* bytes of the longest that is taken */
    bool early;            /* messages may be in the request already: docs/protocol.md §3 */
};

enum tw_ws_event_type {
    TW_WS_REQUEST, /* data: the path that is asked for: tw_ws_answer() */
    TW_WS_OPEN,    /* messages may be sent; of a server: data is the bearer's token, may be empty, early how many
                      messages were in the request: the next ones */
    TW_WS_MESSAGE, /* data: a view until the next call */
    TW_WS_CLOSED,  /* why: static. Send what tw_ws_out() still has, then close */
};

struct tw_ws_event {
    enum tw_ws_event_type type;
    struct tw_bytes data;
    const char *why;
    uint8_t early;
};

/* TW_ENOMEM. */
TW_NODISCARD int tw_ws_new(const struct tw_ws_config *cfg, const struct tw_env *env, struct tw_ws **ret_ws);
void tw_ws_free(struct tw_ws *w);
/* Bytes of the peer's. What was wrong shows as CLOSED. */
void tw_ws_recv(struct tw_ws *w, struct tw_bytes in);
/* Of a REQUEST: whether that is served. */
void tw_ws_answer(struct tw_ws *w, bool yes);
enum { TW_WS_EARLY_MAX = 4000 }; /* bytes of all early messages, with two for the length of each */

/* A message of several parts. TW_ESTATE: not open, and not early or too late for that; TW_EFULL: early, and too much
 * for a request; TW_ENOMEM. */
TW_NODISCARD int tw_ws_send(struct tw_ws *w, const struct tw_bytes *parts, size_t n);
/* Bytes of a stream, in messages of at most max bytes. As tw_ws_send(). */
TW_NODISCARD int tw_ws_send_stream(struct tw_ws *w, const struct tw_bytes *parts, size_t n, size_t max);
/* Of a client: the server has read so many of the early messages; those behind them are sent as others are. */
void tw_ws_early_taken(struct tw_ws *w, uint8_t n);
/* Of a client that has not asked yet: messages would be early ones. */
bool tw_ws_is_early(const struct tw_ws *w);
/* Says goodbye. */
void tw_ws_close(struct tw_ws *w);
/* Bytes to send, all that there are: they are gone with the next call of any kind. The first call makes the request. */
struct tw_bytes tw_ws_out(struct tw_ws *w);
bool tw_ws_poll_event(struct tw_ws *w, struct tw_ws_event *ret_event);
/* It is CLOSED because a web server did not want to change to WebSocket: something on the way may have taken that off. */
bool tw_ws_was_refused(const struct tw_ws *w);
bool tw_ws_is_open(const struct tw_ws *w);

#endif
