/* lanes: vectors of sixteen floats on AVX-512, for gemm_tile.h (contract there). */
#ifndef MT_MODEL_GEMM_LANES_AVX512_H
#define MT_MODEL_GEMM_LANES_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define LANES_TARGET __attribute__((target("avx512f")))
#define LANES_INLINE static inline __attribute__((always_inline, target("avx512f")))

/* 28 sums, 2 vectors of b and 1 of a: 31 of 32 registers. */
#define TILE_ROWS 14
enum { LANES = 16, TILE_VECTORS = 2 };

typedef __m512 lanes;
typedef __mmask16 lanes_part;

LANES_INLINE lanes_part lanes_first(int64_t count)
{
    return (lanes_part)((1u << count) - 1);
}

LANES_INLINE lanes lanes_set(float x)
{
    return _mm512_set1_ps(x);
}

LANES_INLINE lanes lanes_load(const float *at)
{
    return _mm512_loadu_ps(at);
}

LANES_INLINE lanes lanes_load_part(const float *at, lanes_part part)
{
    return _mm512_maskz_loadu_ps(part, at);
}

LANES_INLINE void lanes_store(float *at, lanes x)
{
    _mm512_storeu_ps(at, x);
}

LANES_INLINE void lanes_store_part(float *at, lanes_part part, lanes x)
{
    _mm512_mask_storeu_ps(at, part, x);
}

LANES_INLINE lanes lanes_multiply_add(lanes a, lanes b, lanes sum)
{
    return _mm512_fmadd_ps(a, b, sum);
}

/* Four floats of each of four rows, four apart. */
LANES_INLINE lanes lanes_gather4(const float *const row[LANES], int first, int64_t at)
{
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(row[first] + at));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(row[first + 4] + at), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(row[first + 8] + at), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(row[first + 12] + at), 3);
}

LANES_INLINE void lanes_transpose4(lanes column[4], const float *const row[LANES], int64_t at)
{
    __m512 r0 = lanes_gather4(row, 0, at), r1 = lanes_gather4(row, 1, at);
    __m512 r2 = lanes_gather4(row, 2, at), r3 = lanes_gather4(row, 3, at);
    __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
    __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
    __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
    __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
    column[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    column[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    column[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    column[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
}

#endif
