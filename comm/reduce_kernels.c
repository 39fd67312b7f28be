/*
 * See reduce_kernels.h.  Sixteen independent sums let the compiler use vectors without changing the
 * order of any addition; this file is compiled with full vectorisation in every build.
 */
#include "comm/reduce_kernels.h"

#include <string.h>

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

static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint32_t round_bits(uint32_t u)
{
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
    return (u & 0x7fffffff) > 0x7f800000 ? u & 0xffff0000 : rounded;
}

/* A NaN whose payload lies in the low half only would become infinite: its quiet bit is set. */
void reduce_round_bf16(float *x, uint16_t *error, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float value = x[i] + float_of((uint32_t)error[i] << 16);
        uint32_t u = bits_of(value);
        uint32_t quiet = (u & 0x7fffffff) > 0x7f800000 ? 0x00400000 : 0;
        float rounded = float_of(round_bits(u) | quiet);
        uint32_t lost = bits_of(value - rounded);
        uint32_t half = (lost + 0x7fff + ((lost >> 16) & 1)) >> 16;
        x[i] = rounded;
        error[i] = (uint16_t)((lost & 0x7f800000) == 0x7f800000 ? 0 : half);
    }
}

void reduce_narrow(const float *x, uint16_t *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint16_t)(bits_of(x[i]) >> 16);
}

/* Through a small buffer, so that overlapping input is read before it is written over. */
void reduce_widen(const uint16_t *in, float *out, int64_t count)
{
    enum { PIECE = 256 };
    uint16_t piece[PIECE];
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t n = count - at < PIECE ? count - at : PIECE;
        memcpy(piece, in + at, (size_t)n * sizeof *piece);
        for (int64_t i = 0; i < n; i++)
            out[at + i] = float_of((uint32_t)piece[i] << 16);
    }
}
