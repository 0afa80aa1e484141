/* Whom a reverse proxy speaks for: the PROXY protocol (haproxy.org's proxy-protocol.txt, versions 1 and 2), and
 * X-Forwarded-For. To be believed of proxies that are known only. */
#ifndef TW_TUNNEL_FORWARDED_H
#define TW_TUNNEL_FORWARDED_H

#include <thalweg/addr.h>
#include <thalweg/bytes.h>

enum { TW_FORWARDED_MAX = 536 }; /* bytes of a header of the PROXY protocol that are looked at; longer ones are refused */

/* The header at the beginning of a connection. *ret_used: its length; *ret_client: family NONE if it says none (a health
 * check). TW_ENOTFOUND: there is none; TW_ESHORT: it has not come whole; TW_EMALFORMED. */
TW_NODISCARD int tw_forwarded_proxy(struct tw_bytes in, struct tw_addr *ret_client, size_t *ret_used);
/* The last address in X-Forwarded-For of the request at `in`: the one that the nearest proxy saw. False: there is none. */
bool tw_forwarded_http(struct tw_bytes in, struct tw_addr *ret_client);

#endif
