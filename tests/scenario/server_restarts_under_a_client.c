/* The server loses all it knew. The client finds out at its next request and says so. */
#include "../sim/story.h"

static void at_the_next_channel_bind(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    relay_node_stop(&st->relay);
    relay_node_start(&st->relay);
    assert_ok(tw_turn_bind(st->client.turn, sim_now(st->sim), &st->peer.local));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_LOST);
    assert_int_equal(st->client.last.code, 437);
    assert_int_equal(tw_turn_deadline(st->client.turn), TW_NEVER);
    story_end(st);
}

static void at_the_next_refresh(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    relay_node_stop(&st->relay);
    relay_node_start(&st->relay);
    story_run(st, 600 * TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_LOST);
    assert_int_equal(st->client.last.code, 437);
    story_end(st);
}

static void it_never_comes_back(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    st->relay.quiet = true;
    story_run(st, 700 * TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_LOST);
    assert_int_equal(st->client.last.code, 0);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(at_the_next_channel_bind), cmocka_unit_test(at_the_next_refresh),
           cmocka_unit_test(it_never_comes_back))
