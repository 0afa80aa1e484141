#include <stdio.h>

#include "ident/ident.h"

enum { VERSION = 1, RAW = 1 + TW_KEY_SIZE + 2, TEXT16 = 26 }; /* TEXT16: base32 of 16 bytes */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

/* --- base32 (RFC 4648 §6), in lower case, without padding ------------------------------------------- */

static void encode32(struct tw_bytes in, char *out)
{
    unsigned bits = 0, have = 0;
    for (size_t i = 0; i < in.n; i++) {
        bits = bits << 8 | in.p[i];
        for (have += 8; have >= 5; have -= 5)
            *out++ = alphabet[bits >> (have - 5) & 31];
    }
    if (have)
        *out++ = alphabet[bits << (5 - have) & 31];
    *out = 0;
}

static bool decode32(const char *in, size_t len, uint8_t *out, size_t cap)
{
    unsigned bits = 0, have = 0;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i] >= 'A' && in[i] <= 'Z' ? (char)(in[i] - 'A' + 'a') : in[i];
        const char *at = c ? strchr(alphabet, c) : NULL;
        if (!at)
            return false;
        bits = bits << 5 | (unsigned)(at - alphabet);
        have += 5;
        if (have >= 8) {
            have -= 8;
            if (n < cap)
                out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == cap && !(bits & ((1U << have) - 1));
}

/* A pin, or the secret of an invite. */
static bool decode16(const char *in, size_t len, uint8_t out[16])
{
    return len == TEXT16 && decode32(in, len, out, 16);
}

/* --- keys ----------------------------------------------------------------------------------------- */

static void checksum(const uint8_t *raw, uint8_t sum[2])
{
    uint8_t h[16];
    const struct tw_bytes part = tw_bytes(raw, RAW - 2);
    tw_digest("thalweg address", &part, 1, h, sizeof(h));
    memcpy(sum, h, 2);
}

void tw_key_format(const struct tw_key *key, char ret_text[TW_ADDRESS_LEN + 1])
{
    uint8_t raw[RAW] = { VERSION };
    memcpy(raw + 1, key->b, TW_KEY_SIZE);
    checksum(raw, raw + RAW - 2);
    encode32(tw_bytes(raw, RAW), ret_text);
}

/* NULL: it is a key. */
static const char *read_key(const char *text, size_t len, struct tw_key *ret_key)
{
    uint8_t raw[RAW], sum[2];
    if (len < TW_ADDRESS_LEN)
        return "the key is too short: it has 56 letters and digits";
    if (len > TW_ADDRESS_LEN)
        return "the key is too long: it has 56 letters and digits";
    if (!decode32(text, len, raw, RAW))
        return "the key has a character that no key has: only a to z and 2 to 7 are in one";
    checksum(raw, sum);
    if (memcmp(sum, raw + RAW - 2, 2) != 0)
        return "the key has a typing error: its checksum is wrong";
    if (raw[0] != VERSION)
        return "the key is of a version that this program does not know";
    memcpy(ret_key->b, raw + 1, TW_KEY_SIZE);
    return NULL;
}

/* --- servers -------------------------------------------------------------------------------------- */

static bool take(const char **text, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0)
        return false;
    *text += n;
    return true;
}

static const char *read_port(const char *text, size_t len, uint16_t *ret_port)
{
    unsigned port = 0;
    if (len == 0 || len > 5)
        return "the server's port is not a number from 1 to 65535";
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return "the server's port is not a number from 1 to 65535";
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port == 0 || port > 65535)
        return "the server's port is not a number from 1 to 65535";
    *ret_port = (uint16_t)port;
    return NULL;
}

/* A name, an IPv4 address, or an IPv6 address in brackets, which it loses. */
static const char *read_host(const char *text, size_t len, struct tw_rdv_addr *s)
{
    bool bracket = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracket) {
        text++;
        len -= 2;
    }
    if (len == 0)
        return "the server has no name";
    if (len > TW_SERVER_MAX)
        return "the server's name is too long";
    for (size_t i = 0; i < len; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
                  (bracket && c == ':');
        if (!ok)
            return "the server's name has a character that no name has";
        s->host[i] = c;
    }
    s->host[len] = 0;
    return NULL;
}

static const char *read_server(const char *all, size_t len, struct tw_rdv_addr *ret)
{
    struct tw_rdv_addr s = { 0 };
    char copy[TW_SERVER_TEXT_MAX];
    const char *text = copy;
    if (len >= sizeof(copy))
        return "the server's name is too long";
    memcpy(copy, all, len);
    copy[len] = 0;
    s.plain = take(&text, "ws://");
    if (!s.plain)
        take(&text, "wss://");
    s.port = s.plain ? 80 : 443;
    size_t pin = strcspn(text, "#"), end = pin;
    while (end && text[end - 1] == '/')
        end--;
    if (text[pin]) {
        const char *b32 = text + pin + 1;
        s.pinned = true;
        if (s.plain)
            return "a server without TLS (ws://) has no certificate to pin";
        if (!decode16(b32, strlen(b32), s.pin))
            return "the server's pin, after #, does not have 26 characters from a to z and 2 to 7";
    }
    size_t host = end;
    for (size_t i = end; i > 0 && text[i - 1] != ']'; i--)
        if (text[i - 1] == ':')
            host = i - 1;
    const char *why = host < end ? read_port(text + host + 1, end - host - 1, &s.port) : NULL;
    if (!why)
        why = read_host(text, host, &s);
    if (!why)
        *ret = s;
    return why;
}

static int result(const char *why, const char **ret_why)
{
    if (ret_why)
        *ret_why = why;
    return why ? TW_EMALFORMED : 0;
}

int tw_rdv_addr_parse(const char *text, struct tw_rdv_addr *ret_server, const char **ret_why)
{
    return result(read_server(text, strlen(text), ret_server), ret_why);
}

int tw_rdv_addr_format(const struct tw_rdv_addr *s, char *out, size_t cap)
{
    char port[8] = "", pin[TEXT16 + 2] = "";
    bool v6 = strchr(s->host, ':') != NULL;
    if (s->port != (s->plain ? 80 : 443))
        snprintf(port, sizeof(port), ":%u", s->port);
    if (s->pinned) {
        pin[0] = '#';
        encode32(tw_bytes(s->pin, TW_PIN_SIZE), pin + 1);
    }
    int n = snprintf(out, cap, "%s%s%s%s%s%s", s->plain ? "ws://" : "", v6 ? "[" : "", s->host,
                     v6 ? "]" : "", port, pin);
    return n < 0 || (size_t)n >= cap ? TW_EFULL : 0;
}

/* --- addresses ------------------------------------------------------------------------------------ */

int tw_invite_parse(const char *text, uint8_t secret[TW_INVITE_SIZE])
{
    return decode16(text, strlen(text), secret) ? 0 : TW_EMALFORMED;
}

void tw_invite_format(const uint8_t secret[TW_INVITE_SIZE], char text[TW_INVITE_LEN + 1])
{
    encode32(tw_bytes(secret, TW_INVITE_SIZE), text);
}

int tw_address_parse(const char *text, struct tw_address *ret_address, const char **ret_why)
{
    struct tw_address a = { 0 };
    size_t len = strcspn(text, "+@");
    const char *why = read_key(text, len, &a.key);
    if (!why && text[len] == '+') {
        size_t n = strcspn(text + len + 1, "@");
        a.invited = decode16(text + len + 1, n, a.invite);
        why = a.invited ? NULL : "the invite, after +, does not have 26 characters from a to z and 2 to 7";
        len += 1 + n;
    }
    while (!why && text[len]) { /* at an @, or a comma */
        const char *server = text + len + 1;
        size_t n = strcspn(server, ",");
        why = a.server_n == TW_ADDRESS_SERVERS_MAX ? "more than four servers" : read_server(server, n, &a.servers[a.server_n]);
        a.server_n++;
        len += 1 + n;
    }
    if (!why)
        *ret_address = a;
    return result(why, ret_why);
}

size_t tw_address_span(const char *text)
{
    size_t n = strcspn(text, "@:"), digits;
    const char *at = text + n;
    if (*at != '@')
        return n;
    do {
        at++;
        if (!take(&at, "ws://"))
            take(&at, "wss://");
        at += *at == '[' ? strcspn(at, "]") : strcspn(at, ":#,");
        at += *at == ']';
        digits = *at == ':' ? strspn(at + 1, "0123456789") : 0;
        if (digits && strchr(":#/,", at[1 + digits])) /* a port; strchr finds the end, too */
            at += 1 + digits;
        at += strcspn(at, ":,");
    } while (*at == ',');
    return (size_t)(at - text);
}

int tw_address_format(const struct tw_address *a, char *out, size_t cap)
{
    char invite[TEXT16 + 2] = "", key[TW_ADDRESS_LEN + 1];
    tw_key_format(&a->key, key);
    if (a->invited) {
        invite[0] = '+';
        tw_invite_format(a->invite, invite + 1);
    }
    int n = snprintf(out, cap, "%s%s", key, invite);
    if (n < 0 || (size_t)n >= cap)
        return TW_EFULL;
    for (size_t i = 0, at = (size_t)n; i < a->server_n; i++, at += strlen(out + at)) {
        if (at + 1 >= cap)
            return TW_EFULL;
        out[at++] = i ? ',' : '@';
        int err = tw_rdv_addr_format(&a->servers[i], out + at, cap - at);
        if (err)
            return err;
    }
    return 0;
}
