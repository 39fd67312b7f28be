/*
 * pooling: one vector a sentence from its hidden states.
 *
 * mean, max, cls, mean_sqrt (sum / sqrt T) and weightedmean (weights 1, 2, ... T) are those of
 * sentence-transformers' Pooling module; pooler takes the first token's row, which then goes
 * through the pooler's dense layer and tanh (BertModel's pooler_output).
 */
#ifndef MT_MODEL_POOLING_H
#define MT_MODEL_POOLING_H

#include "trainer/model/model.h"

/* Local.  out[B,H] from hidden[N,H]; where[B,H] receives the token of each maximum (max only). */
void pooling_forward(enum pooling pooling, const struct batch *batch, int64_t H, const real *hidden,
                     real *out, int32_t *where);

/* Local.  dhidden[N,H] is set from dout[B,H].  Of equal maxima the first gets the gradient. */
void pooling_backward(enum pooling pooling, const struct batch *batch, int64_t H, const real *dout,
                      const int32_t *where, real *dhidden);

#endif
