/* Preloaded: the N-th call of one kind fails, once, as on a machine that runs out of something. NTH is CALL:N; NTH_LOG, a file, gets a
 * letter when that came. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_due(const char *call, atomic_long *count)
{
    static atomic_bool reading;
    static const char *wanted;
    static long n;
    if (!wanted && !atomic_exchange(&reading, true)) {
        const char *text = getenv("NTH"), *colon = text ? strchr(text, ':') : NULL;
        n = colon ? atol(colon + 1) : 0;
        wanted = text ? text : "";
        atomic_store(&reading, false);
    }
    size_t len = strlen(call);
    if (!wanted || strncmp(wanted, call, len) != 0 || wanted[len] != ':' || atomic_fetch_add(count, 1) + 1 != n)
        return false;
    const char *log = getenv("NTH_LOG");
    int fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        (void)!write(fd, "x", 1);
        close(fd);
    }
    return true;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILING(type, name, error, parameters, ...)   \
    type name parameters                               \
    {                                                  \
        static atomic_long count;                      \
        if (is_due(#name, &count)) {                   \
            errno = error;                             \
            return (type)-1;                           \
        }                                              \
        return REAL(name)(__VA_ARGS__);                \
    }

FAILING(int, socket, EMFILE, (int a, int b, int c), a, b, c)
FAILING(int, socketpair, EMFILE, (int a, int b, int c, int d[2]), a, b, c, d)
FAILING(int, bind, EADDRINUSE, (int a, const struct sockaddr *b, socklen_t c), a, b, c)
FAILING(int, connect, ENETUNREACH, (int a, const struct sockaddr *b, socklen_t c), a, b, c)
FAILING(int, listen, EADDRINUSE, (int a, int b), a, b)
FAILING(int, getsockname, ENOBUFS, (int a, struct sockaddr *b, socklen_t *c), a, b, c)
FAILING(int, setsockopt, ENOMEM, (int a, int b, int c, const void *d, socklen_t e), a, b, c, d, e)
FAILING(int, accept4, EMFILE, (int a, struct sockaddr *b, socklen_t *c, int d), a, b, c, d)
FAILING(ssize_t, send, ENOBUFS, (int a, const void *b, size_t c, int d), a, b, c, d)
FAILING(ssize_t, sendmsg, ENOBUFS, (int a, const struct msghdr *b, int c), a, b, c)
FAILING(ssize_t, recv, ENOMEM, (int a, void *b, size_t c, int d), a, b, c, d)
FAILING(ssize_t, recvmsg, ENOMEM, (int a, struct msghdr *b, int c), a, b, c)
FAILING(int, sendmmsg, ENOBUFS, (int a, struct mmsghdr *b, unsigned c, int d), a, b, c, d)
FAILING(int, recvmmsg, ENOMEM, (int a, struct mmsghdr *b, unsigned c, int d, struct timespec *e), a, b, c, d, e)

/* Memory, of whatever library. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
static atomic_long allocations;

void *malloc(size_t n)
{
    return is_due("memory", &allocations) ? (errno = ENOMEM, NULL) : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return is_due("memory", &allocations) ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return is_due("memory", &allocations) ? (errno = ENOMEM, NULL) : __libc_realloc(p, n);
}
