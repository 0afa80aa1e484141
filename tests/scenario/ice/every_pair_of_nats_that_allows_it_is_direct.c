/* Every kind of NAT with every other: connected always; directly wherever theory allows it. Where ports
 * are drawn by lot the direct way is found by chance, 998 times of 1000. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static const struct sim_link link20 = { .delay = 20 * TW_MSEC };

static bool needs_luck(const struct sim_nat_kind *x, const struct sim_nat_kind *y)
{
    return x->ports == SIM_PORTS_RANDOM || y->ports == SIM_PORTS_RANDOM;
}

static void matrix(void **state)
{
    unsigned lucky = 0, unlucky = 0, direct = 0;
    (void)state;
    for (unsigned i = 0; i < NAT_KIND_COUNT; i++)
        for (unsigned j = 0; j < NAT_KIND_COUNT; j++) {
            struct world_options o = {
                .a = { .natted = true, .nat = nat_kind_at(i), .link = link20 },
                .b = { .natted = true, .nat = nat_kind_at(j), .link = link20 },
                .seed = 1 + j + NAT_KIND_COUNT * i,
            };
            struct outcome r = world_run(&o);
            char x[32], y[32];
            nat_kind_name(&o.a.nat, x);
            nat_kind_name(&o.b.nat, y);
            if (!r.connected)
                fail_msg("%s and %s: not connected", x, y);
            if (r.usable > 250 * TW_MSEC)
                fail_msg("%s and %s: usable after %lld ms", x, y, (long long)(r.usable / TW_MSEC));
            direct += r.direct;
            if (!theory_allows(&o.a, &o.b))
                continue;
            if (needs_luck(&o.a.nat, &o.b.nat)) {
                lucky += r.direct;
                unlucky += !r.direct;
            } else if (!r.direct) {
                fail_msg("%s and %s: relayed", x, y);
            }
        }
    print_message("%u direct; where luck is needed %u of %u\n", direct, lucky, lucky + unlucky);
    assert_true(unlucky * 50 <= lucky + unlucky);
}

/* Ports drawn by lot on one side, an easy NAT on the other: within ten seconds, nearly always. */
static void by_luck_within_ten_seconds(void **state)
{
    enum { RUNS = 500 };
    tw_time sum = 0;
    unsigned direct = 0;
    (void)state;
    for (unsigned i = 0; i < RUNS; i++) {
        struct sim_nat_kind hard = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                     .ports = SIM_PORTS_RANDOM };
        struct place x = { .natted = true, .nat = hard, .link = link20 };
        struct place y = { .natted = true, .nat = nat_kind_at(8 + i % 4), .link = link20 };
        struct world_options o = { .a = i % 2 ? x : y, .b = i % 2 ? y : x, .seed = 1000 + i,
                                   .limit = 10 * TW_SEC };
        struct outcome r = world_run(&o);
        assert_true(r.connected);
        direct += r.direct;
        sum += r.direct ? r.direct_after : 0;
    }
    print_message("%u of %u direct within 10 s, after %lld ms on average\n", direct, RUNS,
                  (long long)(sum / TW_MSEC / direct));
    assert_true(direct * 100 >= RUNS * 98);
}

static void strangers_of_rfc_8445(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++) /* the easy ones: no probing among strangers */
        for (unsigned j = 0; j < NAT_KIND_COUNT; j++) {
            struct world_options o = {
                .a = { .natted = true, .nat = nat_kind_at(i), .link = link20 },
                .b = { .natted = true, .nat = nat_kind_at(j), .link = link20 },
                .seed = 5, .foreign = true,
            };
            struct outcome r = world_run(&o);
            assert_true(r.connected);
            if (j < 12)
                assert_true(r.direct);
            assert_int_equal(r.probes, 0);
        }
}

/* Where nothing drops what comes for the NAT itself, Linux holds a port for whoever spoke first. */
static void linux_without_a_firewall(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        struct sim_nat_kind k = { .filtering = SIM_ADDRESS_AND_PORT, .collides = true };
        struct world_options o = { .a = { .natted = true, .nat = k, .link = link20 },
                                   .b = { .natted = true, .nat = k, .link = link20 },
                                   .answer_delay = i * 20 * TW_MSEC, .seed = i + 1 };
        struct outcome r = world_run(&o);
        print_message("a %lld ms late: %s after %lld ms\n", (long long)(o.answer_delay / TW_MSEC),
                      r.direct ? "direct" : "relayed",
                      (long long)((r.direct ? r.direct_after : r.usable) / TW_MSEC));
        assert_true(r.direct && r.direct_after <= 2 * TW_SEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(matrix),
                                        cmocka_unit_test(by_luck_within_ten_seconds),
                                        cmocka_unit_test(linux_without_a_firewall),
                                        cmocka_unit_test(strangers_of_rfc_8445) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
