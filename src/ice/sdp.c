/* SDP attributes of ICE (RFC 8839 §5, RFC 8840 §4, RFC 6544 §4.5): candidates and credentials as text. */
#include "ice/internal.h"

#include <stdio.h>

static const char *const types[] = { "host", "srflx", "prflx", "relay" };
static const char *const tcp_types[] = { "", "active", "passive", "so" };

/* --- writing ----------------------------------------------------------------------------------------- */

/* Behind "thalweg-web", before the token: the only way it takes. */
static const char *const vias[] = { "", "http:", "https:" };

int tw_ice_write_candidate(const struct tw_ice_candidate *c, char *out, size_t cap)
{
    char addr[TW_ADDR_STRLEN], related[TW_ADDR_STRLEN + 24] = "", tcp[24] = "", web[TW_ICE_WEB_MAX + 32] = "";
    struct tw_addr ip = tw_addr_ip_only(&c->addr), rel = tw_addr_ip_only(&c->related);
    if (c->related.family) {
        char r[TW_ADDR_STRLEN];
        snprintf(related, sizeof(related), " raddr %s rport %u", tw_addr_format(&rel, r),
                 c->related.port);
    }
    if (ice_is_tcp(c->transport))
        snprintf(tcp, sizeof(tcp), " tcptype %s", tcp_types[c->transport]);
    if (c->web[0])
        snprintf(web, sizeof(web), " thalweg-web %s%s", vias[c->via], c->web);
    /* RFC 6544 §4.5: an active one has no port of its own; 9 stands for it. */
    unsigned port = c->transport == TW_ICE_TCP_ACTIVE && !c->addr.port ? 9 : c->addr.port;
    int n = snprintf(out, cap, "candidate:%s %u %s %lu %s %u typ %s%s%s%s%s%s", c->foundation,
                     c->component, ice_is_tcp(c->transport) ? "tcp" : "udp",
                     (unsigned long)c->priority,
                     c->addr.family ? tw_addr_format(&ip, addr) : c->host, port, types[c->type],
                     related, tcp, web, c->extensions[0] ? " " : "", c->extensions);
    return n < 0 || (size_t)n >= cap ? TW_EFULL : 0;
}

struct text {
    char *p;
    size_t n, cap;
    bool full;
};

static void put(struct text *t, const char *name, const char *value)
{
    int n = t->full ? -1 : snprintf(t->p + t->n, t->cap - t->n, "a=%s%s\r\n", name, value);
    if (n < 0 || (size_t)n >= t->cap - t->n)
        t->full = true;
    else
        t->n += (size_t)n;
}

int tw_ice_write_sdp(const struct tw_ice *a, unsigned stream, char *out, size_t cap, size_t *ret_n)
{
    struct text t = { out, 0, cap, cap == 0 };
    if (stream >= a->cfg.streams)
        return TW_EINVAL;
    put(&t, "ice-ufrag:", a->streams[stream].local.ufrag);
    put(&t, "ice-pwd:", a->streams[stream].local.pwd);
    put(&t, "ice-options:", a->cfg.foreign ? "ice2 trickle renomination"
                                           : "ice2 trickle renomination thalweg");
    if (a->cfg.lite)
        put(&t, "ice-lite", "");
    for (uint16_t i = 0; i < a->local_n; i++) {
        const struct local *l = &a->locals[i];
        struct tw_ice_candidate c;
        char line[TW_ICE_LINE_MAX];
        if (l->comp / a->cfg.components != stream || !ice_is_told(a, l))
            continue;
        ice_local_fill(a, l, &c);
        if (tw_ice_write_candidate(&c, line, sizeof(line)))
            return TW_EFULL;
        put(&t, line, "");
    }
    if (a->gathered_said)
        put(&t, "end-of-candidates", "");
    *ret_n = t.n;
    return t.full ? TW_EFULL : 0;
}

/* --- reading a candidate ----------------------------------------------------------------------------- */

/* The next word of a line; false at its end. */
static bool word(const char **at, struct tw_bytes *ret)
{
    const char *p = *at;
    while (*p == ' ')
        p++;
    size_t n = strcspn(p, " \r\n");
    *ret = tw_bytes(p, n);
    *at = p + n;
    return n > 0;
}

static bool is(struct tw_bytes w, const char *text)
{
    size_t n = strlen(text);
    if (w.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = w.p[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != (uint8_t)text[i])
            return false;
    }
    return true;
}

static bool number(struct tw_bytes w, uint32_t max, uint32_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < w.n; i++) {
        if (w.p[i] < '0' || w.p[i] > '9' || i > 10)
            return false;
        v = v * 10 + (uint64_t)(w.p[i] - '0');
    }
    *ret = (uint32_t)v;
    return w.n && v <= max;
}

static bool copy(struct tw_bytes w, char *to, size_t cap)
{
    if (w.n >= cap)
        return false;
    memcpy(to, w.p, w.n);
    to[w.n] = 0;
    return true;
}

static bool address(struct tw_bytes w, uint32_t port, struct tw_addr *ret)
{
    char text[TW_ADDR_STRLEN];
    if (!copy(w, text, sizeof(text)) || tw_addr_parse(text, 0, ret) || ret->port)
        return false;
    ret->port = (uint16_t)port;
    return true;
}

static int find(struct tw_bytes w, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (names[i][0] && is(w, names[i]))
            return i;
    return -1;
}

bool ice_is_web_token(const char *text)
{
    size_t n = strlen(text);
    return n && n <= TW_ICE_WEB_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == n;
}

/* What is no token does not count. */
static void read_web(struct tw_bytes value, struct tw_ice_candidate *c)
{
    for (uint8_t via = TW_ICE_VIA_HTTPS; via > TW_ICE_VIA_TCP; via--) {
        size_t n = strlen(vias[via]);
        if (value.n > n && memcmp(value.p, vias[via], n) == 0) {
            c->via = via;
            value = tw_bytes(value.p + n, value.n - n);
        }
    }
    snprintf(c->web, sizeof(c->web), "%.*s", (int)value.n, (const char *)value.p);
    if (value.n > TW_ICE_WEB_MAX || !ice_is_web_token(c->web))
        c->web[0] = 0;
}

/* What follows the type: pairs of a name and a value, in any order (RFC 8839 §5.1). */
static int read_extensions(const char *at, struct tw_ice_candidate *c)
{
    struct tw_bytes name, value, raddr = { 0 };
    uint32_t rport = 0;
    size_t n = 0;
    while (word(&at, &name)) {
        if (!word(&at, &value))
            return TW_EMALFORMED;
        if (is(name, "raddr")) {
            raddr = value;
        } else if (is(name, "rport")) {
            if (!number(value, 65535, &rport))
                return TW_EMALFORMED;
        } else if (is(name, "tcptype")) {
            int t = find(value, tcp_types, 4);
            if (t < 0)
                return TW_EUNSUPPORTED;
            c->transport = (uint8_t)t;
        } else if (is(name, "thalweg-web")) {
            read_web(value, c);
        } else if (n + name.n + value.n + 3 <= sizeof(c->extensions)) {
            n += (size_t)snprintf(c->extensions + n, sizeof(c->extensions) - n, "%s%.*s %.*s",
                                  n ? " " : "", (int)name.n, (const char *)name.p, (int)value.n,
                                  (const char *)value.p);
        }
    }
    if (raddr.n && !address(raddr, rport, &c->related))
        c->related = (struct tw_addr){ 0 }; /* a name: of no use to us */
    return 0;
}

int tw_ice_read_candidate(const char *line, struct tw_ice_candidate *ret)
{
    struct tw_ice_candidate c = { 0 };
    struct tw_bytes w, addr;
    uint32_t component, port;
    if (strncmp(line, "a=", 2) == 0)
        line += 2;
    if (strncmp(line, "candidate:", 10) != 0)
        return TW_EMALFORMED;
    line += 10;
    if (!word(&line, &w) || !copy(w, c.foundation, sizeof(c.foundation)) || !word(&line, &w) ||
        !number(w, 256, &component) || component == 0 || !word(&line, &w))
        return TW_EMALFORMED;
    bool tcp = is(w, "tcp");
    if (!tcp && !is(w, "udp"))
        return TW_EUNSUPPORTED;
    c.component = (uint8_t)component;
    if (!word(&line, &w) || !number(w, 0xffffffffu, &c.priority) || c.priority == 0 ||
        !word(&line, &addr) || !word(&line, &w) || !number(w, 65535, &port) || !word(&line, &w) ||
        !is(w, "typ") || !word(&line, &w))
        return TW_EMALFORMED;
    int type = find(w, types, 4);
    if (type < 0 || component > 255)
        return TW_EUNSUPPORTED;
    c.type = (uint8_t)type;
    if (!address(addr, port, &c.addr)) {
        if (!copy(addr, c.host, sizeof(c.host)))
            return TW_EMALFORMED;
        c.addr = (struct tw_addr){ .port = (uint16_t)port };
    }
    /* One without tcptype is of the time before RFC 6544: nobody can connect to it. */
    c.transport = tcp ? TW_ICE_TCP_ACTIVE : TW_ICE_UDP;
    int err = read_extensions(line, &c);
    if (!err && !tcp && c.transport != TW_ICE_UDP)
        err = TW_EMALFORMED;
    if (!err)
        *ret = c;
    return err;
}

/* --- reading a description --------------------------------------------------------------------------- */

struct section {
    char ufrag[TW_ICE_CRED_MAX + 1], pwd[TW_ICE_CRED_MAX + 1];
    struct tw_ice_remote r;
};

static const char *after(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncmp(line, name, n) == 0 ? line + n : NULL;
}

static const char *next_line(const char *p)
{
    p += strcspn(p, "\n");
    return *p ? p + 1 : p;
}

static int read_attribute(const char *line, struct section *s)
{
    const char *v;
    struct tw_bytes w;
    if ((v = after(line, "a=ice-ufrag:")))
        return word(&v, &w) && copy(w, s->ufrag, sizeof(s->ufrag)) ? 0 : TW_EMALFORMED;
    if ((v = after(line, "a=ice-pwd:")))
        return word(&v, &w) && copy(w, s->pwd, sizeof(s->pwd)) ? 0 : TW_EMALFORMED;
    if (after(line, "a=ice-lite"))
        s->r.lite = true;
    if ((v = after(line, "a=ice-options:")))
        while (word(&v, &w)) {
            s->r.ice2 = s->r.ice2 || is(w, "ice2");
            s->r.trickle = s->r.trickle || is(w, "trickle");
            s->r.renomination = s->r.renomination || is(w, "renomination");
            s->r.own = s->r.own || is(w, "thalweg");
        }
    return 0;
}

/* RFC 8840 §4.1: it may say to which credentials it belongs. */
static bool is_of(const struct tw_ice_candidate *c, const char *ufrag)
{
    const char *at = c->extensions;
    struct tw_bytes name, value;
    while (word(&at, &name) && word(&at, &value))
        if (is(name, "ufrag"))
            return value.n == strlen(ufrag) && memcmp(value.p, ufrag, value.n) == 0;
    return true;
}

static int read_candidates(struct tw_ice *a, const char *line, unsigned stream)
{
    struct tw_ice_candidate c;
    if (after(line, "a=end-of-candidates"))
        tw_ice_remote_end(a, a->now, stream);
    if (!after(line, "a=candidate:"))
        return 0;
    int err = tw_ice_read_candidate(line, &c);
    if (err)
        return err == TW_EUNSUPPORTED ? 0 : err;
    c.stream = (uint8_t)stream;
    if (a->streams[stream].remote.ufrag && !is_of(&c, a->streams[stream].remote.ufrag))
        return 0;
    err = tw_ice_add_remote(a, a->now, &c);
    return err == TW_EFULL ? 0 : err;
}

/* One m= section, or what stands before the first. */
static int read_section(struct tw_ice *a, const char *from, const char *to, unsigned stream,
                        const struct section *session, const char **ret_why)
{
    struct section s = *session;
    int err = 0;
    for (const char *l = from; l < to && !err; l = next_line(l)) {
        *ret_why = l;
        err = read_attribute(l, &s);
    }
    if (!err && s.ufrag[0] && s.pwd[0]) {
        s.r.ufrag = s.ufrag;
        s.r.pwd = s.pwd;
        err = tw_ice_set_remote(a, a->now, stream, &s.r);
    }
    for (const char *l = from; l < to && !err; l = next_line(l)) {
        *ret_why = l;
        err = read_candidates(a, l, stream);
    }
    return err;
}

static const char *section_end(const char *p)
{
    do
        p = next_line(p);
    while (*p && !after(p, "m="));
    return p;
}

int tw_ice_read_sdp(struct tw_ice *a, tw_time now, const char *text, const char **ret_why)
{
    struct section session = { .ufrag = "", .pwd = "" };
    const char *why = text, *p = text;
    int err = 0;
    bool sections = false;
    a->now = now;
    if (!after(p, "m=")) {
        p = section_end(text);
        sections = *p != 0;
        for (const char *l = text; l < p && !err; l = next_line(l)) {
            why = l;
            err = read_attribute(l, &session);
        }
    }
    if (!sections && !after(text, "m=")) {
        if (!err)
            err = read_section(a, text, p, 0, &session, &why);
    } else {
        for (unsigned s = 0; *p && s < a->cfg.streams && !err; s++) {
            const char *end = section_end(p);
            err = read_section(a, p, end, s, &session, &why);
            p = end;
        }
    }
    if (ret_why)
        *ret_why = why;
    if (!err && !a->streams[0].remote.ufrag)
        err = TW_ENOTFOUND;
    tw_ice_tick(a, now);
    return err;
}
