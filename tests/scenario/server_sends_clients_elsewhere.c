/* 300 Try Alternate: the client goes on at the other server with a challenge of its own. */
#include "../sim/story.h"

static struct relay_node other;

static void story(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    relay_node_init(&other, st->sim, ip("203.0.114.50"), (struct tw_addr){ 0 }, CLEAN, 1);
    relay_node_start(&other);
    st->relay.cfg.alternate = relay_node_addr(&other);
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    assert_true(tw_addr_eq_ip(&st->client.allocated.relayed[0], &other.cfg.relays[0].ip));
    assert_int_equal(relay_node_stats(&st->relay).allocations_made, 0);
    relay_node_fini(&other);
    story_end(st);
}

static void two_servers_point_at_each_other(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    relay_node_init(&other, st->sim, ip("203.0.114.50"), (struct tw_addr){ 0 }, CLEAN, 1);
    other.cfg.alternate = relay_node_addr(&st->relay);
    relay_node_start(&other);
    st->relay.cfg.alternate = relay_node_addr(&other);
    story_start(st, (struct tw_turn_config){ 0 });
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
    story_run(st, 5 * TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 300);
    relay_node_fini(&other);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(story), cmocka_unit_test(two_servers_point_at_each_other))
