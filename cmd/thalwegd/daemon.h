/* The running server: what the parts of its life share. All of it in the main thread. */
#ifndef THALWEGD_DAEMON_H
#define THALWEGD_DAEMON_H

#include <uv.h>

#include "config.h"
#include "metrics.h"
#include "rt/interfaces.h"
#include "rt/server.h"

struct daemon {
    int argc;
    char **argv;
    struct options *options;
    struct config *config;
    struct db *db;
    struct tw_rt_server *server;
    struct metrics_extra extra;
    uv_loop_t *loop;
    uv_signal_t term, interrupt, hangup, upgrade;
    uv_timer_t tick, drain;
    struct tw_rt_watch addresses; /* of this machine */
    tw_time drain_until; /* 0: not draining */
    bool stale;          /* a change of addresses has not been followed yet */

    uv_poll_t heir;   /* the channel to our successor */
    int heir_fd;      /* -1: none */
    bool retired;     /* it has our listeners */
    uv_poll_t elder;  /* the channel to who was before us */
    int elder_fd;     /* -1: nobody */
};
extern struct daemon d;

/* change.c: a configuration again and again. */
bool change_configure(struct options *o); /* false: the old one stays */
bool change_log(const struct options *o); /* opens it, or opens it again */
void change_reload(void);
void change_watch(void); /* the database, bans, the clock, this machine's addresses */

/* end.c: no new allocations, until there are none. */
void end_drain(void);

/* successor.c: a new server takes over from this one, or this one from an older one. */
void successor_start(void);
void successor_watch_elder(void); /* and tells it that we work */

/* rendezvous.c: what thalweg's users are dialled at. False after a complaint. */
bool rendezvous_start(void);
void rendezvous_reload(void); /* the certificate; the rest takes a restart */
void rendezvous_drain(void);
void rendezvous_stop(void);
extern const char rendezvous_page[]; /* for browsers */

/* say.c: to the operator. */
void say_line(const char *line);
void say_where(void);
void say_made_up(void);
void say_stats(void);

#endif
