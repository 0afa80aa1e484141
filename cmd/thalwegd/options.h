/* The server's options: one table for the command line, the file, the help and the man page. */
#ifndef THALWEGD_OPTIONS_H
#define THALWEGD_OPTIONS_H

#include <stdio.h>

#include <thalweg/relay.h>

enum { OPTION_LIST_MAX = 64, OPTION_MAX = 128 };

struct option_list {
    const char *v[OPTION_LIST_MAX]; /* owned */
    unsigned n;
};

struct options {
    struct option_list listening_ip, relay_ip, external_ip, users, allowed, denied, nat64, secrets,
        rendezvous_tokens, trusted_proxies;
    char *config_file, *realm, *pidfile, *log_file, *alternate_server, *cert, *pkey, *pkey_pwd, *state_dir,
        *cipher_list, *separator, *database, *proc_user, *proc_group, *prometheus_address,
        *log_format;
    unsigned long listening_port, tls_port, alt_port, alt_tls_port, relay_threads, min_port,
        max_port;
    unsigned long user_quota, total_quota, max_bps, bps_capacity, max_lifetime, channel_lifetime,
        permission_lifetime, stale_nonce, answer_rate, answer_burst, answer_total, connections,
        handshakes, half_open, prometheus_port, drain_timeout, log_rate,
        rendezvous_port, rendezvous_plain_port, rendezvous_clients, rendezvous_per_source, rendezvous_rate,
        rendezvous_quota;
    bool lt_cred_mech, use_auth_secret, no_auth, allow_loopback, verbose, stun_only, no_gro,
        no_software, no_udp, no_tcp, no_tls, no_dtls, no_udp_relay, no_tcp_relay, mobility,
        no_rfc5780, prometheus, no_sandbox, rendezvous, rendezvous_open, rendezvous_plain, no_rendezvous_tls;
    bool accepted; /* where options go that say what we do anyway */
    bool help, version;
    bool any;      /* something was given at all */
    bool given[OPTION_MAX]; /* on the command line, by place in the table */
};

/* Opens the configuration file; -1 and errno. */
typedef int options_opener(const char *path);

/* Reads the command line, then the file it names; what both give, the command line wins, and lists
 * add up. False, after saying on stderr what is wrong and where; free it in either case. Of
 * coturn's options that we lack, those that restrict or authenticate are errors and the others get
 * a line on stderr. */
bool options_read(struct options *o, int argc, char **argv, options_opener *open_file);
void options_free(struct options *o);

/* The help text; as the man page's option section (mdoc) when for_man. */
void options_help(FILE *to, bool for_man);

/* coturn.c: an option of coturn's that is not in our table. */
struct coturn_option {
    const char *name;
    char letter;     /* 0: none */
    bool has_value;
    bool restricts;  /* not to have it would let more through: the start must stop */
    const char *text; /* what we do instead */
};
/* By name (letter 0) or by letter. NULL: coturn does not have it either. */
const struct coturn_option *coturn_option(const char *name, size_t n, char letter);

#endif
