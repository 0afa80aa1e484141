#include "rt/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rt/os.h"
#include "rt/worker.h"

enum { QUEUE_BYTES = 1 << 19 }; /* between each pair of workers; a run of 64 KiB must fit */

static int init_worker(struct tw_rt_server *s, unsigned index)
{
    struct worker *w = &s->workers[index];
    w->server = s;
    w->index = index;
    w->armed = TW_NEVER;
    w->in = calloc(s->worker_n, sizeof(*w->in));
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!w->in || w->wake_fd < 0 || uv_mutex_init(&w->stats_lock))
        return TW_ENOMEM;
    for (unsigned i = 0; i < s->worker_n; i++)
        if (i != index && tw_rt_queue_init(&w->in[i], QUEUE_BYTES))
            return TW_ENOMEM;
    return 0;
}

static int start_worker(struct tw_rt_server *s, unsigned index)
{
    struct worker *w = &s->workers[index];
    if (uv_thread_create(&w->thread, worker_run, w))
        return TW_ENOMEM;
    w->running = true;
    uv_sem_wait(&s->told);
    errno = s->error_errno;
    return s->error;
}

/* libuv opens process-wide files of its own with the first loop. That must happen before the workers
 * get their own tables, or only one of them would have those files. */
static int init_libuv(void)
{
    uv_loop_t loop;
    return uv_loop_init(&loop) || uv_loop_close(&loop) ? TW_ENOMEM : 0;
}

static int start(struct tw_rt_server *s)
{
    struct tw_rng rng = tw_rt_rng();
    int err = tw_relay_shared_new(s->relay_cfg.relays, s->relay_cfg.relay_n, &rng, &s->shared);
    if (!err)
        err = init_libuv();
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = init_worker(s, i);
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = start_worker(s, i);
    return err;
}

int tw_rt_server_start(const struct tw_rt_server_config *cfg, struct tw_rt_server **ret_server,
                       int *ret_bad)
{
    *ret_bad = -1;
    if (cfg->workers < 1 || cfg->workers > TW_RELAY_MAX_WORKERS)
        return TW_EINVAL;
    struct tw_rt_server *s = calloc(1, sizeof(*s));
    if (!s)
        return TW_ENOMEM;
    *s = (struct tw_rt_server){ .cfg = *cfg, .relay_cfg = *cfg->relay, .bad_listener = -1 };
    s->workers = calloc(cfg->workers, sizeof(*s->workers));
    if (!s->workers || uv_sem_init(&s->told, 0)) {
        free(s->workers);
        free(s);
        return TW_ENOMEM;
    }
    s->worker_n = cfg->workers;
    for (unsigned i = 0; i < s->worker_n; i++)
        s->workers[i].wake_fd = -1;
    int err = start(s);
    if (err) {
        int keep = errno;
        *ret_bad = s->bad_listener;
        tw_rt_server_stop(s);
        errno = keep;
        return err;
    }
    *ret_server = s;
    return 0;
}

struct tw_addr tw_rt_server_listener(const struct tw_rt_server *s, unsigned i)
{
    return s->relay_cfg.listeners[i];
}

static void add_stats(struct tw_rt_server_stats *to, const struct tw_rt_server_stats *from)
{
#define ADD(name, text) to->relay.name += from->relay.name;
    TW_RELAY_COUNTERS(ADD)
#undef ADD
    to->tx.datagrams += from->tx.datagrams;
    to->tx.messages += from->tx.messages;
    to->tx.calls += from->tx.calls;
    to->tx.dropped += from->tx.dropped;
    to->received += from->received;
    to->reads += from->reads;
    to->queue_full += from->queue_full;
    to->allocations += from->allocations;
}

void tw_rt_server_stats(const struct tw_rt_server *s, struct tw_rt_server_stats *ret)
{
    *ret = (struct tw_rt_server_stats){ 0 };
    for (unsigned i = 0; i < s->worker_n; i++) {
        struct worker *w = &s->workers[i];
        uv_mutex_lock(&w->stats_lock);
        add_stats(ret, &w->stats);
        uv_mutex_unlock(&w->stats_lock);
    }
}

static void free_worker(struct tw_rt_server *s, struct worker *w)
{
    if (w->wake_fd < 0)
        return; /* init_worker() did not come this far */
    for (unsigned i = 0; i < s->worker_n; i++)
        tw_rt_queue_fini(&w->in[i]);
    free(w->in);
    close(w->wake_fd);
    uv_mutex_destroy(&w->stats_lock);
}

void tw_rt_server_stop(struct tw_rt_server *s)
{
    if (!s)
        return;
    /* First all threads end: until then each may still hand something to any other. */
    for (unsigned i = 0; i < s->worker_n; i++) {
        if (!s->workers[i].running)
            continue;
        atomic_store(&s->workers[i].stop, true);
        worker_wake(&s->workers[i]);
        uv_thread_join(&s->workers[i].thread);
    }
    for (unsigned i = 0; i < s->worker_n; i++)
        free_worker(s, &s->workers[i]);
    uv_sem_destroy(&s->told);
    tw_relay_shared_free(s->shared);
    free(s->workers);
    free(s);
}
