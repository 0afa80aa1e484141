/* RFC 8656 §11.5: a closed port and a link that is too narrow for DF. */
#include "../sim/story.h"

static void port_is_closed(void **state)
{
    struct story *st = story_begin(1);
    struct tw_addr closed = ip("203.0.114.3:9");
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    assert_ok(tw_turn_send(st->client.turn, sim_now(st->sim), &closed, tw_bytes("x", 1), 0, 0));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    const struct tw_turn_event *ev = turn_node_event(&st->client, TW_TURN_ICMP);
    assert_non_null(ev);
    assert_true(tw_addr_eq(&ev->peer, &closed));
    assert_int_equal(ev->icmp_type, 3);
    assert_int_equal(ev->icmp_code, 3);
    story_end(st);
}

static void packet_is_too_big(void **state)
{
    struct story *st = story_begin(1);
    uint8_t big[1100] = { 0 };
    (void)state;
    story_start(st, (struct tw_turn_config){ .dont_fragment = true });
    sim_host_set_link(st->peer.host, (struct sim_link){ .delay = TW_MSEC, .mtu = 1000 });
    turn_node_allocate(&st->client);
    story_bind(st);
    assert_ok(tw_turn_send(st->client.turn, sim_now(st->sim), &st->peer.local,
                           tw_bytes(big, sizeof(big)), 0, TW_DGRAM_DF));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    const struct tw_turn_event *ev = turn_node_event(&st->client, TW_TURN_ICMP);
    assert_non_null(ev);
    assert_int_equal(ev->icmp_type, 3);
    assert_int_equal(ev->icmp_code, 4);
    assert_int_equal(ev->icmp_data, 1000);
    /* Without DF the same packet is fragmented on the way and arrives. */
    assert_int_equal(st->peer.n, 0);
    assert_ok(story_send(st, big, sizeof(big)));
    story_run(st, TW_SEC);
    assert_int_equal(st->peer.n, 1);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(port_is_closed), cmocka_unit_test(packet_is_too_big))
