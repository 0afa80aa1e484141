/* One client reserves a pair of ports; another, whose packets reach another worker, takes the second
 * port with the token. From then on its packets are handed over to the worker that owns it. */
#include "../sim/story.h"

static struct turn_node second;

static void redeem(unsigned workers)
{
    struct story *st = story_begin(workers);
    story_start(st, (struct tw_turn_config){ .port = TW_TURN_PORT_PAIR });
    turn_node_allocate(&st->client);
    assert_true(st->client.allocated.has_token);
    uint16_t port = st->client.allocated.relayed[0].port;
    assert_int_equal(port % 2, 0);

    struct tw_turn_config cfg = { .port = TW_TURN_PORT_TOKEN };
    memcpy(cfg.token, st->client.allocated.token, sizeof(cfg.token));
    turn_node_init(&second, st->sim, ip("203.0.114.4"), NULL, CLEAN, &st->relay, cfg);
    if (workers > 1) {
        sim_close(second.host, 1);
        assert_true(sim_open(second.host, 1, ip("203.0.114.4"), &second.local));
        assert_true(second.local.port % workers != st->client.local.port % workers);
    }
    turn_node_allocate(&second);
    assert_int_equal(second.allocated.relayed[0].port, port + 1);

    assert_ok(tw_turn_send(second.turn, sim_now(st->sim), &st->peer.local, tw_bytes("hi", 2), 0, 0));
    turn_node_pump(&second);
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.from.port, port + 1);
    assert_int_equal(second.data_n, 1);

    /* When it ends, the handing over ends. */
    tw_turn_close(second.turn, sim_now(st->sim));
    turn_node_pump(&second);
    story_run(st, TW_SEC);
    assert_int_equal(second.last.type, TW_TURN_CLOSED);
    assert_int_equal(tw_relay_shared_allocations(st->relay.shared), 1);
    turn_node_fini(&second);
    story_end(st);
}

static void one_worker(void **state)
{
    (void)state;
    redeem(1);
}

static void two_workers(void **state)
{
    (void)state;
    redeem(2);
}

static void too_late(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ .port = TW_TURN_PORT_PAIR });
    turn_node_allocate(&st->client);
    story_run(st, 31 * TW_SEC);
    struct tw_turn_config cfg = { .port = TW_TURN_PORT_TOKEN };
    memcpy(cfg.token, st->client.allocated.token, sizeof(cfg.token));
    turn_node_init(&second, st->sim, ip("203.0.114.4"), NULL, CLEAN, &st->relay, cfg);
    assert_ok(tw_turn_allocate(second.turn, sim_now(st->sim)));
    turn_node_pump(&second);
    story_run(st, TW_SEC);
    assert_int_equal(second.last.type, TW_TURN_FAILED);
    assert_int_equal(second.last.code, 508);
    turn_node_fini(&second);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(one_worker), cmocka_unit_test(two_workers), cmocka_unit_test(too_late))
