/* reduce_kernels: the arithmetic of the reduction; the same additions on every machine. */
#ifndef MT_COMM_REDUCE_KERNELS_H
#define MT_COMM_REDUCE_KERNELS_H

#include "comm/base/status.h"

/* Local.  out[i] = left[i] + right[i]; out may be either of them. */
void reduce_add_into(float *out, const float *left, const float *right, int64_t count);

enum { REDUCE_PARTS = 16 };

/* Local.  x[i] = bf16(x[i] + error[i]), error[i] = what that took away, itself in bf16; 0 where x
 * is not finite.  Rounds to the nearest, ties to even.  Source: Seide et al., "1-bit stochastic
 * gradient descent and its application to data-parallel distributed training" (2014). */
void reduce_round_bf16(float *x, uint16_t *error, int64_t count);

/* Local.  Values of bf16 precision to 16 bits and back; `out` of widen may begin before `in` in the
 * same memory, as long as its end is not before the end of `in`. */
void reduce_narrow(const float *x, uint16_t *out, int64_t count);
void reduce_widen(const uint16_t *in, float *out, int64_t count);

/* Local.  Adds the squares of x[count] to sixteen partial sums, x[i] to sum[(first + i) % 16]:
 * reduce_square in pieces; a piece that is left out counts as zeros. */
void reduce_square_piece(double sum[REDUCE_PARTS], int64_t first, const float *x, int64_t count);

/* Local.  The tree over the partial sums, which it destroys. */
double reduce_square_total(double sum[REDUCE_PARTS]);

/* Local.  Sum of squares in double: sixteen partial sums over count elements, then a tree of them.
 */
double reduce_square(const float *x, int64_t count);

#endif
