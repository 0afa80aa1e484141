/* Both ends are relayed by the same server, by one worker or by two: what they send each other never
 * leaves the process, and both permissions are asked for. */
#include "../sim/story.h"

static struct turn_node other;

static void meet(unsigned workers, bool other_permits)
{
    struct story *st = story_begin(workers);
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_init(&other, st->sim, ip("203.0.114.4"), NULL, CLEAN, &st->relay,
                   (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    if (workers > 1) { /* another port, so another worker */
        sim_close(other.host, 1);
        assert_true(sim_open(other.host, 1, ip("203.0.114.4"), &other.local));
        assert_true(other.local.port % workers != st->client.local.port % workers);
    }
    turn_node_allocate(&other);
    other.echo = true;
    struct tw_addr to = other.allocated.relayed[0];
    if (other_permits) {
        assert_ok(tw_turn_permit(other.turn, sim_now(st->sim), &st->client.allocated.relayed[0]));
        turn_node_pump(&other);
        story_run(st, TW_SEC);
    }
    uint64_t before = sim_counts(st->sim).delivered;
    for (int i = 0; i < 10; i++) {
        assert_ok(tw_turn_send(st->client.turn, sim_now(st->sim), &to, tw_bytes("0123456789", 10), 0,
                               0));
        turn_node_pump(&st->client);
        story_run(st, 100 * TW_MSEC);
    }
    story_run(st, TW_SEC);
    struct tw_relay_stats stats = relay_node_stats(&st->relay);
    if (!other_permits) {
        assert_int_equal(other.data_n, 0);
        assert_int_equal(stats.drop_no_permission, 10);
        assert_int_equal(stats.local_packets, 10);
    } else {
        assert_int_equal(other.data_n, 10);
        assert_int_equal(st->client.data_n, 10);
        assert_true(tw_addr_eq(&st->client.data_from, &to));
        assert_true(tw_addr_eq(&other.data_from, &st->client.allocated.relayed[0]));
        assert_int_equal(stats.local_packets, 20);
        /* Nothing arrived at a relay socket: client to server and back are all there is. */
        assert_true(sim_counts(st->sim).delivered - before <= 40 + 8);
    }
    turn_node_fini(&other);
    story_end(st);
}

static void one_worker(void **state)
{
    (void)state;
    meet(1, true);
}

static void two_workers(void **state)
{
    (void)state;
    meet(2, true);
}

static void without_permission(void **state)
{
    (void)state;
    meet(1, false);
    meet(2, false);
}

STORY_MAIN(cmocka_unit_test(one_worker), cmocka_unit_test(two_workers),
           cmocka_unit_test(without_permission))
