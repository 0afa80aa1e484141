/* A path that carries nothing is refreshed as often as its NATs need, and not much more often. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static struct world w;

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

/* An hour without data between NATs that forget after so long; then a word, which must arrive at once.
 * Returns the packets of the second half hour. */
static uint64_t an_hour(unsigned forgets_a, unsigned forgets_b)
{
    struct sim_nat_kind a = { .filtering = SIM_ADDRESS_AND_PORT, .idle = forgets_a * TW_SEC };
    struct sim_nat_kind b = { .filtering = SIM_ADDRESS_AND_PORT, .idle = forgets_b * TW_SEC };
    struct world_options o = { .a = { .natted = true, .nat = a, .link = { .delay = 20 * TW_MSEC } },
                               .b = { .natted = true, .nat = b, .link = { .delay = 20 * TW_MSEC } },
                               .no_relay = true, .seed = forgets_a };
    world_begin(&w, &o);
    assert_true(world_connect(&w, &o).direct);
    w.b.echo = true;
    run(1800 * TW_SEC);
    uint64_t before = sim_counts(w.sim).sent;
    run(1800 * TW_SEC);
    uint64_t packets = sim_counts(w.sim).sent - before;
    assert_int_equal(w.a.disconnects + w.b.disconnects, 0);
    assert_true(ice_node_is_direct(&w.a));
    tw_time at = sim_now(w.sim);
    assert_ok(ice_node_send(&w.a, "x", 1));
    run(TW_SEC);
    assert_int_equal(w.a.data_n, 1);
    assert_true(w.a.data_at - at <= 90 * TW_MSEC);
    print_message("NATs that forget after %u s and %u s: %llu packets in half an hour, both together\n", forgets_a,
                  forgets_b, (unsigned long long)packets);
    world_end(&w);
    return packets;
}

static void nats_of_many_lifetimes(void **state)
{
    (void)state;
    static const unsigned forget[] = { 25, 35, 45, 65, 90, 120, 180, 400 };
    uint64_t first = 0, last = 0;
    for (size_t i = 0; i < ARRAY_LEN(forget); i++) {
        last = an_hour(forget[i], forget[i]);
        first = first ? first : last;
    }
    an_hour(30, 400);
    an_hour(400, 30);
    assert_true(last * 4 <= first);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nats_of_many_lifetimes) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
