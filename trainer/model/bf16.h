/*
 * bf16: the upper half of a float (8 bits of exponent, 8 of precision), rounded to nearest even.
 */
#ifndef MT_MODEL_BF16_H
#define MT_MODEL_BF16_H

#include <stdint.h>
#include <string.h>

#include "trainer/model/real.h"

/* A NaN stays one; what lies beyond the largest bf16 becomes infinite. */
static inline uint16_t bf16_of(real x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, quiet = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

static inline float bf16_value(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A matrix in float or, where full is NULL, in bf16. */
struct mixed_rows {
    real *full;
    uint16_t *half;
};

/* Local.  to[count] = from[count], rounded. */
void bf16_round(uint16_t *restrict to, const real *restrict from, int64_t count);

#endif
