#ifndef TW_ENDPOINT_INTERNAL_H
#define TW_ENDPOINT_INTERNAL_H

#include <thalweg/endpoint.h>

#include "base/map.h"
#include "base/timer.h"
#include "path/mtu.h"
#include "rendezvous/client.h"
#include "rendezvous/offer.h"
#include "secure/secure.h"

enum {
    LINKS_MAX = 16,
    SLOTS_MAX = TW_ENDPOINT_CONNS_MAX + 1, /* with the spare one */
    SOCK_BITS = TW_ENDPOINT_SOCK_BITS, /* of a socket's number: the agent's own; above: which agent */
    SLOT_LINKS = SLOTS_MAX,      /* that "agent" is the links */
    PREKEYS = 3,
    KNOWN_MAX = 64,              /* peers whose prekey is remembered */
};

#define LOST_WITHIN (600 * TW_SEC) /* so long a connection lives without any way */
#define LAN_LABEL "lan"
enum { HISTORY = 16 };           /* ways of a connection that are remembered */
#define FRESH_MS (120 * 1000)    /* how far two clocks may be apart */

/* A connection to a rendezvous server. */
struct link {
    struct tw_rdv_addr server;
    bool used, own;              /* own: of the configuration; others are kept while used, and a while */
    bool draining;               /* its server is about to end; another link to it has been begun */
    bool lan;                    /* in this network: our own (own), or a peer's */
    enum { LINK_WAIT, LINK_OPENING, LINK_UP } state;
    uint32_t gen;
    const char *token;
    bool polled;                 /* without a WebSocket, which something on the way takes off */
    bool doubted;                /* it may be somebody else, or be overheard: the token is proved, not shown */
    struct tw_rdv *rdv;
    struct tw_addr local, remote; /* local, family NONE: not known */
    tw_time retry_at, retry_wait, used_at;
    uint8_t misses;              /* attempts in a row to reach it that came to nothing */
    tw_time began_at, took;      /* the last attempt; how long the last took that came to something, 0: none has */
    bool online, replaced;
    tw_time fresh_until;         /* its server was just started: who was there before may not be back yet */
    const char *why;             /* it is not up: the last reason */
    struct tw_ice_server servers[TW_RDV_SERVERS_MAX]; /* that it recommends; strings in `strings` */
    size_t server_n;
    char strings[TW_RDV_SERVERS_MAX][4][TW_RDV_TEXT_MAX + 1];
    struct tw_bytes out;         /* being shown */
};

/* A call at a rendezvous server. */
struct call {
    struct link *link;           /* NULL: none */
    uint32_t gen, id;            /* while on */
    bool on, end_told;
    bool early;                  /* made before the server had said HELLO */
    bool answered;
    size_t cand_told;            /* of our candidates */
};

/* The first packets of a call, to be sent by another way, too. */
struct flight {
    size_t n[2];
    uint8_t data[2][TW_RDV_DATAGRAM_MAX];
};

/* One peer, or an agent that waits for the next one (SPARE), or gives back its relays (ENDING). */
struct conn {
    struct tw_timer timer;       /* first member */
    struct tw_endpoint *e;
    uint32_t id;                 /* for the application; 0: SPARE or ENDING */
    uint32_t trace;
    uint16_t slot;
    enum conn_state {
        CONN_SPARE,
        CONN_TICKET,             /* gathers what is to stand on its ticket */
        CONN_LINKING,            /* waits for a server to be reached */
        CONN_CALLING,            /* the offer is out */
        CONN_TALKING,            /* answered, or ours was the answer */
        CONN_ENDING,
    } state;
    bool by_hand;                /* tickets, no server */
    char *ticket;                /* ours, as long as it may be told */
    bool caller, gathered, ice_up, ready, connected, told_closed;
    bool leaving;                /* says goodbye */
    struct tw_ice *ice;
    struct server {
        struct tw_addr addr;
        enum tw_transport transport;
        bool turn;
        uint8_t link;            /* index of the link that recommends it, LINKS_MAX: none */
    } servers[TW_ICE_SERVERS_MAX]; /* that the agent knows, in its order */
    size_t server_n;
    char web[25];                /* token of its listeners */
    struct tw_secure *secure;
    struct tw_address peer;
    uint8_t secret[32];
    struct call call;
    struct call alt;             /* the same offer by another way at once, if the peer was found in this network */
    struct listed {
        uint32_t call;
        bool on;
    } listed[2];                 /* by which it stands in by_call */
    struct flight *flight;       /* what went out before there is an answer */
    unsigned links_left;         /* bits: of the links it may be at, not asked yet */
    struct tw_box to, from;
    struct tw_ice_candidate cands[TW_OFFER_CANDIDATES]; /* ours */
    size_t cand_n;
    bool remote_set;
    uint8_t *early, *early_in;   /* ours, as long as it may be sent; the peer's */
    size_t early_n;
    uint8_t nonce[TW_OFFER_NONCE];
    bool has_nonce, renewed;     /* renewed: called again with the prekey that the callee has now */
    bool plainly;                /* at the mailbox of the key, not at that of the invite */
    struct tw_endpoint_path path;
    struct tw_endpoint_step history[HISTORY]; /* a ring */
    unsigned steps;
    tw_time answered_at;         /* when the agent's path was known to work last */
    struct tw_mtu mtu;
    struct tw_datagram run;      /* of secure's, being sent */
    struct tw_bytes run_left;
    tw_time give_up_at;          /* CALLING: nobody answers; ENDING: enough */
    uint64_t again;              /* the last call that was made for it when it stood already */
    bool server_lost;            /* in the middle of the call: the callee may have lost it, too */
    tw_time back_by;             /* ... and is not there: so long it may take to come back; 0: not so */
    bool gone;                   /* the server says that the other side has left it: it may be somewhere else */
    tw_time elsewhere_at;        /* CALLING: the call is made at another server, too; LINKING: it is made again; TW_NEVER */
    tw_time again_at, again_wait; /* the next one may be made; TW_NEVER: none is wanted */
    struct tw_bytes doubled;     /* a packet that goes by a second way, too: view into run */
    tw_time link_by;             /* until then a server must be reached */
    const char *why;             /* it is closed */
    uint64_t code;
    bool by_peer;
    struct conn *next_tx, *next_ev;
    bool in_tx, in_ev;
};

struct known {
    struct tw_key key;
    struct tw_prekey prekey;
    tw_time at;
};

struct tw_endpoint {
    struct tw_endpoint_config cfg;
    struct tw_env env;
    struct tw_ident self;
    tw_time now;
    int64_t clock_ms;
    uint64_t program;            /* drawn by lot */
    uint32_t link_number;        /* of the last connection to a server */
    struct link links[LINKS_MAX];
    char *tokens[TW_ENDPOINT_SERVERS_MAX], *lan_token;
    struct tw_key seek[4];       /* names in the last SEEK */
    struct conn **slots;
    struct tw_map by_id, by_call;
    uint16_t slot_n;
    uint32_t conn_n, next_conn, next_trace;
    struct conn *spare;
    struct tw_ice_server servers[TW_ICE_SERVERS_MAX]; /* of the configuration, its strings in server_strings */
    size_t server_n;
    char server_strings[TW_ICE_SERVERS_MAX][2][TW_RDV_TEXT_MAX + 1];
    struct tw_ice_interface interfaces[TW_ICE_INTERFACES_MAX];
    size_t interface_n;
    struct tw_range nat64;
    bool has_nat64;
    uint16_t web_ports[2];       /* HTTP's and TLS's, which all agents share; 0: none */
    struct tw_key *allowed;
    size_t allowed_n, allowed_cap;
    struct tw_endpoint_invite invites[TW_ENDPOINT_INVITES_MAX];
    size_t invite_n;
    struct seen_offers *seen;    /* NULL: we are not dialled */
    uint8_t nonce_key[32];
    struct tw_prekey prekeys[PREKEYS];
    uint8_t prekey_wire[TW_PREKEY_WIRE];
    uint32_t prekey_epoch;
    struct known known[KNOWN_MAX];
    struct tw_timers timers;
    struct conn *tx, **tx_tail, *ev, **ev_tail;
    struct tw_endpoint_event *queue;
    size_t queue_at, queue_n, queue_cap;
    struct tw_endpoint_event lost; /* without memory nothing can be told */
    uint8_t *tx_buf;             /* TW_SECURE_BATCH */
    uint8_t word[TW_OFFER_SEALED_MAX], plain[TW_OFFER_MAX];
    struct tw_endpoint_costs costs;
    bool closing, closed_told;
};

static inline bool ep_has_rung(const struct tw_endpoint *e, enum tw_rung rung)
{
    return !e->cfg.rungs || e->cfg.rungs & 1U << rung;
}

/* --- endpoint.c --- */
struct tw_endpoint_event *ep_push(struct tw_endpoint *e, enum tw_endpoint_event_type type);
uint64_t ep_unix_ms(const struct tw_endpoint *e);
void ep_random(struct tw_endpoint *e, void *out, size_t n);
bool ep_is_allowed(const struct tw_endpoint *e, const struct tw_key *key);
/* The invite that this is, if it still lets somebody in. */
struct tw_endpoint_invite *ep_invite(struct tw_endpoint *e, struct tw_bytes secret);
/* Today's and yesterday's secrets; makes them when the day has changed. */
void ep_prekeys(struct tw_endpoint *e);
const struct tw_prekey *ep_known_prekey(const struct tw_endpoint *e, const struct tw_key *key);
void ep_learn_prekey(struct tw_endpoint *e, const struct tw_key *key, const uint8_t wire[TW_PREKEY_WIRE]);

/* --- seen.c --- */
/* NULL: no memory. Free it with free(). */
struct seen_offers *ep_seen_new(const struct tw_env *env);
/* From now on this offer has come, which it could again until then. TW_ESTATE: it had before; TW_EFULL: more than can be
 * remembered, of all or of this caller's: such a one is not let in now. */
TW_NODISCARD int ep_seen_put(struct seen_offers *o, const struct tw_word *offer, tw_time now, tw_time until);

/* --- link.c --- */
struct link *ep_link_get(struct tw_endpoint *e, const struct tw_rdv_addr *server);
bool ep_link_is_up(const struct link *l);
/* It is up, or what is called now goes with the first request to it. */
bool ep_link_may_call(const struct link *l);
/* How long its server takes to answer; TW_NEVER: it can't take a call now. */
tw_time ep_link_delay(const struct link *l);
/* Shows a server the mailboxes of our invites. */
void ep_link_invites(struct tw_endpoint *e, struct link *l);
void ep_link_up(struct tw_endpoint *e, struct link *l, const struct tw_addr *local, const struct tw_addr *remote, const char *why);
/* Those that came from an address that is not there any more begin anew, at once. */
void ep_links_moved(struct tw_endpoint *e);
/* A peer has fallen silent: what stands in its way may stand in theirs. */
void ep_links_doubt(struct tw_endpoint *e);
void ep_link_recv(struct tw_endpoint *e, struct link *l, struct tw_bytes in);
void ep_links_tick(struct tw_endpoint *e);
tw_time ep_links_deadline(const struct tw_endpoint *e);
bool ep_links_tx(struct tw_endpoint *e, struct tw_datagram *ret_out);
struct link *ep_link_of(struct tw_endpoint *e, uint32_t sock);
void ep_links_close(struct tw_endpoint *e);

/* --- conn.c --- */
struct conn *ep_conn_new(struct tw_endpoint *e);
struct conn *ep_conn_find(const struct tw_endpoint *e, uint32_t id);
struct conn *ep_conn_of_sock(const struct tw_endpoint *e, uint32_t sock);
/* A ready agent for a peer: the one that waited, or a new one. NULL: too many, or no memory. */
struct conn *ep_conn_take(struct tw_endpoint *e);
/* An agent that gathers ahead, if there is none yet; anew: the servers have changed. */
void ep_conn_spare(struct tw_endpoint *e, bool anew);
/* After anything that was done to it: takes the agent's events, tells candidates, sets its timer. */
void ep_conn_stir(struct conn *c);
/* Sets its timer. */
void ep_conn_arm(struct conn *c);
void ep_conn_tick(struct conn *c);
/* It is over; CLOSED will be told. why: lives as long as the connection, or is static. */
void ep_conn_over(struct conn *c, uint64_t code, const char *why, bool by_peer);
void ep_conn_free(struct conn *c);

/* --- servers.c --- */
/* Tells its agent of all that are known now. TW_ENOMEM and others of tw_ice_add_servers(). */
TW_NODISCARD int ep_learn_servers(struct conn *c);

/* --- word.c --- */
/* In the first word of a call: credentials, and all candidates so far. */
void ep_introduce(struct conn *c, struct call *k, struct tw_word *w);
void ep_say(struct conn *c, const struct tw_word *w);
/* Those that have been found since. */
void ep_tell_candidates(struct conn *c);
/* What the peer says of itself. */
void ep_hear(struct conn *c, const struct tw_word *w);
void ep_begin_boxes(struct conn *c);
/* The secret of its calls: the connection's, or one that follows from it. */
void ep_call_secret(const struct conn *c, uint64_t again, uint8_t out[32]);

/* --- call.c --- */
/* Whether that key may be dialled now: 0, TW_EINVAL, TW_ESTATE or TW_EMALFORMED. */
int ep_may_dial(const struct tw_endpoint *e, const struct tw_key *key);
/* The servers at which the peer may be, the first of them in call.link. TW_EFULL, TW_ENOTFOUND. */
int ep_choose_links(struct conn *c);
/* The next of them; false: there is none left. */
bool ep_next_link(struct conn *c);
/* Sends the offer over the call's link. */
int ep_call_make(struct conn *c, struct call *k);
void ep_call_drop(struct conn *c, unsigned reason);
/* After anything that was done to its calls: what comes for them finds it. */
void ep_call_list(struct conn *c);
/* Nothing finds it any more. */
void ep_call_unlist(struct conn *c);
/* The server of this call does not help: the next one, or it is over. */
void ep_call_failed(struct conn *c, uint64_t code, const char *why);
/* Its server may have died, and nobody knows yet: by another one as well, and who answers first is taken. Where it died before the call
 * was made, it or the callee may be back by now. */
void ep_call_elsewhere(struct conn *c);
/* The channel under the secret of before is void. */
void ep_drop_secure(struct conn *c);
void ep_call_on_link(struct tw_endpoint *e, struct link *l);
void ep_call_on_link_lost(struct tw_endpoint *e, struct link *l, const char *why);
void ep_call_on_signal(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body);
void ep_call_on_datagram(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes body);
void ep_call_on_gone(struct tw_endpoint *e, struct link *l, uint32_t call, unsigned reason);
void ep_call_on_word(struct conn *c, const struct tw_word *w);

/* --- callee.c --- */
void ep_callee_on_call(struct tw_endpoint *e, struct link *l, uint32_t call, struct tw_bytes offer);
/* Lets the caller in, if it is allowed, or has an invite. Only once the offer is known to be no old one. */
bool ep_redeem(struct tw_endpoint *e, const struct tw_word *offer);

/* --- again.c --- */
/* There is no way by the agent, or only one that does not answer. */
bool ep_is_lost(const struct conn *c);
/* And nothing comes by way of a call either. */
bool ep_is_in_need(const struct conn *c);
/* A connection that stands has lost its way, or may have: its caller calls again. Sets again_at. */
void ep_again_look(struct conn *c);
void ep_again_tick(struct conn *c);
/* Such a call has been answered, or is over. */
void ep_again_answered(struct conn *c);
void ep_again_failed(struct conn *c, bool refused);
/* The other side's such call. */
void ep_again_on_call(struct tw_endpoint *e, struct link *l, uint32_t call, const struct tw_word *offer);

/* --- lan.c --- */
/* Asks for the peer in this network. */
void ep_lan_seek(struct conn *c);

/* --- ticket.c --- */
/* All is gathered, or enough of it: what is to be carried to the other side. */
void ep_ticket_tell(struct conn *c);
/* There is, or soon will be, a way to the other side. */
void ep_ticket_way(struct conn *c);

/* --- data.c --- */
int ep_secure_start(struct conn *c, bool server);
bool ep_conn_tx(struct conn *c, struct tw_datagram *ret_out);
bool ep_conn_event(struct conn *c, struct tw_endpoint_event *ret_event);
void ep_conn_recv(struct conn *c, struct tw_bytes data, uint8_t tos);
/* As it is now. */
struct tw_endpoint_path ep_conn_path(const struct conn *c);
/* Which way data goes now. */
void ep_conn_choose(struct conn *c);
/* Has something told since that it works? */
void ep_look_alive(struct conn *c);
/* Something has come by way of the call, which is the way now. */
void ep_call_alive(struct conn *c);
/* It may have something to send, or to tell; or only to tell. */
void ep_mark(struct conn *c);
void ep_mark_event(struct conn *c);

#endif
