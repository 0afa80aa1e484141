/* One more STUN and TURN server that answers nothing: the pair is usable just as soon, and the agent says
 * which server it was. */
#include <sodium.h>

#include "../../sim/world.h"
#include "../../test.h"

static void dead_server(void **state)
{
    (void)state;
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC } };
    struct world_options with = { .a = home, .b = home, .seed = 4, .dead_server = true };
    struct world_options without = with;
    without.dead_server = false;
    struct outcome x = world_run(&with), y = world_run(&without);
    assert_true(x.connected && x.direct && y.direct);
    assert_int_equal(x.usable, y.usable);

    static struct world w;
    char text[8192];
    world_begin(&w, &with);
    world_connect(&w, &with);
    sim_run(w.sim, sim_now(w.sim) + 8 * TW_SEC, NULL);
    tw_ice_explain(w.a.ice, text, sizeof(text));
    assert_non_null(strstr(text, "STUN server 203.0.113.99:3478 did not answer"));
    assert_non_null(strstr(text, "TURN server 203.0.113.99:3478 over udp: the server did not answer"));
    assert_non_null(strstr(text, "this is the path"));
    assert_true(tw_ice_explain(w.a.ice, text, 40) < 40); /* cut off, not overrun */
    world_end(&w);
}

/* A server that comes back is used again, without anybody asking. */
static void a_server_comes_back(void **state)
{
    (void)state;
    static struct world w;
    static char text[16384];
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC } };
    for (int web = 0; web < 2; web++) {
        struct world_options o = { .a = home, .b = home, .seed = 4, .web = web };
        world_begin(&w, &o);
        world_connect(&w, &o);
        w.relay.quiet = true;
        relay_node_stop(&w.relay);
        sim_run(w.sim, sim_now(w.sim) + 1200 * TW_SEC, NULL);
        tw_ice_explain(w.a.ice, text, sizeof(text));
        assert_null(strstr(text, "relays for us"));
        w.relay.quiet = false;
        relay_node_start(&w.relay);
        sim_run(w.sim, sim_now(w.sim) + 330 * TW_SEC, NULL);
        tw_ice_explain(w.a.ice, text, sizeof(text));
        assert_non_null(strstr(text, "relays for us"));
        assert_true(!web || strstr(text, "over tls relays for us"));
        assert_true(w.a.connected && ice_node_is_direct(&w.a));
        world_end(&w);
    }
}

/* One that restarts, and has lost our allocation, as well. */
static void a_server_restarts(void **state)
{
    (void)state;
    static struct world w;
    static char text[16384];
    struct place home = { .natted = true, .nat = nat_kind_at(8), .link = { .delay = 20 * TW_MSEC } };
    struct world_options o = { .a = home, .b = home, .seed = 4 };
    world_begin(&w, &o);
    world_connect(&w, &o);
    relay_node_stop(&w.relay);
    relay_node_start(&w.relay);
    sim_run(w.sim, sim_now(w.sim) + 600 * TW_SEC, NULL);
    tw_ice_explain(w.a.ice, text, sizeof(text));
    assert_non_null(strstr(text, "relays for us"));
    assert_int_equal(tw_relay_shared_allocations(w.relay.shared), 2);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(dead_server), cmocka_unit_test(a_server_comes_back),
                                        cmocka_unit_test(a_server_restarts) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
