/* How large packets may be: found at the beginning, lost in a black hole, and not lost to chance. */
#include "../../test.h"
#include "path/mtu.h"

static const uint8_t token[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const tw_time rtt = 40 * TW_MSEC;

/* A path: what is larger than `most`, and what chance takes, does not arrive; the rest is acknowledged a round trip later. */
struct path {
    struct tw_mtu mtu;
    tw_time now, acked_at;       /* acked_at: of data */
    size_t most;
    unsigned probes, lose;       /* lose: so many of the next probes */
    struct {
        tw_time at;
        uint8_t bytes[TW_MTU_HEADER];
    } answers[16];
    unsigned answer_n;
};

static void probe(struct path *p)
{
    uint8_t buf[TW_MTU_MAX], reply[TW_MTU_HEADER];
    size_t n, reply_n;
    struct tw_mtu peer = { 0 };
    while ((n = tw_mtu_probe(&p->mtu, p->now, buf))) {
        p->probes++;
        if (n > p->most || (p->lose && p->lose--))
            continue;
        assert_true(tw_mtu_recv(&peer, p->now, tw_bytes(buf, n), reply, &reply_n));
        assert_int_equal(reply_n, TW_MTU_HEADER);
        assert_true(p->answer_n < ARRAY_LEN(p->answers));
        p->answers[p->answer_n].at = p->now + rtt;
        memcpy(p->answers[p->answer_n++].bytes, reply, sizeof(reply));
    }
}

static void answers(struct path *p)
{
    size_t none;
    while (p->answer_n && p->answers[0].at <= p->now) {
        assert_true(tw_mtu_recv(&p->mtu, p->now, tw_bytes(p->answers[0].bytes, TW_MTU_HEADER), NULL, &none));
        memmove(p->answers, p->answers + 1, --p->answer_n * sizeof(p->answers[0]));
    }
}

/* For so long; sending: data as large as is allowed, each ms, of which what arrives is acknowledged. */
static void go_on(struct path *p, tw_time span, bool sending)
{
    for (tw_time end = p->now + span; p->now < end; p->now += TW_MSEC) {
        if (sending)
            tw_mtu_sent(&p->mtu, p->now, p->mtu.now, p->acked_at, rtt);
        if (sending && p->mtu.now <= p->most)
            p->acked_at = p->now;
        answers(p);
        if (tw_mtu_deadline(&p->mtu) <= p->now)
            probe(p);
    }
}

static struct path path(size_t most)
{
    struct path p = { .now = TW_SEC, .most = most };
    tw_mtu_reset(&p.mtu, p.now, true, token);
    return p;
}

static void the_largest_that_arrives_is_found(void **state)
{
    static const size_t most[] = { 1472, 1460, 1300, 1200 }, found[] = { 1472, 1452, 1280, 1200 };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(most); i++) {
        struct path p = path(most[i]);
        go_on(&p, 10 * TW_SEC, false);
        assert_int_equal(p.mtu.now, found[i]);
    }
}

static void a_black_hole_is_found_soon(void **state)
{
    struct path p = path(1472);
    (void)state;
    go_on(&p, 3 * TW_SEC, true);
    assert_int_equal(p.mtu.now, 1472);
    p.most = 1300;
    tw_time began = p.now;
    while (p.mtu.now > 1300) {
        go_on(&p, TW_MSEC, true);
        assert_true(p.now < began + 300 * TW_MSEC);
    }
    go_on(&p, 10 * TW_SEC, true);
    assert_int_equal(p.mtu.now, 1280);
}

/* Data is acknowledged all the same, as there are small packets, too. */
static void a_black_hole_is_found_beside_small_packets(void **state)
{
    struct path p = path(1472);
    (void)state;
    go_on(&p, 3 * TW_SEC, true);
    p.most = 1300;
    for (tw_time end = p.now + TW_SEC; p.now < end;) {
        p.acked_at = p.now;
        go_on(&p, TW_MSEC, true);
    }
    assert_true(p.mtu.now <= 1300);
}

static void one_lost_probe_is_no_black_hole(void **state)
{
    struct path p = path(1472);
    (void)state;
    go_on(&p, 3 * TW_SEC, true);
    for (int i = 0; i < 100; i++) {
        p.lose = 1;
        go_on(&p, 600 * TW_MSEC, true);
        assert_int_equal(p.mtu.now, 1472);
        assert_int_equal(p.lose, 0);
    }
}

static void an_idle_path_is_left_alone(void **state)
{
    struct path p = path(1472);
    (void)state;
    go_on(&p, 3 * TW_SEC, true);
    go_on(&p, 3 * TW_SEC, false);
    unsigned before = p.probes;
    go_on(&p, 60 * TW_SEC, false);
    assert_int_equal(p.probes, before);
}

static void answers_of_others_change_nothing(void **state)
{
    struct path p = path(1200);
    uint8_t forged[TW_MTU_HEADER] = { TW_MTU_ACK, 8, 7, 6, 5, 4, 3, 2, 1, 1472 >> 8, 1472 & 0xff }, reply[TW_MTU_HEADER];
    size_t n;
    (void)state;
    go_on(&p, TW_SEC, false);
    assert_true(tw_mtu_recv(&p.mtu, p.now, tw_bytes(forged, sizeof(forged)), reply, &n));
    assert_int_equal(p.mtu.now, TW_MTU_BASE);
    assert_int_equal(n, 0);
    forged[0] = TW_MTU_PROBE; /* that says it is larger than it is */
    assert_true(tw_mtu_recv(&p.mtu, p.now, tw_bytes(forged, sizeof(forged)), reply, &n));
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_that_arrives_is_found), cmocka_unit_test(a_black_hole_is_found_soon),
        cmocka_unit_test(a_black_hole_is_found_beside_small_packets), cmocka_unit_test(one_lost_probe_is_no_black_hole),
        cmocka_unit_test(an_idle_path_is_left_alone), cmocka_unit_test(answers_of_others_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
