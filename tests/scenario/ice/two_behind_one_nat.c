/* Two peers in one house talk inside it; two behind one carrier's NAT through its hairpin, or the relay. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static const struct sim_link link20 = { .delay = 20 * TW_MSEC };

static void one_house(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NAT_KIND_COUNT; i++) {
        struct place p = { .natted = true, .nat = nat_kind_at(i), .link = link20 };
        struct world_options o = { .a = p, .b = p, .same_nat = true, .seed = i + 1 };
        struct outcome r = world_run(&o);
        assert_true(r.connected && r.direct);
        assert_int_equal(r.remote_type, TW_ICE_HOST);
        assert_true(r.usable <= 5 * TW_MSEC);
    }
}

static void behind_carriers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        for (unsigned j = 0; j < 12; j++) {
            struct place a = { .natted = true, .nat = nat_kind_at(8), .carrier = true,
                               .outer = nat_kind_at(i), .link = link20 };
            struct place b = a;
            b.outer = nat_kind_at(j);
            struct world_options o = { .a = a, .b = b, .seed = i * 12 + j + 1 };
            struct outcome r = world_run(&o);
            assert_true(r.connected && r.direct);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(one_house), cmocka_unit_test(behind_carriers) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
