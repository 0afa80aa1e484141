/* Draining: what lives may go on, nothing new begins. */
#include "daemon.h"
#include "log.h"
#include "rt/os.h"
#include "systemd.h"

enum { DRAIN_TICK_MS = 100 };

static void on_drain(uv_timer_t *t)
{
    struct tw_rt_server_stats st;
    (void)t;
    tw_rt_server_stats(d.server, &st);
    if (st.allocations && tw_rt_now() < d.drain_until)
        return;
    if (st.allocations)
        log_line(TW_INFO, "%u allocations have not ended in time", st.allocations);
    uv_stop(d.loop);
}

void end_drain(void)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(d.server, &st);
    d.drain_until = tw_rt_now() + (tw_time)d.options->drain_timeout * TW_SEC;
    atomic_store(&d.extra.draining, true);
    systemd_notify("STOPPING=1");
    log_line(TW_INFO, "no new allocations; waiting up to %lu s for %u to end",
             d.options->drain_timeout, st.allocations);
    (void)!change_configure(d.options);
    rendezvous_drain();
    uv_timer_init(d.loop, &d.drain);
    uv_timer_start(&d.drain, on_drain, 0, DRAIN_TICK_MS);
}
