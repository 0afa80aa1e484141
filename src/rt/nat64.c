#include "rt/nat64.h"

#include <string.h>
#include <unistd.h>

#include "rt/netlink.h"
#include "rt/os.h"
#include "rt/resolve.h"

enum { RESOLVE_MS = 2000, OPT_PREF64 = 38, PREF64_LEN = 16 };

static void set(struct tw_rt_nat64 *n, const struct tw_range *prefix)
{
    bool same = prefix->first.port == n->prefix.first.port &&
                (!prefix->first.port || tw_addr_eq_ip(&prefix->first, &n->prefix.first));
    n->prefix = *prefix;
    if (!same)
        n->changed(n->user, prefix->first.port ? prefix : NULL);
}

/* --- RFC 7050 ------------------------------------------------------------------------------------ */

static void ask(uv_work_t *w)
{
    struct tw_rt_nat64 *n = w->data;
    struct tw_uri uri;
    struct tw_addr addrs[TW_RT_RESOLVED_MAX];
    unsigned count = 0;
    n->found = (struct tw_range){ 0 };
    if (tw_uri_parse("stun:ipv4only.arpa:3478", &uri, NULL) ||
        tw_rt_resolve(&uri, TW_FAMILY_V6, RESOLVE_MS, addrs, &count))
        return;
    for (unsigned i = 0; i < count; i++)
        if (tw_nat64_find(&addrs[i], &n->found))
            return;
    n->found = (struct tw_range){ 0 };
}

static void answered(uv_work_t *w, int status)
{
    struct tw_rt_nat64 *n = w->data;
    n->asking = false;
    if (!status && !n->over && !n->advertised)
        set(n, &n->found);
}

void tw_rt_nat64_look(struct tw_rt_nat64 *n, const struct tw_ice_interface *list, unsigned len)
{
    bool v4 = false, v6 = false;
    for (unsigned i = 0; i < len; i++) {
        const struct tw_addr *a = &list[i].ip;
        bool leads_out = !tw_addr_is_loopback(a) && !tw_addr_is_link_local(a);
        v4 = v4 || (leads_out && a->family == TW_FAMILY_V4);
        v6 = v6 || (leads_out && a->family == TW_FAMILY_V6);
    }
    n->needed = v6 && !v4;
    if (!n->needed || n->asking || n->advertised)
        return;
    n->asking = uv_queue_work(n->loop, &n->work, ask, answered) == 0;
}

/* --- using it ------------------------------------------------------------------------------------ */

static bool translates(const struct tw_rt_nat64 *n)
{
    return n->needed && n->prefix.first.port;
}

struct tw_addr tw_rt_nat64_outwards(const struct tw_rt_nat64 *n, const struct tw_addr *far)
{
    return translates(n) && far->family == TW_FAMILY_V4 && !tw_addr_is_loopback(far) ? tw_nat64_embed(&n->prefix, far) : *far;
}

struct tw_addr tw_rt_nat64_inwards(const struct tw_rt_nat64 *n, const struct tw_addr *far)
{
    struct tw_addr v4;
    return translates(n) && tw_nat64_extract(&n->prefix, far, &v4) ? v4 : *far;
}

/* --- RFC 8781 ------------------------------------------------------------------------------------ */

static void on_option(struct tw_rt_nat64 *n, const uint8_t *opt, size_t len)
{
    static const uint8_t bits[] = { 96, 64, 56, 48, 40, 32 }; /* by prefix length code */
    struct tw_addr prefix = { .family = TW_FAMILY_V6 };
    struct tw_range r = { 0 };
    if (len < PREF64_LEN || opt[0] != OPT_PREF64 || opt[1] * 8 != PREF64_LEN)
        return;
    unsigned lifetime = tw_get_u16(opt + 2) >> 3, code = opt[3] & 7;
    memcpy(prefix.ip, opt + 4, 12);
    if (code >= sizeof(bits) || tw_nat64_prefix(&prefix, bits[code], &r))
        return;
    n->advertised = lifetime > 0;
    if (!lifetime)
        r = (struct tw_range){ 0 };
    set(n, &r);
}

static void on_message(void *ctx, const struct nlmsghdr *h)
{
    const struct nduseroptmsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type == RTM_NEWNDUSEROPT &&
        h->nlmsg_len >= NLMSG_LENGTH(sizeof(*m) + m->nduseropt_opts_len))
        on_option(ctx, (const uint8_t *)(m + 1), m->nduseropt_opts_len);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
    struct tw_rt_nat64 *n = p->data;
    (void)status, (void)events;
    while (tw_rt_netlink_read(n->fd, on_message, n) > 0) {
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

void tw_rt_nat64_init(struct tw_rt_nat64 *n, uv_loop_t *loop,
                      void (*changed)(void *user, const struct tw_range *prefix), void *user)
{
    *n = (struct tw_rt_nat64){ .loop = loop, .changed = changed, .user = user };
    n->work.data = n;
    n->fd = tw_rt_netlink_open(1u << (RTNLGRP_ND_USEROPT - 1));
    if (n->fd >= 0 && tw_rt_watch(loop, &n->poll, n->fd, UV_READABLE, on_readable, n)) {
        close(n->fd);
        n->fd = -1; /* what routers say is not heard, but a resolver can be asked */
    }
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_nat64 *n = h->data;
    close(n->fd);
}

void tw_rt_nat64_fini(struct tw_rt_nat64 *n)
{
    if (!n->loop)
        return;
    n->over = true;
    if (n->asking)
        uv_cancel((uv_req_t *)&n->work);
    if (n->fd >= 0)
        uv_close((uv_handle_t *)&n->poll, on_closed);
}
