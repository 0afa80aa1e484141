/* Refreshes of allocation, permission and channel come in time, and end when they are not wanted. */
#include "../sim/story.h"

static void kept_alive(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    story_bind(st);
    for (int minute = 0; minute < 180; minute++) {
        assert_ok(story_send(st, "x", 1));
        story_run(st, 60 * TW_SEC);
    }
    assert_int_equal(st->client.data_n, 180);
    assert_int_equal(relay_node_stats(&st->relay).allocations_ended, 0);
    story_end(st);
}

static void forgotten_peer(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    story_bind(st);
    tw_turn_forget(st->client.turn, &st->peer.local);
    story_run(st, 301 * TW_SEC);
    peer_node_send(&st->peer, &st->client.allocated.relayed[0], "x", 1, 0);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, 0);
    assert_int_equal(relay_node_stats(&st->relay).drop_no_permission, 1);
    story_end(st);
}

static void client_falls_silent(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    sim_host_set_link(st->client.host, (struct sim_link){ .loss = 1000 });
    story_run(st, 601 * TW_SEC);
    assert_int_equal(relay_node_stats(&st->relay).allocations_ended, 1);
    assert_int_equal(tw_relay_shared_allocations(st->relay.shared), 0);
    story_end(st);
}

static void closed_politely(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    tw_turn_close(st->client.turn, sim_now(st->sim));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_CLOSED);
    assert_int_equal(tw_relay_shared_allocations(st->relay.shared), 0);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(kept_alive), cmocka_unit_test(forgotten_peer),
           cmocka_unit_test(client_falls_silent), cmocka_unit_test(closed_politely))
