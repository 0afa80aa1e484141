/* Two keys meet over the rendezvous: how soon, by which way, and who is kept out. A round trip between any
 * two parties is 40 ms. */
#include "../../sim/meeting.h"
#include "../../test.h"
#include "../../sim/story.h"
#include "rendezvous/client.h"
#include "rendezvous/offer.h"

#define HERE ((struct sim_link){ .delay = 10 * TW_MSEC })
#define RTT (40 * TW_MSEC)

static struct meeting w;

static void begin(uint64_t seed)
{
    meeting_begin(&w, seed, HERE, false);
}

static void end(void)
{
    meeting_end(&w);
}

static void run(tw_time span)
{
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

/* Behind a NAT of its own, or on the open network. */
static struct sim_nat *put(struct endpoint_node *n, uint8_t who, const struct sim_nat_kind *kind,
                           const struct endpoint_node_config *cfg)
{
    struct sim_nat *nat = NULL;
    struct tw_addr at = tw_addr_v4(198, 51, (uint8_t)(100 + who), 9, 0);
    struct sim_link link = HERE;
    if (kind) {
        nat = sim_nat(w.sim, tw_addr_v4(198, 51, (uint8_t)(100 + who), 1, 0), *kind, NULL);
        sim_nat_set_link(nat, HERE);
        at = tw_addr_v4(192, 168, who, 5, 0);
        link = (struct sim_link){ .delay = 0 };
    }
    endpoint_node_init(n, w.sim, at, nat, link, meeting_desk(), cfg);
    return nat;
}

static void both(const struct sim_nat_kind *ka, const struct sim_nat_kind *kb)
{
    put(&w.a, 1, ka, &(struct endpoint_node_config){ .key = 1 });
    put(&w.b, 2, kb, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
}

static const struct sim_nat_kind home = { .mapping = SIM_INDEPENDENT, .filtering = SIM_ADDRESS_AND_PORT },
                                 hard = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                          .ports = SIM_PORTS_RANDOM };

static struct node_conn *at_b(void)
{
    return &w.b.conns[0];
}

/* In hundredths of a round trip. */
static unsigned trips(tw_time t)
{
    return (unsigned)((t * 100 + RTT / 2) / RTT);
}

/* No rendezvous: each knows a TURN server, and people carry the tickets. */
static void both_by_hand(const struct sim_nat_kind *ka, const struct sim_nat_kind *kb)
{
    const struct tw_ice_server turn = { .addr = relay_node_addr(&w.relay), .turn = true, .username = "user",
                                        .password = "pass" };
    put(&w.a, 1, ka, &(struct endpoint_node_config){ .key = 1, .no_server = true, .server = turn });
    put(&w.b, 2, kb, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true,
                                                     .no_server = true, .server = turn });
}

static struct node_conn *write_ticket(void)
{
    const struct tw_address to = { .key = w.b.id.key };
    uint32_t conn;
    assert_ok(tw_endpoint_dial_by_hand(w.a.ep, sim_now(w.sim), &to, &conn));
    endpoint_node_pump(&w.a);
    run(6 * TW_SEC);
    assert_memory_equal(w.a.ticket, "thalweg-offer-", 14);
    return endpoint_node_conn(&w.a, conn);
}

static int bring(struct endpoint_node *to, const char *ticket)
{
    const char *why = NULL;
    uint32_t conn;
    int err = tw_endpoint_ticket(to->ep, sim_now(w.sim), ticket, &conn, &why);
    assert_true(!err == !why);
    endpoint_node_pump(to);
    return err;
}

static void tickets_are_carried_by_hand(void **state)
{
    static const struct sim_nat_kind *const kinds[] = { NULL, &home, &hard };
    (void)state;
    for (unsigned i = 0; i < 9; i++) {
        begin(900 + i);
        both_by_hand(kinds[i / 3], kinds[i % 3]);
        run(TW_SEC);
        struct node_conn *c = write_ticket();
        run(250 * TW_SEC); /* a person's time */
        assert_ok(bring(&w.b, w.a.ticket));
        run(250 * TW_SEC);
        assert_memory_equal(w.b.ticket, "thalweg-answer-", 15);
        assert_ok(bring(&w.a, w.b.ticket));
        tw_time start = sim_now(w.sim);
        run(10 * TW_SEC);
        if (!c->connected)
            printf("kinds %u and %u: %s\n", i / 3, i % 3, c->why);
        assert_true(c->connected && at_b()->connected);
        printf("by hand, NATs %u and %u: connected %lld ms after the answer was brought, %s\n", i / 3, i % 3,
               (long long)((c->connected_at - start) / TW_MSEC), tw_rung_name(c->path.rung));
        endpoint_node_write(&w.a, c, tw_bytes("hello", 5), true);
        run(TW_SEC);
        assert_int_equal(at_b()->got, 5);
        end();
    }
}

static void a_ticket_is_for_one_and_for_a_while(void **state)
{
    char changed[sizeof(w.a.ticket)];
    (void)state;
    begin(950);
    both_by_hand(&home, &home);
    run(TW_SEC);
    struct node_conn *c = write_ticket();
    snprintf(changed, sizeof(changed), "%s", w.a.ticket);
    changed[200] = changed[200] == 'A' ? 'B' : 'A';
    assert_int_equal(bring(&w.b, changed), TW_EAUTH);
    snprintf(changed, sizeof(changed), "%.*s", 98, w.a.ticket);
    assert_int_equal(bring(&w.b, changed), TW_EAUTH);
    assert_int_equal(bring(&w.b, "thalweg-offer-"), TW_EMALFORMED);
    assert_int_equal(bring(&w.b, "hello"), TW_EMALFORMED);
    assert_int_equal(bring(&w.a, w.a.ticket), TW_ESTATE); /* a does not listen */
    assert_ok(bring(&w.b, w.a.ticket));
    assert_int_equal(bring(&w.b, w.a.ticket), TW_ESTATE);
    run(6 * TW_SEC);
    snprintf(changed, sizeof(changed), "%s", w.b.ticket);
    changed[100] = changed[100] == 'A' ? 'B' : 'A';
    assert_int_equal(bring(&w.a, changed), TW_EAUTH);
    assert_ok(bring(&w.a, w.b.ticket));
    assert_int_equal(bring(&w.a, w.b.ticket), TW_ENOTFOUND);
    run(TW_SEC);
    assert_true(c->connected);
    /* Nobody answers: it ends by itself, and is too old then. */
    c = write_ticket();
    run(TW_ENDPOINT_TICKET_LIFE + TW_SEC);
    assert_true(c->closed);
    run(300 * TW_SEC);
    assert_int_equal(bring(&w.b, w.a.ticket), TW_ETIMEOUT);
    /* To somebody who lets nobody in. */
    struct endpoint_node strict;
    put(&strict, 3, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .no_server = true });
    write_ticket();
    assert_int_equal(bring(&strict, w.a.ticket), TW_EDENIED);
    assert_int_equal(strict.knocks, 1);
    endpoint_node_fini(&strict);
    end();
}

/* A network that lets out what begins like TLS, and nothing else; the other side can be connected to. */
static void who_may_speak_tls_only_meets_who_is_public(void **state)
{
    static const struct sim_nat_kind tls_only = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                                  .no_udp = true, .tls_only = true };
    (void)state;
    for (int calls = 0; calls < 2; calls++) {
        begin(960);
        put(&w.a, 1, calls ? &tls_only : NULL, &(struct endpoint_node_config){ .key = 1, .tcp = true, .tls = calls });
        put(&w.b, 2, calls ? NULL : &tls_only, &(struct endpoint_node_config){ .key = 2, .tcp = true, .tls = !calls, .listen = true,
                                                                               .allow_any = true });
        run(3 * TW_SEC);
        tw_time start = sim_now(w.sim);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
        run(2 * TW_SEC);
        assert_true(c->connected && at_b()->connected);
        assert_int_equal((calls ? c : at_b())->path.rung, TW_RUNG_HTTPS); /* of who connects: the simulated listener looks at nothing */
        printf("TLS only: early data %u, https %u (hundredths of a round trip)\n", trips(at_b()->early_at - start),
               trips(c->direct_at - start));
        assert_in_range(trips(at_b()->early_at - start), 100, 105);
        end();
    }
}

static void warm_endpoints_meet_in_the_fewest_round_trips(void **state)
{
    (void)state;
    begin(1);
    both(&home, &home);
    run(3 * TW_SEC);
    assert_int_equal(w.b.onlines, 1);
    tw_time start = sim_now(w.sim);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
    while (!c->ready && sim_now(w.sim) < start + 5 * TW_SEC)
        run(TW_MSEC / 10);
    assert_true(c->ready);
    endpoint_node_write(&w.a, c, tw_bytes("first", 5), false);
    run(3 * TW_SEC);
    assert_true(c->connected && at_b()->connected);
    printf("early data %u, first byte %u, direct %u and %u (hundredths of a round trip)\n",
           trips(at_b()->early_at - start), trips(at_b()->byte_at - start), trips(c->direct_at - start),
           trips(at_b()->direct_at - start));
    assert_memory_equal(at_b()->early, "hello", 5);
    assert_in_range(trips(at_b()->early_at - start), 100, 105);
    assert_in_range(trips(at_b()->byte_at - start), 300, 315);
    assert_in_range(trips(c->direct_at - start), 200, 400);
    assert_in_range(trips(at_b()->direct_at - start), 200, 400);
    assert_int_equal(c->path.rung, TW_RUNG_STUN);
    end();
}

/* Dialled as the first thing that a program without a server of its own does. */
static struct node_conn *cold_start(uint64_t seed, int64_t clock_ms, const char *early, tw_time *ret_start)
{
    begin(seed);
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
    run(3 * TW_SEC);
    *ret_start = sim_now(w.sim);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .no_server = true, .clock_ms = clock_ms });
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, early);
    while (!c->ready && sim_now(w.sim) < *ret_start + 5 * TW_SEC)
        run(TW_MSEC / 10);
    endpoint_node_write(&w.a, c, tw_bytes("first", 5), false);
    run(3 * TW_SEC);
    printf("cold: early data %u, first byte %u, direct %u\n", trips(at_b()->early_at - *ret_start),
           trips(at_b()->byte_at - *ret_start), trips(c->direct_at - *ret_start));
    assert_true(c->direct_at != 0);
    return c;
}

/* The call goes with the request for a WebSocket. (Here without TLS, which is one round trip more.) */
static void a_cold_start_needs_one_more(void **state)
{
    tw_time start;
    (void)state;
    cold_start(2, 0, "hello", &start);
    assert_in_range(trips(at_b()->early_at - start), 200, 205);
    assert_in_range(trips(at_b()->byte_at - start), 400, 405);
    end();
}

/* Then it waits for the server's greeting. */
static void what_is_too_long_for_a_request_follows_it(void **state)
{
    static char early[4001];
    tw_time start;
    (void)state;
    memset(early, 'x', sizeof(early) - 1);
    cold_start(3, 0, early, &start);
    assert_in_range(trips(at_b()->early_at - start), 300, 305);
    end();
}

/* Whose clock is of another day calls the wrong mailbox first, and then with a time that the callee doubts. */
static void a_cold_start_with_the_wrong_day_gets_there(void **state)
{
    tw_time start;
    (void)state;
    cold_start(4, -13 * 3600 * 1000, "hello", &start);
    assert_in_range(trips(at_b()->early_at - start), 300, 605);
    end();
}

/* A server that takes connections and ends them: the call that went with the first request is not lost, but the dial ends. */
static void a_server_that_hangs_up_is_given_up(void **state)
{
    (void)state;
    begin(5);
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
    run(TW_SEC);
    tw_desk_drain(w.desk.desk, sim_now(w.sim));
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .no_server = true });
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
    run(14 * TW_SEC);
    assert_false(c->closed);
    run(3 * TW_SEC);
    assert_true(c->closed && c->code == TW_ENDPOINT_CODE_SERVER);
    end();
}

/* The server ends and is back at once, at every moment of a dial. */
static void a_dial_survives_the_end_of_the_server(void **state)
{
    unsigned connected = 0;
    (void)state;
    for (unsigned i = 0; i < 80; i++) {
        begin(2300 + i);
        both(&home, &hard);
        run(3 * TW_SEC);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
        run(i * 5 * TW_MSEC);
        desk_node_restart(&w.desk);
        run(20 * TW_SEC);
        connected += c->connected;
        if (!c->connected)
            print_message("after %u ms: %s\n", i * 5, c->closed ? c->why : "not yet");
        end();
    }
    print_message("the server ends in the middle of a dial: %u of 80 connected\n", connected);
    assert_int_equal(connected, 80);
}

static void all_kinds_of_networks_meet(void **state)
{
    const struct sim_nat_kind blocked = { .no_udp = true };
    const struct sim_nat_kind *kinds[] = { NULL, &home, &hard, &blocked };
    static uint8_t data[200000];
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 >> 4);
    for (unsigned i = 0; i < 16; i++) {
        begin(10 + i);
        put(&w.a, 1, kinds[i / 4], &(struct endpoint_node_config){ .key = 1, .tcp = true });
        put(&w.b, 2, kinds[i % 4], &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true,
                                                                   .tcp = true });
        w.b.echo = true;
        run(3 * TW_SEC);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
        run(5 * TW_SEC);
        if (!c->connected)
            fail_msg("%u and %u did not meet: %s", i / 4, i % 4, c->why);
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), true);
        run(20 * TW_SEC);
        printf("%u-%u: %s, %zu bytes back\n", i / 4, i % 4, tw_rung_name(c->path.rung), c->got);
        assert_int_equal(c->got, sizeof(data));
        assert_memory_equal(c->bytes, data, sizeof(data));
        assert_true(c->end);
        tw_endpoint_hangup(w.a.ep, sim_now(w.sim), c->id, 7, "that was it");
        endpoint_node_pump(&w.a);
        run(2 * TW_SEC);
        assert_true(c->closed && at_b()->closed);
        assert_int_equal(at_b()->code, 7);
        assert_string_equal(at_b()->why, "that was it");
        end();
    }
}

static void who_is_not_allowed_stays_outside(void **state)
{
    (void)state;
    begin(40);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1 });
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true });
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "let me in");
    run(2 * TW_SEC);
    assert_true(c->closed && !c->ready);
    assert_int_equal(c->code, TW_ENDPOINT_CODE_REFUSED);
    assert_int_equal(w.b.knocks, 1);
    assert_int_equal(w.b.conn_n, 0);
    assert_ok(tw_endpoint_allow(w.b.ep, &w.a.id.key));
    c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(2 * TW_SEC);
    assert_true(c->connected);
    end();
}

static void an_invite_lets_in_so_many_until_then(void **state)
{
    const uint64_t noon = NODE_NOON, later = NODE_NOON + 6000000;
    const struct tw_endpoint_invite list[] = { { { 1 }, 1, later }, { { 2 }, 9, noon }, { { 3 }, 0, 0 }, { { 4 }, 2, 0 } };
    const struct {
        uint8_t invite, code;
        bool in;
    } who[] = { { 1, 0, true }, { 1, TW_ENDPOINT_CODE_REFUSED, false }, { 2, TW_ENDPOINT_CODE_REFUSED, false },
                { 3, TW_ENDPOINT_CODE_REFUSED, false }, { 4, 0, true }, { 5, TW_ENDPOINT_CODE_REFUSED, false } };
    (void)state;
    for (int unlisted = 0; unlisted < 2; unlisted++) {
        begin(41);
        put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .unlisted = unlisted });
        run(TW_SEC);
        assert_int_equal(w.b.onlines, !unlisted);
        assert_ok(tw_endpoint_invites(w.b.ep, sim_now(w.sim), list, ARRAY_LEN(list)));
        endpoint_node_pump(&w.b);
        run(TW_SEC);
        assert_int_equal(w.b.onlines, 1);
        unsigned in = 0;
        for (unsigned i = 0; i < ARRAY_LEN(who); i++) {
            const uint8_t secret[TW_INVITE_SIZE] = { who[i].invite };
            put(&w.a, (uint8_t)(10 + i), &home, &(struct endpoint_node_config){ .key = (uint8_t)(10 + i) });
            run(TW_SEC);
            struct node_conn *c = endpoint_node_come(&w.a, &w.b, secret);
            run(2 * TW_SEC);
            in += who[i].in;
            assert_int_equal(c->connected, who[i].in);
            assert_int_equal(w.b.invited, in);
            /* Who has no mailbox to knock at sees nobody there. */
            assert_int_equal(c->code, unlisted && who[i].invite == 5 ? TW_ENDPOINT_CODE_ABSENT : who[i].code);
            /* Once in, always in: by the key's mailbox, if it has one, or by the invite, though it is used up. */
            struct node_conn *again = endpoint_node_dial(&w.a, &w.b, NULL);
            run(2 * TW_SEC);
            assert_int_equal(again->connected, who[i].in && !unlisted);
            again = endpoint_node_come(&w.a, &w.b, secret);
            run(2 * TW_SEC);
            assert_int_equal(again->connected, who[i].in);
            endpoint_node_fini(&w.a);
        }
        put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1 });
        end();
    }
}

/* Its prekeys are new, and the caller knows but an old one. */
/* A NAT that counts is known for one, though the spare agent's mappings were made long before those of the call, and
 * another connection's in between. */
static void every_dial_foretells_ports_anew(void **state)
{
    const struct sim_nat_kind counts = { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT,
                                         .ports = SIM_PORTS_SEQUENTIAL };
    (void)state;
    for (int side = 0; side < 2; side++) {
        begin(43);
        both(side ? &home : &counts, side ? &counts : &home);
        run(3 * TW_SEC);
        for (int i = 0; i < 6; i++) {
            tw_time start = sim_now(w.sim);
            struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
            run(3 * TW_SEC);
            assert_true(c->connected && c->direct_at);
            assert_in_range(trips(c->direct_at - start), 300, 1200);
            tw_endpoint_hangup(w.a.ep, sim_now(w.sim), c->id, 0, "");
            endpoint_node_pump(&w.a);
            run((i + 1) * 10 * TW_SEC);
        }
        end();
    }
}

/* Who is cold dials when the server is back and the callee is not, which waits a moment before it comes. */
static void a_dial_finds_who_is_not_back_yet(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        begin(2400 + i);
        put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
        run(3 * TW_SEC);
        desk_node_restart(&w.desk);
        run(10 * TW_MSEC);
        put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .no_server = true });
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
        run(6 * TW_SEC);
        assert_true(c->connected);
        assert_int_equal(at_b()->early_n, 5);
        end();
    }
}

static void a_callee_that_restarted_is_reached(void **state)
{
    (void)state;
    begin(42);
    both(&home, &home);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(2 * TW_SEC);
    assert_true(c->connected);
    endpoint_node_fini(&w.b);
    put(&w.b, 3, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
    run(3 * TW_SEC);
    tw_time start = sim_now(w.sim);
    c = endpoint_node_dial(&w.a, &w.b, "again");
    run(2 * TW_SEC);
    assert_true(c->connected);
    assert_in_range(trips(at_b()->early_at - start), 300, 305); /* two more than else */
    end();
}

static void nobody_home_is_said_at_once(void **state)
{
    (void)state;
    begin(41);
    both(&home, &home);
    run(3 * TW_SEC);
    tw_endpoint_close(w.b.ep, sim_now(w.sim));
    endpoint_node_pump(&w.b);
    run(2 * TW_SEC);
    assert_true(w.b.all_closed);
    tw_time start = sim_now(w.sim);
    assert_int_equal(tw_desk_stats(w.desk.desk)->mailboxes, 0);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    while (!c->closed && sim_now(w.sim) < start + 10 * TW_SEC)
        run(TW_MSEC);
    assert_int_equal(c->code, TW_ENDPOINT_CODE_ABSENT);
    assert_in_range(sim_now(w.sim) - start, RTT, RTT + 5 * TW_MSEC);
    end();
}

static void two_who_dial_each_other_get_one_connection(void **state)
{
    (void)state;
    for (tw_time apart = 0; apart < 4 * RTT; apart += RTT / 4) {
        begin(50);
        const struct endpoint_node_config cfg = { .key = 1, .listen = true, .allow_any = true };
        put(&w.a, 1, &home, &cfg);
        put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
        run(3 * TW_SEC);
        struct node_conn *a = endpoint_node_dial(&w.a, &w.b, "from a");
        run(apart);
        bool known = w.b.conn_n > 0;
        struct node_conn *b = known ? NULL : endpoint_node_dial(&w.b, &w.a, "from b");
        run(3 * TW_SEC);
        assert_true(a->connected && !a->closed);
        assert_true(!b || (b->connected && !b->closed));
        assert_int_equal(w.a.conn_n, 1);
        assert_int_equal(w.b.conn_n, 1);
        assert_memory_equal(at_b()->early, "from a", 6);
        if (b)
            assert_memory_equal(a->early, "from b", 6);
        endpoint_node_write(&w.a, a, tw_bytes("x", 1), false);
        run(TW_SEC);
        assert_int_equal(at_b()->got, 1);
        end();
    }
}

static void a_wrong_clock_costs_a_round_trip(void **state)
{
    (void)state;
    begin(60);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .clock_ms = -9 * 3600 * 1000 });
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
    run(3 * TW_SEC);
    tw_time start = sim_now(w.sim);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
    run(3 * TW_SEC);
    assert_true(c->connected && at_b()->connected);
    assert_in_range(trips(at_b()->early_at - start), 300, 305);
    end();
}

static int by_time(const void *a, const void *b)
{
    tw_time x = *(const tw_time *)a, y = *(const tw_time *)b;
    return x < y ? -1 : x > y;
}

/* 5 % each way, between the caller and everybody. */
static void a_twentieth_of_the_packets_is_lost(void **state)
{
    enum { RUNS = 100 };
    static tw_time early[RUNS], byte[RUNS];
    (void)state;
    for (unsigned i = 0; i < RUNS; i++) {
        begin(1000 + i);
        both(&home, i & 1 ? &hard : &home);
        run(3 * TW_SEC);
        struct sim_link lossy = { .loss = 50 };
        sim_host_set_link(w.a.host, lossy);
        tw_time start = sim_now(w.sim);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
        while (!c->ready && sim_now(w.sim) < start + 20 * TW_SEC)
            run(TW_MSEC);
        assert_true(c->ready);
        endpoint_node_write(&w.a, c, tw_bytes("x", 1), false);
        run(20 * TW_SEC);
        if (!c->connected || !at_b()->connected || at_b()->got != 1 || at_b()->early_n != 5)
            fail_msg("run %u: %s", i, c->why);
        early[i] = at_b()->early_at - start;
        byte[i] = at_b()->byte_at - start;
        end();
    }
    qsort(early, RUNS, sizeof(early[0]), by_time);
    qsort(byte, RUNS, sizeof(byte[0]), by_time);
    printf("5 %% loss: early data %u (median), %u (19 of 20); first byte %u, %u\n", trips(early[RUNS / 2]),
           trips(early[RUNS * 19 / 20]), trips(byte[RUNS / 2]), trips(byte[RUNS * 19 / 20]));
    assert_true(trips(early[RUNS / 2]) <= 250);
}

/* It does not know the connection: the caller hears that at once, and need not wait ten minutes. */
static void a_callee_that_died_and_is_back_ends_it(void **state)
{
    const struct endpoint_node_config callee = { .key = 2, .listen = true, .allow_any = true };
    (void)state;
    begin(61);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1 });
    put(&w.b, 2, &home, &callee);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(2 * TW_SEC);
    assert_true(c->connected);
    sim_host_sleep(w.b.host, TW_NEVER);
    endpoint_node_fini(&w.b);
    put(&w.b, 3, &home, &callee);
    endpoint_node_write(&w.a, c, tw_bytes("hello", 5), false);
    run(20 * TW_SEC);
    assert_true(c->closed);
    assert_string_equal(c->why, "the other side does not know this connection any more");
    end();
}

static void a_peer_that_vanishes_is_given_up(void **state)
{
    static uint8_t data[200000];
    (void)state;
    for (uint64_t seed = 62; seed < 72; seed++) {
        begin(seed);
        both(&home, seed & 1 ? &home : &hard);
        run(3 * TW_SEC);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
        run(2 * TW_SEC);
        assert_true(c->connected);
        sim_host_sleep(w.b.host, TW_NEVER);
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), false);
        run(60 * TW_SEC);
        assert_false(c->closed); /* it may come back */
        run(800 * TW_SEC);
        assert_true(c->closed);
        assert_int_equal(c->code, TW_ENDPOINT_CODE_LOST);
        end();
    }
}

static void a_peer_that_sleeps_goes_on(void **state)
{
    static uint8_t data[200000];
    (void)state;
    begin(72);
    both(&home, &home);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(2 * TW_SEC);
    sim_host_sleep(w.b.host, sim_now(w.sim) + 20 * TW_SEC);
    endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), true);
    run(90 * TW_SEC);
    assert_false(c->closed || at_b()->closed);
    assert_int_equal(at_b()->got, sizeof(data));
    end();
}

/* Only the web is let out, all of a sudden: the relay inside the rendezvous's connection takes over from the rendezvous itself,
 * and when the rest is let out again, that is used again. */
static void only_the_web_is_left(void **state)
{
    static uint8_t data[1000];
    (void)state;
    struct sim_nat_kind web = home;
    web.no_udp = true;
    web.only_ports[0] = DESK_PORT;
    web.only_ports[1] = DESK_TLS_PORT;
    meeting_begin(&w, 73, HERE, true);
    struct sim_nat *nat = put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1 });
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true });
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(5 * TW_SEC);
    assert_int_equal(c->path.rung, TW_RUNG_STUN);
    sim_nat_become(nat, web);
    tw_time blocked = sim_now(w.sim), relayed = 0;
    for (int i = 0; i < 60; i++) {
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), false);
        run(100 * TW_MSEC);
        if (!relayed && c->path.rung == TW_RUNG_RELAY)
            relayed = sim_now(w.sim);
    }
    assert_int_equal(at_b()->got, 60 * sizeof(data));
    assert_int_equal(c->path.rung, TW_RUNG_RELAY);
    printf("only the web is left: by the relay inside it after %lld ms\n", (long long)((relayed - blocked) / TW_MSEC));
    assert_true(relayed - blocked < 3 * TW_SEC);
    sim_nat_become(nat, home);
    tw_time freed = sim_now(w.sim);
    while (c->path.rung != TW_RUNG_STUN && sim_now(w.sim) < freed + 70 * TW_SEC)
        run(100 * TW_MSEC);
    printf("all is let out again: direct after %lld ms\n", (long long)((sim_now(w.sim) - freed) / TW_MSEC));
    assert_int_equal(c->path.rung, TW_RUNG_STUN);
    end();
}

static bool is_large(void *ctx, const struct tw_addr *src, const struct tw_addr *dst, struct tw_bytes data)
{
    (void)ctx, (void)src, (void)dst;
    return data.n > 1280 - 28;
}

/* What was learned of a path's size is not true any more, and nobody says so. */
static void a_hole_for_large_packets_is_found(void **state)
{
    static uint8_t data[100000];
    (void)state;
    begin(73);
    both(NULL, NULL);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(3 * TW_SEC);
    endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), false);
    run(2 * TW_SEC);
    struct tw_endpoint_conn now;
    assert_ok(tw_endpoint_conn(w.a.ep, c->id, &now));
    assert_int_equal(now.mtu, 1472);
    assert_int_equal(at_b()->got, sizeof(data));
    sim_set_fault(w.sim, is_large, NULL);
    endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), false);
    run(4 * TW_SEC);
    assert_int_equal(at_b()->got, 2 * sizeof(data));
    assert_ok(tw_endpoint_conn(w.a.ep, c->id, &now));
    assert_in_range(now.mtu, 1200, 1252);
    end();
}

/* Where the server is the only way, that is no reason to doubt it. */
static void who_has_only_the_server_costs_it_little(void **state)
{
    const unsigned only = 1U << TW_RUNG_PATCHED;
    (void)state;
    begin(75);
    put(&w.a, 1, &hard, &(struct endpoint_node_config){ .key = 1, .rungs = only });
    put(&w.b, 2, &hard, &(struct endpoint_node_config){ .key = 2, .rungs = only, .listen = true, .allow_any = true });
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(60 * TW_SEC);
    assert_true(c->connected);
    assert_int_equal(c->path.rung, TW_RUNG_PATCHED);
    struct tw_endpoint_costs before = tw_endpoint_costs(w.a.ep);
    run(600 * TW_SEC);
    uint64_t packets = tw_endpoint_costs(w.a.ep).packets - before.packets;
    printf("idle by way of the server: %llu packets in ten minutes\n", (unsigned long long)packets);
    assert_true(packets <= 40);
    endpoint_node_write(&w.a, c, tw_bytes_str("still there"), false);
    run(2 * TW_SEC);
    assert_int_equal(at_b()->got, 11);
    end();
}

static void an_empty_datagram_arrives(void **state)
{
    (void)state;
    begin(74);
    both(&home, &home);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(2 * TW_SEC);
    assert_ok(tw_endpoint_datagram(w.a.ep, sim_now(w.sim), c->id, tw_bytes(NULL, 0)));
    endpoint_node_pump(&w.a);
    run(TW_SEC);
    assert_false(c->closed || at_b()->closed);
    assert_int_equal(at_b()->datagrams, 1);
    end();
}

/* --- a network that is not to be trusted ------------------------------------------------------------------ */

static bool contains(const uint8_t *in, size_t n, const void *what, size_t len)
{
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(in + i, what, len) == 0)
            return true;
    return false;
}

struct capture {
    uint8_t bytes[4 << 20];
    size_t n;
};

static void record(void *ctx, tw_time now, const struct sim_host *from, const struct tw_addr *src,
                   const struct tw_addr *dst, struct tw_bytes data)
{
    struct capture *c = ctx;
    (void)now, (void)from, (void)src, (void)dst;
    if (c->n + data.n <= sizeof(c->bytes)) {
        memcpy(c->bytes + c->n, data.p, data.n);
        c->n += data.n;
    }
}

static void no_wire_and_no_server_sees_who_they_are(void **state)
{
    static struct capture wire;
    (void)state;
    begin(70);
    wire.n = 0;
    sim_set_watch(w.sim, record, &wire);
    both(&home, &hard);
    run(3 * TW_SEC);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "an early secret");
    run(2 * TW_SEC);
    endpoint_node_write(&w.a, c, tw_bytes_str("a later secret, somewhat longer"), true);
    run(2 * TW_SEC);
    assert_true(at_b()->end && wire.n > 10000 && w.desk.captured_n > 2000);
    const struct {
        const void *p;
        size_t n;
    } secrets[] = {
        { w.a.id.key.b, 12 }, { w.b.id.key.b, 12 }, { w.a.id.key.b + 20, 12 }, { w.b.id.key.b + 20, 12 },
        { "an early secret", 15 }, { "a later secret", 14 }, { "\xc0\xa8\x01\x05", 4 }, /* 192.168.1.5 */
    };
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (i < 6)
            assert_false(contains(wire.bytes, wire.n, secrets[i].p, secrets[i].n));
        assert_false(contains(w.desk.captured, w.desk.captured_n, secrets[i].p, secrets[i].n));
    }
    end();
}

static uint64_t flips;
static bool flip(struct desk_node *n, uint8_t *p, size_t len)
{
    (void)n;
    flips++;
    if (len > 200 && flips % 3 == 0)
        p[len / 2 + flips % 50] ^= 0x10;
    return true;
}

/* Both are at two servers, of which the nearer is named last. Who dials asks there; once nothing comes from it any more, soon at the other. */
static void the_nearer_of_two_servers_is_dialled_at(void **state)
{
    struct desk_node far;
    const struct tw_addr at = tw_addr_v4(203, 0, 114, 8, 0);
    const char word[] = "hello";
    (void)state;
    begin(95);
    desk_node_init(&far, w.sim, at, (struct sim_link){ .delay = 90 * TW_MSEC }, NULL, false);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .other = at });
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true, .other = at });
    run(3 * TW_SEC);
    assert_int_equal(w.b.onlines, 2);
    tw_time pauses[2];
    for (int dead = 0; dead < 2; dead++) {
        if (dead)
            sim_host_sleep(w.desk.host, TW_NEVER);
        tw_time start = sim_now(w.sim);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, word);
        run(10 * TW_SEC);
        assert_true(c->connected);
        pauses[dead] = w.b.conns[dead].early_at - start;
    }
    printf("the nearer server is asked: the first byte is there after %u.%02u round trips; it is dead: after %lld ms\n", trips(pauses[0]) / 100,
           trips(pauses[0]) % 100, (long long)(pauses[1] / TW_MSEC));
    assert_true(trips(pauses[0]) <= 110);
    assert_true(pauses[1] < 1500 * TW_MSEC);
    desk_node_fini(&far);
    end();
}

/* None of them is up yet: whichever answers first is asked. */
static void the_first_server_to_answer_is_asked(void **state)
{
    struct desk_node far;
    const struct tw_addr at = tw_addr_v4(203, 0, 114, 8, 0);
    (void)state;
    begin(96);
    desk_node_init(&far, w.sim, at, (struct sim_link){ .delay = 90 * TW_MSEC }, NULL, false);
    put(&w.b, 2, &home, &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true, .other = at });
    run(3 * TW_SEC);
    put(&w.a, 1, &home, &(struct endpoint_node_config){ .key = 1, .other = at });
    tw_time start = sim_now(w.sim);
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
    run(5 * TW_SEC);
    assert_true(c->connected);
    printf("cold, the first to answer of two servers: the first byte is there after %u.%02u round trips\n", trips(at_b()->early_at - start) / 100,
           trips(at_b()->early_at - start) % 100);
    assert_true(trips(at_b()->early_at - start) <= 320);
    desk_node_fini(&far);
    end();
}

static void a_tampering_rendezvous_is_refused_or_survived(void **state)
{
    unsigned connected = 0;
    (void)state;
    for (uint64_t seed = 80; seed < 110; seed++) {
        begin(seed);
        both(&home, &home);
        run(3 * TW_SEC);
        flips = seed;
        w.desk.tamper = flip;
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
        run(10 * TW_SEC);
        connected += c->connected;
        assert_true(!c->connected || at_b()->connected);
        if (at_b()->early_n)
            assert_memory_equal(at_b()->early, "hello", 5);
        end();
    }
    printf("%u of 30 connected though every third message was changed\n", connected);
}

static bool damage_first_long(struct desk_node *n, uint8_t *p, size_t len)
{
    if (len > 400) {
        p[150] ^= 1; /* the offer comes first */
        n->tamper = NULL;
    }
    return true;
}

/* Not on purpose: once. */
static void a_damaged_offer_is_made_again(void **state)
{
    (void)state;
    begin(111);
    both(&home, &home);
    run(3 * TW_SEC);
    w.desk.tamper = damage_first_long;
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    run(5 * TW_SEC);
    assert_null(w.desk.tamper);
    assert_true(c->connected && at_b()->connected);
    end();
}

/* Somebody with nothing but a connection to the rendezvous, and offers that were recorded elsewhere. */
static struct stranger {
    struct sim_host *host;
    struct streams streams;
    struct tw_rdv *rdv;
    unsigned signals, gone, reason, datagrams;
} stranger;

static void stranger_pump(void)
{
    struct tw_rdv_event ev;
    struct tw_bytes out = tw_rdv_out(stranger.rdv);
    if (out.n)
        stream_send(&stranger.streams, 1, &out, 1);
    while (tw_rdv_poll_event(stranger.rdv, &ev)) {
        stranger.signals += ev.type == TW_RDV_SIGNAL;
        stranger.datagrams += ev.type == TW_RDV_DATAGRAM;
        stranger.gone += ev.type == TW_RDV_GONE;
        stranger.reason = ev.type == TW_RDV_GONE ? ev.reason : stranger.reason;
    }
}

static void stranger_opened(void *ctx, tw_time now, struct stream *st)
{
    (void)ctx, (void)now, (void)st;
    stranger_pump();
}

static void stranger_bytes(void *ctx, tw_time now, struct stream *st, struct tw_bytes b)
{
    (void)ctx, (void)st;
    tw_rdv_recv(stranger.rdv, now, b);
    stranger_pump();
}

static void stranger_over(void *ctx, tw_time now, const struct stream *gone)
{
    (void)ctx, (void)now, (void)gone;
}

static void stranger_comes(const struct tw_ident *id)
{
    const struct tw_addr straight = { .family = TW_FAMILY_NONE };
    struct tw_rdv_config cfg = { .self = id };
    struct tw_env env = { .rng = sim_rng(w.sim) };
    memset(&stranger, 0, sizeof(stranger));
    stranger.host = sim_host(w.sim, ip("198.51.110.1"), NULL, HERE);
    sim_host_attach(stranger.host, &stranger, NULL, NULL, NULL);
    streams_init(&stranger.streams, stranger.host, &stranger);
    stranger.streams.opened = stranger_opened;
    stranger.streams.frames = stranger_bytes;
    stranger.streams.over = stranger_over;
    assert_ok(tw_rdv_addr_parse("ws://desk.example", &cfg.server, NULL));
    assert_ok(tw_rdv_new(&cfg, &env, sim_now(w.sim), &stranger.rdv));
    struct tw_addr desk = meeting_desk();
    desk.port = DESK_PORT;
    stream_connect(&stranger.streams, 1, STREAM_RAW, false, (struct tw_addr){ .family = TW_FAMILY_V4 }, desk, straight);
    run(TW_SEC);
}

static void an_offer_is_good_once_and_not_for_long(void **state)
{
    static uint8_t sealed[TW_OFFER_SEALED_MAX];
    const int64_t ages[] = { 0, 0, 300000, -300000 };
    struct tw_rng rng;
    uint32_t call;
    size_t n;
    (void)state;
    begin(90);
    both(&home, &home);
    run(3 * TW_SEC);
    rng = sim_rng(w.sim);
    stranger_comes(&w.a.id);
    struct tw_word offer = { .kind = TW_WORD_OFFER, .caller = w.a.id.key, .secret = { 9 }, .ufrag = "abcd",
                             .pwd = "0123456789012345678901", .early = tw_bytes_str("again") };
    for (unsigned i = 0; i < ARRAY_LEN(ages); i++) {
        offer.unix_ms = (uint64_t)((int64_t)NODE_NOON + sim_now(w.sim) / TW_MSEC - ages[i]);
        offer.secret[0] = i < 2 ? 9 : (uint8_t)i;
        assert_ok(tw_offer_seal(&offer, &w.a.id, &w.b.id.key, NULL, &rng, sealed, &n));
        assert_ok(tw_rdv_call(stranger.rdv, sim_now(w.sim), &w.b.id.key, NULL, tw_bytes(sealed, n), &call));
        stranger_pump();
        run(TW_SEC);
        assert_int_equal(w.b.conn_n, 1);      /* the first one only */
        assert_int_equal(stranger.gone, i);   /* the others are hung up, */
        assert_int_equal(stranger.signals, i < 2 ? 1 : i); /* those of another time with a word of what to do */
        assert_true(i == 0 || stranger.reason == TW_RDV_HUNG_UP);
    }
    /* Nor when what it led to is over. */
    run(60 * TW_SEC);
    assert_true(at_b()->closed);
    offer.secret[0] = 9;
    offer.unix_ms = (uint64_t)((int64_t)NODE_NOON + sim_now(w.sim) / TW_MSEC);
    assert_ok(tw_offer_seal(&offer, &w.a.id, &w.b.id.key, NULL, &rng, sealed, &n));
    assert_ok(tw_rdv_call(stranger.rdv, sim_now(w.sim), &w.b.id.key, NULL, tw_bytes(sealed, n), &call));
    stranger_pump();
    run(TW_SEC);
    assert_int_equal(w.b.conn_n, 1);
    assert_int_equal(stranger.reason, TW_RDV_REFUSED);
    /* Packets of QUIC without the offer's secret: nothing at all comes back. */
    uint8_t initial[1200] = { 0xc0, 0x54, 0x57, 0, 1, 8 };
    unsigned before = stranger.datagrams;
    assert_ok(tw_rdv_datagram(stranger.rdv, sim_now(w.sim), 1, tw_bytes(initial, sizeof(initial))));
    stranger_pump();
    run(TW_SEC);
    assert_int_equal(stranger.datagrams, before);
    tw_rdv_free(stranger.rdv);
    streams_fini(&stranger.streams);
    end();
}

/* Everything on the way dies, at every moment from the first byte on: what works directly goes on, and nothing is lost. */
static void all_servers_die_in_the_middle(void **state)
{
    const struct sim_nat_kind *kinds[] = { NULL, &home };
    static uint8_t data[400000];
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 2654435761U >> 9);
    for (unsigned i = 0; i < 40; i++) {
        begin(200 + i);
        both(kinds[i & 1], &home);
        w.b.echo = true;
        run(3 * TW_SEC);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
        while (!c->ready)
            run(TW_MSEC);
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), true);
        run((tw_time)(i / 2) * 10 * TW_MSEC);
        sim_host_sleep(w.desk.host, TW_NEVER);
        sim_host_sleep(w.relay.host, TW_NEVER);
        run(100 * TW_SEC);
        assert_true(c->connected && !c->closed && !at_b()->closed);
        assert_int_equal(c->got, sizeof(data));
        assert_memory_equal(c->bytes, data, sizeof(data));
        end();
    }
}

/* A relay that changes, drops, repeats, holds back and mixes up what it carries. */
static struct mischief {
    struct sim_host *host;
    struct tw_addr at, held_src, held_dst;
    uint8_t held[2048], copy[2048];
    size_t held_n;
    unsigned count, done[6];
    bool busy;
} mischief;

static void inject(const struct tw_addr *src, const struct tw_addr *dst, const uint8_t *p, size_t n)
{
    const struct tw_bytes b = tw_bytes(p, n);
    const struct tw_datagram d = { .src = *src, .dst = *dst, .iov = &b, .iov_n = 1 };
    mischief.busy = true;
    sim_inject(mischief.host, &d);
    mischief.busy = false;
}

static bool make_mischief(void *ctx, const struct tw_addr *src, const struct tw_addr *dst, struct tw_bytes data)
{
    struct mischief *m = &mischief;
    (void)ctx;
    if (m->busy || !tw_addr_eq_ip(src, &m->at) || data.n < 100 || data.n > sizeof(m->copy) || ++m->count % 7)
        return false;
    unsigned what = m->count / 7 % 6;
    m->done[what]++;
    memcpy(m->copy, data.p, data.n);
    switch (what) {
    case 0: /* changed */
        m->copy[20 + m->count % (data.n - 20)] ^= (uint8_t)(1 << m->count % 8);
        inject(src, dst, m->copy, data.n);
        return true;
    case 1: /* dropped */
        return true;
    case 2: /* repeated */
        inject(src, dst, m->copy, data.n);
        return false;
    case 3: /* held back, */
        memcpy(m->held, data.p, data.n);
        m->held_n = data.n;
        m->held_src = *src;
        m->held_dst = *dst;
        return true;
    case 4: /* and out of order, later */
        if (m->held_n)
            inject(&m->held_src, &m->held_dst, m->held, m->held_n);
        return false;
    default: /* what was for the one goes to the other */
        if (m->held_n && m->held_n >= 100)
            inject(src, dst, m->held, m->held_n);
        return false;
    }
}

static void a_tampering_relay_is_survived(void **state)
{
    static uint8_t data[100000];
    unsigned relayed = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 2654435761U >> 11);
    memset(&mischief, 0, sizeof(mischief));
    for (uint64_t seed = 300; seed < 320; seed++) {
        begin(seed);
        both(&hard, &hard);
        w.b.echo = true;
        mischief.host = w.relay.host;
        mischief.at = ip("203.0.114.1");
        mischief.held_n = 0;
        sim_set_fault(w.sim, make_mischief, NULL);
        run(3 * TW_SEC);
        struct node_conn *c = endpoint_node_dial(&w.a, &w.b, "hello");
        tw_time until = sim_now(w.sim) + 20 * TW_SEC;
        while (!c->ready && sim_now(w.sim) < until)
            run(TW_MSEC);
        assert_true(c->ready);
        endpoint_node_write(&w.a, c, tw_bytes(data, sizeof(data)), true);
        run(120 * TW_SEC);
        relayed += c->path.rung == TW_RUNG_RELAY;
        assert_true(c->connected && !c->closed);
        assert_int_equal(at_b()->got, sizeof(data));
        assert_memory_equal(at_b()->bytes, data, sizeof(data));
        assert_int_equal(c->got, sizeof(data));
        assert_memory_equal(c->bytes, data, sizeof(data));
        end();
    }
    printf("20 of 20 whole, %u over the relay; changed %u, dropped %u, repeated %u, held back %u, late %u, mixed up %u\n",
           relayed, mischief.done[0], mischief.done[1], mischief.done[2], mischief.done[3], mischief.done[4],
           mischief.done[5]);
    for (int i = 0; i < 6; i++)
        assert_in_range(mischief.done[i], 20, 1000000);
    assert_in_range(relayed, 10, 20);
}

/* A rendezvous, or anybody, who gives an offer to somebody else, or comes with it in the caller's place. */
static void an_offer_for_another_is_of_no_use(void **state)
{
    static uint8_t sealed[TW_OFFER_SEALED_MAX];
    struct tw_rng rng;
    struct tw_ident c;
    uint8_t seed[TW_SEED_SIZE] = { 3 };
    uint32_t call;
    size_t n;
    (void)state;
    begin(91);
    both(&home, &home);
    run(3 * TW_SEC);
    rng = sim_rng(w.sim);
    assert_ok(tw_ident_init(&c, seed));
    stranger_comes(&c);
    struct tw_word offer = { .kind = TW_WORD_OFFER, .caller = w.a.id.key, .secret = { 9 }, .ufrag = "abcd",
                             .pwd = "0123456789012345678901", .early = tw_bytes_str("for c"),
                             .unix_ms = NODE_NOON + (uint64_t)(sim_now(w.sim) / TW_MSEC) };
    /* a's offer to c, delivered to b */
    assert_ok(tw_offer_seal(&offer, &w.a.id, &c.key, NULL, &rng, sealed, &n));
    assert_ok(tw_rdv_call(stranger.rdv, sim_now(w.sim), &w.b.id.key, NULL, tw_bytes(sealed, n), &call));
    stranger_pump();
    run(TW_SEC);
    assert_int_equal(w.b.conn_n, 0);
    assert_int_equal(stranger.reason, TW_RDV_REFUSED);
    /* a's offer to b, brought by a stranger, who then is as far as before: nothing opens without the secret in it. */
    offer.secret[0] = 10;
    assert_ok(tw_offer_seal(&offer, &w.a.id, &w.b.id.key, NULL, &rng, sealed, &n));
    assert_ok(tw_rdv_call(stranger.rdv, sim_now(w.sim), &w.b.id.key, NULL, tw_bytes(sealed, n), &call));
    stranger_pump();
    run(60 * TW_SEC);
    assert_int_equal(w.b.conn_n, 1);
    assert_false(at_b()->ready || at_b()->connected);
    assert_true(at_b()->closed);
    tw_ident_fini(&c);
    tw_rdv_free(stranger.rdv);
    streams_fini(&stranger.streams);
    end();
}

STORY_MAIN(cmocka_unit_test(tickets_are_carried_by_hand), cmocka_unit_test(a_ticket_is_for_one_and_for_a_while),
           cmocka_unit_test(who_may_speak_tls_only_meets_who_is_public),
           cmocka_unit_test(warm_endpoints_meet_in_the_fewest_round_trips),
           cmocka_unit_test(a_cold_start_needs_one_more),
           cmocka_unit_test(what_is_too_long_for_a_request_follows_it),
           cmocka_unit_test(a_cold_start_with_the_wrong_day_gets_there),
           cmocka_unit_test(a_server_that_hangs_up_is_given_up),
           cmocka_unit_test(all_kinds_of_networks_meet),
           cmocka_unit_test(who_is_not_allowed_stays_outside),
           cmocka_unit_test(an_invite_lets_in_so_many_until_then),
           cmocka_unit_test(a_dial_survives_the_end_of_the_server),
           cmocka_unit_test(a_dial_finds_who_is_not_back_yet),
           cmocka_unit_test(a_callee_that_restarted_is_reached),
           cmocka_unit_test(every_dial_foretells_ports_anew),
           cmocka_unit_test(nobody_home_is_said_at_once),
           cmocka_unit_test(two_who_dial_each_other_get_one_connection),
           cmocka_unit_test(a_wrong_clock_costs_a_round_trip),
           cmocka_unit_test(a_twentieth_of_the_packets_is_lost),
           cmocka_unit_test(a_callee_that_died_and_is_back_ends_it),
           cmocka_unit_test(a_peer_that_vanishes_is_given_up),
           cmocka_unit_test(a_peer_that_sleeps_goes_on),
           cmocka_unit_test(only_the_web_is_left),
           cmocka_unit_test(who_has_only_the_server_costs_it_little),
           cmocka_unit_test(a_hole_for_large_packets_is_found),
           cmocka_unit_test(an_empty_datagram_arrives),
           cmocka_unit_test(the_nearer_of_two_servers_is_dialled_at), cmocka_unit_test(the_first_server_to_answer_is_asked),
           cmocka_unit_test(an_offer_is_good_once_and_not_for_long),
           cmocka_unit_test(an_offer_for_another_is_of_no_use),
           cmocka_unit_test(all_servers_die_in_the_middle),
           cmocka_unit_test(a_tampering_relay_is_survived),
           cmocka_unit_test(no_wire_and_no_server_sees_who_they_are),
           cmocka_unit_test(a_damaged_offer_is_made_again),
           cmocka_unit_test(a_tampering_rendezvous_is_refused_or_survived))
