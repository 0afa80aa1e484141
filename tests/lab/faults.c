/* Preloaded into thalwegd: makes system calls fail now and then, as they do on a machine that runs out
 * of something. FAULTS is a list of CALL=ERROR:EVERY, for example sendmmsg=ENOBUFS:7. */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static bool fails(const char *call, atomic_uint *count)
{
    static const struct {
        const char *name;
        int number;
    } errors[] = { { "ENOBUFS", ENOBUFS }, { "EMFILE", EMFILE }, { "ECONNREFUSED", ECONNREFUSED },
                   { "ENOMEM", ENOMEM } };
    const char *list = getenv("FAULTS"), *at = list ? strstr(list, call) : NULL;
    size_t n = strlen(call);
    if (!at || at[n] != '=')
        return false;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        size_t len = strlen(errors[i].name);
        if (strncmp(at + n + 1, errors[i].name, len) != 0 || at[n + 1 + len] != ':')
            continue;
        unsigned every = (unsigned)atoi(at + n + len + 2);
        if (every == 0 || atomic_fetch_add(count, 1) % every != every - 1)
            return false;
        errno = errors[i].number;
        return true;
    }
    return false;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    static atomic_uint count;
    return fails("sendmmsg", &count) ? -1 : REAL(sendmmsg)(fd, msgs, n, flags);
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
    static atomic_uint count;
    return fails("recvmmsg", &count) ? -1 : REAL(recvmmsg)(fd, msgs, n, flags, timeout);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    static atomic_uint count;
    return fails("accept4", &count) ? -1 : REAL(accept4)(fd, addr, len, flags);
}

int socket(int domain, int type, int protocol)
{
    static atomic_uint count;
    return domain != AF_UNIX && fails("socket", &count) ? -1 : REAL(socket)(domain, type, protocol);
}
