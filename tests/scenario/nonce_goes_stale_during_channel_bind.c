/* The nonce expires; the next ChannelBind is answered 438 with a new one and goes through. */
#include "../sim/story.h"

static void story(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    st->relay.cfg.nonce_lifetime = 5;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    story_run(st, 20 * TW_SEC);
    uint64_t challenges = relay_node_stats(&st->relay).challenges_sent;
    story_bind(st);
    assert_int_equal(relay_node_stats(&st->relay).challenges_sent, challenges + 1);
    assert_ok(story_send(st, "x", 1));
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, 1);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(story))
