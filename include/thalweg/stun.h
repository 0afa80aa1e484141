/* STUN messages (RFC 8489): decoding, encoding, integrity.
 *
 * Life of a received message: tw_stun_decode() makes an index of the bytes, tw_stun_get_*() read
 * attributes out of it, tw_stun_verify*() judge its integrity. Nothing is copied: the index is good
 * as long as the bytes are.
 *
 * Life of a message to send: tw_stun_begin() on a buffer of the caller's, tw_stun_add_*() in order,
 * optionally tw_stun_add_integrity*() and tw_stun_add_fingerprint(), and tw_stun_end(). */
#ifndef THALWEG_STUN_H
#define THALWEG_STUN_H

#include <thalweg/addr.h>
#include <thalweg/bytes.h>

TW_C_BEGIN

#define TW_STUN_HEADER 20
#define TW_STUN_COOKIE 0x2112A442u
#define TW_STUN_TID 12           /* bytes in a transaction id */
#define TW_STUN_MAX_UNKNOWN 8    /* the most unknown attributes reported in a 420 */
#define TW_STUN_MAX_NAME 508     /* RFC 8489 §14.3: USERNAME is less than 509 bytes */
#define TW_STUN_MAX_TEXT 763     /* RFC 8489 §14.9, §14.10, §14.14: less than 128 characters, 763 bytes */
#define TW_STUN_MI 20
#define TW_STUN_MI_SHA256 32
#define TW_STUN_USERHASH 32

enum tw_stun_class {
    TW_STUN_REQUEST = 0,
    TW_STUN_INDICATION = 1,
    TW_STUN_SUCCESS = 2,
    TW_STUN_ERROR = 3,
};

/* X(name, number, text) */
#define TW_STUN_METHODS(X)                                                                        \
    X(BINDING, 0x001, "Binding")                                                                  \
    X(ALLOCATE, 0x003, "Allocate")                                                                \
    X(REFRESH, 0x004, "Refresh")                                                                  \
    X(SEND, 0x006, "Send")                                                                        \
    X(DATA, 0x007, "Data")                                                                        \
    X(CREATE_PERMISSION, 0x008, "CreatePermission")                                               \
    X(CHANNEL_BIND, 0x009, "ChannelBind")                                                         \
    X(CONNECT, 0x00A, "Connect")                                                                  \
    X(CONNECTION_BIND, 0x00B, "ConnectionBind")                                                   \
    X(CONNECTION_ATTEMPT, 0x00C, "ConnectionAttempt")

enum tw_stun_method {
#define TW_STUN_METHOD_ENUM(name, number, text) TW_STUN_##name = (number),
    TW_STUN_METHODS(TW_STUN_METHOD_ENUM)
#undef TW_STUN_METHOD_ENUM
};

/* What the value of an attribute looks like; the dumper, the fuzz dictionary and the length check
 * derive from it. */
enum tw_stun_kind {
    TW_STUN_K_BYTES,   /* opaque */
    TW_STUN_K_TEXT,    /* UTF-8 */
    TW_STUN_K_FLAG,    /* no value */
    TW_STUN_K_U8,      /* one byte, then reserved bytes up to the minimum length */
    TW_STUN_K_U16,     /* two bytes, then two reserved */
    TW_STUN_K_U32,     /* four bytes */
    TW_STUN_K_U64,     /* eight bytes */
    TW_STUN_K_ADDR,    /* family, port, address */
    TW_STUN_K_XADDR,   /* the same, XORed with cookie and transaction id */
    TW_STUN_K_ERROR,   /* class, number, reason */
    TW_STUN_K_TYPES,   /* a list of attribute types */
    TW_STUN_K_ALGO,    /* algorithm, length, parameters */
    TW_STUN_K_ALGOS,   /* a list of those */
    TW_STUN_K_ICMP,    /* reserved, type, code, data */
};

/* X(name, type, text, kind, shortest value, longest value, defined in) */
#define TW_STUN_ATTRS(X)                                                                          \
    X(MAPPED_ADDRESS, 0x0001, "MAPPED-ADDRESS", ADDR, 8, 20, "RFC 8489 14.1")                     \
    X(CHANGE_REQUEST, 0x0003, "CHANGE-REQUEST", U32, 4, 4, "RFC 5780 7.2")                        \
    X(USERNAME, 0x0006, "USERNAME", TEXT, 0, 508, "RFC 8489 14.3")                                \
    X(MESSAGE_INTEGRITY, 0x0008, "MESSAGE-INTEGRITY", BYTES, 20, 20, "RFC 8489 14.5")             \
    X(ERROR_CODE, 0x0009, "ERROR-CODE", ERROR, 4, 767, "RFC 8489 14.8")                           \
    X(UNKNOWN_ATTRIBUTES, 0x000A, "UNKNOWN-ATTRIBUTES", TYPES, 0, 65532, "RFC 8489 14.13")        \
    X(CHANNEL_NUMBER, 0x000C, "CHANNEL-NUMBER", U16, 4, 4, "RFC 8656 18.1")                       \
    X(LIFETIME, 0x000D, "LIFETIME", U32, 4, 4, "RFC 8656 18.2")                                   \
    X(XOR_PEER_ADDRESS, 0x0012, "XOR-PEER-ADDRESS", XADDR, 8, 20, "RFC 8656 18.3")                \
    X(DATA, 0x0013, "DATA", BYTES, 0, 65535, "RFC 8656 18.4")                                     \
    X(REALM, 0x0014, "REALM", TEXT, 0, 763, "RFC 8489 14.9")                                      \
    X(NONCE, 0x0015, "NONCE", TEXT, 0, 763, "RFC 8489 14.10")                                     \
    X(XOR_RELAYED_ADDRESS, 0x0016, "XOR-RELAYED-ADDRESS", XADDR, 8, 20, "RFC 8656 18.5")          \
    X(REQUESTED_ADDRESS_FAMILY, 0x0017, "REQUESTED-ADDRESS-FAMILY", U8, 4, 4, "RFC 8656 18.6")    \
    X(EVEN_PORT, 0x0018, "EVEN-PORT", U8, 1, 1, "RFC 8656 18.7")                                  \
    X(REQUESTED_TRANSPORT, 0x0019, "REQUESTED-TRANSPORT", U8, 4, 4, "RFC 8656 18.8")              \
    X(DONT_FRAGMENT, 0x001A, "DONT-FRAGMENT", FLAG, 0, 0, "RFC 8656 18.9")                        \
    X(MESSAGE_INTEGRITY_SHA256, 0x001C, "MESSAGE-INTEGRITY-SHA256", BYTES, 16, 32,                \
      "RFC 8489 14.6")                                                                            \
    X(PASSWORD_ALGORITHM, 0x001D, "PASSWORD-ALGORITHM", ALGO, 4, 65535, "RFC 8489 14.12")         \
    X(USERHASH, 0x001E, "USERHASH", BYTES, 32, 32, "RFC 8489 14.4")                               \
    X(XOR_MAPPED_ADDRESS, 0x0020, "XOR-MAPPED-ADDRESS", XADDR, 8, 20, "RFC 8489 14.2")            \
    X(RESERVATION_TOKEN, 0x0022, "RESERVATION-TOKEN", BYTES, 8, 8, "RFC 8656 18.10")              \
    X(PRIORITY, 0x0024, "PRIORITY", U32, 4, 4, "RFC 8445 16.1")                                   \
    X(USE_CANDIDATE, 0x0025, "USE-CANDIDATE", FLAG, 0, 0, "RFC 8445 16.1")                        \
    X(PADDING, 0x0026, "PADDING", BYTES, 0, 65535, "RFC 5780 7.6")                                \
    X(RESPONSE_PORT, 0x0027, "RESPONSE-PORT", U16, 4, 4, "RFC 5780 7.5")                          \
    X(CONNECTION_ID, 0x002A, "CONNECTION-ID", U32, 4, 4, "RFC 6062 6.2.1")                        \
    X(ADDITIONAL_ADDRESS_FAMILY, 0x8000, "ADDITIONAL-ADDRESS-FAMILY", U8, 4, 4, "RFC 8656 18.11") \
    X(ADDRESS_ERROR_CODE, 0x8001, "ADDRESS-ERROR-CODE", ERROR, 4, 767, "RFC 8656 18.12")          \
    X(PASSWORD_ALGORITHMS, 0x8002, "PASSWORD-ALGORITHMS", ALGOS, 0, 65535, "RFC 8489 14.11")      \
    X(ALTERNATE_DOMAIN, 0x8003, "ALTERNATE-DOMAIN", TEXT, 0, 255, "RFC 8489 14.16")               \
    X(ICMP, 0x8004, "ICMP", ICMP, 8, 8, "RFC 8656 18.13")                                         \
    X(SOFTWARE, 0x8022, "SOFTWARE", TEXT, 0, 763, "RFC 8489 14.14")                               \
    X(ALTERNATE_SERVER, 0x8023, "ALTERNATE-SERVER", ADDR, 8, 20, "RFC 8489 14.15")                \
    X(TRANSMIT_COUNTER, 0x8025, "TRANSACTION-TRANSMIT-COUNTER", U32, 4, 4, "RFC 7982 3.1")         \
    X(CACHE_TIMEOUT, 0x8027, "CACHE-TIMEOUT", U32, 4, 4, "RFC 5780 7.7")                          \
    X(FINGERPRINT, 0x8028, "FINGERPRINT", U32, 4, 4, "RFC 8489 14.7")                             \
    X(ICE_CONTROLLED, 0x8029, "ICE-CONTROLLED", U64, 8, 8, "RFC 8445 16.1")                       \
    X(ICE_CONTROLLING, 0x802A, "ICE-CONTROLLING", U64, 8, 8, "RFC 8445 16.1")                     \
    X(RESPONSE_ORIGIN, 0x802B, "RESPONSE-ORIGIN", ADDR, 8, 20, "RFC 5780 7.3")                    \
    X(OTHER_ADDRESS, 0x802C, "OTHER-ADDRESS", ADDR, 8, 20, "RFC 5780 7.4")                        \
    X(MOBILITY_TICKET, 0x8030, "MOBILITY-TICKET", BYTES, 0, 65535, "RFC 8016 4.1")                \
    X(NOMINATION, 0xC001, "NOMINATION", U32, 4, 4,                                                \
      "draft-thatcher-ice-renomination, as libwebrtc numbers it")                                 \
    X(ICE_OWN, 0xC07B, "THALWEG-ICE", BYTES, 8, 8 + 2 * 16, "src/ice/own.c")                      \
    X(ADDITIONAL_ADDRESS_FAMILY_DRAFT, 0x8032, "ADDITIONAL-ADDRESS-FAMILY (draft)", U8, 4, 4,     \
      "draft-ietf-tram-turn-ssoda, as coturn numbers it")                                         \
    X(ADDRESS_ERROR_CODE_DRAFT, 0x8033, "ADDRESS-ERROR-CODE (draft)", ERROR, 4, 767,              \
      "draft-ietf-tram-turn-ssoda, as coturn numbers it")

/* Attributes by their place in the table. */
enum tw_stun_attr {
#define TW_STUN_ATTR_ENUM(name, type, text, kind, min, max, rfc) TW_STUN_A_##name,
    TW_STUN_ATTRS(TW_STUN_ATTR_ENUM)
#undef TW_STUN_ATTR_ENUM
        TW_STUN_A_COUNT,
};

struct tw_stun_attr_info {
    uint16_t type;
    uint8_t kind; /* enum tw_stun_kind */
    uint16_t min, max;
    const char *name;
    const char *defined_in;
};
extern TW_API const struct tw_stun_attr_info tw_stun_attr_infos[TW_STUN_A_COUNT];

/* X(name, code, reason) : RFC 8489 §14.8, RFC 8656 §19, RFC 8016 §4.2, RFC 6062 §6.3, RFC 8445 */
#define TW_STUN_CODES(X)                                                                          \
    X(TRY_ALTERNATE, 300, "Try Alternate")                                                        \
    X(BAD_REQUEST, 400, "Bad Request")                                                            \
    X(UNAUTHENTICATED, 401, "Unauthenticated")                                                    \
    X(FORBIDDEN, 403, "Forbidden")                                                                \
    X(MOBILITY_FORBIDDEN, 405, "Mobility Forbidden")                                              \
    X(UNKNOWN_ATTRIBUTE, 420, "Unknown Attribute")                                                \
    X(ALLOCATION_MISMATCH, 437, "Allocation Mismatch")                                            \
    X(STALE_NONCE, 438, "Stale Nonce")                                                            \
    X(FAMILY_NOT_SUPPORTED, 440, "Address Family not Supported")                                  \
    X(WRONG_CREDENTIALS, 441, "Wrong Credentials")                                                \
    X(UNSUPPORTED_TRANSPORT, 442, "Unsupported Transport Protocol")                               \
    X(PEER_FAMILY_MISMATCH, 443, "Peer Address Family Mismatch")                                  \
    X(CONNECTION_EXISTS, 446, "Connection Already Exists")                                        \
    X(CONNECTION_FAILED, 447, "Connection Timeout or Failure")                                    \
    X(QUOTA_REACHED, 486, "Allocation Quota Reached")                                             \
    X(ROLE_CONFLICT, 487, "Role Conflict")                                                        \
    X(SERVER_ERROR, 500, "Server Error")                                                          \
    X(INSUFFICIENT_CAPACITY, 508, "Insufficient Capacity")

enum tw_stun_code {
#define TW_STUN_CODE_ENUM(name, code, reason) TW_STUN_CODE_##name = (code),
    TW_STUN_CODES(TW_STUN_CODE_ENUM)
#undef TW_STUN_CODE_ENUM
};

/* The RFC's reason phrase for a code, "" for one that is not in the table. Static. */
TW_API const char *tw_stun_reason(unsigned code);

/* The RFC's name of a method or attribute type, NULL when unknown. Static. */
TW_API const char *tw_stun_method_name(unsigned method);

/* --- decoding ----------------------------------------------------------------------------- */

/* The index of a decoded message. Every attribute is the first of its type; nothing after
 * MESSAGE-INTEGRITY is seen except MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, and after
 * MESSAGE-INTEGRITY-SHA256 only FINGERPRINT (RFC 8489 §14.5, §14.6). */
struct tw_stun_msg {
    struct tw_bytes raw; /* header and attributes, borrowed */
    uint16_t method;     /* 0 .. 0xfff */
    uint8_t cls;         /* enum tw_stun_class */
    uint8_t unknown_n;   /* comprehension-required types not in the table, at most ... */
    uint16_t unknown[TW_STUN_MAX_UNKNOWN];
    bool bad_attr;       /* an attribute of the table has an impossible length */
    uint8_t tid[TW_STUN_TID];
    uint16_t protected_end; /* offset behind the last attribute that integrity covers */
    struct {
        uint16_t off, len; /* of the value, from the start of raw; off 0: not there */
    } at[TW_STUN_A_COUNT];
};

/* Whether the bytes could be STUN: two zero bits, the cookie, and a length that is a multiple of
 * four and lies within n (RFC 8489 §5, §6.3). */
TW_API bool tw_stun_is(const uint8_t *p, size_t n);

/* Makes the index. The message must fill `in` exactly. A FINGERPRINT, if there, must be right and
 * last.
 * TW_EMALFORMED: not STUN, lengths do not add up, or the fingerprint is wrong; *ret is undefined.
 * An attribute with an impossible length only sets bad_attr, so that a server can answer 400. */
TW_API TW_NODISCARD int tw_stun_decode(struct tw_bytes in, struct tw_stun_msg *ret);

static inline bool tw_stun_has(const struct tw_stun_msg *m, enum tw_stun_attr a)
{
    return m->at[a].off != 0;
}

/* The value, empty when the attribute is not there. */
static inline struct tw_bytes tw_stun_get(const struct tw_stun_msg *m, enum tw_stun_attr a)
{
    return (struct tw_bytes){ m->raw.p + m->at[a].off, m->at[a].len };
}

/* Typed getters: false, with *ret untouched, when the attribute is not there or not of that form. */
TW_API bool tw_stun_get_u8(const struct tw_stun_msg *m, enum tw_stun_attr a, uint8_t *ret);
TW_API bool tw_stun_get_u16(const struct tw_stun_msg *m, enum tw_stun_attr a, uint16_t *ret);
TW_API bool tw_stun_get_u32(const struct tw_stun_msg *m, enum tw_stun_attr a, uint32_t *ret);
TW_API bool tw_stun_get_addr(const struct tw_stun_msg *m, enum tw_stun_attr a, struct tw_addr *ret);

/* ERROR-CODE: code 300 .. 699, and the reason as a view. */
TW_API bool tw_stun_get_error(const struct tw_stun_msg *m, unsigned *ret_code,
                              struct tw_bytes *ret_reason);

/* Walks all attributes of one type (XOR-PEER-ADDRESS in CreatePermission). Start with *pos = 0;
 * false when there are no more. Sees only what integrity covers. */
TW_API bool tw_stun_next(const struct tw_stun_msg *m, enum tw_stun_attr a, size_t *pos,
                         struct tw_bytes *ret_value);

/* Reads an address value (MAPPED-ADDRESS or, with xor, XOR-MAPPED-ADDRESS form). False if the
 * family or the length is wrong. */
TW_API bool tw_stun_read_addr(struct tw_bytes value, bool xored, const uint8_t tid[TW_STUN_TID],
                              struct tw_addr *ret);

/* --- integrity ---------------------------------------------------------------------------- */

enum tw_stun_algorithm { /* RFC 8489 §18.5 */
    TW_STUN_ALGO_MD5 = 1,
    TW_STUN_ALGO_SHA256 = 2,
};

/* A long-term key: 16 bytes (MD5) or 32 (SHA-256). */
struct tw_stun_key {
    uint8_t k[32];
    uint8_t n;
};

/* RFC 8489 §9.2.2: the hash of "username:realm:password". The three are taken as they are;
 * prepare them with tw_stun_opaque_string first. TW_EUNSUPPORTED for another algorithm. */
TW_API TW_NODISCARD int tw_stun_long_term_key(enum tw_stun_algorithm algo, struct tw_bytes username,
                                              struct tw_bytes realm, struct tw_bytes password,
                                              struct tw_stun_key *ret_key);

/* RFC 8489 §14.4: SHA-256 of "username:realm". */
TW_API void tw_stun_userhash(struct tw_bytes username, struct tw_bytes realm,
                             uint8_t ret_hash[TW_STUN_USERHASH]);

/* OpaqueString (RFC 8265 §4) of a name, realm or password, NUL-terminated.
 * TW_EMALFORMED: not UTF-8 or with characters the profile forbids. TW_EFULL: longer than cap - 1. */
TW_API TW_NODISCARD int tw_stun_opaque_string(struct tw_bytes in, char *ret_text, size_t cap);

/* Whether MESSAGE-INTEGRITY (SHA-1) or MESSAGE-INTEGRITY-SHA256 (full 32 bytes) is there and right.
 * Constant time in the value. */
TW_API bool tw_stun_verify(const struct tw_stun_msg *m, struct tw_bytes key);
TW_API bool tw_stun_verify_sha256(const struct tw_stun_msg *m, struct tw_bytes key);

/* Nonce cookie and security features (RFC 8489 §9.2, §18.1). */
#define TW_STUN_NONCE_COOKIE "obMatJos2"
#define TW_STUN_NONCE_COOKIE_LEN 13 /* with the features behind it */
#define TW_STUN_FEATURE_ALGORITHMS 0x1u
#define TW_STUN_FEATURE_ANONYMITY 0x2u

/* The feature bits a nonce carries, 0 when it does not begin with the cookie. */
TW_API uint32_t tw_stun_nonce_features(struct tw_bytes nonce);

/* Writes cookie and features: TW_STUN_NONCE_COOKIE_LEN characters, no NUL. */
TW_API void tw_stun_nonce_prefix(uint32_t features, char ret_prefix[TW_STUN_NONCE_COOKIE_LEN]);

/* --- encoding ----------------------------------------------------------------------------- */

struct tw_stun_enc {
    struct tw_wr w;   /* w.n is the length so far; w.error sticks */
    uint8_t pad;      /* what padding is filled with: 0 */
    uint8_t tid[TW_STUN_TID];
};

/* Starts a message in buf, which the caller owns and keeps until it is sent. */
TW_API void tw_stun_begin(struct tw_stun_enc *e, void *buf, size_t cap, enum tw_stun_class cls,
                          unsigned method, const uint8_t tid[TW_STUN_TID]);

/* One attribute. Values longer than the table allows, or than the buffer holds, set the error. */
TW_API void tw_stun_add(struct tw_stun_enc *e, enum tw_stun_attr a, struct tw_bytes value);
TW_API void tw_stun_add_flag(struct tw_stun_enc *e, enum tw_stun_attr a);
TW_API void tw_stun_add_u8(struct tw_stun_enc *e, enum tw_stun_attr a, uint8_t v);
TW_API void tw_stun_add_u16(struct tw_stun_enc *e, enum tw_stun_attr a, uint16_t v);
TW_API void tw_stun_add_u32(struct tw_stun_enc *e, enum tw_stun_attr a, uint32_t v);
TW_API void tw_stun_add_u64(struct tw_stun_enc *e, enum tw_stun_attr a, uint64_t v);
TW_API void tw_stun_add_addr(struct tw_stun_enc *e, enum tw_stun_attr a, const struct tw_addr *v);
/* ERROR-CODE; reason may be empty. */
TW_API void tw_stun_add_error(struct tw_stun_enc *e, unsigned code, struct tw_bytes reason);

/* MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT over what is there so far. */
TW_API void tw_stun_add_integrity(struct tw_stun_enc *e, struct tw_bytes key);
TW_API void tw_stun_add_integrity_sha256(struct tw_stun_enc *e, struct tw_bytes key);
TW_API void tw_stun_add_fingerprint(struct tw_stun_enc *e);

/* Fills in the length. 0, or TW_EFULL when something did not fit; the bytes are e->w.p, e->w.n. */
TW_API TW_NODISCARD int tw_stun_end(struct tw_stun_enc *e);

/* --- framing and reading ------------------------------------------------------------------ */

/* Where the first message in a TCP or TLS stream of STUN and ChannelData ends (RFC 8489 §6.2.2,
 * RFC 8656 §12.5). n bytes have arrived.
 * *ret_len: bytes the message takes in the stream, padding included; 0 when more must arrive.
 * TW_EMALFORMED: this is no such stream; close the connection. */
TW_API TW_NODISCARD int tw_stun_frame(const uint8_t *p, size_t n, size_t *ret_len);

/* Writes a message as text for people, one line an attribute, cut off at cap - 1. Secrets do not
 * occur in STUN messages. Returns the length written. */
TW_API size_t tw_stun_dump(const struct tw_stun_msg *m, char *out, size_t cap);

TW_C_END

#endif
