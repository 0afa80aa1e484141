#include "replay.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = 140100, WORDS = 20 };

/* What is drawn comes from the tape, in order. */
struct drawn {
    uint8_t *p;
    size_t n, at, cap;
};

struct player {
    struct replay *r;
    bool verbose;
    struct drawn drawn;
    struct tw_ice_server servers[TW_ICE_SERVERS_MAX];
    unsigned vias;
    uint16_t web_ports[2];
    bool web;
    struct tw_ice_interface interfaces[TW_ICE_INTERFACES_MAX];
    size_t server_n, interface_n;
    char *word[WORDS];
    unsigned words;
};

static void fill(void *ctx, void *out, size_t n)
{
    struct drawn *d = ctx;
    memset(out, 0, n);
    if (n > d->n - d->at)
        n = d->n - d->at;
    if (n)
        memcpy(out, d->p + d->at, n);
    d->at += n;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; -1: it is no hex. */
static long unhex(char *text)
{
    long n = 0;
    for (char *p = text; *p; p += 2, n++) {
        if (digit(p[0]) < 0 || digit(p[1]) < 0)
            return -1;
        ((uint8_t *)text)[n] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
    }
    return n;
}

static bool read_addr(const char *text, struct tw_addr *ret)
{
    char copy[128];
    *ret = (struct tw_addr){ 0 };
    if (!strcmp(text, "none"))
        return true;
    snprintf(copy, sizeof(copy), "%s", text);
    char *scope = strchr(copy, '%');
    if (scope)
        *scope++ = 0;
    if (tw_addr_parse(copy, 0, ret))
        return false;
    if (scope)
        ret->scope = (uint32_t)strtoul(scope, NULL, 10);
    return true;
}

static unsigned number(const struct player *p, unsigned i)
{
    return i < p->words ? (unsigned)strtoul(p->word[i], NULL, 10) : 0;
}

static const char *text(const struct player *p, unsigned i)
{
    return i < p->words && strcmp(p->word[i], "-") != 0 ? p->word[i] : NULL;
}

/* --- the agent -------------------------------------------------------------------------------- */

static void take_events(struct player *p)
{
    struct tw_ice_event ev;
    while (tw_ice_poll_event(p->r->ice, &ev))
        if (p->verbose)
            printf("    event %d, socket %u\n", (int)ev.type, ev.sock);
}

/* A "sent" or "drained": does the agent do the same? */
static bool poll_tx(struct player *p)
{
    struct tw_datagram d;
    char to[TW_ADDR_STRLEN];
    size_t n = 0;
    bool want = !strcmp(p->word[1], "sent");
    bool got = p->r->ice && tw_ice_poll_tx(p->r->ice, &d);
    p->r->sent += got;
    if (!got || !want)
        return got == want;
    for (size_t i = 0; i < d.iov_n; i++)
        n += d.iov[i].n;
    return p->words == 5 && d.sock == number(p, 2) && n == number(p, 4) &&
           !strcmp(tw_addr_format(&d.dst, to), p->word[3]);
}

/* Whoever was told of them has copies. */
static void forget_servers(struct player *p)
{
    for (size_t i = 0; i < p->server_n; i++) {
        free((char *)(uintptr_t)p->servers[i].username);
        free((char *)(uintptr_t)p->servers[i].password);
        free((char *)(uintptr_t)p->servers[i].realm);
        free((char *)(uintptr_t)p->servers[i].nonce);
    }
    p->server_n = 0;
}

static bool make(struct player *p)
{
    struct tw_env env = { .rng = { fill, &p->drawn } };
    struct tw_ice_config cfg = {
        .controlling = number(p, 2), .lite = number(p, 3), .own_peer = number(p, 4),
        .foreign = number(p, 5), .no_udp = number(p, 6), .tcp = number(p, 7),
        .no_probing = number(p, 8), .no_mapping = number(p, 9),
        .policy = (enum tw_ice_policy)number(p, 10), .streams = number(p, 11),
        .components = number(p, 12), .allow = text(p, 13), .deny = text(p, 14),
        .servers = p->servers, .server_n = p->server_n, .vias = p->vias, .web_ports = { p->web_ports[0], p->web_ports[1] },
        .web = p->web ? "000000000000000000000000" : NULL,
    };
    bool ok = !p->r->ice && p->words == 15 && !tw_ice_new(&cfg, &env, &p->r->ice);
    forget_servers(p); /* others may come later */
    return ok;
}

static bool add_server(struct player *p)
{
    if (p->server_n == TW_ICE_SERVERS_MAX || p->words != 9)
        return false;
    struct tw_ice_server *s = &p->servers[p->server_n++];
    *s = (struct tw_ice_server){ .transport = (enum tw_transport)number(p, 3), .turn = number(p, 4) };
    const char **to[] = { &s->username, &s->password, &s->realm, &s->nonce };
    for (unsigned i = 0; i < 4; i++)
        *to[i] = text(p, 5 + i) ? strdup(text(p, 5 + i)) : NULL;
    return read_addr(p->word[2], &s->addr);
}

static bool add_interface(struct player *p)
{
    if (p->interface_n == TW_ICE_INTERFACES_MAX || p->words != 7)
        return false;
    struct tw_ice_interface *i = &p->interfaces[p->interface_n++];
    *i = (struct tw_ice_interface){ .temporary = number(p, 5), .cost = (uint16_t)number(p, 6) };
    snprintf(i->name, sizeof(i->name), "%s", p->word[2]);
    return read_addr(p->word[3], &i->ip) && read_addr(p->word[4], &i->gateway);
}

static bool receive(struct player *p, tw_time now)
{
    struct tw_bytes b = tw_bytes(NULL, 0);
    struct tw_datagram d = { .sock = number(p, 2), .tos = (uint8_t)number(p, 5),
                             .segment = (uint16_t)number(p, 6), .iov = &b, .iov_n = 1 };
    long n = p->words == 8 ? unhex(p->word[7]) : 0;
    if (n < 0 || p->words < 7 || !read_addr(p->word[3], &d.src) || !read_addr(p->word[4], &d.dst))
        return false;
    if (n)
        b = tw_bytes(p->word[7], (size_t)n);
    (void)!tw_ice_recv(p->r->ice, now, &d);
    return true;
}

static bool send(struct player *p, tw_time now)
{
    static const uint8_t zeroes[65536];
    unsigned n = number(p, 4);
    if (n > sizeof(zeroes))
        return false;
    (void)!tw_ice_send_run(p->r->ice, now, number(p, 2), number(p, 3), tw_bytes(zeroes, n),
                           (uint16_t)number(p, 6), (uint8_t)number(p, 5));
    return true;
}

static bool send_other(struct player *p, tw_time now)
{
    static const uint8_t zeroes[65536];
    unsigned n = number(p, 4);
    if (n > sizeof(zeroes))
        return false;
    (void)!tw_ice_send_other(p->r->ice, now, number(p, 2), number(p, 3), tw_bytes(zeroes, n), (uint8_t)number(p, 5));
    return true;
}

static bool set_remote(struct player *p, tw_time now)
{
    struct tw_ice_remote r = { .ufrag = text(p, 3), .pwd = text(p, 4), .lite = number(p, 5),
                               .ice2 = number(p, 6), .trickle = number(p, 7),
                               .renomination = number(p, 8), .own = number(p, 9) };
    return p->words == 10 && !tw_ice_set_remote(p->r->ice, now, number(p, 2), &r);
}

/* Its line has blanks: it is put together again. */
static bool add_candidate(struct player *p, tw_time now)
{
    char line[TW_ICE_LINE_MAX] = "";
    struct tw_ice_candidate c;
    for (unsigned i = 3; i < p->words; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", i > 3 ? " " : "", p->word[i]);
    if (tw_ice_read_candidate(line, &c))
        return false;
    c.stream = (uint8_t)number(p, 2);
    (void)!tw_ice_add_remote(p->r->ice, now, &c);
    return true;
}

static bool with_addr(struct player *p, tw_time now, const char *verb)
{
    struct tw_addr a;
    uint32_t id;
    struct tw_range prefix;
    unsigned at = !strcmp(verb, "opened") ? 4 : !strcmp(verb, "vouch") || !strcmp(verb, "nat64") ? 2 : 3;
    if (at >= p->words || !read_addr(p->word[at], &a))
        return false;
    if (!strcmp(verb, "opened"))
        tw_ice_opened(p->r->ice, now, number(p, 2), atoi(p->word[3]), a.family ? &a : NULL);
    else if (!strcmp(verb, "accepted"))
        tw_ice_accepted(p->r->ice, now, number(p, 2), &a, p->words > 4 ? (enum tw_ice_via)number(p, 4) : TW_ICE_VIA_TCP, &id);
    else if (!strcmp(verb, "mapped"))
        tw_ice_mapped(p->r->ice, now, number(p, 2), &a);
    else if (!strcmp(verb, "vouch"))
        tw_ice_vouch(p->r->ice, now, &a);
    else
        tw_ice_nat64(p->r->ice, now, !tw_nat64_prefix(&a, number(p, 3), &prefix) ? &prefix : NULL);
    return true;
}

/* One line after the first two words, time and verb. False: it makes no sense. */
static bool play(struct player *p, tw_time now, const char *verb)
{
    static const char *const addressed[] = { "opened", "accepted", "mapped", "vouch", "nat64" };
    if (!strcmp(verb, "server"))
        return add_server(p);
    if (!strcmp(verb, "web")) {
        p->vias = number(p, 2);
        p->web_ports[0] = (uint16_t)number(p, 3);
        p->web_ports[1] = (uint16_t)number(p, 4);
        p->web = p->words == 6 && text(p, 5);
        return p->words == 6;
    }
    if (!strcmp(verb, "config"))
        return make(p);
    if (!p->r->ice)
        return false;
    for (size_t i = 0; i < sizeof(addressed) / sizeof(addressed[0]); i++)
        if (!strcmp(verb, addressed[i]))
            return with_addr(p, now, verb);
    if (!strcmp(verb, "interface"))
        return add_interface(p);
    if (!strcmp(verb, "interfaces")) {
        bool ok = !tw_ice_interfaces(p->r->ice, now, p->interfaces, p->interface_n);
        p->interface_n = 0;
        return ok;
    }
    if (!strcmp(verb, "renew")) {
        bool ok = p->server_n == 1 && !tw_ice_renew_server(p->r->ice, now, number(p, 2), p->servers);
        forget_servers(p);
        return ok;
    }
    if (!strcmp(verb, "servers")) {
        bool ok = !tw_ice_add_servers(p->r->ice, now, p->servers, p->server_n);
        forget_servers(p);
        return ok;
    }
    if (!strcmp(verb, "recv"))
        return receive(p, now);
    if (!strcmp(verb, "send"))
        return send(p, now);
    if (!strcmp(verb, "other"))
        return send_other(p, now);
    if (!strcmp(verb, "remote"))
        return set_remote(p, now);
    if (!strcmp(verb, "candidate"))
        return add_candidate(p, now);
    if (!strcmp(verb, "disconnected"))
        tw_ice_disconnected(p->r->ice, now, number(p, 2));
    else if (!strcmp(verb, "forget"))
        tw_ice_forget_remotes(p->r->ice, now);
    else if (!strcmp(verb, "waits"))
        tw_ice_waits(p->r->ice, now, number(p, 2), (tw_time)number(p, 3) * TW_USEC);
    else if (!strcmp(verb, "controlling"))
        tw_ice_set_controlling(p->r->ice, now, number(p, 2));
    else if (!strcmp(verb, "await"))
        tw_ice_await(p->r->ice, now, now + (tw_time)number(p, 2) * TW_MSEC);
    else if (!strcmp(verb, "restart"))
        return !tw_ice_restart(p->r->ice, now);
    else if (!strcmp(verb, "feedback"))
        tw_ice_feedback(p->r->ice, now, number(p, 2), number(p, 3), number(p, 4), number(p, 5));
    else if (!strcmp(verb, "close"))
        tw_ice_close(p->r->ice, now);
    else if (!strcmp(verb, "tick"))
        tw_ice_tick(p->r->ice, now);
    else
        return false;
    return true;
}

/* --- the tape --------------------------------------------------------------------------------- */

static void split(struct player *p, char *line)
{
    p->words = 0;
    for (char *w = strtok(line, " \n"); w && p->words < WORDS; w = strtok(NULL, " \n"))
        p->word[p->words++] = w;
}

static bool collect_random(struct player *p, FILE *in, char *line)
{
    if (!fgets(line, LINE, in) || strcmp(line, "thalweg ice tape 1\n") != 0)
        return false;
    while (fgets(line, LINE, in)) {
        if (strncmp(line, "random ", 7) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        long n = unhex(line + 7);
        struct drawn *d = &p->drawn;
        if (n < 0)
            return false;
        if (d->n + (size_t)n > d->cap) {
            d->cap = 2 * (d->n + (size_t)n) + 4096;
            d->p = realloc(d->p, d->cap);
            if (!d->p)
                return false;
        }
        memcpy(d->p + d->n, line + 7, (size_t)n);
        d->n += (size_t)n;
    }
    rewind(in);
    return fgets(line, LINE, in) != NULL;
}

bool replay_run(FILE *in, bool verbose, struct replay *ret_replay)
{
    struct player *p = calloc(1, sizeof(*p));
    char *line = malloc(LINE);
    *ret_replay = (struct replay){ .bad = 1 };
    if (!p || !line) {
        free(p);
        free(line);
        return false;
    }
    p->r = ret_replay;
    p->verbose = verbose;
    bool ok = collect_random(p, in, line);
    for (unsigned at = 2; ok && fgets(line, LINE, in); at++) {
        if (!strncmp(line, "random ", 7))
            continue;
        if (verbose)
            printf("%.200s%s", line, strlen(line) > 200 ? "...\n" : "");
        split(p, line);
        if (p->words >= 2 && (!strcmp(p->word[1], "sent") || !strcmp(p->word[1], "drained"))) {
            if (!poll_tx(p) && !ret_replay->wrong)
                ret_replay->wrong = at;
            continue;
        }
        ret_replay->bad = at;
        ok = p->words >= 2 && play(p, strtoll(p->word[0], NULL, 10), p->word[1]);
        if (ok && ret_replay->ice)
            take_events(p);
        ret_replay->inputs++;
    }
    if (ok)
        ret_replay->bad = 0;
    forget_servers(p);
    free(p->drawn.p);
    free(p);
    free(line);
    return ok && ret_replay->ice;
}
