/* RFC 8656 §14: DSCP and ECN as they came, the hop limit less one, both ways. */
#include "../sim/story.h"

static void story(void **state)
{
    struct story *st = story_begin(1);
    enum { EF_ECT1 = 46 << 2 | 1 };
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    story_bind(st);
    assert_ok(tw_turn_send(st->client.turn, sim_now(st->sim), &st->peer.local, tw_bytes("x", 1),
                           EF_ECT1, 0));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.tos, EF_ECT1);
    assert_int_equal(st->peer.ttl, 64 - 1 - 1 - 1); /* a hop, the relay, a hop */
    assert_int_equal(st->client.data_tos, EF_ECT1);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(story))
