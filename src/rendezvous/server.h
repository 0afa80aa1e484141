/* The rendezvous server as a pure machine: mailboxes, calls between them, and a bounded path for the
 * first packets. It reads nothing but names of mailboxes: what is in a call is sealed.
 *
 * Life: tw_desk_new(); for each connection that came in tw_desk_connected(), its bytes with
 * tw_desk_recv(), tw_desk_disconnected(); tw_desk_free(). */
#ifndef TW_RENDEZVOUS_SERVER_H
#define TW_RENDEZVOUS_SERVER_H

#include <thalweg/env.h>

#include "rendezvous/wire.h"

struct tw_desk;

struct tw_desk_config {
    bool open;                       /* anybody gets a mailbox */
    const char *const *tokens;       /* who has one of these gets one; borrowed while it lives */
    size_t token_n;
    const char *page;                /* static: HTML for who comes with a browser; NULL: none */
    const struct tw_rdv_server *servers; /* recommended; borrowed. username and password are filled in
                                            for each client from `secret` when that is not empty */
    size_t server_n;
    struct tw_bytes secret;          /* of time-limited names (tw_relay_timed_password()); NUL-terminated */
    unsigned lifetime;               /* of such a name, seconds */
    uint32_t max_clients;            /* connections */
    uint32_t max_per_source;         /* of one address, or IPv6 /64; 0: as many as it likes */
    tw_time fresh_until;             /* those who were here before it was started may not be back until then; 0: nobody was */
    uint32_t patch_rate;             /* bytes a second that go directly from caller to callee, per call */
};

enum { TW_DESK_CALLS = 64, TW_DESK_MAILBOXES = 64 }; /* of one connection, by default */

struct tw_desk_stats {
    uint32_t clients, mailboxes, calls; /* now */
    uint64_t registered, called, not_here, busy, signals, datagrams, dropped, bytes;
};

TW_NODISCARD int tw_desk_new(const struct tw_desk_config *cfg, const struct tw_env *env, struct tw_desk **ret_desk);
void tw_desk_free(struct tw_desk *d);
/* What the clock on the wall says, in milliseconds since 1970. */
void tw_desk_clock(struct tw_desk *d, tw_time now, uint64_t unix_ms);
/* TW_EFULL: too many, or too many from there; close it. TW_ENOMEM. */
TW_NODISCARD int tw_desk_connected(struct tw_desk *d, tw_time now, uint32_t conn, const struct tw_addr *remote);
void tw_desk_recv(struct tw_desk *d, tw_time now, uint32_t conn, struct tw_bytes in);
void tw_desk_disconnected(struct tw_desk *d, tw_time now, uint32_t conn);
/* How many bytes wait to be sent to it: where that is much, what may be dropped is. */
void tw_desk_backlog(struct tw_desk *d, uint32_t conn, size_t bytes);
/* Tells everybody to go elsewhere; nobody new is taken. */
void tw_desk_drain(struct tw_desk *d, tw_time now);
void tw_desk_tick(struct tw_desk *d, tw_time now);
tw_time tw_desk_deadline(const struct tw_desk *d);
/* Bytes for a connection, gone with the next call; close: and then close it. */
bool tw_desk_poll_tx(struct tw_desk *d, uint32_t *ret_conn, struct tw_bytes *ret_bytes, bool *ret_close);
const struct tw_desk_stats *tw_desk_stats(const struct tw_desk *d);

#endif
