#include "tunnel/forwarded.h"

#include "tunnel/http.h"

enum { V1_MAX = 107, V2_HEAD = 16 };

static int text_addr(const char *text, size_t n, uint16_t port, struct tw_addr *ret)
{
    char copy[TW_ADDR_STRLEN];
    if (n == 0 || n >= sizeof(copy))
        return TW_EMALFORMED;
    memcpy(copy, text, n);
    copy[n] = 0;
    return tw_addr_parse(copy, port, ret);
}

/* "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" */
static int read_v1(struct tw_bytes in, struct tw_addr *ret, size_t *ret_used)
{
    const char *word[6], *at = (const char *)in.p;
    size_t len[6], words = 0, n = in.n < V1_MAX ? in.n : V1_MAX;
    const char *end = memchr(at, '\n', n);
    if (!end)
        return in.n < V1_MAX ? TW_ESHORT : TW_EMALFORMED;
    *ret_used = (size_t)(end - at) + 1;
    if (end == at || end[-1] != '\r')
        return TW_EMALFORMED;
    end--;
    while (at < end && words < 6) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        word[words] = at;
        len[words++] = (size_t)((space ? space : end) - at);
        at = space ? space + 1 : end;
    }
    *ret = (struct tw_addr){ .family = TW_FAMILY_NONE };
    if (words >= 2 && len[1] == 7 && memcmp(word[1], "UNKNOWN", 7) == 0)
        return 0;
    if (words != 6)
        return TW_EMALFORMED;
    unsigned long port = 0;
    for (size_t i = 0; i < len[4]; i++) {
        if (word[4][i] < '0' || word[4][i] > '9' || port > 65535)
            return TW_EMALFORMED;
        port = port * 10 + (unsigned)(word[4][i] - '0');
    }
    return port > 65535 ? TW_EMALFORMED : text_addr(word[2], len[2], (uint16_t)port, ret) ? TW_EMALFORMED : 0;
}

static int read_v2(struct tw_bytes in, struct tw_addr *ret, size_t *ret_used)
{
    enum { LOCAL = 0x20, PROXY = 0x21, TCP4 = 0x11, TCP6 = 0x21, ADDRS4 = 12, ADDRS6 = 36 };
    *ret = (struct tw_addr){ .family = TW_FAMILY_NONE };
    if (in.n < V2_HEAD)
        return TW_ESHORT;
    size_t rest = tw_get_u16(in.p + 14);
    uint8_t command = in.p[12], family = in.p[13];
    if (V2_HEAD + rest > TW_FORWARDED_MAX || (command != LOCAL && command != PROXY))
        return TW_EMALFORMED;
    if (in.n < V2_HEAD + rest)
        return TW_ESHORT;
    *ret_used = V2_HEAD + rest;
    const uint8_t *p = in.p + V2_HEAD;
    if (command == PROXY && family == TCP4 && rest >= ADDRS4)
        *ret = tw_addr_v4(p[0], p[1], p[2], p[3], tw_get_u16(p + 8));
    if (command == PROXY && family == TCP6 && rest >= ADDRS6) {
        ret->family = TW_FAMILY_V6;
        memcpy(ret->ip, p, 16);
        ret->port = tw_get_u16(p + 32);
    }
    return 0;
}

int tw_forwarded_proxy(struct tw_bytes in, struct tw_addr *ret, size_t *ret_used)
{
    static const uint8_t v1[] = "PROXY ", v2[] = "\r\n\r\n\0\r\nQUIT\n";
    enum { V1 = sizeof(v1) - 1, V2 = sizeof(v2) - 1 };
    if (in.n == 0)
        return TW_ESHORT;
    if (memcmp(in.p, v1, in.n < V1 ? in.n : V1) == 0)
        return in.n < V1 ? TW_ESHORT : read_v1(in, ret, ret_used);
    if (memcmp(in.p, v2, in.n < V2 ? in.n : V2) == 0)
        return in.n < V2 ? TW_ESHORT : read_v2(in, ret, ret_used);
    return TW_ENOTFOUND;
}

bool tw_forwarded_http(struct tw_bytes in, struct tw_addr *ret)
{
    struct tw_http h;
    size_t used;
    if (tw_http_parse(in, true, &h, &used))
        return false;
    struct tw_bytes list = tw_http_get(&h, "x-forwarded-for");
    size_t n = list.n;
    if (n == 0)
        return false;
    while (n && list.p[n - 1] != ',')
        n--;
    while (n < list.n && list.p[n] == ' ')
        n++;
    const char *at = (const char *)list.p + n;
    return list.n > n && text_addr(at, list.n - n, 0, ret) == 0;
}
