/* The way through a proxy to a target, as a pure machine over a byte stream: HTTP CONNECT (RFC 9110 §9.3.6) with Basic
 * (RFC 7617) and Digest (RFC 7616) authentication, or SOCKS5 (RFC 1928) with a password (RFC 1929). */
#ifndef TW_TUNNEL_PROXY_H
#define TW_TUNNEL_PROXY_H

#include <thalweg/bytes.h>
#include <thalweg/env.h>

enum tw_proxy_kind { TW_PROXY_NONE, TW_PROXY_HTTP, TW_PROXY_SOCKS5 };

#define TW_PROXY_HOST_MAX 255

/* "http://[USER:PASSWORD@]HOST[:PORT]" or "socks5://...". */
struct tw_proxy_url {
    enum tw_proxy_kind kind;
    char host[TW_PROXY_HOST_MAX + 1], user[128], password[128];
    uint16_t port;
};

/* *ret_why, if not NULL, on failure: static. TW_EMALFORMED, TW_EUNSUPPORTED. */
TW_NODISCARD int tw_proxy_parse(const char *text, struct tw_proxy_url *ret_url, const char **ret_why);
/* Whether a list as in the environment's no_proxy ("localhost,.example.org,10.0.0.0/8,*") names a host. */
bool tw_proxy_is_exempt(const char *list, const char *host);

struct tw_proxy;

enum tw_proxy_step {
    TW_PROXY_MORE,   /* send what tw_proxy_out() has, and wait for more */
    TW_PROXY_DONE,   /* what comes now is the target's */
    TW_PROXY_AGAIN,  /* over another connection: tw_proxy_restart() */
    TW_PROXY_FAILED,
};

/* Both are copied. TW_ENOMEM. */
TW_NODISCARD int tw_proxy_new(const struct tw_proxy_url *url, const char *host, uint16_t port,
                              const struct tw_env *env, struct tw_proxy **ret_proxy);
void tw_proxy_free(struct tw_proxy *p);
/* Bytes for the proxy, gone with the next call. */
struct tw_bytes tw_proxy_out(struct tw_proxy *p);
/* Bytes of the proxy's; *ret_used of them were for us. */
enum tw_proxy_step tw_proxy_recv(struct tw_proxy *p, struct tw_bytes in, size_t *ret_used);
/* A new connection stands; what was learned about the proxy is kept. */
void tw_proxy_restart(struct tw_proxy *p);
/* Why it FAILED: lives as long as the machine. */
const char *tw_proxy_why(const struct tw_proxy *p);

#endif
