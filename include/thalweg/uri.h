/* stun:, stuns:, turn: and turns: URIs (RFC 7064, RFC 7065). */
#ifndef THALWEG_URI_H
#define THALWEG_URI_H

#include <stdbool.h>
#include <stdint.h>

#include <thalweg/export.h>

TW_C_BEGIN

#define TW_URI_HOST_MAX 255

enum tw_transport {
    TW_TRANSPORT_UDP,
    TW_TRANSPORT_TCP,
    TW_TRANSPORT_TLS,
    TW_TRANSPORT_DTLS,
    TW_TRANSPORT_WS,     /* inside a WebSocket, at a rendezvous; no URI says so */
};

struct tw_uri {
    bool turn;           /* turn or turns; else stun or stuns */
    bool secure;         /* stuns or turns */
    bool has_transport;  /* ?transport= was given */
    bool host_is_ip;     /* host is an address, which is used without asking DNS */
    uint16_t port;       /* 0: not given */
    enum tw_transport transport; /* what to use when nothing better is learned from DNS */
    char host[TW_URI_HOST_MAX + 1]; /* without brackets */
};

/* Reads a URI. On failure *ret_uri is untouched and *ret_why, if not NULL, is a static sentence
 * that says which part is wrong. TW_EMALFORMED, or TW_EUNSUPPORTED for an unknown ?transport=. */
TW_API TW_NODISCARD int tw_uri_parse(const char *text, struct tw_uri *ret_uri,
                                     const char **ret_why);

/* The port to use when DNS says nothing: 3478, or 5349 for stuns and turns. */
TW_API uint16_t tw_uri_default_port(const struct tw_uri *u);

/* The SRV name to ask for (RFC 8489 §8.1, RFC 8656 §4, RFC 5928): "_turn._udp.example.org".
 * Returns the length, or 0 when none must be asked: the host is an address or a port is given. */
TW_API int tw_uri_srv_name(const struct tw_uri *u, char *out, unsigned cap);

/* "udp", "tcp", "tls", "dtls" or "ws". Static. */
TW_API const char *tw_transport_name(enum tw_transport t);

TW_C_END

#endif
