/* The usual cast of a scenario: one relay, one client and one plain peer on clean links. */
#ifndef TW_SIM_STORY_H
#define TW_SIM_STORY_H

#include "../test.h"
#include "nodes.h"

struct story {
    struct sim *sim;
    struct relay_node relay;
    struct turn_node client;
    struct peer_node peer;
};

#define CLEAN ((struct sim_link){ .delay = 5 * TW_MSEC })

/* Workers 1 or more; change relay.cfg between story_begin() and story_start(). */
static inline struct story *story_begin(unsigned workers)
{
    static struct story st;
    memset(&st, 0, sizeof(st));
    st.sim = sim_new(7);
    relay_node_init(&st.relay, st.sim, ip("203.0.114.1"), ip("2a00:1::1"), CLEAN, workers);
    return &st;
}

static inline void story_start(struct story *st, struct tw_turn_config cfg)
{
    relay_node_start(&st->relay);
    turn_node_init(&st->client, st->sim, ip("203.0.114.2"), NULL, CLEAN, &st->relay, cfg);
    peer_node_init(&st->peer, st->sim, ip("203.0.114.3"), NULL, CLEAN);
    st->peer.echo = true;
}

static inline void story_run(struct story *st, tw_time span)
{
    sim_run(st->sim, sim_now(st->sim) + span, NULL);
}

static inline int story_send(struct story *st, const void *p, size_t n)
{
    int err = tw_turn_send(st->client.turn, sim_now(st->sim), &st->peer.local, tw_bytes(p, n), 0, 0);
    turn_node_pump(&st->client);
    return err;
}

static inline void story_bind(struct story *st)
{
    assert_ok(tw_turn_bind(st->client.turn, sim_now(st->sim), &st->peer.local));
    turn_node_pump(&st->client);
    story_run(st, TW_SEC);
    assert_true(tw_turn_is_bound(st->client.turn, sim_now(st->sim), &st->peer.local));
}

static inline void story_end(struct story *st)
{
    turn_node_fini(&st->client);
    relay_node_fini(&st->relay);
    sim_free(st->sim);
}

#define STORY_MAIN(...)                                                                           \
    int main(void)                                                                                \
    {                                                                                             \
        const struct CMUnitTest tests[] = { __VA_ARGS__ };                                        \
        return cmocka_run_group_tests(tests, NULL, NULL);                                         \
    }

#endif
