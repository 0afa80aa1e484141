/* The keyed hashes behind MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256. */
#ifndef TW_STUN_INTEGRITY_H
#define TW_STUN_INTEGRITY_H

#include <thalweg/stun.h>

enum tw_stun_hmac { TW_STUN_HMAC_SHA1, TW_STUN_HMAC_SHA256 };

/* HMAC over a message whose length field is taken to be `length`; writes 20 or 32 bytes.
 * TW_ECRYPTO when the library refuses (FIPS mode, out of memory). */
TW_NODISCARD int tw_stun_hmac(enum tw_stun_hmac hmac, struct tw_bytes key, struct tw_bytes message,
                              uint16_t length, uint8_t *ret_mac);

#endif
