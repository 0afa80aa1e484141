/* The server's options: one table for the command line, the file, the help and the man page. */
#ifndef THALWEGD_OPTIONS_H
#define THALWEGD_OPTIONS_H

#include <stdio.h>

#include <thalweg/relay.h>

enum { OPTION_LIST_MAX = 64 };

struct option_list {
    const char *v[OPTION_LIST_MAX]; /* owned */
    unsigned n;
};

struct options {
    struct option_list listening_ip, relay_ip, external_ip, users, allowed, denied, nat64;
    char *config_file, *realm, *pidfile, *log_file, *alternate_server;
    unsigned long listening_port, relay_threads, min_port, max_port;
    unsigned long user_quota, total_quota, max_lifetime, channel_lifetime, permission_lifetime,
        stale_nonce;
    bool lt_cred_mech, no_auth, allow_loopback, verbose, stun_only, no_udp, no_gro, no_software;
    bool accepted; /* where options go that say what we do anyway */
    bool help, version;
};

/* Reads the command line, then the file it names; what both give, the command line wins, and lists
 * add up. False, after saying on stderr what is wrong and where. */
bool options_read(struct options *o, int argc, char **argv);
void options_free(struct options *o);

/* The help text; as the man page's option section (mdoc) when for_man. */
void options_help(FILE *to, bool for_man);

#endif
