#include "rt/interfaces.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/sockaddr.h"

enum { LATER_MS = 50 }; /* addresses come and go in groups */

/* --- listing ------------------------------------------------------------------------------------- */

static int open_netlink(unsigned groups)
{
    struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_groups = groups };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (groups ? SOCK_NONBLOCK : 0),
                    NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&nl, sizeof(nl))) {
        close(fd);
        return -1;
    }
    return fd;
}

static void add(const struct nlmsghdr *h, struct tw_ice_interface *list, unsigned max, unsigned *n)
{
    const struct ifaddrmsg *m = NLMSG_DATA(h);
    struct tw_ice_interface i = { .name = "" };
    uint32_t flags = m->ifa_flags;
    size_t left = IFA_PAYLOAD(h);
    size_t len = m->ifa_family == AF_INET ? 4 : 16;
    bool local = false;
    if ((m->ifa_family != AF_INET && m->ifa_family != AF_INET6) || *n == max)
        return;
    i.ip.family = m->ifa_family == AF_INET ? TW_FAMILY_V4 : TW_FAMILY_V6;
    const struct rtattr *a = IFA_RTA(m);
    while (left >= sizeof(*a) && a->rta_len >= sizeof(*a) && a->rta_len <= left) {
        if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) >= sizeof(flags))
            memcpy(&flags, RTA_DATA(a), sizeof(flags));
        /* Of a point-to-point link IFA_ADDRESS is the other end. */
        if ((a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !local)) &&
            RTA_PAYLOAD(a) == len) {
            memcpy(i.ip.ip, RTA_DATA(a), len);
            local = a->rta_type == IFA_LOCAL;
        }
        size_t step = RTA_ALIGN(a->rta_len);
        left -= step < left ? step : left;
        a = (const void *)((const char *)a + step);
    }
    if (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED) || tw_addr_is_any(&i.ip))
        return;
    if (!if_indextoname(m->ifa_index, i.name))
        return;
    if (i.ip.family == TW_FAMILY_V6 && i.ip.ip[0] == 0xfe && (i.ip.ip[1] & 0xc0) == 0x80)
        i.ip.scope = m->ifa_index;
    i.temporary = i.ip.family == TW_FAMILY_V6 && flags & IFA_F_TEMPORARY;
    list[(*n)++] = i;
}

static unsigned dump(struct tw_ice_interface *list, unsigned max)
{
    struct {
        struct nlmsghdr h;
        struct ifaddrmsg m;
    } ask = { .h = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETADDR,
                     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
    _Alignas(struct nlmsghdr) char buf[16384];
    unsigned n = 0;
    bool done = false;
    int fd = open_netlink(0);
    if (fd < 0)
        return 0;
    done = send(fd, &ask, sizeof(ask), 0) < 0;
    while (!done) {
        ssize_t got = recv(fd, buf, sizeof(buf), 0);
        if (got <= 0)
            break;
        size_t left = (size_t)got;
        for (const struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            done = done || h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
            if (h->nlmsg_type == RTM_NEWADDR)
                add(h, list, max, &n);
        }
    }
    close(fd);
    return n;
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

unsigned tw_rt_interfaces(struct tw_ice_interface *ret_list, unsigned max)
{
    struct tw_addr ip;
    unsigned n = dump(ret_list, max);
    if (default_source(TW_FAMILY_V4, &ip))
        to_front(ret_list, n, &ip);
    if (default_source(TW_FAMILY_V6, &ip)) /* RFC 8421 §4: IPv6 before IPv4 */
        to_front(ret_list, n, &ip);
    return n;
}

/* --- watching ------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *t)
{
    struct tw_rt_watch *w = t->data;
    w->changed(w->user);
}

static void on_routes(uv_poll_t *p, int status, int events)
{
    struct tw_rt_watch *w = p->data;
    uint8_t ignored[8192];
    (void)status, (void)events;
    while (recv(w->fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0) {
    }
    uv_timer_start(&w->timer, on_timer, LATER_MS, 0);
}

int tw_rt_watch_init(struct tw_rt_watch *w, uv_loop_t *loop, void (*changed)(void *user),
                     void *user)
{
    *w = (struct tw_rt_watch){ .changed = changed, .user = user };
    w->fd = open_netlink(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
    if (w->fd < 0)
        return TW_ESYS;
    uv_poll_init(loop, &w->poll, w->fd);
    uv_timer_init(loop, &w->timer);
    w->poll.data = w->timer.data = w;
    uv_poll_start(&w->poll, UV_READABLE, on_routes);
    return 0;
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_watch *w = h->data;
    close(w->fd);
}

void tw_rt_watch_fini(struct tw_rt_watch *w)
{
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_close((uv_handle_t *)&w->poll, on_closed);
}
