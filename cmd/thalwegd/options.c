#include "options.h"

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
};

#define AT(field) offsetof(struct options, field)

/* Names and meanings are coturn's wherever it has the option. */
static const struct option table[] = {
    { 'c', "config", TEXT, AT(config_file), 0, 0, "FILE",
      "Read options from FILE, one a line: name=value, or a name alone." },
    { 'n', "no-config", FLAG, AT(accepted), 0, 0, NULL,
      "Read no configuration file. None is read unless -c names one." },
    { 'L', "listening-ip", LIST, AT(listening_ip), 0, 0, "IP",
      "Listen on this address; may be given again. Default: every address of this machine." },
    { 'p', "listening-port", NUMBER, AT(listening_port), 0, 65535, "PORT",
      "Listen on this port; 0 lets the system choose one. Default: 3478." },
    { 'E', "relay-ip", LIST, AT(relay_ip), 0, 0, "IP",
      "Give out relayed addresses on this address; may be given again. Default: the listening "
      "addresses, without loopback if there are others." },
    { 'X', "external-ip", LIST, AT(external_ip), 0, 0, "PUBLIC[/PRIVATE]",
      "Behind a NAT: tell clients PUBLIC where the relay address is PRIVATE." },
    { 'm', "relay-threads", NUMBER, AT(relay_threads), 0, TW_RELAY_MAX_WORKERS, "N",
      "Worker threads. Default (and 0): one for each CPU." },
    { 0, "min-port", NUMBER, AT(min_port), 1, 65535, "PORT",
      "Lowest port of relayed addresses. Default: 49152." },
    { 0, "max-port", NUMBER, AT(max_port), 1, 65535, "PORT",
      "Highest port of relayed addresses. Default: 65535." },
    { 'a', "lt-cred-mech", FLAG, AT(lt_cred_mech), 0, 0, NULL,
      "Ask for long-term credentials. This is what happens anyway when there are users." },
    { 'z', "no-auth", FLAG, AT(no_auth), 0, 0, NULL,
      "Let anybody relay. Without users and without this option the server does not start." },
    { 'u', "user", LIST, AT(users), 0, 0, "NAME:PASSWORD",
      "A user; may be given again. NAME:0xKEY takes the MD5 key (32 hex digits) that turnadmin -k "
      "prints; SHA-256 is then off for the realm." },
    { 'r', "realm", TEXT, AT(realm), 0, 0, "REALM", "The realm. Default: thalweg." },
    { 0, "user-quota", NUMBER, AT(user_quota), 0, 100000000, "N",
      "Allocations one user may have at a time. Default (and 0): no limit." },
    { 0, "total-quota", NUMBER, AT(total_quota), 0, 100000000, "N",
      "Allocations at a time in all. Default (and 0): no limit." },
    { 0, "max-allocate-lifetime", NUMBER, AT(max_lifetime), 600, 86400, "SECONDS",
      "Longest lifetime granted. Default: 3600." },
    { 0, "channel-lifetime", NUMBER, AT(channel_lifetime), 1, 86400, "SECONDS",
      "Lifetime of channels. Default: 600." },
    { 0, "permission-lifetime", NUMBER, AT(permission_lifetime), 1, 86400, "SECONDS",
      "Lifetime of permissions. Default: 300." },
    { 0, "stale-nonce", NUMBER, AT(stale_nonce), 1, 86400, "SECONDS",
      "Lifetime of nonces. Default: 600." },
    { 0, "allow-loopback-peers", FLAG, AT(allow_loopback), 0, 0, NULL,
      "Let peers be on 127.0.0.0/8 and ::1. For tests: it opens this machine's own services." },
    { 0, "allowed-peer-ip", LIST, AT(allowed), 0, 0, "RANGE",
      "Peers to allow: an address, a prefix (10.0.0.0/8) or a range (10.0.0.1-10.0.0.9). Beats "
      "--denied-peer-ip, which beats the default of denying all special-purpose addresses." },
    { 0, "denied-peer-ip", LIST, AT(denied), 0, 0, "RANGE", "Peers to deny." },
    { 0, "nat64-prefix", LIST, AT(nat64), 0, 0, "PREFIX",
      "A NAT64 prefix of this network: peers in it are judged by the IPv4 address inside." },
    { 0, "alternate-server", TEXT, AT(alternate_server), 0, 0, "IP[:PORT]",
      "Send clients that ask for an allocation there (300)." },
    { 'S', "stun-only", FLAG, AT(stun_only), 0, 0, NULL, "Answer STUN only; no relaying." },
    { 0, "no-udp", FLAG, AT(no_udp), 0, 0, NULL,
      "Do not listen on UDP. This version speaks nothing else, so it does not start." },
    { 0, "no-tcp", FLAG, AT(accepted), 0, 0, NULL, "Accepted: this version speaks no TCP." },
    { 0, "no-tls", FLAG, AT(accepted), 0, 0, NULL, "Accepted: this version speaks no TLS." },
    { 0, "no-dtls", FLAG, AT(accepted), 0, 0, NULL, "Accepted: this version speaks no DTLS." },
    { 0, "no-tcp-relay", FLAG, AT(accepted), 0, 0, NULL, "Accepted: this version relays no TCP." },
    { 0, "no-cli", FLAG, AT(accepted), 0, 0, NULL, "Accepted: there is no telnet console." },
    { 0, "no-software-attribute", FLAG, AT(no_software), 0, 0, NULL,
      "Leave SOFTWARE out of answers to users." },
    { 0, "no-gro", FLAG, AT(no_gro), 0, 0, NULL,
      "Take every datagram by itself instead of letting the kernel join runs of them." },
    { 0, "pidfile", TEXT, AT(pidfile), 0, 0, "FILE", "Write the process id to FILE." },
    { 'l', "log-file", TEXT, AT(log_file), 0, 0, "FILE",
      "Log to FILE instead of standard error; \"stdout\" for standard output." },
    { 'v', "verbose", FLAG, AT(verbose), 0, 0, NULL,
      "Log every allocation. This writes client addresses into the log." },
    { 'h', "help", FLAG, AT(help), 0, 0, NULL, "Show this text." },
    { 0, "version", FLAG, AT(version), 0, 0, NULL, "Show the version." },
};
enum { TABLE_N = sizeof(table) / sizeof(table[0]) };

/* Where an option stood, for error messages. */
struct place {
    const char *file; /* NULL: the command line */
    unsigned line;
    bool given[TABLE_N]; /* what the command line said already */
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

/* value is NULL when none was given. */
static bool set(struct options *o, const struct option *opt, const char *value,
                struct place *at)
{
    char **text = (char **)((char *)o + opt->offset);
    size_t i = (size_t)(opt - table);
    if (at->file && at->given[i] && opt->kind != LIST)
        return true;
    if (!at->file)
        at->given[i] = true;
    if (opt->kind == FLAG) {
        if (value && strcmp(value, "1") != 0 && strcmp(value, "0") != 0 &&
            strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return complain(at, "%s takes no value", opt->name);
        *(bool *)((char *)o + opt->offset) = !value || *value == '1' || *value == 't';
        return true;
    }
    if (!value || !*value)
        return complain(at, "%s needs a value: %s", opt->name, opt->arg);
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

/* --- the command line --------------------------------------------------------------------- */

static bool read_long(struct options *o, char *arg, char *next, int *ret_used, struct place *at)
{
    char *eq = strchr(arg, '=');
    size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
    const struct option *opt = find_name(arg, n);
    *ret_used = 1;
    if (!opt)
        return complain(at, "unknown option --%.*s; see --help", (int)n, arg);
    if (opt->kind == FLAG || eq)
        return set(o, opt, eq ? eq + 1 : NULL, at);
    *ret_used = 2;
    return set(o, opt, next, at);
}

static bool read_short(struct options *o, char *arg, char *next, int *ret_used, struct place *at)
{
    *ret_used = 1;
    for (; *arg; arg++) {
        const struct option *opt = find_letter(*arg);
        if (!opt)
            return complain(at, "unknown option -%c; see --help", *arg);
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

static bool read_line(struct options *o, char *line, struct place *at)
{
    line = trim(line);
    if (!*line || *line == '#')
        return true;
    size_t n = strcspn(line, "= \t");
    char *value = line[n] ? trim(line + n) : NULL;
    if (value && *value == '=')
        value = trim(value + 1);
    const struct option *opt = find_name(line, n);
    if (!opt)
        return complain(at, "unknown option \"%.*s\"", (int)n, line);
    if (opt->offset == AT(config_file))
        return complain(at, "a configuration file cannot name another");
    return set(o, opt, value, at);
}

static bool read_file(struct options *o, struct place *at)
{
    char line[4096];
    FILE *f = fopen(o->config_file, "re");
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

bool options_read(struct options *o, int argc, char **argv)
{
    struct place at = { 0 };
    *o = (struct options){ .listening_port = 3478 };
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
    return !o->config_file || read_file(o, &at);
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < TABLE_N; i++) {
        if (table[i].kind == TEXT)
            free(*(char **)((char *)o + table[i].offset));
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
