/* 486 when a user or the server has enough; one ends, one begins. */
#include "../sim/story.h"

static struct turn_node more[3];

static void run_out(uint32_t user_quota, uint32_t total_quota)
{
    struct story *st = story_begin(2);
    st->relay.cfg.user_quota = user_quota;
    st->relay.cfg.total_quota = total_quota;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    for (int i = 0; i < 3; i++) {
        struct tw_addr a = ip("203.0.114.20");
        a.ip[3] = (uint8_t)(a.ip[3] + i);
        turn_node_init(&more[i], st->sim, a, NULL, CLEAN, &st->relay, (struct tw_turn_config){ 0 });
    }
    turn_node_allocate(&more[0]);
    assert_ok(tw_turn_allocate(more[1].turn, sim_now(st->sim)));
    turn_node_pump(&more[1]);
    story_run(st, TW_SEC);
    assert_int_equal(more[1].last.type, TW_TURN_FAILED);
    assert_int_equal(more[1].last.code, 486);
    tw_turn_close(st->client.turn, sim_now(st->sim));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    turn_node_allocate(&more[2]);
    for (int i = 0; i < 3; i++)
        turn_node_fini(&more[i]);
    story_end(st);
}

static void of_a_user(void **state)
{
    (void)state;
    run_out(2, 0);
}

static void of_the_server(void **state)
{
    (void)state;
    run_out(0, 2);
}

STORY_MAIN(cmocka_unit_test(of_a_user), cmocka_unit_test(of_the_server))
