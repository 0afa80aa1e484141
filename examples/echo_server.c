/* Is there to be dialled, and sends back what comes: a thread for each stream.
 *
 *     echo_server [SERVER [TOKEN]]
 *
 * SERVER is the URL that thalwegd --rendezvous prints. Anybody may connect; give the address to whoever should. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <thalweg/thalweg.h>

struct stream {
    struct tw_node *node;
    uint32_t conn;
    int64_t id;
};

static void *echo(void *arg)
{
    struct stream s = *(struct stream *)arg;
    char buf[16384];
    size_t n, wrote;
    bool end = false;
    free(arg);
    while (!end && !tw_node_read(s.node, s.conn, s.id, buf, sizeof(buf), -1, &n, &end))
        if (tw_node_write(s.node, s.conn, s.id, buf, n, -1, &wrote))
            break;
    (void)!tw_node_shut(s.node, s.conn, s.id);
    return NULL;
}

static void begin(void *(*what)(void *), struct tw_node *node, uint32_t conn, int64_t id)
{
    pthread_t thread;
    struct stream *s = malloc(sizeof(*s));
    if (!s)
        return;
    *s = (struct stream){ node, conn, id };
    if (pthread_create(&thread, NULL, what, s))
        free(s);
    else
        pthread_detach(thread);
}

static void *serve(void *arg)
{
    struct stream s = *(struct stream *)arg;
    free(arg);
    while (!tw_node_incoming(s.node, s.conn, -1, &s.id))
        begin(echo, s.node, s.conn, s.id);
    printf("gone: %s\n", tw_node_why(s.node, s.conn, NULL));
    tw_node_hangup(s.node, s.conn, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *servers[] = { argc > 1 ? argv[1] : "ws://127.0.0.1:8080", NULL }, *why;
    struct tw_node_config cfg = { .servers = servers, .token = argc > 2 ? argv[2] : NULL, .listen = true,
                                  .allow_any = true };
    char text[TW_ADDRESS_TEXT_MAX];
    struct tw_node *node;
    struct tw_key key;
    uint32_t conn;
    setvbuf(stdout, NULL, _IOLBF, 0);
    int err = tw_node_new(&cfg, &node, &why);
    if (!err && tw_node_online(node, 10000))
        err = TW_ETIMEOUT, why = "the server does not let us be dialled there";
    if (err) {
        fprintf(stderr, "echo_server: %s\n", why);
        return 1;
    }
    err = tw_node_address(node, text, sizeof(text));
    printf("%s\n", err ? tw_strerror(err) : text);
    while (!tw_node_accept(node, -1, &conn, &key)) {
        tw_key_format(&key, text);
        printf("here: %s\n", text);
            begin(serve, node, conn, 0);
    }
    tw_node_free(node);
    return 0;
}
