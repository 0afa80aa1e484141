#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "rt/os.h"

/* stdin and stdout, and the other side. */
static struct call {
    struct peer peer;
    uint32_t conn;
    int64_t stream;
    bool piped;
} call;

static void on_pipe_end(struct peer *p, void *user, const char *why)
{
    (void)user;
    if (why && !p->ending)
        peer_say(p, "thalweg: %s", why);
    if (!p->ending)
        peer_end(p, why ? EXIT_FAILED : EXIT_OK);
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    if (ev->type == TW_EP_READY && !call.piped) {
        call.piped = true;
        if (tw_endpoint_open(p->rt.endpoint, tw_rt_now(), call.conn, &call.stream) ||
            service_say(p, call.conn, call.stream, SERVICE_DEFAULT, "") ||
            pipe_open(p, call.conn, call.stream, STDIN_FILENO, STDOUT_FILENO, true, on_pipe_end, NULL))
            peer_end(p, EXIT_FAILED);
    } else if (ev->type == TW_EP_CLOSED) {
        if (!call.piped || ev->code)
            peer_say(p, "thalweg: %s", ev->why ? ev->why : "closed");
        peer_end(p, peer_status_of(ev));
    }
}

int cmd_connect(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg connect [options] ADDRESS\n\n"
        "Connects standard input and output with what \"thalweg listen\" offers on the machine that has\n"
        "that key. For ssh: ProxyCommand thalweg connect ADDRESS\n\n";
    static struct peer_options o;
    const char *early = "";
    const struct cmd_option options[] = {
        { "--early", "TEXT", &early, 0, 0, "words that go with the very first packet; the listener shows them" },
        PEER_OPTIONS(&o),
        { NULL },
    };
    struct tw_endpoint_config cfg = { 0 };
    struct cmd_operands address = PEER_ADDRESS;
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &address, &done);
    if (status || done)
        return status;
    if (strlen(early) > TW_ENDPOINT_EARLY_MAX) {
        fprintf(stderr, "thalweg: --early: at most %d bytes\n", TW_ENDPOINT_EARLY_MAX);
        return EXIT_USAGE;
    }
    call.peer.verb = argv[0];
    call.peer.on_event = on_event;
    status = peer_open(&call.peer, &o, &cfg, true);
    if (status)
        return status;
    status = peer_dial(&call.peer, address.at[0], tw_bytes_str(early), &call.conn);
    if (status)
        peer_end(&call.peer, status);
    return peer_run(&call.peer);
}
