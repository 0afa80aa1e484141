/* A client gets a new address in the middle of a conversation (RFC 8016): the peer notices nothing, and
 * nothing that was on its way is lost. */
#include "../sim/story.h"

enum { FIRST = 1, SECOND = 2, PACKETS = 200 };

static struct tw_addr local;

/* A client that may move, with a second address on its host, and a channel to the peer. */
static struct story *begin(unsigned workers, bool mobility)
{
    struct story *st = story_begin(workers);
    st->relay.cfg.mobility = mobility;
    story_start(st, (struct tw_turn_config){ .mobility = true });
    sim_host_add_ip(st->client.host, ip("198.51.102.40"));
    assert_true(sim_open(st->client.host, SECOND, ip("198.51.102.40"), &local));
    turn_node_allocate(&st->client);
    story_bind(st);
    return st;
}

static void moves_and_goes_on(unsigned workers)
{
    struct story *st = begin(workers, true);
    assert_true(st->client.allocated.mobile);
    for (uint32_t i = 0; i < PACKETS; i++) {
        if (i == PACKETS / 2) {
            assert_ok(tw_turn_move(st->client.turn, sim_now(st->sim), SECOND));
            turn_node_pump(&st->client);
        }
        assert_ok(story_send(st, &i, sizeof(i)));
        story_run(st, TW_MSEC); /* ten are on their way at any time */
    }
    story_run(st, TW_SEC);
    const struct tw_turn_event *moved = turn_node_event(&st->client, TW_TURN_MOVED);
    assert_non_null(moved);
    assert_int_equal(st->client.data_n, PACKETS);
    sim_close(st->client.host, FIRST); /* the old address is not needed any more */
    for (int minute = 0; minute < 30; minute++) {
        assert_ok(story_send(st, "x", 1));
        story_run(st, 60 * TW_SEC);
    }
    assert_int_equal(st->client.data_n, PACKETS + 30);
    struct tw_relay_stats stats = relay_node_stats(&st->relay);
    assert_int_equal(stats.mobility_moves, 1);
    assert_int_equal(stats.allocations_made, 1);
    assert_int_equal(tw_relay_shared_allocations(st->relay.shared), 1);
    story_end(st);
}

static void at_one_worker(void **state)
{
    (void)state;
    moves_and_goes_on(1);
}

static void to_another_worker(void **state)
{
    (void)state;
    moves_and_goes_on(4);
}

/* The old way is gone before anybody moved: what a phone that left its Wi-Fi does. */
static void after_the_old_way_is_gone(void **state)
{
    struct story *st = begin(2, true);
    (void)state;
    sim_close(st->client.host, FIRST);
    story_run(st, 5 * TW_SEC);
    assert_ok(tw_turn_move(st->client.turn, sim_now(st->sim), SECOND));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_non_null(turn_node_event(&st->client, TW_TURN_MOVED));
    uint64_t before = st->client.data_n;
    assert_ok(story_send(st, "x", 1));
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, before + 1);
    story_end(st);
}

static void the_new_way_does_not_work(void **state)
{
    struct story *st = begin(2, true);
    (void)state;
    sim_close(st->client.host, SECOND);
    assert_ok(tw_turn_move(st->client.turn, sim_now(st->sim), SECOND));
    turn_node_pump(&st->client);
    for (int i = 0; i < 60; i++) {
        assert_ok(story_send(st, "x", 1));
        story_run(st, TW_SEC);
    }
    assert_non_null(turn_node_event(&st->client, TW_TURN_REFUSED));
    assert_int_equal(st->client.data_n, 60); /* the old way went on */
    story_end(st);
}

static void the_server_forbids_it(void **state)
{
    struct story *st = begin(1, false);
    (void)state;
    assert_false(st->client.allocated.mobile);
    assert_int_equal(tw_turn_move(st->client.turn, sim_now(st->sim), SECOND), TW_ESTATE);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(at_one_worker), cmocka_unit_test(to_another_worker),
           cmocka_unit_test(after_the_old_way_is_gone), cmocka_unit_test(the_new_way_does_not_work),
           cmocka_unit_test(the_server_forbids_it))
