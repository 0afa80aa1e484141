/* The messages of PCP (RFC 6887 §7, §11.1) and NAT-PMP (RFC 6886 §3). */
#ifndef TW_PORTMAP_WIRE_H
#define TW_PORTMAP_WIRE_H

#include <thalweg/addr.h>
#include <thalweg/bytes.h>

enum {
    PORTMAP_PCP = 2,       /* versions: the first byte */
    PORTMAP_NATPMP = 0,
    PORTMAP_NONCE = 12,
    PORTMAP_MSG_MAX = 60,
    PORTMAP_UNSUPP_VERSION = 1,
};

/* What is asked for: one mapping. Lifetime 0 gives it back. */
struct portmap_request {
    bool tcp;
    uint16_t port;
    uint8_t nonce[PORTMAP_NONCE];
    struct tw_addr local;     /* PCP: the client's address */
    struct tw_addr suggested; /* outside; family NONE and port 0: any */
    uint32_t lifetime;
};

enum portmap_what { PORTMAP_MAP, PORTMAP_OUTSIDE, PORTMAP_VERSION };

/* An answer of either protocol. */
struct portmap_answer {
    enum portmap_what what;   /* VERSION: it only says that it speaks NAT-PMP, not PCP */
    uint8_t version;
    unsigned code;            /* 0: success */
    uint32_t epoch, lifetime; /* s; of an error: how long it lasts */
    bool tcp;
    uint16_t port;
    uint8_t nonce[PORTMAP_NONCE]; /* PCP */
    struct tw_addr outside;   /* of NAT-PMP's MAP only the port, of OUTSIDE only the address */
};

/* Both return the length; out has PORTMAP_MSG_MAX bytes. */
size_t portmap_write_pcp(uint8_t *out, const struct portmap_request *r);
size_t portmap_write_natpmp(uint8_t *out, const struct portmap_request *r);
size_t portmap_write_outside(uint8_t *out);

/* TW_EMALFORMED: no answer of either protocol. */
TW_NODISCARD int portmap_read(struct tw_bytes in, struct portmap_answer *ret);

const char *portmap_reason(uint8_t version, unsigned code);

#endif
