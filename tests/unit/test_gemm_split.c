/* fp32 products by the matrix unit: the arithmetic of gemm_split.h to the last bit, whatever the
 * shape, and errors that are smaller than those of a chain of multiply-adds. */
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
#include "trainer/model/gemm_amx.h"
#include "trainer/model/gemm_split.h"

static int need_amx(void **state)
{
    (void)state;
    if (!gemm_amx_has())
        printf("skipped: the processor has no AMX, or the system does not let it be used\n");
    return 0;
}

static float *numbers(int64_t count, uint64_t stream)
{
    float *x = aligned_alloc(64, (size_t)(count + 16) * sizeof *x / 64 * 64 + 64);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)rng_normal(rng_key(1, RNG_TEST, 0), stream, (uint64_t)i);
    return x;
}

/* The parts of a number, as floats. */
static void split(float part[3], float x)
{
    for (int p = 0; p < 3; p++) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        bits = (p < 2 ? bits + 0x8000 : bits) & 0xffff0000;
        memcpy(&part[p], &bits, sizeof bits);
        x -= part[p];
    }
}

static float element_a(const struct gemm_product *p, int64_t i, int64_t l)
{
    return p->a[i * p->a_row + l * p->a_k];
}

static float element_b(const struct gemm_product *p, int64_t l, int64_t j)
{
    return p->b[l * p->b_k + j * p->b_column];
}

/* One element as gemm_split.h says it is; tdpbf16ps adds even and odd products of 32 of k apart.
 * Source: Intel's Software Developer's Manual. */
static float model(const struct gemm_product *p, float sum, int64_t i, int64_t j)
{
    static const int pair[6][2] = {{1, 1}, {0, 1}, {0, 2}, {0, 0}, {1, 0}, {2, 0}};
    for (int64_t step = 0; step < p->k; step += 32)
        for (int t = 0; t < 6; t++) {
            float half[2] = {0, 0};
            for (int64_t l = step; l < p->k && l < step + 32; l++) {
                float a[3], b[3];
                split(a, element_a(p, i, l));
                split(b, element_b(p, l, j));
                half[l % 2] = fmaf(a[pair[t][0]], b[pair[t][1]], half[l % 2]);
            }
            sum += half[0] + half[1];
        }
    return sum;
}

enum { TRANSPOSED_A = 1, TRANSPOSED_B = 2, KINDS = 4 };

static struct gemm_product product(int kind, float *c, const float *a, const float *b, int64_t m,
                                   int64_t n, int64_t k)
{
    bool ta = kind & TRANSPOSED_A, tb = kind & TRANSPOSED_B;
    return (struct gemm_product){.c = c,
                                 .c_stride = n,
                                 .a = a,
                                 .a_row = ta ? 1 : k,
                                 .a_k = ta ? m : 1,
                                 .b = b,
                                 .b_k = tb ? 1 : n,
                                 .b_column = tb ? k : 1,
                                 .m = m,
                                 .n = n,
                                 .k = k};
}

static const int64_t shapes[][3] = {{1, 1, 1},      {1, 3, 64},     {7, 65, 33},    {33, 31, 257},
                                    {64, 7, 48},    {65, 97, 96},   {130, 300, 70}, {40, 800, 40},
                                    {40, 64, 768},  {64, 64, 800},  {50, 40, 1100}, {96, 608, 1500},
                                    {32, 1600, 32}, {35, 300, 769}, {3, 5, 0}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Sums that begin with zero, with the bias, and with what is there. */
static void elements_are_what_the_header_says_to_the_last_bit(void **state)
{
    (void)state;
    if (!gemm_amx_has())
        skip();
    for (int s = 0; s < SHAPES * KINDS * 3; s++) {
        const int64_t *shape = shapes[s / (KINDS * 3)];
        int64_t m = shape[0], n = shape[1], k = shape[2];
        int kind = s / 3 % KINDS, begin = s % 3;
        float *a = numbers(m * k, 1), *b = numbers(k * n, 2), *bias = numbers(n, 3);
        float *c = numbers(m * n, 4), *before = numbers(m * n, 4);
        struct gemm_product p = product(kind, c, a, b, m, n, k);
        p.bias = begin == 1 ? bias : NULL;
        p.add = begin == 2;
        gemm_split(&p, 1);
        for (int64_t at = 0; at < m * n; at += 1 + at % 7 + m * n / 500) {
            float first = begin == 1 ? bias[at % n] : begin == 2 ? before[at] : 0;
            float want = model(&p, first, at / n, at % n);
            if (c[at] != want)
                fail_msg("kind %d, begin %d, [%lld x %lld x %lld] at %lld: %.9g instead of %.9g",
                         kind, begin, (long long)m, (long long)n, (long long)k, (long long)at,
                         (double)c[at], (double)want);
        }
        free(a), free(b), free(c), free(before), free(bias);
    }
}

static void rows_depend_on_nothing_beside_them(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 15, 31, 32, 33, 100};
    enum { MOST = 100, N = 70 };
    if (!gemm_amx_has())
        skip();
    for (int64_t k = 100; k <= 1200; k += 1100) {
        float *a = numbers(MOST * k, 1), *b = numbers(k * N, 2);
        float *all = numbers(MOST * N, 3), *some = numbers(MOST * N, 4);
        struct gemm_product p = product(0, all, a, b, MOST, N, k);
        gemm_split(&p, 1);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            int64_t first = MOST - counts[i];
            struct gemm_product q = product(0, some, a + first * k, b, counts[i], N, k);
            gemm_split(&q, 1);
            assert_memory_equal(some, all + first * N, (size_t)(counts[i] * N) * sizeof *some);
        }
        free(a), free(b), free(all), free(some);
    }
}

static void products_of_one_a_are_as_if_alone(void **state)
{
    (void)state;
    enum { MANY = 3, M = 70, K = 900 };
    static const int64_t n[MANY] = {96, 33, 700};
    if (!gemm_amx_has())
        skip();
    float *a = numbers(M * K, 1), *b[MANY], *c[MANY];
    struct gemm_product p[MANY];
    for (int i = 0; i < MANY; i++) {
        b[i] = numbers(K * n[i], 2 + (uint64_t)i);
        c[i] = numbers(M * n[i], 7);
        p[i] = product(TRANSPOSED_B, c[i], a, b[i], M, n[i], K);
    }
    gemm_split(p, MANY);
    for (int i = 0; i < MANY; i++) {
        float *alone = numbers(M * n[i], 8);
        struct gemm_product q = p[i];
        q.c = alone;
        gemm_split(&q, 1);
        assert_memory_equal(alone, c[i], (size_t)(M * n[i]) * sizeof *alone);
        free(alone), free(b[i]), free(c[i]);
    }
    free(a);
}

/* Rows further apart than they are long, at an odd place. */
static void what_lies_beside_the_result_stays(void **state)
{
    (void)state;
    enum { M = 45, N = 77, K = 300, APART = N + 3 };
    if (!gemm_amx_has())
        skip();
    float *a = numbers(M * K, 1), *b = numbers(K * N, 2), *c = numbers(M * N, 3);
    float *wide = numbers(M * APART + 1, 4), *edge = numbers(M * APART + 1, 4);
    struct gemm_product p = product(0, c, a, b, M, N, K), q = p;
    q.c = wide + 1;
    q.c_stride = APART;
    gemm_split(&p, 1);
    gemm_split(&q, 1);
    for (int64_t row = 0; row < M; row++) {
        assert_memory_equal(q.c + row * APART, c + row * N, N * sizeof *c);
        assert_memory_equal(q.c + row * APART + N, edge + 1 + row * APART + N, 3 * sizeof *c);
    }
    free(a), free(b), free(c), free(wide), free(edge);
}

/* Root of the mean square of the errors, as parts of the sums of absolute products. */
static double error_of(const struct gemm_product *p)
{
    double squares = 0;
    for (int64_t at = 0; at < p->m * p->n; at++) {
        double sum = 0, size = 0;
        for (int64_t l = 0; l < p->k; l++) {
            double x = (double)element_a(p, at / p->n, l) * (double)element_b(p, l, at % p->n);
            sum += x;
            size += fabs(x);
        }
        double e = ((double)p->c[at] - sum) / size;
        squares += e * e;
    }
    return sqrt(squares / (double)(p->m * p->n));
}

/* Numbers of one size, and of sizes of e^-12 to e^12 beside one another. */
static void errors_are_smaller_than_those_of_a_chain(void **state)
{
    (void)state;
    enum { M = 32, N = 64 };
    if (!gemm_amx_has())
        skip();
    for (int64_t k = 32; k <= 3072; k *= 4)
        for (int wide = 0; wide < 2; wide++) {
            float *a = numbers(M * k, 1), *b = numbers(k * N, 2), *size = numbers(M * k, 5);
            float *c = numbers(M * N, 3), *d = numbers(M * N, 4);
            for (int64_t i = 0; wide && i < M * k; i++)
                a[i] *= expf(4 * size[i]);
            struct gemm_product p = product(0, c, a, b, M, N, k), q = p;
            q.c = d;
            gemm_split(&p, 1);
            gemm_native(&q, 1);
            double split_error = error_of(&p), chain_error = error_of(&q);
            if (!(split_error < chain_error))
                fail_msg("k %lld%s: %.3g, a chain %.3g", (long long)k, wide ? ", of all sizes" : "",
                         split_error, chain_error);
            free(a), free(b), free(c), free(d), free(size);
        }
}

/* What is not finite stays so, in its row alone. */
static void infinities_and_nans_are_not_lost(void **state)
{
    (void)state;
    enum { M = 3, N = 2, K = 40 };
    if (!gemm_amx_has())
        skip();
    float *a = numbers(M * K, 1), *b = numbers(K * N, 2), c[M * N];
    a[7] = INFINITY;
    a[K + 39] = NAN;
    struct gemm_product p = product(0, c, a, b, M, N, K);
    gemm_split(&p, 1);
    for (int at = 0; at < M * N; at++)
        assert_int_equal(isfinite(c[at]) != 0, at / N == 2);
    free(a), free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_what_the_header_says_to_the_last_bit),
        cmocka_unit_test(rows_depend_on_nothing_beside_them),
        cmocka_unit_test(products_of_one_a_are_as_if_alone),
        cmocka_unit_test(what_lies_beside_the_result_stays),
        cmocka_unit_test(errors_are_smaller_than_those_of_a_chain),
        cmocka_unit_test(infinities_and_nans_are_not_lost),
    };
    return cmocka_run_group_tests(tests, need_amx, NULL);
}
