#include "tunnel/http.h"

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool same(struct tw_bytes a, struct tw_bytes b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

static struct tw_bytes trim(struct tw_bytes b)
{
    while (b.n && (b.p[0] == ' ' || b.p[0] == '\t'))
        b = tw_bytes(b.p + 1, b.n - 1);
    while (b.n && (b.p[b.n - 1] == ' ' || b.p[b.n - 1] == '\t'))
        b.n--;
    return b;
}

/* What stands before the first `c`, which is taken off `rest` with it. */
static bool split(struct tw_bytes *rest, uint8_t c, struct tw_bytes *ret)
{
    const uint8_t *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
    if (!at)
        return false;
    *ret = tw_bytes(rest->p, (size_t)(at - rest->p));
    *rest = tw_bytes(at + 1, rest->n - ret->n - 1);
    return true;
}

static bool line(struct tw_bytes *rest, struct tw_bytes *ret)
{
    if (!split(rest, '\n', ret))
        return false;
    if (ret->n && ret->p[ret->n - 1] == '\r')
        ret->n--;
    return true;
}

static bool first_line(struct tw_bytes l, bool request, struct tw_http *h)
{
    static const char version[] = "HTTP/1.";
    struct tw_bytes v;
    if (request) {
        if (!split(&l, ' ', &h->method) || !split(&l, ' ', &h->target) || h->method.n == 0 || h->target.n == 0)
            return false;
        v = l;
    } else {
        if (!split(&l, ' ', &v) || l.n < 3 || (l.n > 3 && l.p[3] != ' '))
            return false;
        h->status = tw_bytes(l.p, 3);
    }
    return v.n == sizeof(version) && memcmp(v.p, version, sizeof(version) - 1) == 0;
}

int tw_http_parse(struct tw_bytes in, bool request, struct tw_http *h, size_t *ret_used)
{
    struct tw_bytes rest = in, l;
    *h = (struct tw_http){ 0 };
    if (!line(&rest, &l))
        return TW_ESHORT;
    if (!first_line(l, request, h))
        return TW_EMALFORMED;
    while (line(&rest, &l)) {
        if (l.n == 0) {
            *ret_used = in.n - rest.n;
            return 0;
        }
        if (h->n == TW_HTTP_FIELDS)
            return TW_EFULL;
        /* RFC 9112 §5.1, §5.2: no space before the colon, no folded lines. */
        if (!split(&l, ':', &h->field[h->n].name) || h->field[h->n].name.n == 0 ||
            trim(h->field[h->n].name).n != h->field[h->n].name.n)
            return TW_EMALFORMED;
        h->field[h->n++].value = trim(l);
    }
    return TW_ESHORT;
}

struct tw_bytes tw_http_get(const struct tw_http *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (same(h->field[i].name, tw_bytes_str(name)))
            return h->field[i].value;
    return tw_bytes(NULL, 0);
}

bool tw_http_number(struct tw_bytes text, uint64_t max, uint64_t *ret)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || n > max / 10)
            return false;
        n = n * 10 + (uint64_t)(text.p[i] - '0');
    }
    *ret = n;
    return text.n && n <= max;
}

bool tw_http_has(const struct tw_http *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->n; i++) {
        struct tw_bytes rest = h->field[i].value, one;
        if (!same(h->field[i].name, tw_bytes_str(name)))
            continue;
        while (split(&rest, ',', &one))
            if (same(trim(one), tw_bytes_str(token)))
                return true;
        if (same(trim(rest), tw_bytes_str(token)))
            return true;
    }
    return false;
}
