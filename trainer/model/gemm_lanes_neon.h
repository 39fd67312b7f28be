/* lanes: vectors of four floats on 64-bit ARM, for gemm_tile.h (contract there). */
#ifndef MT_MODEL_GEMM_LANES_NEON_H
#define MT_MODEL_GEMM_LANES_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define LANES_TARGET
#define LANES_INLINE static inline __attribute__((always_inline))

/* 24 sums, 2 vectors of b and 1 of a: 27 of 32 registers. */
#define TILE_ROWS 12
enum { LANES = 4, TILE_VECTORS = 2 };

typedef float32x4_t lanes;
typedef int64_t lanes_part;

LANES_INLINE lanes_part lanes_first(int64_t count)
{
    return count;
}

LANES_INLINE lanes lanes_set(float x)
{
    return vdupq_n_f32(x);
}

LANES_INLINE lanes lanes_load(const float *at)
{
    return vld1q_f32(at);
}

LANES_INLINE lanes lanes_load_part(const float *at, lanes_part part)
{
    float x[LANES] = {0};
    for (int64_t i = 0; i < part; i++)
        x[i] = at[i];
    return vld1q_f32(x);
}

LANES_INLINE void lanes_store(float *at, lanes x)
{
    vst1q_f32(at, x);
}

LANES_INLINE void lanes_store_part(float *at, lanes_part part, lanes x)
{
    float all[LANES];
    vst1q_f32(all, x);
    for (int64_t i = 0; i < part; i++)
        at[i] = all[i];
}

LANES_INLINE lanes lanes_multiply_add(lanes a, lanes b, lanes sum)
{
    return vfmaq_f32(sum, a, b);
}

LANES_INLINE void lanes_transpose4(lanes column[4], const float *const row[LANES], int64_t at)
{
    float32x4x2_t low = vtrnq_f32(vld1q_f32(row[0] + at), vld1q_f32(row[1] + at));
    float32x4x2_t high = vtrnq_f32(vld1q_f32(row[2] + at), vld1q_f32(row[3] + at));
    column[0] = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
    column[1] = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
    column[2] = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
    column[3] = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
}

#endif
