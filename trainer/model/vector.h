/*
 * vector: one vector register of reals, for kernels that are compiled once for each width.
 *
 * A file that includes this is compiled for one target: with AVX-512 a vector has 64 bytes, with
 * AVX2 and FMA 32, else 16 (in double always 64, by whatever the compiler has).  Where the target
 * has FMA, vector_fma rounds once, so the bits of a chain of them do not depend on the width.
 */
#ifndef MT_MODEL_VECTOR_H
#define MT_MODEL_VECTOR_H

#include <stdint.h>
#include <string.h>

#include "trainer/model/vector_math.h"

#if !defined(MT_REAL_double) && defined(__AVX512F__) && defined(__AVX512BW__) &&                   \
    defined(__AVX512VL__)
#include <immintrin.h>
#define VECTOR_AVX512
enum { VECTOR_LANES = 16 };
#elif !defined(MT_REAL_double) && defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VECTOR_AVX2
enum { VECTOR_LANES = 8 };
#elif defined(MT_REAL_double)
enum { VECTOR_LANES = 8 };
#else
enum { VECTOR_LANES = 4 };
#endif

#if defined(VECTOR_AVX512)
typedef __m512 vector;
#elif defined(VECTOR_AVX2)
typedef __m256 vector;
#else
typedef real vector __attribute__((vector_size(VECTOR_LANES * sizeof(real))));
#endif

#define VECTOR_INLINE static inline __attribute__((always_inline, unused))

VECTOR_INLINE vector vector_load(const real *p)
{
    vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

VECTOR_INLINE void vector_store(real *p, vector v)
{
    memcpy(p, &v, sizeof v);
}

VECTOR_INLINE vector vector_sum(vector a, vector b)
{
    return a + b;
}

/* The first n < VECTOR_LANES elements, then zeros. */
VECTOR_INLINE vector vector_load_part(const real *p, int64_t n)
{
    real all[VECTOR_LANES] = {0};
    memcpy(all, p, (size_t)n * sizeof *p);
    return vector_load(all);
}

VECTOR_INLINE void vector_store_part(real *p, vector v, int64_t n)
{
    real all[VECTOR_LANES];
    vector_store(all, v);
    memcpy(p, all, (size_t)n * sizeof *p);
}

#if defined(VECTOR_AVX512)

VECTOR_INLINE vector vector_all(real x)
{
    return _mm512_set1_ps(x);
}

VECTOR_INLINE vector vector_fma(vector a, vector b, vector c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* a > b ? a : b, so b where one of them is NaN; smaller alike. */
VECTOR_INLINE vector vector_larger(vector a, vector b)
{
    return _mm512_max_ps(a, b);
}

VECTOR_INLINE vector vector_smaller(vector a, vector b)
{
    return _mm512_min_ps(a, b);
}

/* a0 b0 a1 b1 ... of the lower halves, and of the upper ones. */
VECTOR_INLINE vector vector_zip_low(vector a, vector b)
{
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, at, b);
}

VECTOR_INLINE vector vector_zip_high(vector a, vector b)
{
    const __m512i at =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, at, b);
}

/* p * 2^n; shifted is n + 1.5 * 2^23 (vector_math.h). */
VECTOR_INLINE vector vector_scale(vector p, vector n, vector shifted)
{
    (void)shifted;
    return _mm512_scalef_ps(p, n);
}

/* x where the lane of dropout is at least the threshold, else 0. */
VECTOR_INLINE vector vector_keep(vector x, const uint16_t *lane, uint32_t threshold)
{
    __m256i halves;
    memcpy(&halves, lane, sizeof halves);
    __mmask16 keep = _mm256_cmpge_epu16_mask(halves, _mm256_set1_epi16((short)threshold));
    return _mm512_maskz_mov_ps(keep, x);
}

#elif defined(VECTOR_AVX2)

VECTOR_INLINE vector vector_all(real x)
{
    return _mm256_set1_ps(x);
}

VECTOR_INLINE vector vector_fma(vector a, vector b, vector c)
{
    return _mm256_fmadd_ps(a, b, c);
}

VECTOR_INLINE vector vector_larger(vector a, vector b)
{
    return _mm256_max_ps(a, b);
}

VECTOR_INLINE vector vector_smaller(vector a, vector b)
{
    return _mm256_min_ps(a, b);
}

VECTOR_INLINE vector vector_zip_low(vector a, vector b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}

VECTOR_INLINE vector vector_zip_high(vector a, vector b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

VECTOR_INLINE vector vector_scale(vector p, vector n, vector shifted)
{
    (void)n;
    __m256i exponent =
        _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x4B400000 - 127));
    return p * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

VECTOR_INLINE vector vector_keep(vector x, const uint16_t *lane, uint32_t threshold)
{
    __m128i halves;
    memcpy(&halves, lane, sizeof halves);
    __m256i drop =
        _mm256_cmpgt_epi32(_mm256_set1_epi32((int)threshold), _mm256_cvtepu16_epi32(halves));
    return _mm256_andnot_ps(_mm256_castsi256_ps(drop), x);
}

#else

VECTOR_INLINE vector vector_all(real x)
{
    vector v;
    for (int l = 0; l < VECTOR_LANES; l++)
        v[l] = x;
    return v;
}

VECTOR_INLINE vector vector_fma(vector a, vector b, vector c)
{
    return a * b + c;
}

VECTOR_INLINE vector vector_larger(vector a, vector b)
{
    for (int l = 0; l < VECTOR_LANES; l++)
        b[l] = a[l] > b[l] ? a[l] : b[l];
    return b;
}

VECTOR_INLINE vector vector_smaller(vector a, vector b)
{
    for (int l = 0; l < VECTOR_LANES; l++)
        b[l] = a[l] < b[l] ? a[l] : b[l];
    return b;
}

VECTOR_INLINE vector vector_zip_low(vector a, vector b)
{
    vector v;
    for (int l = 0; l < VECTOR_LANES; l++)
        v[l] = l % 2 ? b[l / 2] : a[l / 2];
    return v;
}

VECTOR_INLINE vector vector_zip_high(vector a, vector b)
{
    vector v;
    for (int l = 0; l < VECTOR_LANES; l++)
        v[l] = l % 2 ? b[(VECTOR_LANES + l) / 2] : a[(VECTOR_LANES + l) / 2];
    return v;
}

VECTOR_INLINE vector vector_keep(vector x, const uint16_t *lane, uint32_t threshold)
{
    for (int l = 0; l < VECTOR_LANES; l++)
        x[l] = lane[l] < threshold ? 0 : x[l];
    return x;
}

#endif

/* e^x, relative error below 2e-7; arguments are clamped to [-87.3, 88.3].  The method of real_exp,
 * with fused multiply-adds. */
VECTOR_INLINE vector vector_exp(vector x)
{
#if defined(VECTOR_AVX512) || defined(VECTOR_AVX2)
    const vector magic = vector_all(12582912.0f);
    x = vector_smaller(vector_all(88.3f), x);
    x = vector_larger(vector_all(-87.3f), x);
    vector shifted = vector_fma(x, vector_all(1.44269504088896341f), magic);
    vector n = shifted - magic;
    vector r = vector_fma(n, vector_all(-0.693359375f), x);
    r = vector_fma(n, vector_all(2.12194440e-4f), r);
    vector p = vector_fma(vector_all(1.9875691500e-4f), r, vector_all(1.3981999507e-3f));
    p = vector_fma(p, r, vector_all(8.3334519073e-3f));
    p = vector_fma(p, r, vector_all(4.1665795894e-2f));
    p = vector_fma(p, r, vector_all(1.6666665459e-1f));
    p = vector_fma(p, r, vector_all(5.0000001201e-1f));
    p = vector_fma(p, r * r, r) + 1.0f;
    return vector_scale(p, n, shifted);
#else
    for (int l = 0; l < VECTOR_LANES; l++)
        x[l] = real_exp(x[l]);
    return x;
#endif
}

/* Lane i is the sum, or the largest, of row i: halves of rows meet in the order of row_fold_sum. */
#define VECTOR_FOLD(NAME, JOIN)                                                                    \
    VECTOR_INLINE vector NAME(vector m[VECTOR_LANES])                                              \
    {                                                                                              \
        _Pragma("GCC unroll 4") for (int half = VECTOR_LANES / 2; half > 0; half /= 2)             \
            _Pragma("GCC unroll 8") for (int i = 0; i < half; i++)                                 \
        {                                                                                          \
            vector low = vector_zip_low(m[i], m[i + half]);                                        \
            m[i] = JOIN(low, vector_zip_high(m[i], m[i + half]));                                  \
        }                                                                                          \
        return m[0];                                                                               \
    }

VECTOR_FOLD(vector_fold_sum, vector_sum)
VECTOR_FOLD(vector_fold_largest, vector_larger)

/* A square of vectors, transposed: each round moves the top bit of the row's number to the bottom
 * of the column's. */
VECTOR_INLINE void vector_transpose(vector m[VECTOR_LANES])
{
#pragma GCC unroll 4
    for (int width = 1; width < VECTOR_LANES; width *= 2) {
        vector from[VECTOR_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < VECTOR_LANES; i++)
            from[i] = m[i];
#pragma GCC unroll 8
        for (int i = 0; i < VECTOR_LANES / 2; i++) {
            m[2 * i] = vector_zip_low(from[i], from[i + VECTOR_LANES / 2]);
            m[2 * i + 1] = vector_zip_high(from[i], from[i + VECTOR_LANES / 2]);
        }
    }
}

#endif
