/* Preloaded into a program that is stopped and goes on as if its machine had slept: SIGUSR1 makes CLOCK_BOOTTIME and the wall clock
 * SLEPT seconds later, and says so as the kernel does. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int told = -1; /* stands for the timer that such a change ends */
static atomic_long later, slept;

static void on_wake(int number)
{
    int err = errno;
    (void)number;
    atomic_store(&later, slept);
    if (told >= 0)
        (void)!write(told, &(uint64_t){ 1 }, sizeof(uint64_t));
    errno = err;
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("SLEPT");
    slept = text ? atol(text) : 0;
    signal(SIGUSR1, on_wake);
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static _Atomic(__typeof__(&clock_gettime)) real;
    if (!real)
        real = REAL(clock_gettime);
    int ret = real(clock, ts);
    if (clock == CLOCK_BOOTTIME || clock == CLOCK_REALTIME)
        ts->tv_sec += later;
    return ret;
}

int timerfd_create(int clock, int flags)
{
    (void)clock, (void)flags;
    told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return told;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
    return fd == told ? 0 : REAL(timerfd_settime)(fd, flags, new, old);
}

ssize_t read(int fd, void *p, size_t n)
{
    static _Atomic(__typeof__(&read)) real;
    if (!real)
        real = REAL(read);
    ssize_t got = real(fd, p, n);
    if (fd != told || got < 0)
        return got;
    errno = ECANCELED;
    return -1;
}
