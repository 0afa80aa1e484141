/* Two nodes in one process, and many threads on each: streams that are echoed, datagrams, peers that come and go, watchers. Built with
 * TSan this finds races in the simple tier. usage: node_threads SERVER */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/thalweg.h>

enum { CONNS = 2, TALKERS = 3, STREAMS = 8, SIZE = 60000, VISITS = 12, SERVING_MAX = 64 + CONNS + VISITS, WAIT_MS = 30000 };

static struct tw_node *caller, *callee;
static char address[TW_ADDRESS_TEXT_MAX];
static uint32_t conns[CONNS];
static atomic_bool over;
static atomic_uint echoed, datagrams, visits, wrong;

#define MUST(what)                                                             \
    do {                                                                       \
        int err_ = (what);                                                     \
        if (err_) {                                                            \
            fprintf(stderr, "%s: %s\n", #what, tw_strerror(err_));             \
            atomic_fetch_add(&wrong, 1);                                       \
        }                                                                      \
    } while (0)

struct stream {
    uint32_t conn;
    int64_t id;
};

static void *echo(void *arg)
{
    struct stream s = *(struct stream *)arg;
    char buf[8192];
    size_t n, wrote;
    bool end = false;
    free(arg);
    while (!end && !tw_node_read(callee, s.conn, s.id, buf, sizeof(buf), WAIT_MS, &n, &end))
        if (tw_node_write(callee, s.conn, s.id, buf, n, WAIT_MS, &wrote))
            break;
    (void)!tw_node_shut(callee, s.conn, s.id);
    return NULL;
}

/* A peer's streams, a thread each; its datagrams go back. */
static void *serve(void *arg)
{
    struct stream s = *(struct stream *)arg;
    pthread_t threads[TALKERS * STREAMS];
    unsigned thread_n = 0;
    int err = 0;
    free(arg);
    while (!err || err == TW_ETIMEOUT) {
        char buf[TW_ENDPOINT_DATAGRAM_MAX];
        size_t n;
        err = tw_node_incoming(callee, s.conn, 10, &s.id);
        if (!err && thread_n < sizeof(threads) / sizeof(*threads)) {
            struct stream *one = malloc(sizeof(*one));
            *one = s;
            pthread_create(&threads[thread_n++], NULL, echo, one);
        }
        while (!tw_node_recv(callee, s.conn, buf, sizeof(buf), 0, &n))
            (void)!tw_node_send(callee, s.conn, buf, n);
    }
    (void)tw_node_why(callee, s.conn, NULL);
    tw_node_hangup(callee, s.conn, NULL);
    while (thread_n)
        pthread_join(threads[--thread_n], NULL);
    return NULL;
}

static void *accept_all(void *arg)
{
    pthread_t threads[SERVING_MAX];
    unsigned thread_n = 0;
    uint32_t conn;
    (void)arg;
    while (!over && thread_n < SERVING_MAX) {
        if (tw_node_accept(callee, 50, &conn, NULL))
            continue;
        struct stream *one = malloc(sizeof(*one));
        *one = (struct stream){ .conn = conn };
        pthread_create(&threads[thread_n++], NULL, serve, one);
    }
    while (thread_n)
        pthread_join(threads[--thread_n], NULL);
    return NULL;
}

static void talk(uint32_t conn, unsigned seed)
{
    char *out = malloc(SIZE), *in = malloc(SIZE);
    int64_t stream;
    size_t n, got = 0;
    bool end = false;
    for (size_t i = 0; i < SIZE; i++)
        out[i] = (char)((i * 31 + seed) >> 3);
    MUST(tw_node_open(caller, conn, WAIT_MS, &stream));
    MUST(tw_node_write(caller, conn, stream, out, SIZE, WAIT_MS, &n));
    MUST(tw_node_shut(caller, conn, stream));
    while (!end && !tw_node_read(caller, conn, stream, in + got, SIZE - got, WAIT_MS, &n, &end))
        got += n;
    if (got == SIZE && memcmp(in, out, SIZE) == 0)
        atomic_fetch_add(&echoed, 1);
    free(out);
    free(in);
}

static void *talker(void *arg)
{
    uint32_t conn = *(uint32_t *)arg;
    for (unsigned i = 0; i < STREAMS; i++)
        talk(conn, i);
    return NULL;
}

static void *pinger(void *arg)
{
    uint32_t conn = *(uint32_t *)arg;
    char buf[100] = "ping";
    size_t n;
    while (!over) {
        (void)!tw_node_send(caller, conn, buf, sizeof(buf));
        if (!tw_node_recv(caller, conn, buf, sizeof(buf), 20, &n))
            atomic_fetch_add(&datagrams, 1);
    }
    return NULL;
}

/* Comes, and goes without a word; every other one before it is even there. */
static void *visitor(void *arg)
{
    uint32_t conn;
    (void)arg;
    for (unsigned i = 0; i < VISITS; i++) {
        MUST(tw_node_dial(caller, address, "hello", 5, &conn));
        if (i & 1 && !tw_node_ready(caller, conn, WAIT_MS))
            atomic_fetch_add(&visits, 1);
        tw_node_hangup(caller, conn, "only looked in");
    }
    return NULL;
}

static void *watcher(void *arg)
{
    struct tw_node *n = arg;
    struct tw_node_event ev;
    struct tw_endpoint_conn st;
    char text[TW_ADDRESS_TEXT_MAX];
    while (!over) {
        (void)!tw_node_event(n, 20, &ev);
        for (int i = 0; i < CONNS; i++)
            (void)!tw_node_stats(n, conns[i], &st);
        (void)tw_node_why(n, conns[0], NULL);
        (void)!tw_node_address(n, text, sizeof(text));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *servers[] = { argc > 1 ? argv[1] : "ws://127.0.0.1:8080", NULL }, *why = "";
    struct tw_node_config cfg = { .servers = servers, .listen = true, .allow_any = true, .no_lan = true, .no_port_mapping = true };
    pthread_t accepting, visiting, watching[2], talking[CONNS * TALKERS], pinging[CONNS];
    if (tw_node_new(&cfg, &callee, &why) || tw_node_online(callee, WAIT_MS) || tw_node_address(callee, address, sizeof(address))) {
        fprintf(stderr, "the callee: %s\n", why);
        return 1;
    }
    cfg.listen = cfg.allow_any = false;
    if (tw_node_new(&cfg, &caller, &why)) {
        fprintf(stderr, "the caller: %s\n", why);
        return 1;
    }
    pthread_create(&accepting, NULL, accept_all, NULL);
    for (int i = 0; i < CONNS; i++)
        MUST(tw_node_dial(caller, address, NULL, 0, &conns[i]));
    pthread_create(&watching[0], NULL, watcher, caller);
    pthread_create(&watching[1], NULL, watcher, callee);
    pthread_create(&visiting, NULL, visitor, NULL);
    for (int i = 0; i < CONNS; i++) {
        pthread_create(&pinging[i], NULL, pinger, &conns[i]);
        for (int j = 0; j < TALKERS; j++)
            pthread_create(&talking[i * TALKERS + j], NULL, talker, &conns[i]);
    }
    for (int i = 0; i < CONNS * TALKERS; i++)
        pthread_join(talking[i], NULL);
    pthread_join(visiting, NULL);
    over = true;
    for (int i = 0; i < CONNS; i++)
        pthread_join(pinging[i], NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(watching[i], NULL);
    tw_node_free(caller); /* its goodbyes end those who serve */
    pthread_join(accepting, NULL);
    tw_node_free(callee);
    printf("%u of %u streams, %u of %u visits, %u datagrams\n", echoed, CONNS * TALKERS * STREAMS, visits, VISITS / 2, datagrams);
    return wrong || echoed != CONNS * TALKERS * STREAMS || visits != VISITS / 2 || !datagrams;
}
