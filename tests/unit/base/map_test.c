#include "../../test.h"

#include "base/map.h"

#include <thalweg/error.h>

static bool eq_int(const void *item, const void *key)
{
    return *(const int *)item == *(const int *)key;
}

static uint32_t weak_hash(int v)
{
    return (uint32_t)v % 7; /* collisions on purpose */
}

/* Against a plain array as the oracle. */
static void behaves_like_a_set(void **state)
{
    enum { N = 200 };
    static int items[N];
    bool in[N] = { false };
    struct tw_map m;
    unsigned x = 1;
    (void)state;
    tw_map_init(&m, N);
    for (int i = 0; i < N; i++)
        items[i] = i;
    for (int step = 0; step < 20000; step++) {
        x = x * 1103515245 + 12345;
        int i = (int)(x >> 16) % N;
        if (in[i])
            tw_map_del(&m, weak_hash(i), &items[i]);
        else
            assert_ok(tw_map_put(&m, weak_hash(i), &items[i]));
        in[i] = !in[i];
        int probe = (int)(x >> 8) % N;
        assert_ptr_equal(tw_map_get(&m, weak_hash(probe), eq_int, &probe),
                         in[probe] ? &items[probe] : NULL);
    }
    tw_map_fini(&m);
}

static void is_bounded(void **state)
{
    int items[3] = { 0, 1, 2 };
    struct tw_map m;
    (void)state;
    tw_map_init(&m, 2);
    assert_ok(tw_map_put(&m, 1, &items[0]));
    assert_ok(tw_map_put(&m, 2, &items[1]));
    assert_int_equal(tw_map_put(&m, 3, &items[2]), TW_EFULL);
    tw_map_del(&m, 9, &items[2]); /* not in: nothing happens */
    assert_int_equal(m.len, 2);
    tw_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_a_set),
        cmocka_unit_test(is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
