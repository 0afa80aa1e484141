/* Addresses: one type for IPv4 and IPv6, with port. */
#ifndef THALWEG_ADDR_H
#define THALWEG_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <thalweg/export.h>

TW_C_BEGIN

#define TW_ADDR_STRLEN 72  /* "[v6%scope]:port" and its NUL always fit */
#define TW_EMBEDDED_MAX 16 /* the most IPv4 addresses tw_addr_embedded_v4 lists */

enum tw_family {
    TW_FAMILY_NONE = 0,
    TW_FAMILY_V4 = 4,
    TW_FAMILY_V6 = 6,
};

/* An IP address and port. Every byte is meaningful and unused ones are zero, so two addresses are
 * equal exactly when their bytes are. An address is never rewritten into another form, with one
 * exception, made where it comes from the kernel: ::ffff:a.b.c.d becomes a.b.c.d. */
struct tw_addr {
    uint8_t ip[16];   /* network order; IPv4 uses the first four */
    uint32_t scope;   /* IPv6 zone (interface index) of a link-local address, else 0 */
    uint16_t port;    /* host order */
    uint8_t family;   /* enum tw_family */
    uint8_t reserved; /* 0 */
};

/* A range of addresses of one family, first and last included; ports are ignored. */
struct tw_range {
    struct tw_addr first, last;
};

/* IPv4 address a.b.c.d with port. */
TW_API struct tw_addr tw_addr_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);

/* IPv6 address from 16 bytes in network order, with port, scope 0. */
TW_API struct tw_addr tw_addr_v6(const uint8_t ip[16], uint16_t port);

/* Bytes in the IP address: 4, 16, or 0 for TW_FAMILY_NONE. */
TW_API size_t tw_addr_ip_len(const struct tw_addr *a);

/* Equal in everything, or in everything but the port. */
TW_API bool tw_addr_eq(const struct tw_addr *a, const struct tw_addr *b);
TW_API bool tw_addr_eq_ip(const struct tw_addr *a, const struct tw_addr *b);

/* The address with its port set to 0. */
TW_API struct tw_addr tw_addr_ip_only(const struct tw_addr *a);

/* Total order over family, address, scope, port: < 0, 0, > 0. */
TW_API int tw_addr_cmp(const struct tw_addr *a, const struct tw_addr *b);

/* 0.0.0.0 or ::. */
TW_API bool tw_addr_is_any(const struct tw_addr *a);

/* 127.0.0.0/8 or ::1. Judges the address as it stands: see tw_addr_embedded_v4 for disguises. */
TW_API bool tw_addr_is_loopback(const struct tw_addr *a);

/* 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291 §2.5.6). */
TW_API bool tw_addr_is_link_local(const struct tw_addr *a);

/* An address that one machine can have: not 0.0.0.0/8, ::, multicast, or anything from 224.0.0.0 on. */
TW_API bool tw_addr_is_unicast(const struct tw_addr *a);

/* Reads "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]" or "[2001:db8::1]:80". The
 * port is default_port when there is none. No names, no scopes.
 * TW_EMALFORMED when it is none of these; *ret_addr is then untouched. */
TW_API TW_NODISCARD int tw_addr_parse(const char *text, uint16_t default_port,
                                      struct tw_addr *ret_addr);

/* Writes "192.0.2.1:80" or "[2001:db8::1]:80" (RFC 5952 form); without the port, and the
 * brackets, when the port is 0. Returns buf. "none" for TW_FAMILY_NONE. */
TW_API char *tw_addr_format(const struct tw_addr *a, char buf[TW_ADDR_STRLEN]);

/* Reads a single address, a prefix ("10.0.0.0/8") or a range ("10.0.0.0-10.0.0.255").
 * TW_EMALFORMED when it is none of these, or the ends differ in family or order. */
TW_API TW_NODISCARD int tw_range_parse(const char *text, struct tw_range *ret_range);

/* Whether the address (its port aside) lies in the range. */
TW_API bool tw_range_has(const struct tw_range *r, const struct tw_addr *a);

/* Lists every IPv4 address that an IPv6 address carries inside, for policy to judge: mapped
 * (::ffff/96), translated (::ffff:0/96, RFC 2765), compatible (::/96), 6to4 (2002::/16), Teredo (server and client, 2001::/32),
 * ISATAP, the well-known NAT64 prefix 64:ff9b::/96, and the n64 configured NAT64 prefixes (RFC 6052
 * lengths 32, 40, 48, 56, 64, 96: first.port holds the prefix length).
 * An IPv4 address lists itself. Returns how many were written to ret_v4, at most TW_EMBEDDED_MAX;
 * ports are 0. */
TW_API size_t tw_addr_embedded_v4(const struct tw_addr *a, const struct tw_range *nat64, size_t n64,
                                  struct tw_addr ret_v4[TW_EMBEDDED_MAX]);

/* Reads a NAT64 prefix ("2001:db8:64::/96") into the form tw_addr_embedded_v4 takes.
 * TW_EMALFORMED when the text is no prefix of one of RFC 6052's lengths. */
TW_API TW_NODISCARD int tw_nat64_parse(const char *text, struct tw_range *ret_prefix);

/* The same from its bits: prefix is an IPv6 address of which the first `bits` count. TW_EINVAL: not one of
 * RFC 6052's lengths. */
TW_API TW_NODISCARD int tw_nat64_prefix(const struct tw_addr *prefix, unsigned bits,
                                        struct tw_range *ret_prefix);
/* RFC 7050 §3: the prefix in what a resolver says is the IPv6 address of ipv4only.arpa. False: none. */
TW_API bool tw_nat64_find(const struct tw_addr *a, struct tw_range *ret_prefix);
/* RFC 6052 §2.2: an IPv4 address as the translator knows it; the port stays. */
TW_API struct tw_addr tw_nat64_embed(const struct tw_range *prefix, const struct tw_addr *v4);
/* The way back. False: it does not begin with that prefix. */
TW_API bool tw_nat64_extract(const struct tw_range *prefix, const struct tw_addr *v6,
                             struct tw_addr *ret_v4);

TW_C_END

#endif
