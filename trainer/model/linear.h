/*
 * linear: a dense layer y = x w^T + b, with w[out,in] as torch.nn.Linear keeps it.
 */
#ifndef MT_MODEL_LINEAR_H
#define MT_MODEL_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/model/real.h"

/* Local.  y[rows,out] from x[rows,in]; b[out]. */
void linear_forward(real *y, const real *x, const real *w, const real *b, int64_t rows, int64_t in,
                    int64_t out);

/* Where the gradients of a dense layer go; NULL = not wanted. */
struct linear_gradients {
    real *dx; /* [rows,in], set, or added to where add_dx */
    bool add_dx;
    real *dw; /* [out,in], added to */
    real *db; /* [out], added to */
};

/* Local.  From dy[rows,out]; x and w as in forward. */
void linear_backward(const struct linear_gradients *to, const real *dy, const real *x,
                     const real *w, int64_t rows, int64_t in, int64_t out);

#endif
