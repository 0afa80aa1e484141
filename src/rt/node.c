/* The simple tier: an endpoint, its loop, and calls that wait.
 *
 * One lock guards it all. The thread sleeps in poll() on libuv's descriptor, without the lock, and runs the loop with
 * it; a caller's verb works on the endpoint directly, and wakes the thread if there is something for it to do before it
 * would have woken by itself. Those who wait for something wait on one condition. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thalweg/thalweg.h>

#include "rt/endpoint.h"
#include "rt/file.h"
#include "rt/os.h"

enum { STREAMS_WAIT = 128, DATAGRAMS = 256, EVENTS = 256, CA_MAX = 1 << 20 };

struct datagram {
    uint16_t n;
    uint8_t data[TW_ENDPOINT_DATAGRAM_MAX];
};

/* What the application has not asked for yet, of one peer. */
struct peer {
    struct peer *next;
    uint32_t id;
    struct tw_key key;
    bool called_us, accepted, ready, closed;
    uint64_t code;
    char why[sizeof(((struct tw_node_event *)0)->why)];
    int64_t streams[STREAMS_WAIT]; /* that it opened: a ring */
    unsigned stream_at, stream_n;
    struct datagram *datagrams;    /* a ring, made when the first one comes */
    unsigned datagram_at, datagram_n;
    uint8_t *early;
    size_t early_n;
};

struct tw_node {
    struct tw_rt_endpoint rt;
    uv_loop_t loop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int wake_fd;                   /* -1: no thread */
    tw_time sleeps_until;          /* of the thread; 0: it is awake */
    bool online, ending, over;
    struct peer *peers;
    struct tw_node_event events[EVENTS];
    unsigned event_at, event_n;
    char *ca, *metered;
};

/* --- the loop ---------------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct tw_node *n = arg;
    uint64_t count;
    struct pollfd fds[2] = { { .fd = uv_backend_fd(&n->loop), .events = POLLIN },
                             { .fd = n->wake_fd, .events = POLLIN } };
    pthread_mutex_lock(&n->lock);
    while (uv_run(&n->loop, UV_RUN_NOWAIT) || !n->over) {
        int wait = uv_backend_timeout(&n->loop);
        n->sleeps_until = wait < 0 ? TW_NEVER : tw_rt_now() + wait * TW_MSEC;
        pthread_mutex_unlock(&n->lock);
        poll(fds, 2, wait);
        pthread_mutex_lock(&n->lock);
        n->sleeps_until = 0;
        if (fds[1].revents)
            (void)!read(n->wake_fd, &count, sizeof(count));
        uv_update_time(&n->loop);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

/* After a verb: sends what came of it. Keeps the lock. */
static void stir(struct tw_node *n)
{
    uv_update_time(&n->loop);
    tw_rt_endpoint_pump(&n->rt);
    int wait = uv_backend_timeout(&n->loop);
    if (wait >= 0 && n->sleeps_until && tw_rt_now() + wait * TW_MSEC < n->sleeps_until) {
        n->sleeps_until = 0;
        (void)!write(n->wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
    }
}

static void begin(const struct tw_node *n)
{
    pthread_mutex_lock(&((struct tw_node *)(uintptr_t)n)->lock);
}

static int end(const struct tw_node *n, int err)
{
    pthread_mutex_unlock(&((struct tw_node *)(uintptr_t)n)->lock);
    return err;
}

/* When a call that begins now has waited enough. */
static tw_time until(const struct tw_node *n, int timeout_ms)
{
    return n->wake_fd < 0 ? 0 : timeout_ms < 0 ? TW_NEVER : tw_rt_now() + timeout_ms * TW_MSEC;
}

/* Waits for anything to happen. False: the time is over. */
static bool wait_until(struct tw_node *n, tw_time at)
{
    struct timespec ts;
    if (at == TW_NEVER)
        return pthread_cond_wait(&n->changed, &n->lock) == 0;
    tw_time left = at - tw_rt_now();
    if (left <= 0)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &ts); /* conditions know no other */
    left += (tw_time)ts.tv_sec * TW_SEC + ts.tv_nsec;
    ts = (struct timespec){ left / TW_SEC, left % TW_SEC };
    return pthread_cond_timedwait(&n->changed, &n->lock, &ts) == 0;
}

/* --- events ------------------------------------------------------------------------------------------ */

static struct peer *find(const struct tw_node *n, uint32_t conn)
{
    struct peer *p = n->peers;
    while (p && p->id != conn)
        p = p->next;
    return p;
}

static struct peer *add(struct tw_node *n, uint32_t conn)
{
    struct peer *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->id = conn;
    p->next = n->peers;
    n->peers = p;
    return p;
}

static void forget(struct tw_node *n, struct peer *p)
{
    struct peer **at = &n->peers;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    free(p->datagrams);
    free(p->early);
    free(p);
}

static void keep_event(struct tw_node *n, const struct tw_endpoint_event *ev)
{
    struct tw_endpoint_conn c;
    if (n->event_n == EVENTS) {
        n->event_at = (n->event_at + 1) % EVENTS;
        n->event_n--;
    }
    struct tw_node_event *to = &n->events[(n->event_at + n->event_n++) % EVENTS];
    *to = (struct tw_node_event){ .type = ev->type, .conn = ev->conn, .key = ev->key, .path = ev->path,
                                  .server = ev->server, .code = ev->code };
    if (ev->conn && !tw_endpoint_conn(n->rt.endpoint, ev->conn, &c)) {
        to->key = c.key;
        to->path = c.path;
    }
    snprintf(to->why, sizeof(to->why), "%s", ev->why ? ev->why : "");
}

static void keep_datagram(struct peer *p, struct tw_bytes data)
{
    if (!p->datagrams && !(p->datagrams = malloc(DATAGRAMS * sizeof(*p->datagrams))))
        return;
    if (p->datagram_n == DATAGRAMS) {
        p->datagram_at = (p->datagram_at + 1) % DATAGRAMS;
        p->datagram_n--;
    }
    struct datagram *d = &p->datagrams[(p->datagram_at + p->datagram_n++) % DATAGRAMS];
    d->n = (uint16_t)(data.n < sizeof(d->data) ? data.n : sizeof(d->data));
    memcpy(d->data, data.p, d->n);
}

static void keep_stream(struct tw_node *n, struct peer *p, int64_t stream)
{
    if (p->stream_n == STREAMS_WAIT) /* more than anybody takes */
        tw_endpoint_reset(n->rt.endpoint, tw_rt_now(), p->id, stream, TW_ENDPOINT_CODE_REFUSED);
    else
        p->streams[(p->stream_at + p->stream_n++) % STREAMS_WAIT] = stream;
}

static void keep_early(struct peer *p, struct tw_bytes data)
{
    p->early = malloc(data.n);
    if (!p->early)
        return;
    memcpy(p->early, data.p, data.n);
    p->early_n = data.n;
}

static void on_incoming(struct tw_node *n, const struct tw_endpoint_event *ev)
{
    struct peer *p = add(n, ev->conn);
    if (!p) {
        tw_endpoint_hangup(n->rt.endpoint, tw_rt_now(), ev->conn, TW_ENDPOINT_CODE_REFUSED, "out of memory");
        return;
    }
    p->called_us = true;
    p->key = ev->key;
}

static void on_event(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    struct tw_node *n = r->cfg.user;
    struct peer *p = find(n, ev->conn);
    pthread_cond_broadcast(&n->changed);
    if (ev->type == TW_EP_CLOSED_ALL) {
        n->over = true;
        tw_rt_endpoint_fini(r);
        return;
    }
    if (ev->type == TW_EP_INCOMING)
        on_incoming(n, ev);
    else if (ev->type == TW_EP_ONLINE)
        n->online = true;
    else if (p && ev->type == TW_EP_READY)
        p->ready = true;
    else if (p && ev->type == TW_EP_EARLY)
        keep_early(p, ev->data);
    else if (p && ev->type == TW_EP_STREAM)
        keep_stream(n, p, ev->stream);
    else if (p && ev->type == TW_EP_DATAGRAM)
        keep_datagram(p, ev->data);
    else if (p && ev->type == TW_EP_CLOSED) {
        p->closed = true;
        p->code = ev->code;
        snprintf(p->why, sizeof(p->why), "%s", ev->why ? ev->why : "");
    }
    if (ev->type == TW_EP_OFFLINE || ev->type == TW_EP_ONLINE || ev->type == TW_EP_KNOCK ||
        ev->type == TW_EP_INCOMING || ev->type == TW_EP_READY || ev->type == TW_EP_CONNECTED ||
        ev->type == TW_EP_PATH || ev->type == TW_EP_CLOSED)
        keep_event(n, ev);
    if (p && p->closed && p->called_us && !p->accepted) /* it left before anybody asked for it */
        forget(n, p);
}

/* Signals are for the other threads. */
static int start_thread(struct tw_node *n)
{
    sigset_t all, before;
    n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = n->wake_fd >= 0 && !pthread_create(&n->thread, NULL, run, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        return 0;
    if (n->wake_fd >= 0)
        close(n->wake_fd);
    n->wake_fd = -1;
    return TW_ESYS;
}

/* --- life -------------------------------------------------------------------------------------------- */

static int read_servers(const struct tw_node_config *cfg, struct tw_endpoint_config *to, const char **ret_why)
{
    for (size_t i = 0; cfg->servers && cfg->servers[i]; i++) {
        *ret_why = "too many servers";
        if (i == TW_ENDPOINT_SERVERS_MAX)
            return TW_EINVAL;
        if (tw_rdv_addr_parse(cfg->servers[i], &to->servers[i], ret_why))
            return TW_EMALFORMED;
        to->tokens[i] = cfg->token;
        to->server_n = i + 1;
    }
    return 0;
}

static int identity(const struct tw_node_config *cfg, uint8_t seed[TW_SEED_SIZE], const char **ret_why)
{
    bool made;
    if (cfg->key_file)
        return tw_rt_keyfile(cfg->key_file, seed, &made, ret_why);
    struct tw_rng rng = tw_rt_rng();
    rng.fill(rng.ctx, seed, TW_SEED_SIZE);
    return 0;
}

static int start(struct tw_node *n, const struct tw_node_config *cfg, const char **ret_why)
{
    uint8_t seed[TW_SEED_SIZE];
    char *ca = NULL;
    struct tw_rt_endpoint_config rt = { .on_event = on_event, .user = n };
    struct tw_endpoint_config *ep = &rt.endpoint;
    ep->seed = seed;
    ep->listen = cfg->listen;
    ep->allow_any = cfg->allow_any;
    ep->rungs = cfg->rungs;
    ep->lan = !cfg->no_lan && !cfg->relay_only;
    ep->ice.no_mapping = cfg->no_port_mapping;
    ep->ice.policy = cfg->relay_only ? TW_ICE_RELAY_ONLY : TW_ICE_ALL;
    int err = read_servers(cfg, ep, ret_why);
    err = err ? err : identity(cfg, seed, ret_why);
    if (!err && cfg->ca_file) {
        err = tw_rt_read_file(cfg->ca_file, CA_MAX, &ca, &rt.ca.n);
        rt.ca.p = (const uint8_t *)ca;
        *ret_why = err == TW_ESYS ? strerror(errno) : tw_strerror(err);
    }
    if (!err) {
        err = tw_rt_endpoint_init(&n->rt, &n->loop, &rt);
        *ret_why = tw_strerror(err);
    }
    sodium_memzero(seed, sizeof(seed));
    if (err) {
        free(ca);
        return err;
    }
    n->ca = ca;
    if (cfg->metered) {
        n->rt.cfg.metered = n->metered = strdup(cfg->metered);
        if (!n->metered)
            return TW_ENOMEM;
    }
    for (size_t i = 0; cfg->allow && cfg->allow[i]; i++) {
        err = tw_node_allow(n, cfg->allow[i]);
        *ret_why = "a key to let in is none";
        if (err)
            return err;
    }
    tw_rt_endpoint_start(&n->rt);
    return 0;
}

static void free_all(struct tw_node *n)
{
    while (n->peers)
        forget(n, n->peers);
    uv_loop_close(&n->loop);
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
    if (n->wake_fd >= 0)
        close(n->wake_fd);
    free(n->ca);
    free(n->metered);
    free(n);
}

int tw_node_new(const struct tw_node_config *cfg, struct tw_node **ret_node, const char **ret_why)
{
    const char *nowhere;
    pthread_condattr_t attr;
    struct tw_node *n = calloc(1, sizeof(*n));
    ret_why = ret_why ? ret_why : &nowhere;
    *ret_why = tw_strerror(TW_ENOMEM);
    if (!n)
        return TW_ENOMEM;
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&n->changed, &attr);
    pthread_condattr_destroy(&attr);
    n->wake_fd = -1;
    if (uv_loop_init(&n->loop)) {
        free(n);
        *ret_why = "there is no event loop to be had";
        return TW_ESYS;
    }
    int err = start(n, cfg, ret_why);
    if (!err && !cfg->own_loop) {
        err = start_thread(n);
        *ret_why = "there is no thread to be had";
    }
    if (err) {
        if (n->rt.endpoint)
            tw_rt_endpoint_fini(&n->rt);
        uv_run(&n->loop, UV_RUN_DEFAULT);
        free_all(n);
        return err;
    }
    *ret_node = n;
    return 0;
}

void tw_node_free(struct tw_node *n)
{
    if (!n)
        return;
    begin(n);
    tw_endpoint_close(n->rt.endpoint, tw_rt_now());
    stir(n);
    end(n, 0);
    if (n->wake_fd < 0)
        uv_run(&n->loop, UV_RUN_DEFAULT);
    else
        pthread_join(n->thread, NULL);
    free_all(n);
}

int tw_node_fd(const struct tw_node *n)
{
    return n->wake_fd < 0 ? uv_backend_fd(&n->loop) : -1;
}

int tw_node_timeout(const struct tw_node *n)
{
    uv_update_time((uv_loop_t *)(uintptr_t)&n->loop);
    return uv_backend_timeout(&n->loop);
}

void tw_node_run(struct tw_node *n)
{
    begin(n);
    uv_run(&n->loop, UV_RUN_NOWAIT);
    end(n, 0);
}

/* --- the node ---------------------------------------------------------------------------------------- */

int tw_node_address(const struct tw_node *n, char *out, size_t cap)
{
    const struct tw_endpoint_config *cfg = &n->rt.cfg.endpoint;
    struct tw_address a = tw_address_of(tw_endpoint_key(n->rt.endpoint), cfg->servers, cfg->server_n); /* which do not change */
    return tw_address_format(&a, out, cap);
}

int tw_node_allow(struct tw_node *n, const char *address)
{
    struct tw_address a;
    int err = tw_address_parse(address, &a, NULL);
    if (err)
        return err;
    begin(n);
    return end(n, tw_endpoint_allow(n->rt.endpoint, &a.key));
}

int tw_node_online(struct tw_node *n, int timeout_ms)
{
    begin(n);
    tw_time at = until(n, timeout_ms);
    while (!n->online && wait_until(n, at)) {
    }
    return end(n, n->online ? 0 : TW_ETIMEOUT);
}

int tw_node_event(struct tw_node *n, int timeout_ms, struct tw_node_event *ret)
{
    begin(n);
    tw_time at = until(n, timeout_ms);
    while (!n->event_n && wait_until(n, at)) {
    }
    if (!n->event_n)
        return end(n, TW_ETIMEOUT);
    *ret = n->events[n->event_at];
    n->event_at = (n->event_at + 1) % EVENTS;
    n->event_n--;
    return end(n, 0);
}

/* --- peers --------------------------------------------------------------------------------------------- */

int tw_node_dial(struct tw_node *n, const char *address, const void *early, size_t early_n, uint32_t *ret_conn)
{
    struct tw_address a;
    uint32_t conn;
    if (tw_address_parse(address, &a, NULL))
        return TW_EMALFORMED;
    begin(n);
    int err = tw_endpoint_dial(n->rt.endpoint, tw_rt_now(), &a, tw_bytes(early, early_n), &conn);
    struct peer *p = err ? NULL : add(n, conn);
    if (err || !p) {
        if (!err)
            tw_endpoint_hangup(n->rt.endpoint, tw_rt_now(), conn, TW_ENDPOINT_CODE_BYE, "");
        return end(n, err ? err : TW_ENOMEM);
    }
    p->key = a.key;
    stir(n);
    *ret_conn = conn;
    return end(n, 0);
}

/* Waits with the lock until the peer is ready. */
static int wait_ready(struct tw_node *n, uint32_t conn, tw_time at)
{
    for (;;) {
        const struct peer *p = find(n, conn);
        if (!p)
            return TW_ENOTFOUND;
        if (p->closed || p->ready)
            return p->closed ? TW_ESTATE : 0;
        if (!wait_until(n, at))
            return TW_ETIMEOUT;
    }
}

int tw_node_ready(struct tw_node *n, uint32_t conn, int timeout_ms)
{
    begin(n);
    return end(n, wait_ready(n, conn, until(n, timeout_ms)));
}

int tw_node_accept(struct tw_node *n, int timeout_ms, uint32_t *ret_conn, struct tw_key *ret_key)
{
    begin(n);
    tw_time at = until(n, timeout_ms);
    for (;;) {
        struct peer *first = NULL; /* the newest stands first in the list */
        for (struct peer *p = n->peers; p; p = p->next)
            if (p->called_us && !p->accepted && p->ready)
                first = p;
        if (first) {
            first->accepted = true;
            *ret_conn = first->id;
            if (ret_key)
                *ret_key = first->key;
            return end(n, 0);
        }
        if (!wait_until(n, at))
            return end(n, TW_ETIMEOUT);
    }
}

int tw_node_early(struct tw_node *n, uint32_t conn, void *buf, size_t cap, size_t *ret_n)
{
    begin(n);
    const struct peer *p = find(n, conn);
    if (!p)
        return end(n, TW_ENOTFOUND);
    *ret_n = p->early_n < cap ? p->early_n : cap;
    if (*ret_n)
        memcpy(buf, p->early, *ret_n);
    return end(n, 0);
}

void tw_node_hangup(struct tw_node *n, uint32_t conn, const char *reason)
{
    begin(n);
    struct peer *p = find(n, conn);
    if (p) {
        if (!p->closed)
            tw_endpoint_hangup(n->rt.endpoint, tw_rt_now(), conn, TW_ENDPOINT_CODE_BYE, reason ? reason : "");
        forget(n, p);
        pthread_cond_broadcast(&n->changed);
        stir(n);
    }
    end(n, 0);
}

const char *tw_node_why(struct tw_node *n, uint32_t conn, uint64_t *ret_code)
{
    begin(n);
    const struct peer *p = find(n, conn);
    const char *why = p && p->closed ? p->why : "";
    if (ret_code)
        *ret_code = p ? p->code : 0;
    end(n, 0);
    return why;
}

int tw_node_stats(struct tw_node *n, uint32_t conn, struct tw_endpoint_conn *ret)
{
    begin(n);
    return end(n, tw_endpoint_conn(n->rt.endpoint, conn, ret));
}

/* --- streams -------------------------------------------------------------------------------------------- */

int tw_node_open(struct tw_node *n, uint32_t conn, int timeout_ms, int64_t *ret_stream)
{
    begin(n);
    int err = wait_ready(n, conn, until(n, timeout_ms));
    return end(n, err ? err : tw_endpoint_open(n->rt.endpoint, tw_rt_now(), conn, ret_stream));
}

int tw_node_incoming(struct tw_node *n, uint32_t conn, int timeout_ms, int64_t *ret_stream)
{
    begin(n);
    tw_time at = until(n, timeout_ms);
    for (;;) {
        struct peer *p = find(n, conn);
        if (p && p->stream_n && !p->closed) {
            *ret_stream = p->streams[p->stream_at];
            p->stream_at = (p->stream_at + 1) % STREAMS_WAIT;
            p->stream_n--;
            return end(n, 0);
        }
        if (!p || p->closed)
            return end(n, p ? TW_ESTATE : TW_ENOTFOUND);
        if (!wait_until(n, at))
            return end(n, TW_ETIMEOUT);
    }
}

/* Why a stream can't be used. */
static int lost(const struct tw_node *n, uint32_t conn, int err)
{
    const struct peer *p = find(n, conn);
    return p && p->closed ? TW_ESTATE : err;
}

int tw_node_write(struct tw_node *n, uint32_t conn, int64_t stream, const void *data, size_t size, int timeout_ms,
                  size_t *ret_n)
{
    size_t took = 0;
    *ret_n = 0;
    begin(n);
    tw_time at = until(n, timeout_ms);
    for (;;) {
        int err = tw_endpoint_write(n->rt.endpoint, tw_rt_now(), conn, stream,
                                    tw_bytes((const uint8_t *)data + *ret_n, size - *ret_n), false, &took);
        if (err)
            return end(n, lost(n, conn, err));
        *ret_n += took;
        stir(n);
        if (*ret_n == size)
            return end(n, 0);
        if (!wait_until(n, at))
            return end(n, TW_ETIMEOUT);
    }
}

int tw_node_shut(struct tw_node *n, uint32_t conn, int64_t stream)
{
    size_t took;
    begin(n);
    int err = tw_endpoint_write(n->rt.endpoint, tw_rt_now(), conn, stream, tw_bytes(NULL, 0), true, &took);
    if (!err)
        stir(n);
    return end(n, err ? lost(n, conn, err) : 0);
}

int tw_node_read(struct tw_node *n, uint32_t conn, int64_t stream, void *buf, size_t cap, int timeout_ms,
                 size_t *ret_n, bool *ret_end)
{
    struct tw_bytes b;
    bool over;
    begin(n);
    tw_time at = until(n, timeout_ms);
    for (;;) {
        int err = tw_endpoint_peek(n->rt.endpoint, conn, stream, &b, &over);
        if (err)
            return end(n, lost(n, conn, err));
        if (b.n || over)
            break;
        if (!wait_until(n, at))
            return end(n, TW_ETIMEOUT);
    }
    *ret_n = b.n < cap ? b.n : cap;
    *ret_end = over && *ret_n == b.n;
    memcpy(buf, b.p, *ret_n);
    tw_endpoint_take(n->rt.endpoint, tw_rt_now(), conn, stream, *ret_n);
    stir(n);
    return end(n, 0);
}

void tw_node_reset(struct tw_node *n, uint32_t conn, int64_t stream)
{
    begin(n);
    tw_endpoint_reset(n->rt.endpoint, tw_rt_now(), conn, stream, TW_ENDPOINT_CODE_BYE + 1);
    stir(n);
    end(n, 0);
}

int tw_node_send(struct tw_node *n, uint32_t conn, const void *data, size_t size)
{
    begin(n);
    int err = tw_endpoint_datagram(n->rt.endpoint, tw_rt_now(), conn, tw_bytes(data, size));
    if (!err)
        stir(n);
    return end(n, err ? lost(n, conn, err) : 0);
}

int tw_node_recv(struct tw_node *n, uint32_t conn, void *buf, size_t cap, int timeout_ms, size_t *ret_n)
{
    begin(n);
    tw_time at = until(n, timeout_ms);
    for (;;) {
        struct peer *p = find(n, conn);
        if (p && p->datagram_n) {
            const struct datagram *d = &p->datagrams[p->datagram_at];
            *ret_n = d->n < cap ? d->n : cap;
            memcpy(buf, d->data, *ret_n);
            p->datagram_at = (p->datagram_at + 1) % DATAGRAMS;
            p->datagram_n--;
            return end(n, 0);
        }
        if (!p || p->closed)
            return end(n, p ? TW_ESTATE : TW_ENOTFOUND);
        if (!wait_until(n, at))
            return end(n, TW_ETIMEOUT);
    }
}
