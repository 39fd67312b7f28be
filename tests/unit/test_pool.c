#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/pool.h"

enum { MOST = 1000 };

struct tally {
    atomic_int done[MOST];
    atomic_int per_worker[8];
    atomic_int order_broken, last;
    int fails_from; /* indexes >= this fail; -1 = none */
    double nap_s;
};

static mt_status count_index(void *context, int32_t index, int32_t worker)
{
    struct tally *t = context;
    atomic_fetch_add(&t->done[index], 1);
    atomic_fetch_add(&t->per_worker[worker], 1);
    if (t->nap_s > 0.0 && index == t->fails_from)
        clock_sleep_s(t->nap_s); /* the lowest failure comes last */
    if (t->fails_from >= 0 && index >= t->fails_from)
        return MT_FAIL(MT_DATA, "index %d is bad", index);
    return MT_OK;
}

static void every_index_is_done_once_at_any_thread_count(void **state)
{
    (void)state;
    for (int32_t threads = 1; threads <= 5; threads++) {
        struct pool *p = NULL;
        assert_int_equal(pool_create(&p, threads), MT_OK);
        assert_int_equal(pool_threads(p), threads);
        for (int32_t count = 0; count <= MOST; count = count * 3 + 1) {
            struct tally t = {.fails_from = -1};
            int sum = 0;
            assert_int_equal(pool_run(p, count_index, &t, count), MT_OK);
            for (int i = 0; i < MOST; i++)
                assert_int_equal(atomic_load(&t.done[i]), i < count);
            for (int w = 0; w < 8; w++)
                sum += w < threads ? atomic_load(&t.per_worker[w]) : 0;
            assert_int_equal(sum, count);
        }
        pool_destroy(&p);
        assert_null(p);
    }
}

static void the_lowest_failure_comes_back_whatever_the_timing(void **state)
{
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads++) {
        struct pool *p = NULL;
        assert_int_equal(pool_create(&p, threads), MT_OK);
        for (int round = 0; round < 20; round++) {
            struct tally t = {.fails_from = 3, .nap_s = round % 2 == 0 ? 0.002 : 0.0};
            assert_int_equal(pool_run(p, count_index, &t, 100), MT_DATA);
            assert_string_equal(mt_error_peek()->message, "index 3 is bad");
            mt_error_clear();
            int done = 0;
            for (int i = 0; i < 100; i++)
                done += atomic_load(&t.done[i]);
            if (threads == 1)
                assert_int_equal(done, 4);
        }
        struct tally t = {.fails_from = -1};
        assert_int_equal(pool_run(p, count_index, &t, 50), MT_OK);
        pool_destroy(&p);
    }
}

static void a_run_allocates_nothing(void **state)
{
    (void)state;
    struct pool *p = NULL;
    struct mt_memory_stats before, after;
    struct tally t = {.fails_from = -1};
    assert_int_equal(pool_create(&p, 3), MT_OK);
    mt_memory_stats(&before);
    for (int i = 0; i < 200; i++)
        assert_int_equal(pool_run(p, count_index, &t, 7), MT_OK);
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
    pool_destroy(&p);
}

static void creation_fails_cleanly(void **state)
{
    (void)state;
    struct pool *p = NULL;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    assert_int_equal(pool_create(&p, 0), MT_ARG);
    assert_int_equal(pool_create(&p, POOL_THREADS_MAX + 1), MT_ARG);
    for (int64_t n = 1; n <= 2; n++) {
        mt_memory_fail_after(n);
        assert_int_equal(pool_create(&p, 2), MT_NOMEM);
        assert_null(p);
    }
    mt_memory_fail_after(0);
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, before.live_blocks);
    pool_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_done_once_at_any_thread_count),
        cmocka_unit_test(the_lowest_failure_comes_back_whatever_the_timing),
        cmocka_unit_test(a_run_allocates_nothing),
        cmocka_unit_test(creation_fails_cleanly),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
