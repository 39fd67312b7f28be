/* lanes: four floats in plain C, for gemm_tile.h (contract there).  fmaf keeps the one rounding of
 * a multiply-add, by a slow routine of the C library where the processor has no such operation. */
#ifndef MT_MODEL_GEMM_LANES_PORTABLE_H
#define MT_MODEL_GEMM_LANES_PORTABLE_H

#include <math.h>
#include <stdint.h>

#define LANES_TARGET
#define LANES_INLINE static inline __attribute__((always_inline))

#define TILE_ROWS 4
enum { LANES = 4, TILE_VECTORS = 2 };

typedef struct {
    float x[LANES];
} lanes;
typedef int64_t lanes_part;

LANES_INLINE lanes_part lanes_first(int64_t count)
{
    return count;
}

LANES_INLINE lanes lanes_set(float x)
{
    return (lanes){{x, x, x, x}};
}

LANES_INLINE lanes lanes_load(const float *at)
{
    return (lanes){{at[0], at[1], at[2], at[3]}};
}

LANES_INLINE lanes lanes_load_part(const float *at, lanes_part part)
{
    lanes r = {{0}};
    for (int64_t i = 0; i < part; i++)
        r.x[i] = at[i];
    return r;
}

LANES_INLINE void lanes_store_part(float *at, lanes_part part, lanes x)
{
    for (int64_t i = 0; i < part; i++)
        at[i] = x.x[i];
}

LANES_INLINE void lanes_store(float *at, lanes x)
{
    lanes_store_part(at, LANES, x);
}

LANES_INLINE lanes lanes_multiply_add(lanes a, lanes b, lanes sum)
{
    for (int i = 0; i < LANES; i++)
        sum.x[i] = fmaf(a.x[i], b.x[i], sum.x[i]);
    return sum;
}

LANES_INLINE void lanes_transpose4(lanes column[4], const float *const row[LANES], int64_t at)
{
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < LANES; i++)
            column[j].x[i] = row[i][at + j];
}

#endif
