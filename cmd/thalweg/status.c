#include "status.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "rt/os.h"

struct status {
    struct peer *p;
    struct sockaddr_un at;
    time_t since;
    int fd;
    uv_poll_t poll;
};

bool status_folder(char *buf, size_t cap)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    int n = run && *run ? snprintf(buf, cap, "%s/thalweg", run)
                        : snprintf(buf, cap, "/tmp/thalweg-%u", (unsigned)geteuid());
    mkdir(buf, 0700);
    return n > 0 && (size_t)n < cap && !lstat(buf, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           !(st.st_mode & 077);
}

static void text(FILE *f, const char *name, const char *value)
{
    fprintf(f, ",\"%s\":", name);
    cmd_json_string(f, value);
}

/* [rung, seconds ago, local, remote] of the last ways, the oldest first. */
static void print_history(FILE *f, const struct tw_endpoint *e, uint32_t conn)
{
    struct tw_endpoint_step steps[16];
    char local[TW_ADDR_STRLEN], remote[TW_ADDR_STRLEN];
    size_t n = tw_endpoint_history(e, conn, steps, 16);
    fprintf(f, ",\"history\":[");
    for (size_t i = 0; i < n; i++) {
        const struct tw_endpoint_path *p = &steps[i].path;
        fprintf(f, "%s[\"%s\",%.1f,\"%s\",\"%s\"]", i ? "," : "", tw_rung_name(p->rung),
                (double)(tw_rt_now() - steps[i].at) / (double)TW_SEC, p->local.family ? tw_addr_format(&p->local, local) : "",
                p->local.family ? tw_addr_format(&p->remote, remote) : "");
    }
    fprintf(f, "]");
}

static void print_conn(FILE *f, const struct tw_endpoint *e, uint32_t id, const struct tw_endpoint_conn *c)
{
    char key[TW_ADDRESS_LEN + 1], addr[TW_ADDR_STRLEN];
    tw_key_format(&c->key, key);
    fprintf(f, "{\"key\":\"%s\",\"caller\":%s,\"connected\":%s,\"rung\":\"%s\"", key, c->caller ? "true" : "false",
            c->connected ? "true" : "false", tw_rung_name(c->path.rung));
    if (c->path.local.family) {
        text(f, "local", tw_addr_format(&c->path.local, addr));
        text(f, "remote", tw_addr_format(&c->path.remote, addr));
    }
    fprintf(f, ",\"rtt_ms\":%.2f,\"waits_ms\":%.2f,\"sent\":%llu,\"received\":%llu,\"mtu\":%zu",
            (double)c->rtt / (double)TW_MSEC, (double)c->path.waits / (double)TW_MSEC, (unsigned long long)c->sent, (unsigned long long)c->received, c->mtu);
    print_history(f, e, id);
    fprintf(f, "}");
}

static void print_state(FILE *f, const struct status *s)
{
    struct tw_endpoint *e = s->p->rt.endpoint;
    struct tw_endpoint_conn c;
    char key[TW_ADDRESS_LEN + 1];
    const char *between = "";
    tw_key_format(tw_endpoint_key(e), key);
    struct tw_endpoint_costs k = tw_endpoint_costs(e);
    fprintf(f, "{\"pid\":%ld,\"verb\":\"%s\",\"key\":\"%s\",\"since\":%lld,\"online\":%s,\"wakeups\":%llu,\"packets_sent\":%llu,"
               "\"bytes_sent\":%llu,\"connections\":[",
            (long)getpid(), s->p->verb, key, (long long)s->since, s->p->online ? "true" : "false", (unsigned long long)k.wakes,
            (unsigned long long)k.packets, (unsigned long long)k.bytes);
    for (uint32_t id = tw_endpoint_next(e, 0); id; id = tw_endpoint_next(e, id)) {
        if (tw_endpoint_conn(e, id, &c))
            continue;
        fputs(between, f);
        print_conn(f, e, id, &c);
        between = ",";
    }
    fputs("]}\n", f);
}

static void on_guest(uv_poll_t *poll, int status, int events)
{
    struct status *s = poll->data;
    char *state = NULL;
    size_t n = 0;
    (void)status, (void)events;
    int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    FILE *f = fd < 0 ? NULL : open_memstream(&state, &n);
    if (f) {
        print_state(f, s);
        fclose(f);
        int room = 4 << 20; /* all of it at once: nobody who reads slowly holds us up */
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        (void)!send(fd, state, n, MSG_NOSIGNAL);
        free(state);
    }
    if (fd >= 0)
        close(fd);
}

struct status *status_open(struct peer *p)
{
    struct status *s = calloc(1, sizeof(*s));
    char folder[80];
    if (!s || !status_folder(folder, sizeof(folder))) {
        free(s);
        return NULL;
    }
    s->p = p;
    s->since = time(NULL);
    s->at.sun_family = AF_UNIX;
    snprintf(s->at.sun_path, sizeof(s->at.sun_path), "%s/%ld", folder, (long)getpid());
    unlink(s->at.sun_path); /* of a process that had this number and died */
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&s->at, sizeof(s->at)) || listen(s->fd, 8) ||
        uv_poll_init(p->loop, &s->poll, s->fd)) {
        if (s->fd >= 0)
            close(s->fd);
        free(s);
        return NULL;
    }
    s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_guest);
    uv_unref((uv_handle_t *)&s->poll);
    return s;
}

static void on_closed(uv_handle_t *h)
{
    struct status *s = h->data;
    close(s->fd);
    free(s);
}

void status_close(struct status *s)
{
    if (!s)
        return;
    unlink(s->at.sun_path);
    uv_close((uv_handle_t *)&s->poll, on_closed);
}
