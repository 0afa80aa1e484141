#include "config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "rt/ifaces.h"
#include "version.h"

static TW_PRINTF(1, 2) bool complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("thalwegd: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\n", stderr);
    va_end(ap);
    return false;
}

static bool parse_ip(const char *option, const char *text, struct tw_addr *ret)
{
    if (tw_addr_parse(text, 0, ret) || ret->port)
        return complain("--%s: \"%s\" is not an IP address", option, text);
    return true;
}

/* --- addresses ---------------------------------------------------------------------------- */

static bool add_listener(struct config *c, const struct tw_addr *ip, unsigned long port)
{
    struct tw_relay_config *r = &c->relay;
    if (r->listener_n == TW_RELAY_MAX_LISTENERS)
        return complain("too many addresses to listen on; name at most %d with -L",
                        TW_RELAY_MAX_LISTENERS);
    r->listeners[r->listener_n] = *ip;
    r->listeners[r->listener_n++].port = (uint16_t)port;
    return true;
}

static bool make_listeners(struct config *c, const struct options *o)
{
    struct tw_addr ips[TW_RELAY_MAX_LISTENERS];
    unsigned n = 0;
    for (unsigned i = 0; i < o->listening_ip.n; i++)
        if (n == TW_RELAY_MAX_LISTENERS ||
            !parse_ip("listening-ip", o->listening_ip.v[i], &ips[n++]))
            return false;
    if (n == 0)
        n = tw_rt_own_addrs(ips, TW_RELAY_MAX_LISTENERS);
    if (n == 0)
        return complain("this machine has no address to listen on; name one with -L");
    for (unsigned i = 0; i < n; i++)
        if (!add_listener(c, &ips[i], o->listening_port))
            return false;
    return true;
}

static bool add_relay(struct config *c, const struct tw_addr *ip)
{
    if (c->relay.relay_n == TW_RELAY_MAX_ADDRS)
        return complain("at most %d relay addresses", TW_RELAY_MAX_ADDRS);
    c->relay.relays[c->relay.relay_n].ip = *ip;
    c->relay.relays[c->relay.relay_n++].ip.port = 0;
    return true;
}

/* The listening addresses; a wildcard among them stands for this machine's own. Loopback only if
 * there is nothing else. */
static bool default_relays(struct config *c)
{
    struct tw_addr own[TW_RELAY_MAX_ADDRS];
    const struct tw_addr *from = c->relay.listeners;
    unsigned n = c->relay.listener_n;
    for (unsigned i = 0; i < c->relay.listener_n; i++)
        if (tw_addr_is_any(&c->relay.listeners[i])) {
            n = tw_rt_own_addrs(own, TW_RELAY_MAX_ADDRS);
            from = own;
            break;
        }
    for (int loopback = 0; loopback < 2 && c->relay.relay_n == 0; loopback++)
        for (unsigned i = 0; i < n; i++)
            if (tw_addr_is_loopback(&from[i]) == loopback && !add_relay(c, &from[i]))
                return false;
    return true;
}

static bool make_relays(struct config *c, const struct options *o)
{
    for (unsigned i = 0; i < o->relay_ip.n; i++) {
        struct tw_addr ip;
        if (!parse_ip("relay-ip", o->relay_ip.v[i], &ip) || !add_relay(c, &ip))
            return false;
    }
    if (o->relay_ip.n == 0 && !default_relays(c))
        return false;
    return c->relay.relay_n > 0 || complain("there is no address to relay on; name one with -E");
}

static bool add_external(struct config *c, const char *text)
{
    char public_ip[TW_ADDR_STRLEN];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    struct tw_addr ext, priv = { 0 };
    if (n >= sizeof(public_ip))
        return complain("--external-ip: \"%s\" is not an IP address", text);
    memcpy(public_ip, text, n);
    public_ip[n] = 0;
    if (!parse_ip("external-ip", public_ip, &ext) ||
        (slash && !parse_ip("external-ip", slash + 1, &priv)))
        return false;
    unsigned used = 0;
    for (uint32_t i = 0; i < c->relay.relay_n; i++) {
        struct tw_relay_addr *r = &c->relay.relays[i];
        if (slash ? !tw_addr_eq_ip(&r->ip, &priv) : r->ip.family != ext.family)
            continue;
        r->external = ext;
        used++;
    }
    return used > 0 || complain("--external-ip %s fits no relay address", text);
}

/* --- users -------------------------------------------------------------------------------- */

static bool parse_key(const char *hex, uint8_t key[16])
{
    if (strlen(hex) != 32 || strspn(hex, "0123456789abcdefABCDEF") != 32)
        return false;
    for (int i = 0; i < 16; i++) {
        char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };
        key[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return true;
}

static bool add_user(struct config *c, const char *text)
{
    char name[TW_STUN_MAX_NAME + 1];
    uint8_t key[16];
    const char *colon = strchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!colon || n == 0 || n >= sizeof(name) || !colon[1])
        return complain("--user must be NAME:PASSWORD or NAME:0xKEY");
    memcpy(name, text, n);
    name[n] = 0;
    int err;
    if (strncmp(colon + 1, "0x", 2) == 0) {
        if (!parse_key(colon + 3, key))
            return complain("--user %s: the key behind 0x must be 32 hex digits", name);
        err = tw_relay_users_add_key(c->users, name, key);
    } else {
        err = tw_relay_users_add(c->users, name, colon + 1);
    }
    if (err == TW_ESTATE)
        return complain("--user %s is given twice", name);
    return !err || complain("--user %s: name and password must be UTF-8 without control "
                            "characters", name);
}

static bool make_users(struct config *c, const struct options *o)
{
    const char *realm = o->realm ? o->realm : "thalweg";
    if (o->users.n == 0) {
        if (o->stun_only || o->no_auth)
            return true;
        return complain("there are no users. Give at least one with -u NAME:PASSWORD, or use "
                        "--no-auth to let anybody relay through this machine");
    }
    if (o->no_auth)
        return complain("--no-auth and --user contradict each other; remove one of them");
    if (tw_relay_users_new(realm, &c->users))
        return complain("--realm \"%s\" must be UTF-8 and shorter than %d bytes", realm,
                        TW_RELAY_REALM_MAX + 1);
    for (unsigned i = 0; i < o->users.n; i++)
        if (!add_user(c, o->users.v[i]))
            return false;
    c->relay.users = c->users;
    if (!tw_relay_users_sha256(c->users))
        fprintf(stderr, "thalwegd: a user has only an MD5 key, so SHA-256 is not offered\n");
    return true;
}

/* --- peers -------------------------------------------------------------------------------- */

static bool make_ranges(struct config *c, const struct options *o)
{
    const struct option_list *lists[] = { &o->allowed, &o->denied, &o->nat64 };
    static const char *names[] = { "allowed-peer-ip", "denied-peer-ip", "nat64-prefix" };
    const struct tw_range **to[] = { &c->relay.allowed, &c->relay.denied, &c->relay.nat64 };
    size_t *to_n[] = { &c->relay.allowed_n, &c->relay.denied_n, &c->relay.nat64_n };
    size_t n = 0;
    c->ranges = calloc(o->allowed.n + o->denied.n + o->nat64.n + 1, sizeof(*c->ranges));
    if (!c->ranges)
        return complain("%s", tw_strerror(TW_ENOMEM));
    for (int k = 0; k < 3; k++) {
        *to[k] = c->ranges + n;
        *to_n[k] = lists[k]->n;
        for (unsigned i = 0; i < lists[k]->n; i++, n++) {
            const char *text = lists[k]->v[i];
            if (k == 2 ? tw_nat64_parse(text, &c->ranges[n]) : tw_range_parse(text, &c->ranges[n]))
                return complain("--%s: \"%s\" is not %s", names[k], text,
                                k == 2 ? "a NAT64 prefix (of 32, 40, 48, 56, 64 or 96 bits)"
                                       : "an address, a prefix or a range");
        }
    }
    return true;
}

bool config_make(struct config *c, const struct options *o)
{
    *c = (struct config){ 0 };
    struct tw_relay_config *r = &c->relay;
    if (o->no_udp)
        return complain("--no-udp leaves nothing to listen on: this version speaks only UDP");
    if (o->min_port && o->max_port && o->min_port > o->max_port)
        return complain("--min-port is above --max-port");
    r->min_port = (uint16_t)o->min_port;
    r->max_port = (uint16_t)o->max_port;
    r->user_quota = (uint32_t)o->user_quota;
    r->total_quota = (uint32_t)o->total_quota;
    r->max_lifetime = (uint32_t)o->max_lifetime;
    r->channel_lifetime = (uint32_t)o->channel_lifetime;
    r->permission_lifetime = (uint32_t)o->permission_lifetime;
    r->nonce_lifetime = (uint32_t)o->stale_nonce;
    r->allow_loopback = o->allow_loopback;
    r->no_turn = o->stun_only;
    r->software = o->no_software ? NULL : "thalweg/" THALWEG_VERSION;
    c->workers = (unsigned)o->relay_threads;
    if (c->workers == 0)
        c->workers = uv_available_parallelism();
    if (c->workers > TW_RELAY_MAX_WORKERS)
        c->workers = TW_RELAY_MAX_WORKERS;
    if (o->alternate_server && tw_addr_parse(o->alternate_server, 3478, &r->alternate))
        return complain("--alternate-server: \"%s\" is not IP[:PORT]", o->alternate_server);
    if (!make_listeners(c, o) || !make_relays(c, o))
        return false;
    for (unsigned i = 0; i < o->external_ip.n; i++)
        if (!add_external(c, o->external_ip.v[i]))
            return false;
    return make_users(c, o) && make_ranges(c, o);
}

void config_free(struct config *c)
{
    tw_relay_users_free(c->users);
    free(c->ranges);
}
