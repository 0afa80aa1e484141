#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "rt/ifaces.h"
#include "rt/os.h"
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

static bool add_listener(struct config *c, const struct options *o, const struct tw_addr *ip,
                         unsigned long port)
{
    struct tw_relay_config *r = &c->relay;
    if (r->listener_n == TW_RELAY_MAX_LISTENERS || c->tcp_n == TW_RELAY_MAX_LISTENERS)
        return complain("too many addresses to listen on; name at most %d with -L",
                        TW_RELAY_MAX_LISTENERS / 4);
    struct tw_addr at = *ip;
    at.port = (uint16_t)port;
    if (!o->no_udp || !o->no_dtls)
        r->listeners[r->listener_n++] = at;
    if (!o->no_tcp || !o->no_tls)
        c->tcp[c->tcp_n++] = at;
    return true;
}

/* RFC 5780 needs two addresses of one family, named so that they are not each other's aliases by
 * chance, and two ports on both. */
static bool make_behaviour(struct config *c, const struct options *o, const struct tw_addr *ips,
                           unsigned n)
{
    struct tw_relay_config *r = &c->relay;
    uint16_t port = (uint16_t)o->listening_port;
    uint16_t alt = (uint16_t)(o->alt_port ? o->alt_port : port + 1u);
    for (unsigned i = 0; i < n && port; i++)
        for (unsigned k = i + 1; k < n; k++) {
            bool have = r->behaviour_n && r->listeners[r->behaviour[0].listener[0][0]].family ==
                                              ips[i].family;
            if (ips[i].family != ips[k].family || tw_addr_is_any(&ips[i]) || have ||
                r->behaviour_n == 2)
                continue;
            struct tw_relay_behaviour *b = &r->behaviour[r->behaviour_n];
            for (int a = 0; a < 2; a++)
                for (int p = 0; p < 2; p++) {
                    struct tw_addr at = ips[a ? k : i];
                    at.port = p ? alt : port;
                    uint32_t l = 0;
                    while (l < r->listener_n && !tw_addr_eq(&r->listeners[l], &at))
                        l++;
                    if (l == TW_RELAY_MAX_LISTENERS)
                        return complain("too many addresses to listen on");
                    if (l == r->listener_n)
                        r->listeners[r->listener_n++] = at;
                    b->listener[a][p] = l;
                }
            r->behaviour_n++;
        }
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
    bool named = n > 0;
    if (n == 0)
        n = tw_rt_own_addrs(ips, TW_RELAY_MAX_LISTENERS / 2);
    if (n == 0)
        return complain("this machine has no address to listen on; name one with -L");
    for (unsigned i = 0; i < n; i++)
        if (!add_listener(c, o, &ips[i], o->listening_port))
            return false;
    bool secure = o->tls_port && o->tls_port != o->listening_port && o->listening_port &&
                  !(o->no_tls && o->no_dtls);
    for (unsigned i = 0; i < n && secure; i++)
        if (!add_listener(c, o, &ips[i], o->tls_port))
            return false;
    return !named || o->no_udp || o->no_rfc5780 || make_behaviour(c, o, ips, n);
}

static bool add_relay(struct config *c, const struct tw_addr *ip)
{
    for (uint32_t i = 0; i < c->relay.relay_n; i++)
        if (tw_addr_eq_ip(&c->relay.relays[i].ip, ip))
            return true;
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
    const struct tw_addr *from = c->relay.listener_n ? c->relay.listeners : c->tcp;
    unsigned n = c->relay.listener_n ? c->relay.listener_n : c->tcp_n;
    for (unsigned i = 0; i < n; i++)
        if (tw_addr_is_any(&from[i])) {
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

static void parse_key(const char *hex, uint8_t key[16])
{
    for (int i = 0; i < 16; i++) {
        char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };
        key[i] = (uint8_t)strtoul(two, NULL, 16);
    }
}

/* text has been checked when it was read: a name, a colon, and something. */
static bool add_user(struct config *c, const char *text)
{
    char name[TW_STUN_MAX_NAME + 1];
    uint8_t key[16];
    const char *colon = strchr(text, ':');
    size_t n = (size_t)(colon - text);
    memcpy(name, text, n);
    name[n] = 0;
    int err;
    if (strncmp(colon + 1, "0x", 2) == 0) {
        parse_key(colon + 3, key);
        err = tw_relay_users_add_keys(c->users, name, key, NULL);
    } else {
        err = tw_relay_users_add(c->users, name, colon + 1);
    }
    if (err == TW_ESTATE)
        return complain("--user %s is given twice", name);
    return !err || complain("--user %s: name and password must be UTF-8 without control "
                            "characters", name);
}

/* With no configuration at all a user is made up, so that the server is of use and nobody else's.
 * Under systemd its password survives restarts in the state directory. */
static bool make_up_user(struct config *c, const struct options *o, const struct config *before)
{
    if (before && before->made_up[0])
        memcpy(c->made_up, before->made_up, sizeof(c->made_up));
    else
        state_make_up(o, "password", 20, c->made_up);
    return !tw_relay_users_add(c->users, CONFIG_MADE_UP_USER, c->made_up);
}

bool config_wants_rendezvous(const struct options *o)
{
    return o->rendezvous || o->rendezvous_open || o->rendezvous_plain || o->rendezvous_tokens.n;
}

enum { RENDEZVOUS_QUOTA = 256 };

/* Its users get names that it signs itself. */
static bool make_up_secret(struct config *c, const struct options *o, const struct config *before)
{
    if (before && before->rendezvous_secret[0])
        memcpy(c->rendezvous_secret, before->rendezvous_secret, sizeof(c->rendezvous_secret));
    else
        state_make_up(o, "relay-secret", 20, c->rendezvous_secret);
    return !tw_relay_users_add_guest_secret(c->users, c->rendezvous_secret,
                                            (uint32_t)(o->rendezvous_quota ? o->rendezvous_quota : RENDEZVOUS_QUOTA));
}

static bool load_db(struct config *c, struct db *db)
{
    const char *why;
    struct db_load load = { .users = c->users, .allowed = &c->allowed, .denied = &c->denied,
                            .banned = &c->banned };
    if (!db_load(db, c->realm, &load, &why))
        return complain("the user database: %s", why);
    c->ban_expiry = load.next_expiry;
    c->from_db.users = load.users_n;
    c->from_db.secrets = load.secrets_n;
    if (load.user_quota && !c->relay.user_quota)
        c->relay.user_quota = (uint32_t)load.user_quota;
    if (load.total_quota && !c->relay.total_quota)
        c->relay.total_quota = (uint32_t)load.total_quota;
    if (load.max_bps && !c->relay.max_bps)
        c->relay.max_bps = load.max_bps;
    return true;
}

static bool make_users(struct config *c, const struct options *o, struct db *db,
                       const struct config *before)
{
    c->realm = o->realm ? o->realm : "thalweg";
    bool rendezvous = config_wants_rendezvous(o) && !o->no_auth && !o->stun_only;
    bool some = o->users.n || o->secrets.n || db || !o->any || rendezvous;
    if (!some && (o->stun_only || o->no_auth))
        return true;
    if (!some && o->use_auth_secret)
        return complain("--use-auth-secret needs a --static-auth-secret, or one in --userdb");
    if (!some)
        return complain("there are no users. Give at least one with -u NAME:PASSWORD, or use "
                        "--no-auth to let anybody relay through this machine");
    if (o->no_auth)
        return complain("--no-auth and users contradict each other; remove one of them");
    if (tw_relay_users_new(c->realm, &c->users))
        return complain("--realm \"%s\" must be UTF-8 and shorter than %d bytes", c->realm,
                        TW_RELAY_REALM_MAX + 1);
    if (!o->any && !make_up_user(c, o, before))
        return complain("%s", tw_strerror(TW_ENOMEM));
    for (unsigned i = 0; i < o->users.n; i++)
        if (!add_user(c, o->users.v[i]))
            return false;
    for (unsigned i = 0; i < o->secrets.n; i++)
        if (tw_relay_users_add_secret(c->users, o->secrets.v[i]))
            return complain("--static-auth-secret: at most eight secrets");
    if (rendezvous && !make_up_secret(c, o, before))
        return complain("--static-auth-secret: at most seven, as the rendezvous needs one");
    if (o->separator)
        tw_relay_users_set_separator(c->users, o->separator[0]);
    c->relay.users = c->users;
    return !db || load_db(c, db);
}

void config_say_limits(const struct config *c, void (*say)(const char *line))
{
    if (!c->users)
        return;
    if (!tw_relay_users_sha256(c->users))
        say("SHA-256 is not offered: a user is known by an MD5 key only (0x..., or imported from "
            "coturn), and a client that is offered SHA-256 does not fall back");
    if (!tw_relay_users_anonymity(c->users))
        say("user name anonymity is not offered: with --static-auth-secret names cannot be looked "
            "up by their hash");
}

/* --- TLS ---------------------------------------------------------------------------------- */

enum { PEM_MAX = 1 << 20 };

/* A whole file into memory of its own. */
static bool read_file(const char *option, const char *path, options_opener *open_file,
                      struct tw_bytes *ret)
{
    int fd = open_file(path);
    if (fd < 0)
        return complain("--%s: cannot open %s: %s", option, path, strerror(errno));
    uint8_t *p = malloc(PEM_MAX);
    size_t n = 0;
    ssize_t got = 1;
    while (p && n < PEM_MAX && (got = read(fd, p + n, PEM_MAX - n)) > 0)
        n += (size_t)got;
    close(fd);
    if (!p || got < 0 || n == PEM_MAX) {
        free(p);
        return complain("--%s: cannot read %s", option, path);
    }
    *ret = tw_bytes(p, n);
    return true;
}

static void free_file(struct tw_bytes b)
{
    if (b.p)
        sodium_memzero((void *)(uintptr_t)b.p, b.n);
    free((void *)(uintptr_t)b.p);
}

static bool make_tls(struct config *c, const struct options *o, options_opener *open_file,
                     const struct config *before)
{
    const char *why;
    struct tw_rt_tls_config cfg = { .key_password = o->pkey_pwd, .priority = o->cipher_list };
    if (o->no_tls && o->no_dtls)
        return true;
    if (!o->cert != !o->pkey)
        return complain("--cert and --pkey go together");
    c->self_signed = !o->cert;
    if (c->self_signed && before && before->self_signed) {
        c->tls = tw_rt_tls_ref(before->tls);
        return true;
    }
    if (c->self_signed) {
        static const char name[] = "self-signed.key";
        char key[2048] = "";
        bool had = state_get(o, name, key, sizeof(key));
        bool ok = !tw_rt_tls_new_self_signed(o->cipher_list, key, sizeof(key), &c->tls, &why);
        if (ok && !had)
            state_put(o, name, key);
        sodium_memzero(key, sizeof(key));
        return ok || complain("no self-signed certificate: %s", why);
    }
    bool ok = read_file("cert", o->cert, open_file, &cfg.cert) &&
              read_file("pkey", o->pkey, open_file, &cfg.key);
    if (ok && tw_rt_tls_new(&cfg, &c->tls, &why))
        ok = complain("--cert %s, --pkey %s: %s", o->cert, o->pkey, why);
    free_file(cfg.cert);
    free_file(cfg.key);
    return ok;
}

/* --- peers -------------------------------------------------------------------------------- */

static bool make_ranges(struct config *c, const struct options *o)
{
    const struct option_list *lists[] = { &o->allowed, &o->denied, &o->nat64, &o->trusted_proxies };
    struct ranges *to[] = { &c->allowed, &c->denied, &c->nat64, &c->proxies };
    for (int k = 0; k < 4; k++)
        for (unsigned i = 0; i < lists[k]->n; i++) {
            struct tw_range range;
            const char *text = lists[k]->v[i]; /* checked when it was read */
            if ((k == 2 ? tw_nat64_parse(text, &range) : tw_range_parse(text, &range)) ||
                !ranges_add(to[k], &range))
                return complain("%s", tw_strerror(TW_ENOMEM));
        }
    return true;
}

/* This machine's addresses as they are now. */
static bool own_addresses(struct config *c)
{
    struct tw_addr own[256];
    free(c->own.v);
    c->own = (struct ranges){ 0 };
    unsigned n = tw_rt_all_addrs(own, 256);
    for (unsigned i = 0; i < n; i++)
        if (!tw_addr_is_loopback(&own[i]) &&
            !ranges_add(&c->own, &(struct tw_range){ own[i], own[i] }))
            return false;
    for (uint32_t i = 0; i < c->relay.relay_n; i++) {
        const struct tw_addr *e = &c->relay.relays[i].external;
        if (e->family && !ranges_add(&c->own, &(struct tw_range){ *e, *e }))
            return false;
    }
    c->relay.own = c->own.v;
    c->relay.own_n = c->own.n;
    return true;
}

static void point_to_ranges(struct config *c)
{
    struct tw_relay_config *r = &c->relay;
    r->allowed = c->allowed.v;
    r->allowed_n = c->allowed.n;
    r->denied = c->denied.v;
    r->denied_n = c->denied.n;
    r->nat64 = c->nat64.v;
    r->nat64_n = c->nat64.n;
    r->banned = c->banned.v;
    r->banned_n = c->banned.n;
}

static void take_numbers(struct config *c, const struct options *o)
{
    struct tw_relay_config *r = &c->relay;
    r->min_port = (uint16_t)o->min_port;
    r->max_port = (uint16_t)o->max_port;
    r->user_quota = (uint32_t)o->user_quota;
    r->total_quota = (uint32_t)o->total_quota;
    r->max_bps = o->max_bps;
    r->total_bps = o->bps_capacity;
    r->budget = (struct tw_relay_budget){ (uint32_t)o->answer_rate, (uint32_t)o->answer_burst,
                                          (uint32_t)o->answer_total };
    r->max_lifetime = (uint32_t)o->max_lifetime;
    r->channel_lifetime = (uint32_t)o->channel_lifetime;
    r->permission_lifetime = (uint32_t)o->permission_lifetime;
    r->nonce_lifetime = (uint32_t)o->stale_nonce;
    r->allow_loopback = o->allow_loopback;
    r->no_turn = o->stun_only;
    r->no_udp_relay = o->no_udp_relay;
    r->no_tcp_relay = o->no_tcp_relay;
    r->mobility = o->mobility;
    r->software = o->no_software ? NULL : "thalweg/" THALWEG_VERSION;
    r->unix_offset = tw_rt_unix_offset();
    c->workers = (unsigned)o->relay_threads;
    if (c->workers == 0)
        c->workers = uv_available_parallelism();
    if (c->workers > TW_RELAY_MAX_WORKERS)
        c->workers = TW_RELAY_MAX_WORKERS;
}

bool config_make(struct config *c, const struct options *o, struct db *db,
                 options_opener *open_file, const struct config *before)
{
    *c = (struct config){ 0 };
    if (o->no_udp && o->no_tcp && o->no_tls && o->no_dtls)
        return complain("--no-udp, --no-tcp, --no-tls and --no-dtls leave nothing to speak");
    if (o->no_udp_relay && o->no_tcp_relay)
        return complain("--no-udp-relay and --no-tcp-relay leave nothing to relay; see --stun-only");
    if (o->min_port && o->max_port && o->min_port > o->max_port)
        return complain("--min-port is above --max-port");
    take_numbers(c, o);
    if (o->alternate_server && tw_addr_parse(o->alternate_server, 3478, &c->relay.alternate))
        return complain("--alternate-server: \"%s\" is not IP[:PORT]", o->alternate_server);
    if (!make_listeners(c, o) || !make_relays(c, o))
        return false;
    for (unsigned i = 0; i < o->external_ip.n; i++)
        if (!add_external(c, o->external_ip.v[i]))
            return false;
    if (!make_ranges(c, o) || !make_users(c, o, db, before) || !make_tls(c, o, open_file, before) ||
        !own_addresses(c))
        return false;
    point_to_ranges(c);
    return true;
}

bool config_keep_places(struct config *next, const struct options *o, const struct config *now)
{
    struct tw_relay_config *r = &next->relay;
    if (o->listening_ip.n == 0) {
        memcpy(r->listeners, now->relay.listeners, sizeof(r->listeners));
        r->listener_n = now->relay.listener_n;
        memcpy(next->tcp, now->tcp, sizeof(next->tcp));
        next->tcp_n = now->tcp_n;
    }
    if (o->relay_ip.n == 0) {
        memcpy(r->relays, now->relay.relays, sizeof(r->relays));
        r->relay_n = now->relay.relay_n;
    }
    bool same = next->tcp_n == now->tcp_n;
    for (unsigned i = 0; i < next->tcp_n && same; i++)
        same = tw_addr_eq_ip(&next->tcp[i], &now->tcp[i]) &&
               (next->tcp[i].port == now->tcp[i].port || !next->tcp[i].port);
    return same && own_addresses(next); /* external ones may be others than before */
}

void config_free(struct config *c)
{
    tw_relay_users_free(c->users);
    tw_rt_tls_unref(c->tls);
    free(c->allowed.v);
    free(c->denied.v);
    free(c->nat64.v);
    free(c->proxies.v);
    free(c->own.v);
    free(c->banned.v);
    sodium_memzero(c, sizeof(*c));
}
