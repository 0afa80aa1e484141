/* Asks a gateway for port mappings and keeps them: PCP (RFC 6887), and NAT-PMP (RFC 6886) where that is
 * all it speaks; on IPv6, pinholes by PCP. A pure machine, one for each address of this machine that
 * has a gateway. tw_ice runs its own; this is for sockets that belong to nobody, or to many agents.
 *
 * Life: tw_portmap_new(), tw_portmap_add() for each port; MAPPED says where it is seen, and again
 * when that changes. tw_portmap_close() gives all back; tw_portmap_free(). Not thread-safe. */
#ifndef THALWEG_PORTMAP_H
#define THALWEG_PORTMAP_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>

TW_C_BEGIN

#define TW_PORTMAP_MAX 32          /* mappings of one machine */
#define TW_PORTMAP_PORT 5351       /* RFC 6887 §19.1: where gateways listen */

struct tw_portmap_config {
    struct tw_addr gateway; /* its address inside; port 0: TW_PORTMAP_PORT */
    struct tw_addr local;   /* this machine's, from which the gateway sees us; port ignored */
    uint32_t sock;          /* any UDP socket bound to it: what poll_tx gives is sent from there */
    uint32_t lifetime;      /* s, asked for; 0: 7200 (RFC 6886 §3.3) */
};

enum tw_portmap_event_type {
    TW_PORTMAP_MAPPED,  /* id, outside, lifetime */
    TW_PORTMAP_LOST,    /* id: it was mapped, and is not any more; asked for anew */
    TW_PORTMAP_FAILED,  /* id, code, why: once; asked again later if the gateway answers at all */
    TW_PORTMAP_CLOSED,  /* all has been given back, or the gateway does not answer */
};

struct tw_portmap_event {
    enum tw_portmap_event_type type;
    unsigned id;
    struct tw_addr outside;
    uint32_t lifetime;  /* s, as granted */
    unsigned code;      /* result code of RFC 6887 §7.4 or RFC 6886 §3.5; 0: no answer came */
    const char *why;    /* static */
};

struct tw_portmap;

/* TW_ENOMEM; TW_EINVAL: addresses of different families, or none. */
TW_API TW_NODISCARD int tw_portmap_new(const struct tw_portmap_config *cfg,
                                       const struct tw_env *env, struct tw_portmap **ret_portmap);
/* Without a word: mappings stay until their time is over. NULL is fine. */
TW_API void tw_portmap_free(struct tw_portmap *p);

/* *ret_id: 0 .. TW_PORTMAP_MAX - 1. TW_EFULL; TW_EINVAL: port 0; TW_ESTATE: closing. */
TW_API TW_NODISCARD int tw_portmap_add(struct tw_portmap *p, tw_time now, bool tcp, uint16_t port,
                                       unsigned *ret_id);
/* Something has happened to the way out: asks for all again, which shows whether the gateway still
 * knows them. One that has been silent is tried anew. */
TW_API void tw_portmap_refresh(struct tw_portmap *p, tw_time now);
/* Gives one back; no event. An id that is not in use is fine. */
TW_API void tw_portmap_remove(struct tw_portmap *p, tw_time now, unsigned id);
/* Gives all back; CLOSED within 2 s. */
TW_API void tw_portmap_close(struct tw_portmap *p, tw_time now);
/* False: every mapping has been answered, or given up. */
TW_API bool tw_portmap_pending(const struct tw_portmap *p);

/* 0: it was for us. TW_EMALFORMED: not from the gateway, or no answer to anything. */
TW_API TW_NODISCARD int tw_portmap_recv(struct tw_portmap *p, tw_time now,
                                        const struct tw_datagram *in);
TW_API void tw_portmap_tick(struct tw_portmap *p, tw_time now);
TW_API bool tw_portmap_poll_tx(struct tw_portmap *p, struct tw_datagram *ret_out);
TW_API bool tw_portmap_poll_event(struct tw_portmap *p, struct tw_portmap_event *ret_event);
TW_API tw_time tw_portmap_deadline(const struct tw_portmap *p);

/* "PCP", "NAT-PMP", or NULL while no answer has come. */
TW_API const char *tw_portmap_protocol(const struct tw_portmap *p);

TW_C_END

#endif
