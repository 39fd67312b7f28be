/* reduce_kernels: the arithmetic of the reduction; the same additions on every machine. */
#ifndef MT_COMM_REDUCE_KERNELS_H
#define MT_COMM_REDUCE_KERNELS_H

#include "comm/base/status.h"

/* Local.  out[i] = left[i] + right[i]; out may be either of them. */
void reduce_add_into(float *out, const float *left, const float *right, int64_t count);

/* Local.  Sum of squares in double: sixteen partial sums over count elements, then a tree of them.
 */
double reduce_square(const float *x, int64_t count);

#endif
