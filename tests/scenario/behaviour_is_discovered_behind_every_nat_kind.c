/* A client behind each kind of NAT asks a server with two addresses what the NAT does (RFC 5780), and
 * is told the truth, over links that lose packets too. */
#include <thalweg/behaviour.h>

#include "../sim/nodes.h"
#include "../test.h"

struct asker {
    struct sim_host *host;
    struct tw_behaviour machine;
    struct tw_behaviour_event result;
    bool done;
};

static void pump(struct asker *a)
{
    struct tw_datagram d;
    while (tw_behaviour_poll_tx(&a->machine, &d))
        sim_send(a->host, &d);
    a->done = tw_behaviour_poll_event(&a->machine, &a->result) || a->done;
    sim_set_deadline(a->host, tw_behaviour_deadline(&a->machine));
}

static void on_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct asker *a = ctx;
    if (!tw_behaviour_recv(&a->machine, now, d))
        pump(a);
}

static void on_wake(void *ctx, tw_time now)
{
    struct asker *a = ctx;
    tw_behaviour_tick(&a->machine, now);
    pump(a);
}

static void two_addresses(struct relay_node *relay, struct sim *s)
{
    static const char *at[] = { "203.0.114.1:3478", "203.0.114.1:3479", "203.0.114.2:3478",
                                "203.0.114.2:3479" };
    relay_node_init(relay, s, ip("203.0.114.1"), (struct tw_addr){ 0 },
                    (struct sim_link){ .delay = 5 * TW_MSEC }, 2);
    sim_host_add_ip(relay->host, ip("203.0.114.2"));
    for (uint32_t i = 0; i < 4; i++) {
        relay->cfg.listeners[i] = ip(at[i]);
        relay->cfg.behaviour[0].listener[i / 2][i % 2] = i;
    }
    relay->cfg.listener_n = 4;
    relay->cfg.behaviour_n = 1;
    relay_node_start(relay);
}

static struct tw_behaviour_event ask(uint64_t seed, const struct sim_nat_kind *kind, unsigned loss)
{
    struct sim *s = sim_new(seed);
    static struct relay_node relay;
    static struct asker a;
    struct tw_env env = { .rng = sim_rng(s) };
    const struct sim_link link = { .delay = 20 * TW_MSEC, .loss = loss };
    struct tw_addr local = ip(kind ? "192.168.1.2" : "198.51.102.3");
    memset(&a, 0, sizeof(a));
    two_addresses(&relay, s);
    struct sim_nat *nat = kind ? sim_nat(s, ip("198.51.102.1"), *kind, NULL) : NULL;
    a.host = sim_host(s, local, nat, link);
    sim_host_attach(a.host, &a, on_receive, NULL, on_wake);
    assert_true(sim_open(a.host, 0, local, &local));
    struct tw_behaviour_config cfg = { .server = ip("203.0.114.1:3478"), .local = local };
    tw_behaviour_init(&a.machine, &cfg, &env, sim_now(s));
    pump(&a);
    sim_run(s, sim_now(s) + 300 * TW_SEC, &a.done);
    assert_true(a.done);
    relay_node_fini(&relay);
    sim_free(s);
    return a.result;
}

static enum tw_nat_dependence as_told(enum sim_dependence d)
{
    static const enum tw_nat_dependence told[] = { TW_NAT_INDEPENDENT, TW_NAT_ADDRESS,
                                                   TW_NAT_ADDRESS_AND_PORT };
    return told[d];
}

static void every_kind(void **state)
{
    unsigned cases = 0;
    (void)state;
    for (unsigned loss = 0; loss <= 50; loss += 50)
        for (int m = SIM_INDEPENDENT; m <= SIM_ADDRESS_AND_PORT; m++)
            for (int f = SIM_INDEPENDENT; f <= SIM_ADDRESS_AND_PORT; f++)
                for (int p = SIM_PORTS_PRESERVED; p <= SIM_PORTS_RANDOM; p++)
                    for (int hairpin = 0; hairpin < 2; hairpin++, cases++) {
                        struct sim_nat_kind kind = { .mapping = (enum sim_dependence)m,
                                                     .filtering = (enum sim_dependence)f,
                                                     .ports = (enum sim_ports)p,
                                                     .hairpin = hairpin };
                        struct tw_behaviour_event ev = ask(cases + 1, &kind, loss);
                        assert_true(ev.answered && ev.can);
                        if (ev.mapping != as_told(kind.mapping))
                            fail_msg("mapping %d ports %d: told %d", m, p, ev.mapping);
                        if (ev.filtering != as_told(kind.filtering))
                            fail_msg("mapping %d filtering %d: told %d", m, f, ev.filtering);
                        /* Through a NAT that maps otherwise towards itself, it cannot come back. */
                        if (m == SIM_INDEPENDENT && f == SIM_INDEPENDENT)
                            assert_int_equal(ev.hairpin, hairpin);
                    }
    print_message("%u cases\n", cases);
}

static void no_nat(void **state)
{
    (void)state;
    struct tw_behaviour_event ev = ask(1, NULL, 0);
    assert_true(ev.answered && ev.can && ev.port_preserved);
    assert_int_equal(ev.mapping, TW_NAT_NONE);
    assert_int_equal(ev.filtering, TW_NAT_INDEPENDENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_kind), cmocka_unit_test(no_nat) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
