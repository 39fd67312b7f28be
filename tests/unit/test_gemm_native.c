/* The bits of our own products: every element is one chain of fused multiply-adds, whatever the
 * shape, the strides, the blocks, the neighbours and the instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/model/gemm_native.h"

static const char *const sets[] = {"portable", "avx2", "avx512", "neon"};
enum { SETS = sizeof sets / sizeof *sets };

static bool force(int set)
{
    if (gemm_native_force(sets[set]))
        return true;
    printf("skipped: this machine has no %s\n", sets[set]);
    return false;
}

/* Elements of a matrix whose last row has no gap behind it. */
static int64_t elements(int64_t rows, int64_t stride, int64_t gap)
{
    return rows > 0 ? rows * stride - gap : 0;
}

/* Ends at the end of its memory, so that a sanitizer sees a read behind it. */
static float *numbers(int64_t count, uint64_t stream)
{
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)rng_normal(rng_key(7, RNG_TEST, 0), stream, (uint64_t)i);
    return x;
}

static void plain(const struct gemm_product *p)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            float *c = &p->c[i * p->c_stride + j];
            float sum = p->add ? *c : p->bias ? p->bias[j] : 0;
            for (int64_t l = 0; l < p->k; l++)
                sum =
                    fmaf(p->a[i * p->a_row + l * p->a_k], p->b[l * p->b_k + j * p->b_column], sum);
            *c = sum;
        }
}

struct shape {
    int64_t m, n, k;
};

/* Every form of one shape: a, b transposed or not; added to what is there, to a bias, to nothing;
 * views or whole matrices. */
enum { FORMS = 24 };

static void check_form(struct shape s, int form, const char *set)
{
    bool ta = form & 1, tb = form & 2, view = form & 4, add = form / 8 == 1;
    int64_t a_stride = (ta ? s.m : s.k) + (view ? 3 : 0);
    int64_t b_stride = (tb ? s.k : s.n) + (view ? 5 : 0), c_stride = s.n + (view ? 7 : 0);
    float *a = numbers(elements(ta ? s.k : s.m, a_stride, view ? 3 : 0), 1);
    float *b = numbers(elements(tb ? s.n : s.k, b_stride, view ? 5 : 0), 2);
    int64_t c_count = elements(s.m, c_stride, view ? 7 : 0);
    float *c = numbers(c_count, 3), *want = numbers(c_count, 3), *bias = numbers(s.n, 4);
    struct gemm_product p = {.c = want,
                             .c_stride = c_stride,
                             .a = a,
                             .a_row = ta ? 1 : a_stride,
                             .a_k = ta ? a_stride : 1,
                             .b = b,
                             .b_k = tb ? 1 : b_stride,
                             .b_column = tb ? b_stride : 1,
                             .m = s.m,
                             .n = s.n,
                             .k = s.k,
                             .add = add,
                             .bias = form / 8 == 2 ? bias : NULL};
    plain(&p);
    p.c = c;
    gemm_native(&p, 1);
    if (memcmp(c, want, (size_t)c_count * sizeof *c) != 0)
        fail_msg("%s: other bits at m %lld, n %lld, k %lld, form %d", set, (long long)s.m,
                 (long long)s.n, (long long)s.k, form);
    free(a), free(b), free(c), free(want), free(bias);
}

static void check_shapes(const struct shape *shape, int count)
{
    for (int set = 0; set < SETS; set++) {
        if (!force(set))
            continue;
        for (int s = 0; s < count; s++)
            for (int form = 0; form < FORMS; form++)
                check_form(shape[s], form, sets[set]);
    }
    assert_true(gemm_native_force(NULL));
}

static void elements_are_chains_at_any_small_shape(void **state)
{
    (void)state;
    enum { SHAPES = 120 };
    static struct shape shape[SHAPES];
    for (int64_t i = 0; i < SHAPES; i++) /* every remainder of every tile's rows and columns */
        shape[i] = (struct shape){1 + i * 7 % 31, 1 + i * 11 % 67, 1 + i * 13 % 37};
    check_shapes(shape, SHAPES);
}

static void elements_are_chains_at_the_edges_of_tiles_and_blocks(void **state)
{
    (void)state;
    static const struct shape shape[] = {
        {1, 1, 1},      {1, 768, 1},    {1, 1, 769},   {14, 32, 64},   {15, 33, 65},
        {13, 31, 383},  {28, 64, 64},   {29, 65, 384}, {43, 130, 49},  {6, 16, 385},
        {113, 129, 97}, {130, 33, 800}, {5, 769, 40},  {57, 800, 390}, {2, 1600, 3}};
    check_shapes(shape, sizeof shape / sizeof *shape);
}

static void an_empty_sum_is_zero_or_what_was_there(void **state)
{
    (void)state;
    static const struct shape shape[] = {{3, 40, 0}, {20, 7, 0}, {2, 300, 0}};
    check_shapes(shape, 3);
}

static void a_product_without_rows_or_columns_writes_nothing(void **state)
{
    (void)state;
    float x = 5;
    struct gemm_product p = {.c = &x,
                             .c_stride = 500,
                             .a_row = 3,
                             .a_k = 1,
                             .b_k = 500,
                             .b_column = 1,
                             .n = 500,
                             .k = 3};
    gemm_native(&p, 1);
    p.m = 3, p.n = 0;
    gemm_native(&p, 1);
    assert_true(x == 5);
}

/* c[m,n] = a[m,k] b[k,n], rows end to end. */
static struct gemm_product rows_of(float *c, const float *a, const float *b, int64_t m, int64_t n,
                                   int64_t k)
{
    return (struct gemm_product){.c = c,
                                 .c_stride = n,
                                 .a = a,
                                 .a_row = k,
                                 .a_k = 1,
                                 .b = b,
                                 .b_k = n,
                                 .b_column = 1,
                                 .m = m,
                                 .n = n,
                                 .k = k};
}

/* Rows and columns of a product alone, by another set: the bits they had inside the whole. */
static void parts_of_a_product_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    enum { M = 75, N = 90, K = 410 };
    float *a = numbers(M * K, 1), *b = numbers(K * N, 2), *whole = numbers(M * N, 3);
    float *part = numbers(M * N, 3);
    struct gemm_product p = rows_of(whole, a, b, M, N, K);
    gemm_native(&p, 1);
    for (int set = 0; set < SETS; set++) {
        if (!force(set))
            continue;
        for (int64_t i = 0; i < M; i += 1 + i / 2)
            for (int64_t j = 0; j < N; j += 1 + j / 2) {
                struct gemm_product q = p;
                q.c = part, q.a = a + i * K, q.b = b + j;
                q.m = i + 1 + i / 2 < M ? 1 + i / 2 : M - i;
                q.n = j + 1 + j / 2 < N ? 1 + j / 2 : N - j;
                gemm_native(&q, 1);
                for (int64_t r = 0; r < q.m; r++)
                    assert_memory_equal(part + r * N, whole + (i + r) * N + j,
                                        (size_t)q.n * sizeof *part);
            }
    }
    assert_true(gemm_native_force(NULL));
    free(a), free(b), free(whole), free(part);
}

enum { MANY_ROWS = 131, MANY_K = 500, MANY = 3 };

static void check_products_of_one_a(bool transposed)
{
    static const int64_t n[MANY] = {1700, 40, 768};
    float *a = numbers((int64_t)MANY_ROWS * MANY_K, 1);
    struct gemm_product p[MANY], alone;
    for (int i = 0; i < MANY; i++) {
        p[i] = (struct gemm_product){.c = numbers(MANY_ROWS * n[i], 9),
                                     .c_stride = n[i],
                                     .a = a,
                                     .a_row = transposed ? 1 : MANY_K,
                                     .a_k = transposed ? MANY_ROWS : 1,
                                     .b = numbers(n[i] * MANY_K, (uint64_t)(2 + i)),
                                     .b_k = i == 1 ? n[i] : 1,
                                     .b_column = i == 1 ? 1 : MANY_K,
                                     .m = MANY_ROWS,
                                     .n = n[i],
                                     .k = MANY_K,
                                     .bias = i == 2 ? a : NULL};
    }
    gemm_native(p, MANY);
    for (int i = 0; i < MANY; i++) {
        size_t bytes = (size_t)(MANY_ROWS * n[i]) * sizeof(float);
        alone = p[i];
        alone.c = numbers(MANY_ROWS * n[i], 9);
        plain(&alone);
        assert_memory_equal(alone.c, p[i].c, bytes);
        free(alone.c), free(p[i].c);
        free((void *)(uintptr_t)p[i].b);
    }
    free(a);
}

static void products_of_one_a_are_as_if_alone(void **state)
{
    (void)state;
    for (int set = 0; set < SETS; set++) {
        if (!force(set))
            continue;
        check_products_of_one_a(false);
        check_products_of_one_a(true);
    }
    assert_true(gemm_native_force(NULL));
}

enum { THREADS = 80, SIDE = 70 };

static void *multiply_often(void *context)
{
    const struct gemm_product *first = context;
    float *c = malloc(sizeof *c * SIDE * SIDE);
    struct gemm_product p = *first;
    void *differs = NULL;
    p.c = c;
    for (int i = 0; i < 20; i++) {
        gemm_native(&p, 1);
        if (memcmp(c, first->c, sizeof *c * SIDE * SIDE) != 0)
            differs = context;
    }
    free(c);
    return differs;
}

static void many_threads_do_not_disturb_each_other_or_allocate(void **state)
{
    (void)state;
    float *a = numbers(SIDE * SIDE, 1), *b = numbers(SIDE * SIDE, 2), *c = numbers(SIDE * SIDE, 3);
    struct gemm_product p = rows_of(c, a, b, SIDE, SIDE, SIDE);
    p.b_k = 1, p.b_column = SIDE; /* b transposed */
    struct mt_memory_stats before, after;
    pthread_t thread[THREADS];
    gemm_native(&p, 1);
    mt_memory_stats(&before);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, multiply_often, &p), 0);
    for (int i = 0; i < THREADS; i++) {
        void *differs;
        assert_int_equal(pthread_join(thread[i], &differs), 0);
        assert_null(differs);
    }
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
    free(a), free(b), free(c);
}

static void a_set_that_is_not_there_is_refused(void **state)
{
    (void)state;
    const char *before = gemm_native_set();
    assert_false(gemm_native_force("mmx"));
    assert_string_equal(gemm_native_set(), before);
    assert_true(gemm_native_force("portable"));
    assert_string_equal(gemm_native_set(), "portable");
    assert_false(gemm_native_is_fast());
    assert_true(gemm_native_force(NULL));
    assert_string_equal(gemm_native_set(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_chains_at_any_small_shape),
        cmocka_unit_test(elements_are_chains_at_the_edges_of_tiles_and_blocks),
        cmocka_unit_test(an_empty_sum_is_zero_or_what_was_there),
        cmocka_unit_test(a_product_without_rows_or_columns_writes_nothing),
        cmocka_unit_test(parts_of_a_product_have_the_bits_of_the_whole),
        cmocka_unit_test(products_of_one_a_are_as_if_alone),
        cmocka_unit_test(many_threads_do_not_disturb_each_other_or_allocate),
        cmocka_unit_test(a_set_that_is_not_there_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
