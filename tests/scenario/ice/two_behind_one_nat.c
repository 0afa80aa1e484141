/* Two peers in one house talk inside it; two behind one carrier's NAT by its hairpin, or the relay. */
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

/* Two houses of one carrier: by its hairpin, if it has one (RFC 4787 REQ-9); else over the relay, unless a
 * router tells its own outside address, which is in the carrier's network. */
static void behind_one_carrier(void **state)
{
    (void)state;
    for (int hairpin = 0; hairpin < 2; hairpin++)
        for (int mapped = 0; mapped < 2; mapped++) {
            struct place a = { .natted = true, .nat = nat_kind_at(8), .carrier = true,
                               .outer = { .filtering = SIM_ADDRESS_AND_PORT, .hairpin = hairpin },
                               .link = link20, .has_gateway = mapped };
            struct world_options o = { .a = a, .b = a, .same_carrier = true, .seed = 77 };
            struct outcome r = world_run(&o);
            print_message("hairpin %d, mapped %d: %s after %lld ms\n", hairpin, mapped,
                          r.direct ? "direct" : "relayed",
                          (long long)((r.direct ? r.direct_after : r.usable) / TW_MSEC));
            assert_true(r.connected);
            assert_int_equal(r.direct, hairpin || mapped);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(one_house), cmocka_unit_test(behind_carriers),
                                        cmocka_unit_test(behind_one_carrier) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
