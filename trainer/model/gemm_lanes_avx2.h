/* lanes: vectors of eight floats on AVX2 and FMA, for gemm_tile.h (contract there). */
#ifndef MT_MODEL_GEMM_LANES_AVX2_H
#define MT_MODEL_GEMM_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define LANES_TARGET __attribute__((target("avx2,fma")))
#define LANES_INLINE static inline __attribute__((always_inline, target("avx2,fma")))

/* 12 sums, 2 vectors of b and 1 of a: 15 of 16 registers. */
#define TILE_ROWS 6
enum { LANES = 8, TILE_VECTORS = 2 };

typedef __m256 lanes;
typedef __m256i lanes_part;

LANES_INLINE lanes_part lanes_first(int64_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

LANES_INLINE lanes lanes_set(float x)
{
    return _mm256_set1_ps(x);
}

LANES_INLINE lanes lanes_load(const float *at)
{
    return _mm256_loadu_ps(at);
}

LANES_INLINE lanes lanes_load_part(const float *at, lanes_part part)
{
    return _mm256_maskload_ps(at, part);
}

LANES_INLINE void lanes_store(float *at, lanes x)
{
    _mm256_storeu_ps(at, x);
}

LANES_INLINE void lanes_store_part(float *at, lanes_part part, lanes x)
{
    _mm256_maskstore_ps(at, part, x);
}

LANES_INLINE lanes lanes_multiply_add(lanes a, lanes b, lanes sum)
{
    return _mm256_fmadd_ps(a, b, sum);
}

/* Four floats of each of two rows, four apart. */
LANES_INLINE lanes lanes_gather4(const float *const row[LANES], int first, int64_t at)
{
    __m256 x = _mm256_castps128_ps256(_mm_loadu_ps(row[first] + at));
    return _mm256_insertf128_ps(x, _mm_loadu_ps(row[first + 4] + at), 1);
}

LANES_INLINE void lanes_transpose4(lanes column[4], const float *const row[LANES], int64_t at)
{
    __m256 r0 = lanes_gather4(row, 0, at), r1 = lanes_gather4(row, 1, at);
    __m256 r2 = lanes_gather4(row, 2, at), r3 = lanes_gather4(row, 3, at);
    __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1));
    __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
    __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
    __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
    column[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
    column[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
    column[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
    column[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
}

#endif
