/*
 * A row is read and written while it is in the first-level cache, so each kernel costs one pass
 * over memory however many steps it fuses.  Sums run in sixteen fixed lanes: they vectorise without
 * permission to reassociate, and their bits do not depend on the width of the machine's vectors.
 * Mean and variance take two passes over the cached row: no cancellation.
 */
#include "trainer/model/layer_norm.h"

#include <math.h>

#include "trainer/model/gemm_amx.h"
#include "trainer/model/kernel.h"
#include "trainer/model/vector_math.h"

static KERNEL void normalise_row(const struct layer_norm *n, int64_t row, const real *x, real *y)
{
    int64_t H = n->H;
    const real *restrict gamma = n->gamma, *restrict beta = n->beta;
    real *restrict xhat = n->xhat + row * H;
    real mean = row_sum(x, H) / (real)H;
    for (int64_t j = 0; j < H; j++)
        xhat[j] = x[j] - mean;
    real rstd = 1 / real_sqrt(row_dot(xhat, xhat, H) / (real)H + n->eps);
    n->rstd[row] = rstd;
    for (int64_t j = 0; j < H; j++)
        xhat[j] *= rstd;
    for (int64_t j = 0; j < H; j++)
        y[j] = gamma[j] * xhat[j] + beta[j];
    if (n->blocks)
        gemm_amx_block_row(n->blocks, row, y, H);
}

void layer_norm_forward(const struct layer_norm *n, int64_t rows, const real *x, real *y)
{
    for (int64_t i = 0; i < rows; i++)
        normalise_row(n, i, x + i * n->H, y + i * n->H);
}

KERNEL void layer_norm_output(const struct layer_norm *n, int64_t rows, real *y)
{
    int64_t H = n->H;
    const real *restrict gamma = n->gamma, *restrict beta = n->beta;
    for (int64_t i = 0; i < rows; i++) {
        const real *restrict xhat = n->xhat + i * H;
        real *restrict out = n->blocks ? y : y + i * H;
        for (int64_t j = 0; j < H; j++)
            out[j] = gamma[j] * xhat[j] + beta[j];
        if (n->blocks)
            gemm_amx_block_row(n->blocks, i, out, H);
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma. */
static KERNEL void backward_row(const struct layer_norm *n, int64_t row, real *restrict dy,
                                real *restrict dgamma, real *restrict dbeta)
{
    int64_t H = n->H;
    const real *restrict gamma = n->gamma, *restrict xhat = n->xhat + row * H;
    for (int64_t j = 0; j < H; j++) {
        dgamma[j] += dy[j] * xhat[j];
        dbeta[j] += dy[j];
    }
    for (int64_t j = 0; j < H; j++)
        dy[j] *= gamma[j];
    real mean = row_sum(dy, H) / (real)H, slope = row_dot(dy, xhat, H) / (real)H;
    real rstd = n->rstd[row];
    for (int64_t j = 0; j < H; j++)
        dy[j] = rstd * (dy[j] - mean - xhat[j] * slope);
}

void layer_norm_backward(const struct layer_norm *n, int64_t rows, real *dy, real *dgamma,
                         real *dbeta)
{
    for (int64_t i = 0; i < rows; i++)
        backward_row(n, i, dy + i * n->H, dgamma, dbeta);
}

KERNEL void residual_norm_forward(const struct layer_norm *n, const struct dropout *drop,
                                  const struct batch *batch, const real *bias, const real *residual,
                                  real *y, uint16_t *lanes)
{
    int64_t H = n->H, row = 0;
    const uint32_t threshold = drop->threshold;
    const real scale = drop->scale;
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        for (int64_t t = 0; t < T; t++, row++) {
            const real *restrict from = residual + row * H, *restrict b = bias;
            real *restrict to = y + row * H;
            if (threshold == 0) {
                for (int64_t j = 0; j < H; j++)
                    to[j] = to[j] + b[j] + from[j];
            } else {
                const uint16_t *restrict lane =
                    dropout_lanes(drop, batch->sample[s], t * H, H, lanes);
                for (int64_t j = 0; j < H; j++)
                    to[j] = (to[j] + b[j]) * dropout_factor(threshold, scale, lane[j]) + from[j];
            }
            normalise_row(n, row, to, to);
        }
    }
}

KERNEL const real *residual_norm_backward(const struct layer_norm *n, const struct dropout *drop,
                                          const struct batch *batch, real *ds, real *dy,
                                          const struct residual_norm_gradients *to, uint16_t *lanes)
{
    int64_t H = n->H, row = 0;
    const uint32_t threshold = drop->threshold;
    const real scale = drop->scale;
    bool off = threshold == 0;
    real *restrict dbias = to->dbias;
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        for (int64_t t = 0; t < T; t++, row++) {
            real *restrict d = ds + row * H;
            backward_row(n, row, d, to->dgamma, to->dbeta);
            if (off) {
                for (int64_t j = 0; j < H; j++)
                    dbias[j] += d[j];
                if (n->blocks)
                    gemm_amx_block_row(n->blocks, row, d, H);
                continue;
            }
            real *restrict out = n->blocks ? dy : dy + row * H;
            const uint16_t *restrict lane = dropout_lanes(drop, batch->sample[s], t * H, H, lanes);
            for (int64_t j = 0; j < H; j++) {
                out[j] = d[j] * dropout_factor(threshold, scale, lane[j]);
                dbias[j] += out[j];
            }
            if (n->blocks)
                gemm_amx_block_row(n->blocks, row, out, H);
        }
    }
    return off ? ds : dy;
}
