/*
 * activation: the feed-forward block's nonlinearity, fused with the bias before it.
 *
 * Backward keeps only the pre-activation u and makes the activation again from it.
 */
#ifndef MT_MODEL_ACTIVATION_H
#define MT_MODEL_ACTIVATION_H

#include <stdint.h>

#include "io/bert_config.h"
#include "trainer/model/real.h"

/* Where act(u) goes: at[rows,F]; or, where rounded is not NULL, rounded[rows,F] in bf16, and at[F]
 * is room for one row. */
struct activation_out {
    real *at;
    uint16_t *rounded;
};

/* Local.  u[rows,F] += bias[F]; g[rows,F] = act(u).  gelu is x Phi(x) (Hendrycks and Gimpel 2016),
 * gelu_new their tanh approximation, silu x / (1 + exp(-x)). */
void activation_forward(enum activation a, int64_t rows, int64_t F, const real *bias, real *u,
                        struct activation_out g);

/* Local.  From u (bias included): g = act(u) again, the same bits as in forward; in place
 * d: dg -> du = dg act'(u), with its rounded copy in du16[rows,F] where that is not NULL; adds the
 * column sums of du into dbias[F]. */
void activation_backward(enum activation a, int64_t rows, int64_t F, const real *u,
                         struct activation_out g, real *d, uint16_t *du16, real *dbias);

/* Local.  The same of a few numbers: g[count] = act(u), d[count] *= act'(u). */
void activation_slopes(enum activation a, int64_t count, const real *u, real *g, real *d);

#endif
