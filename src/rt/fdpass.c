#include "rt/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool tw_rt_send_fd(int to, const void *p, size_t n, int fd, int flags)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec iov = { 0 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    memcpy(&iov.iov_base, &p, sizeof(p)); /* it is only read */
    iov.iov_len = n;
    if (fd >= 0) {
        m.msg_control = control;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t sent;
    do
        sent = sendmsg(to, &m, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n;
}

bool tw_rt_recv_fd(int from, void *p, size_t n, int *ret_fd, int flags)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { p, n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                        .msg_controllen = sizeof(control) };
    ssize_t got;
    *ret_fd = -1;
    do
        got = recvmsg(from, &m, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
    if (got == (ssize_t)n)
        return true;
    if (*ret_fd >= 0)
        close(*ret_fd);
    *ret_fd = -1;
    return false;
}
