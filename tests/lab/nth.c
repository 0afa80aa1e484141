/* Preloaded: the N-th call of one kind fails, once, as on a machine that runs out of something. NTH is CALL:N; NTH_LOG, a file, gets a
 * letter when that came. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
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
    long fd = log ? syscall(SYS_open, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1; /* not by what is below */
    if (fd >= 0) {
        (void)!syscall(SYS_write, fd, "x", 1L);
        syscall(SYS_close, fd);
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

FAILING(ssize_t, sendto, ENOBUFS, (int a, const void *b, size_t c, int d, const struct sockaddr *e, socklen_t f), a, b, c, d, e, f)
FAILING(ssize_t, recvfrom, ENOMEM, (int a, void *restrict b, size_t c, int d, struct sockaddr *restrict e, socklen_t *restrict f), a, b, c, d, e, f)
FAILING(int, getsockopt, ENOBUFS, (int a, int b, int c, void *restrict d, socklen_t *restrict e), a, b, c, d, e)
FAILING(int, shutdown, ENOTCONN, (int a, int b), a, b)
FAILING(int, dup2, EMFILE, (int a, int b), a, b)
FAILING(int, epoll_create1, EMFILE, (int a), a)
FAILING(int, epoll_wait, EINTR, (int a, struct epoll_event *b, int c, int d), a, b, c, d)
FAILING(int, eventfd, EMFILE, (unsigned a, int b), a, b)
FAILING(int, timerfd_create, EMFILE, (clockid_t a, int b), a, b)
FAILING(int, timerfd_settime, ENOMEM, (int a, int b, const struct itimerspec *c, struct itimerspec *d), a, b, c, d)
FAILING(int, fsync, EIO, (int a), a)
FAILING(int, mkdir, ENOSPC, (const char *a, mode_t b), a, b)
FAILING(int, rename, ENOSPC, (const char *a, const char *b), a, b)
FAILING(int, unlink, EACCES, (const char *a), a)
FAILING(int, fchmod, EPERM, (int a, mode_t b), a, b)
FAILING(int, getifaddrs, EMFILE, (struct ifaddrs * *a), a)
FAILING(int, getrlimit64, EPERM, (__rlimit_resource_t a, struct rlimit64 *b), a, b)
FAILING(int, setrlimit64, EPERM, (__rlimit_resource_t a, const struct rlimit64 *b), a, b)
FAILING(int, unshare, EPERM, (int a), a)
FAILING(pid_t, fork, EAGAIN, (void), )
FAILING(pid_t, waitpid, EINTR, (pid_t a, int *b, int c), a, b, c)
FAILING(void *, mmap64, ENOMEM, (void *a, size_t b, int c, int d, int e, off64_t f), a, b, c, d, e, f)

/* Of files and of connections. What libuv wakes its threads by does not fail, and it takes it for granted, as it does pipe2() and
 * epoll_ctl(), whose failures end a program there. */
static bool can_fail(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof(a);
    struct stat st;
    if (fstat(fd, &st) || S_ISREG(st.st_mode))
        return true;
    return S_ISSOCK(st.st_mode) && !syscall(SYS_getsockname, fd, &a, &n) && (a.ss_family == AF_INET || a.ss_family == AF_INET6);
}

#define FAILING_IF(type, name, condition, error, parameters, ...) \
    type name parameters                                            \
    {                                                               \
        static atomic_long count;                                   \
        if (condition && is_due(#name, &count)) {                   \
            errno = error;                                          \
            return -1;                                              \
        }                                                           \
        return REAL(name)(__VA_ARGS__);                             \
    }

FAILING_IF(ssize_t, read, can_fail(a), EIO, (int a, void *b, size_t c), a, b, c)
FAILING_IF(ssize_t, write, can_fail(a), ENOSPC, (int a, const void *b, size_t c), a, b, c)

/* What says its error otherwise, or takes a mode only at times. */
#define FAILING_AS(type, name, failure, parameters, ...) \
    type name parameters                                  \
    {                                                     \
        static atomic_long count;                         \
        if (is_due(#name, &count)) {                      \
            errno = EMFILE;                               \
            return failure;                               \
        }                                                 \
        return REAL(name)(__VA_ARGS__);                   \
    }

FAILING_AS(FILE *, fopen64, NULL, (const char *restrict a, const char *restrict b), a, b)
FAILING_AS(int, pthread_create, EAGAIN, (pthread_t *restrict a, const pthread_attr_t *restrict b, void *(*c)(void *), void *restrict d), a, b, c, d)
FAILING_AS(int, getaddrinfo, EAI_AGAIN, (const char *restrict a, const char *restrict b, const struct addrinfo *restrict c, struct addrinfo **restrict d), a, b, c, d)

/* Of a third argument that is not there a register's content is passed on, which nobody reads. */
#define FAILING_VARIADIC(name, error, request)      \
    int name(int a, request b, ...)                  \
    {                                                \
        static atomic_long count;                    \
        va_list more;                                \
        va_start(more, b);                           \
        void *c = va_arg(more, void *);              \
        va_end(more);                                \
        if (is_due(#name, &count)) {                 \
            errno = error;                           \
            return -1;                               \
        }                                            \
        return REAL(name)(a, b, c);                  \
    }

FAILING_VARIADIC(fcntl64, ENOMEM, int)
FAILING_VARIADIC(ioctl, ENOMEM, unsigned long)

int open64(const char *path, int flags, ...)
{
    static atomic_long count;
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (is_due("open64", &count)) {
        errno = EMFILE;
        return -1;
    }
    return REAL(open64)(path, flags, mode);
}

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
