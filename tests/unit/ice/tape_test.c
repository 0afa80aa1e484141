/* A tape holds no secret and no address, and running it gives the same datagrams. */
#include <sodium.h>

#include "../../sim/replay.h"
#include "../../sim/world.h"
#include "../../test.h"

static char *tape;
static size_t tape_n;

static void write_line(void *ctx, const char *line)
{
    FILE *f = ctx;
    fprintf(f, "%s\n", line);
}

/* Runs a pair, a's tape into `tape`, and everything that may happen. */
static void record(const struct place *a, const struct place *b, bool web, bool addresses)
{
    static struct world w;
    struct world_options o = { .a = *a, .b = *b, .web = web, .seed = 31, .answer_delay = 60 * TW_MSEC };
    FILE *f = open_memstream(&tape, &tape_n);
    assert_non_null(f);
    o.tape_a = (struct tw_ice_tape){ write_line, f, addresses };
    world_begin(&w, &o);
    assert_true(world_connect(&w, &o).connected);
    w.b.echo = true;
    for (int i = 0; i < 30; i++) {
        assert_ok(ice_node_send(&w.a, "a secret word", 13));
        sim_run(w.sim, sim_now(w.sim) + 100 * TW_MSEC, NULL);
    }
    sim_run(w.sim, sim_now(w.sim) + 400 * TW_SEC, NULL);
    const struct tw_ice_server late[] = { { .addr = tw_addr_v4(198, 51, 100, 77, 3478) },
                                          { .addr = tw_addr_v4(198, 51, 100, 78, 3478), .turn = true,
                                            .username = "somebody", .password = "hidden" } };
    assert_ok(tw_ice_add_servers(w.a.ice, sim_now(w.sim), late, 2));
    const struct tw_ice_server renewed = { .username = "resu", .password = "new" }; /* the relay of before goes on with its old ones */
    assert_ok(tw_ice_renew_server(w.a.ice, sim_now(w.sim), 1, &renewed));
    ice_node_pump(&w.a);
    assert_ok(tw_ice_restart(w.a.ice, sim_now(w.sim)));
    ice_node_pump(&w.a);
    ice_node_gather(&w.a);
    sim_run(w.sim, sim_now(w.sim) + 5 * TW_SEC, NULL);
    tw_ice_close(w.a.ice, sim_now(w.sim));
    ice_node_pump(&w.a);
    sim_run(w.sim, sim_now(w.sim) + 2 * TW_SEC, NULL);
    world_end(&w);
    fclose(f);
}

static void play(void)
{
    struct replay r;
    FILE *f = fmemopen(tape, tape_n, "r");
    assert_non_null(f);
    bool ok = replay_run(f, false, &r);
    fclose(f);
    if (!ok || r.wrong)
        fail_msg("ok %d, bad line %u, differs at line %u", ok, r.bad, r.wrong);
    print_message("%u inputs, %u datagrams, %zu bytes of tape\n", r.inputs, r.sent, tape_n);
    assert_true(r.sent > 50);
    tw_ice_free(r.ice);
}

static void runs_again(void **state)
{
    struct sim_nat_kind blocked = { .filtering = SIM_ADDRESS_AND_PORT, .no_udp = true };
    struct sim_nat_kind hard = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                 .ports = SIM_PORTS_RANDOM };
    struct sim_nat_kind six = { .filtering = SIM_ADDRESS_AND_PORT };
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC }, .has_gateway = true };
    struct place counted = home, tcp = home, drawn = home, ipv6 = home;
    (void)state;
    assert_ok(tw_nat64_parse("2001:db8:64::/96", &six.nat64));
    counted.nat = nat_kind_at(33);
    tcp.nat = blocked;
    tcp.tcp = true;
    drawn.nat = hard;
    drawn.has_gateway = false;
    ipv6.nat = six;
    const struct place *pairs[][2] = { { &home, &home }, { &counted, &counted }, { &drawn, &home },
                                       { &tcp, &tcp }, { &ipv6, &home } };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        for (int addresses = 0; addresses < 2; addresses++) {
            record(pairs[i][0], pairs[i][1], i == 3, addresses);
            play();
            free(tape);
        }
}

static void tells_nothing(void **state)
{
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC } };
    (void)state;
    record(&home, &home, true, false);
    /* Numbers of the world, as text and as bytes; the user, his password, and what was said. */
    static const char *const secrets[] = { "198.51.10", "192.168.", "203.0.114", "c633", "cb0072", "user", " pass ",
                                           "6120736563726574" };
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
        for (const char *at = tape; (at = strstr(at, secrets[i])); at++) {
            const char *line = at;
            while (line > tape && line[-1] != '\n')
                line--;
            if (strncmp(line, "random ", 7) == 0 || (size_t)(at - line) % 2 == 1)
                continue; /* chance; or across two bytes */
            if (strstr(line, "recv") && secrets[i][0] == 'c' && at > strstr(line, "recv") + 60)
                continue; /* a hash may have these digits */
            fail_msg("\"%s\" is on the tape: %.120s", secrets[i], line);
        }
    free(tape);
}

static void other_files_are_refused(void **state)
{
    static char *const bad[] = { "", "hello\n", "thalweg ice tape 1\n", "thalweg ice tape 1\n0 config 1\n",
                                 "thalweg ice tape 1\n0 tick\n", "thalweg ice tape 1\n0 server\n",
                                 "thalweg ice tape 1\nrandom xx\n",
                                 "thalweg ice tape 1\n0 config 0 0 0 0 0 0 0 0 0 1 1 - -\n1 recv 1 a b 0 0 00\n" };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct replay r;
        FILE *f = tmpfile();
        assert_non_null(f);
        fputs(bad[i], f);
        rewind(f);
        assert_false(replay_run(f, false, &r));
        tw_ice_free(r.ice);
        fclose(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(runs_again), cmocka_unit_test(tells_nothing),
                                        cmocka_unit_test(other_files_are_refused) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
