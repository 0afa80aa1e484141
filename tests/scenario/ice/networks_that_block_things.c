/* Networks that let out only some things: what is left is found. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static const struct sim_link link20 = { .delay = 20 * TW_MSEC };
static const struct sim_nat_kind home = { .filtering = SIM_ADDRESS_AND_PORT };
static const struct sim_nat_kind no_udp = { .filtering = SIM_ADDRESS_AND_PORT, .no_udp = true };
static struct world w;
static char text[16384];

static struct place behind(struct sim_nat_kind k)
{
    return (struct place){ .natted = true, .nat = k, .link = link20, .tcp = true };
}

static const struct place open_place = { .link = { .delay = 20 * TW_MSEC }, .tcp = true };

/* Runs it; data must go both ways. */
static struct outcome run(const char *what, struct world_options o)
{
    o.seed = 9;
    world_begin(&w, &o);
    struct outcome r = world_connect(&w, &o);
    static const char *const kinds[] = { "UDP", "active TCP", "passive TCP", "TCP" };
    print_message("%s: %s, %s after %lld ms\n", what, !r.connected ? "nothing" : r.direct ? "direct" : "relayed",
                  kinds[w.a.path.transport],
                  (long long)(r.connected ? (r.direct ? r.direct_after : r.usable) / TW_MSEC : 0));
    if (r.connected) {
        w.b.echo = true;
        assert_ok(ice_node_send(&w.a, "hello", 5));
        sim_run(w.sim, sim_now(w.sim) + TW_SEC, NULL);
        assert_int_equal(w.a.data_n, 1);
        assert_memory_equal(w.a.data, "hello", 5);
    }
    tw_ice_explain(w.a.ice, text, sizeof(text));
    world_end(&w);
    return r;
}

static void tcp_to_a_public_peer(void **state)
{
    (void)state;
    struct outcome r = run("no UDP, towards a public peer",
                           (struct world_options){ .a = behind(no_udp), .b = open_place });
    assert_true(r.connected && r.direct && r.direct_after <= 250 * TW_MSEC);
    r = run("a public peer, towards one without UDP",
            (struct world_options){ .a = open_place, .b = behind(no_udp) });
    assert_true(r.connected && r.direct);
}

/* RFC 6544's simultaneous open: each NAT sees its own side speak first. */
static void tcp_through_two_nats(void **state)
{
    (void)state;
    struct sim_nat_kind strict = no_udp, rude = no_udp;
    strict.no_simultaneous = true;
    rude.tcp_reset = true;
    struct outcome r = run("no UDP on either side, nor a relay",
                           (struct world_options){ .a = behind(no_udp), .b = behind(no_udp), .no_relay = true });
    assert_true(r.connected && r.direct);
    r = run("the same, and NATs that refuse what comes too early",
            (struct world_options){ .a = behind(rude), .b = behind(rude), .no_relay = true, .answer_delay = 30 * TW_MSEC });
    assert_true(r.connected && r.direct);
    r = run("NATs without simultaneous open",
            (struct world_options){ .a = behind(strict), .b = behind(strict), .web = true });
    assert_true(r.connected && !r.direct);
    r = run("one such NAT",
            (struct world_options){ .a = behind(strict), .b = behind(no_udp), .web = true });
    assert_true(r.connected);
}

static void only_the_web(void **state)
{
    (void)state;
    struct sim_nat_kind web = no_udp, tls = no_udp;
    web.only_ports[0] = 80;
    web.only_ports[1] = 443;
    tls.only_ports[0] = 443;
    tls.tls_only = true;
    struct outcome r = run("only 80 and 443, on both sides",
                           (struct world_options){ .a = behind(web), .b = behind(web), .web = true });
    assert_true(r.connected && r.usable <= 500 * TW_MSEC);
    r = run("only TLS, on both sides",
            (struct world_options){ .a = behind(tls), .b = behind(tls), .web = true });
    assert_true(r.connected && r.usable <= 500 * TW_MSEC);
    r = run("only TLS, towards a home NAT",
            (struct world_options){ .a = behind(tls), .b = behind(home), .web = true });
    assert_true(r.connected);
    assert_non_null(strstr(text, "did not answer 192.168.1.5"));
}

static void only_a_proxy(void **state)
{
    (void)state;
    struct sim_nat_kind k = no_udp;
    k.only_to = proxy_addr();
    struct place p = behind(k);
    p.proxied = true;
    struct outcome r = run("only a proxy, on both sides",
                           (struct world_options){ .a = p, .b = p, .web = true });
    assert_true(r.connected && r.usable <= 500 * TW_MSEC);
    r = run("only a proxy, towards a home NAT",
            (struct world_options){ .a = p, .b = behind(home), .web = true });
    assert_true(r.connected);
}

/* Of IPv6 only, as mobile networks are, with a translator. */
static void only_ipv6(void **state)
{
    static const char *const prefixes[] = { "64:ff9b::/96", "2001:db8:64::/64", "2001:db8:100::/40" };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct sim_nat_kind k = { .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_RANDOM };
        assert_ok(tw_nat64_parse(prefixes[i], &k.nat64));
        struct outcome r = run("only IPv6, towards a home NAT",
                               (struct world_options){ .a = behind(k), .b = behind(home) });
        assert_true(r.connected && r.direct && r.direct_after <= 100 * TW_MSEC);
        r = run("only IPv6, on both sides", (struct world_options){ .a = behind(k), .b = behind(k) });
        assert_true(r.connected && r.direct);
        k.no_udp = true;
        r = run("only IPv6 and no UDP, on both sides",
                (struct world_options){ .a = behind(k), .b = behind(k), .no_relay = true });
        assert_true(r.connected && r.direct);
    }
}

static void firewalls_without_nat(void **state)
{
    (void)state;
    struct sim_nat_kind k = { .firewall = true, .filtering = SIM_ADDRESS_AND_PORT };
    struct outcome r = run("stateful firewalls", (struct world_options){ .a = behind(k), .b = behind(k) });
    assert_true(r.connected && r.direct && r.direct_after <= 100 * TW_MSEC);
    struct place six = behind(k);
    six.v6 = true;
    r = run("stateful firewalls, IPv6", (struct world_options){ .a = six, .b = six });
    assert_true(r.connected && r.direct && r.direct_after <= 100 * TW_MSEC);
    k.no_udp = true;
    r = run("stateful firewalls that let no UDP through",
            (struct world_options){ .a = behind(k), .b = behind(k), .no_relay = true });
    assert_true(r.connected && r.direct);
}

static void says_that_udp_is_blocked(void **state)
{
    (void)state;
    struct outcome r = run("no UDP, and no TCP offered by the peer",
                           (struct world_options){ .a = behind(no_udp),
                                                   .b = { .natted = true, .nat = no_udp, .link = link20 },
                                                   .web = true, .limit = 5 * TW_SEC });
    assert_true(r.connected && !r.direct);
    assert_non_null(strstr(text, "it did: this network blocks UDP"));
}

/* Errors change nothing, since anybody can send them: a wall that rejects is one that keeps silent. */
static void a_wall_that_answers(void **state)
{
    (void)state;
    struct sim_nat_kind rejects = no_udp;
    rejects.rejects = true;
    struct world_options o = { .a = behind(no_udp), .b = behind(no_udp), .web = true };
    struct outcome silent = run("a silent wall", o);
    o.a = o.b = behind(rejects);
    struct outcome loud = run("one that answers", o);
    assert_true(loud.connected && loud.direct && loud.direct_after == silent.direct_after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_to_a_public_peer), cmocka_unit_test(tcp_through_two_nats),
        cmocka_unit_test(only_the_web),         cmocka_unit_test(only_a_proxy),
        cmocka_unit_test(firewalls_without_nat), cmocka_unit_test(only_ipv6), cmocka_unit_test(says_that_udp_is_blocked),
        cmocka_unit_test(a_wall_that_answers),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
