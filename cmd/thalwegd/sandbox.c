#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

static bool complain(const char *what, const char *name, const char *why)
{
    log_line(TW_ERROR, "%s %s: %s", what, name, why);
    return false;
}

bool sandbox_become(const char *user, const char *group)
{
    struct passwd *pw = getpwnam(user);
    if (!pw)
        return complain("--proc-user", user, "there is no such user");
    gid_t gid = pw->pw_gid;
    uid_t uid = pw->pw_uid;
    struct group *gr = group ? getgrnam(group) : NULL;
    if (group && !gr)
        return complain("--proc-group", group, "there is no such group");
    if (gr)
        gid = gr->gr_gid;
    if (getuid() == uid && getgid() == gid)
        return true;
    if (initgroups(user, gid) || setgid(gid) || setuid(uid))
        return complain("cannot become", user, strerror(errno));
    /* There must be no way back. */
    if (uid != 0 && setuid(0) == 0)
        return complain("cannot become", user, "root could be had again");
    return true;
}

/* What libc, libuv, GnuTLS, SQLite, libmicrohttpd and the allocator call on a running server. */
static const char *const allowed[] = {
    "accept4", "access", "bind", "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "clone",
    "clone3", "close", "connect", "dup", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd2", "exit", "exit_group", "faccessat", "faccessat2",
    "fadvise64", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "futex",
    "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getpeername", "getpid", "getppid",
    "getrandom", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "ioctl", "listen",
    "lseek", "lstat", "madvise", "membarrier", "mmap", "mprotect", "mremap", "munmap", "nanosleep",
    "newfstatat", "open", "openat", "pipe2", "poll", "ppoll", "pread64", "prlimit64", "pselect6",
    "pwrite64", "read", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg",
    "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
    "sched_yield", "select", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "setsockopt", "shutdown", "sigaltstack", "socketpair", "stat", "statfs", "statx", "sysinfo",
    "tgkill", "time", "timerfd_create", "timerfd_settime", "uname", "unlink", "unlinkat", "write",
    "writev",
};

static const int families[] = { AF_INET, AF_INET6, AF_UNIX, AF_NETLINK };

bool sandbox_without_rings(void)
{
    static const char *const calls[] = { "io_uring_setup", "io_uring_enter", "io_uring_register" };
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int err = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && !err; i++) {
        int nr = seccomp_syscall_resolve_name(calls[i]);
        if (nr != __NR_SCMP_ERROR)
            err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0);
    }
    if (!err)
        err = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    if (err) /* there is no log yet */
        fprintf(stderr, "thalwegd: no sandbox: %s; see --no-sandbox\n", strerror(-err));
    return !err;
}

bool sandbox_enter(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return complain("no sandbox", "", "out of memory");
    int err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && !err; i++) {
        int nr = seccomp_syscall_resolve_name(allowed[i]);
        if (nr != __NR_SCMP_ERROR) /* some machines do not have the older ones */
            err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
    }
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && !err; i++)
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    if (!err)
        err = seccomp_load(ctx);
    seccomp_release(ctx);
    return !err || complain("no sandbox", "", strerror(-err));
}
