/* ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §7): IPv4 and IPv6 peers through one allocation; one family
 * may fail without the other, and one may be given back alone. */
#include "../sim/story.h"

static struct peer_node peer6;

static void both(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ .families = TW_TURN_V4 | TW_TURN_V6 });
    peer_node_init(&peer6, st->sim, ip("2a00:1::7"), NULL, CLEAN);
    peer6.echo = true;
    turn_node_allocate(&st->client);
    assert_int_equal(st->client.allocated.relayed_n, 2);
    assert_ok(story_send(st, "four", 4));
    assert_ok(tw_turn_send(st->client.turn, sim_now(st->sim), &peer6.local, tw_bytes("sechs", 5), 0,
                           0));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.len, 4);
    assert_int_equal(peer6.len, 5);
    assert_int_equal(st->client.data_n, 2);
    story_end(st);
}

static void only_v6(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ .families = TW_TURN_V6 });
    turn_node_allocate(&st->client);
    assert_int_equal(st->client.allocated.relayed_n, 1);
    assert_int_equal(st->client.allocated.relayed[0].family, TW_FAMILY_V6);
    assert_int_equal(tw_turn_permit(st->client.turn, sim_now(st->sim), &st->peer.local), TW_EINVAL);
    story_end(st);
}

static void server_has_no_v6(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    st->relay.cfg.relay_n = 1;
    story_start(st, (struct tw_turn_config){ .families = TW_TURN_V4 | TW_TURN_V6 });
    turn_node_allocate(&st->client);
    assert_int_equal(st->client.allocated.relayed_n, 1);
    story_end(st);
}

static void server_has_no_v6_and_only_that_was_asked_for(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    st->relay.cfg.relay_n = 1;
    story_start(st, (struct tw_turn_config){ .families = TW_TURN_V6 });
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 440);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(both), cmocka_unit_test(only_v6), cmocka_unit_test(server_has_no_v6),
           cmocka_unit_test(server_has_no_v6_and_only_that_was_asked_for))
