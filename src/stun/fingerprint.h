/* FINGERPRINT (RFC 8489 §14.7). */
#ifndef TW_STUN_FINGERPRINT_H
#define TW_STUN_FINGERPRINT_H

#include <thalweg/bytes.h>

/* The value for a message: header and attributes up to the FINGERPRINT, with the length field as
 * it will be once the FINGERPRINT is in. */
uint32_t tw_stun_fingerprint(struct tw_bytes message);

#endif
