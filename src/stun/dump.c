#include <thalweg/stun.h>

#include <stdarg.h>
#include <stdio.h>

static const char *class_names[] = { "request", "indication", "success", "error" };

struct out {
    char *p;
    size_t n, cap;
};

static TW_PRINTF(2, 3) void put(struct out *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(o->p + o->n, o->cap - o->n, fmt, ap);
    va_end(ap);
    if (n > 0)
        o->n = (size_t)n < o->cap - o->n ? o->n + (size_t)n : o->cap - 1;
}

static void put_text(struct out *o, struct tw_bytes v)
{
    put(o, "\"");
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < 0x20 || v.p[i] == 0x7f || v.p[i] == '"' || v.p[i] == '\\')
            put(o, "\\x%02x", v.p[i]);
        else
            put(o, "%c", v.p[i]);
    }
    put(o, "\"");
}

static void put_hex(struct out *o, struct tw_bytes v)
{
    enum { SHOWN = 48 };
    for (size_t i = 0; i < v.n && i < SHOWN; i++)
        put(o, "%02x", v.p[i]);
    if (v.n > SHOWN)
        put(o, "... (%zu bytes)", v.n);
}

static void put_algos(struct out *o, struct tw_bytes v)
{
    struct tw_rd r = tw_rd(v);
    while (r.n && !r.error) {
        unsigned algo = tw_rd_u16(&r);
        size_t n = tw_rd_u16(&r);
        tw_rd_bytes(&r, n);
        if (r.error)
            break;
        put(o, "%s ", algo == TW_STUN_ALGO_MD5 ? "MD5" : algo == TW_STUN_ALGO_SHA256 ? "SHA-256" : "?");
        tw_rd_bytes(&r, r.n < (4 - n % 4) % 4 ? r.n : (4 - n % 4) % 4);
    }
}

static void put_value(struct out *o, const struct tw_stun_msg *m, enum tw_stun_kind kind,
                      struct tw_bytes v)
{
    char text[TW_ADDR_STRLEN];
    struct tw_addr a;
    switch (kind) {
    case TW_STUN_K_TEXT:
        put_text(o, v);
        break;
    case TW_STUN_K_FLAG:
        break;
    case TW_STUN_K_U8:
        put(o, "%u", v.p[0]);
        break;
    case TW_STUN_K_U16:
        put(o, "0x%04x", tw_get_u16(v.p));
        break;
    case TW_STUN_K_U32:
        put(o, "%u", (unsigned)tw_get_u32(v.p));
        break;
    case TW_STUN_K_ADDR:
    case TW_STUN_K_XADDR:
        if (tw_stun_read_addr(v, kind == TW_STUN_K_XADDR, m->tid, &a))
            put(o, "%s", tw_addr_format(&a, text));
        break;
    case TW_STUN_K_ERROR:
        put(o, "%u ", (v.p[2] & 7) * 100u + v.p[3]);
        put_text(o, tw_bytes(v.p + 4, v.n - 4));
        break;
    case TW_STUN_K_TYPES:
        for (size_t i = 0; i + 1 < v.n; i += 2)
            put(o, "0x%04x ", tw_get_u16(v.p + i));
        break;
    case TW_STUN_K_ALGO:
    case TW_STUN_K_ALGOS:
        put_algos(o, v);
        break;
    case TW_STUN_K_ICMP:
        put(o, "type %u code %u data %u", v.p[2], v.p[3], (unsigned)tw_get_u32(v.p + 4));
        break;
    case TW_STUN_K_U64:
    case TW_STUN_K_BYTES:
        put_hex(o, v);
        break;
    }
}

size_t tw_stun_dump(const struct tw_stun_msg *m, char *out, size_t cap)
{
    struct out o = { out, 0, cap };
    const char *method = tw_stun_method_name(m->method);
    if (cap == 0)
        return 0;
    out[0] = 0;
    put(&o, "%s %s, %zu bytes, transaction ", method ? method : "unknown method",
        class_names[m->cls], m->raw.n);
    put_hex(&o, tw_bytes(m->tid, TW_STUN_TID));
    put(&o, "\n");
    for (int a = 0; a < TW_STUN_A_COUNT; a++) {
        if (!tw_stun_has(m, (enum tw_stun_attr)a))
            continue;
        put(&o, "  %s ", tw_stun_attr_infos[a].name);
        put_value(&o, m, (enum tw_stun_kind)tw_stun_attr_infos[a].kind,
                  tw_stun_get(m, (enum tw_stun_attr)a));
        put(&o, "\n");
    }
    for (int i = 0; i < m->unknown_n; i++)
        put(&o, "  unknown attribute 0x%04x\n", m->unknown[i]);
    return o.n;
}
