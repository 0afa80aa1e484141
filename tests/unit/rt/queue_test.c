#include "../../test.h"

#include <pthread.h>
#include <sched.h>

#include "rt/queue.h"

enum { MESSAGES = 200000 };
static struct tw_rt_queue q;

static size_t length_of(uint32_t i)
{
    return 4 + i * 2654435761u % 700;
}

static void *writer(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < MESSAGES;) {
        uint8_t *p = tw_rt_queue_room(&q, length_of(i));
        if (!p) {
            sched_yield();
            continue;
        }
        memset(p, (int)(i & 255), length_of(i));
        memcpy(p, &i, sizeof(i));
        tw_rt_queue_publish(&q, length_of(i));
        i++;
    }
    return NULL;
}

static void keeps_order_and_bytes_between_threads(void **state)
{
    pthread_t t;
    (void)state;
    assert_ok(tw_rt_queue_init(&q, 8192));
    assert_ok(pthread_create(&t, NULL, writer, NULL));
    for (uint32_t i = 0; i < MESSAGES;) {
        struct tw_bytes b;
        uint32_t got;
        if (!tw_rt_queue_peek(&q, &b)) {
            sched_yield();
            continue;
        }
        memcpy(&got, b.p, sizeof(got));
        assert_int_equal(got, i);
        assert_int_equal(b.n, length_of(i));
        assert_int_equal(b.p[b.n - 1], b.n > 4 ? i & 255 : b.p[3]);
        tw_rt_queue_drop(&q);
        i++;
    }
    pthread_join(t, NULL);
    tw_rt_queue_fini(&q);
}

static void full_is_full(void **state)
{
    int n = 0;
    struct tw_bytes b;
    (void)state;
    assert_ok(tw_rt_queue_init(&q, 4096));
    while (tw_rt_queue_room(&q, 1000)) {
        tw_rt_queue_publish(&q, 1000);
        n++;
    }
    assert_int_equal(n, 4);
    assert_null(tw_rt_queue_room(&q, 5000));
    for (int i = 0; i < n; i++)
        tw_rt_queue_drop(&q);
    assert_false(tw_rt_queue_peek(&q, &b));
    assert_non_null(tw_rt_queue_room(&q, 1000));
    tw_rt_queue_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_bytes_between_threads),
        cmocka_unit_test(full_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
