/* UDP sockets in batches: recvmmsg with GRO in, sendmmsg with GSO out.
 *
 * A worker has one tw_rt_rx (buffers) and one tw_rt_tx (what is to be sent). Datagrams read into rx
 * stay there until tw_rt_rx_reset(); tx may point into them, so the order is: read, handle, add to
 * tx, flush tx, reset rx. */
#ifndef TW_RT_UDP_H
#define TW_RT_UDP_H

#include <sys/socket.h>
#include <sys/uio.h>

#include <thalweg/datagram.h>
#include <thalweg/time.h>

enum {
    TW_RT_REUSEPORT = 0x1, /* one of a group that shares the port */
    TW_RT_RECVERR = 0x2,   /* ICMP errors are queued, see tw_rt_udp_error() */
    TW_RT_GRO = 0x4,       /* take runs whole */
    TW_RT_BOUND = 0x8,     /* it is bound already */
};

enum { TW_RT_HOT = 32 };   /* datagrams in a row after which a twin pays */

struct tw_rt_udp {
    int fd;
    uint32_t id;          /* the machine's name for it */
    uint32_t gen;         /* tells a reused id from the one before */
    struct tw_addr local;
    bool wildcard;        /* bound to no address: the source is given per datagram */
    uint16_t burst;       /* how many datagrams the next read asks for ... */
    uint16_t min_burst;   /* ... and never fewer than this */
    uint8_t tos, ttl;     /* what the socket sends with; ttl 0: the default */
    uint8_t misses;       /* datagrams in a row that wanted something else */
    bool df;
    uint32_t tx_last;     /* 1 + its last entry in the open tx batch */

    /* The receiver of the last `heat` datagrams in a row; see tw_rt_udp_connect(). */
    struct tw_addr hot;
    uint16_t heat;
    bool connected;       /* to `hot`: this is some socket's twin */
    struct tw_rt_udp *twin;
};

/* Opens and binds. local gets the port the kernel chose if it was 0.
 * TW_EADDRINUSE, TW_ESYS (errno). u is untouched on failure. */
TW_NODISCARD int tw_rt_udp_open(struct tw_rt_udp *u, const struct tw_addr *local, unsigned flags);
/* The same for a socket that is bound already. It stays the caller's until this succeeds. */
TW_NODISCARD int tw_rt_udp_adopt(struct tw_rt_udp *u, int fd, const struct tw_addr *local,
                                 unsigned flags);
void tw_rt_udp_close(struct tw_rt_udp *u); /* its twin too */

/* Opens (or turns) a twin of u: a second socket on the same address, connected to u->hot. The
 * kernel then gives it what comes from there, and what goes there needs no route look-up; all
 * other peers stay with u. tw_rt_tx_add() uses the twin by itself; the caller has to read it too.
 * u must have been opened with TW_RT_REUSEPORT. On failure u goes on without. */
TW_NODISCARD int tw_rt_udp_connect(struct tw_rt_udp *u, unsigned flags);

/* Whether datagrams leave with DF set (and are never fragmented). */
void tw_rt_udp_set_df(struct tw_rt_udp *u, bool df);

/* Turns GRO on or off while the socket is in use. TW_ESYS. */
TW_NODISCARD int tw_rt_udp_set_gro(struct tw_rt_udp *u, bool on);

/* The next queued ICMP error. False when there is none. */
struct tw_rt_icmp {
    struct tw_addr peer; /* where the datagram had been sent */
    uint8_t type, code;
    uint32_t data;       /* the MTU where the error has one */
};
bool tw_rt_udp_error(struct tw_rt_udp *u, struct tw_rt_icmp *ret);

/* --- reading ------------------------------------------------------------------------------ */

enum {
    TW_RT_RX_MAX = 64,   /* datagrams (or runs) held at once */
    TW_RT_RX_TAKE = 16,  /* buffers for other uses */
};

struct tw_rt_rx {
    uint8_t *memory;
    size_t memory_n;
    unsigned used;    /* buffers filled since the last reset */
    unsigned taken;   /* and taken */
    unsigned first, n; /* the last read's */
    struct tw_rt_udp *from;
    struct mmsghdr msgs[TW_RT_RX_MAX];
    struct iovec iov[TW_RT_RX_MAX];
    struct sockaddr_storage names[TW_RT_RX_MAX];
    struct tw_bytes bytes[TW_RT_RX_MAX];
    _Alignas(struct cmsghdr) uint8_t control[TW_RT_RX_MAX][128];
};

TW_NODISCARD int tw_rt_rx_init(struct tw_rt_rx *rx);
void tw_rt_rx_fini(struct tw_rt_rx *rx);
void tw_rt_rx_reset(struct tw_rt_rx *rx);

/* Reads what is there, as much as the socket's history suggests and the buffers allow. Returns how
 * many datagrams or runs; 0 for none (errors are as good as none). */
unsigned tw_rt_rx_read(struct tw_rt_rx *rx, struct tw_rt_udp *u);

/* A buffer of 64 KiB that tx may borrow from like from the others; NULL when all are taken. They come
 * back with the reset, or, once nothing in tx can point there, with tw_rt_rx_give(). */
uint8_t *tw_rt_rx_take(struct tw_rt_rx *rx);
void tw_rt_rx_give(struct tw_rt_rx *rx);

/* The i-th of the last read; its iov points into rx. */
void tw_rt_rx_get(struct tw_rt_rx *rx, unsigned i, struct tw_datagram *ret);

static inline bool tw_rt_rx_full(const struct tw_rt_rx *rx)
{
    return rx->used == TW_RT_RX_MAX;
}

/* --- writing ------------------------------------------------------------------------------ */

enum {
    TW_RT_TX_MAX = 256,      /* messages in a batch */
    TW_RT_TX_IOV = 4096,
    TW_RT_TX_COPY = 1 << 18, /* bytes copied into a batch */
    TW_RT_TX_PIECES = 64,    /* UDP_MAX_SEGMENTS of older kernels */
};

struct tw_rt_tx_stats {
    uint64_t datagrams, messages, calls; /* messages < datagrams where GSO helped */
    uint64_t dropped;                    /* the kernel had no room, or no way to the receiver */
};

struct tw_rt_tx {
    struct tw_bytes borrow; /* bytes in here need not be copied */
    struct tw_rt_tx_stats stats;
    uint32_t n, chunk_n, iov_n, copy_n;
    struct entry {
        struct tw_rt_udp *u;
        struct tw_addr src, dst;
        uint32_t bytes, iovs;
        uint32_t chunk, last_chunk; /* its pieces of iov */
        uint32_t next;              /* 1 + the same socket's next entry */
        uint16_t segment, pieces;
        uint8_t tos, ttl, flags;
        bool first, closed;         /* first of its socket; cannot grow */
    } entries[TW_RT_TX_MAX];
    struct chunk {
        uint32_t iov, n, next;      /* next: 1 + */
    } chunks[2 * TW_RT_TX_MAX];
    struct iovec iov[TW_RT_TX_IOV];
    struct iovec flat[TW_RT_TX_IOV];
    uint8_t copy[TW_RT_TX_COPY];
    struct mmsghdr msgs[TW_RT_TX_MAX];
    struct sockaddr_storage names[TW_RT_TX_MAX];
    _Alignas(struct cmsghdr) uint8_t control[TW_RT_TX_MAX][128];
};

/* rx: whose memory may be borrowed, NULL: none. */
void tw_rt_tx_init(struct tw_rt_tx *tx, const struct tw_rt_rx *rx);

/* Adds a datagram or run. Flushes first when the batch is full. */
void tw_rt_tx_add(struct tw_rt_tx *tx, struct tw_rt_udp *u, const struct tw_datagram *d);

/* Sends everything, in order per socket. Must be called before a socket in it is closed. */
void tw_rt_tx_flush(struct tw_rt_tx *tx);

#endif
