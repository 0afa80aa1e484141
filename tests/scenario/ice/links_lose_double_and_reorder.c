/* Bad links: all easy pairs are connected all the same, of our kind and by the RFC. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static int by_time(const void *a, const void *b)
{
    tw_time x = *(const tw_time *)a, y = *(const tw_time *)b;
    return x < y ? -1 : x > y;
}

static void bad(const char *name, struct sim_link link, bool foreign)
{
    enum { RUNS = 200 };
    tw_time t[RUNS];
    unsigned direct = 0;
    for (unsigned i = 0; i < RUNS; i++) {
        struct place p = { .natted = true, .nat = nat_kind_at(8), .link = link };
        struct world_options o = { .a = p, .b = p, .seed = i + 1, .foreign = foreign, .limit = 40 * TW_SEC };
        struct outcome r = world_run(&o);
        assert_true(r.connected);
        direct += r.direct;
        t[i] = r.usable;
    }
    qsort(t, RUNS, sizeof(*t), by_time);
    print_message("%s, %s: usable after %lld ms (median), %lld ms (95th of 100), direct %u of %u\n", name,
                  foreign ? "RFC 8445" : "our kind", (long long)(t[RUNS / 2] / TW_MSEC),
                  (long long)(t[RUNS * 95 / 100] / TW_MSEC), direct, RUNS);
    /* A nomination by the RFC is final: what chance made the relay stays there. */
    assert_true(foreign || direct >= RUNS * 98 / 100);
}

static void all(void **state)
{
    (void)state;
    for (int foreign = 0; foreign < 2; foreign++) {
        bad("5 % loss", (struct sim_link){ .delay = 20 * TW_MSEC, .loss = 50 }, foreign);
        bad("20 % loss", (struct sim_link){ .delay = 20 * TW_MSEC, .loss = 200 }, foreign);
        bad("bursts of 100 ms", (struct sim_link){ .delay = 20 * TW_MSEC, .loss = 20,
                                                   .burst = 100 * TW_MSEC }, foreign);
        bad("doubled and late", (struct sim_link){ .delay = 20 * TW_MSEC, .jitter = 20 * TW_MSEC,
                                                   .twice = 200, .late = 200 }, foreign);
        bad("by satellite", (struct sim_link){ .delay = 300 * TW_MSEC }, foreign);
        bad("64 kbit/s", (struct sim_link){ .delay = 20 * TW_MSEC, .rate = 8000 }, foreign);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(all) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
