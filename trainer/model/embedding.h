/*
 * embedding: word + token type + position, layer norm, dropout; depth 0 of the encoder.
 */
#ifndef MT_MODEL_EMBEDDING_H
#define MT_MODEL_EMBEDDING_H

#include "trainer/model/dropout.h"
#include "trainer/model/layer_norm.h"
#include "trainer/model/model.h"
#include "trainer/model/weights.h"

/* Local.  y[N,H] = dropout(norm(word[id] + type[t] + position[p])); positions count from each
 * sentence's first token. */
void embedding_forward(const struct model *m, const struct weights *w, const struct layer_norm *n,
                       const struct dropout *drop, const struct batch *batch, real *y);

/* Local.  The output of forward again, the same bits. */
void embedding_output(const struct layer_norm *n, const struct dropout *drop,
                      const struct batch *batch, real *y);

/* Local.  d[N,H]: gradient of the output, destroyed.  Rows are added token by token in batch order.
 * The row of pad_token_id gets no gradient, as with torch.nn.Embedding's padding_idx.
 * sink: [2][H] room for gradients nobody wants. */
void embedding_backward(const struct model *m, const struct weights *w, const struct layer_norm *n,
                        const struct dropout *drop, const struct batch *batch, real *d, real *sink);

#endif
