/*
 * activation: the feed-forward block's nonlinearity.
 *
 * Backward keeps only the pre-activation u and makes the activation again from it, with the bits it
 * had.
 */
#ifndef MT_MODEL_ACTIVATION_H
#define MT_MODEL_ACTIVATION_H

#include <stdint.h>

#include "io/bert_config.h"
#include "trainer/model/real.h"

/* Local.  g[count] = act(u).  gelu is x Phi(x) (Hendrycks and Gimpel 2016), gelu_new their tanh
 * approximation, silu x / (1 + exp(-x)). */
void activation_values(enum activation a, int64_t count, const real *u, real *g);

/* Local.  The same, and in place d: dg -> du = dg act'(u). */
void activation_slopes(enum activation a, int64_t count, const real *u, real *g, real *d);

/* Local.  One row of both: g = act(u), du, and adds du into dbias[F]. */
void activation_gradients(enum activation a, int64_t F, const real *u, real *g, real *d,
                          real *dbias);

#endif
