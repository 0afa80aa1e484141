/* What the verbs share that dial a key, or are dialled: options, the key file, the endpoint and its
 * events. */
#ifndef THALWEG_PEER_H
#define THALWEG_PEER_H

#include "cmd.h"
#include "rt/endpoint.h"

/* Exit codes besides those in cmd.h. */
enum {
    EXIT_ABSENT = 3,  /* nobody with that key is there now */
    EXIT_REFUSED = 4, /* the other side, or its key, said no */
    EXIT_NO_SERVER = 5,
};

struct peer_options {
    struct cmd_list servers, ice_servers;
    const char *ice_user, *ice_password;
    bool by_hand;
    const char *token, *key, *rungs, *keylog, *trace, *ca;
    const char *proxy, *sni, *metered;
    bool relay_only, json, verbose, no_mapping, no_lan, web, strict_tls;
};

#define PEER_OPTIONS(o)                                                                                \
    { "-s,--server", "URL", &(o)->servers, 1, 0, "a rendezvous: HOST, or ws://HOST, [:PORT][#PIN]; repeat" }, \
    { "--token", "TOKEN", &(o)->token, 0, 0, "what the rendezvous wants of who listens there" },           \
    { "--key", "FILE", &(o)->key, 0, 0, "this side's identity, made if missing (~/.config/thalweg/key)" }, \
    { "--rungs", "LIST", &(o)->rungs, 0, 0, "only these of udp,stun,tcp,http,https,relay,patched" },                  \
    { "--relay-only", NULL, &(o)->relay_only, 0, 0, "show the other side no address of this machine" },    \
    { "--proxy", "URL", &(o)->proxy, 0, 0, "http://[USER:PASSWORD@]HOST[:PORT] or socks5://...; none (default: the environment's)" }, \
    { "--sni", "NAME", &(o)->sni, 0, 0, "name this server in TLS, and not the real one: for networks that want it" }, \
    { "--strict-tls", NULL, &(o)->strict_tls, 0, 0, "no rendezvous with a certificate that is not the right one" }, \
    { "--ca", "FILE", &(o)->ca, 0, 0, "trust these for the rendezvous's certificate, in PEM" },            \
    { "--no-port-mapping", NULL, &(o)->no_mapping, 0, 0, "ask no gateway to let the other side in" },      \
    { "--by-hand", NULL, &(o)->by_hand, 0, 0, "no rendezvous: carry two tickets between the two of you" },   \
    { "--ice-server", "URI", &(o)->ice_servers, 1, 0, "also use this stun: or turn: server; repeat" },     \
    { "--ice-user", "NAME", &(o)->ice_user, 0, 0, "user name on such TURN servers" },                      \
    { "--ice-password", "TEXT", &(o)->ice_password, 0, 0, "password on such TURN servers" },               \
    { "--metered", "LIST", &(o)->metered, 0, 0, "these interfaces cost: wlan1,usb*; used when there is nothing else" }, \
    { "--no-lan", NULL, &(o)->no_lan, 0, 0, "neither look for others in this network nor be found there" },  \
    { "--web", NULL, &(o)->web, 0, 0, "listen at ports 80 and 443, too, to which firewalls let others through" }, \
    { "--keylog", "FILE", &(o)->keylog, 0, 0, "append TLS secrets, to decrypt a capture with" },           \
    { "--trace", "FOLDER", &(o)->trace, 0, 0, "write down there how each connection found its ways: a tape and a qlog" }, \
    { "--json", NULL, &(o)->json, 0, 0, "one event a line, as JSON" },                                     \
    { "-v,--verbose", NULL, &(o)->verbose, 0, 0, "say more of what is tried" }

/* The operands of a verb that dials. */
#define PEER_ADDRESS { 1, 1, "whom? ADDRESS is what \"thalweg id\" prints there", "" }

struct pipe;
struct flow;
struct status;
struct peer;

struct peer {
    const char *verb;        /* set before peer_open(), as is on_event */
    struct tw_rt_endpoint rt;
    uv_loop_t *loop;
    const struct peer_options *o;
    FILE *events;            /* where they are printed */
    FILE *keylog;
    tw_time begun;
    struct pipe *pipes;
    struct flow *flows;
    unsigned flow_n;
    struct hand *hand;       /* NULL: no tickets are awaited */
    struct status *state;    /* NULL: nobody can look */
    unsigned online;         /* bits: at which of our servers we can be dialled */
    bool ending;
    bool ladder;             /* show each step, for a person who waits */
    bool serves, logs;       /* serves: runs for long, set before peer_open(); logs: a line for each change of way, then */
    int status;
    uv_signal_t signals[2];
    /* Every event that no pipe and no flow takes. */
    void (*on_event)(struct peer *p, const struct tw_endpoint_event *ev);
};

/* Reads the configuration file into what the options left open; makes or reads the key. Returns EXIT_OK, or
 * EXIT_USAGE or EXIT_FAILED after a complaint. cfg: what the verb wants, to be completed. stdout_is_data: events
 * go to stderr. */
int peer_open(struct peer *p, const struct peer_options *o, struct tw_endpoint_config *cfg, bool stdout_is_data);
/* The part of it about servers: those of the options, and, unless it has some, of the configuration file. */
int peer_take_servers(const struct peer_options *o, struct tw_endpoint_config *cfg);
int peer_read_servers(struct peer_options *o, struct tw_endpoint_config *cfg);
/* Whether others can find this machine: at a server, or at least in this network; complains if not, and says if it is
 * the network only. Returns an exit status. */
int peer_can_be_found(struct peer *p, const struct tw_endpoint_config *cfg);
/* Dials; complains. */
int peer_dial(struct peer *p, const char *address, struct tw_bytes early, uint32_t *ret_conn);
/* hand.c: reads tickets from standard input, a line each: offers, to be answered, or (one) the answer to ours. */
void hand_open(struct peer *p, bool one);
void hand_close(struct peer *p);
/* Shows the ticket of a TICKET event. */
void hand_tell(struct peer *p, const struct tw_endpoint_event *ev);
/* Runs until peer_end(); closes everything. Returns the exit status. */
int peer_run(struct peer *p);
void peer_end(struct peer *p, int status);
/* The exit status that a CLOSED means. */
int peer_status_of(const struct tw_endpoint_event *closed);
/* Since peer_open(), or since the last connection was dialled. */
double peer_ms(const struct peer *p);

/* With --json one line of it, to where events go. more: what stands behind the event's name, %s for a string (quoted
 * and escaped here), %f for a double, %u for an unsigned, %l for a uint64_t, %b for a bool. */
void peer_json(const struct peer *p, const char *event, const char *more, ...);
/* A line for people, on stderr, unless --json. */
void peer_say(const struct peer *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* proxy.c. given: the option's value; NULL: as the environment says. Returns an exit status after a complaint. */
int proxy_read(const char *given, struct tw_proxy_url *ret, const char **ret_exempt);

/* key.c. path NULL: the default; buf: where it is. *ret_made: it is new. Returns an exit status. */
int key_load(const char *path, uint8_t seed[TW_SEED_SIZE], char *buf, size_t cap, bool *ret_made);
/* $XDG_CONFIG_HOME/thalweg/NAME or ~/.config/thalweg/NAME. False: there is no home. */
bool config_path(const char *name, char *buf, size_t cap);

/* --- streams and what stands at their beginning (docs/protocol.md §6) ------------------------------ */

enum service {
    SERVICE_DEFAULT = 0, /* whatever the listener offers */
    SERVICE_TCP = 1,     /* HOST:PORT */
    SERVICE_FILES = 2,   /* who opened the stream sends files, */
    SERVICE_FETCH = 3,   /* or wants some */
    SERVICE_UDP = 4,     /* HOST:PORT; empty: whatever the listener offers */
};
enum { SERVICE_TEXT_MAX = 300, SERVICE_HEAD = 3 };

/* Writes a head: a service, or a status (0: yes), and a text. */
int service_say(struct peer *p, uint32_t conn, int64_t stream, unsigned what, const char *text);
/* Reads one, and takes it: 1 it is there, 0 it has not come whole, -1 it never will. */
int service_hear(struct peer *p, uint32_t conn, int64_t stream, unsigned *ret_what, char text[SERVICE_TEXT_MAX + 1]);

/* Joins a stream with file descriptors, which are the pipe's from now on; the same one twice for a
 * socket. expect: the other side's status comes first. on_end: once, when both directions are over, or why it
 * broke off; the pipe is gone then. TW_ENOMEM, TW_ESYS: they are closed. */
int pipe_open(struct peer *p, uint32_t conn, int64_t stream, int in, int out, bool expect,
              void (*on_end)(struct peer *p, void *user, const char *why), void *user);
/* Whether the event was for a pipe. */
bool pipe_event(struct peer *p, const struct tw_endpoint_event *ev);
void pipes_end(struct peer *p);

#endif
