/* Binding fails: other ports are tried, a bounded number of times, then 508; nothing is kept. */
#include "../sim/story.h"

static void a_few_times(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    st->relay.open_errors_left = 3;
    turn_node_allocate(&st->client);
    assert_int_equal(st->relay.opens, 4);
    story_bind(st);
    story_end(st);
}

static void always(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    st->relay.open_errors_left = 1000;
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 508);
    assert_int_equal(st->relay.opens, 8);
    assert_int_equal(tw_relay_shared_allocations(st->relay.shared), 0);
    story_end(st);
}

/* Both go, and another pair is tried. */
static void of_a_pair(void **state)
{
    (void)state;
    for (unsigned errors = 1; errors < 20; errors++) {
        struct story *st = story_begin(1);
        story_start(st, (struct tw_turn_config){ .port = TW_TURN_PORT_PAIR });
        st->relay.open_errors_left = errors;
        assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
        turn_node_pump(&st->client);
        story_run(st, TW_SEC);
        bool enough = st->client.last.type == TW_TURN_ALLOCATED;
        assert_true(enough || (st->client.last.type == TW_TURN_FAILED && st->client.last.code == 508));
        assert_true(errors > 5 ? errors < 17 || !enough : enough);
        struct tw_addr any = st->relay.cfg.relays[0].ip;
        uint64_t used = 0;
        for (unsigned port = 49152; port < 65536; port++) { /* nothing is left over */
            any.port = (uint16_t)port;
            used += !sim_open(st->relay.host, 99, any, NULL);
            sim_close(st->relay.host, 99);
        }
        assert_int_equal(used, enough ? 2 : 0);
        assert_int_equal(tw_relay_shared_allocations(st->relay.shared), enough ? 1 : 0);
        story_end(st);
    }
}

STORY_MAIN(cmocka_unit_test(a_few_times), cmocka_unit_test(always),
           cmocka_unit_test(of_a_pair))
