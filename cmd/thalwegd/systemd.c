#include "systemd.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "rt/sockaddr.h"

unsigned systemd_sockets(struct tw_rt_inherited *ret, unsigned cap)
{
    enum { FIRST = 3 };
    const char *pid = getenv("LISTEN_PID"), *n_text = getenv("LISTEN_FDS");
    unsigned n = 0;
    if (!pid || !n_text || strtol(pid, NULL, 10) != getpid())
        return 0;
    for (int fd = FIRST; fd < FIRST + atoi(n_text) && n < cap; fd++) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss), type_len = sizeof(ret->type);
        if (getsockname(fd, (struct sockaddr *)&ss, &len) ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &ret[n].type, &type_len))
            continue;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        ret[n].fd = fd;
        ret[n++].addr = tw_rt_addr(&ss);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return n;
}

void systemd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(un.sun_path))
        return;
    memcpy(un.sun_path, path, n);
    if (un.sun_path[0] == '@') /* an abstract name */
        un.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&un,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}
