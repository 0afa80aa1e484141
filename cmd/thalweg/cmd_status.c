#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

enum { STATE_MAX = 64 << 20, WAIT_S = 5 }; /* of thousands of connections */

/* What the process at this socket says; NULL: there is none any more, or it does not answer. The caller frees it. */
static char *ask(const char *folder, const char *name)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct timeval wait = { .tv_sec = WAIT_S };
    snprintf(at.sun_path, sizeof(at.sun_path), "%.80s/%.20s", folder, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char *text = fd < 0 ? NULL : malloc(STATE_MAX);
    size_t n = 0;
    ssize_t got = 0;
    if (text && !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) &&
        !connect(fd, (struct sockaddr *)&at, sizeof(at)))
        while (n < STATE_MAX - 1 && (got = recv(fd, text + n, STATE_MAX - 1 - n, 0)) > 0)
            n += (size_t)got;
    else if (errno == ECONNREFUSED)
        unlink(at.sun_path); /* its process died */
    if (fd >= 0)
        close(fd);
    if (n == 0) {
        free(text);
        return NULL;
    }
    text[n] = 0;
    return text;
}

/* The value of a field, of text that status.c wrote: no value there has a quote or a brace in it. */
static const char *field(const char *from, const char *name, char *out, size_t cap)
{
    char pattern[40];
    snprintf(pattern, sizeof(pattern), "\"%s\":", name);
    const char *end = strchr(from, '}'), *at = strstr(from, pattern);
    out[0] = 0;
    if (!at || (end && at > end))
        return out;
    at += strlen(pattern);
    at += *at == '"';
    snprintf(out, cap, "%.*s", (int)strcspn(at, "\",}"), at);
    return out;
}

static void show(const char *state)
{
    char pid[16], verb[16], key[80], online[8], since[24], rung[16], local[80], remote[80], rtt[16], sent[24], got[24], wakes[24];
    field(state, "since", since, sizeof(since));
    printf("%s %s as %s%s, %lld s\n", field(state, "verb", verb, sizeof(verb)), field(state, "pid", pid, sizeof(pid)),
           field(state, "key", key, sizeof(key)),
           !strcmp(field(state, "online", online, sizeof(online)), "true") ? ", can be dialled" : "",
           (long long)time(NULL) - strtoll(since, NULL, 10));
    double packets = strtod(field(state, "packets_sent", sent, sizeof(sent)), NULL), bytes = strtod(field(state, "bytes_sent", got, sizeof(got)), NULL),
           woken = strtod(field(state, "wakeups", wakes, sizeof(wakes)), NULL);
    double hours = (double)(time(NULL) - strtoll(since, NULL, 10)) / 3600;
    printf("  in all %.0f packets and %.0f bytes sent, woken %.0f times by time alone", packets, bytes, woken);
    if (hours >= 1.0 / 6) /* what it costs to be there; sooner that is the beginning's */
        printf("; an hour: %.0f, %.0f, %.0f", packets / hours, bytes / hours, woken / hours);
    puts("");
    const char *at = strstr(state, "\"connections\":[");
    for (at = at ? strchr(at, '{') : NULL; at; at = strchr(at + 1, '{'))
        printf("  %s\n    %-8s %s ms  %s to %s  sent %s, received %s\n", field(at, "key", key, sizeof(key)),
               field(at, "rung", rung, sizeof(rung)), field(at, "rtt_ms", rtt, sizeof(rtt)),
               field(at, "local", local, sizeof(local)), field(at, "remote", remote, sizeof(remote)),
               field(at, "sent", sent, sizeof(sent)), field(at, "received", got, sizeof(got)));
}

int cmd_status(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg status [--json]\n\n"
        "Shows the connections of this user's running \"thalweg\" processes: by which way, how far, how much.\n\n";
    bool json = false, done;
    const struct cmd_option options[] = { { "--json", NULL, &json, 0, 0, "one line a process, as JSON" }, { NULL } };
    char folder[80];
    unsigned n = 0;
    int status = cmd_read(argc, argv, usage, options, NULL, &done);
    if (status || done)
        return status;
    DIR *dir = status_folder(folder, sizeof(folder)) ? opendir(folder) : NULL;
    if (!dir) {
        fprintf(stderr, "thalweg: %s is not a folder of this user's alone\n", folder);
        return EXIT_FAILED;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        char *state = ask(folder, e->d_name);
        if (!state)
            continue;
        n++;
        if (json)
            fputs(state, stdout);
        else
            show(state);
        free(state);
    }
    closedir(dir);
    if (n == 0 && !json)
        fprintf(stderr, "no thalweg is running\n");
    return EXIT_OK;
}
