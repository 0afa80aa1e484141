#include "rt/server.h"

#include <errno.h>
#include <gnutls/dtls.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rt/os.h"
#include "rt/sockaddr.h"
#include "rt/worker.h"

enum {
    QUEUE_BYTES = 1 << 19, /* between each pair of workers; a run of 64 KiB must fit */
    HEIR_BYTES = 4 << 20,  /* what a server that takes over has passed and we have not read */
    BACKLOG = 4096,
};

/* --- listeners: all opened here, before the workers have tables of files of their own --------- */

static int inherited_fd(const struct tw_rt_server *s, int type, const struct tw_addr *addr,
                        unsigned nth)
{
    for (unsigned i = 0; i < s->cfg.inherited_n; i++)
        if (s->cfg.inherited[i].type == type && tw_addr_eq(&s->cfg.inherited[i].addr, addr) &&
            nth-- == 0)
            return s->cfg.inherited[i].fd;
    return -1;
}

/* Workers share a port by SO_REUSEPORT, which would let another server of the same user in too. So the
 * first one asks for the port alone before. */
static int check_alone(int type, const struct tw_addr *addr)
{
    struct sockaddr_storage ss;
    int one = 1;
    if (addr->port == 0)
        return 0;
    int fd = socket(addr->family == TW_FAMILY_V4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return TW_ESYS;
    if (type == SOCK_STREAM) /* connections that linger from before are no server */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (addr->family == TW_FAMILY_V6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    int err = bind(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(addr, &ss)) && errno == EADDRINUSE
                  ? TW_EADDRINUSE : 0;
    close(fd);
    return err;
}

static int open_udp(struct tw_rt_server *s, uint32_t i, unsigned worker, int *ret_fd)
{
    struct tw_rt_udp u;
    *ret_fd = inherited_fd(s, SOCK_DGRAM, &s->relay_cfg.listeners[i], worker);
    if (*ret_fd >= 0)
        return 0;
    int err = worker == 0 ? check_alone(SOCK_DGRAM, &s->relay_cfg.listeners[i]) : 0;
    if (err)
        return err;
    unsigned flags = s->worker_n > 1 || s->cfg.inherited_n ? TW_RT_REUSEPORT : 0;
    err = tw_rt_udp_open(&u, &s->relay_cfg.listeners[i], flags);
    if (err)
        return err;
    *ret_fd = u.fd;
    s->relay_cfg.listeners[i] = u.local; /* the first worker settles port 0 for all */
    return 0;
}

static int bind_tcp(struct tw_rt_server *s, struct tw_addr *addr, int *ret_fd)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);
    int one = 1;
    int fd = socket(addr->family == TW_FAMILY_V4 ? AF_INET : AF_INET6,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return TW_ESYS;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if ((addr->family == TW_FAMILY_V6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) ||
        ((s->worker_n > 1 || s->cfg.inherited_n) &&
         setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one))) ||
        bind(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(addr, &ss)) || listen(fd, BACKLOG) ||
        getsockname(fd, (struct sockaddr *)&ss, &n)) {
        int err = errno == EADDRINUSE ? TW_EADDRINUSE : TW_ESYS, keep = errno;
        close(fd);
        errno = keep;
        return err;
    }
    addr->port = tw_rt_addr(&ss).port;
    *ret_fd = fd;
    return 0;
}

/* A port left to the system is the UDP listener's of the same address, if that is free. */
static int open_tcp(struct tw_rt_server *s, unsigned i, unsigned worker, int *ret_fd)
{
    struct tw_addr *addr = &s->tcp[i];
    if (addr->port == 0 && i < s->relay_cfg.listener_n &&
        tw_addr_eq_ip(addr, &s->relay_cfg.listeners[i])) {
        addr->port = s->relay_cfg.listeners[i].port;
        if (!bind_tcp(s, addr, ret_fd))
            return 0;
        addr->port = 0;
    }
    *ret_fd = inherited_fd(s, SOCK_STREAM, addr, worker);
    if (*ret_fd >= 0)
        return 0;
    int err = worker == 0 ? check_alone(SOCK_STREAM, addr) : 0;
    return err ? err : bind_tcp(s, addr, ret_fd);
}

static int open_listeners(struct tw_rt_server *s, int *ret_bad)
{
    uint32_t udp_n = s->relay_cfg.listener_n, each = udp_n + s->cfg.tcp_n;
    s->fds = malloc(each * s->worker_n * sizeof(*s->fds));
    if (!s->fds)
        return TW_ENOMEM;
    for (uint32_t i = 0; i < each * s->worker_n; i++)
        s->fds[i] = -1;
    for (unsigned w = 0; w < s->worker_n; w++)
        for (uint32_t i = 0; i < each; i++) {
            int *fd = &s->fds[w * each + i];
            int err = i < udp_n ? open_udp(s, i, w, fd) : open_tcp(s, i - udp_n, w, fd);
            if (err) {
                *ret_bad = (int)i;
                return err;
            }
        }
    return 0;
}

/* --- start -------------------------------------------------------------------------------- */

static int init_worker(struct tw_rt_server *s, unsigned index, const struct tw_rt_heir *heir)
{
    struct worker *w = &s->workers[index];
    int box[2], pair[2], bytes = HEIR_BYTES;
    w->server = s;
    w->index = index;
    w->armed = TW_NEVER;
    w->in = calloc(s->worker_n, sizeof(*w->in));
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!w->in || w->wake_fd < 0 || uv_mutex_init(&w->stats_lock))
        return TW_ENOMEM;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, box) ||
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return TW_ESYS;
    w->box_fd = box[0];
    w->box_out = box[1];
    w->heir_fd = pair[0];
    w->heir_out = pair[1];
    setsockopt(w->heir_out, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    w->elder_fd = heir ? heir->fds[index] : -1;
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

static int init_shared(struct tw_rt_server *s, const struct tw_rt_heir *heir)
{
    struct tw_rng rng = tw_rt_rng();
    int err = tw_relay_shared_new(s->relay_cfg.relays, s->relay_cfg.relay_n, &rng, &s->shared);
    if (err)
        return err;
    s->open = calloc(1, sizeof(*s->open));
    s->half_open = calloc(1, sizeof(*s->half_open));
    if (!s->open || !s->half_open || gnutls_key_generate(&s->cookie_key, GNUTLS_COOKIE_KEY_SIZE))
        return TW_ENOMEM;
    tw_hash_key_init(&s->open->key, &rng);
    tw_hash_key_init(&s->half_open->key, &rng);
    if (!heir)
        return 0;
    tw_relay_shared_set_keys(s->shared, heir->legacy->keys);
    for (uint32_t i = 0; i < heir->legacy->relay_n; i++)
        for (uint32_t k = 0; k < s->relay_cfg.relay_n; k++)
            if (tw_addr_eq_ip(&heir->legacy->ports[i].ip, &s->relay_cfg.relays[k].ip))
                tw_relay_shared_set_elder_ports(s->shared, k, heir->legacy->ports[i].bits);
    return 0;
}

static int start(struct tw_rt_server *s, const struct tw_rt_heir *heir, int *ret_bad)
{
    int err = init_shared(s, heir);
    if (!err)
        err = init_libuv();
    if (!err)
        err = open_listeners(s, ret_bad);
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = init_worker(s, i, heir);
    for (unsigned i = 0; i < s->worker_n && !err; i++)
        err = start_worker(s, i);
    return err;
}

static void fill_limits(struct tw_rt_limits *l)
{
    l->connections = l->connections ? l->connections : 4096;
    l->handshakes = l->handshakes ? l->handshakes : 200;
    l->half_open = l->half_open ? l->half_open : 128;
}

int tw_rt_server_start(const struct tw_rt_server_config *cfg, const struct tw_rt_heir *heir,
                       struct tw_rt_server **ret_server, int *ret_bad)
{
    *ret_bad = -1;
    if (cfg->workers < 1 || cfg->workers > TW_RELAY_MAX_WORKERS ||
        cfg->tcp_n > TW_RELAY_MAX_LISTENERS ||
        (heir && heir->legacy->workers != cfg->workers))
        return TW_EINVAL;
    struct tw_rt_server *s = calloc(1, sizeof(*s));
    if (!s)
        return TW_ENOMEM;
    *s = (struct tw_rt_server){ .cfg = *cfg, .relay_cfg = *cfg->relay };
    s->relay_cfg.elder = heir != NULL;
    if (cfg->tcp_n)
        memcpy(s->tcp, cfg->tcp, cfg->tcp_n * sizeof(*cfg->tcp));
    fill_limits(&s->cfg.limits);
    s->workers = calloc(cfg->workers, sizeof(*s->workers));
    if (!s->workers || uv_sem_init(&s->told, 0)) {
        free(s->workers);
        free(s);
        return TW_ENOMEM;
    }
    uv_mutex_init(&s->tls_lock);
    s->tls = cfg->tls ? tw_rt_tls_ref(cfg->tls) : NULL;
    s->worker_n = cfg->workers;
    for (unsigned i = 0; i < s->worker_n; i++)
        s->workers[i].wake_fd = s->workers[i].box_fd = s->workers[i].heir_fd = -1;
    int err = start(s, heir, ret_bad);
    s->cfg.inherited = NULL; /* the caller's */
    if (err) {
        int keep = errno;
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

struct tw_addr tw_rt_server_tcp_listener(const struct tw_rt_server *s, unsigned i)
{
    return s->tcp[i];
}

/* --- orders to all workers ------------------------------------------------------------------ */

static void wait_for_all(struct tw_rt_server *s)
{
    for (unsigned i = 0; i < s->worker_n; i++)
        worker_wake(&s->workers[i]);
    for (unsigned i = 0; i < s->worker_n; i++)
        uv_sem_wait(&s->told);
}

static bool same_places(const struct tw_relay_config *a, const struct tw_relay_config *b)
{
    bool same = a->listener_n == b->listener_n && a->relay_n == b->relay_n;
    for (uint32_t i = 0; i < a->listener_n && same; i++)
        same = tw_addr_eq_ip(&a->listeners[i], &b->listeners[i]) &&
               (a->listeners[i].port == b->listeners[i].port || b->listeners[i].port == 0);
    for (uint32_t i = 0; i < a->relay_n && same; i++)
        same = tw_addr_eq_ip(&a->relays[i].ip, &b->relays[i].ip);
    return same;
}

int tw_rt_server_configure(struct tw_rt_server *s, const struct tw_relay_config *cfg,
                           struct tw_rt_tls *tls)
{
    struct tw_relay_config next = *cfg;
    if (!same_places(&s->relay_cfg, cfg))
        return TW_EINVAL;
    memcpy(next.listeners, s->relay_cfg.listeners, sizeof(next.listeners));
    next.elder = s->relay_cfg.elder;
    s->next = &next;
    s->error = 0;
    for (unsigned i = 0; i < s->worker_n; i++)
        atomic_store(&s->workers[i].reconfigure, true);
    wait_for_all(s);
    s->next = NULL;
    s->relay_cfg = next;
    if (tls && s->tls) {
        uv_mutex_lock(&s->tls_lock);
        tw_rt_tls_unref(s->tls);
        s->tls = tw_rt_tls_ref(tls);
        uv_mutex_unlock(&s->tls_lock);
    }
    return s->error;
}

void tw_rt_server_retire(struct tw_rt_server *s, bool retired)
{
    s->retired = retired;
    for (unsigned i = 0; i < s->worker_n; i++)
        atomic_store(&s->workers[i].retire, true);
    wait_for_all(s);
}

/* --- one server takes over from another ----------------------------------------------------- */

int tw_rt_server_bequeath(struct tw_rt_server *s, struct tw_rt_legacy *ret,
                          int ret_fds[TW_RT_LEGACY_FDS])
{
    memset(ret, 0, sizeof(*ret));
    tw_relay_shared_keys(s->shared, ret->keys);
    ret->relay_n = s->relay_cfg.relay_n;
    ret->workers = s->worker_n;
    for (uint32_t i = 0; i < ret->relay_n; i++) {
        ret->ports[i].ip = s->relay_cfg.relays[i].ip;
        tw_relay_shared_ports(s->shared, i, ret->ports[i].bits);
    }
    for (unsigned i = 0; i < s->worker_n; i++)
        ret_fds[i] = s->workers[i].heir_out;
    return 0;
}

unsigned tw_rt_server_sockets(const struct tw_rt_server *s, struct tw_rt_inherited *ret,
                              unsigned cap)
{
    uint32_t udp_n = s->relay_cfg.listener_n, each = udp_n + s->cfg.tcp_n;
    unsigned n = 0;
    for (unsigned w = 0; w < s->worker_n; w++)
        for (uint32_t i = 0; i < each && n < cap; i++)
            ret[n++] = (struct tw_rt_inherited){
                s->fds[w * each + i], i < udp_n ? SOCK_DGRAM : SOCK_STREAM,
                i < udp_n ? s->relay_cfg.listeners[i] : s->tcp[i - udp_n] };
    return n;
}

void tw_rt_server_elder_gone(struct tw_rt_server *s)
{
    static const uint8_t none[TW_RELAY_PORT_BITS];
    struct tw_relay_config next = s->relay_cfg;
    for (uint32_t i = 0; i < s->relay_cfg.relay_n; i++)
        tw_relay_shared_set_elder_ports(s->shared, i, none);
    s->relay_cfg.elder = false;
    (void)!tw_rt_server_configure(s, &next, NULL);
}

/* --- figures ------------------------------------------------------------------------------ */

static void add_stats(struct tw_rt_server_stats *to, const struct tw_rt_server_stats *from)
{
#define ADD(name, text) to->relay.name += from->relay.name;
    TW_RELAY_COUNTERS(ADD)
#undef ADD
#define ADD(name, text) to->rt.name += from->rt.name;
    TW_RT_COUNTERS(ADD)
#undef ADD
    to->tx.datagrams += from->tx.datagrams;
    to->tx.messages += from->tx.messages;
    to->tx.calls += from->tx.calls;
    to->tx.dropped += from->tx.dropped;
    to->allocations += from->allocations;
    to->connections += from->connections;
    to->busy += from->busy;
}

void tw_rt_server_worker_stats(const struct tw_rt_server *s, unsigned worker,
                               struct tw_rt_server_stats *ret)
{
    struct worker *w = &s->workers[worker];
    uv_mutex_lock(&w->stats_lock);
    *ret = w->stats;
    uv_mutex_unlock(&w->stats_lock);
}

void tw_rt_server_stats(const struct tw_rt_server *s, struct tw_rt_server_stats *ret)
{
    struct tw_rt_server_stats one;
    *ret = (struct tw_rt_server_stats){ 0 };
    for (unsigned i = 0; i < s->worker_n; i++) {
        tw_rt_server_worker_stats(s, i, &one);
        add_stats(ret, &one);
    }
}

/* --- the end ------------------------------------------------------------------------------ */

static void free_worker(struct tw_rt_server *s, struct worker *w)
{
    if (w->wake_fd < 0)
        return; /* init_worker() did not come this far */
    for (unsigned i = 0; i < s->worker_n; i++)
        tw_rt_queue_fini(&w->in[i]);
    free(w->in);
    close(w->wake_fd);
    if (w->box_fd >= 0) {
        close(w->box_fd);
        close(w->box_out);
    }
    if (w->heir_fd >= 0) {
        close(w->heir_fd);
        close(w->heir_out);
    }
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
    for (uint32_t i = 0; s->fds && i < (s->relay_cfg.listener_n + s->cfg.tcp_n) * s->worker_n; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    uv_sem_destroy(&s->told);
    uv_mutex_destroy(&s->tls_lock);
    tw_rt_tls_unref(s->tls);
    tw_relay_shared_free(s->shared);
    gnutls_free(s->cookie_key.data);
    free(s->open);
    free(s->half_open);
    free(s->fds);
    free(s->workers);
    free(s);
}
