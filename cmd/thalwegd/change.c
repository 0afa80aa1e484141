/* A configuration again and again: on SIGHUP, when the database or this machine's addresses change,
 * when a ban ends, when somebody sets the clock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "helper.h"
#include "log.h"
#include "rt/os.h"
#include "systemd.h"

enum {
    TICK_MS = 2000, /* how often the database, bans and the clock are looked at */
};

static const tw_time MAX_DRIFT = 100 * TW_MSEC; /* of the clock, before the relay is told */

/* Takes a configuration made from these options. The old one stays when that fails. */
bool change_configure(struct options *o)
{
    struct config *next = calloc(1, sizeof(*next));
    if (!next)
        return false;
    bool ok = config_make(next, o, d.db, helper_open, d.config);
    next->relay.draining = d.drain_until > 0;
    if (ok && (!config_keep_places(next, o, d.config) ||
               tw_rt_server_configure(d.server, &next->relay, next->tls))) {
        log_line(TW_ERROR, "listening and relay addresses and ports can only be changed by a "
                           "restart");
        ok = false;
    }
    struct config *old = ok ? d.config : next;
    if (ok) {
        d.config = next;
        rendezvous_reload();
    }
    config_free(old);
    free(old);
    return ok;
}

bool change_log(const struct options *o)
{
    struct log_config log = { o->log_file, o->log_format && !strcmp(o->log_format, "json"),
                              (unsigned)o->log_rate, helper_append };
    return log_open(&log);
}

void change_reload(void)
{
    struct options *o = calloc(1, sizeof(*o));
    systemd_notify("RELOADING=1");
    bool ok = o && options_read(o, d.argc, d.argv, helper_open) && change_configure(o);
    if (ok) {
        options_free(d.options);
        free(d.options);
        d.options = o;
        (void)change_log(o);
        atomic_fetch_add(&d.extra.reloads, 1);
        log_line(TW_INFO, "configuration read again");
        config_say_limits(d.config, say_line);
    } else {
        if (o)
            options_free(o);
        free(o);
        atomic_fetch_add(&d.extra.reload_failures, 1);
        log_line(TW_ERROR, "the new configuration was not taken; the old one goes on. What is wrong "
                           "with it is on standard error");
    }
    systemd_notify("READY=1");
}

static void on_tick(uv_timer_t *t)
{
    tw_time offset = tw_rt_unix_offset();
    tw_time drift = offset - d.config->relay.unix_offset;
    bool expired = d.config->ban_expiry &&
                   d.config->ban_expiry <= (offset + tw_rt_now()) / TW_SEC;
    (void)t;
    if (!(d.db && db_changed(d.db)) && !expired && drift >= -MAX_DRIFT && drift <= MAX_DRIFT && !d.stale)
        return;
    if (change_configure(d.options))
        d.stale = false;
    else
        atomic_fetch_add(&d.extra.reload_failures, 1);
}

static void on_addresses(void *user)
{
    (void)user;
    d.stale = !change_configure(d.options);
    if (d.stale)
        log_line(TW_ERROR, "cannot follow a change of this machine's addresses yet");
}

void change_watch(void)
{
    uv_timer_init(d.loop, &d.tick);
    uv_timer_start(&d.tick, on_tick, TICK_MS, TICK_MS);
    tw_rt_watch_init(&d.addresses, d.loop, on_addresses, NULL);
    if (d.addresses.fd < 0) { /* what it does then is too much to be done every few seconds */
        uv_timer_stop(&d.addresses.timer);
        log_line(TW_WARN, "changes of this machine's addresses are seen at SIGHUP only");
    }
}
