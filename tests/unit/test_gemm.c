/* Products of all libraries and both precisions against plain loops, and what they promise about
 * bits and threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/rng.h"
#include "trainer/model/bf16.h"
#include "trainer/model/gemm.h"

static const char *const libraries[] = {"amx", "native", "openblas", "onednn"};
enum { LIBRARIES = sizeof libraries / sizeof *libraries };

static bool choose(int library)
{
    if (gemm_choose(libraries[library]) == MT_OK)
        return true;
    mt_error_clear();
    printf("skipped: no %s here\n", libraries[library]);
    return false;
}

static float *numbers(int64_t count, uint64_t stream)
{
    float *x = aligned_alloc(64, (size_t)(count + 32) * sizeof *x / 64 * 64 + 64);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)rng_normal(rng_key(1, RNG_TEST, 0), stream, (uint64_t)i);
    return x;
}

/* c[m,n] of op(a) op(b), in double; strides of whole matrices. */
static double *plain(const float *a, bool ta, const float *b, bool tb, int64_t m, int64_t n,
                     int64_t k)
{
    double *c = calloc((size_t)(m * n), sizeof *c);
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += (double)(ta ? a[l * m + i] : a[i * k + l]) *
                                (double)(tb ? b[j * k + l] : b[l * n + j]);
    return c;
}

/* Sums of `k` standard normal products, `factor` times what is added. */
static void expect_near(const float *got, const double *want, const float *before, int64_t count,
                        int64_t k, const char *what)
{
    double bound = 4e-6 * sqrt((double)k) + 1e-6;
    for (int64_t i = 0; i < count; i++) {
        double right = want[i] + (before ? (double)before[i] : 0);
        if (!(fabs((double)got[i] - right) < bound))
            fail_msg("%s[%lld] = %.8g instead of %.8g", what, (long long)i, (double)got[i], right);
    }
}

static const int64_t shapes[][3] = {{1, 1, 1},   {1, 64, 3},   {7, 33, 65},   {31, 64, 64},
                                    {64, 48, 7}, {65, 96, 97}, {130, 70, 300}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void dense_products_agree_with_loops(void **state)
{
    (void)state;
    for (int s = 0; s < LIBRARIES * SHAPES; s++) {
        const int64_t *shape = shapes[s / LIBRARIES];
        int64_t rows = shape[0], in = shape[1], out = shape[2];
        if (!choose(s % LIBRARIES))
            continue;
        float *x = numbers(rows * in, 1), *w = numbers(out * in, 2), *dy = numbers(rows * out, 3);
        float *y = numbers(rows * out, 4), *dx = numbers(rows * in, 5), *dw = numbers(out * in, 6);
        float *dx0 = numbers(rows * in, 5), *dw0 = numbers(out * in, 6);
        double *want_y = plain(x, false, w, true, rows, out, in);
        double *want_dx = plain(dy, false, w, false, rows, in, out);
        double *want_dw = plain(dy, true, x, false, out, in, rows);
        gemm_forward(y, x, w, rows, in, out);
        expect_near(y, want_y, NULL, rows * out, in, "y");
        gemm_backward_input(dx, true, dy, w, rows, in, out);
        expect_near(dx, want_dx, dx0, rows * in, out, "dx added");
        gemm_backward_input(dx, false, dy, w, rows, in, out);
        expect_near(dx, want_dx, NULL, rows * in, out, "dx");
        gemm_backward_weight(dw, true, dy, x, rows, in, out);
        expect_near(dw, want_dw, dw0, out * in, rows, "dw");
        void *all[] = {x, w, dy, y, dx, dw, dx0, dw0, want_y, want_dx, want_dw};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
    assert_int_equal(gemm_choose("auto"), MT_OK);
}

static void rounding_goes_to_the_nearest_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82},
                 {0x3f808001, 0x3f81}, {0xbf807fff, 0xbf80}, {0x7f7fffff, 0x7f80},
                 {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
                 {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x00018000, 0x0002}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float f;
        memcpy(&f, &cases[i].from, sizeof f);
        assert_int_equal(bf16_of(f), cases[i].to);
    }
    for (uint32_t h = 0; h < 65536; h++) {
        float f = bf16_value((uint16_t)h);
        if (!isnan(f))
            assert_int_equal(bf16_of(f), h);
    }
}

static uint16_t *rounded(float *x, int64_t count)
{
    uint16_t *h = aligned_alloc(64, (size_t)(count + 64) * sizeof *h / 64 * 64 + 64);
    bf16_round(h, x, count);
    for (int64_t i = 0; i < count; i++)
        x[i] = bf16_value(h[i]);
    return h;
}

static void need_bf16(void)
{
    const char *why;
    if (!gemm_has_bf16(&why)) {
        printf("skipped: %s\n", why);
        skip();
    }
}

static void bf16_products_are_exact_products_of_rounded_operands(void **state)
{
    (void)state;
    need_bf16();
    for (int s = 0; s < SHAPES; s++) {
        int64_t rows = shapes[s][0], in = shapes[s][1], out = shapes[s][2];
        float *x = numbers(rows * in, 1), *w = numbers(out * in, 2), *dy = numbers(rows * out, 3);
        float *y = numbers(rows * out, 4), *dx = numbers(rows * in, 5), *dw = numbers(out * in, 6);
        float *dx0 = numbers(rows * in, 5);
        uint16_t *x16 = rounded(x, rows * in), *w16 = rounded(w, out * in);
        uint16_t *dy16 = rounded(dy, rows * out);
        double *want_y = plain(x, false, w, true, rows, out, in);
        double *want_dx = plain(dy, false, w, false, rows, in, out);
        double *want_dw = plain(dy, true, x, false, out, in, rows);
        gemm_forward_bf16(y, x16, w16, rows, in, out);
        expect_near(y, want_y, NULL, rows * out, in, "y");
        gemm_backward_input_bf16(dx, true, dy16, w16, rows, in, out);
        expect_near(dx, want_dx, dx0, rows * in, out, "dx added");
        gemm_backward_input_bf16(dx, false, dy16, w16, rows, in, out);
        expect_near(dx, want_dx, NULL, rows * in, out, "dx");
        gemm_backward_weight_bf16(dw, dy16, x16, rows, in, out);
        expect_near(dw, want_dw, NULL, out * in, rows, "dw");
        void *all[] = {x, w, dy, y, dx, dx0, dw, x16, w16, dy16, want_y, want_dx, want_dw};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
}

enum { ROWS = 77, IN = 96, OUT = 192, THREADS = 4, AGAIN = 5 };

struct bits {
    const float *x, *w, *dy;
    float *y, *dx, *dw;
    bool bf16;
};

static void compute(const struct bits *b)
{
    memset(b->dw, 0, sizeof(float) * OUT * IN);
    if (!b->bf16) {
        gemm_forward(b->y, b->x, b->w, ROWS, IN, OUT);
        gemm_backward_input(b->dx, false, b->dy, b->w, ROWS, IN, OUT);
        gemm_backward_weight(b->dw, true, b->dy, b->x, ROWS, IN, OUT);
        return;
    }
    uint16_t *x = malloc(sizeof *x * ROWS * IN), *w = malloc(sizeof *w * OUT * IN);
    uint16_t *dy = malloc(sizeof *dy * ROWS * OUT);
    bf16_round(x, b->x, ROWS * IN);
    bf16_round(w, b->w, OUT * IN);
    bf16_round(dy, b->dy, ROWS * OUT);
    gemm_forward_bf16(b->y, x, w, ROWS, IN, OUT);
    gemm_backward_input_bf16(b->dx, false, dy, w, ROWS, IN, OUT);
    gemm_backward_weight_bf16(b->dw, dy, x, ROWS, IN, OUT);
    free(x), free(w), free(dy);
}

static void *compute_shifted(void *context)
{
    const struct bits *first = context;
    struct bits b = *first;
    for (int shift = 0; shift < AGAIN; shift++) {
        float *y = numbers(ROWS * OUT + 16, 1), *dx = numbers(ROWS * IN + 16, 2);
        float *dw = numbers(OUT * IN + 16, 3), *x = numbers(ROWS * IN + 16, 4);
        memmove(x + shift, first->x, sizeof *x * ROWS * IN);
        b.x = x + shift, b.y = y + shift, b.dx = dx + 3 * shift, b.dw = dw + shift;
        compute(&b);
        bool same = memcmp(b.y, first->y, sizeof *y * ROWS * OUT) == 0 &&
                    memcmp(b.dx, first->dx, sizeof *dx * ROWS * IN) == 0 &&
                    memcmp(b.dw, first->dw, sizeof *dw * OUT * IN) == 0;
        free(y), free(dx), free(dw), free(x);
        if (!same)
            return context;
    }
    return NULL;
}

static int thread_count(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));)
        count += e->d_name[0] != '.';
    if (d)
        (void)closedir(d);
    return count;
}

static int threads_at_start;

/* A thread that was joined is still listed for a moment. */
static void wait_for_dying_threads(void)
{
    while (thread_count() > threads_at_start)
        (void)usleep(100);
}

static void check_bits(bool bf16)
{
    struct bits first = {numbers(ROWS * IN, 1),
                         numbers(OUT * IN, 2),
                         numbers(ROWS * OUT, 3),
                         numbers(ROWS * OUT, 4),
                         numbers(ROWS * IN, 5),
                         numbers(OUT * IN, 6),
                         bf16};
    wait_for_dying_threads();
    compute(&first);
    assert_int_equal(thread_count(), threads_at_start);
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, compute_shifted, &first), 0);
    for (int i = 0; i < THREADS; i++) {
        void *differs;
        assert_int_equal(pthread_join(thread[i], &differs), 0);
        assert_null(differs);
    }
    free((void *)(uintptr_t)first.x), free((void *)(uintptr_t)first.w);
    free((void *)(uintptr_t)first.dy), free(first.y), free(first.dx), free(first.dw);
}

static void bits_depend_on_neither_thread_nor_alignment(void **state)
{
    (void)state;
    for (int l = 0; l < LIBRARIES; l++)
        if (choose(l))
            check_bits(false);
    assert_int_equal(gemm_choose("auto"), MT_OK);
}

static void bits_of_bf16_depend_on_neither_thread_nor_alignment(void **state)
{
    (void)state;
    need_bf16();
    check_bits(true);
}

static void unknown_libraries_are_refused(void **state)
{
    (void)state;
    const char *before = gemm_chosen();
    assert_int_equal(gemm_choose("mkl"), MT_CONFIG);
    assert_non_null(strstr(mt_error_peek()->message, "\"mkl\""));
    mt_error_clear();
    assert_string_equal(gemm_chosen(), before);
    assert_int_equal(gemm_choose("openblas"), MT_OK);
    assert_string_equal(gemm_chosen(), "openblas");
    assert_int_equal(gemm_choose("auto"), MT_OK);
    assert_string_equal(gemm_chosen(), before);
}

int main(void)
{
    gemm_init();
    threads_at_start = thread_count();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_products_agree_with_loops),
        cmocka_unit_test(rounding_goes_to_the_nearest_even),
        cmocka_unit_test(bf16_products_are_exact_products_of_rounded_operands),
        cmocka_unit_test(bits_depend_on_neither_thread_nor_alignment),
        cmocka_unit_test(bits_of_bf16_depend_on_neither_thread_nor_alignment),
        cmocka_unit_test(unknown_libraries_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
