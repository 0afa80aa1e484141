/* A permission is for an IP address (RFC 8656 §9): that a peer has many ports costs nothing. */
#include "../sim/story.h"

enum { FIRST = 1000, PORTS = 50 };

static struct tw_addr peer_at(const struct story *st, uint16_t port)
{
    struct tw_addr a = st->peer.local;
    a.port = port;
    return a;
}

static void permit(struct story *st, const struct tw_addr *peer)
{
    assert_ok(tw_turn_permit(st->client.turn, sim_now(st->sim), peer));
    turn_node_pump(&st->client);
}

static bool is_permitted(struct story *st, const struct tw_addr *peer)
{
    return tw_turn_is_permitted(st->client.turn, sim_now(st->sim), peer);
}

static void one_request_for_all(void **state)
{
    struct story *st = story_begin(1);
    struct tw_addr last = { 0 };
    (void)state;
    story_start(st, (struct tw_turn_config){ .max_peers = 2 });
    turn_node_allocate(&st->client);
    uint64_t before = sim_counts(st->sim).delivered;
    for (uint16_t i = 0; i < PORTS; i++) {
        last = peer_at(st, (uint16_t)(FIRST + i));
        permit(st, &last);
        if (i == PORTS / 2)
            story_run(st, TW_SEC); /* half of them while the request is under way, half with the permission there */
    }
    assert_true(is_permitted(st, &last));
    assert_int_equal(sim_counts(st->sim).delivered - before, 2); /* there and back */
    assert_int_equal(st->client.last.type, TW_TURN_PERMITTED);
    struct tw_addr stranger = tw_addr_v4(203, 0, 114, 77, FIRST);
    assert_false(is_permitted(st, &stranger));

    story_run(st, 3600 * TW_SEC); /* and it is kept for all */
    assert_true(is_permitted(st, &last));
    peer_node_send(&st->peer, &st->client.allocated.relayed[0], "x", 1, 0);
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, 1);
    story_end(st);
}

/* A server lets through to itself what is relayed there, and nothing else: so one port's refusal is not the others'. */
static void each_port_of_the_server(void **state)
{
    static struct turn_node other;
    struct story *st = story_begin(1);
    struct tw_range own = { 0 };
    (void)state;
    own.first = own.last = ip("203.0.114.1");
    st->relay.cfg.own = &own;
    st->relay.cfg.own_n = 1;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_init(&other, st->sim, ip("203.0.114.4"), NULL, CLEAN, &st->relay, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    turn_node_allocate(&other);
    struct tw_addr itself = relay_node_addr(&st->relay), relayed = other.allocated.relayed[0];
    assert_true(tw_addr_eq_ip(&itself, &relayed));
    permit(st, &itself);
    permit(st, &relayed);
    story_run(st, TW_SEC);
    const struct tw_turn_event *refused = turn_node_event(&st->client, TW_TURN_REFUSED);
    assert_non_null(refused);
    assert_int_equal(refused->code, 403);
    assert_true(tw_addr_eq(&refused->peer, &itself));
    assert_true(is_permitted(st, &relayed));
    turn_node_fini(&other);
    story_end(st);
}

STORY_MAIN(cmocka_unit_test(one_request_for_all), cmocka_unit_test(each_port_of_the_server))
