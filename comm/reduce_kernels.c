/*
 * See reduce_kernels.h.  Sixteen independent sums let the compiler use vectors without changing the
 * order of any addition; this file is compiled with full vectorisation in every build.
 */
#include "comm/reduce_kernels.h"

#include "comm/lane_tree.h"

enum { PARTS = 16 };

void lane_tree_add(float *into, const float *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        into[i] += from[i];
}

void reduce_add_into(float *out, const float *left, const float *right, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = left[i] + right[i];
}

double reduce_square(const float *x, int64_t count)
{
    double sum[PARTS] = {0};
    int64_t whole = count / PARTS * PARTS;
    for (int64_t i = 0; i < whole; i += PARTS)
        for (int j = 0; j < PARTS; j++)
            sum[j] += (double)x[i + j] * (double)x[i + j];
    for (int64_t i = whole; i < count; i++)
        sum[i - whole] += (double)x[i] * (double)x[i];
    for (int gap = PARTS / 2; gap > 0; gap /= 2)
        for (int j = 0; j < gap; j++)
            sum[j] += sum[j + gap];
    return sum[0];
}
