/* See linear.h.  The bias is a pass of its own here; the hot dense layers of the encoder begin
 * their products with it (gemm_forward_layers) or leave it to the kernel that follows
 * (residual_norm). */
#include "trainer/model/linear.h"

#include "trainer/model/gemm.h"
#include "trainer/model/kernel.h"

static KERNEL void add_bias(real *restrict y, const real *restrict b, int64_t rows, int64_t out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < out; j++)
            y[i * out + j] += b[j];
}

static KERNEL void add_column_sums(real *restrict db, const real *restrict dy, int64_t rows,
                                   int64_t out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < out; j++)
            db[j] += dy[i * out + j];
}

void linear_forward(real *y, const real *x, const real *w, const real *b, int64_t rows, int64_t in,
                    int64_t out)
{
    gemm_forward(y, x, w, rows, in, out);
    add_bias(y, b, rows, out);
}

void linear_backward(const struct linear_gradients *to, const real *dy, const real *x,
                     const real *w, int64_t rows, int64_t in, int64_t out)
{
    if (to->dw)
        gemm_backward_weight(to->dw, true, dy, x, rows, in, out);
    if (to->db)
        add_column_sums(to->db, dy, rows, out);
    if (to->dx)
        gemm_backward_input(to->dx, to->add_dx, dy, w, rows, in, out);
}
