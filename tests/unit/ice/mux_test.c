/* Many agents on shared sockets, and agents with several streams and components. */
#include <sodium.h>

#include <thalweg/ice.h>

#include "../../test.h"

enum { AGENTS = 40 };

static uint64_t seed;

static void fill(void *ctx, void *out, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 56);
}

static const struct tw_env env = { .rng = { fill, NULL } };
static tw_time now;

struct end {
    struct tw_ice_mux *mux;
    struct tw_addr addr;
    struct tw_ice *agents[AGENTS];
    unsigned data[AGENTS], connected;
};

static struct end ends[2];

static void pass(unsigned from, struct tw_ice *a);

static unsigned index_of(const struct end *e, const struct tw_ice *a)
{
    for (unsigned i = 0; i < AGENTS; i++)
        if (e->agents[i] == a)
            return i;
    fail();
    return 0;
}

static void deliver(unsigned to, const struct tw_datagram *d)
{
    uint8_t bytes[2048];
    size_t n = 0;
    for (size_t i = 0; i < d->iov_n; i++) {
        memcpy(bytes + n, d->iov[i].p, d->iov[i].n);
        n += d->iov[i].n;
    }
    struct tw_bytes b = tw_bytes(bytes, n);
    struct tw_datagram in = { .src = d->src, .dst = ends[to].addr, .iov = &b, .iov_n = 1 };
    struct tw_ice *a = tw_ice_mux_find(ends[to].mux, &in);
    if (a && !tw_ice_recv(a, now, &in))
        pass(to, a);
}

static void pass(unsigned side, struct tw_ice *a)
{
    struct tw_ice_event ev;
    struct tw_datagram d;
    do {
        while (tw_ice_poll_tx(a, &d))
            deliver(!side, &d);
        if (!tw_ice_poll_event(a, &ev))
            return;
        if (ev.type == TW_ICE_OPEN)
            tw_ice_opened(a, now, ev.sock, 0, &ends[side].addr);
        ends[side].connected += ev.type == TW_ICE_CONNECTED;
        if (ev.type == TW_ICE_DATA)
            ends[side].data[index_of(&ends[side], a)]++;
    } while (true);
}

static void make(unsigned side, unsigned i)
{
    struct tw_ice_config cfg = { .controlling = side == 0, .own_peer = true, .mux = ends[side].mux };
    struct tw_ice_interface eth = { .name = "eth0", .ip = tw_addr_ip_only(&ends[side].addr) };
    assert_ok(tw_ice_new(&cfg, &env, &ends[side].agents[i]));
    assert_ok(tw_ice_interfaces(ends[side].agents[i], now, &eth, 1));
    pass(side, ends[side].agents[i]);
}

static void tell(unsigned from, unsigned i)
{
    char sdp[4096];
    size_t n;
    assert_ok(tw_ice_write_sdp(ends[from].agents[i], 0, sdp, sizeof(sdp), &n));
    assert_ok(tw_ice_read_sdp(ends[!from].agents[i], now, sdp, NULL));
    pass(!from, ends[!from].agents[i]);
}

static void every_agent_gets_its_own(void **state)
{
    (void)state;
    memset(ends, 0, sizeof(ends));
    now = 1000 * TW_SEC;
    for (unsigned s = 0; s < 2; s++) {
        ends[s].addr = tw_addr_v4(198, 51, 100, (uint8_t)(s + 1), 4000);
        assert_ok(tw_ice_mux_new(&env, AGENTS, &ends[s].mux));
    }
    for (unsigned i = 0; i < AGENTS; i++) {
        make(0, i);
        make(1, i);
    }
    struct tw_ice *one_more;
    struct tw_ice_config cfg = { .mux = ends[0].mux };
    assert_int_equal(tw_ice_new(&cfg, &env, &one_more), TW_EFULL);
    for (unsigned i = 0; i < AGENTS; i++) {
        tell(0, i);
        tell(1, i);
    }
    assert_int_equal(ends[0].connected, AGENTS);
    assert_int_equal(ends[1].connected, AGENTS);
    /* All have the same two addresses: checks find each, data the one that proved them last. */
    assert_ok(tw_ice_send(ends[0].agents[3], now, 0, 1, tw_bytes_str("x"), 0));
    pass(0, ends[0].agents[3]);
    unsigned sum = 0;
    for (unsigned i = 0; i < AGENTS; i++)
        sum += ends[1].data[i];
    assert_int_equal(sum, 1);
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; i < AGENTS; i++)
            tw_ice_free(ends[s].agents[i]);
        struct tw_bytes b = tw_bytes_str("nobody is left for this");
        struct tw_datagram d = { .src = ends[!s].addr, .dst = ends[s].addr, .iov = &b, .iov_n = 1 };
        assert_null(tw_ice_mux_find(ends[s].mux, &d));
        tw_ice_mux_free(ends[s].mux);
    }
}

/* --- streams and components ------------------------------------------------------------------------ */

struct many {
    struct tw_ice *ice;
    struct tw_addr at[64]; /* by socket id */
    bool connected;
    unsigned sent;
    uint8_t paths[2][2];
    unsigned data[2][2];
};

static struct many two[2];

static void carry(unsigned side)
{
    struct tw_ice_event ev;
    struct tw_datagram d;
    struct many *m = &two[side], *o = &two[!side];
    do {
        while (tw_ice_poll_tx(m->ice, &d)) {
            uint8_t bytes[2048];
            memcpy(bytes, d.iov[0].p, d.iov[0].n);
            struct tw_bytes b = tw_bytes(bytes, d.iov[0].n);
            m->sent++;
            for (uint32_t s = 1; s < 64; s++)
                if (tw_addr_eq(&o->at[s], &d.dst)) {
                    struct tw_datagram in = { .sock = s, .src = d.src, .dst = d.dst, .iov = &b, .iov_n = 1 };
                    assert_ok(tw_ice_recv(o->ice, now, &in));
                    carry(!side);
                }
        }
        if (!tw_ice_poll_event(m->ice, &ev))
            return;
        if (ev.type == TW_ICE_OPEN) {
            m->at[ev.sock] = ev.local;
            m->at[ev.sock].port = (uint16_t)(5000 + ev.sock);
            tw_ice_opened(m->ice, now, ev.sock, 0, &m->at[ev.sock]);
        }
        m->connected = m->connected || ev.type == TW_ICE_CONNECTED;
        if (ev.type == TW_ICE_PATH)
            m->paths[ev.stream][ev.component - 1]++;
        if (ev.type == TW_ICE_DATA)
            m->data[ev.stream][ev.component - 1]++;
    } while (true);
}

static void streams_and_components(bool foreign)
{
    char sdp[2][4096];
    char all[2][9000];
    memset(two, 0, sizeof(two));
    now = 1000 * TW_SEC;
    for (unsigned s = 0; s < 2; s++) {
        struct tw_ice_config cfg = { .controlling = s == 0, .streams = 2, .components = 2, .foreign = foreign };
        struct tw_ice_interface list[2] = { { .name = "eth0", .ip = tw_addr_v4(198, 51, 101, (uint8_t)(s + 1), 0) },
                                            { .name = "eth1", .ip = tw_addr_v4(198, 51, 102, (uint8_t)(s + 1), 0) } };
        assert_ok(tw_ice_new(&cfg, &env, &two[s].ice));
        assert_ok(tw_ice_interfaces(two[s].ice, now, list, 2));
        carry(s);
    }
    for (unsigned s = 0; s < 2; s++) {
        size_t n;
        for (unsigned k = 0; k < 2; k++)
            assert_ok(tw_ice_write_sdp(two[s].ice, k, sdp[k], sizeof(sdp[k]), &n));
        snprintf(all[s], sizeof(all[s]), "v=0\r\nm=one\r\n%sm=two\r\n%s", sdp[0], sdp[1]);
    }
    for (unsigned s = 0; s < 2; s++)
        assert_ok(tw_ice_read_sdp(two[!s].ice, now, all[s], NULL));
    unsigned at_once = 0;
    for (unsigned i = 0; i < 400 && !(two[0].connected && two[1].connected); i++) {
        carry(0);
        carry(1);
        if (i == 0)
            at_once = two[0].sent;
        now += 10 * TW_MSEC;
        tw_ice_tick(two[0].ice, now);
        tw_ice_tick(two[1].ice, now);
    }
    assert_true(two[0].connected && two[1].connected);
    if (foreign) /* RFC 8445 §14: one every Ta, and what it triggered */
        assert_true(at_once <= 4);
    for (unsigned s = 0; s < 2; s++)
        for (unsigned c = 0; c < 2; c++) {
            assert_ok(tw_ice_send(two[0].ice, now, s, c + 1, tw_bytes_str("x"), 0));
            carry(0);
            assert_int_equal(two[1].data[s][c], 1);
            assert_true(two[0].paths[s][c] >= 1);
        }
    assert_int_equal(tw_ice_send(two[0].ice, now, 2, 1, tw_bytes_str("x"), 0), TW_EINVAL);
    assert_int_equal(tw_ice_send(two[0].ice, now, 0, 3, tw_bytes_str("x"), 0), TW_EINVAL);
    for (unsigned s = 0; s < 2; s++)
        tw_ice_free(two[s].ice);
}

static void several_streams(void **state)
{
    (void)state;
    streams_and_components(false);
    streams_and_components(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_agent_gets_its_own),
                                        cmocka_unit_test(several_streams) };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
