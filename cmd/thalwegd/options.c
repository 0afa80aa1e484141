#include "options.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, NUMBER, TEXT, LIST };

struct option {
    char letter;         /* 0: none */
    const char *name;
    enum kind kind;
    size_t offset;
    unsigned long min, max; /* of a NUMBER */
    const char *arg;     /* what help calls its value */
    const char *help;
    const char *(*check)(const char *value); /* NULL, or what is wrong with it */
};

#define AT(field) offsetof(struct options, field)

/* --- what values may be ---------------------------------------------------------------------- */

static const char *check_ip(const char *v)
{
    struct tw_addr a;
    return tw_addr_parse(v, 0, &a) || a.port ? "is not an IP address" : NULL;
}

static const char *check_external(const char *v)
{
    char ip[TW_ADDR_STRLEN];
    size_t n = strcspn(v, "/");
    if (n >= sizeof(ip))
        return "is not PUBLIC or PUBLIC/PRIVATE";
    memcpy(ip, v, n);
    ip[n] = 0;
    return check_ip(ip) || (v[n] && check_ip(v + n + 1)) ? "is not PUBLIC or PUBLIC/PRIVATE" : NULL;
}

static const char *check_server(const char *v)
{
    struct tw_addr a;
    return tw_addr_parse(v, 3478, &a) ? "is not IP[:PORT]" : NULL;
}

static const char *check_range(const char *v)
{
    struct tw_range r;
    return tw_range_parse(v, &r) ? "is not an address, a prefix or a range" : NULL;
}

static const char *check_nat64(const char *v)
{
    struct tw_range r;
    return tw_nat64_parse(v, &r) ? "is not a NAT64 prefix (of 32, 40, 48, 56, 64 or 96 bits)" : NULL;
}

static const char *check_user(const char *v)
{
    const char *colon = strchr(v, ':');
    if (!colon || colon == v || !colon[1] || colon - v > TW_STUN_MAX_NAME)
        return "must be NAME:PASSWORD or NAME:0xKEY";
    if (strncmp(colon + 1, "0x", 2) == 0 &&
        (strlen(colon + 3) != 32 || strspn(colon + 3, "0123456789abcdefABCDEF") != 32))
        return "has a key that is not 32 hex digits";
    return NULL;
}

static const char *check_letter(const char *v)
{
    return strlen(v) == 1 ? NULL : "must be one character";
}

static const char *check_format(const char *v)
{
    return strcmp(v, "text") != 0 && strcmp(v, "json") != 0 ? "must be text or json" : NULL;
}

/* Names and meanings are coturn's wherever it has the option. */
static const struct option table[] = {
    { 'c', "config", TEXT, AT(config_file), 0, 0, "FILE",
      "Read options from FILE, one a line: name=value, or a name alone. SIGHUP reads it again." },
    { 'n', "no-config", FLAG, AT(accepted), 0, 0, NULL,
      "Read no configuration file. None is read unless -c names one." },
    /* where */
    { 'L', "listening-ip", LIST, AT(listening_ip), 0, 0, "IP",
      "Listen on this address; may be given again. Default: every address of this machine. With two "
      "of one family, behaviour discovery (RFC 5780) is answered too.", check_ip },
    { 'p', "listening-port", NUMBER, AT(listening_port), 0, 65535, "PORT",
      "Listen on this port, UDP and TCP; 0 lets the system choose one. Default: 3478. TLS and DTLS "
      "are told from plain traffic by their first byte, on this port and on the next option's." },
    { 0, "tls-listening-port", NUMBER, AT(tls_port), 0, 65535, "PORT",
      "The port that clients expect TLS and DTLS on; 0: none. Default: 5349." },
    { 0, "alt-listening-port", NUMBER, AT(alt_port), 0, 65535, "PORT",
      "The second port for RFC 5780. Default (and 0): listening-port plus 1." },
    { 0, "alt-tls-listening-port", NUMBER, AT(alt_tls_port), 0, 65535, "PORT",
      "Accepted: behaviour discovery is about UDP." },
    { 'E', "relay-ip", LIST, AT(relay_ip), 0, 0, "IP",
      "Give out relayed addresses on this address; may be given again. Default: the listening "
      "addresses, without loopback if there are others.", check_ip },
    { 'X', "external-ip", LIST, AT(external_ip), 0, 0, "PUBLIC[/PRIVATE]",
      "Behind a NAT: tell clients PUBLIC where the relay address is PRIVATE.", check_external },
    { 0, "min-port", NUMBER, AT(min_port), 1, 65535, "PORT",
      "Lowest port of relayed addresses. Default: 49152." },
    { 0, "max-port", NUMBER, AT(max_port), 1, 65535, "PORT",
      "Highest port of relayed addresses. Default: 65535." },
    { 'm', "relay-threads", NUMBER, AT(relay_threads), 0, TW_RELAY_MAX_WORKERS, "N",
      "Worker threads. Default (and 0): one for each CPU." },
    /* who */
    { 'a', "lt-cred-mech", FLAG, AT(lt_cred_mech), 0, 0, NULL,
      "Ask for long-term credentials. This is what happens anyway when there are users." },
    { 'z', "no-auth", FLAG, AT(no_auth), 0, 0, NULL,
      "Let anybody relay. Without users and without this option the server does not start." },
    { 'u', "user", LIST, AT(users), 0, 0, "NAME:PASSWORD",
      "A user; may be given again. NAME:0xKEY takes the MD5 key (32 hex digits) that turnadmin -k "
      "prints; SHA-256 is then off for the realm.", check_user },
    { 'r', "realm", TEXT, AT(realm), 0, 0, "REALM",
      "The realm. Default: thalweg. Up to 16 bytes keep the answers to strangers within 100." },
    { 0, "use-auth-secret", FLAG, AT(use_auth_secret), 0, 0, NULL,
      "Take time-limited user names, EXPIRY:ID, whose password is base64(HMAC-SHA1(secret, name)). "
      "This is what happens anyway when there is a secret." },
    { 0, "static-auth-secret", LIST, AT(secrets), 0, 0, "SECRET",
      "A secret for them; may be given up to eight times, so that it can be rotated." },
    { 'C', "rest-api-separator", TEXT, AT(separator), 0, 0, "CHARACTER",
      "What stands between EXPIRY and ID. Default: a colon.", check_letter },
    { 'b', "userdb", TEXT, AT(database), 0, 0, "FILE",
      "A SQLite database of users, secrets, quotas and bans, made with thalwegadm(8). Changes in it "
      "are seen within two seconds." },
    { 0, "db", TEXT, AT(database), 0, 0, "FILE", "The same." },
    /* TLS */
    { 0, "cert", TEXT, AT(cert), 0, 0, "FILE",
      "Certificate, and its chain behind it, in PEM. Without one a self-signed certificate is made "
      "at each start, with a new key unless there is a --state-dir." },
    { 0, "pkey", TEXT, AT(pkey), 0, 0, "FILE", "Its private key, in PEM." },
    { 0, "state-dir", TEXT, AT(state_dir), 0, 0, "FOLDER",
      "What is made up is kept there, and the same after a restart: the self-signed certificate's key (which the pin in the "
      "rendezvous's URL means), its token, and the secret behind its users' names. Default: what systemd names (StateDirectory=), or "
      "nothing is kept." },
    { 0, "pkey-pwd", TEXT, AT(pkey_pwd), 0, 0, "PASSWORD", "The key's password." },
    { 0, "cipher-list", TEXT, AT(cipher_list), 0, 0, "LIST",
      "A GnuTLS priority string. Default: TLS 1.2 and 1.3 with forward secrecy and AEAD." },
    /* what is spoken */
    { 0, "no-udp", FLAG, AT(no_udp), 0, 0, NULL, "No plain UDP between clients and server." },
    { 0, "no-tcp", FLAG, AT(no_tcp), 0, 0, NULL, "No plain TCP between clients and server." },
    { 0, "no-tls", FLAG, AT(no_tls), 0, 0, NULL, "No TLS." },
    { 0, "no-dtls", FLAG, AT(no_dtls), 0, 0, NULL, "No DTLS." },
    { 0, "no-udp-relay", FLAG, AT(no_udp_relay), 0, 0, NULL, "Relay no UDP." },
    { 0, "no-tcp-relay", FLAG, AT(no_tcp_relay), 0, 0, NULL, "Relay no TCP (RFC 6062)." },
    { 0, "mobility", FLAG, AT(mobility), 0, 0, NULL,
      "Let allocations move with their clients (RFC 8016)." },
    { 0, "no-rfc5780", FLAG, AT(no_rfc5780), 0, 0, NULL, "No behaviour discovery." },
    { 'S', "stun-only", FLAG, AT(stun_only), 0, 0, NULL, "Answer STUN only; no relaying." },
    { 0, "alternate-server", TEXT, AT(alternate_server), 0, 0, "IP[:PORT]",
      "Send clients that ask for an allocation there (300).", check_server },
    { 0, "no-software-attribute", FLAG, AT(no_software), 0, 0, NULL,
      "Leave SOFTWARE out of answers to users." },
    /* how much */
    { 'q', "user-quota", NUMBER, AT(user_quota), 0, 100000000, "N",
      "Allocations one user may have at a time. Default (and 0): no limit." },
    { 'Q', "total-quota", NUMBER, AT(total_quota), 0, 100000000, "N",
      "Allocations at a time in all. Default (and 0): no limit." },
    { 's', "max-bps", NUMBER, AT(max_bps), 0, 1000000000000, "N",
      "Bytes a second that an allocation may relay each way, or, relaying TCP, each connection. "
      "Default (and 0): no limit." },
    { 'B', "bps-capacity", NUMBER, AT(bps_capacity), 0, 1000000000000, "N",
      "Bytes a second that all together may relay each way. Default (and 0): no limit." },
    { 0, "max-allocate-lifetime", NUMBER, AT(max_lifetime), 600, 86400, "SECONDS",
      "Longest lifetime granted. Default: 3600." },
    { 0, "channel-lifetime", NUMBER, AT(channel_lifetime), 1, 86400, "SECONDS",
      "Lifetime of channels. Default: 600." },
    { 0, "permission-lifetime", NUMBER, AT(permission_lifetime), 1, 86400, "SECONDS",
      "Lifetime of permissions. Default: 300." },
    { 0, "stale-nonce", NUMBER, AT(stale_nonce), 0, 86400, "SECONDS",
      "Lifetime of nonces. Default (and 0): 600." },
    { 0, "unauthorized-ratelimit-rps", NUMBER, AT(answer_rate), 0, 1000000, "N",
      "Answers a second that a /24 or /56 gets, over UDP and before it is authenticated, when they "
      "are larger than its questions. Default (and 0): 20." },
    { 0, "unauthorized-burst", NUMBER, AT(answer_burst), 0, 1000000, "N",
      "How many of them at once. Default (and 0): 100." },
    { 0, "unauthorized-total", NUMBER, AT(answer_total), 0, 100000000, "N",
      "How many of them a second in all. Default (and 0): 10000." },
    { 0, "max-connections", NUMBER, AT(connections), 0, 1000000, "N",
      "TCP, TLS and DTLS clients of one IPv4 address or IPv6 /64. Default (and 0): 4096." },
    { 0, "max-handshakes", NUMBER, AT(handshakes), 0, 1000000, "N",
      "TLS and DTLS handshakes a second of one /24 or /56. Default (and 0): 200." },
    { 0, "max-half-open", NUMBER, AT(half_open), 0, 1000000, "N",
      "Handshakes that one address or /64 may have unfinished. Default (and 0): 128." },
    /* peers */
    { 0, "allow-loopback-peers", FLAG, AT(allow_loopback), 0, 0, NULL,
      "Let peers be on 127.0.0.0/8 and ::1. For tests: it opens this machine's own services." },
    { 0, "allowed-peer-ip", LIST, AT(allowed), 0, 0, "RANGE",
      "Peers to allow: an address, a prefix (10.0.0.0/8) or a range (10.0.0.1-10.0.0.9). Beats "
      "--denied-peer-ip, which beats the default of denying all special-purpose addresses and this "
      "machine's own.", check_range },
    { 0, "denied-peer-ip", LIST, AT(denied), 0, 0, "RANGE", "Peers to deny.", check_range },
    { 0, "nat64-prefix", LIST, AT(nat64), 0, 0, "PREFIX",
      "A NAT64 prefix of this network: peers in it are judged by the IPv4 address inside.",
      check_nat64 },
    /* running it */
    { 0, "proc-user", TEXT, AT(proc_user), 0, 0, "USER",
      "Become this user once started. A small helper stays behind to open the files named here when "
      "they are read again." },
    { 0, "proc-group", TEXT, AT(proc_group), 0, 0, "GROUP",
      "And this group. Default: the user's own." },
    { 0, "no-sandbox", FLAG, AT(no_sandbox), 0, 0, NULL,
      "Do not give up system calls (seccomp) that a relay does not need." },
    { 0, "drain-timeout", NUMBER, AT(drain_timeout), 0, 86400, "SECONDS",
      "How long SIGTERM waits for allocations to end. Default: 60; 0: it does not wait." },
    { 0, "rendezvous", FLAG, AT(rendezvous), 0, 0, NULL,
      "Be a rendezvous, at which programs are dialled by their public key (thalweg listen, thalweg "
      "connect), and recommend this server's STUN and TURN to them. Who wants to be dialled needs a token; one is "
      "made up unless the next options say otherwise." },
    { 0, "rendezvous-token", LIST, AT(rendezvous_tokens), 0, 0, "TOKEN",
      "Whoever has it may be dialled here and gets credentials of the relay; may be given again. Implies "
      "--rendezvous, as do all of these options that follow." },
    { 0, "rendezvous-open", FLAG, AT(rendezvous_open), 0, 0, NULL,
      "Let anybody be dialled here, and relay, without a token." },
    { 0, "rendezvous-port", NUMBER, AT(rendezvous_port), 0, 65535, "PORT",
      "The port of the rendezvous with TLS, where TURN over TLS and in a WebSocket, and a page for browsers, are served "
      "as well; 0 lets the system choose one. Default: 443." },
    { 0, "no-rendezvous-tls", FLAG, AT(no_rendezvous_tls), 0, 0, NULL,
      "Do not offer it with TLS." },
    { 0, "rendezvous-plain", FLAG, AT(rendezvous_plain), 0, 0, NULL,
      "Offer it without TLS, too (ws://). What is said there is sealed all the same." },
    { 0, "rendezvous-plain-port", NUMBER, AT(rendezvous_plain_port), 0, 65535, "PORT",
      "The port of that; 0 lets the system choose one. Default: 80." },
    { 0, "rendezvous-clients", NUMBER, AT(rendezvous_clients), 1, 10000000, "N",
      "Connections to it at a time. Default: 100000." },
    { 0, "rendezvous-per-source", NUMBER, AT(rendezvous_per_source), 1, 10000000, "N",
      "Connections to it from one address, or from one /64 of IPv6. Default: 256." },
    { 0, "rendezvous-rate", NUMBER, AT(rendezvous_rate), 1, 1000000000, "BYTES",
      "Bytes a second that may pass by way of it, each way of each call, until the two have found a better "
      "way. Default: 65536." },
    { 0, "rendezvous-quota", NUMBER, AT(rendezvous_quota), 1, 1000000, "N",
      "Allocations at the relay, at a time, of all who come to the rendezvous with one token from one network (an "
      "IPv4 address, a /64 of IPv6). What they relay is UDP, and to those only who answer. Default: 256." },
    { 0, "trusted-proxy", LIST, AT(trusted_proxies), 0, 0, "RANGE",
      "A reverse proxy before the rendezvous's ports: what it says of whom it speaks for is believed (PROXY protocol 1 "
      "and 2, X-Forwarded-For). May be given again.", check_range },
    { 0, "prometheus", FLAG, AT(prometheus), 0, 0, NULL,
      "Serve metrics at http://ADDRESS:PORT/metrics." },
    { 0, "prometheus-port", NUMBER, AT(prometheus_port), 0, 65535, "PORT",
      "Default (and 0): 9641." },
    { 0, "prometheus-address", TEXT, AT(prometheus_address), 0, 0, "IP",
      "Default: 127.0.0.1 (coturn: any).", check_ip },
    { 0, "pidfile", TEXT, AT(pidfile), 0, 0, "FILE", "Write the process id to FILE." },
    { 'l', "log-file", TEXT, AT(log_file), 0, 0, "FILE",
      "Log to FILE instead of standard error; \"stdout\" for standard output. SIGHUP opens it "
      "again." },
    { 0, "log-format", TEXT, AT(log_format), 0, 0, "text|json", "Default: text.", check_format },
    { 0, "log-rate", NUMBER, AT(log_rate), 0, 1000000, "N",
      "Records a second; beyond that they are only counted. Default (and 0): 200." },
    { 'v', "verbose", FLAG, AT(verbose), 0, 0, NULL,
      "Log every allocation. This writes client addresses into the log." },
    { 0, "no-gro", FLAG, AT(no_gro), 0, 0, NULL,
      "Take every datagram by itself instead of letting the kernel join runs of them." },
    { 'h', "help", FLAG, AT(help), 0, 0, NULL, "Show this text." },
    { 0, "version", FLAG, AT(version), 0, 0, NULL, "Show the version." },
};
enum { TABLE_N = sizeof(table) / sizeof(table[0]) };
static_assert((int)TABLE_N <= (int)OPTION_MAX, "struct options has a place for each");

/* Where an option stood, for error messages. */
struct place {
    const char *file; /* NULL: the command line */
    unsigned line;
};

static TW_PRINTF(2, 3) bool complain(const struct place *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("thalwegd: ", stderr);
    if (at->file)
        fprintf(stderr, "%s:%u: ", at->file, at->line);
    vfprintf(stderr, fmt, ap);
    fputs("\n", stderr);
    va_end(ap);
    return false;
}

static const struct option *find_name(const char *name, size_t n)
{
    for (size_t i = 0; i < TABLE_N; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0)
            return &table[i];
    return NULL;
}

static const struct option *find_letter(char c)
{
    for (size_t i = 0; i < TABLE_N; i++)
        if (table[i].letter == c)
            return &table[i];
    return NULL;
}

static bool set_number(struct options *o, const struct option *opt, const char *value,
                       const struct place *at)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(value, &end, 10);
    if (errno || *end || end == value || *value == '-' || v < opt->min || v > opt->max)
        return complain(at, "%s must be a number from %lu to %lu, not \"%s\"", opt->name, opt->min,
                        opt->max, value);
    *(unsigned long *)((char *)o + opt->offset) = v;
    return true;
}

static bool set_list(struct options *o, const struct option *opt, const char *value,
                     const struct place *at)
{
    struct option_list *l = (struct option_list *)((char *)o + opt->offset);
    if (l->n == OPTION_LIST_MAX)
        return complain(at, "%s can be given at most %d times", opt->name, OPTION_LIST_MAX);
    l->v[l->n] = strdup(value);
    return l->v[l->n++] != NULL;
}

/* 1, 0, or -1: neither. */
static int truth(const char *value)
{
    static const char *yes[] = { "1", "true", "yes", "on" }, *no[] = { "0", "false", "no", "off" };
    for (int i = 0; i < 4; i++) {
        if (!value || strcmp(value, yes[i]) == 0)
            return 1;
        if (strcmp(value, no[i]) == 0)
            return 0;
    }
    return -1;
}

/* value is NULL when none was given. */
static bool set(struct options *o, const struct option *opt, const char *value,
                const struct place *at)
{
    char **text = (char **)((char *)o + opt->offset);
    size_t i = (size_t)(opt - table);
    o->any = true;
    if (at->file && o->given[i] && opt->kind != LIST)
        return true;
    if (!at->file)
        o->given[i] = true;
    if (opt->kind == FLAG) {
        int v = truth(value);
        if (v < 0)
            return complain(at, "%s takes no value", opt->name);
        *(bool *)((char *)o + opt->offset) = v;
        return true;
    }
    if (!value || !*value)
        return complain(at, "%s needs a value: %s", opt->name, opt->arg);
    const char *wrong = opt->check ? opt->check(value) : NULL;
    if (wrong) /* secrets are not repeated */
        return opt->check == check_user ? complain(at, "%s %s", opt->name, wrong)
                                        : complain(at, "%s: \"%s\" %s", opt->name, value, wrong);
    switch (opt->kind) {
    case NUMBER:
        return set_number(o, opt, value, at);
    case LIST:
        return set_list(o, opt, value, at);
    default:
        free(*text);
        *text = strdup(value);
        return *text != NULL;
    }
}

/* An option of coturn's that we lack. */
static bool take_coturns(const struct coturn_option *opt, const char *value,
                         const struct place *at)
{
    if (!opt->text || (!opt->has_value && truth(value) == 0))
        return true;
    if (opt->restricts)
        return complain(at, "%s is not supported: %s. Remove the option to start without it",
                        opt->name, opt->text);
    complain(at, "%s is ignored: %s", opt->name, opt->text);
    return true;
}

/* --- the command line --------------------------------------------------------------------- */

static bool read_long(struct options *o, char *arg, char *next, int *ret_used, const struct place *at)
{
    char *eq = strchr(arg, '=');
    size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
    const struct option *opt = find_name(arg, n);
    const struct coturn_option *other = opt ? NULL : coturn_option(arg, n, 0);
    *ret_used = 1;
    if (other) {
        *ret_used += other->has_value && !eq;
        return take_coturns(other, eq ? eq + 1 : NULL, at);
    }
    if (!opt)
        return complain(at, "unknown option --%.*s; see --help", (int)n, arg);
    if (opt->kind == FLAG || eq)
        return set(o, opt, eq ? eq + 1 : NULL, at);
    *ret_used = 2;
    return set(o, opt, next, at);
}

static bool read_short(struct options *o, char *arg, char *next, int *ret_used, const struct place *at)
{
    *ret_used = 1;
    for (; *arg; arg++) {
        const struct option *opt = find_letter(*arg);
        const struct coturn_option *other = opt ? NULL : coturn_option(NULL, 0, *arg);
        if (other && other->has_value) {
            *ret_used += !arg[1];
            return take_coturns(other, NULL, at);
        }
        if (other && take_coturns(other, NULL, at))
            continue;
        if (!opt)
            return other ? false : complain(at, "unknown option -%c; see --help", *arg);
        if (opt->kind != FLAG) {
            if (arg[1])
                return set(o, opt, arg + 1 + (arg[1] == '='), at);
            *ret_used = 2;
            return set(o, opt, next, at);
        }
        if (!set(o, opt, NULL, at))
            return false;
    }
    return true;
}

/* --- the file ----------------------------------------------------------------------------- */

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n && strchr(" \t\r\n", s[n - 1]))
        s[--n] = 0;
    return s;
}

static bool read_line(struct options *o, char *line, const struct place *at)
{
    line = trim(line);
    if (!*line || *line == '#')
        return true;
    size_t n = strcspn(line, "= \t");
    char *value = line[n] ? trim(line + n) : NULL;
    if (value && *value == '=')
        value = trim(value + 1);
    const struct option *opt = find_name(line, n);
    const struct coturn_option *other = opt ? NULL : coturn_option(line, n, 0);
    if (other)
        return take_coturns(other, value, at);
    if (!opt)
        return complain(at, "unknown option \"%.*s\"", (int)n, line);
    if (opt->offset == AT(config_file))
        return complain(at, "a configuration file cannot name another");
    return set(o, opt, value, at);
}

static bool read_file(struct options *o, struct place *at, options_opener *open_file)
{
    char line[4096];
    int fd = open_file(o->config_file);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    at->file = o->config_file;
    if (!f) {
        fprintf(stderr, "thalwegd: %s: %s\n", o->config_file, strerror(errno));
        return false;
    }
    bool ok = true;
    while (ok && fgets(line, sizeof(line), f)) {
        at->line++;
        ok = strlen(line) < sizeof(line) - 1 || line[sizeof(line) - 2] == '\n'
                 ? read_line(o, line, at) : complain(at, "the line is too long");
    }
    fclose(f);
    return ok;
}

bool options_read(struct options *o, int argc, char **argv, options_opener *open_file)
{
    struct place at = { 0 };
    *o = (struct options){ .listening_port = 3478, .tls_port = 5349, .drain_timeout = 60,
                            .rendezvous_port = 443, .rendezvous_plain_port = 80 };
    for (int i = 1, used = 1; i < argc; i += used) {
        char *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool ok;
        if (argv[i][0] == '-' && argv[i][1] == '-')
            ok = read_long(o, argv[i] + 2, next, &used, &at);
        else if (argv[i][0] == '-' && argv[i][1])
            ok = read_short(o, argv[i] + 1, next, &used, &at);
        else
            ok = complain(&at, "\"%s\" is not an option; see --help", argv[i]);
        if (!ok)
            return false;
    }
    return !o->config_file || read_file(o, &at, open_file);
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < TABLE_N; i++) {
        char **text = (char **)((char *)o + table[i].offset);
        if (table[i].kind == TEXT) { /* two names may share one place */
            free(*text);
            *text = NULL;
        }
        if (table[i].kind != LIST)
            continue;
        struct option_list *l = (struct option_list *)((char *)o + table[i].offset);
        for (unsigned k = 0; k < l->n; k++)
            free((void *)(uintptr_t)l->v[k]);
    }
}

/* --- help --------------------------------------------------------------------------------- */

static void print_wrapped(FILE *to, const char *text)
{
    enum { INDENT = 6, WIDTH = 80 };
    size_t column = INDENT;
    fprintf(to, "%*s", INDENT, "");
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > WIDTH) {
            fprintf(to, "\n%*s", INDENT, "");
            column = INDENT;
        } else if (!first) {
            fputc(' ', to);
            column++;
        }
        fwrite(text, 1, n, to);
        column += n;
        text += n + (text[n] == ' ');
    }
    fputc('\n', to);
}

static void print_option(FILE *to, const struct option *opt)
{
    fprintf(to, "  ");
    if (opt->letter)
        fprintf(to, "-%c, ", opt->letter);
    fprintf(to, "--%s%s%s\n", opt->name, opt->arg ? " " : "", opt->arg ? opt->arg : "");
    print_wrapped(to, opt->help);
}

static void print_man(FILE *to, const struct option *opt)
{
    fprintf(to, ".It ");
    if (opt->letter)
        fprintf(to, "Fl %c%s%s , ", opt->letter, opt->arg ? " Ar " : "", opt->arg ? opt->arg : "");
    fprintf(to, "Fl -%s%s%s\n", opt->name, opt->arg ? " Ar " : "", opt->arg ? opt->arg : "");
    for (const char *s = opt->help; *s; s++) {
        fputc(*s, to);
        if (*s == '.' && s[1] == ' ' && s[2] >= 'A' && s[2] <= 'Z') { /* a sentence a line */
            fputc('\n', to);
            s++;
        }
    }
    fputc('\n', to);
}

void options_help(FILE *to, bool for_man)
{
    for (size_t i = 0; i < TABLE_N; i++) {
        if (for_man)
            print_man(to, &table[i]);
        else
            print_option(to, &table[i]);
    }
}
