#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/fdpass.h"

enum verb { OPEN, APPEND, PID, REMOVE, SUCCESSOR };

struct request {
    enum verb verb;
    long pid;
    char path[4096 - sizeof(long) - sizeof(enum verb)];
};

static int channel = -1; /* to the helper; -1: there is none yet */

/* --- in the helper -------------------------------------------------------------------------- */

static const char *const *named; /* the files it may touch, NULL at the end */

static bool is_named(const char *path)
{
    for (int i = 0; i < 8; i++)
        if (named[i] && strcmp(named[i], path) == 0)
            return true;
    return false;
}

static int do_open(const char *path, bool append)
{
    return append ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640)
                  : open(path, O_RDONLY | O_CLOEXEC);
}

static int write_pid(const char *path, long pid)
{
    char text[32];
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0644);
    int n = snprintf(text, sizeof(text), "%ld\n", pid);
    if (fd < 0)
        return errno;
    bool ok = write(fd, text, (size_t)n) == n;
    return close(fd) || !ok ? EIO : 0;
}

/* The child of a child, so that nobody has to wait for it. */
static int start_successor(char **argv, int fd)
{
    char number[16];
    if (fd < 0)
        return EBADF;
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0 ? errno : 0;
    snprintf(number, sizeof(number), "%d", fd);
    setenv(HELPER_FD, number, 1);
    fcntl(fd, F_SETFD, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < 32; s++)
        signal(s, SIG_DFL);
    execv(argv[0], argv);
    _exit(127);
}

static _Noreturn void serve(int fd, char **argv)
{
    struct request rq;
    int with;
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD };
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "thalwegd-helper");
    while (tw_rt_recv_fd(fd, &rq, sizeof(rq), &with, 0)) {
        int answer = EACCES, opened = -1;
        rq.path[sizeof(rq.path) - 1] = 0;
        if (rq.verb == SUCCESSOR) {
            answer = start_successor(argv, with);
        } else if (is_named(rq.path)) {
            if (rq.verb == PID)
                answer = write_pid(rq.path, rq.pid);
            else if (rq.verb == REMOVE)
                answer = unlink(rq.path) ? errno : 0;
            else
                answer = (opened = do_open(rq.path, rq.verb == APPEND)) < 0 ? errno : 0;
        }
        tw_rt_send_fd(fd, &answer, sizeof(answer), opened, 0);
        if (opened >= 0)
            close(opened);
        if (with >= 0)
            close(with);
    }
    _exit(0);
}

bool helper_start(const struct options *o, char **argv)
{
    static char exe[4096];
    static const char *files[8];
    int pair[2];
    const char *all[] = { o->config_file, o->cert, o->pkey, o->log_file, o->pidfile };
    memcpy(files, all, sizeof(all));
    named = files;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n > 0)
        argv[0] = exe; /* what is at that path when the time comes */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        fprintf(stderr, "thalwegd: no socket for the helper: %s\n", strerror(errno));
        return false;
    }
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "thalwegd: cannot start the helper: %s\n", strerror(errno));
        return false;
    }
    if (pid == 0) {
        close(pair[0]);
        serve(pair[1], argv);
    }
    close(pair[1]);
    channel = pair[0];
    return true;
}

/* --- in the server -------------------------------------------------------------------------- */

static int ask(enum verb verb, const char *path, long pid, int with)
{
    struct request rq = { .verb = verb, .pid = pid };
    int answer, fd;
    if (path && strlen(path) >= sizeof(rq.path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (path)
        memcpy(rq.path, path, strlen(path));
    if (!tw_rt_send_fd(channel, &rq, sizeof(rq), with, 0) ||
        !tw_rt_recv_fd(channel, &answer, sizeof(answer), &fd, 0)) {
        errno = EPIPE;
        return -1;
    }
    errno = answer;
    return answer ? -1 : fd < 0 ? 0 : fd;
}

int helper_open(const char *path)
{
    return channel < 0 ? do_open(path, false) : ask(OPEN, path, 0, -1);
}

int helper_append(const char *path)
{
    return channel < 0 ? do_open(path, true) : ask(APPEND, path, 0, -1);
}

bool helper_write_pid(const char *path, long pid)
{
    return ask(PID, path, pid, -1) >= 0;
}

void helper_remove(const char *path)
{
    ask(REMOVE, path, 0, -1);
}

bool helper_successor(int fd)
{
    return ask(SUCCESSOR, NULL, 0, fd) >= 0;
}
