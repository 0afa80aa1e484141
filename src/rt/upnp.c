#include "rt/upnp.h"

#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/error.h>

#include "rt/os.h"

enum {
    MAPPINGS = 32,
    DISCOVER_MS = 1500,
    LEASE_S = 3600,
    RENEW_MS = LEASE_S / 2 * 1000,
    PORT_TRIES = 4,
    CONFLICT = 718,        /* WANIPConnection:1, 2.4.16 */
    ONLY_PERMANENT = 725,
};

struct mapping {
    uint32_t id;
    enum { FREE, WANTED, HELD, DROPPED } state;
    bool tcp;
    struct tw_addr local, outside;
    uint16_t port;         /* outside, 0: none */
};

/* work and what is below it are the thread's while it runs. */
struct tw_rt_upnp {
    uv_async_t done;
    uv_timer_t renew;
    uv_thread_t thread;
    uv_mutex_t lock;
    bool running, again;   /* again: something has come while it ran */
    bool searching;        /* under lock: nothing has been changed at any gateway */
    bool abandoned;        /* under lock: nobody waits for the thread any more ... */
    unsigned owners;       /* ... and whoever is last frees: thread and loop */
    bool freeing;
    unsigned closing;      /* handles that are not closed yet */
    tw_rt_upnp_mapped *mapped;
    void *user;
    struct mapping maps[MAPPINGS];
    struct mapping work[MAPPINGS];
    bool found, sought;    /* a gateway */
    struct UPNPUrls urls;
    struct IGDdatas data;
};

/* --- in the thread -------------------------------------------------------------------------------- */

static const char *text_of(const struct tw_addr *a, char buf[TW_ADDR_STRLEN])
{
    struct tw_addr ip = tw_addr_ip_only(a);
    return tw_addr_format(&ip, buf);
}

static bool find_gateway(struct tw_rt_upnp *u, const struct tw_addr *local)
{
    char from[TW_ADDR_STRLEN], inside[64];
    int err;
    struct UPNPDev *list = upnpDiscover(DISCOVER_MS, text_of(local, from), NULL,
                                        UPNP_LOCAL_PORT_ANY, 0, 2, &err);
#if MINIUPNPC_API_VERSION >= 18
    char wan[64];
    int kind = UPNP_GetValidIGD(list, &u->urls, &u->data, inside, sizeof(inside), wan,
                                sizeof(wan));
#else
    int kind = UPNP_GetValidIGD(list, &u->urls, &u->data, inside, sizeof(inside));
#endif
    freeUPNPDevlist(list);
    if (kind > 1)
        FreeUPNPUrls(&u->urls);
    return kind == 1; /* others are not connected, or no gateways */
}

/* Version 2 picks a free port itself. */
static int add_port(struct tw_rt_upnp *u, const char *outside, const char *port, const char *client,
                    const char *protocol, const char *lease, char reserved[6])
{
    const char *service = u->data.first.servicetype;
    size_t n = strlen(service);
    snprintf(reserved, 6, "%s", outside);
    if (n > 2 && !strcmp(service + n - 2, ":2"))
        return UPNP_AddAnyPortMapping(u->urls.controlURL, service, outside, port, client, "thalweg",
                                      protocol, NULL, lease, reserved);
    return UPNP_AddPortMapping(u->urls.controlURL, service, outside, port, client, "thalweg",
                               protocol, NULL, lease);
}

static bool add(struct tw_rt_upnp *u, struct mapping *m)
{
    char outside[6], port[6], lease[12], reserved[6], wan[40], client[TW_ADDR_STRLEN];
    unsigned wanted = m->port ? m->port : m->local.port, seconds = LEASE_S;
    int err = CONFLICT;
    snprintf(port, sizeof(port), "%u", m->local.port);
    text_of(&m->local, client);
    for (int i = 0; i < PORT_TRIES && (err == CONFLICT || err == ONLY_PERMANENT); i++) {
        snprintf(outside, sizeof(outside), "%u", wanted & 0xffff);
        snprintf(lease, sizeof(lease), "%u", seconds);
        err = add_port(u, outside, port, client, m->tcp ? "TCP" : "UDP", lease, reserved);
        if (err == ONLY_PERMANENT) {
            seconds = 0;
        } else if (err == CONFLICT) {
            uint16_t random;
            struct tw_rng rng = tw_rt_rng();
            rng.fill(rng.ctx, &random, sizeof(random));
            wanted = 1024u + random % 60000u;
        }
    }
    if (err || UPNP_GetExternalIPAddress(u->urls.controlURL, u->data.first.servicetype, wan) ||
        tw_addr_parse(wan, 0, &m->outside))
        return false;
    m->port = m->outside.port = (uint16_t)atoi(reserved);
    return m->port != 0;
}

static void end(struct tw_rt_upnp *u, struct mapping *m)
{
    char port[6];
    snprintf(port, sizeof(port), "%u", m->port);
    if (m->port)
        UPNP_DeletePortMapping(u->urls.controlURL, u->data.first.servicetype, port,
                               m->tcp ? "TCP" : "UDP", NULL);
}

static void let_go(struct tw_rt_upnp *u)
{
    if (u->found)
        FreeUPNPUrls(&u->urls);
    uv_mutex_destroy(&u->lock);
    free(u);
}

static void release(struct tw_rt_upnp *u)
{
    uv_mutex_lock(&u->lock);
    bool last = --u->owners == 0;
    uv_mutex_unlock(&u->lock);
    if (last)
        let_go(u);
}

static void run(void *arg)
{
    struct tw_rt_upnp *u = arg;
    for (int i = 0; i < MAPPINGS && !u->sought; i++)
        if (u->work[i].state == WANTED) {
            u->found = find_gateway(u, &u->work[i].local);
            u->sought = true;
        }
    uv_mutex_lock(&u->lock);
    u->searching = false;
    bool abandoned = u->abandoned;
    uv_mutex_unlock(&u->lock);
    for (int i = 0; i < MAPPINGS && u->found && !abandoned; i++) {
        struct mapping *m = &u->work[i];
        if (m->state == DROPPED)
            end(u, m);
        else if (m->state != FREE)
            m->state = add(u, m) ? HELD : WANTED;
    }
    if (abandoned)
        release(u);
    else
        uv_async_send(&u->done);
}

/* --- on the loop ---------------------------------------------------------------------------------- */

static void start(struct tw_rt_upnp *u)
{
    bool any = false;
    if (u->running) {
        u->again = true;
        return;
    }
    for (int i = 0; i < MAPPINGS; i++) {
        if (u->maps[i].state == DROPPED && !u->maps[i].port)
            u->maps[i].state = FREE;
        any = any || u->maps[i].state != FREE;
    }
    u->again = false;
    if (!any || (u->sought && !u->found))
        return;
    memcpy(u->work, u->maps, sizeof(u->work));
    u->searching = !u->sought;
    u->running = uv_thread_create(&u->thread, run, u) == 0;
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_upnp *u = h->data;
    if (--u->closing)
        return;
    if (u->running)
        release(u);
    else
        let_go(u);
}

static void close_handles(struct tw_rt_upnp *u)
{
    u->closing = 2;
    uv_close((uv_handle_t *)&u->done, on_closed);
    uv_close((uv_handle_t *)&u->renew, on_closed);
}

/* What the thread found out, for those that are still as they were. */
static void take(struct tw_rt_upnp *u, int i)
{
    static const struct tw_addr nowhere = { .family = TW_FAMILY_NONE };
    struct mapping *m = &u->maps[i];
    const struct mapping *w = &u->work[i];
    if (w->state == FREE || m->state == FREE || m->id != w->id)
        return;
    m->port = w->state == DROPPED ? 0 : w->port;
    if (m->state == DROPPED)
        return;
    bool was = m->state == HELD, is = w->state == HELD;
    bool same = was && is && tw_addr_eq(&m->outside, &w->outside);
    m->state = w->state;
    m->outside = w->outside;
    if (!u->freeing && !same && (was || is))
        u->mapped(u->user, m->id, is ? &m->outside : &nowhere);
}

static void on_renew(uv_timer_t *t)
{
    start(t->data);
}

static void on_done(uv_async_t *h)
{
    struct tw_rt_upnp *u = h->data;
    uv_thread_join(&u->thread);
    u->running = false;
    for (int i = 0; i < MAPPINGS; i++)
        take(u, i);
    if (u->again || u->freeing)
        start(u);
    if (u->running)
        return;
    if (u->freeing)
        close_handles(u);
    else if (u->found)
        uv_timer_start(&u->renew, on_renew, RENEW_MS, 0);
}

int tw_rt_upnp_new(uv_loop_t *loop, tw_rt_upnp_mapped *mapped, void *user,
                   struct tw_rt_upnp **ret_upnp)
{
    struct tw_rt_upnp *u = calloc(1, sizeof(*u));
    if (!u)
        return TW_ENOMEM;
    u->mapped = mapped;
    u->user = user;
    if (uv_async_init(loop, &u->done, on_done)) {
        free(u);
        return TW_ESYS;
    }
    uv_timer_init(loop, &u->renew);
    uv_mutex_init(&u->lock);
    u->done.data = u->renew.data = u;
    *ret_upnp = u;
    return 0;
}

void tw_rt_upnp_want(struct tw_rt_upnp *u, uint32_t id, bool tcp, const struct tw_addr *local)
{
    for (int i = 0; i < MAPPINGS; i++)
        if (u->maps[i].state == FREE && (!u->running || u->work[i].state == FREE)) {
            u->maps[i] = (struct mapping){ .id = id, .state = WANTED, .tcp = tcp, .local = *local };
            break;
        }
    start(u);
}

void tw_rt_upnp_drop(struct tw_rt_upnp *u, uint32_t id)
{
    bool any = false;
    for (int i = 0; i < MAPPINGS; i++)
        if (u->maps[i].id == id && (u->maps[i].state == WANTED || u->maps[i].state == HELD)) {
            u->maps[i].state = DROPPED;
            any = true;
        }
    if (any)
        start(u);
}

void tw_rt_upnp_free(struct tw_rt_upnp *u)
{
    if (!u)
        return;
    u->freeing = true;
    uv_mutex_lock(&u->lock);
    /* Nothing to undo: whoever searches goes on alone. */
    bool leave = u->running && u->searching;
    u->abandoned = leave;
    u->owners = 2;
    if (leave)
        pthread_detach((pthread_t)u->thread);
    uv_mutex_unlock(&u->lock);
    for (int i = 0; i < MAPPINGS; i++)
        if (u->maps[i].state != FREE)
            u->maps[i].state = DROPPED;
    if (!u->running)
        start(u);
    if (!u->running || leave)
        close_handles(u);
}
