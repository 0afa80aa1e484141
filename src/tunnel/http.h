/* The head of an HTTP/1.1 request or response (RFC 9112), as far as an upgrade needs it. */
#ifndef TW_TUNNEL_HTTP_H
#define TW_TUNNEL_HTTP_H

#include <thalweg/bytes.h>

enum { TW_HTTP_FIELDS = 64 };

/* Views into what was parsed. */
struct tw_http {
    struct tw_bytes method, target; /* of a request */
    struct tw_bytes status;         /* of a response: three digits */
    struct {
        struct tw_bytes name, value;
    } field[TW_HTTP_FIELDS];
    size_t n;
};

/* *ret_used: the head's length. TW_ESHORT: it has not come whole; TW_EMALFORMED; TW_EFULL: too many fields. */
TW_NODISCARD int tw_http_parse(struct tw_bytes in, bool request, struct tw_http *ret_head, size_t *ret_used);
/* A field's value, the first of that name (lower case); empty: there is none. */
struct tw_bytes tw_http_get(const struct tw_http *h, const char *name);
/* A decimal number, as Content-Length has it; false: it is none, or above max. */
bool tw_http_number(struct tw_bytes text, uint64_t max, uint64_t *ret);
/* Whether a field's list of tokens has this one, in whatever case. */
bool tw_http_has(const struct tw_http *h, const char *name, const char *token);

#endif
