#include "rt/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/sockaddr.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { BUFFER = 4 << 20 }; /* asked for; the kernel caps it at net.core.[rw]mem_max */

static int set_int(int fd, int level, int name, int v)
{
    return setsockopt(fd, level, name, &v, sizeof(v));
}

static bool is_v4(const struct tw_rt_udp *u)
{
    return u->local.family == TW_FAMILY_V4;
}

/* DF clear and the kernel free to fragment, or DF set and the cached path MTU not consulted: the
 * answer to a datagram that is too big must come from the path (RFC 8656 §14). */
void tw_rt_udp_set_df(struct tw_rt_udp *u, bool df)
{
    if (is_v4(u))
        set_int(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, df ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT);
    else
        set_int(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
                df ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT);
    u->df = df;
}

static int configure(struct tw_rt_udp *u, unsigned flags)
{
    bool v4 = is_v4(u);
    if (!v4 && !(flags & TW_RT_BOUND) && set_int(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1))
        return TW_ESYS;
    if (flags & TW_RT_REUSEPORT && set_int(u->fd, SOL_SOCKET, SO_REUSEPORT, 1))
        return TW_ESYS;
    /* The rest is wished for; without it the socket still works. */
    set_int(u->fd, SOL_SOCKET, SO_RCVBUF, BUFFER);
    set_int(u->fd, SOL_SOCKET, SO_SNDBUF, BUFFER);
    set_int(u->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
    set_int(u->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, 1);
    if (flags & TW_RT_RECVERR)
        set_int(u->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, 1);
    if (u->wildcard)
        set_int(u->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
    tw_rt_udp_set_df(u, false);
    if (flags & TW_RT_GRO)
        (void)!tw_rt_udp_set_gro(u, true); /* an old kernel: every datagram by itself */
    return 0;
}

int tw_rt_udp_open(struct tw_rt_udp *u, const struct tw_addr *local, unsigned flags)
{
    struct sockaddr_storage ss;
    struct tw_rt_udp s = { .local = *local, .wildcard = tw_addr_is_any(local), .burst = 1,
                           .min_burst = 1 };
    s.fd = socket(is_v4(&s) ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s.fd < 0)
        return TW_ESYS;
    int err = configure(&s, flags);
    if (!err && bind(s.fd, (struct sockaddr *)&ss, tw_rt_sockaddr(local, &ss)))
        err = errno == EADDRINUSE ? TW_EADDRINUSE : TW_ESYS;
    if (!err && !local->port) {
        socklen_t n = sizeof(ss);
        if (getsockname(s.fd, (struct sockaddr *)&ss, &n))
            err = TW_ESYS;
        s.local.port = tw_rt_addr(&ss).port;
    }
    if (err) {
        int keep = errno;
        close(s.fd);
        errno = keep;
        return err;
    }
    *u = s;
    return 0;
}

int tw_rt_udp_adopt(struct tw_rt_udp *u, int fd, const struct tw_addr *local, unsigned flags)
{
    struct tw_rt_udp s = { .fd = fd, .local = *local, .wildcard = tw_addr_is_any(local), .burst = 1,
                           .min_burst = 1 };
    int err = configure(&s, flags | TW_RT_BOUND);
    if (!err)
        *u = s;
    return err;
}

void tw_rt_udp_close(struct tw_rt_udp *u)
{
    if (u->twin) {
        tw_rt_udp_close(u->twin);
        free(u->twin);
        u->twin = NULL;
    }
    close(u->fd);
    u->fd = -1;
}

static int open_twin(struct tw_rt_udp *u, unsigned flags)
{
    struct tw_rt_udp *twin = malloc(sizeof(*twin));
    if (!twin)
        return TW_ENOMEM;
    int err = tw_rt_udp_open(twin, &u->local, flags | TW_RT_REUSEPORT);
    if (err) {
        free(twin);
        return err;
    }
    twin->id = u->id;
    u->twin = twin;
    return 0;
}

/* Between bind and connect the twin may be given datagrams of any peer. They stay in its queue,
 * their sources with them, and are read from there. */
int tw_rt_udp_connect(struct tw_rt_udp *u, unsigned flags)
{
    struct sockaddr_storage ss;
    int err = u->twin ? 0 : open_twin(u, flags);
    u->heat = 0; /* the next try is TW_RT_HOT datagrams away */
    if (err)
        return err;
    u->twin->connected = !connect(u->twin->fd, (struct sockaddr *)&ss,
                                  tw_rt_sockaddr(&u->hot, &ss));
    u->twin->hot = u->hot;
    return u->twin->connected ? 0 : TW_ESYS;
}

int tw_rt_udp_set_gro(struct tw_rt_udp *u, bool on)
{
    return set_int(u->fd, IPPROTO_UDP, UDP_GRO, on) ? TW_ESYS : 0;
}

bool tw_rt_udp_error(struct tw_rt_udp *u, struct tw_rt_icmp *ret)
{
    struct sockaddr_storage name;
    _Alignas(struct cmsghdr) uint8_t control[512];
    uint8_t byte;
    struct iovec iov = { &byte, 1 };
    for (;;) {
        struct msghdr m = { .msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = &iov,
                            .msg_iovlen = 1, .msg_control = control,
                            .msg_controllen = sizeof(control) };
        if (recvmsg(u->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return false;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            struct sock_extended_err e;
            if ((c->cmsg_type != IP_RECVERR && c->cmsg_type != IPV6_RECVERR) ||
                c->cmsg_len < CMSG_LEN(sizeof(e)))
                continue;
            memcpy(&e, CMSG_DATA(c), sizeof(e));
            if (e.ee_origin != SO_EE_ORIGIN_ICMP && e.ee_origin != SO_EE_ORIGIN_ICMP6)
                continue;
            ret->peer = tw_rt_addr(&name);
            ret->type = e.ee_type;
            ret->code = e.ee_code;
            ret->data = e.ee_errno == EMSGSIZE ? e.ee_info : 0;
            return true;
        }
    }
}
