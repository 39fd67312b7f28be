#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <sys/mman.h>

#include "comm/base/memory.h"

static struct mt_memory_stats stats(void)
{
    struct mt_memory_stats s;
    mt_memory_stats(&s);
    return s;
}

static void blocks_are_zeroed_and_aligned(void **state)
{
    (void)state;
    const int64_t sizes[] = {0, 1, 63, 64, 65, 4097, 3000000, 50000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block;
        assert_int_equal(mt_alloc(&block, sizes[i], 1, "a block"), MT_OK);
        assert_int_equal((uintptr_t)block % 64, 0);
        for (int64_t k = 0; k<sizes[i]; k += sizes[i]> 100000 ? 997 : 1)
            assert_int_equal(block[k], 0);
        if (sizes[i] > 0)
            memset(block, 0xee, (size_t)sizes[i]);
        mt_free(&block);
        assert_null(block);
    }
}

static void counters_balance(void **state)
{
    (void)state;
    struct mt_memory_stats before = stats();
    double *a;
    char *b;
    assert_int_equal(mt_alloc(&a, 100, sizeof *a, "a"), MT_OK);
    assert_int_equal(mt_strdup(&b, "seven b"), MT_OK);
    assert_string_equal(b, "seven b");
    struct mt_memory_stats during = stats();
    assert_int_equal(during.live_blocks, before.live_blocks + 2);
    assert_int_equal(during.live_bytes, before.live_bytes + 808);
    assert_int_equal(during.allocations, before.allocations + 2);
    mt_free(&a);
    mt_free(&b);
    mt_free(&b); /* NULL by now */
    struct mt_memory_stats after = stats();
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_true(after.peak_bytes >= during.live_bytes);
}

static void growing_keeps_the_old_and_zeroes_the_new(void **state)
{
    (void)state;
    int32_t *v = NULL;
    assert_int_equal(mt_grow(&v, 0, 3, sizeof *v, "v"), MT_OK);
    for (int32_t i = 0; i < 3; i++)
        v[i] = i + 1;
    assert_int_equal(mt_grow(&v, 3, 5000, sizeof *v, "v"), MT_OK);
    for (int32_t i = 0; i < 5000; i++)
        assert_int_equal(v[i], i < 3 ? i + 1 : 0);
    assert_int_equal(mt_grow(&v, 5000, 2, sizeof *v, "v"), MT_OK);
    assert_int_equal(v[1], 2);
    mt_free(&v);
}

static void impossible_sizes_are_an_error_not_an_overflow(void **state)
{
    (void)state;
    char *block = NULL;
    assert_int_equal(mt_alloc(&block, INT64_MAX, 8, "x"), MT_NOMEM);
    assert_int_equal(mt_alloc(&block, INT64_MAX / 4, 8, "x"), MT_NOMEM);
    assert_int_equal(mt_alloc(&block, -1, 1, "x"), MT_NOMEM);
    assert_null(block);
    assert_non_null(strstr(mt_error_peek()->message, "x"));
}

static void the_chosen_allocation_fails_once(void **state)
{
    (void)state;
    struct mt_memory_stats before = stats();
    char *a = NULL, *b = NULL, *c = NULL;
    mt_memory_fail_after(2);
    assert_int_equal(mt_alloc(&a, 8, 1, "a"), MT_OK);
    assert_int_equal(mt_alloc(&b, 8, 1, "b"), MT_NOMEM);
    assert_int_equal(mt_alloc(&c, 8, 1, "c"), MT_OK);
    assert_null(b);
    assert_non_null(strstr(mt_error_peek()->message, "b"));
    mt_free(&a);
    mt_free(&c);
    assert_int_equal(stats().live_blocks, before.live_blocks);
}

static void failed_growing_leaves_the_block(void **state)
{
    (void)state;
    int *v = NULL;
    assert_int_equal(mt_grow(&v, 0, 4, sizeof *v, "v"), MT_OK);
    v[3] = 9;
    int *same = v;
    mt_memory_fail_after(1);
    assert_int_equal(mt_grow(&v, 4, 8, sizeof *v, "v"), MT_NOMEM);
    assert_ptr_equal(v, same);
    assert_int_equal(v[3], 9);
    mt_free(&v);
}

static void *allocate_and_free(void *argument)
{
    int *served = argument;
    for (int i = 0; i < 2000; i++) {
        char *block = NULL;
        *served += mt_alloc(&block, i % 300, 1, "block of a thread") == MT_OK;
        mt_free(&block);
    }
    return NULL;
}

static void threads_keep_the_counters_right(void **state)
{
    (void)state;
    struct mt_memory_stats before = stats();
    pthread_t threads[4];
    int served[4] = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_free, &served[i]), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(served[i], 2000);
    }
    struct mt_memory_stats after = stats();
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_int_equal(after.allocations, before.allocations + 8000);
}

static void a_scattered_block_takes_only_the_pages_that_are_touched(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    print_message("the address sanitizer touches every page itself\n");
    skip();
#endif
    enum { BYTES = 64 << 20, STRIDE = 1 << 20, PAGE_BYTES = 4096 };
    static unsigned char resident[BYTES / PAGE_BYTES];
    char *block;
    int pages = 0;
    assert_int_equal(mt_alloc(&block, BYTES, 1, "a block"), MT_OK);
    mt_scatter(block);
    for (int at = 0; at < BYTES; at += STRIDE)
        block[at] = 1;
    char *first = block - (uintptr_t)block % PAGE_BYTES;
    assert_int_equal(mincore(first, BYTES, resident), 0);
    for (int i = 0; i < BYTES / PAGE_BYTES; i++)
        pages += resident[i] & 1;
    /* the first huge page may have come with the block's own header */
    assert_in_range(pages, BYTES / STRIDE, BYTES / STRIDE + (2 << 20) / PAGE_BYTES);
    mt_free(&block);
    assert_int_equal(mt_alloc(&block, 16, 1, "a small block"), MT_OK);
    mt_scatter(block); /* does nothing */
    mt_free(&block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_zeroed_and_aligned),
        cmocka_unit_test(counters_balance),
        cmocka_unit_test(growing_keeps_the_old_and_zeroes_the_new),
        cmocka_unit_test(impossible_sizes_are_an_error_not_an_overflow),
        cmocka_unit_test(the_chosen_allocation_fails_once),
        cmocka_unit_test(failed_growing_leaves_the_block),
        cmocka_unit_test(threads_keep_the_counters_right),
        cmocka_unit_test(a_scattered_block_takes_only_the_pages_that_are_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
