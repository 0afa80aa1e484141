/* The simple tier: dial a public key, or be dialled, and talk over streams and datagrams.
 *
 *     tw_node_new      makes a node and starts it
 *     tw_node_dial     calls a peer             tw_node_accept   takes one that has called
 *     tw_node_open     opens a stream to it     tw_node_incoming takes a stream that it has opened
 *     tw_node_write, tw_node_read, tw_node_shut
 *     tw_node_hangup   says goodbye to a peer   tw_node_free     to all of them
 *
 * A node is run in one of two ways:
 * - by a thread of its own. Every function may be called by any thread, and waits for what it asks for, up to
 *   timeout_ms: -1 for ever, 0 not at all.
 * - on the caller's loop (own_loop). No function waits, whatever its timeout. Poll tw_node_fd() for reading, for
 *   tw_node_timeout() at most, then call tw_node_run(): then what gave TW_ETIMEOUT before may be ready. One
 *   thread at a time.
 *
 * TW_ETIMEOUT always means: not yet, try again. Connections and streams are known by numbers. Examples:
 * examples/echo_server.c, echo_client.c, and echo_loop.c for a loop of one's own. Who wants neither a thread nor
 * libuv uses the machine itself: endpoint.h. */
#ifndef THALWEG_THALWEG_H
#define THALWEG_THALWEG_H

#include <thalweg/endpoint.h>

TW_C_BEGIN

struct tw_node;

/* Copied by tw_node_new, strings and all. Zero is a good value for everything. */
struct tw_node_config {
    const char *key_file;          /* the identity; made if there is none. NULL: one for this node only */
    const char *const *servers;    /* rendezvous, as tw_rdv_addr_parse() reads them, NULL at the end; may be NULL */
    const char *token;             /* what they want of who listens there; NULL: nothing */
    bool listen;                   /* be there to be dialled */
    const char *const *allow;      /* by these addresses, NULL at the end; may be NULL */
    bool allow_any;                /* or by anybody */
    bool relay_only;               /* show peers no address of this machine */
    unsigned rungs;                /* bits, 1 << TW_RUNG_UDP and so on; 0: all */
    bool no_lan;                   /* neither look for peers in this network nor be found there without a server */
    bool no_port_mapping;          /* ask no gateway to let peers in */
    const char *ca_file;           /* PEM: trust only these for the certificates of servers; NULL: the system's */
    const char *metered;           /* names of interfaces that cost by the byte, "wlan1,usb*": used when there is nothing else, as modems
                                      are anyway; NULL: none */
    bool own_loop;                 /* no thread */
};

/* Makes a node and starts it. *ret_why (may be NULL): what is wrong, static or valid until this thread's next call.
 * TW_ENOMEM, TW_EINVAL, TW_EMALFORMED, TW_ECRYPTO, TW_ESYS. */
TW_API TW_NODISCARD int tw_node_new(const struct tw_node_config *cfg, struct tw_node **ret_node,
                                    const char **ret_why);
/* Says goodbye to everybody, for up to four seconds, and ends. No other thread may be in a call. */
TW_API void tw_node_free(struct tw_node *n);

/* This node's address: its key, and its servers. cap: TW_ADDRESS_TEXT_MAX is
 * always enough. TW_EFULL. */
TW_API TW_NODISCARD int tw_node_address(const struct tw_node *n, char *out, size_t cap);
/* Lets an address in from now on. TW_EMALFORMED, TW_ENOMEM. */
TW_API TW_NODISCARD int tw_node_allow(struct tw_node *n, const char *address);
/* Waits until this node can be dialled at one of its servers. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_online(struct tw_node *n, int timeout_ms);

/* --- on a loop of the caller's ------------------------------------------------------------------- */

/* Readable when there is something to do; -1: there is a thread. */
TW_API int tw_node_fd(const struct tw_node *n);
/* Milliseconds until there is something to do in any case; -1: never. Ask anew after every call. */
TW_API int tw_node_timeout(const struct tw_node *n);
/* Does it. */
TW_API void tw_node_run(struct tw_node *n);

/* --- peers ----------------------------------------------------------------------------------------- */

/* Calls a peer. It does not wait: tw_node_open() and tw_node_ready() do. early: up to TW_ENDPOINT_EARLY_MAX bytes that
 * go with the very first packet; they may be lost, but come at most once; NULL: none.
 * TW_EMALFORMED: that is no address; TW_ENOTFOUND: at which server is it? TW_EINVAL: our own address, or too much early
 * data; TW_EFULL: too many connections; TW_ENOMEM. */
TW_API TW_NODISCARD int tw_node_dial(struct tw_node *n, const char *address, const void *early, size_t early_n,
                                     uint32_t *ret_conn);
/* Waits until the peer has proved its key and streams can be opened. TW_ETIMEOUT; TW_ESTATE: it is closed,
 * tw_node_why() says why. */
TW_API TW_NODISCARD int tw_node_ready(struct tw_node *n, uint32_t conn, int timeout_ms);
/* Takes a peer that called, is allowed to, and has proved its key. ret_key may be NULL. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_accept(struct tw_node *n, int timeout_ms, uint32_t *ret_conn,
                                       struct tw_key *ret_key);
/* What came with the offer, cut to cap bytes; 0 bytes: nothing. TW_ENOTFOUND: there is no such connection. */
TW_API TW_NODISCARD int tw_node_early(struct tw_node *n, uint32_t conn, void *buf, size_t cap, size_t *ret_n);
/* Says goodbye, and forgets the number. reason: for the peer, printable ASCII; may be NULL. */
TW_API void tw_node_hangup(struct tw_node *n, uint32_t conn, const char *reason);
/* Why a connection is closed, or "": valid until the number is forgotten. *ret_code (may be NULL): TW_ENDPOINT_CODE_.. */
TW_API const char *tw_node_why(struct tw_node *n, uint32_t conn, uint64_t *ret_code);
/* Key, way, round trip, bytes. TW_ENOTFOUND: it is not there, or closed. */
TW_API TW_NODISCARD int tw_node_stats(struct tw_node *n, uint32_t conn, struct tw_endpoint_conn *ret_stats);

/* --- streams and datagrams ------------------------------------------------------------------------- */
/* Besides what is said: TW_ENOTFOUND: there is no such connection or stream any more; TW_ESTATE: the connection is
 * closed; TW_ENOMEM. */

/* Opens a stream; waits for the peer to be ready. The peer sees it with its first byte. TW_ETIMEOUT; TW_EFULL: too many
 * streams. */
TW_API TW_NODISCARD int tw_node_open(struct tw_node *n, uint32_t conn, int timeout_ms, int64_t *ret_stream);
/* Takes a stream that the peer has opened. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_incoming(struct tw_node *n, uint32_t conn, int timeout_ms, int64_t *ret_stream);
/* Writes all of it, or, if the time runs out, *ret_n bytes: TW_ETIMEOUT then. */
TW_API TW_NODISCARD int tw_node_write(struct tw_node *n, uint32_t conn, int64_t stream, const void *data, size_t size,
                                      int timeout_ms, size_t *ret_n);
/* Nothing more is written to it. */
TW_API TW_NODISCARD int tw_node_shut(struct tw_node *n, uint32_t conn, int64_t stream);
/* Reads what is there: at least a byte, unless *ret_end: nothing follows; do not read on. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_read(struct tw_node *n, uint32_t conn, int64_t stream, void *buf, size_t cap,
                                     int timeout_ms, size_t *ret_n, bool *ret_end);
/* Breaks a stream off, both ways. */
TW_API void tw_node_reset(struct tw_node *n, uint32_t conn, int64_t stream);
/* Sends a datagram of up to TW_ENDPOINT_DATAGRAM_MAX bytes, which may be lost. TW_EINVAL: too long; TW_EFULL: too many
 * wait to be sent; TW_ESTATE: not ready yet, or closed. */
TW_API TW_NODISCARD int tw_node_send(struct tw_node *n, uint32_t conn, const void *data, size_t size);
/* Takes one, cut to cap bytes. Up to 256 wait, then the oldest are dropped. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_recv(struct tw_node *n, uint32_t conn, void *buf, size_t cap, int timeout_ms,
                                     size_t *ret_n);

/* --- what happens ---------------------------------------------------------------------------------- */

/* ONLINE, OFFLINE, KNOCK, INCOMING, READY, CONNECTED, PATH, CLOSED. */
struct tw_node_event {
    enum tw_endpoint_event_type type;
    uint32_t conn;                /* 0: of none */
    struct tw_key key;
    struct tw_endpoint_path path; /* of PATH and CONNECTED */
    struct tw_rdv_addr server;    /* of ONLINE and OFFLINE */
    uint64_t code;                /* of CLOSED */
    char why[160];                /* of CLOSED and OFFLINE */
};

/* The next of them, for who wants to watch. The newest 256 are kept. TW_ETIMEOUT. */
TW_API TW_NODISCARD int tw_node_event(struct tw_node *n, int timeout_ms, struct tw_node_event *ret_event);

TW_C_END

#endif
