#define CARES_NO_DEPRECATED /* the calls that Debian 12's c-ares has */
#include "rt/resolve.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <thalweg/error.h>

#include "rt/os.h"
#include "rt/sockaddr.h"

enum { TARGETS_MAX = 8 };

struct target {
    char host[TW_URI_HOST_MAX + 1];
    uint16_t port;
    unsigned priority, weight;
    struct tw_addr addrs[TW_RT_RESOLVED_MAX];
    unsigned n;
};

struct lookup {
    ares_channel channel;
    enum tw_family family;
    struct target targets[TARGETS_MAX];
    unsigned n, pending;
    bool timed_out;
};

/* --- answers ------------------------------------------------------------------------------ */

/* RFC 2782: lower priority first; within one, a random draw by weight. */
static void sort_targets(struct lookup *l)
{
    struct tw_rng rng = tw_rt_rng();
    unsigned keys[TARGETS_MAX];
    for (unsigned i = 0; i < l->n; i++) {
        uint16_t r;
        rng.fill(rng.ctx, &r, sizeof(r));
        keys[i] = (l->targets[i].weight + 1) * (r + 1u);
    }
    for (unsigned i = 1; i < l->n; i++)
        for (unsigned j = i; j > 0; j--) {
            struct target *a = &l->targets[j - 1], *b = &l->targets[j];
            if (a->priority < b->priority || (a->priority == b->priority && keys[j - 1] >= keys[j]))
                break;
            struct target t = *a;
            *a = *b;
            *b = t;
            unsigned k = keys[j - 1];
            keys[j - 1] = keys[j];
            keys[j] = k;
        }
}

static void on_srv(void *arg, int status, int timeouts, unsigned char *abuf, int alen)
{
    struct lookup *l = arg;
    struct ares_srv_reply *list = NULL;
    (void)timeouts;
    l->pending--;
    if (status != ARES_SUCCESS || ares_parse_srv_reply(abuf, alen, &list) != ARES_SUCCESS)
        return;
    for (struct ares_srv_reply *r = list; r && l->n < TARGETS_MAX; r = r->next) {
        struct target *t = &l->targets[l->n];
        size_t n = strlen(r->host);
        if (n == 0 || n > TW_URI_HOST_MAX) /* ".": the service is not offered */
            continue;
        memcpy(t->host, r->host, n + 1);
        t->port = r->port;
        t->priority = r->priority;
        t->weight = r->weight;
        l->n++;
    }
    ares_free_data(list);
}

struct ask {
    struct lookup *l;
    struct target *t;
};

static void on_addrs(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
    struct ask *ask = arg;
    struct target *t = ask->t;
    (void)timeouts;
    ask->l->pending--;
    free(ask);
    if (status != ARES_SUCCESS)
        return;
    for (struct ares_addrinfo_node *n = result->nodes; n && t->n < TW_RT_RESOLVED_MAX;
         n = n->ai_next) {
        struct sockaddr_storage ss = { 0 };
        memcpy(&ss, n->ai_addr, (size_t)n->ai_addrlen);
        struct tw_addr a = tw_rt_addr(&ss);
        if (a.family == TW_FAMILY_NONE)
            continue;
        a.port = t->port;
        t->addrs[t->n++] = a;
    }
    ares_freeaddrinfo(result);
}

/* --- asking ------------------------------------------------------------------------------- */

static void run(struct lookup *l, tw_time until)
{
    while (l->pending) {
        ares_socket_t socks[ARES_GETSOCK_MAXNUM];
        struct pollfd fds[ARES_GETSOCK_MAXNUM];
        unsigned n = 0;
        int bits = ares_getsock(l->channel, socks, ARES_GETSOCK_MAXNUM);
        for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
            /* As ARES_GETSOCK_READABLE and _WRITABLE, which shift into the sign. */
            short events = (short)(((unsigned)bits >> i & 1 ? POLLIN : 0) |
                                   ((unsigned)bits >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0));
            if (events)
                fds[n++] = (struct pollfd){ .fd = socks[i], .events = events };
        }
        tw_time left = until - tw_rt_now();
        if (left <= 0) {
            l->timed_out = true;
            ares_cancel(l->channel);
            return;
        }
        int wait = left < 100 * TW_MSEC ? (int)(left / TW_MSEC) + 1 : 100;
        poll(fds, n, wait);
        for (unsigned i = 0; i < n; i++)
            ares_process_fd(l->channel, fds[i].revents & (POLLIN | POLLERR | POLLHUP)
                                            ? fds[i].fd : ARES_SOCKET_BAD,
                            fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
        ares_process_fd(l->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
}

static int ask_addrs(struct lookup *l)
{
    int af = l->family == TW_FAMILY_V4 ? AF_INET : l->family == TW_FAMILY_V6 ? AF_INET6 : AF_UNSPEC;
    struct ares_addrinfo_hints hints = { .ai_family = af };
    for (unsigned i = 0; i < l->n; i++) {
        struct ask *ask = malloc(sizeof(*ask));
        if (!ask)
            return TW_ENOMEM;
        *ask = (struct ask){ l, &l->targets[i] };
        l->pending++;
        ares_getaddrinfo(l->channel, l->targets[i].host, NULL, &hints, on_addrs, ask);
    }
    return 0;
}

static int look_up(struct lookup *l, const struct tw_uri *uri, tw_time until)
{
    char name[TW_URI_HOST_MAX + 32];
    if (tw_uri_srv_name(uri, name, sizeof(name))) {
        l->pending = 1;
        ares_query(l->channel, name, ns_c_in, ns_t_srv, on_srv, l);
        run(l, until);
        sort_targets(l);
    }
    if (l->n == 0) {
        struct target *t = &l->targets[l->n++];
        memcpy(t->host, uri->host, sizeof(t->host));
        t->port = uri->port ? uri->port : tw_uri_default_port(uri);
    }
    int err = ask_addrs(l);
    run(l, until);
    return err;
}

int tw_rt_resolve(const struct tw_uri *uri, enum tw_family family, int timeout_ms,
                  struct tw_addr ret_addrs[TW_RT_RESOLVED_MAX], unsigned *ret_n)
{
    struct tw_addr literal;
    unsigned n = 0;
    if (uri->host_is_ip) {
        uint16_t port = uri->port ? uri->port : tw_uri_default_port(uri);
        if (tw_addr_parse(uri->host, port, &literal) ||
            (family != TW_FAMILY_NONE && literal.family != family))
            return TW_ENOTFOUND;
        literal.port = port;
        ret_addrs[0] = literal;
        *ret_n = 1;
        return 0;
    }
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return TW_ENOMEM;
    struct lookup l = { .family = family };
    if (ares_init(&l.channel) != ARES_SUCCESS) {
        ares_library_cleanup();
        return TW_ENOMEM;
    }
    int err = look_up(&l, uri, tw_rt_now() + timeout_ms * TW_MSEC);
    ares_destroy(l.channel);
    ares_library_cleanup();
    for (unsigned i = 0; i < l.n; i++)
        for (unsigned k = 0; k < l.targets[i].n && n < TW_RT_RESOLVED_MAX; k++)
            ret_addrs[n++] = l.targets[i].addrs[k];
    *ret_n = n;
    if (err || n)
        return err;
    return l.timed_out ? TW_ETIMEOUT : TW_ENOTFOUND;
}
