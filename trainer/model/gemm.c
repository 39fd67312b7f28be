/*
 * Products by CBLAS: sgemm in the program, dgemm in the derivative tests.
 *
 * Row-major operands are passed as they lie; transposition is a flag, so nothing is copied.
 * dW uses beta = 1 and lands in the flat gradient block directly.
 * Refused: threads inside a product (two single-threaded batches side by side are faster than one
 * product on two threads, and their bits do not depend on the thread count).
 */
#include "trainer/model/gemm.h"

#include <cblas.h>
#include <stdio.h>

#if defined(MT_REAL_double)
#define BLAS_GEMM cblas_dgemm
#else
#define BLAS_GEMM cblas_sgemm
#endif

void gemm_init(void)
{
    openblas_set_num_threads(1);
}

const char *gemm_description(void)
{
    static _Thread_local char text[160];
    snprintf(text, sizeof text, "%s (%s)", openblas_get_config(), openblas_get_corename());
    return text;
}

void gemm_forward(real *y, const real *x, const real *w, int64_t rows, int64_t in, int64_t out)
{
    BLAS_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)out, (int)in, 1, x, (int)in,
              w, (int)in, 0, y, (int)out);
}

void gemm_backward_input(real *dx, bool add, const real *dy, const real *w, int64_t rows,
                         int64_t in, int64_t out)
{
    BLAS_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)in, (int)out, 1, dy,
              (int)out, w, (int)in, add ? 1 : 0, dx, (int)in);
}

void gemm_backward_weight(real *dw, const real *dy, const real *x, int64_t rows, int64_t in,
                          int64_t out)
{
    BLAS_GEMM(CblasRowMajor, CblasTrans, CblasNoTrans, (int)out, (int)in, (int)rows, 1, dy,
              (int)out, x, (int)in, 1, dw, (int)in);
}

void gemm_small(real *c, int64_t c_stride, real alpha, struct gemm_view a, struct gemm_view b,
                int64_t m, int64_t n, int64_t k)
{
    BLAS_GEMM(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
              b.transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a.at,
              (int)a.stride, b.at, (int)b.stride, 0, c, (int)c_stride);
}
