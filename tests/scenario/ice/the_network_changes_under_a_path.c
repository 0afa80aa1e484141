/* Addresses come and go, NATs forget, hosts sleep: data flows again soon after, over a new path where the
 * old one is gone, without one where a second one was there before. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static struct world w;

/* metered: "a", "b" or nobody is in such a network; delay: of each one's link. */
static void begin_at(const char *metered, tw_time delay)
{
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = delay } };
    struct world_options o = { .a = home, .b = home, .seed = 11 };
    world_begin(&w, &o);
    w.a.interfaces[0].cost = *metered == 'a';
    w.b.interfaces[0].cost = *metered == 'b';
    assert_true(world_connect(&w, &o).direct);
    w.a.echo = w.b.echo = false;
}

static void begin(void)
{
    begin_at("", 20 * TW_MSEC);
}

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

/* How long until data of a's comes to b again, trying every 20 ms. */
static tw_time silence(tw_time limit)
{
    tw_time start = sim_now(w.sim);
    uint64_t before = w.b.data_n;
    while (w.b.data_n == before && sim_now(w.sim) - start < limit) {
        (void)!ice_node_send(&w.a, "x", 1);
        run(20 * TW_MSEC);
    }
    return sim_now(w.sim) - start;
}

/* Wi-Fi to Wi-Fi: the old address is gone at once. */
static void to_another_network(void **state)
{
    (void)state;
    begin();
    run(7 * TW_SEC);
    struct sim_nat *other = sim_nat(w.sim, ip("198.51.150.1"), nat_kind_at(9), NULL);
    sim_nat_set_link(other, (struct sim_link){ .delay = 20 * TW_MSEC });
    sim_host_move(w.a.host, ip("10.9.9.9"), other);
    w.a.interfaces[0].ip = ip("10.9.9.9");
    ice_node_gather(&w.a);
    tw_time gap = silence(20 * TW_SEC);
    print_message("another network: data after %lld ms\n", (long long)(gap / TW_MSEC));
    assert_true(gap <= 500 * TW_MSEC);
    run(10 * TW_SEC);
    assert_true(ice_node_is_direct(&w.a) && ice_node_is_direct(&w.b));
    world_end(&w);
}

/* A second address comes, later the first one goes: make before break. */
static void a_second_way_is_there_before(void **state)
{
    (void)state;
    begin();
    run(7 * TW_SEC);
    struct tw_addr second = ip("192.168.1.77"); /* of the same network here: another cable */
    sim_host_add_ip(w.a.host, second);
    w.a.interfaces[1] = (struct tw_ice_interface){ .name = "eth1", .ip = second };
    w.a.interface_n = 2;
    ice_node_gather(&w.a);
    run(2 * TW_SEC);
    assert_int_equal(w.a.disconnects, 0);
    w.a.interfaces[0] = w.a.interfaces[1];
    w.a.interface_n = 1;
    sim_host_move(w.a.host, second, w.nat_a);
    ice_node_gather(&w.a);
    tw_time gap = silence(20 * TW_SEC);
    print_message("a second way: data after %lld ms, %u interruptions\n", (long long)(gap / TW_MSEC),
                  w.a.disconnects);
    assert_true(gap <= 80 * TW_MSEC);
    assert_int_equal(w.a.disconnects, 0);
    world_end(&w);
}

/* Of either side: another way is taken as soon as there is one, and it is gone back to when that is gone. */
static void a_metered_network_is_used_last(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        begin_at(who ? "b" : "a", 20 * TW_MSEC);
        struct ice_node *n = who ? &w.b : &w.a;
        struct tw_addr first = n->interfaces[0].ip, second = ip(who ? "192.168.2.77" : "192.168.1.77");
        run(10 * TW_SEC);
        sim_host_add_ip(n->host, second);
        n->interfaces[1] = (struct tw_ice_interface){ .name = "eth1", .ip = second };
        n->interface_n = 2;
        ice_node_gather(n);
        tw_time start = sim_now(w.sim);
        while (!tw_addr_eq_ip(&n->path.local, &second) && sim_now(w.sim) < start + 20 * TW_SEC)
            (void)silence(TW_SEC);
        print_message("%s has another network than the metered one: in use after %lld ms\n", who ? "b" : "a",
                      (long long)((sim_now(w.sim) - start) / TW_MSEC));
        assert_true(tw_addr_eq_ip(&n->path.local, &second));
        run(20 * TW_SEC);
        assert_true(tw_addr_eq_ip(&n->path.local, &second));
        n->interface_n = 1;
        ice_node_gather(n);
        tw_time gap = silence(20 * TW_SEC);
        print_message("and that is gone: data after %lld ms\n", (long long)(gap / TW_MSEC));
        run(10 * TW_SEC);
        assert_true(gap <= 2 * TW_SEC && tw_addr_eq_ip(&n->path.local, &first));
        world_end(&w);
    }
}

static void a_nat_forgets(void **state)
{
    (void)state;
    begin();
    run(7 * TW_SEC);
    sim_nat_reboot(w.nat_b);
    tw_time gap = silence(60 * TW_SEC);
    print_message("NAT reboot: data after %lld ms\n", (long long)(gap / TW_MSEC));
    assert_true(gap <= 10 * TW_SEC);
    world_end(&w);
}

/* Who only listens can't know, but by that it hears nothing any more. */
static void a_nat_forgets_who_only_listens(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 250; i++)
        (void)silence(20 * TW_MSEC);
    sim_nat_reboot(w.nat_b);
    tw_time gap = silence(60 * TW_SEC);
    print_message("NAT reboot, and the one behind it only listens: data after %lld ms\n", (long long)(gap / TW_MSEC));
    assert_true(gap <= 2500 * TW_MSEC);
    world_end(&w);
}

/* Carriers' NATs end mappings after about a minute, used or not (facts: 48 to 75 s). */
static void a_carrier_ends_mappings(void **state)
{
    (void)state;
    for (int ports = SIM_PORTS_PRESERVED; ports <= SIM_PORTS_RANDOM; ports += SIM_PORTS_RANDOM) {
        struct sim_nat_kind k = { .filtering = SIM_ADDRESS_AND_PORT, .ports = (enum sim_ports)ports,
                                  .life = 60 * TW_SEC };
        struct place mobile = { .natted = true, .nat = k, .link = { .delay = 20 * TW_MSEC } };
        struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC } };
        struct world_options o = { .a = mobile, .b = home, .seed = 12 };
        world_begin(&w, &o);
        assert_true(world_connect(&w, &o).direct);
        tw_time longest = 0, sum = 0;
        for (int i = 0; i < 1500; i++) { /* five minutes */
            tw_time gap = silence(30 * TW_SEC);
            longest = gap > longest ? gap : longest;
            sum += gap;
            run(200 * TW_MSEC);
        }
        print_message("mappings of a minute, %s ports: longest silence %lld ms, average %lld ms\n",
                      ports == SIM_PORTS_RANDOM ? "other" : "the same", (long long)(longest / TW_MSEC),
                      (long long)(sum / 1500 / TW_MSEC));
        assert_true(longest <= 2 * TW_SEC);
        world_end(&w);
    }
}

static void a_host_sleeps(void **state)
{
    (void)state;
    begin();
    run(7 * TW_SEC);
    sim_host_sleep(w.b.host, sim_now(w.sim) + 600 * TW_SEC);
    run(590 * TW_SEC);
    assert_false(w.a.connected);
    run(11 * TW_SEC);
    tw_time gap = silence(60 * TW_SEC);
    print_message("after ten minutes asleep: data after %lld ms\n", (long long)(gap / TW_MSEC));
    assert_true(gap <= 20 * TW_SEC);
    world_end(&w);
}

static void flow(tw_time span)
{
    for (tw_time end = sim_now(w.sim) + span; sim_now(w.sim) < end; run(20 * TW_MSEC))
        (void)!ice_node_send(&w.a, "x", 1);
}

static bool stops(void *ctx, const struct tw_addr *src, const struct tw_addr *dst, struct tw_bytes data)
{
    (void)ctx, (void)src, (void)dst, (void)data;
    return sim_now(w.sim) % TW_SEC < 150 * TW_MSEC;
}

/* Two round trips and 200 ms: a busy machine, or a long way, is nothing to change a path for. */
static void what_takes_long_is_no_silence(void **state)
{
    static const struct {
        tw_time delay; /* of each of two links */
        bool stops;    /* for 150 ms in each second nothing gets through */
    } cases[] = { { 800 * TW_MSEC, false }, { 250 * TW_MSEC, false }, { TW_MSEC / 10, true } };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        begin_at("", cases[i].delay);
        run(60 * TW_SEC);
        unsigned silences = w.a.silences + w.b.silences, paths = w.a.paths + w.b.paths;
        if (cases[i].stops)
            sim_set_fault(w.sim, stops, NULL);
        flow(600 * TW_SEC);
        assert_int_equal(w.a.silences + w.b.silences, silences);
        assert_int_equal(w.a.paths + w.b.paths, paths);
        world_end(&w);
    }
}

/* The machine was stopped and went on, or somebody set the clock that should never be set. */
static void a_clock_jumps(void **state)
{
    static const tw_time jumps[] = { 20 * TW_SEC, 3600 * TW_SEC, 30 * 24 * 3600 * TW_SEC };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(jumps); i++) {
        begin();
        run(7 * TW_SEC);
        w.b.clock += jumps[i];
        ice_node_pump(&w.b);
        tw_time gap = silence(60 * TW_SEC);
        print_message("a clock jumps by %lld s: data after %lld ms\n", (long long)(jumps[i] / TW_SEC),
                      (long long)(gap / TW_MSEC));
        assert_true(gap <= TW_SEC);
        run(60 * TW_SEC);
        assert_true(w.a.connected && w.b.connected && ice_node_is_direct(&w.b));
        world_end(&w);
    }
}

/* Big packets vanish without a word. Checks are small, and a path that carries small data is kept: how
 * much fits is for the layer above to find out. */
static void big_packets_vanish(void **state)
{
    (void)state;
    static uint8_t big[1400];
    struct place home = { .natted = true, .nat = nat_kind_at(8),
                          .link = { .delay = 20 * TW_MSEC } };
    struct sim_nat_kind six = { .filtering = SIM_ADDRESS_AND_PORT };
    struct world_options o = { .a = home, .b = home, .seed = 4 };
    assert_ok(tw_nat64_parse("64:ff9b::/96", &six.nat64)); /* IPv6 is never cut into pieces */
    o.a.nat = six;
    world_begin(&w, &o);
    assert_true(world_connect(&w, &o).direct);
    w.b.echo = true;
    sim_host_set_link(w.a.host, (struct sim_link){ .delay = TW_MSEC, .mtu = 1280, .black_hole = true });
    for (int i = 0; i < 100; i++) {
        assert_ok(ice_node_send(&w.a, i % 2 ? big : big + 1000, i % 2 ? sizeof(big) : 400));
        run(20 * TW_MSEC);
    }
    run(TW_SEC);
    assert_int_equal(w.a.data_n, 50);
    assert_true(ice_node_is_direct(&w.a));
    assert_int_equal(w.a.disconnects, 0);
    world_end(&w);
}

/* Checks go through, data does not: such a path loses its place. */
static bool no_data(void *ctx, const struct tw_addr *src, const struct tw_addr *dst,
                    struct tw_bytes data)
{
    const struct tw_addr *relay = ctx;
    return !tw_addr_eq_ip(dst, relay) && !tw_addr_eq_ip(src, relay) && !tw_stun_is(data.p, data.n);
}

static void a_path_carries_no_data(void **state)
{
    (void)state;
    begin();
    struct tw_addr relay = relay_node_addr(&w.relay);
    run(TW_SEC);
    sim_set_fault(w.sim, no_data, &relay);
    tw_time gap = silence(60 * TW_SEC);
    print_message("a path that carries no data: data after %lld ms\n", (long long)(gap / TW_MSEC));
    assert_true(gap <= 15 * TW_SEC);
    assert_false(ice_node_is_direct(&w.a));
    world_end(&w);
}

static void a_restart_interrupts_nothing(void **state)
{
    (void)state;
    begin();
    run(7 * TW_SEC);
    assert_ok(tw_ice_restart(w.a.ice, sim_now(w.sim)));
    assert_ok(tw_ice_restart(w.b.ice, sim_now(w.sim)));
    ice_node_pump(&w.a);
    ice_node_pump(&w.b);
    for (int i = 0; i < 20; i++) /* nothing is known of the peer's new credentials yet */
        assert_int_equal(silence(TW_SEC) <= 60 * TW_MSEC, 1);
    ice_node_tell(&w.a);
    ice_node_tell(&w.b);
    sim_run(w.sim, sim_now(w.sim) + 60 * TW_MSEC, NULL); /* what is on its way */
    uint64_t before = w.b.data_n;
    for (int i = 0; i < 100; i++) {
        assert_ok(ice_node_send(&w.a, "x", 1));
        run(20 * TW_MSEC);
    }
    run(TW_SEC);
    assert_int_equal(w.b.data_n - before, 100);
    assert_int_equal(w.a.disconnects + w.b.disconnects, 0);
    run(60 * TW_SEC);
    assert_true(w.a.connected && w.b.connected && ice_node_is_direct(&w.a));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(to_another_network),    cmocka_unit_test(a_second_way_is_there_before),
        cmocka_unit_test(a_metered_network_is_used_last),
        cmocka_unit_test(a_nat_forgets),         cmocka_unit_test(a_nat_forgets_who_only_listens),
        cmocka_unit_test(a_host_sleeps),         cmocka_unit_test(what_takes_long_is_no_silence),
        cmocka_unit_test(a_carrier_ends_mappings), cmocka_unit_test(a_clock_jumps),
        cmocka_unit_test(big_packets_vanish),
        cmocka_unit_test(a_path_carries_no_data), cmocka_unit_test(a_restart_interrupts_nothing),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
