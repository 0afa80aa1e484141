/* A stream of bytes both ways in requests and answers of HTTP, where something on the way takes off what a WebSocket needs
 * (docs/protocol.md §3.3). The last resort: what comes waits for a question.
 *
 * POST /thalweg/poll/SESSION/UP/DOWN: the body is what goes up, from byte UP of the stream on; DOWN is how many bytes have come
 * down. Without a body it is a question, which is answered when there is something, or after a while. */
#ifndef TW_TUNNEL_POLL_H
#define TW_TUNNEL_POLL_H

#include <thalweg/bytes.h>
#include <thalweg/env.h>

#include "tunnel/front.h"

#define TW_POLL_PATH TW_FRONT_PATH "/poll/"
enum { TW_POLL_SESSION = 32, TW_POLL_BODY = 32768, TW_POLL_HEAD = 256 };

/* --- the server's side ------------------------------------------------------------------------------- */

struct tw_poll_request {
    char session[TW_POLL_SESSION + 1];
    uint64_t up, down;
    struct tw_bytes body; /* a view */
};
/* TW_ESHORT: it has not come whole; TW_EMALFORMED: it is none, or too long. */
TW_NODISCARD int tw_poll_parse(struct tw_bytes in, struct tw_poll_request *ret, size_t *ret_used);
/* The head of an answer: 200 with so many bytes of body, or another status without. Returns its length. */
size_t tw_poll_answer(unsigned status, size_t body, char out[TW_POLL_HEAD]);

/* --- the client's, over two connections: 0 asks, 1 brings ---------------------------------------------- */

enum { TW_POLL_ASKS, TW_POLL_BRINGS, TW_POLL_CONNS };
struct tw_poll;

/* host: what Host says; copied. TW_ENOMEM. */
TW_NODISCARD int tw_poll_new(const char *host, const struct tw_env *env, struct tw_poll **ret_poll);
void tw_poll_free(struct tw_poll *p);
/* Takes as many bytes as there is room for. */
size_t tw_poll_send(struct tw_poll *p, struct tw_bytes in);
size_t tw_poll_room(const struct tw_poll *p);
/* What is to be sent on a connection: gone with the next call. */
struct tw_bytes tw_poll_out(struct tw_poll *p, unsigned conn);
/* What came on it; *ret_used of it. TW_EMALFORMED, TW_ENOTFOUND: it is over. */
TW_NODISCARD int tw_poll_recv(struct tw_poll *p, unsigned conn, struct tw_bytes in, size_t *ret_used);
/* It is lost: what was asked on it is asked again, on the next one. */
void tw_poll_lost(struct tw_poll *p, unsigned conn);
/* What has come down: a view until the next call; it is taken with tw_poll_took(). */
struct tw_bytes tw_poll_came(const struct tw_poll *p);
void tw_poll_took(struct tw_poll *p, size_t n);

#endif
