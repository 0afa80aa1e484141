#include "../../test.h"

#include "base/timer.h"

/* Random arming, moving and disarming; popping must give them in order, each once. */
static void pops_in_order(void **state)
{
    enum { N = 300 };
    static struct tw_timer timers[N];
    struct tw_timers t;
    unsigned x = 3;
    (void)state;
    tw_timers_init(&t);
    assert_ok(tw_timers_reserve(&t, N));
    for (int step = 0; step < 5000; step++) {
        x = x * 1103515245 + 12345;
        tw_timers_set(&t, &timers[(x >> 16) % N], x % 5 ? (tw_time)(x >> 8) % 1000 : TW_NEVER);
    }
    uint32_t armed = 0;
    for (int i = 0; i < N; i++)
        armed += timers[i].pos != 0;
    assert_int_equal(armed, t.len);
    tw_time last = 0;
    assert_null(tw_timers_pop(&t, -1));
    for (struct tw_timer *p; (p = tw_timers_pop(&t, TW_NEVER)); armed--) {
        assert_true(p->at >= last);
        assert_int_equal(p->pos, 0);
        last = p->at;
    }
    assert_int_equal(armed, 0);
    assert_int_equal(tw_timers_next(&t), TW_NEVER);
    tw_timers_fini(&t);
}

static void not_before_it_is_due(void **state)
{
    struct tw_timers t;
    struct tw_timer a = { 0 };
    (void)state;
    tw_timers_init(&t);
    assert_ok(tw_timers_reserve(&t, 1));
    tw_timers_set(&t, &a, 10);
    assert_null(tw_timers_pop(&t, 9));
    assert_ptr_equal(tw_timers_pop(&t, 10), &a);
    tw_timers_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pops_in_order),
        cmocka_unit_test(not_before_it_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
