/* From a stun: or turn: URI to addresses: SRV, then A and AAAA (RFC 8489 §8, RFC 5928). */
#ifndef TW_RT_RESOLVE_H
#define TW_RT_RESOLVE_H

#include <thalweg/addr.h>
#include <thalweg/uri.h>

enum { TW_RT_RESOLVED_MAX = 16 };

/* Blocks for at most timeout_ms. Addresses come in the order to try them: by SRV priority and
 * weight, IPv6 before IPv4 within a name unless family (TW_FAMILY_*) wants only one of them.
 * TW_ENOTFOUND: no such name or no address of that family; TW_ETIMEOUT; TW_ENOMEM. */
TW_NODISCARD int tw_rt_resolve(const struct tw_uri *uri, enum tw_family family, int timeout_ms,
                               struct tw_addr ret_addrs[TW_RT_RESOLVED_MAX], unsigned *ret_n);

#endif
