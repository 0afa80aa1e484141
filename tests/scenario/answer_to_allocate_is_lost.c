/* The success is lost; the retransmitted Allocate gets the same allocation, not a 437. */
#include "../sim/story.h"

static void story(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
    story_run(st, 25 * TW_MSEC); /* the 401 is back, the signed Allocate under way */
    sim_host_set_link(st->client.host, (struct sim_link){ .delay = 5 * TW_MSEC, .loss = 1000 });
    story_run(st, 300 * TW_MSEC);
    assert_int_equal(relay_node_stats(&st->relay).allocations_made, 1);
    assert_false(st->client.is_allocated);
    sim_host_set_link(st->client.host, CLEAN);
    story_run(st, 2 * TW_SEC);
    assert_true(st->client.is_allocated);
    assert_int_equal(relay_node_stats(&st->relay).allocations_made, 1);
    assert_int_equal(st->relay.opens, 1);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(story))
