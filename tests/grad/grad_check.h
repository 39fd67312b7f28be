/* grad_check: derivatives by finite differences, and small ragged batches to take them on. */
#ifndef MT_TEST_GRAD_CHECK_H
#define MT_TEST_GRAD_CHECK_H

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
#include "io/batch.h"
#include "trainer/model/real.h"

/* count standard normals, different for each stream; the caller frees. */
static inline real *grad_random(int64_t count, uint64_t stream)
{
    real *x = malloc((size_t)(count > 0 ? count : 1) * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (real)rng_normal(rng_key(7, RNG_TEST, 0), stream, (uint64_t)i);
    return x;
}

static inline real *grad_zeros(int64_t count)
{
    return calloc((size_t)(count > 0 ? count : 1), sizeof(real));
}

static inline real *grad_copy(const real *x, int64_t count)
{
    real *y = malloc((size_t)count * sizeof *y);
    memcpy(y, x, (size_t)count * sizeof *y);
    return y;
}

static inline double grad_dot(const real *x, const real *y, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* dx must be the gradient of f at x: differences of fourth order with step h, whose error is of
 * order h^4; at most `samples` elements are tried, spread evenly.  tolerance is relative to the
 * largest element of dx (or to 1). */
static inline void grad_check(const char *what, real *x, int64_t count, const real *dx,
                              double (*f)(void), double tolerance, int64_t samples)
{
    const double h = 5e-4;
    double largest = 1, worst = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)dx[i]));
    int64_t tried = count < samples ? count : samples;
    for (int64_t s = 0; s < tried; s++) {
        int64_t i = s * count / tried;
        real old = x[i];
        double at[4];
        const double place[4] = {-2 * h, -h, h, 2 * h};
        for (int k = 0; k < 4; k++) {
            x[i] = old + (real)place[k];
            at[k] = f();
        }
        x[i] = old;
        double slope = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * h);
        double error = fabs(slope - (double)dx[i]) / largest;
        if (!(error <= tolerance))
            printf("%s[%lld]: differences give %.12g, backward gives %.12g\n", what, (long long)i,
                   slope, (double)dx[i]);
        worst = error > worst || error != error ? error : worst;
    }
    if (getenv("GRAD_VERBOSE"))
        printf("%s: %lld of %lld tried, worst %.2g\n", what, (long long)tried, (long long)count,
               worst);
    assert_true(worst <= tolerance);
}

/* Sentences of 5, 1, 3 and 9 tokens with ids below V and labels for two tasks. */
static inline struct batch grad_batch(int32_t V, int32_t task_count, const int32_t *classes)
{
    static const int32_t lengths[] = {5, 1, 3, 9};
    struct batch b;
    assert_int_equal(batch_create(&b, 4, 18, task_count), MT_OK);
    b.B = 4;
    for (int32_t s = 0; s < b.B; s++) {
        b.offsets[s + 1] = b.offsets[s] + lengths[s];
        b.sample[s] = ((int64_t)1 << 40) + 1000 * s;
        for (int32_t t = 0; t < task_count; t++)
            batch_labels(&b, t)[s] = (s + t) % 4 == 3 ? -1 : (2 * s + t) % classes[t];
    }
    b.N = b.offsets[b.B];
    for (int32_t i = 0; i < b.N; i++) {
        b.ids[i] = (i * 5 + 3) % V;
        b.types[i] = i % 3 == 2;
    }
    return b;
}

#endif
