/* Products by the matrix unit: the arithmetic of its manual to the last bit, whatever the shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/rng.h"
#include "trainer/model/activation.h"
#include "trainer/model/activation_table.h"
#include "trainer/model/bf16.h"
#include "trainer/model/gemm_amx.h"

static int need_amx(void **state)
{
    (void)state;
    if (!gemm_amx_has())
        printf("skipped: the processor has no AMX, or the system does not let it be used\n");
    return 0;
}

static float *numbers(int64_t count, uint64_t stream)
{
    float *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)rng_normal(rng_key(1, RNG_TEST, 0), stream, (uint64_t)i);
    return x;
}

static uint16_t *rounded(const float *x, int64_t count)
{
    uint16_t *h = malloc((size_t)count * sizeof *h);
    assert_non_null(h);
    bf16_round(h, x, count);
    return h;
}

/* op(x)[row][column] of a matrix as gemm_amx takes it, rounded. */
static float element(const struct gemm_amx_matrix *x, int64_t row, int64_t column)
{
    if (x->transposed) {
        int64_t swap = row;
        row = column, column = swap;
    }
    int64_t at = row * x->stride + column;
    if (x->blocked)
        at = gemm_amx_block_at(x->stride, row / 32 * 32, column / 32 * 32) + row % 32 * 32 +
             column % 32;
    return bf16_value(x->half ? x->half[at] : bf16_of(x->full[at]));
}

/* One sum as tdpbf16ps makes it: 32 of k at a time, even and odd ones apart, each by fused
 * multiply-adds, then their sum is added.  Source: Intel's Software Developer's Manual. */
static float model(const struct gemm_amx_matrix *a, const struct gemm_amx_matrix *b, int64_t i,
                   int64_t j, int64_t k)
{
    float sum = 0;
    for (int64_t step = 0; step < k; step += 32) {
        float part[2] = {0, 0};
        for (int64_t l = step; l < k && l < step + 32; l++)
            part[l % 2] = fmaf(element(a, i, l), element(b, l, j), part[l % 2]);
        sum += part[0] + part[1];
    }
    return sum;
}

static const int64_t shapes[][3] = {{1, 1, 1},       {1, 3, 64},     {7, 65, 33},    {33, 31, 257},
                                    {64, 7, 48},     {65, 97, 96},   {130, 300, 70}, {40, 800, 40},
                                    {400, 40, 1100}, {390, 780, 270}};
enum { SHAPES = sizeof shapes / sizeof *shapes, KINDS = 64 };

/* A matrix in blocks, with what is not a number below its last row. */
static uint16_t *in_blocks(const float *x, int64_t rows, int64_t columns)
{
    int64_t count = gemm_amx_blocked(rows, columns);
    uint16_t *to = aligned_alloc(64, (size_t)count * sizeof *to);
    assert_non_null(to);
    for (int64_t i = 0; i < count; i++)
        to[i] = 0x7fc0;
    for (int64_t row = 0; row < rows; row++)
        gemm_amx_block_row(to, row, x + row * columns, columns);
    return to;
}

/* The kinds of operands: which is transposed, which is float, which lies in blocks. */
struct operands {
    float *a, *b;
    uint16_t *a_half, *b_half;
    struct gemm_amx_matrix left, right;
};

static void make(struct operands *o, int kind, int64_t m, int64_t n, int64_t k)
{
    bool ta = kind & 1, tb = kind & 2;
    o->a = numbers(m * k, 1);
    o->b = numbers(k * n, 2);
    bool blocks_a = kind & 16, blocks_b = kind & 32;
    o->a_half = blocks_a ? in_blocks(o->a, ta ? k : m, ta ? m : k) : rounded(o->a, m * k);
    o->b_half = blocks_b ? in_blocks(o->b, tb ? n : k, tb ? k : n) : rounded(o->b, k * n);
    o->left = (struct gemm_amx_matrix){kind & 4 ? NULL : o->a_half, o->a, ta ? m : k, ta,
                                       blocks_a && !(kind & 4)};
    o->right = (struct gemm_amx_matrix){kind & 8 ? NULL : o->b_half, o->b, tb ? k : n, tb,
                                        blocks_b && !(kind & 8)};
}

static void release(struct operands *o)
{
    free(o->a), free(o->b), free(o->a_half), free(o->b_half);
}

static void sums_are_those_of_the_manual_to_the_last_bit(void **state)
{
    (void)state;
    if (!gemm_amx_has())
        skip();
    for (int s = 0; s < SHAPES * KINDS; s++) {
        int64_t m = shapes[s / KINDS][0], n = shapes[s / KINDS][1], k = shapes[s / KINDS][2];
        struct operands o;
        if ((s % KINDS & 20) == 20 || (s % KINDS & 40) == 40)
            continue; /* float lies in no blocks */
        make(&o, s % KINDS, m, n, k);
        float *c = calloc((size_t)(m * n), sizeof *c);
        gemm_amx_full((struct gemm_amx_full){c, n, false, NULL}, o.left, o.right, m, n, k);
        for (int64_t at = 0; at < m * n; at += 1 + at % 7 + m * n / 2000) {
            float want = model(&o.left, &o.right, at / n, at % n, k);
            if (c[at] != want)
                fail_msg("kind %d, [%lld x %lld x %lld] at %lld: %.9g instead of %.9g", s % KINDS,
                         (long long)m, (long long)n, (long long)k, (long long)at, (double)c[at],
                         (double)want);
        }
        free(c);
        release(&o);
    }
}

static void bits_of_a_row_do_not_depend_on_the_number_of_rows(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 15, 16, 31, 33, 100, 385, 500};
    enum { MOST = 500, N = 70, K = 1200 };
    if (!gemm_amx_has())
        skip();
    for (int64_t k = 100; k <= K; k += K - 100) {
        struct operands o;
        make(&o, 0, MOST, N, k);
        float *all = numbers(MOST * N, 3), *some = numbers(MOST * N, 4);
        gemm_amx_full((struct gemm_amx_full){all, N, false, NULL}, o.left, o.right, MOST, N, k);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            int64_t first = MOST - counts[i];
            struct gemm_amx_matrix part = o.left;
            part.half += first * k;
            gemm_amx_full((struct gemm_amx_full){some, N, false, NULL}, part, o.right, counts[i], N,
                          k);
            assert_memory_equal(some, all + first * N, (size_t)(counts[i] * N) * sizeof *some);
        }
        free(all), free(some);
        release(&o);
    }
}

static void what_is_there_and_the_bias_are_added_to_the_complete_sum(void **state)
{
    (void)state;
    enum { M = 45, N = 77, K = 300 };
    if (!gemm_amx_has())
        skip();
    struct operands o;
    make(&o, 0, M, N, K);
    float *sum = numbers(M * N, 3), *added = numbers(M * N, 4), *before = numbers(M * N, 4);
    float *bias = numbers(N, 5), *wide = numbers(M * (N + 3), 6), *edge = numbers(M * (N + 3), 6);
    gemm_amx_full((struct gemm_amx_full){sum, N, false, NULL}, o.left, o.right, M, N, K);
    gemm_amx_full((struct gemm_amx_full){added, N, true, NULL}, o.left, o.right, M, N, K);
    gemm_amx_full((struct gemm_amx_full){wide, N + 3, false, bias}, o.left, o.right, M, N, K);
    for (int64_t at = 0; at < M * N; at++) {
        assert_true(added[at] == sum[at] + before[at]);
        assert_true(wide[at / N * (N + 3) + at % N] == sum[at] + bias[at % N]);
    }
    for (int64_t row = 0; row < M; row++) /* what lies beside the result stays */
        assert_memory_equal(wide + row * (N + 3) + N, edge + row * (N + 3) + N, 3 * sizeof *wide);
    free(sum), free(added), free(before), free(bias), free(wide), free(edge);
    release(&o);
}

static void a_row_in_blocks_is_rounded_and_ends_in_zeros(void **state)
{
    (void)state;
    static const int64_t columns[] = {1, 31, 32, 33, 100};
    enum { ROWS = 35 };
    if (!gemm_amx_has())
        skip();
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        int64_t count = columns[c];
        float *x = numbers(ROWS * count, 1);
        uint16_t *half = rounded(x, ROWS * count), *blocks = in_blocks(x, ROWS, count);
        for (int64_t row = 0; row < 64; row++)
            for (int64_t j = 0; j < gemm_amx_blocks(count) * 32; j++) {
                int64_t at = gemm_amx_block_at(count, row / 32 * 32, j / 32 * 32);
                uint16_t want = row >= ROWS ? 0x7fc0 : j >= count ? 0 : half[row * count + j];
                assert_int_equal(blocks[at + row % 32 * 32 + j % 32], want);
            }
        free(x), free(half), free(blocks);
    }
}

static void rounding_a_panel_is_that_of_bf16(void **state)
{
    (void)state;
    enum { WIDE = GEMM_AMX_PANEL, ROWS = 5, STRIDE = 64 };
    static const int64_t columns[] = {1, 16, 17, 31, 32};
    if (!gemm_amx_has())
        skip();
    float *panel = numbers(ROWS * WIDE, 1), *bias = numbers(WIDE, 2);
    _Alignas(64) uint16_t aligned[ROWS * STRIDE + 1];
    panel[3] = INFINITY, panel[WIDE + 5] = NAN, panel[2 * WIDE] = -0.0f;
    for (size_t i = 0; i < 2 * (sizeof columns / sizeof *columns); i++) {
        int64_t count = columns[i / 2];
        uint16_t *to = aligned + i % 2; /* whole lines, or not */
        const float *add = i % 3 ? bias : NULL;
        memset(aligned, 0x55, sizeof aligned);
        gemm_amx_store_half(to, STRIDE, panel, add, ROWS, count);
        for (int64_t at = 0; at < ROWS * WIDE; at++) {
            int64_t row = at / WIDE, column = at % WIDE;
            uint16_t is = to[row * STRIDE + column];
            uint16_t want = column < count ? bf16_of(panel[at] + (add ? add[column] : 0)) : 0x5555;
            assert_int_equal(is, want);
        }
    }
    free(panel), free(bias);
}

/* Every number there is in bf16, as often as a row has room. */
static void activations_by_table_are_those_of_activation(void **state)
{
    (void)state;
    enum { ROW = ACTIVATION_TABLE_ROW, ROWS = ACTIVATION_TABLE / ROW };
    static _Alignas(64) uint16_t u[ACTIVATION_TABLE], g[ACTIVATION_TABLE], again[ACTIVATION_TABLE];
    static float x[ACTIVATION_TABLE], value[ACTIVATION_TABLE], d[ACTIVATION_TABLE],
        slope[ACTIVATION_TABLE];
    if (!gemm_amx_has())
        skip();
    for (int a = 0; a < ACT_COUNT; a++) {
        const struct activation_table *t = activation_table_of((enum activation)a);
        for (int i = 0; i < ACTIVATION_TABLE; i++) {
            u[i] = (uint16_t)(i * 40503);
            x[i] = bf16_value(u[i]);
            d[i] = slope[i] = (float)(i % 77 - 33);
        }
        activation_slopes((enum activation)a, ACTIVATION_TABLE, x, value, slope);
        activation_table_values(t, ROWS, u, g);
        activation_table_slopes(t, ROWS, u, again, d);
        assert_memory_equal(g, again, sizeof g);
        for (int i = 0; i < ACTIVATION_TABLE; i++) {
            assert_true(g[i] == bf16_of(value[i]) || (isnan(value[i]) && isnan(bf16_value(g[i]))));
            assert_true(d[i] == slope[i] || (isnan(d[i]) && isnan(slope[i])));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_the_manual_to_the_last_bit),
        cmocka_unit_test(bits_of_a_row_do_not_depend_on_the_number_of_rows),
        cmocka_unit_test(what_is_there_and_the_bias_are_added_to_the_complete_sum),
        cmocka_unit_test(activations_by_table_are_those_of_activation),
        cmocka_unit_test(a_row_in_blocks_is_rounded_and_ends_in_zeros),
        cmocka_unit_test(rounding_a_panel_is_that_of_bf16),
    };
    return cmocka_run_group_tests(tests, need_amx, NULL);
}
