/*
 * See reduce_kernels.h.  Sixteen independent sums let the compiler use vectors without changing the
 * order of any addition; this file is compiled with full vectorisation in every build.
 */
#include "comm/reduce_kernels.h"

#include "comm/lane_tree.h"

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

void reduce_square_piece(double sum[REDUCE_PARTS], int64_t first, const float *x, int64_t count)
{
    double part[REDUCE_PARTS];
    int64_t i = 0;
    for (; i < count && (first + i) % REDUCE_PARTS != 0; i++)
        sum[(first + i) % REDUCE_PARTS] += (double)x[i] * (double)x[i];
    for (int j = 0; j < REDUCE_PARTS; j++)
        part[j] = sum[j];
    int64_t whole = i + (count - i) / REDUCE_PARTS * REDUCE_PARTS;
    for (; i < whole; i += REDUCE_PARTS)
        for (int j = 0; j < REDUCE_PARTS; j++)
            part[j] += (double)x[i + j] * (double)x[i + j];
    for (int64_t k = i; k < count; k++)
        part[k - i] += (double)x[k] * (double)x[k];
    for (int j = 0; j < REDUCE_PARTS; j++)
        sum[j] = part[j];
}

double reduce_square_total(double sum[REDUCE_PARTS])
{
    for (int gap = REDUCE_PARTS / 2; gap > 0; gap /= 2)
        for (int j = 0; j < gap; j++)
            sum[j] += sum[j + gap];
    return sum[0];
}

double reduce_square(const float *x, int64_t count)
{
    double sum[REDUCE_PARTS] = {0};
    reduce_square_piece(sum, 0, x, count);
    return reduce_square_total(sum);
}
