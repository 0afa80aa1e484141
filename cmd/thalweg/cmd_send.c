#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "access.h"
#include "files.h"
#include "redial.h"
#include "rt/os.h"

enum { INVITE_HOURS = 24 };

static struct send {
    struct peer peer;
    struct peer_options o;
    bool by_invite, asking;
    struct files_list list;
    struct files_progress progress;
    struct redial redial;
    uint32_t conn;
    int64_t stream;          /* -1: none */
    struct sending *sending; /* NULL: not yet */
} s = { .stream = -1 };

/* --- what is sent ------------------------------------------------------------------------------------- */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* As seen from the folder that the operand is in. */
static char *sent_name(const FTSENT *at, const char *operand)
{
    size_t n = strlen(operand);
    while (n && operand[n - 1] == '/')
        n--;
    while (n && operand[n - 1] != '/')
        n--;
    return strdup(at->fts_path + n);
}

static int add(const FTSENT *at, const char *operand)
{
    const struct stat *st = at->fts_statp;
    bool folder = at->fts_info == FTS_D;
    struct files_entry e = { .kind = folder ? FILES_FOLDER : FILES_FILE, .mode = st->st_mode & 0777,
                             .size = folder ? 0 : (uint64_t)st->st_size, .mtime = (uint64_t)st->st_mtim.tv_sec,
                             .name = sent_name(at, operand), .path = strdup(at->fts_path) };
    size_t n = e.name ? strlen(e.name) : 0;
    while (n && e.name[n - 1] == '/')
        e.name[--n] = 0;
    const char *fault = files_name_fault(e.name ? e.name : "", n);
    if (fault) {
        fprintf(stderr, "thalweg: %s: %s; name it otherwise\n", files_shown(at->fts_path), fault);
    } else if (e.path && files_add(&s.list, &e)) {
        return EXIT_OK;
    } else {
        fprintf(stderr, "thalweg: that is more than can be sent at once (%d files); pack it up with tar\n", FILES_MAX);
    }
    free(e.name);
    free(e.path);
    return EXIT_FAILED;
}

static int walk(const char *operand)
{
    char *roots[] = { (char *)(uintptr_t)operand, NULL };
    FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    int status = f ? EXIT_OK : EXIT_FAILED;
    for (FTSENT *at; !status && (at = fts_read(f));) {
        switch (at->fts_info) {
        case FTS_D:
        case FTS_F:
            status = add(at, operand);
            break;
        case FTS_DP:
            break;
        case FTS_SL:
        case FTS_SLNONE:
        case FTS_DEFAULT:
            fprintf(stderr, "thalweg: %s is left out: it is neither a file nor a folder\n", files_shown(at->fts_path));
            break;
        default: /* nothing is sent, rather than less than was meant */
            fprintf(stderr, "thalweg: %s: %s\n", files_shown(at->fts_path), strerror(at->fts_errno));
            status = EXIT_FAILED;
        }
    }
    if (f)
        fts_close(f);
    return status;
}

/* --- sending -------------------------------------------------------------------------------------------- */

static void on_end(struct sending *gone, const char *why)
{
    (void)gone;
    s.sending = NULL;
    s.stream = -1;
    if (why) {
        if (!s.peer.ending)
            peer_say(&s.peer, "thalweg: %s", why);
        return; /* the connection is closed, too, and dialled again */
    }
    s.progress.done = s.progress.total;
    files_summary(&s.progress);
    peer_end(&s.peer, s.progress.failed ? EXIT_FAILED : EXIT_OK);
}

static void start(void)
{
    s.progress = (struct files_progress){ .peer = &s.peer, .total = s.list.bytes, .file_n = s.list.files,
                                          .begun = tw_rt_now() };
    s.sending = sending_new(&s.peer, s.conn, s.stream, &s.list, &s.progress, on_end);
    if (!s.sending) {
        fprintf(stderr, "thalweg: out of memory\n");
        peer_end(&s.peer, EXIT_FAILED);
    }
}

/* The head that stands before everything: their answer, or, with an invite, their wish. */
static void hear_head(const struct tw_endpoint_event *ev)
{
    char text[SERVICE_TEXT_MAX + 1];
    unsigned what;
    int heard = service_hear(&s.peer, s.conn, s.stream, &what, text);
    if (heard == 0)
        return;
    s.asking = false;
    if (heard > 0 && what == (s.by_invite ? SERVICE_FETCH : 0) &&
        (!s.by_invite || !service_say(&s.peer, s.conn, s.stream, 0, ""))) {
        start();
        if (s.sending)
            sending_event(s.sending, ev);
        return;
    }
    peer_say(&s.peer, "thalweg: %s", heard > 0 && text[0] ? text : "the other side does not take files");
    s.stream = -1;
    if (!s.by_invite)
        peer_end(&s.peer, EXIT_REFUSED);
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    bool ours = ev->conn == s.conn && ev->stream == s.stream && s.stream >= 0;
    if (ev->type == TW_EP_READY && !s.by_invite) {
        s.conn = ev->conn;
        s.asking = true;
        if (tw_endpoint_open(p->rt.endpoint, tw_rt_now(), s.conn, &s.stream) ||
            service_say(p, s.conn, s.stream, SERVICE_FILES, ""))
            peer_end(p, EXIT_FAILED);
    } else if (ev->type == TW_EP_STREAM && s.by_invite && s.stream < 0) {
        s.conn = ev->conn;
        s.stream = ev->stream;
        s.asking = true;
    } else if (ours && s.asking && ev->type == TW_EP_READABLE) {
        hear_head(ev);
    } else if (s.sending && (ours || (ev->type == TW_EP_CLOSED && ev->conn == s.conn))) {
        sending_event(s.sending, ev);
    } else if (ours && (ev->type == TW_EP_ENDED)) {
        s.stream = -1;
    }
    if (ev->type == TW_EP_CLOSED && ev->conn == s.conn)
        s.stream = -1;
    if (!p->ending && !s.by_invite)
        redial_event(&s.redial, ev);
}

static int offer_by_invite(const struct tw_endpoint_config *cfg)
{
    struct tw_rng rng = tw_rt_rng();
    struct tw_endpoint_invite in = { .uses = 1 };
    struct tw_address own = tw_address_of(tw_endpoint_key(s.peer.rt.endpoint), cfg->servers, cfg->server_n);
    struct invite i;
    char text[TW_ADDRESS_TEXT_MAX];
    int status = peer_can_be_found(&s.peer, cfg);
    if (status)
        return status;
    rng.fill(rng.ctx, in.secret, sizeof(in.secret));
    memcpy(i.secret, in.secret, sizeof(i.secret));
    in.expires_ms = (uint64_t)((tw_rt_now() + tw_rt_unix_offset()) / TW_MSEC) + INVITE_HOURS * 3600000ULL;
    if (tw_endpoint_invites(s.peer.rt.endpoint, tw_rt_now(), &in, 1) ||
        !invite_text(&own, &i, text))
        return EXIT_FAILED;
    peer_json(&s.peer, "invite", ",\"invite\":%s", text);
    peer_say(&s.peer, "on the other machine, within %d hours:\n\n  thalweg receive %s\n", INVITE_HOURS, text);
    return EXIT_OK;
}

int cmd_send(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg send [options] FILE... ADDRESS\n"
        "       thalweg send [options] --invite FILE...\n\n"
        "Sends files and folders to \"thalweg receive\" on the machine that has that key; with --invite to whoever\n"
        "runs the line that is printed. What breaks off goes on where it was, by itself or when it is run again.\n\n";
    const struct cmd_option options[] = {
        { "--invite", NULL, &s.by_invite, 0, 0, "print a line that gets them, once" },
        PEER_OPTIONS(&s.o),
        { NULL },
    };
    static struct cmd_operands args = { 1, 4096, "what, and to whom? For example: report.pdf ADDRESS", "" };
    struct tw_endpoint_config cfg = { 0 };
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &args, &done);
    if (status || done)
        return status;
    unsigned files = args.n - !s.by_invite;
    if (files == 0) {
        fprintf(stderr, "thalweg: %s: files, then ADDRESS; or --invite and files\n", args.at[0]);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < files && !status; i++)
        status = walk(args.at[i]);
    if (status)
        return status;
    cfg.listen = cfg.unlisted = s.by_invite;
    s.peer.verb = argv[0];
    s.peer.on_event = on_event;
    s.redial.patience_ms = 5000;
    status = peer_open(&s.peer, &s.o, &cfg, false);
    if (status)
        return status;
    status = s.by_invite ? offer_by_invite(&cfg) : redial_start(&s.redial, &s.peer, args.at[files]);
    if (status)
        peer_end(&s.peer, status);
    status = peer_run(&s.peer);
    files_free(&s.list);
    return status;
}
