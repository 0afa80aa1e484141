#include <thalweg/uri.h>

#include <stdio.h>
#include <string.h>

#include <thalweg/addr.h>
#include <thalweg/error.h>

static const struct {
    const char *scheme;
    bool turn, secure;
} schemes[] = {
    { "stun:", false, false },
    { "stuns:", false, true },
    { "turn:", true, false },
    { "turns:", true, true },
};

static bool equal_nocase(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = a[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c != b[i])
            return false;
    }
    return true;
}

static const char *parse_scheme(const char *s, struct tw_uri *u)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t n = strlen(schemes[i].scheme);
        if (!equal_nocase(s, schemes[i].scheme, n))
            continue;
        u->turn = schemes[i].turn;
        u->secure = schemes[i].secure;
        return s + n;
    }
    return NULL;
}

static bool host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

static const char *parse_host(const char *s, struct tw_uri *u)
{
    bool bracket = *s == '[';
    s += bracket;
    size_t n = bracket ? strcspn(s, "]") : 0;
    while (!bracket && host_char(s[n]))
        n++;
    if (n == 0 || n > TW_URI_HOST_MAX || (bracket && s[n] != ']'))
        return NULL;
    memcpy(u->host, s, n);
    u->host[n] = 0;
    struct tw_addr a;
    u->host_is_ip = tw_addr_parse(u->host, 0, &a) == 0;
    if (bracket && (!u->host_is_ip || a.family != TW_FAMILY_V6))
        return NULL;
    return s + n + bracket;
}

static const char *parse_port(const char *s, struct tw_uri *u)
{
    unsigned v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9' && p - s < 6; p++)
        v = v * 10 + (unsigned)(*p - '0');
    u->port = (uint16_t)v;
    return v >= 1 && v <= 65535 ? p : NULL;
}

static int parse_transport(const char *s, struct tw_uri *u)
{
    u->has_transport = true;
    if (strlen(s) != 3)
        return TW_EUNSUPPORTED;
    if (equal_nocase(s, "udp", 3))
        u->transport = u->secure ? TW_TRANSPORT_DTLS : TW_TRANSPORT_UDP;
    else if (equal_nocase(s, "tcp", 3))
        u->transport = u->secure ? TW_TRANSPORT_TLS : TW_TRANSPORT_TCP;
    else
        return TW_EUNSUPPORTED;
    return 0;
}

static int parse(const char *s, struct tw_uri *u, const char **why)
{
    *why = "it must begin with stun:, stuns:, turn: or turns:";
    s = parse_scheme(s, u);
    if (!s)
        return TW_EMALFORMED;
    u->transport = u->secure ? TW_TRANSPORT_TLS : TW_TRANSPORT_UDP;

    *why = "the host is missing or not a name, an IPv4 address or an [IPv6 address]";
    s = parse_host(s, u);
    if (!s)
        return TW_EMALFORMED;
    if (*s == ':') {
        *why = "the port must be a number from 1 to 65535";
        s = parse_port(s + 1, u);
        if (!s)
            return TW_EMALFORMED;
    }
    if (*s == '?' && u->turn && strncmp(s, "?transport=", 11) == 0) {
        *why = "?transport= must be udp or tcp";
        return parse_transport(s + 11, u);
    }
    *why = "there is something behind the host and port that does not belong there";
    return *s ? TW_EMALFORMED : 0;
}

int tw_uri_parse(const char *text, struct tw_uri *ret_uri, const char **ret_why)
{
    struct tw_uri u = { 0 };
    const char *why;
    int err = parse(text, &u, &why);
    if (!err)
        *ret_uri = u;
    else if (ret_why)
        *ret_why = why;
    return err;
}

uint16_t tw_uri_default_port(const struct tw_uri *u)
{
    return u->secure ? 5349 : 3478;
}

int tw_uri_srv_name(const struct tw_uri *u, char *out, unsigned cap)
{
    if (u->host_is_ip || u->port)
        return 0;
    bool datagram = u->transport == TW_TRANSPORT_UDP || u->transport == TW_TRANSPORT_DTLS;
    int n = snprintf(out, cap, "_%s%s._%s.%s", u->turn ? "turn" : "stun", u->secure ? "s" : "",
                     datagram ? "udp" : "tcp", u->host);
    return n > 0 && (unsigned)n < cap ? n : 0;
}

const char *tw_transport_name(enum tw_transport t)
{
    static const char *names[] = { "udp", "tcp", "tls", "dtls", "ws" };
    return names[t];
}
