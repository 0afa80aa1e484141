/* Two who are connected live through whatever a random story does to them: they move, alone or both at once, sleep, lose
 * their network, their NATs forget, the server restarts, the relay dies. All the while one writes and the other sends it
 * back; in the end every byte is there, once, in order.
 *
 * usage: endpoint-life_stories [STORIES [FIRST-SEED [1: tell each]]]: so many random ones and nothing else; all are told, also
 * after one that ended badly. `make stories` uses all cores. */
#include "../../sim/meeting.h"
#include "../../test.h"

enum { PLACES = 7, CHUNK = 400, SPAN_SEC = 60, AFTER_SEC = 180 };
#define STEP (50 * TW_MSEC)

static unsigned stories = 100, tell;
static uint64_t first = 1;

static struct meeting w;

static struct {
    struct sim_nat *nats[PLACES];
    tw_time link_back[2], wakes[2], relay_back;
    unsigned moves, place[2];
    uint64_t x;
} story;

static unsigned draw(unsigned of)
{
    uint64_t z = story.x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ z >> 31) % of);
}

static void make_places(void)
{
    static const struct sim_nat_kind kinds[PLACES] = {
        { .filtering = SIM_ADDRESS_AND_PORT },
        { .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_RANDOM },
        { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_SEQUENTIAL },
        { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_RANDOM },
        { .filtering = SIM_ADDRESS_AND_PORT, .no_udp = true },
        { .filtering = SIM_ADDRESS_AND_PORT, .life = 60 * TW_SEC },
        { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_RANDOM },
    };
    for (unsigned i = 0; i < PLACES; i++) {
        story.nats[i] = sim_nat(w.sim, tw_addr_v4(198, 51, (uint8_t)(100 + i), 1, 0), kinds[i], NULL);
        sim_nat_set_link(story.nats[i], (struct sim_link){ .delay = (tw_time)(5 + draw(30)) * TW_MSEC, .jitter = TW_MSEC, .loss = draw(10) });
    }
}

/* An address that was never used, at one of the places or on the open network. */
static struct tw_addr new_place(unsigned who, struct sim_nat **ret_nat)
{
    unsigned p = draw(PLACES + 1);
    story.moves++;
    story.place[who] = p;
    *ret_nat = p < PLACES ? story.nats[p] : NULL;
    return p < PLACES ? tw_addr_v4(10, (uint8_t)p, (uint8_t)(story.moves >> 8), (uint8_t)story.moves, 0)
                      : tw_addr_v4(198, 18, (uint8_t)(story.moves >> 8), (uint8_t)story.moves, 0);
}

static struct endpoint_node *node(unsigned who)
{
    return who ? &w.b : &w.a;
}

static void move(unsigned who)
{
    if (sim_now(w.sim) < story.wakes[who])
        return; /* it sleeps */
    struct endpoint_node *n = node(who);
    struct sim_nat *nat;
    struct tw_addr ip = new_place(who, &nat);
    sim_host_move(n->host, ip, nat);
    n->interface.ip = ip;
    assert_ok(tw_endpoint_interfaces(n->ep, sim_now(w.sim), &n->interface, 1));
    endpoint_node_pump(n);
}

static const struct sim_link dead = { .loss = 1000 }, alive = { .delay = TW_MSEC };

static void happen(unsigned what)
{
    static const char *const names[] = { "a moves", "b moves", "both move", "a NAT forgets", "no network", "sleeps", "the server restarts",
                                         "the relay is gone for a while" };
    unsigned who = draw(2);
    tw_time until = sim_now(w.sim) + (tw_time)(1 + draw(30)) * TW_SEC;
    if (tell)
        printf("%8.3f %s%s until %.3f\n", (double)sim_now(w.sim) / 1e9, what == 4 || what == 5 ? who ? "b: " : "a: " : "", names[what],
               (double)until / 1e9);
    switch (what) {
    case 0:
    case 1:
        move(what);
        break;
    case 2:
        move(0);
        move(1);
        break;
    case 3:
        sim_nat_reboot(story.nats[draw(PLACES)]);
        break;
    case 4:
        sim_host_set_link(node(who)->host, dead);
        story.link_back[who] = until;
        break;
    case 5:
        story.wakes[who] = until > story.wakes[who] ? until : story.wakes[who];
        sim_host_sleep(node(who)->host, story.wakes[who]);
        break;
    case 6:
        desk_node_restart(&w.desk);
        break;
    default:
        story.relay_back = until > story.relay_back ? until : story.relay_back;
        sim_host_sleep(w.relay.host, story.relay_back);
        break;
    }
}

static void step(void)
{
    sim_run(w.sim, sim_now(w.sim) + STEP, NULL);
    for (unsigned i = 0; i < 2; i++)
        if (story.link_back[i] && sim_now(w.sim) >= story.link_back[i]) {
            sim_host_set_link(node(i)->host, alive);
            story.link_back[i] = 0;
        }
}

/* Both have a network, and the relay that they may need is there. */
static bool can_talk(void)
{
    tw_time now = sim_now(w.sim);
    return !story.link_back[0] && !story.link_back[1] && story.wakes[0] <= now && story.wakes[1] <= now && story.relay_back <= now;
}

static void begin(uint64_t seed)
{
    const struct sim_link near = { .delay = 5 * TW_MSEC };
    struct sim_nat *nat;
    memset(&story, 0, sizeof(story));
    story.x = seed;
    meeting_begin(&w, seed, near, true);
    make_places();
    struct tw_addr at = new_place(0, &nat);
    endpoint_node_init(&w.a, w.sim, at, nat, alive, meeting_desk(), &(struct endpoint_node_config){ .key = 1, .tcp = true });
    at = new_place(1, &nat);
    endpoint_node_init(&w.b, w.sim, at, nat, alive, meeting_desk(),
                       &(struct endpoint_node_config){ .key = 2, .listen = true, .allow_any = true, .tcp = true });
    w.b.echo = true;
}

/* As many as are taken: while there is no way, they pile up. */
static size_t offer_bytes(struct node_conn *c, struct tw_bytes b)
{
    size_t took = 0;
    if (c->stream < 0 && tw_endpoint_open(w.a.ep, sim_now(w.sim), c->id, &c->stream))
        return 0;
    if (tw_endpoint_write(w.a.ep, sim_now(w.sim), c->id, c->stream, b, false, &took))
        return 0;
    endpoint_node_pump(&w.a);
    return took;
}

/* Whether every byte that was sent is there and was sent back, once, in order. */
static bool is_whole(const struct node_conn *c, size_t sent)
{
    const struct node_conn *peer = &w.b.conns[0];
    size_t right = 0;
    while (right < sent && right < c->got && right < peer->got && c->bytes[right] == (uint8_t)(right * 2654435761u >> 11) &&
           peer->bytes[right] == c->bytes[right])
        right++;
    return right == sent && c->got == sent && peer->got == sent;
}

/* *ret_longest: for how long nothing came back at most, while both could talk. False: it ended badly, as it then says. */
static bool live(uint64_t seed, tw_time *ret_longest)
{
    static uint8_t chunk[CHUNK];
    size_t sent = 0, seen = 0;
    begin(seed);
    for (int i = 0; i < 600 && (i < 60 || !w.b.onlines); i++)
        step();
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    for (int i = 0; i < 400 && !c->connected; i++)
        step();
    tw_time start = sim_now(w.sim), end = start + SPAN_SEC * TW_SEC, heard = start, longest = 0, next = start + 2 * TW_SEC;
    while (c->connected && !c->closed && (sim_now(w.sim) < end || (c->got < sent && sim_now(w.sim) < end + AFTER_SEC * TW_SEC))) {
        if (sim_now(w.sim) < end && sim_now(w.sim) >= story.wakes[0]) {
            for (size_t i = 0; i < CHUNK; i++)
                chunk[i] = (uint8_t)((sent + i) * 2654435761u >> 11);
            sent += offer_bytes(c, tw_bytes(chunk, CHUNK));
        }
        if (sim_now(w.sim) < end && sim_now(w.sim) >= next) {
            happen(draw(8));
            next = sim_now(w.sim) + (tw_time)(100 + draw(10000)) * TW_MSEC;
        }
        step();
        longest = sim_now(w.sim) - heard > longest ? sim_now(w.sim) - heard : longest;
        if (c->got != seen || !can_talk())
            heard = sim_now(w.sim);
        seen = c->got;
    }
    bool well = c->connected && !c->closed && is_whole(c, sent);
    if (!well)
        printf("seed %llu: %zu of %zu bytes are back%s; %s (%llx); at places %u and %u, rung %s\n", (unsigned long long)seed, c->got, sent,
               !c->connected ? ", never connected" : c->got < sent ? "" : ", not all of them right", c->why, (unsigned long long)c->code,
               story.place[0], story.place[1], tw_rung_name(c->path.rung));
    *ret_longest = longest;
    meeting_end(&w);
    return well;
}

/* One thing that happens to two who are both at home, or behind hard NATs and so at the relay. */
struct accident {
    const char *name;
    unsigned what, who;
    bool hard;
    tw_time lasts;   /* a network that is away so long */
    unsigned most_ms; /* pause after it, in 19 of 20 */
};

static unsigned pause_after(const struct accident *k, uint64_t seed)
{
    static uint8_t chunk[CHUNK];
    begin(seed);
    for (unsigned i = 0; i < 2; i++) { /* to a place of that kind */
        story.moves++;
        struct tw_addr at = tw_addr_v4(10, 0, 9, (uint8_t)story.moves, 0);
        sim_host_move(node(i)->host, at, story.nats[k->hard ? 3 + 3 * i : i]);
        node(i)->interface.ip = at;
        assert_ok(tw_endpoint_interfaces(node(i)->ep, sim_now(w.sim), &node(i)->interface, 1));
        endpoint_node_pump(node(i));
    }
    for (int i = 0; i < 100; i++)
        step();
    struct node_conn *c = endpoint_node_dial(&w.a, &w.b, NULL);
    tw_time start = sim_now(w.sim), heard = 0, longest = 0;
    bool happened = false;
    size_t seen = 0;
    while (sim_now(w.sim) < start + k->lasts + 60 * TW_SEC) {
        tw_time now = sim_now(w.sim);
        if (c->ready && now >= story.wakes[0])
            offer_bytes(c, tw_bytes(chunk, 40)); /* 50 a second: as a call */
        if (!happened && now >= start + 8 * TW_SEC) {
            happened = true;
            heard = now;
            if (k->hard && c->path.rung != TW_RUNG_RELAY)
                fail_msg("seed %llu: the relay is not needed: %s", (unsigned long long)seed, tw_rung_name(c->path.rung));
            if (k->what == 4) {
                sim_host_set_link(node(k->who)->host, dead);
                story.link_back[k->who] = now + k->lasts;
            } else if (k->what == 5) {
                sim_host_sleep(node(k->who)->host, now + k->lasts);
                story.wakes[k->who] = now + k->lasts;
            } else if (k->what == 3) {
                sim_nat_reboot(story.nats[k->who]);
            } else if (k->what == 7) {
                sim_host_sleep(w.relay.host, TW_NEVER);
            } else {
                happen(k->what);
            }
        }
        for (int j = 0; j < 4; j++) {
            sim_run(w.sim, sim_now(w.sim) + 5 * TW_MSEC, NULL);
            if (c->got != seen) {
                longest = heard && sim_now(w.sim) - heard > longest ? sim_now(w.sim) - heard : longest;
                heard = heard ? sim_now(w.sim) : 0;
                seen = c->got;
            }
        }
        for (unsigned j = 0; j < 2; j++) {
            tw_time back = k->what == 5 ? story.wakes[j] : story.link_back[j];
            if (!back || sim_now(w.sim) < back)
                continue;
            if (k->what == 4)
                sim_host_set_link(node(j)->host, alive);
            story.link_back[j] = story.wakes[j] = 0;
            heard = sim_now(w.sim);
            longest = 0;
        }
    }
    if (c->closed)
        fail_msg("%s, seed %llu: %s", k->name, (unsigned long long)seed, c->why);
    longest = sim_now(w.sim) - heard > longest ? sim_now(w.sim) - heard : longest;
    meeting_end(&w);
    return (unsigned)(longest / TW_MSEC);
}

static int by_size(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

static void each_alone(void **state)
{
    static const struct accident all[] = {
        { "the caller moves", 0, 0, false, 0, 1500 },
        { "the callee moves", 1, 0, false, 0, 1500 },
        { "both move at once", 2, 0, false, 0, 4000 },
        { "the caller's NAT forgets", 3, 0, false, 0, 1500 },
        /* Nothing reaches the callee any more, not even over its connection to the server, until it says something: it asks a second after
         * the last that came. */
        { "the callee's NAT forgets", 3, 1, false, 0, 4000 },
        { "no network for 10 s", 4, 0, false, 10 * TW_SEC, 1000 },
        { "no network for 30 s", 4, 0, false, 30 * TW_SEC, 2500 },
        { "the callee has none for 30 s", 4, 1, false, 30 * TW_SEC, 2500 },
        { "the caller sleeps for 20 s", 5, 0, false, 20 * TW_SEC, 2000 },
        { "the callee sleeps for 20 s", 5, 1, false, 20 * TW_SEC, 2000 },
        { "the callee sleeps for 5 min", 5, 1, false, 300 * TW_SEC, 2500 },
        { "the server restarts", 6, 0, false, 0, 400 },
        { "the relay they need is gone", 7, 0, true, 0, 2500 },
    };
    enum { RUNS = 20 };
    unsigned ms[RUNS];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (unsigned s = 0; s < RUNS; s++)
            ms[s] = pause_after(&all[i], 7000 + s);
        qsort(ms, RUNS, sizeof(ms[0]), by_size);
        printf("%-30s pause %5u ms (median), %5u (19 of 20)\n", all[i].name, ms[RUNS / 2], ms[RUNS * 19 / 20]);
        if (ms[RUNS * 19 / 20] > all[i].most_ms)
            fail_msg("%s: too long", all[i].name);
    }
}

static int by_length(const void *a, const void *b)
{
    tw_time x = *(const tw_time *)a, y = *(const tw_time *)b;
    return x < y ? -1 : x > y;
}

static void all_end_with_every_byte(void **state)
{
    tw_time *pause = calloc(stories, sizeof(*pause)), most = 0;
    uint64_t slowest = first;
    unsigned bad = 0;
    (void)state;
    assert_non_null(pause);
    for (unsigned i = 0; i < stories; i++) {
        bad += !live(first + i, &pause[i]);
        if (pause[i] > most) {
            most = pause[i];
            slowest = first + i;
        }
        if (i % 1000 == 999)
            fprintf(stderr, "%u stories told, %u ended badly\n", i + 1, bad);
    }
    qsort(pause, stories, sizeof(*pause), by_length);
    printf("%u stories, %u ended badly; nothing came, though both could talk, for %.1f s (median), %.1f s (19 of 20), %.1f s (most, seed %llu)\n",
           stories, bad, (double)pause[stories / 2] / 1e9, (double)pause[stories * 19 / 20] / 1e9, (double)most / 1e9,
           (unsigned long long)slowest);
    tw_time usual = pause[stories * 19 / 20];
    free(pause);
    assert_int_equal(bad, 0);
    assert_true(usual <= 10 * TW_SEC);
    assert_true(most <= 60 * TW_SEC);
}

static void these_ended_badly_once(void **state)
{
    static const uint64_t seeds[] = {
        1018904, /* the callee held back what a new path may not take yet, all of what it had sent was lost, and the caller had nothing to say */
        30029341, /* ... or had, and was heard, and yet the callee did not send again */
        50028845, /* a NAT had given one the port of the other's allocation of before: the relay took what was small, and nothing that needed a channel */
        90062694, /* not badly, but for 21 s nothing came: the clock was put forward while new data was on its way, which then seemed to have taken long */
        120051868, /* for 117 s: without a way the clock was put forward by ten minutes, and what lay in the server's queue acknowledged then */
        120054730, /* for 73 s: the same */
        120001102, /* for 22 s: a check's answer from before a sleep, out of a relay's connection, made a pair that did not work the path */
        70037480, /* one that moved behind a NAT with many ports had taken all places for peers at the other's relay */
    };
    tw_time longest;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
        assert_true(live(seeds[i], &longest));
        assert_true(longest <= 15 * TW_SEC);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_alone), cmocka_unit_test(these_ended_badly_once),
                                        cmocka_unit_test(all_end_with_every_byte) };
    const struct CMUnitTest random_ones[] = { cmocka_unit_test(all_end_with_every_byte) };
    if (argc == 1)
        return cmocka_run_group_tests(tests, NULL, NULL);
    stories = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first = strtoull(argv[2], NULL, 10);
    tell = argc > 3;
    if (!stories) {
        fprintf(stderr, "usage: endpoint-life_stories [STORIES [FIRST-SEED [1: tell each]]]\n");
        return 2;
    }
    return cmocka_run_group_tests(random_ones, NULL, NULL);
}
