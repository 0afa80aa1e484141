/* A user's connection to a rendezvous server, as a pure machine over a byte stream.
 *
 * Life: tw_rdv_new() when the stream stands; bytes in by tw_rdv_recv(), out by tw_rdv_out(); HELLO, then
 * mailboxes and calls; CLOSED is the last event, tw_rdv_free(). */
#ifndef TW_RENDEZVOUS_CLIENT_H
#define TW_RENDEZVOUS_CLIENT_H

#include <thalweg/env.h>

#include "rendezvous/wire.h"

struct tw_rdv;

struct tw_rdv_config {
    const struct tw_ident *self; /* outlives it */
    struct tw_rdv_addr server;
    const char *token;           /* copied; NULL: none */
    bool prove;                  /* the token is not shown, but proved: a round trip later */
    uint64_t unix_ms;            /* our own clock's, which counts until the server's is known */
    uint64_t program;            /* drawn by lot for this one, */
    uint32_t number;             /* and which of its connections this is */
    const char *label;           /* what mailboxes are blinded with; NULL: the server's name; outlives it */
    bool listen;                 /* have a mailbox */
    bool unlisted;               /* but none that who knows only the key can find */
};

enum { TW_RDV_INVITES = 30 };    /* mailboxes for invites, at most */

enum tw_rdv_event_type {
    TW_RDV_HELLO,      /* hello: views until the next call */
    TW_RDV_REGISTERED, /* our mailbox is open */
    TW_RDV_REPLACED,   /* another one with our key took it */
    TW_RDV_DENIED,     /* the server gives us none */
    TW_RDV_CALL,       /* call, body: somebody's offer */
    TW_RDV_SIGNAL,     /* call, body */
    TW_RDV_DATAGRAM,   /* call, body */
    TW_RDV_GONE,       /* call, reason: it is over */
    TW_RDV_DRAIN,      /* the server will end soon */
    TW_RDV_CLOSED,     /* why: static; no_upgrade: it may do without a WebSocket (tunnel/poll.h) */
};

struct tw_rdv_event {
    enum tw_rdv_event_type type;
    uint32_t call;
    unsigned reason;
    struct tw_bytes body;
    const struct tw_rdv_hello *hello;
    bool no_upgrade;
    bool proving;      /* HELLO: another one follows, by which we may do more */
    const char *why;
};

TW_NODISCARD int tw_rdv_new(const struct tw_rdv_config *cfg, const struct tw_env *env, tw_time now,
                            struct tw_rdv **ret_rdv);
void tw_rdv_free(struct tw_rdv *r);
void tw_rdv_recv(struct tw_rdv *r, tw_time now, struct tw_bytes in);
void tw_rdv_tick(struct tw_rdv *r, tw_time now);
/* Bytes for the stream: gone with the next call. */
struct tw_bytes tw_rdv_out(struct tw_rdv *r);
bool tw_rdv_poll_event(struct tw_rdv *r, struct tw_rdv_event *ret_event);
tw_time tw_rdv_deadline(const struct tw_rdv *r);

/* What went another way is silent, and this may be dead, too: the server is asked at once, and for half a minute every 3 s; CLOSED if it
 * does not answer within 2 s and four round trips. */
void tw_rdv_doubt(struct tw_rdv *r, tw_time now);

/* Has said HELLO, and is not closed. */
bool tw_rdv_is_up(const struct tw_rdv *r);
/* How long an answer of its takes, smoothed; 0: not known. */
tw_time tw_rdv_rtt(const struct tw_rdv *r);
/* It is up, or the request is not out yet: then a call and its first datagrams go with that, a round trip sooner. */
bool tw_rdv_may_call(const struct tw_rdv *r);
/* Calls from before HELLO went to the mailboxes of another day than the server's. */
bool tw_rdv_was_other_day(const struct tw_rdv *r);
/* Has a mailbox for each of these invites, too, from now on; copied. n: up to TW_RDV_INVITES. */
void tw_rdv_invites(struct tw_rdv *r, tw_time now, const uint8_t (*secrets)[TW_INVITE_SIZE], size_t n);
/* Calls a key's mailbox, or, unless it is NULL, that of an invite. The answer is SIGNAL or GONE. TW_ESTATE: not now;
 * TW_EFULL: too long for before HELLO; TW_EMALFORMED: no such key; TW_EINVAL: too long; TW_ENOMEM. */
TW_NODISCARD int tw_rdv_call(struct tw_rdv *r, tw_time now, const struct tw_key *callee,
                             const uint8_t *invite, struct tw_bytes offer, uint32_t *ret_call);
TW_NODISCARD int tw_rdv_signal(struct tw_rdv *r, tw_time now, uint32_t call, struct tw_bytes body);
TW_NODISCARD int tw_rdv_datagram(struct tw_rdv *r, tw_time now, uint32_t call, struct tw_bytes body);
void tw_rdv_hangup(struct tw_rdv *r, tw_time now, uint32_t call, unsigned reason);

#endif
