/* Port mappings by PCP and NAT-PMP: what they make possible, and that they are kept and given back. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static const struct sim_link link20 = { .delay = 20 * TW_MSEC };
static struct world w;
static char text[16384];

/* Both behind the hardest kind of NAT: nothing but a mapping, or a relay, helps. */
static struct world_options two_hard(enum gateway_speech speech)
{
    struct sim_nat_kind hard = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                 .ports = SIM_PORTS_RANDOM };
    struct place b = { .natted = true, .nat = hard, .link = link20 }, a = b;
    a.has_gateway = true;
    a.gateway = speech;
    return (struct world_options){ .a = a, .b = b, .seed = 5 };
}

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

static void hard_ones_meet_directly(void **state)
{
    (void)state;
    for (enum gateway_speech s = GATEWAY_PCP; s <= GATEWAY_DUMB; s++) {
        struct world_options o = two_hard(s);
        world_begin(&w, &o);
        struct outcome r = world_connect(&w, &o);
        print_message("gateway kind %d: %s after %lld ms\n", (int)s, r.direct ? "direct" : "relayed",
                      (long long)((r.direct ? r.direct_after : r.usable) / TW_MSEC));
        assert_true(r.connected);
        assert_int_equal(r.direct, s != GATEWAY_DUMB);
        assert_int_equal(w.a.maps_wanted, s == GATEWAY_DUMB);
        assert_true(!r.direct || r.direct_after <= TW_SEC);
        world_end(&w);
    }
}

static void gathering_does_not_wait_for_a_dumb_one(void **state)
{
    (void)state;
    struct world_options o = two_hard(GATEWAY_DUMB);
    o.no_relay = true;
    world_begin(&w, &o);
    assert_true(w.a.gathered && w.a.gathered_at <= 1000 * TW_SEC + 160 * TW_MSEC);
    world_end(&w);
}

static void kept_for_hours_and_given_back(void **state)
{
    (void)state;
    for (enum gateway_speech s = GATEWAY_PCP; s <= GATEWAY_NATPMP; s++) {
        struct world_options o = two_hard(s);
        world_begin(&w, &o);
        w.gateway_a.lifetime = 600;
        assert_true(world_connect(&w, &o).direct);
        run(5 * 3600 * TW_SEC);
        assert_true(w.a.connected && ice_node_is_direct(&w.a));
        assert_int_equal(w.a.disconnects, 0);
        print_message("renewed %u times in five hours\n", w.gateway_a.asked);
        assert_true(w.gateway_a.asked >= 40 && w.gateway_a.asked <= 65);
        assert_int_equal(w.gateway_a.removed, 0);
        tw_ice_close(w.a.ice, sim_now(w.sim));
        ice_node_pump(&w.a);
        run(TW_SEC);
        assert_true(w.a.closed);
        assert_int_equal(w.gateway_a.removed, 1);
        world_end(&w);
    }
}

/* The clock of a gateway that has started anew gives it away (RFC 6887 §8.5). */
static void a_gateway_reboots(void **state)
{
    (void)state;
    for (enum gateway_speech s = GATEWAY_PCP; s <= GATEWAY_NATPMP; s++) {
        struct world_options o = two_hard(s);
        world_begin(&w, &o);
        assert_true(world_connect(&w, &o).direct);
        run(100 * TW_SEC);
        unsigned before = w.gateway_a.mapped;
        gateway_node_reboot(&w.gateway_a);
        run(120 * TW_SEC);
        assert_true(w.gateway_a.mapped > before);
        assert_true(w.a.connected && ice_node_is_direct(&w.a));
        world_end(&w);
    }
}

static void a_refusal_is_told(void **state)
{
    (void)state;
    enum { NOT_AUTHORIZED = 2 };
    struct world_options o = two_hard(GATEWAY_PCP);
    world_begin(&w, &o);
    gateway_node_reboot(&w.gateway_a);
    w.gateway_a.refuse = NOT_AUTHORIZED;
    struct tw_ice_interface moved = w.a.interfaces[0];
    w.a.interfaces[0].gateway = (struct tw_addr){ 0 };
    ice_node_gather(&w.a);
    w.a.interfaces[0] = moved; /* known again: asked again */
    ice_node_gather(&w.a);
    run(TW_SEC);
    tw_ice_explain(w.a.ice, text, sizeof(text));
    assert_non_null(strstr(text, "gateway 192.168.1.1:5351 gives no port mapping: it does not allow it"));
    world_end(&w);
}

/* Somebody who does not know the nonce cannot make us believe in a mapping. */
static void a_forged_answer_is_ignored(void **state)
{
    (void)state;
    struct world_options o = two_hard(GATEWAY_PCP);
    world_begin(&w, &o);
    w.gateway_a.lie = true;
    struct tw_ice_interface moved = w.a.interfaces[0];
    w.a.interfaces[0].gateway = (struct tw_addr){ 0 };
    ice_node_gather(&w.a);
    w.a.interfaces[0] = moved;
    ice_node_gather(&w.a);
    run(10 * TW_SEC);
    tw_ice_explain(w.a.ice, text, sizeof(text));
    assert_null(strstr(text, "port mapping: 192"));
    assert_non_null(strstr(text, "speaks neither PCP nor NAT-PMP"));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_ones_meet_directly),
        cmocka_unit_test(gathering_does_not_wait_for_a_dumb_one),
        cmocka_unit_test(kept_for_hours_and_given_back),
        cmocka_unit_test(a_gateway_reboots),
        cmocka_unit_test(a_refusal_is_told),
        cmocka_unit_test(a_forged_answer_is_ignored),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
