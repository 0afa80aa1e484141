#include "rt/netlink.h"

#include <sys/socket.h>
#include <unistd.h>

int tw_rt_netlink_open(unsigned groups)
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

ssize_t tw_rt_netlink_read(int fd, void (*each)(void *ctx, const struct nlmsghdr *h), void *ctx)
{
    _Alignas(struct nlmsghdr) char buf[16384];
    ssize_t got = recv(fd, buf, sizeof(buf), 0);
    size_t left = got > 0 ? (size_t)got : 0;
    for (const struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
        each(ctx, h);
    return got;
}
