/* icesim: connects peers in the simulated network by the thousand and prints what came of it.
 *
 *   icesim sweep [RUNS]                   every kind of NAT with every other, RUNS times each (1)
 *   icesim one NAT NAT [SEED]             one of them, told in detail; NAT as the sweep names it */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static const struct sim_link link20 = { .delay = 20 * TW_MSEC };

static int by_time(const void *a, const void *b)
{
    tw_time x = *(const tw_time *)a, y = *(const tw_time *)b;
    return x < y ? -1 : x > y;
}

static double median_ms(tw_time *t, size_t n)
{
    if (!n)
        return 0;
    qsort(t, n, sizeof(*t), by_time);
    return (double)t[n / 2] / 1e6;
}

static int sweep(unsigned runs)
{
    enum { KINDS = NAT_KIND_COUNT };
    unsigned total = 0, unconnected = 0, direct = 0, allowed = 0, missed = 0, bonus = 0;
    uint64_t packets = 0;
    size_t easy_n = 0;
    tw_time *easy = malloc(sizeof(*easy) * KINDS * KINDS * runs);
    if (!easy)
        return 1;
    printf("# D: direct, where theory allows it; d: direct although it does not; R: relayed, as theory\n"
           "# says; x: relayed, although it could be direct; -: not connected. Mapping/filtering/ports.\n");
    for (unsigned i = 0; i < KINDS; i++) {
        char name[32];
        struct sim_nat_kind k = nat_kind_at(i);
        printf("%-14s ", nat_kind_name(&k, name));
        for (unsigned j = 0; j < KINDS; j++) {
            struct world_options o = { .a = { .natted = true, .nat = k, .link = link20 },
                                       .b = { .natted = true, .nat = nat_kind_at(j),
                                              .link = link20 } };
            unsigned d = 0, c = 0;
            bool theory = theory_allows(&o.a, &o.b);
            for (unsigned r = 0; r < runs; r++) {
                o.seed = 1 + r + runs * (j + KINDS * i);
                struct outcome out = world_run(&o);
                d += out.direct;
                c += out.connected;
                packets += out.packets;
                if (k.mapping == SIM_INDEPENDENT && o.b.nat.mapping == SIM_INDEPENDENT)
                    easy[easy_n++] = out.usable;
            }
            total += runs;
            direct += d;
            unconnected += runs - c;
            allowed += theory ? runs : 0;
            missed += theory ? runs - d : 0;
            bonus += theory ? 0 : d;
            putchar(c < runs ? '-' : theory ? (d == runs ? 'D' : 'x') : d ? 'd' : 'R');
        }
        putchar('\n');
        fflush(stdout);
    }
    printf("%u runs: %u direct, %u not connected; of %u that could be direct %u were not; %u more were\n",
           total, direct, unconnected, allowed, missed, bonus);
    printf("easy pairs: usable after a median of %.1f ms (a round trip is 80 ms); packets a run: %.0f\n",
           median_ms(easy, easy_n), (double)packets / total);
    free(easy);
    return unconnected || missed ? 1 : 0;
}

static bool find_kind(const char *text, struct sim_nat_kind *ret)
{
    char name[32];
    for (unsigned i = 0; i < NAT_KIND_COUNT; i++) {
        *ret = nat_kind_at(i);
        if (!strcmp(text, nat_kind_name(ret, name)))
            return true;
    }
    fprintf(stderr, "icesim: there is no NAT \"%s\"; such as I/AP/keep\n", text);
    return false;
}

static void watch(void *ctx, tw_time now, const struct sim_host *from, const struct tw_addr *src,
                  const struct tw_addr *dst, struct tw_bytes data)
{
    char s[TW_ADDR_STRLEN], d[TW_ADDR_STRLEN];
    (void)ctx, (void)from;
    printf("%9.3f ms  %s -> %s  %zu bytes\n", (double)(now - 1000 * TW_SEC) / 1e6,
           tw_addr_format(src, s), tw_addr_format(dst, d), data.n);
}

static void explain(const char *who, const struct ice_node *n)
{
    char text[8192];
    tw_ice_explain(n->ice, text, sizeof(text));
    printf("--- %s\n%s", who, text);
}

static int one(const char *a, const char *b, uint64_t seed)
{
    static struct world w;
    struct world_options o = { .a = { .natted = true, .link = link20 },
                               .b = { .natted = true, .link = link20 }, .seed = seed };
    if (!find_kind(a, &o.a.nat) || !find_kind(b, &o.b.nat))
        return 2;
    world_begin(&w, &o);
    sim_set_watch(w.sim, watch, NULL);
    struct outcome r = world_connect(&w, &o);
    explain("a", &w.a);
    explain("b", &w.b);
    printf("%s, %s, usable after %.1f ms, direct after %.1f ms, %llu packets, %llu probes\n",
           r.connected ? "connected" : "not connected", r.direct ? "direct" : "relayed",
           (double)r.usable / 1e6, (double)r.direct_after / 1e6, (unsigned long long)r.packets,
           (unsigned long long)r.probes);
    world_end(&w);
    return r.connected ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0)
        return 1;
    if (argc >= 2 && !strcmp(argv[1], "sweep"))
        return sweep(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
    if (argc >= 4 && !strcmp(argv[1], "one"))
        return one(argv[2], argv[3], argc > 4 ? strtoull(argv[4], NULL, 10) : 1);
    fprintf(stderr, "usage: icesim sweep [RUNS] | one NAT NAT [SEED]\n");
    return 2;
}
