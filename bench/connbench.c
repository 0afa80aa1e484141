/* What an idle connection between two keys costs in memory: endpoints in the simulated network (15 pairs at most), what malloc has
 * given out before they dial and after, and the CPU time of connecting. usage: connbench [PAIRS] */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/sim/endpoint_node.h"

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static size_t used(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static struct endpoint_node *node(struct sim *s, unsigned i, bool listens, const struct tw_addr *desk)
{
    struct endpoint_node *n = calloc(1, sizeof(*n));
    const struct endpoint_node_config cfg = { .key = (uint8_t)(i % 250 + 1), .listen = listens, .allow_any = true };
    struct tw_addr at = tw_addr_v4(198, 51, (uint8_t)(i / 200), (uint8_t)(i % 200 + 1), 0);
    if (!n)
        exit(1);
    endpoint_node_init(n, s, at, NULL, (struct sim_link){ .delay = 10 * TW_MSEC }, *desk, &cfg);
    return n;
}

int main(int argc, char **argv)
{
    enum { MOST = 15 };
    unsigned pairs = argc > 1 ? (unsigned)atoi(argv[1]) : 15, connected = 0;
    static struct endpoint_node *nodes[2 * MOST];
    static struct desk_node desk;
    struct tw_addr at = tw_addr_v4(203, 0, 114, 7, 0);
    struct sim *s = sim_new(1);
    if (pairs > MOST)
        pairs = MOST;
    desk_node_init(&desk, s, at, (struct sim_link){ .delay = 10 * TW_MSEC }, NULL, false);
    for (unsigned i = 0; i < 2 * pairs; i++)
        nodes[i] = node(s, i, i >= pairs, &at);
    sim_run(s, sim_now(s) + 5 * TW_SEC, NULL);
    for (unsigned i = 0; i < pairs; i++) /* the test's own buffers are none of it */
        endpoint_node_conn(nodes[i], 1), endpoint_node_conn(nodes[i + pairs], 1);
    size_t before = used();
    double begun = cpu_ms();
    struct node_conn *conns[MOST];
    for (unsigned i = 0; i < pairs; i++)
        conns[i] = endpoint_node_dial(nodes[i], nodes[i + pairs], NULL);
    sim_run(s, sim_now(s) + 2 * TW_SEC, NULL);
    double took = cpu_ms() - begun;
    sim_run(s, sim_now(s) + 60 * TW_SEC, NULL);
    for (unsigned i = 0; i < pairs; i++)
        connected += conns[i]->connected;
    size_t after = used();
    printf("%u of %u connected; %.1f KiB each side of an idle connection; %.2f ms of CPU to connect both\n", connected,
           pairs, (double)(after - before) / 1024 / (2 * pairs), took / pairs);
    return connected == pairs ? 0 : 1;
}
