#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access.h"
#include "files.h"
#include "redial.h"
#include "rt/os.h"

enum { AT_ONCE = 16 };

/* A stream: its head is not there yet (receiving NULL), or files come over it. */
struct stream {
    uint32_t conn;
    int64_t id;
    bool used;
    struct receiving *receiving;
};

static struct receive {
    struct peer peer;
    struct peer_options o;
    struct access access;
    const char *folder;
    bool overwrite, once, fetching;
    int folder_fd, status;
    struct redial redial;
    struct stream streams[AT_ONCE];
} r;

static struct stream *find(uint32_t conn, int64_t id)
{
    for (int i = 0; i < AT_ONCE; i++)
        if (r.streams[i].used && r.streams[i].conn == conn && r.streams[i].id == id)
            return &r.streams[i];
    return NULL;
}

static struct stream *add(uint32_t conn, int64_t id)
{
    for (int i = 0; i < AT_ONCE; i++)
        if (!r.streams[i].used) {
            r.streams[i] = (struct stream){ .used = true, .conn = conn, .id = id };
            return &r.streams[i];
        }
    tw_endpoint_reset(r.peer.rt.endpoint, tw_rt_now(), conn, id, 1);
    return NULL;
}

static void on_end(struct receiving *receiving, const char *why)
{
    struct stream *s = receiving_user(receiving);
    s->used = false;
    if (why) {
        if (!r.peer.ending)
            peer_say(&r.peer, "thalweg: %s%s", why, r.fetching ? "" : "; what has come so far is kept");
        return;
    }
    if (receiving_progress(receiving)->failed)
        r.status = EXIT_FAILED;
    if (r.once || r.fetching)
        peer_end(&r.peer, r.status);
}

static void say_no(struct stream *s, const char *why)
{
    size_t n;
    if (!service_say(&r.peer, s->conn, s->id, 1, why))
        (void)!tw_endpoint_write(r.peer.rt.endpoint, tw_rt_now(), s->conn, s->id, tw_bytes(NULL, 0), true, &n);
    s->used = false;
}

static void hear_head(struct stream *s, const struct tw_endpoint_event *ev)
{
    char text[SERVICE_TEXT_MAX + 1];
    unsigned what;
    int heard = service_hear(&r.peer, s->conn, s->id, &what, text);
    if (heard == 0)
        return;
    bool good = heard > 0 && what == (r.fetching ? 0 : SERVICE_FILES);
    if (!good && r.fetching) {
        peer_say(&r.peer, "thalweg: %s", heard > 0 && text[0] ? text : "the other side has no files for us");
        peer_end(&r.peer, EXIT_REFUSED);
        return;
    }
    if (!good || (!r.fetching && service_say(&r.peer, s->conn, s->id, 0, ""))) {
        say_no(s, "only files are taken here (thalweg send)");
        return;
    }
    s->receiving = receiving_new(&r.peer, s->conn, s->id, r.folder_fd, r.overwrite, on_end, s);
    if (s->receiving)
        receiving_event(s->receiving, ev);
    else
        say_no(s, "out of memory");
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    int64_t id;
    struct stream *s;
    if (!r.fetching)
        access_event(&r.access, ev);
    if (ev->type == TW_EP_READY && r.fetching) {
        if (tw_endpoint_open(p->rt.endpoint, tw_rt_now(), ev->conn, &id) || !add(ev->conn, id) ||
            service_say(p, ev->conn, id, SERVICE_FETCH, ""))
            peer_end(p, EXIT_FAILED);
    } else if (ev->type == TW_EP_STREAM && !r.fetching) {
        add(ev->conn, ev->stream);
    } else if (ev->type == TW_EP_CLOSED) {
        for (int i = 0; i < AT_ONCE; i++)
            if (r.streams[i].used && r.streams[i].conn == ev->conn) {
                if (r.streams[i].receiving)
                    receiving_event(r.streams[i].receiving, ev);
                r.streams[i].used = false;
            }
    } else if (ev->conn && (s = find(ev->conn, ev->stream))) {
        if (s->receiving)
            receiving_event(s->receiving, ev);
        else if (ev->type == TW_EP_READABLE)
            hear_head(s, ev);
        else if (ev->type == TW_EP_ENDED)
            s->used = false;
    }
    if (!p->ending && r.fetching)
        redial_event(&r.redial, ev);
}

static int say_ready(const struct tw_endpoint_config *cfg)
{
    struct tw_address a = tw_address_of(tw_endpoint_key(r.peer.rt.endpoint), cfg->servers, cfg->server_n);
    char text[TW_ADDRESS_TEXT_MAX];
    int status = peer_can_be_found(&r.peer, cfg);
    if (status)
        return status;
    if (tw_address_format(&a, text, sizeof(text)))
        return EXIT_FAILED;
    peer_json(&r.peer, "listening", ",\"address\":%s", text);
    peer_say(&r.peer, "waiting for: thalweg send FILE... %s", text);
    return EXIT_OK;
}

int cmd_receive(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg receive [options]\n"
        "       thalweg receive [options] INVITE\n\n"
        "Waits for files from those who are allowed; or gets those that \"thalweg send --invite\" offers. They come\n"
        "into the current folder; nothing is written over, and nothing is put outside of it.\n\n";
    const struct cmd_option options[] = {
        { "--dir", "FOLDER", &r.folder, 0, 0, "put them there (the current one)" },
        { "--overwrite", NULL, &r.overwrite, 0, 0, "replace files that are there already" },
        { "--once", NULL, &r.once, 0, 0, "end after the first transfer" },
        ACCESS_OPTIONS(&r.access),
        PEER_OPTIONS(&r.o),
        { NULL },
    };
    struct cmd_operands args = { 0, 1, "", "" };
    struct tw_endpoint_config cfg = { 0 };
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &args, &done);
    if (status || done)
        return status;
    r.folder = r.folder ? r.folder : ".";
    r.folder_fd = open(r.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r.folder_fd < 0) {
        fprintf(stderr, "thalweg: %s: %s\n", r.folder, strerror(errno));
        return EXIT_FAILED;
    }
    r.fetching = args.n == 1;
    cfg.listen = !r.fetching;
    cfg.allow_any = r.access.allow_any;
    cfg.unlisted = r.access.unlisted;
    r.peer.verb = argv[0];
    r.peer.on_event = on_event;
    r.redial.patience_ms = 5000;
    status = peer_open(&r.peer, &r.o, &cfg, false);
    if (status)
        return status;
    if (r.fetching) {
        status = redial_start(&r.redial, &r.peer, args.at[0]);
    } else {
        status = access_open(&r.access, &r.peer);
        status = status ? status : say_ready(&cfg);
    }
    if (status)
        peer_end(&r.peer, status);
    status = peer_run(&r.peer);
    close(r.folder_fd);
    return status;
}
