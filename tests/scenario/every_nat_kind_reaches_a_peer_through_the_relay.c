/* A client and a peer behind every kind of NAT exchange data through the relay, over links that
 * lose, double and reorder. The relay's answer to all NATs is the same: the client's own packets
 * open its NAT towards the server, and the peer's NAT lets the relayed address in because the peer
 * has written to it first. */
#include "../sim/nodes.h"
#include "../test.h"

enum { PACKETS = 40 };

struct totals {
    unsigned cases;
    uint64_t sent, echoed;
};

static void one_case(uint64_t seed, struct sim_nat_kind a, struct sim_nat_kind b, bool twice_nat,
                     struct totals *totals)
{
    const struct sim_link clean = { .delay = 5 * TW_MSEC };
    const struct sim_link rough = { .delay = 10 * TW_MSEC, .jitter = 3 * TW_MSEC, .loss = 50,
                                    .twice = 30, .late = 30 };
    struct sim *s = sim_new(seed);
    static struct relay_node relay;
    static struct turn_node client;
    static struct peer_node peer;
    relay_node_init(&relay, s, ip("203.0.114.1"), (struct tw_addr){ 0 }, clean, 2);
    relay_node_start(&relay);
    struct sim_nat *carrier = twice_nat ? sim_nat(s, ip("198.51.102.9"), a, NULL) : NULL;
    struct sim_nat *home = sim_nat(s, ip(twice_nat ? "100.64.0.2" : "198.51.102.1"), a, carrier);
    struct sim_nat *far = sim_nat(s, ip("198.51.102.2"), b, NULL);
    turn_node_init(&client, s, ip("192.168.1.2"), home, rough, &relay, (struct tw_turn_config){ 0 });
    peer_node_init(&peer, s, ip("192.168.9.9"), far, rough);
    peer.echo = true;
    turn_node_allocate(&client);

    /* The peer writes to the relayed address, which opens its NAT; the client learns its mapped
     * address from a server of the peer's choice, here from a third host. */
    static struct peer_node mirror;
    peer_node_init(&mirror, s, ip("203.0.114.77"), NULL, clean);
    struct tw_addr peer_outside = { 0 };
    for (int i = 0; i < 20 && !mirror.n; i++) {
        peer_node_send(&peer, &mirror.local, "who am I", 8, 0);
        sim_run(s, sim_now(s) + 100 * TW_MSEC, NULL);
    }
    assert_true(mirror.n > 0);
    peer_outside = tw_addr_ip_only(&mirror.from);
    peer_outside.port = 1;
    assert_ok(tw_turn_permit(client.turn, sim_now(s), &peer_outside));
    turn_node_pump(&client);
    for (int i = 0; i < 100 && !client.data_n; i++) {
        peer_node_send(&peer, &client.allocated.relayed[0], "hello", 5, 0);
        sim_run(s, sim_now(s) + 100 * TW_MSEC, NULL);
    }
    assert_true(client.data_n > 0);
    struct tw_addr from = client.data_from; /* the peer as the relay sees it */
    assert_true(tw_addr_eq_ip(&from, &peer_outside));

    /* From here on the client knows where the peer is and binds a channel. */
    uint64_t before = client.data_n;
    for (uint32_t i = 0; i < PACKETS; i++) {
        assert_ok(tw_turn_send(client.turn, sim_now(s), &from, tw_bytes(&i, sizeof(i)), 0, 0));
        turn_node_pump(&client);
        sim_run(s, sim_now(s) + 50 * TW_MSEC, NULL);
    }
    sim_run(s, sim_now(s) + 8 * TW_SEC, NULL);
    assert_true(tw_turn_is_bound(client.turn, sim_now(s), &from));
    totals->cases++;
    totals->sent += PACKETS;
    totals->echoed += client.data_n - before;
    turn_node_fini(&client);
    relay_node_fini(&relay);
    sim_free(s);
}

static void every_kind(void **state)
{
    struct totals t = { 0 };
    uint64_t seed = 1;
    (void)state;
    for (int m = 0; m < 3; m++)
        for (int f = 0; f < 3; f++)
            for (int p = 0; p < 4; p++)
                for (int m2 = 0; m2 < 3; m2++)
                    for (int f2 = 0; f2 < 3; f2++) {
                        struct sim_nat_kind a = { (enum sim_dependence)m, (enum sim_dependence)f,
                                                  (enum sim_ports)p, false, 0 };
                        struct sim_nat_kind b = { (enum sim_dependence)m2, (enum sim_dependence)f2,
                                                  (enum sim_ports)((p + m2) % 4), false, 0 };
                        one_case(seed++, a, b, p == 0, &t);
                    }
    /* A packet crosses four rough links on its way there and back, each losing 5 % and doubling
     * 3 %: what comes back is 0.95^4 x 1.03^4 of what was sent, 92 %. */
    printf("%u pairs of NATs, %llu packets sent, %llu echoed\n", t.cases,
           (unsigned long long)t.sent, (unsigned long long)t.echoed);
    assert_int_equal(t.cases, 324);
    assert_true(t.echoed > t.sent * 88 / 100 && t.echoed < t.sent * 96 / 100);
}

static void the_same_seed_gives_the_same_run(void **state)
{
    struct sim_nat_kind hard = { SIM_ADDRESS_AND_PORT, SIM_ADDRESS_AND_PORT, SIM_PORTS_RANDOM, false,
                                 0 };
    struct totals a = { 0 }, b = { 0 };
    (void)state;
    one_case(42, hard, hard, false, &a);
    one_case(42, hard, hard, false, &b);
    assert_int_equal(a.echoed, b.echoed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
