/* A network in virtual time: hosts, NATs, links that delay, lose, double and reorder.
 *
 * Deterministic: the same seed and the same calls give the same run, byte for byte. Nothing sleeps;
 * time jumps from one event to the next. */
#ifndef TW_SIM_H
#define TW_SIM_H

#include <thalweg/datagram.h>
#include <thalweg/env.h>

/* RFC 4787 §4.1, §5. */
enum sim_dependence { SIM_INDEPENDENT, SIM_ADDRESS, SIM_ADDRESS_AND_PORT };
enum sim_ports { SIM_PORTS_PRESERVED, SIM_PORTS_SEQUENTIAL, SIM_PORTS_PARITY, SIM_PORTS_RANDOM };

/* A NAT, or, with `firewall`, something that only filters. */
struct sim_nat_kind {
    enum sim_dependence mapping, filtering;
    enum sim_ports ports;
    bool hairpin;
    bool firewall;    /* stateful, translates nothing: hosts behind it keep their addresses */
    bool no_udp;      /* lets no UDP out */
    bool collides;    /* a packet from outside for which there is no mapping takes that pair of
                         addresses: what is sent the other way later leaves from a port drawn by
                         lot (Linux, where no rule of its own drops what comes for itself) */
    bool rejects;     /* UDP that it does not let out is answered by an ICMP error (RFC 1812 §5.2.7.1) */
    bool tls_only;    /* ends connections whose first bytes from inside are no ClientHello */
    uint16_t only_ports[2]; /* TCP goes out only to these; 0: to all */
    struct tw_addr only_to; /* nothing goes out but to this address (a proxy); family NONE: to all */
    bool no_simultaneous;   /* TCP: no connection that begins on both sides (RFC 5382 REQ-2) */
    bool tcp_reset;   /* answers connections from outside with a reset instead of silence */
    tw_time idle;     /* a mapping ends after so long without a packet; 0: 120 s */
    tw_time life;     /* ... and after so long in any case; 0: never */
    struct tw_range nat64; /* translates IPv6 to this prefix (tw_nat64_parse) into IPv4, and nothing
                         else; first.port 0: no */
};

/* One direction of an access link. Chances are per mille. */
struct sim_link {
    tw_time delay, jitter;  /* each packet: delay + uniform(0 .. jitter) */
    unsigned loss, twice;
    unsigned late;          /* delayed by another 3 x (delay + jitter): arrives out of order */
    size_t mtu;             /* of the IP packet; 0: 65,535 */
    bool black_hole;        /* what is too big vanishes without an ICMP error */
    tw_time burst;          /* once it loses a packet, it loses all for so long */
    uint64_t rate;          /* bytes a second; 0: no limit */
};

struct sim;
struct sim_host;
struct sim_nat;

/* What a host does with a datagram that arrives. d->sock is the id given to sim_open(). */
typedef void sim_receive(void *ctx, tw_time now, const struct tw_datagram *d);
/* Why one that it sent did not: an ICMP error. */
typedef void sim_error(void *ctx, tw_time now, uint32_t sock, const struct tw_addr *peer,
                       uint8_t type, uint8_t code, uint32_t data);
/* Called when the host's deadline has come. */
typedef void sim_wake(void *ctx, tw_time now);

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *s);
tw_time sim_now(const struct sim *s);
struct tw_rng sim_rng(struct sim *s);

/* A NAT with one outside address, on the open network (outer NULL) or behind another NAT. */
struct sim_nat *sim_nat(struct sim *s, struct tw_addr outside, struct sim_nat_kind kind,
                        struct sim_nat *outer);
/* The link between its outside and the network there; none: no delay. Where the long way lies behind
 * the NAT, as it does, two packets that meet half-way find both NATs open. */
void sim_nat_set_link(struct sim_nat *n, struct sim_link link);
/* A mapping that was asked for (PCP): of `inside`, for all to use, until then; a time that is past ends it.
 * port: the outside one that is wanted. Returns the one that it has. */
uint16_t sim_nat_forward(struct sim_nat *n, bool tcp, const struct tw_addr *inside, uint16_t port,
                         tw_time until);
/* Forgets all mappings, as after a power cut. */
void sim_nat_reboot(struct sim_nat *n);
/* Somebody has set it up in another way. */
void sim_nat_become(struct sim_nat *n, struct sim_nat_kind kind);

/* A host, on the open network (nat NULL) or behind a NAT. link is used in both directions. */
struct sim_host *sim_host(struct sim *s, struct tw_addr ip, struct sim_nat *nat,
                          struct sim_link link);
void sim_host_attach(struct sim_host *h, void *ctx, sim_receive *receive, sim_error *error,
                     sim_wake *wake);
void sim_host_set_link(struct sim_host *h, struct sim_link link);
/* Another address of the same host. */
void sim_host_add_ip(struct sim_host *h, struct tw_addr ip);
/* The host moves to another place: its sockets stay bound to addresses that are gone. */
void sim_host_move(struct sim_host *h, struct tw_addr ip, struct sim_nat *nat);
/* The host sleeps until then: nothing wakes it, what arrives is lost. */
void sim_host_sleep(struct sim_host *h, tw_time until);

/* The host takes whatever arrives at its addresses, sockets or not. */
void sim_host_set_raw(struct sim_host *h);
/* A datagram from a raw host: src is what it says there. The bytes are copied. */
void sim_inject(struct sim_host *h, const struct tw_datagram *d);
/* When something happens next; TW_NEVER: nothing does. */
tw_time sim_next(const struct sim *s);

/* Binds a socket; false when the port is taken. Port 0: any. Returns the address it has. */
bool sim_open(struct sim_host *h, uint32_t sock, struct tw_addr local, struct tw_addr *ret_local);
void sim_close(struct sim_host *h, uint32_t sock);
/* All whose ids are from first to last. */
void sim_close_range(struct sim_host *h, uint32_t first, uint32_t last);

/* Sends; runs are cut into datagrams. The bytes are copied. */
void sim_send(struct sim_host *h, const struct tw_datagram *d);

/* When to call wake next; TW_NEVER: not. */
void sim_set_deadline(struct sim_host *h, tw_time at);

/* --- TCP ---------------------------------------------------------------------------------- */

/* What a host does with connections, known by ids of its own. They are reliable and in order, repeat
 * what is lost, and know simultaneous open; there is no congestion control. */
struct sim_tcp {
    /* One has come to a listening socket. Its id, 0: refuse it. */
    uint32_t (*accepted)(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                         const struct tw_addr *remote);
    /* sim_tcp_connect() is done. err: 0 or TW_ESYS; then it is gone. */
    void (*connected)(void *ctx, tw_time now, uint32_t conn, int err, const struct tw_addr *local);
    void (*data)(void *ctx, tw_time now, uint32_t conn, struct tw_bytes data);
    /* The other side has ended it, or it broke. */
    void (*closed)(void *ctx, tw_time now, uint32_t conn);
};

void sim_host_attach_tcp(struct sim_host *h, void *ctx, const struct sim_tcp *tcp);
/* As sim_open(); closed with sim_close(). */
bool sim_tcp_listen(struct sim_host *h, uint32_t sock, struct tw_addr local,
                    struct tw_addr *ret_local);
/* From local; port 0: any. */
void sim_tcp_connect(struct sim_host *h, uint32_t conn, struct tw_addr local,
                     struct tw_addr remote);
/* The bytes are copied. To one that is gone: nothing. */
void sim_tcp_send(struct sim_host *h, uint32_t conn, struct tw_bytes data);
/* At once, with a reset. No event. */
void sim_tcp_close(struct sim_host *h, uint32_t conn);

/* A fault of the network: true for a datagram that vanishes as it leaves its host. */
typedef bool sim_fault(void *ctx, const struct tw_addr *src, const struct tw_addr *dst,
                       struct tw_bytes data);
void sim_set_fault(struct sim *s, sim_fault *fault, void *ctx);

/* Called with every datagram that leaves a host, before anything happens to it. */
typedef void sim_watch(void *ctx, tw_time now, const struct sim_host *from,
                       const struct tw_addr *src, const struct tw_addr *dst, struct tw_bytes data);
void sim_set_watch(struct sim *s, sim_watch *watch, void *ctx);

/* Runs until time `until`, or until *stop (if not NULL) becomes true. */
void sim_run(struct sim *s, tw_time until, const bool *stop);

/* Packets that arrived, and that were lost on links, filtered by NATs, or met a closed port. */
struct sim_counts {
    uint64_t sent, delivered, lost, filtered, refused;
};
struct sim_counts sim_counts(const struct sim *s);

#endif
