/* icesim: connects peers in the simulated network by the thousand and prints what came of it.
 *
 *   icesim sweep [RUNS]                   every kind of NAT with every other, RUNS times each (1)
 *   icesim population [PAIRS] [JOBS]      peers drawn from the networks there are (100,000; 2 processes)
 *   icesim one NAT NAT [SEED]             one of them, told in detail; NAT as the sweep names it */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "population.h"
#include "replay.h"

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
    printf("easy pairs: usable after a median of %.1f ms (a round trip is 82 ms); packets a run: %.0f\n",
           median_ms(easy, easy_n), (double)packets / total);
    free(easy);
    return unconnected || missed ? 1 : 0;
}

/* --- population --------------------------------------------------------------------------------- */

struct tally {
    uint64_t pairs, connected, direct, oracle, oracle_direct, packets, probes, hist[200];
};

static void one_pair(struct tally *t, uint64_t i)
{
    struct world_options o = { .a = population_draw(3 * i), .b = population_draw(7 * i + 1000003),
                               .seed = i + 1 };
    /* Between two that have UDP neither TCP nor relays over it come into play: they are left out for speed. */
    o.web = o.a.tcp = o.b.tcp = blocks_udp(&o.a) || blocks_udp(&o.b);
    struct outcome r = world_run(&o);
    bool theory = theory_allows(&o.a, &o.b);
    t->pairs++;
    t->connected += r.connected;
    t->direct += r.direct;
    t->oracle += theory;
    t->oracle_direct += theory && r.direct;
    t->packets += r.packets;
    t->probes += r.probes;
    if (r.connected)
        t->hist[r.usable / (10 * TW_MSEC) < 200 ? r.usable / (10 * TW_MSEC) : 199]++;
}

/* Wilson's interval, 95 of 100. */
static void share(const char *what, uint64_t k, uint64_t n)
{
    double p = (double)k / (double)n, z = 1.96, d = 1 + z * z / (double)n;
    double mid = (p + z * z / (2 * (double)n)) / d;
    double half = z * sqrt(p * (1 - p) / (double)n + z * z / (4.0 * (double)n * (double)n)) / d;
    printf("%-46s %8.4f %% (%.4f to %.4f)\n", what, 100 * p, 100 * (mid - half), 100 * (mid + half));
}

static double hist_ms(const struct tally *t, double part)
{
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) {
        sum += t->hist[i];
        if ((double)sum >= part * (double)t->connected)
            return 10.0 * i + 5;
    }
    return 2000;
}

static int population(uint64_t pairs, unsigned jobs)
{
    struct tally sum = { 0 };
    int pipes[64][2];
    if (jobs < 1 || jobs > 64)
        jobs = 2;
    for (unsigned j = 0; j < jobs; j++) {
        if (pipe(pipes[j]))
            return 1;
        if (fork() == 0) {
            struct tally t = { 0 };
            for (uint64_t i = j; i < pairs; i += jobs) {
                one_pair(&t, i);
                if (j == 0 && i % (pairs / 20 * jobs + jobs) == 0)
                    fprintf(stderr, "%llu of %llu pairs\n", (unsigned long long)i,
                            (unsigned long long)pairs);
            }
            _exit(write(pipes[j][1], &t, sizeof(t)) == (ssize_t)sizeof(t) ? 0 : 1);
        }
    }
    for (unsigned j = 0; j < jobs; j++) {
        struct tally t;
        if (read(pipes[j][0], &t, sizeof(t)) != (ssize_t)sizeof(t))
            return 1;
        uint64_t *to = (uint64_t *)&sum;
        const uint64_t *from = (const uint64_t *)&t;
        for (size_t i = 0; i < sizeof(t) / sizeof(*to); i++)
            to[i] += from[i];
        wait(NULL);
    }
    share("connected", sum.connected, sum.pairs);
    share("connected directly", sum.direct, sum.pairs);
    share("relayed", sum.connected - sum.direct, sum.pairs);
    share("what an all-knowing one connects directly", sum.oracle, sum.pairs);
    share("of that, connected directly", sum.oracle_direct, sum.oracle);
    printf("usable after %.0f ms (median), %.0f ms (99 of 100); packets a pair %.0f, of them probes %.0f\n",
           hist_ms(&sum, 0.5), hist_ms(&sum, 0.99), (double)sum.packets / (double)sum.pairs,
           (double)sum.probes / (double)sum.pairs);
    puts("published by others, on their own mixes: DCUtR 70 % +- 7.1 of 4.4 million attempts (arXiv\n"
         "2510.27500); Tailscale \"> 90 %\"; iroh \"roughly 9 of 10 network configurations\"");
    return sum.connected == sum.pairs ? 0 : 1;
}

static bool find_kind(const char *text, struct sim_nat_kind *ret)
{
    bool found = nat_kind_find(text, ret);
    if (!found)
        fprintf(stderr, "icesim: there is no NAT \"%s\"; such as I/AP/keep\n", text);
    return found;
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

static int replay(const char *file, bool verbose)
{
    static char text[32768];
    struct replay r;
    FILE *in = fopen(file, "r");
    if (!in) {
        perror(file);
        return 2;
    }
    bool ok = replay_run(in, verbose, &r);
    fclose(in);
    if (!ok) {
        fprintf(stderr, "icesim: %s: line %u is none of a tape\n", file, r.bad);
    } else {
        tw_ice_explain(r.ice, text, sizeof(text));
        printf("%s%u inputs, %u datagrams sent; ", text, r.inputs, r.sent);
        if (r.wrong)
            printf("from line %u on it went otherwise than on the tape\n", r.wrong);
        else
            puts("just as on the tape");
    }
    tw_ice_free(r.ice);
    return !ok ? 2 : r.wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0)
        return 1;
    if (argc >= 2 && !strcmp(argv[1], "sweep"))
        return sweep(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
    if (argc >= 2 && !strcmp(argv[1], "population"))
        return population(argc > 2 ? strtoull(argv[2], NULL, 10) : 100000,
                          argc > 3 ? (unsigned)atoi(argv[3]) : 2);
    if (argc >= 4 && !strcmp(argv[1], "one"))
        return one(argv[2], argv[3], argc > 4 ? strtoull(argv[4], NULL, 10) : 1);
    if (argc >= 3 && !strcmp(argv[1], "replay"))
        return replay(argv[2], argc > 3 && !strcmp(argv[3], "-v"));
    fprintf(stderr, "usage: icesim sweep [RUNS] | population [PAIRS] [JOBS] | one NAT NAT [SEED] |\n"
                    "              replay TAPE [-v]\n");
    return 2;
}
