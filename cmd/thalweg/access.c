#include "access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "rt/os.h"

enum { FILE_MAX = 1 << 20 };

static int allow(struct access *a, const char *text, const char *where)
{
    struct tw_address who;
    const char *why;
    if (tw_address_parse(text, &who, &why)) {
        fprintf(stderr, "thalweg: %s: \"%s\": %s\n", where, text, why);
        return EXIT_USAGE;
    }
    return tw_endpoint_allow(a->peer->rt.endpoint, &who.key) ? EXIT_FAILED : EXIT_OK;
}

/* The allow file: a key a line, behind it anything; # begins a comment. What can't be read of it does not let anybody
 * in. */
static int read_allowed(struct access *a)
{
    char *text = NULL, *save = NULL;
    size_t n;
    int status = EXIT_OK;
    tw_endpoint_disallow_all(a->peer->rt.endpoint);
    for (unsigned i = 0; i < a->allow.n && !status; i++)
        status = allow(a, a->allow.at[i], "--allow");
    if (tw_rt_read_file(a->allow_file, FILE_MAX, &text, &n)) {
        if (errno != ENOENT)
            peer_say(a->peer, "thalweg: %s: %s", a->allow_file, strerror(errno));
        return status;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " \t");
        line[strcspn(line, " \t\r#")] = 0;
        if (*line)
            (void)!allow(a, line, a->allow_file);
    }
    free(text);
    return status;
}

static void read_invites(struct access *a)
{
    struct invites list;
    struct tw_endpoint_invite out[INVITES_MAX];
    size_t n = 0;
    if (invites_read(a->invite_file, &list))
        return;
    for (unsigned i = 0; i < list.n; i++) {
        const struct invite *v = &list.at[i];
        if (invite_is_over(v) && !a->unlisted)
            continue;
        out[n] = (struct tw_endpoint_invite){ .uses = v->uses, .expires_ms = v->expires * 1000 };
        memcpy(out[n++].secret, v->secret, TW_INVITE_SIZE);
    }
    (void)!tw_endpoint_invites(a->peer->rt.endpoint, tw_rt_now(), out, n);
}

static void on_change(uv_fs_poll_t *handle, int status, const uv_stat_t *before, const uv_stat_t *now)
{
    struct access *a = handle->data;
    bool invites = handle == &a->watch[1], was_there = a->there[invites];
    (void)before, (void)now;
    a->there[invites] = status == 0;
    if (status < 0 && !was_there) /* there is still none */
        return;
    if (invites) {
        read_invites(a);
    } else {
        read_allowed(a);
        peer_say(a->peer, "thalweg: %s was read again", a->allow_file);
    }
    peer_json(a->peer, "allowed", ",\"file\":%s", invites ? a->invite_file : a->allow_file);
    tw_rt_endpoint_pump(&a->peer->rt);
}

static const char *default_path(const char *name)
{
    char path[4096];
    return config_path(name, path, sizeof(path)) ? strdup(path) : "/dev/null";
}

int access_open(struct access *a, struct peer *p)
{
    a->peer = p;
    a->allow_file = a->allow_file ? a->allow_file : default_path("allow");
    a->invite_file = a->invite_file ? a->invite_file : default_path("invites");
    int status = read_allowed(a);
    read_invites(a);
    for (int i = 0; i < 2; i++) {
        a->there[i] = access(i ? a->invite_file : a->allow_file, R_OK) == 0;
        uv_fs_poll_init(p->loop, &a->watch[i]);
        a->watch[i].data = a;
        uv_fs_poll_start(&a->watch[i], on_change, i ? a->invite_file : a->allow_file, 1000);
        uv_unref((uv_handle_t *)&a->watch[i]);
    }
    return status;
}

/* One line more in the allow file. */
static bool remember(const struct access *a, const char *key, const char *name)
{
    char *text = NULL, *more;
    size_t n = 0;
    if (tw_rt_read_file(a->allow_file, FILE_MAX, &text, &n) && errno != ENOENT)
        return false;
    more = malloc(n + 200);
    if (more) {
        if (n)
            memcpy(more, text, n);
        bool ended = n == 0 || more[n - 1] == '\n';
        n += (size_t)snprintf(more + n, 200, "%s%s # came with an invite %s\n", ended ? "" : "\n", key, name);
    }
    bool ok = more && !tw_rt_write_file(a->allow_file, more, n, true);
    free(text);
    free(more);
    return ok;
}

void access_event(struct access *a, const struct tw_endpoint_event *ev)
{
    struct invites list;
    char key[TW_ADDRESS_LEN + 1];
    if (ev->type != TW_EP_INVITED)
        return;
    tw_key_format(&ev->key, key);
    const char *name = "";
    bool ok = invites_read(a->invite_file, &list) == EXIT_OK;
    for (unsigned i = 0; ok && i < list.n; i++) {
        struct invite *v = &list.at[i];
        if (memcmp(v->secret, ev->data.p, TW_INVITE_SIZE) != 0)
            continue;
        v->uses -= v->uses > 0;
        name = v->name;
    }
    /* The use is taken off first: if this machine dies in between, the bearer has to ask again, and nobody else gets
     * in. */
    ok = ok && invites_write(a->invite_file, &list) == EXIT_OK && remember(a, key, name);
    peer_json(a->peer, "invited", ",\"key\":%s,\"invite\":%s", key, name);
    peer_say(a->peer, "thalweg: %s came with an invite%s%s%s", key, *name ? ", " : "", name,
             ok ? ", and may come again" : "; it could not be written down, so it may not come again");
}
