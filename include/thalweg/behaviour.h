/* What a NAT does (RFC 5780 §4): how it maps and filters, as seen through a server with two
 * addresses. A pure machine on one UDP socket.
 *
 * Life: tw_behaviour_init(), the usual four steps, until tw_behaviour_poll_event() gives the result. */
#ifndef THALWEG_BEHAVIOUR_H
#define THALWEG_BEHAVIOUR_H

#include <thalweg/stun_client.h>

TW_C_BEGIN

/* RFC 4787 §4.1 (mapping), §5 (filtering). */
enum tw_nat_dependence {
    TW_NAT_UNKNOWN,
    TW_NAT_NONE,             /* mapping: no NAT; the mapped address is the local one */
    TW_NAT_INDEPENDENT,      /* of the remote endpoint */
    TW_NAT_ADDRESS,          /* depends on its address */
    TW_NAT_ADDRESS_AND_PORT, /* depends on its address and port */
};

struct tw_behaviour_config {
    struct tw_addr server, local; /* local: as the socket knows itself, with its port */
    uint32_t sock;
    const struct tw_stun_timing *timing; /* static; NULL: tw_stun_timing_rfc */
};

struct tw_behaviour_event {
    bool answered;        /* the server answered at all; else nothing below is known */
    bool can;             /* it has a second address; else only mapped and hairpin are known */
    struct tw_addr mapped, other;
    bool port_preserved;
    enum tw_nat_dependence mapping, filtering;
    bool hairpin;         /* what is sent to our own mapped address comes back */
};

struct tw_behaviour {
    struct tw_behaviour_config cfg;
    struct tw_env env;
    struct tw_stun_txn txn;
    uint8_t step;
    bool want_tx, done;
    struct tw_addr mapped[3]; /* through the server's address, its other one, that one's other port */
    uint8_t buf[64];
    struct tw_bytes tx;
    struct tw_behaviour_event event;
};

TW_API void tw_behaviour_init(struct tw_behaviour *b, const struct tw_behaviour_config *cfg,
                              const struct tw_env *env, tw_time now);
/* 0, or TW_EMALFORMED when the datagram was none of ours. */
TW_API TW_NODISCARD int tw_behaviour_recv(struct tw_behaviour *b, tw_time now,
                                          const struct tw_datagram *in);
TW_API void tw_behaviour_tick(struct tw_behaviour *b, tw_time now);
TW_API bool tw_behaviour_poll_tx(struct tw_behaviour *b, struct tw_datagram *ret_out);
/* Once, at the end. */
TW_API bool tw_behaviour_poll_event(struct tw_behaviour *b, struct tw_behaviour_event *ret);
TW_API tw_time tw_behaviour_deadline(const struct tw_behaviour *b);

TW_C_END

#endif
