#include <thalweg/addr.h>

#include <stdio.h>
#include <string.h>

#include <thalweg/bytes.h>

struct tw_addr tw_addr_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    return (struct tw_addr){ .ip = { a, b, c, d }, .port = port, .family = TW_FAMILY_V4 };
}

struct tw_addr tw_addr_v6(const uint8_t ip[16], uint16_t port)
{
    struct tw_addr a = { .port = port, .family = TW_FAMILY_V6 };
    memcpy(a.ip, ip, 16);
    return a;
}

size_t tw_addr_ip_len(const struct tw_addr *a)
{
    return a->family == TW_FAMILY_V4 ? 4 : a->family == TW_FAMILY_V6 ? 16 : 0;
}

bool tw_addr_eq(const struct tw_addr *a, const struct tw_addr *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

bool tw_addr_eq_ip(const struct tw_addr *a, const struct tw_addr *b)
{
    return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, 16) == 0;
}

struct tw_addr tw_addr_ip_only(const struct tw_addr *a)
{
    struct tw_addr ip = *a;
    ip.port = 0;
    return ip;
}

int tw_addr_cmp(const struct tw_addr *a, const struct tw_addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    int d = memcmp(a->ip, b->ip, 16);
    if (d)
        return d;
    if (a->scope != b->scope)
        return a->scope < b->scope ? -1 : 1;
    return (a->port > b->port) - (a->port < b->port);
}

bool tw_addr_is_any(const struct tw_addr *a)
{
    static const uint8_t zero[16];
    return a->family != TW_FAMILY_NONE && memcmp(a->ip, zero, 16) == 0;
}

bool tw_addr_is_loopback(const struct tw_addr *a)
{
    static const uint8_t one[16] = { [15] = 1 };
    if (a->family == TW_FAMILY_V4)
        return a->ip[0] == 127;
    return a->family == TW_FAMILY_V6 && memcmp(a->ip, one, 16) == 0;
}

bool tw_addr_is_link_local(const struct tw_addr *a)
{
    return a->family == TW_FAMILY_V6 ? a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80
                                     : a->ip[0] == 169 && a->ip[1] == 254;
}

bool tw_addr_is_unicast(const struct tw_addr *a)
{
    if (a->family == TW_FAMILY_V4)
        return a->ip[0] != 0 && a->ip[0] < 224;
    return a->family == TW_FAMILY_V6 && a->ip[0] != 0xff && !tw_addr_is_any(a);
}

/* --- text --------------------------------------------------------------------------------- */

/* A decimal number of at most `max` without leading zeros; returns past it, or NULL. */
static const char *parse_dec(const char *s, unsigned max, unsigned *ret)
{
    unsigned v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (unsigned)(*p - '0');
        if (v > max || p - s > 9)
            return NULL;
    }
    if (p == s || (*s == '0' && p - s > 1))
        return NULL;
    *ret = v;
    return p;
}

static const char *parse_ip4(const char *s, uint8_t ip[4])
{
    for (int i = 0; i < 4; i++) {
        unsigned v;
        if (i && *s++ != '.')
            return NULL;
        s = parse_dec(s, 255, &v);
        if (!s)
            return NULL;
        ip[i] = (uint8_t)v;
    }
    return s;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static const char *parse_group(const char *s, unsigned *ret)
{
    unsigned v = 0;
    int n = 0;
    for (; n < 5 && hex_digit(*s) >= 0; s++, n++)
        v = v << 4 | (unsigned)hex_digit(*s);
    *ret = v;
    return n >= 1 && n <= 4 ? s : NULL;
}

/* RFC 4291 §2.2, all three forms; returns past the address, or NULL. */
static const char *parse_ip6(const char *s, uint8_t ip[16])
{
    uint8_t out[16] = { 0 };
    int n = 0, gap = -1;

    if (s[0] == ':' && s[1] == ':') {
        gap = 0;
        s += 2;
    }
    while (n < 16 && hex_digit(*s) >= 0) {
        unsigned group;
        const char *dotted = n <= 12 ? parse_ip4(s, out + n) : NULL;
        if (dotted) {
            n += 4;
            s = dotted;
            break;
        }
        s = parse_group(s, &group);
        if (!s)
            return NULL;
        tw_put_u16(out + n, (uint16_t)group);
        n += 2;
        if (s[0] != ':')
            break;
        if (s[1] == ':') {
            if (gap >= 0)
                return NULL;
            gap = n;
            s += 2;
        } else if (hex_digit(s[1]) >= 0 && n < 16) {
            s++;
        } else {
            return NULL;
        }
    }
    if (gap < 0 ? n != 16 : n > 14)
        return NULL;
    memset(ip, 0, 16);
    if (gap < 0)
        gap = n;
    memcpy(ip, out, (size_t)gap);
    memcpy(ip + 16 - (n - gap), out + gap, (size_t)(n - gap));
    return s;
}

static const char *parse_ip(const char *s, struct tw_addr *ret)
{
    struct tw_addr a = { 0 };
    const char *end = parse_ip4(s, a.ip);
    if (end) {
        a.family = TW_FAMILY_V4;
    } else {
        memset(a.ip, 0, sizeof(a.ip));
        end = parse_ip6(s, a.ip);
        a.family = TW_FAMILY_V6;
    }
    if (end)
        *ret = a;
    return end;
}

int tw_addr_parse(const char *text, uint16_t default_port, struct tw_addr *ret_addr)
{
    struct tw_addr a;
    unsigned port = default_port;
    bool bracket = text[0] == '[';
    const char *s = parse_ip(text + bracket, &a);
    if (!s || (bracket && (a.family != TW_FAMILY_V6 || *s++ != ']')))
        return TW_EMALFORMED;
    if (*s == ':' && (bracket || a.family == TW_FAMILY_V4)) {
        s = parse_dec(s + 1, 65535, &port);
        if (!s)
            return TW_EMALFORMED;
    }
    if (*s)
        return TW_EMALFORMED;
    a.port = (uint16_t)port;
    *ret_addr = a;
    return 0;
}

/* RFC 5952: lower case, the longest run of two or more zero groups compressed, the first if equal. */
static size_t format_ip6(const uint8_t ip[16], char *out, size_t cap)
{
    int best = -1, best_len = 1;
    for (int i = 0; i < 8; i++) {
        int len = 0;
        while (i + len < 8 && tw_get_u16(ip + 2 * (i + len)) == 0)
            len++;
        if (len > best_len) {
            best = i;
            best_len = len;
        }
    }
    size_t n = 0;
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            n += (size_t)snprintf(out + n, cap - n, "::");
            i += best_len - 1;
            continue;
        }
        bool first = i == 0 || i == best + best_len;
        n += (size_t)snprintf(out + n, cap - n, "%s%x", first && (i == 0 || best >= 0) ? "" : ":",
                              tw_get_u16(ip + 2 * i));
    }
    return n;
}

char *tw_addr_format(const struct tw_addr *a, char buf[TW_ADDR_STRLEN])
{
    size_t n = 0;
    if (a->family == TW_FAMILY_V4) {
        n = (size_t)snprintf(buf, TW_ADDR_STRLEN, "%u.%u.%u.%u", a->ip[0], a->ip[1], a->ip[2],
                             a->ip[3]);
    } else if (a->family == TW_FAMILY_V6) {
        if (a->port)
            buf[n++] = '[';
        n += format_ip6(a->ip, buf + n, TW_ADDR_STRLEN - n);
        if (a->scope)
            n += (size_t)snprintf(buf + n, TW_ADDR_STRLEN - n, "%%%u", (unsigned)a->scope);
        if (a->port)
            buf[n++] = ']';
    } else {
        snprintf(buf, TW_ADDR_STRLEN, "none");
        return buf;
    }
    if (a->port)
        snprintf(buf + n, TW_ADDR_STRLEN - n, ":%u", a->port);
    else
        buf[n] = 0;
    return buf;
}

/* --- ranges ------------------------------------------------------------------------------- */

static void range_from_prefix(struct tw_range *r, unsigned bits)
{
    size_t len = tw_addr_ip_len(&r->first);
    r->last = r->first;
    for (size_t i = 0; i < len; i++) {
        unsigned keep = bits >= 8 * (i + 1) ? 8 : bits <= 8 * i ? 0 : bits - 8 * (unsigned)i;
        uint8_t host = (uint8_t)(0xff >> keep);
        r->first.ip[i] = (uint8_t)(r->first.ip[i] & ~host);
        r->last.ip[i] = (uint8_t)(r->last.ip[i] | host);
    }
}

int tw_range_parse(const char *text, struct tw_range *ret_range)
{
    struct tw_range r = { 0 };
    const char *s = parse_ip(text, &r.first);
    if (!s)
        return TW_EMALFORMED;
    r.last = r.first;
    if (*s == '/') {
        unsigned bits;
        s = parse_dec(s + 1, 8 * (unsigned)tw_addr_ip_len(&r.first), &bits);
        if (!s)
            return TW_EMALFORMED;
        range_from_prefix(&r, bits);
    } else if (*s == '-') {
        s = parse_ip(s + 1, &r.last);
        if (!s || r.first.family != r.last.family || tw_addr_cmp(&r.first, &r.last) > 0)
            return TW_EMALFORMED;
    }
    if (*s)
        return TW_EMALFORMED;
    *ret_range = r;
    return 0;
}

bool tw_range_has(const struct tw_range *r, const struct tw_addr *a)
{
    return r->first.family == a->family && memcmp(a->ip, r->first.ip, 16) >= 0 &&
           memcmp(a->ip, r->last.ip, 16) <= 0;
}

/* --- IPv4 inside IPv6 --------------------------------------------------------------------- */

static bool has_prefix(const struct tw_addr *a, const char *bytes, size_t n)
{
    return memcmp(a->ip, bytes, n) == 0;
}

/* RFC 6052 §2.2: where octet i of the IPv4 address sits; octet 8 is skipped. */
static size_t nat64_octet(unsigned bits, unsigned i)
{
    size_t at = bits / 8 + i;
    return bits != 96 && at >= 8 ? at + 1 : at;
}

int tw_nat64_prefix(const struct tw_addr *prefix, unsigned bits, struct tw_range *ret_prefix)
{
    if (prefix->family != TW_FAMILY_V6 || bits < 32 || bits > 96 || bits % 8 ||
        (bits > 64 && bits < 96))
        return TW_EINVAL;
    *ret_prefix = (struct tw_range){ .first = tw_addr_ip_only(prefix) };
    range_from_prefix(ret_prefix, bits);
    ret_prefix->first.port = (uint16_t)bits;
    return 0;
}

int tw_nat64_parse(const char *text, struct tw_range *ret_prefix)
{
    struct tw_range r;
    const char *slash = strchr(text, '/');
    unsigned bits;
    if (!slash || tw_range_parse(text, &r) || !parse_dec(slash + 1, 128, &bits) ||
        tw_nat64_prefix(&r.first, bits, ret_prefix))
        return TW_EMALFORMED;
    return 0;
}

bool tw_nat64_extract(const struct tw_range *prefix, const struct tw_addr *v6,
                      struct tw_addr *ret_v4)
{
    const uint8_t *ip = v6->ip;
    unsigned bits = prefix->first.port;
    if (!bits || !tw_range_has(prefix, v6))
        return false;
    *ret_v4 = tw_addr_v4(ip[nat64_octet(bits, 0)], ip[nat64_octet(bits, 1)],
                         ip[nat64_octet(bits, 2)], ip[nat64_octet(bits, 3)], v6->port);
    return true;
}

struct tw_addr tw_nat64_embed(const struct tw_range *prefix, const struct tw_addr *v4)
{
    struct tw_addr v6 = prefix->first;
    for (unsigned i = 0; i < 4; i++)
        v6.ip[nat64_octet(prefix->first.port, i)] = v4->ip[i];
    v6.port = v4->port;
    return v6;
}

bool tw_nat64_find(const struct tw_addr *a, struct tw_range *ret_prefix)
{
    static const uint8_t lengths[] = { 96, 64, 56, 48, 40, 32 };
    const struct tw_addr known[] = { tw_addr_v4(192, 0, 0, 170, 0), tw_addr_v4(192, 0, 0, 171, 0) };
    struct tw_addr v4;
    for (size_t i = 0; i < sizeof(lengths); i++)
        if (!tw_nat64_prefix(a, lengths[i], ret_prefix) && tw_nat64_extract(ret_prefix, a, &v4) &&
            (tw_addr_eq_ip(&v4, &known[0]) || tw_addr_eq_ip(&v4, &known[1])))
            return true;
    return false;
}

struct v4_list {
    struct tw_addr *out;
    size_t n;
};

static void list_v4(struct v4_list *l, const uint8_t *ip, uint8_t flip)
{
    if (l->n == TW_EMBEDDED_MAX)
        return;
    l->out[l->n++] = tw_addr_v4(ip[0] ^ flip, ip[1] ^ flip, ip[2] ^ flip, ip[3] ^ flip, 0);
}

size_t tw_addr_embedded_v4(const struct tw_addr *a, const struct tw_range *nat64, size_t n64,
                           struct tw_addr ret_v4[TW_EMBEDDED_MAX])
{
    struct v4_list l = { ret_v4, 0 };
    if (a->family == TW_FAMILY_V4)
        list_v4(&l, a->ip, 0);
    if (a->family != TW_FAMILY_V6)
        return l.n;

    if (has_prefix(a, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) || /* mapped, RFC 4291 §2.5.5.2 */
        has_prefix(a, "\0\0\0\0\0\0\0\0\xff\xff\0\0", 12) || /* translated, RFC 2765 */
        has_prefix(a, "\0\0\0\0\0\0\0\0\0\0\0\0", 12) ||     /* compatible, RFC 4291 §2.5.5.1 */
        has_prefix(a, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12)) /* NAT64, RFC 6052 §2.1 */
        list_v4(&l, a->ip + 12, 0);
    if (has_prefix(a, "\x20\x02", 2)) /* 6to4, RFC 3056 §2 */
        list_v4(&l, a->ip + 2, 0);
    if (has_prefix(a, "\x20\x01\0\0", 4)) { /* Teredo, RFC 4380 §4: the client is inverted */
        list_v4(&l, a->ip + 4, 0);
        list_v4(&l, a->ip + 12, 0xff);
    }
    if ((a->ip[8] & 0xfd) == 0 && memcmp(a->ip + 9, "\0\x5e\xfe", 3) == 0) /* ISATAP, RFC 5214 §6.1 */
        list_v4(&l, a->ip + 12, 0);
    for (size_t i = 0; i < n64; i++) {
        struct tw_addr v4;
        if (tw_nat64_extract(&nat64[i], a, &v4))
            list_v4(&l, v4.ip, 0);
    }
    return l.n;
}
