/* The whole endpoint, rendezvous, ICE, relay and QUIC, between networks as they are out there (tests/sim/population): each
 * pair connects, early data comes at most once, and what is sent there and back arrives as it was.
 *
 * usage: endpoint-a_thousand_pairs_of_networks [PAIRS [FIRST-SEED]] */
#include "../../sim/meeting.h"
#include "../../test.h"
#include "../../sim/population.h"
#include "../../sim/proxy_node.h"

enum { SIZE = 60000 };
#define PROXY "203.0.114.9"
static unsigned pairs = 1000, limited, proxied;
static uint64_t first = 1;

static struct meeting w;
static struct proxy_node proxy; /* connects to 443 only */

/* Of those networks that let no UDP out, and any TCP, half have only a proxy instead. */
static void put(struct endpoint_node *n, uint8_t who, struct place p, struct endpoint_node_config cfg)
{
    struct sim_nat *outer = NULL, *nat = NULL;
    struct tw_addr at = tw_addr_v4(198, 51, (uint8_t)(100 + who), 9, 0);
    limited += p.nat.no_udp;
    if (p.nat.no_udp && !p.nat.only_ports[0] && p.link.delay / TW_MSEC % 2) {
        proxied++;
        p.nat.only_to = cfg.proxy = ip(PROXY);
        cfg.proxy.port = 3128;
    }
    cfg.tls = p.nat.tls_only || cfg.proxy.family;
    if (p.carrier)
        outer = sim_nat(w.sim, tw_addr_v4(198, 51, (uint8_t)(100 + who), 1, 0), p.outer, NULL);
    if (p.natted) {
        struct tw_addr outside = outer ? tw_addr_v4(100, 64, who, 1, 0) : tw_addr_v4(198, 51, (uint8_t)(100 + who), 1, 0);
        if (p.nat.firewall)
            outside = at;
        nat = sim_nat(w.sim, outside, p.nat, outer);
        at = p.nat.firewall ? at : tw_addr_v4(192, 168, who, 5, 0);
        sim_nat_set_link(outer ? outer : nat, p.link);
        p.link = (struct sim_link){ .delay = TW_MSEC / 2 };
    }
    endpoint_node_init(n, w.sim, at, nat, p.link, meeting_desk(), &cfg);
}

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

static int by_size(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

static void each_pair_connects(void **state)
{
    const struct sim_link near = { .delay = 5 * TW_MSEC };
    static uint8_t data[SIZE];
    unsigned rungs[8] = { 0 }, n = 0;
    unsigned *first_ms = calloc(pairs, sizeof(*first_ms));
    (void)state;
    assert_non_null(first_ms);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 2654435761U >> 13);
    for (uint64_t seed = first; seed < first + pairs; seed++) {
        meeting_begin(&w, seed, near, true);
        proxy_node_init(&proxy, w.sim, ip(PROXY), near);
        proxy.only_port = 443;
        put(&w.a, 1, population_draw(2 * seed), (struct endpoint_node_config){ .key = 1, .tcp = true });
        put(&w.b, 2, population_draw(2 * seed + 1),
            (struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true, .tcp = true });
        w.b.echo = true;
        run(5 * TW_SEC);
        tw_time start = sim_now(w.sim);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "early");
        while (!c->ready && !c->closed && sim_now(w.sim) < start + 30 * TW_SEC)
            run(TW_MSEC);
        if (!c->ready)
            fail_msg("seed %llu: not ready after 30 s: %s", (unsigned long long)seed, c->why);
        first_ms[n++] = (unsigned)((sim_now(w.sim) - start) / TW_MSEC);
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), true);
        for (int i = 0; i < 120 && !(c->end && c->got == sizeof(data)); i++)
            run(TW_SEC);
        if (!c->connected || c->closed || c->got != sizeof(data))
            fail_msg("seed %llu: %zu of %d bytes came back; %s", (unsigned long long)seed, c->got, SIZE, c->why);
        assert_memory_equal(c->bytes, data, sizeof(data));
        assert_memory_equal(w.b.conns[0].bytes, data, sizeof(data));
        assert_int_equal(w.b.conn_n, 1);
        assert_true(w.b.conns[0].early_n == 0 || w.b.conns[0].early_n == 5);
        run(12 * TW_SEC); /* the best way is found by then */
        rungs[c->path.rung]++;
        meeting_end(&w);
    }
    qsort(first_ms, n, sizeof(*first_ms), by_size);
    printf("%u pairs, %u networks without UDP among them, of which %u have a proxy only; all connected: %u straight, %u through NATs, "
           "%u over TCP, %u https, %u over the relay, %u over the rendezvous; ready after %u ms (median), %u ms (19 of 20)\n",
           n, limited, proxied, rungs[TW_RUNG_UDP], rungs[TW_RUNG_STUN], rungs[TW_RUNG_TCP], rungs[TW_RUNG_HTTP] + rungs[TW_RUNG_HTTPS],
           rungs[TW_RUNG_RELAY], rungs[TW_RUNG_PATCHED], first_ms[n / 2], first_ms[n * 19 / 20]);
    free(first_ms);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_pair_connects) };
    if (argc > 1)
        pairs = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
