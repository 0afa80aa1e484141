/* Dials an echo server and sends it a line; says what came back, by which way, and how long it took.
 *
 *     echo_client ADDRESS [TEXT]
 *
 * ADDRESS is what the other side has printed, KEY@SERVER. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <thalweg/thalweg.h>

static double ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int talk(struct tw_node *node, uint32_t conn, const char *text)
{
    double begun = ms();
    struct tw_endpoint_conn st;
    int64_t stream;
    size_t n;
    bool end = false;
    char buf[4096];
    int err = tw_node_open(node, conn, 30000, &stream);
    err = err ? err : tw_node_write(node, conn, stream, text, strlen(text), 10000, &n);
    err = err ? err : tw_node_shut(node, conn, stream);
    while (!err && !end && !(err = tw_node_read(node, conn, stream, buf, sizeof(buf), 10000, &n, &end)))
        printf("%.*s", (int)n, buf);
    if (!err && !(err = tw_node_stats(node, conn, &st)))
        printf("\n%.1f ms, by %s\n", ms() - begun, tw_rung_name(st.path.rung));
    return err;
}

int main(int argc, char **argv)
{
    struct tw_node_config cfg = { 0 };
    struct tw_node *node;
    const char *why;
    uint32_t conn;
    if (argc < 2) {
        fprintf(stderr, "usage: echo_client ADDRESS [TEXT]\n");
        return 2;
    }
    int err = tw_node_new(&cfg, &node, &why);
    if (err) {
        fprintf(stderr, "echo_client: %s\n", why);
        return 1;
    }
    err = tw_node_dial(node, argv[1], NULL, 0, &conn);
    if (!err) {
        err = talk(node, conn, argc > 2 ? argv[2] : "hello");
        why = tw_node_why(node, conn, NULL);
        if (err)
            fprintf(stderr, "echo_client: %s\n", *why ? why : tw_strerror(err));
        tw_node_hangup(node, conn, "that was all");
    } else {
        fprintf(stderr, "echo_client: %s\n", tw_strerror(err));
    }
    tw_node_free(node);
    return err ? 1 : 0;
}
