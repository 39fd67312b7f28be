/*
 * layer_norm: layer normalisation over rows of H, fused with what stands around it in BERT.
 *
 * Forward keeps xhat (the normalised row before gamma and beta) and 1/sigma; the layer's output is
 * not kept but made again from xhat where backward needs it.
 *
 * Source: Ba, Kiros, Hinton, "Layer Normalization" (2016); biased variance plus eps, as torch's.
 */
#ifndef MT_MODEL_LAYER_NORM_H
#define MT_MODEL_LAYER_NORM_H

#include "io/batch.h"
#include "trainer/model/dropout.h"
#include "trainer/model/real.h"

struct layer_norm {
    int64_t H;
    real eps;
    const real *gamma, *beta; /* [H] */
    real *xhat;               /* [N,H], written by forward */
    real *rstd;               /* [N], written by forward */
    uint16_t *blocks;         /* [N,H]: receives the result in bf16 too, in the blocks of
                                 trainer/model/gemm_amx.h; NULL: not wanted */
};

/* Local.  y = norm(x) for `rows` rows; y may be x. */
void layer_norm_forward(const struct layer_norm *n, int64_t rows, const real *x, real *y);

/* Local.  y[rows,H] = gamma * xhat + beta: the output of forward again, the same bits.  Where
 * blocks receive it y is room for one row. */
void layer_norm_output(const struct layer_norm *n, int64_t rows, real *y);

/* Local.  In place dy -> dx[rows,H]; adds into dgamma[H] and dbeta[H]. */
void layer_norm_backward(const struct layer_norm *n, int64_t rows, real *dy, real *dgamma,
                         real *dbeta);

/* Local.  y = norm(dropout(y + bias) + residual), in place; residual[N,H].
 * lanes: room for H + DROPOUT_SLACK. */
void residual_norm_forward(const struct layer_norm *n, const struct dropout *drop,
                           const struct batch *batch, const real *bias, const real *residual,
                           real *y, uint16_t *lanes);

/* Gradients of residual_norm_forward: three vectors [H], added to. */
struct residual_norm_gradients {
    real *dgamma, *dbeta, *dbias;
};

/* Local.  In place ds: gradient of the output -> gradient of the residual.  dy receives the
 * gradient of the product below the bias; where dropout is off that is ds itself, dy is not
 * written, and the answer is ds instead of dy.  Where blocks receive it dy is room for one row. */
const real *residual_norm_backward(const struct layer_norm *n, const struct dropout *drop,
                                   const struct batch *batch, real *ds, real *dy,
                                   const struct residual_norm_gradients *to, uint16_t *lanes);

#endif
