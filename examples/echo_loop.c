/* An echo server on a loop of its own: no thread, one poll(). Of each stream it takes what comes and sends it back.
 *
 *     echo_loop [SERVER [TOKEN]] */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <thalweg/thalweg.h>

enum { STREAMS = 64 };

static struct stream {
    uint32_t conn;
    int64_t id;
    char buf[4096];
    size_t at, n;           /* read, and not written yet */
    bool used, ended;
} streams[STREAMS];

static void echo(struct tw_node *node, struct stream *s)
{
    size_t n = 0;
    int err = 0;
    while (!err) {
        if (s->at == s->n) {
            if (s->ended) {
                (void)!tw_node_shut(node, s->conn, s->id);
                s->used = false;
                return;
            }
            s->at = s->n = 0;
            err = tw_node_read(node, s->conn, s->id, s->buf, sizeof(s->buf), 0, &s->n, &s->ended);
        } else {
            err = tw_node_write(node, s->conn, s->id, s->buf + s->at, s->n - s->at, 0, &n);
            s->at += n;
        }
    }
    s->used = err == TW_ETIMEOUT; /* not yet; anything else: it broke off */
}

static void work(struct tw_node *node)
{
    static uint32_t conns[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        if (!conns[i] && tw_node_accept(node, 0, &conns[i], NULL))
            conns[i] = 0;
        struct stream new = { .used = true, .conn = conns[i] };
        for (int k = 0; conns[i] && k < STREAMS; k++)
            if (!streams[k].used && !tw_node_incoming(node, conns[i], 0, &new.id))
                streams[k] = new;
        if (conns[i] && *tw_node_why(node, conns[i], NULL)) {
            printf("gone: %s\n", tw_node_why(node, conns[i], NULL));
            tw_node_hangup(node, conns[i], NULL);
            conns[i] = 0;
        }
    }
    for (int k = 0; k < STREAMS; k++)
        if (streams[k].used)
            echo(node, &streams[k]);
}

int main(int argc, char **argv)
{
    const char *servers[] = { argc > 1 ? argv[1] : "ws://127.0.0.1:8080", NULL }, *why;
    struct tw_node_config cfg = { .servers = servers, .token = argc > 2 ? argv[2] : NULL, .listen = true,
                                  .allow_any = true, .own_loop = true };
    char text[TW_ADDRESS_TEXT_MAX];
    struct tw_node *node;
    bool told = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (tw_node_new(&cfg, &node, &why) || tw_node_address(node, text, sizeof(text))) {
        fprintf(stderr, "echo_loop: %s\n", why);
        return 1;
    }
    for (;;) {
        struct pollfd fd = { .fd = tw_node_fd(node), .events = POLLIN };
        poll(&fd, 1, tw_node_timeout(node));
        tw_node_run(node);
        if (!told && !tw_node_online(node, 0)) {
            told = true;
            printf("%s\n", text);
        }
        work(node);
    }
}
