/* A full-size packet in a Send indication would not fit IPv6's minimum MTU: it waits for the channel,
 * while small ones may go at once. */
#include "../sim/story.h"

static void story(void **state)
{
    struct story *st = story_begin(1);
    uint8_t big[1200] = { 1 };
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    struct sim_link narrow = { .delay = 5 * TW_MSEC, .mtu = 1280 };
    sim_host_set_link(st->client.host, narrow);
    turn_node_allocate(&st->client);
    assert_ok(tw_turn_permit(st->client.turn, sim_now(st->sim), &st->peer.local));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_ok(story_send(st, big, sizeof(big)));
    assert_ok(story_send(st, "small", 5));
    assert_false(tw_turn_is_bound(st->client.turn, sim_now(st->sim), &st->peer.local));
    story_run(st, 12 * TW_MSEC);
    assert_int_equal(st->peer.n, 0);
    story_run(st, 9 * TW_MSEC); /* two and a half one-way delays: only the small one is there */
    assert_int_equal(st->peer.n, 1);
    assert_int_equal(st->peer.len, 5);
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.n, 2);
    assert_int_equal(st->peer.len, sizeof(big));
    assert_int_equal(st->client.data_n, 2);
    story_end(st);
}

static void the_queue_is_bounded(void **state)
{
    struct story *st = story_begin(1);
    uint8_t big[1200] = { 1 };
    int full = 0;
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    for (int i = 0; i < 20; i++)
        full += story_send(st, big, sizeof(big)) == TW_EFULL;
    assert_int_equal(full, 4);
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.n, 16);
    story_end(st);
}

/* Nor do peers who are not needed any more keep it out. */
static void all_places_are_taken(void **state)
{
    static uint8_t big[1200];
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ .max_peers = 4 });
    turn_node_allocate(&st->client);
    for (uint8_t last = 10; last < 20; last++) {
        struct tw_addr other = tw_addr_v4(203, 0, 114, last, 1000);
        assert_ok(tw_turn_permit(st->client.turn, sim_now(st->sim), &other));
        turn_node_pump(&st->client);
        story_run(st, TW_SEC);
    }
    assert_ok(story_send(st, big, sizeof(big)));
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, 1);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(all_places_are_taken), cmocka_unit_test(story), cmocka_unit_test(the_queue_is_bounded))
