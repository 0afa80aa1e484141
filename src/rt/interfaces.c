#include "rt/interfaces.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/netlink.h"
#include "rt/sockaddr.h"

enum { LATER_MS = 50 }; /* addresses come and go in groups */

/* --- listing ------------------------------------------------------------------------------------- */

struct listing {
    struct tw_ice_interface *list;
    unsigned n, max;
    bool done;
};

/* The next attribute of a message; false: there are no more. */
static bool next_attr(const struct rtattr **at, size_t *left)
{
    const struct rtattr *a = *at;
    if (*left < sizeof(*a) || a->rta_len < sizeof(*a) || a->rta_len > *left)
        return false;
    size_t step = RTA_ALIGN(a->rta_len);
    *left -= step < *left ? step : *left;
    *at = (const void *)((const char *)a + step);
    return true;
}

/* An address stays on a link that is down; nothing goes out from there. (IFF_RUNNING says more, but up to a second late.) */
static bool is_alive(const char *name)
{
    struct ifreq r = { 0 };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    bool known = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &r) == 0;
    if (fd >= 0)
        close(fd);
    return !known || r.ifr_flags & IFF_UP;
}

/* A modem's, which costs by the byte more often than not. */
static bool is_modem(const char *name)
{
    char path[64], line[64];
    bool found = false;
    snprintf(path, sizeof(path), "/sys/class/net/%s/uevent", name);
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f))
        found = !strcmp(line, "DEVTYPE=wwan\n");
    if (f)
        fclose(f);
    return found;
}

static void add(const struct nlmsghdr *h, struct listing *l)
{
    const struct ifaddrmsg *m = NLMSG_DATA(h);
    struct tw_ice_interface i = { .name = "" };
    uint32_t flags = m->ifa_flags;
    size_t left = IFA_PAYLOAD(h);
    size_t len = m->ifa_family == AF_INET ? 4 : 16;
    bool local = false;
    if ((m->ifa_family != AF_INET && m->ifa_family != AF_INET6) || l->n == l->max)
        return;
    i.ip.family = m->ifa_family == AF_INET ? TW_FAMILY_V4 : TW_FAMILY_V6;
    const struct rtattr *at = IFA_RTA(m), *a = at;
    for (; next_attr(&at, &left); a = at) {
        if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) >= sizeof(flags))
            memcpy(&flags, RTA_DATA(a), sizeof(flags));
        /* Of a point-to-point link IFA_ADDRESS is the other end. */
        if ((a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !local)) &&
            RTA_PAYLOAD(a) == len) {
            memcpy(i.ip.ip, RTA_DATA(a), len);
            local = a->rta_type == IFA_LOCAL;
        }
    }
    if (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED) || tw_addr_is_any(&i.ip))
        return;
    if (!if_indextoname(m->ifa_index, i.name) || !is_alive(i.name))
        return;
    if (i.ip.family == TW_FAMILY_V6 && tw_addr_is_link_local(&i.ip))
        i.ip.scope = m->ifa_index;
    i.cost = is_modem(i.name);
    i.temporary = i.ip.family == TW_FAMILY_V6 && flags & IFA_F_TEMPORARY;
    l->list[l->n++] = i;
}

/* A default route: its gateway is that of all addresses of the interface. */
static void add_gateway(const struct nlmsghdr *h, struct listing *l)
{
    const struct rtmsg *m = NLMSG_DATA(h);
    struct tw_addr gateway = { .family = m->rtm_family == AF_INET ? TW_FAMILY_V4 : TW_FAMILY_V6 };
    uint32_t index = 0;
    bool has_gateway = false;
    char name[IF_NAMESIZE];
    size_t left = RTM_PAYLOAD(h), len = m->rtm_family == AF_INET ? 4 : 16;
    if (m->rtm_dst_len || m->rtm_type != RTN_UNICAST || m->rtm_table != RT_TABLE_MAIN)
        return;
    const struct rtattr *at = RTM_RTA(m), *a = at;
    for (; next_attr(&at, &left); a = at) {
        if (a->rta_type == RTA_GATEWAY && RTA_PAYLOAD(a) == len) {
            memcpy(gateway.ip, RTA_DATA(a), len);
            has_gateway = true;
        } else if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof(index)) {
            memcpy(&index, RTA_DATA(a), sizeof(index));
        }
    }
    if (!has_gateway || !if_indextoname(index, name))
        return;
    if (gateway.family == TW_FAMILY_V6 && tw_addr_is_link_local(&gateway))
        gateway.scope = index;
    for (unsigned i = 0; i < l->n; i++)
        if (l->list[i].ip.family == gateway.family && !l->list[i].gateway.family &&
            strcmp(l->list[i].name, name) == 0)
            l->list[i].gateway = gateway;
}

static void on_message(void *ctx, const struct nlmsghdr *h)
{
    struct listing *l = ctx;
    l->done = l->done || h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
    if (h->nlmsg_type == RTM_NEWADDR)
        add(h, l);
    else if (h->nlmsg_type == RTM_NEWROUTE)
        add_gateway(h, l);
}

static bool dump(uint16_t what, struct listing *l)
{
    struct {
        struct nlmsghdr h;
        struct rtmsg m; /* its first byte is the family, as that of struct ifaddrmsg: any */
    } ask = { .h = { .nlmsg_len = sizeof(ask), .nlmsg_type = what,
                     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
    int fd = tw_rt_netlink_open(0);
    if (fd < 0)
        return false;
    l->done = false;
    bool ok = send(fd, &ask, sizeof(ask), 0) >= 0;
    while (ok && !l->done)
        ok = tw_rt_netlink_read(fd, on_message, l) > 0;
    close(fd);
    return ok;
}

/* The address that packets to far away would have. Nothing is sent. */
static bool default_source(enum tw_family family, struct tw_addr *ret)
{
    struct tw_addr far = family == TW_FAMILY_V4 ? tw_addr_v4(192, 0, 2, 1, 9) : (struct tw_addr){ 0 };
    struct sockaddr_storage ss;
    if (family == TW_FAMILY_V6 && tw_addr_parse("2001:db8::1", 9, &far))
        return false;
    socklen_t n = tw_rt_sockaddr(&far, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&ss, n) == 0;
    n = sizeof(ss);
    ok = ok && getsockname(fd, (struct sockaddr *)&ss, &n) == 0;
    if (fd >= 0)
        close(fd);
    if (ok)
        *ret = tw_rt_addr(&ss);
    return ok;
}

static void to_front(struct tw_ice_interface *list, unsigned n, const struct tw_addr *ip)
{
    for (unsigned i = 0; i < n; i++)
        if (tw_addr_eq_ip(&list[i].ip, ip)) {
            struct tw_ice_interface first = list[i];
            memmove(list + 1, list, i * sizeof(*list));
            list[0] = first;
            return;
        }
}

int tw_rt_interfaces(struct tw_ice_interface *ret_list, unsigned max, unsigned *ret_n)
{
    struct tw_addr ip;
    struct listing l = { .list = ret_list, .max = max };
    if (!dump(RTM_GETADDR, &l))
        return TW_ESYS;
    (void)!dump(RTM_GETROUTE, &l); /* then without gateways */
    if (default_source(TW_FAMILY_V4, &ip))
        to_front(ret_list, l.n, &ip);
    if (default_source(TW_FAMILY_V6, &ip)) /* RFC 8421 §4: IPv6 before IPv4 */
        to_front(ret_list, l.n, &ip);
    *ret_n = l.n;
    return 0;
}

/* --- watching ------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *t)
{
    struct tw_rt_watch *w = t->data;
    w->changed(w->user);
}

/* Of routes, of which some machines have a million, only the default ones do; of links whether they go up or down. */
static void does_matter(void *ctx, const struct nlmsghdr *h)
{
    const struct rtmsg *m = NLMSG_DATA(h);
    const struct ifinfomsg *i = NLMSG_DATA(h);
    bool route = h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE, *matters = ctx;
    if (h->nlmsg_type == RTM_NEWLINK)
        *matters = *matters || i->ifi_change & IFF_UP;
    else
        *matters = *matters || !route || m->rtm_dst_len == 0;
}

static void on_routes(uv_poll_t *p, int status, int events)
{
    struct tw_rt_watch *w = p->data;
    bool matters = false;
    (void)status, (void)events;
    while (tw_rt_netlink_read(w->fd, does_matter, &matters) > 0) {
    }
    if (matters || errno == ENOBUFS)
        uv_timer_start(&w->timer, on_timer, LATER_MS, 0);
}

void tw_rt_watch_init(struct tw_rt_watch *w, uv_loop_t *loop, void (*changed)(void *user), void *user)
{
    enum { LOOK_MS = 5000 };
    *w = (struct tw_rt_watch){ .changed = changed, .user = user };
    uv_timer_init(loop, &w->timer);
    w->poll.data = w->timer.data = w;
    w->fd = tw_rt_netlink_open(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                               RTMGRP_IPV6_ROUTE);
    if (w->fd >= 0 && !uv_poll_init(loop, &w->poll, w->fd)) {
        uv_poll_start(&w->poll, UV_READABLE, on_routes);
        return;
    }
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
    uv_timer_start(&w->timer, on_timer, LOOK_MS, LOOK_MS);
}

void tw_rt_watch_again(struct tw_rt_watch *w)
{
    if (w->fd >= 0)
        uv_timer_start(&w->timer, on_timer, 1000, 0);
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_watch *w = h->data;
    close(w->fd);
}

void tw_rt_watch_fini(struct tw_rt_watch *w)
{
    uv_close((uv_handle_t *)&w->timer, NULL);
    if (w->fd >= 0)
        uv_close((uv_handle_t *)&w->poll, on_closed);
}
