/*
 * gemm_dnnl: products by oneDNN, for gemm.c and nothing else.
 *
 * Where the program was built without oneDNN, gemm_dnnl_built is false and the products trap.  All
 * matrices are dense and row-major; one thread a product.
 */
#ifndef MT_MODEL_GEMM_DNNL_H
#define MT_MODEL_GEMM_DNNL_H

#include <stdbool.h>
#include <stdint.h>

/* Local.  Whether the library is there, and whether it and the processor multiply bf16. */
bool gemm_dnnl_built(void);
bool gemm_dnnl_has_bf16(void);

/* Local.  "oneDNN 2.6.3 avx512_core_bf16", or "" where it is not built in; static. */
const char *gemm_dnnl_description(void);

/* A float matrix as dnnl_sgemm takes it. */
struct gemm_dnnl_matrix {
    const float *at;
    int64_t stride;
    bool transposed;
};

/* Local.  c[m,n] = op(a) op(b), or adds that to c. */
void gemm_dnnl_float(float *c, int64_t c_stride, bool add, struct gemm_dnnl_matrix a,
                     struct gemm_dnnl_matrix b, int64_t m, int64_t n, int64_t k);

/* The products of a dense layer, operands in bf16, sums and result in float. */

/* Local.  y[rows,out] = x[rows,in] w[out,in]^T. */
void gemm_dnnl_bf16_forward(float *y, const uint16_t *x, const uint16_t *w, int64_t rows,
                            int64_t in, int64_t out);

/* Local.  dx[rows,in] = dy[rows,out] w[out,in], or adds that to dx. */
void gemm_dnnl_bf16_input(float *dx, bool add, const uint16_t *dy, const uint16_t *w, int64_t rows,
                          int64_t in, int64_t out);

/* Local.  dw[out,in] = dy[rows,out]^T x[rows,in]. */
void gemm_dnnl_bf16_weight(float *dw, const uint16_t *dy, const uint16_t *x, int64_t rows,
                           int64_t in, int64_t out);

#endif
