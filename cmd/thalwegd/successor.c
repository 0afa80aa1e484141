/* One server takes over from another, seen from both. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"
#include "helper.h"
#include "log.h"
#include "rt/os.h"
#include "upgrade.h"

static bool replaced; /* the successor works */

static void on_heir(uv_poll_t *p, int status, int events)
{
    char what = 0;
    (void)p, (void)status, (void)events;
    ssize_t n = recv(d.heir_fd, &what, 1, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (replaced) { /* through it came what our clients send; and who starts the next server finds our addresses free */
        log_line(TW_ERROR, "the successor has ended; so does this one");
        uv_stop(d.loop);
        return;
    }
    if (n == 1 && what == 'h') {
        tw_rt_server_retire(d.server, true);
        d.retired = true;
        if (upgrade_give(d.heir_fd, d.server))
            return;
    }
    if (n == 1 && what == 'r') {
        log_line(TW_INFO, "the successor works; this one ends with its last allocation");
        replaced = true;
        end_drain();
        return;
    }
    log_line(TW_ERROR, "the successor has failed; this one goes on");
    uv_poll_stop(&d.heir);
    close(d.heir_fd);
    d.heir_fd = -1;
    if (d.retired)
        tw_rt_server_retire(d.server, false);
    d.retired = false;
}

void successor_start(void)
{
    int pair[2];
    if (d.heir_fd >= 0 || d.drain_until || d.elder_fd >= 0) {
        log_line(TW_ERROR, "a take-over is under way already");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        log_line(TW_ERROR, "no channel to a successor: %s", strerror(errno));
        return;
    }
    bool watched = !tw_rt_watch(d.loop, &d.heir, pair[0], UV_READABLE | UV_DISCONNECT, on_heir, NULL);
    bool ok = watched && helper_successor(pair[1]);
    close(pair[1]);
    if (!ok) {
        log_line(TW_ERROR, "cannot start a successor: %s", strerror(errno));
        if (watched)
            uv_poll_stop(&d.heir);
        close(pair[0]);
        return;
    }
    log_line(TW_INFO, "starting a successor");
    d.heir_fd = pair[0];
}

static void on_elder(uv_poll_t *p, int status, int events)
{
    char what;
    (void)p, (void)status, (void)events;
    if (recv(d.elder_fd, &what, 1, MSG_DONTWAIT) != 0)
        return;
    log_line(TW_INFO, "the server before this one has ended");
    uv_poll_stop(&d.elder);
    close(d.elder_fd);
    d.elder_fd = -1;
    tw_rt_server_elder_gone(d.server);
}

void successor_watch_elder(void)
{
    if (tw_rt_watch(d.loop, &d.elder, d.elder_fd, UV_READABLE | UV_DISCONNECT, on_elder, NULL))
        log_line(TW_WARN, "it will not be noticed when the server before this one has ended: %s", strerror(errno));
    upgrade_say(d.elder_fd, 'r');
}
