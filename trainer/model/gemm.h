/*
 * gemm: the matrix products of the model, behind one interface that a second library can serve.
 *
 * All matrices are dense and row-major.  Bits: one shape gives the same bits at any alignment and
 * from any thread; the rows of a product may change when its number of rows changes.
 */
#ifndef MT_MODEL_GEMM_H
#define MT_MODEL_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/model/real.h"

/* Local.  Bounds the library to one thread a call: threads of the program own whole batches.
 * To be called before products run at the same time; model_init does. */
void gemm_init(void);

/* Local.  The library that multiplies, and its kernels ("OpenBLAS 0.3.21 Haswell"). */
const char *gemm_description(void);

/* The three products of a dense layer with weights w[out,in]; none allocates or fails. */

/* Local.  y[rows,out] = x[rows,in] w^T. */
void gemm_forward(real *y, const real *x, const real *w, int64_t rows, int64_t in, int64_t out);

/* Local.  dx[rows,in] = dy[rows,out] w, or adds that to dx. */
void gemm_backward_input(real *dx, bool add, const real *dy, const real *w, int64_t rows,
                         int64_t in, int64_t out);

/* Local.  dw[out,in] += dy[rows,out]^T x[rows,in]. */
void gemm_backward_weight(real *dw, const real *dy, const real *x, int64_t rows, int64_t in,
                          int64_t out);

/* A matrix inside a larger one: `stride` elements from one row to the next. */
struct gemm_view {
    const real *at;
    int64_t stride;
    bool transposed; /* the product uses its transpose */
};

/* Local.  c[m,n] = alpha op(a) op(b) with op(a) of [m,k] and op(b) of [k,n]: the small products of
 * attention.  c has row stride c_stride and must not overlap a or b. */
void gemm_small(real *c, int64_t c_stride, real alpha, struct gemm_view a, struct gemm_view b,
                int64_t m, int64_t n, int64_t k);

#endif
