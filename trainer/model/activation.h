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

/* Local.  u[rows,F] += bias[F]; g[rows,F] = act(u).  gelu is x Phi(x) (Hendrycks and Gimpel 2016),
 * gelu_new their tanh approximation, silu x / (1 + exp(-x)). */
void activation_forward(enum activation a, int64_t rows, int64_t F, const real *bias, real *u,
                        real *g);

/* Local.  From u (bias included): g = act(u) again, the same bits as in forward; in place
 * d: dg -> du = dg act'(u); adds the column sums of du into dbias[F]. */
void activation_backward(enum activation a, int64_t rows, int64_t F, const real *u, real *g,
                         real *d, real *dbias);

#endif
