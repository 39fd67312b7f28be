/* See bf16.h. */
#include "trainer/model/bf16.h"

#include "trainer/model/kernel.h"

KERNEL void bf16_round(uint16_t *restrict to, const real *restrict from, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        to[j] = bf16_of(from[j]);
}
