/* The command's verbs and what they share. */
#ifndef THALWEG_CMD_H
#define THALWEG_CMD_H

#include <stdbool.h>
#include <stdio.h>

#include "rt/agent.h"

/* Exit codes, documented in thalweg(1). */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,    /* it was tried and did not work */
    EXIT_USAGE = 2,
};

struct verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
    const char *help;                  /* one line */
};

int cmd_check(int argc, char **argv);
int cmd_connect(int argc, char **argv);
int cmd_forward(int argc, char **argv);
int cmd_ice(int argc, char **argv);
int cmd_id(int argc, char **argv);
int cmd_invite(int argc, char **argv);
int cmd_listen(int argc, char **argv);
int cmd_ping(int argc, char **argv);
int cmd_nat(int argc, char **argv);
int cmd_receive(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_stun(int argc, char **argv);
int cmd_turn(int argc, char **argv);

/* The values of an option that may be given several times. */
struct cmd_list {
    const char *at[16];
    unsigned n;
};

/* One option of a verb; it may stand before or behind the operand. */
struct cmd_option {
    const char *name;  /* "--json"; also its letter if one: "-u,--user" */
    const char *arg;   /* what help calls its value; NULL: a flag */
    void *to;          /* bool * for a flag, const char ** or, with max, unsigned * for a value; with
                          min alone struct cmd_list * */
    unsigned min, max; /* of a number; max 0: the value is text */
    const char *help;
};

/* What stands on the command line besides options. */
struct cmd_operands {
    unsigned min, max;       /* how many there must and may be */
    const char *missing;     /* what to say when there are fewer */
    const char *too_many;    /* ... when there are more, before "what is that?" */
    const char *at[4096];
    unsigned n;
};

/* Reads options and operands. Prints help on --help (*ret_done) and complaints on stderr. Returns EXIT_OK
 * or EXIT_USAGE. */
int cmd_read_many(int argc, char **argv, const char *usage, const struct cmd_option *options,
                  struct cmd_operands *operands, bool *ret_done);

/* Reads options and exactly one operand, a server's name; none when ret_operand is NULL. Prints help on
 * --help (*ret_done) and complaints on stderr. Returns EXIT_OK or EXIT_USAGE. */
int cmd_read(int argc, char **argv, const char *usage, const struct cmd_option *options,
             const char **ret_operand, bool *ret_done);

/* Reads the URI of a server and finds its addresses; complains on stderr. family: "4", "6" or
 * NULL. Returns EXIT_OK, EXIT_USAGE or EXIT_FAILED. */
int cmd_find_server(const char *text, bool turn, const char *family, struct tw_uri *ret_uri,
                    struct tw_addr *ret_addrs, unsigned *ret_n);

/* The program's loop. Where there can't be one, it complains and ends. */
uv_loop_t *cmd_loop(void);

/* How a server's certificate is judged. */
struct cmd_tls {
    bool insecure;
    const char *ca; /* PEM file; NULL: the system's */
};
#define CMD_TLS_OPTIONS(t)                                                                        \
    { "--ca", "FILE", &(t)->ca, 0, 0, "trust only certificates that these in PEM sign" },         \
    { "--insecure", NULL, &(t)->insecure, 0, 0, "do not look at the server's certificate" }

/* Reads the file of --ca into memory that stays; complains. Returns EXIT_OK or EXIT_USAGE. */
int cmd_read_ca(const char *path, struct tw_bytes *ret);

/* What a connection to a server is made with; complains on stderr. uri and host in it stay. */
int cmd_link_config(const struct tw_uri *uri, const struct tw_addr *server,
                    const struct cmd_tls *tls, struct tw_rt_link_config *ret);

/* An agent over whatever transport the URI names. Returns EXIT_OK or, after a complaint,
 * EXIT_FAILED or EXIT_USAGE. */
int cmd_agent(struct tw_rt_agent *a, uv_loop_t *loop, const struct tw_uri *uri,
              const struct tw_addr *server, const struct cmd_tls *tls,
              const struct tw_rt_machine *ops, void *machine,
              void (*on_events)(struct tw_rt_agent *a, tw_time now));

static inline bool cmd_is_stream(const struct tw_uri *uri)
{
    return uri->transport == TW_TRANSPORT_TCP || uri->transport == TW_TRANSPORT_TLS;
}

/* Writes a string as JSON, quotes and all. */
void cmd_json_string(FILE *to, const char *s);

#endif
