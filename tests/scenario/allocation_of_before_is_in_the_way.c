/* The server has an allocation for this port already (437): it is ended first, if it is this user's. */
#include "../sim/story.h"

static uint32_t live(const struct story *st)
{
    return tw_relay_shared_allocations(st->relay.shared);
}

/* Another client on the same socket, the one before it having ended without a word. */
static void allocate_anew(struct story *st, const char *user, const char *password)
{
    struct tw_env env = { .rng = sim_rng(st->sim) };
    tw_turn_free(st->client.turn);
    st->client.is_allocated = false;
    assert_ok(tw_turn_new(&(struct tw_turn_config){ .server = relay_node_addr(&st->relay), .sock = 1, .username = user,
                                                    .password = password }, &env, &st->client.turn));
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
}

/* The server hears us, and we do not hear it, for longer than we ask. */
static void nobody_heard_the_answer(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    assert_ok(tw_turn_allocate(st->client.turn, sim_now(st->sim)));
    turn_node_pump(&st->client);
    story_run(st, 25 * TW_MSEC); /* the 401 is back, the signed Allocate under way */
    sim_host_set_link(st->client.host, (struct sim_link){ .delay = 5 * TW_MSEC, .loss = 1000 });
    story_run(st, 60 * TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 0);
    assert_int_equal(live(st), 1);
    sim_host_set_link(st->client.host, CLEAN);
    allocate_anew(st, "user", "pass");
    story_run(st, TW_SEC);
    assert_true(st->client.is_allocated);
    assert_int_equal(live(st), 1);
    assert_int_equal(relay_node_stats(&st->relay).allocations_made, 2);
    story_bind(st);
    assert_ok(story_send(st, "hello", 5));
    story_run(st, TW_SEC);
    assert_int_equal(st->client.data_n, 1);
    story_end(st);
}

static void it_is_of_another_user(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    assert_ok(tw_relay_users_add(st->relay.users, "other", "word"));
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    allocate_anew(st, "other", "word");
    story_run(st, TW_SEC);
    assert_false(st->client.is_allocated);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 437);
    assert_int_equal(live(st), 1);
    story_end(st);
}

static void the_server_falls_silent(void **state)
{
    struct story *st = story_begin(1);
    (void)state;
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_allocate(&st->client);
    allocate_anew(st, "user", "pass");
    story_run(st, 50 * TW_MSEC); /* 401, 437, and the Refresh is under way */
    st->relay.quiet = true;
    story_run(st, 60 * TW_SEC);
    assert_int_equal(st->client.last.type, TW_TURN_FAILED);
    assert_int_equal(st->client.last.code, 0);
    assert_int_equal(tw_turn_deadline(st->client.turn), TW_NEVER);
    story_end(st);
}

/* A NAT that has forgotten all gives us the port of a client who is no more: what we send goes by way of its allocation, and what we
 * ask for is refused (441). Ours is out of reach. */
static void a_nat_puts_us_there(tw_time wait, int (*ask)(struct tw_turn *, tw_time, const struct tw_addr *))
{
    struct story *st = story_begin(1);
    struct turn_node gone;
    assert_ok(tw_relay_users_add(st->relay.users, "other", "word"));
    story_start(st, (struct tw_turn_config){ 0 });
    turn_node_fini(&st->client);
    struct sim_nat *nat = sim_nat(st->sim, ip("198.51.100.1"), (struct sim_nat_kind){ .ports = SIM_PORTS_PRESERVED }, NULL);
    turn_node_init(&gone, st->sim, ip("10.0.0.1"), nat, CLEAN, &st->relay, (struct tw_turn_config){ .username = "other", .password = "word" });
    turn_node_init(&st->client, st->sim, ip("10.0.0.2"), nat, CLEAN, &st->relay, (struct tw_turn_config){ 0 });
    turn_node_allocate(&gone);
    turn_node_allocate(&st->client);
    sim_host_sleep(gone.host, TW_NEVER);
    sim_nat_reboot(nat);
    if (ask) {
        assert_ok(ask(st->client.turn, sim_now(st->sim), &st->peer.local));
        turn_node_pump(&st->client);
    }
    story_run(st, wait);
    assert_int_equal(st->client.last.type, TW_TURN_LOST);
    assert_int_equal(st->client.last.code, 441);
    assert_int_equal(tw_turn_deadline(st->client.turn), TW_NEVER);
    turn_node_fini(&gone);
    story_end(st);
}

static void a_nat_puts_us_there_and_we_permit(void **state)
{
    (void)state;
    a_nat_puts_us_there(TW_SEC, tw_turn_permit);
}

static void a_nat_puts_us_there_and_we_bind(void **state)
{
    (void)state;
    a_nat_puts_us_there(TW_SEC, tw_turn_bind);
}

static void a_nat_puts_us_there_and_we_refresh(void **state)
{
    (void)state;
    a_nat_puts_us_there(590 * TW_SEC, NULL);
}

STORY_MAIN(cmocka_unit_test(nobody_heard_the_answer), cmocka_unit_test(it_is_of_another_user),
           cmocka_unit_test(the_server_falls_silent), cmocka_unit_test(a_nat_puts_us_there_and_we_permit),
           cmocka_unit_test(a_nat_puts_us_there_and_we_bind), cmocka_unit_test(a_nat_puts_us_there_and_we_refresh))
