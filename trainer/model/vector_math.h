/*
 * vector_math: exp, tanh and the normal distribution as loops can vectorise them, and sums of rows.
 *
 * In float these are branch-free polynomials in fused multiply-adds; the stated errors hold against
 * libm in double (see tests/unit/test_vector_math.c).  In double they are libm itself.  NaN in
 * gives NaN out.
 */
#ifndef MT_MODEL_VECTOR_MATH_H
#define MT_MODEL_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "trainer/model/real.h"

/* Phi(x) and phi(x) = exp(-x^2/2) / sqrt(2 pi). */
struct real_normal {
    real cdf, density;
};

#if defined(MT_REAL_double)

static inline real real_exp(real x)
{
    return exp(x);
}

static inline real real_tanh(real x)
{
    return tanh(x);
}

static inline real real_sqrt(real x)
{
    return sqrt(x);
}

static inline struct real_normal real_normal_of(real x)
{
    return (struct real_normal){0.5 * erfc(-x * 0.70710678118654752440),
                                0.39894228040143267794 * exp(-0.5 * x * x)};
}

#else

/* a b + c, rounded once: one operation of a processor that has it, else a slow routine of the C
 * library with the same bits. */
static inline float real_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}

/* e^x, relative error below 2e-7; arguments are clamped to [-87.3, 88.3].
 * Source: Moshier's Cephes, expf.c.  Adding 1.5 * 2^23 rounds to an integer that then stands in the
 * low bits, so neither a conversion nor a branch is needed. */
static inline float real_exp(float x)
{
    const float magic = 12582912.0f;
    x = x > 88.3f ? 88.3f : x;
    x = x < -87.3f ? -87.3f : x;
    float shifted = real_fma(x, 1.44269504088896341f, magic);
    float n = shifted - magic;
    float r = real_fma(n, -0.693359375f, x);
    r = real_fma(n, 2.12194440e-4f, r);
    float p = real_fma(1.9875691500e-4f, r, 1.3981999507e-3f);
    p = real_fma(p, r, 8.3334519073e-3f);
    p = real_fma(p, r, 4.1665795894e-2f);
    p = real_fma(p, r, 1.6666665459e-1f);
    p = real_fma(p, r, 5.0000001201e-1f);
    p = real_fma(p, r * r, r) + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4B400000u + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* tanh x, absolute error below 2e-7, relative below 3e-7.  Source: Cephes, tanhf.c. */
static inline float real_tanh(float x)
{
    float s = x * x;
    float p = real_fma(-5.70498872745e-3f, s, 2.06390887954e-2f);
    p = real_fma(p, s, -5.37397155531e-2f);
    p = real_fma(p, s, 1.33314422036e-1f);
    p = real_fma(p, s, -3.33332819422e-1f);
    float small = real_fma(p * s, x, x);
    float size = x < 0 ? -x : x;
    float large = 1.0f - 2.0f / (real_exp(2.0f * size) + 1.0f);
    large = x < 0 ? -large : large;
    return size < 0.625f ? small : large;
}

static inline float real_sqrt(float x)
{
    return sqrtf(x);
}

/* Absolute error of the cdf below 2.5e-7, of the density below 1e-7; the cdf's lower tail keeps its
 * relative precision.  With z = |x| / sqrt 2 and t = 1 / (1 + 0.37 z), erfc(z) exp(z^2) / t is a
 * polynomial of degree 8 in t to 2.1e-8: the form of Abramowitz and Stegun 7.1.26, its coefficients
 * fitted by reweighted least squares on z in [0, 10].  Both answers share one exponential. */
static inline struct real_normal real_normal_of(float x)
{
    float size = x < 0 ? -x : x;
    float e = real_exp(-0.5f * x * x);
    float t = 1.0f / real_fma(0.26162950903902f, size, 1.0f);
    float q = real_fma(0.06124653322f, t, -0.2999858865f);
    q = real_fma(q, t, 0.4800466416f);
    q = real_fma(q, t, -0.277522534f);
    q = real_fma(q, t, 0.3053984426f);
    q = real_fma(q, t, 0.1088383733f);
    q = real_fma(q, t, 0.2056546587f);
    q = real_fma(q, t, 0.2075151119f);
    q = real_fma(q, t, 0.2088086384f);
    float tail = 0.5f * e * (q * t);
    return (struct real_normal){x < 0 ? tail : 1.0f - tail, 0.3989422804014327f * e};
}

#endif

/* Sums in sixteen lanes, combined in a fixed order. */
enum { ROW_LANES = 16 };

static inline real row_fold_sum(real *lane)
{
    for (int width = ROW_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

static inline real row_sum(const real *x, int64_t n)
{
    real lane[ROW_LANES] = {0};
    int64_t j = 0;
    for (; j + ROW_LANES <= n; j += ROW_LANES)
        for (int l = 0; l < ROW_LANES; l++)
            lane[l] += x[j + l];
    for (int l = 0; j < n; j++, l++)
        lane[l] += x[j];
    return row_fold_sum(lane);
}

static inline real row_dot(const real *x, const real *y, int64_t n)
{
    real lane[ROW_LANES] = {0};
    int64_t j = 0;
    for (; j + ROW_LANES <= n; j += ROW_LANES)
        for (int l = 0; l < ROW_LANES; l++)
            lane[l] += x[j + l] * y[j + l];
    for (int l = 0; j < n; j++, l++)
        lane[l] += x[j] * y[j];
    return row_fold_sum(lane);
}

#endif
