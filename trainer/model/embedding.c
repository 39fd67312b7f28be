/* See embedding.h.  Refused: sorting tokens before the rows are added (the order, and with it the
 * bits, would no longer be the batch's; additions are under 0.1 % of a step). */
#include "trainer/model/embedding.h"

#include "trainer/model/kernel.h"

KERNEL void embedding_forward(const struct model *m, const struct weights *w,
                              const struct layer_norm *n, const struct dropout *drop,
                              const struct batch *batch, real *y)
{
    int64_t H = n->H, row = 0;
    const real *word = weights_at(w, m->word), *type = weights_at(w, m->type);
    const real *position = weights_at(w, m->position);
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        for (int64_t t = 0; t < T; t++, row++) {
            const real *restrict a = word + batch->ids[row] * H;
            const real *restrict b = type + batch->types[row] * H, *restrict c = position + t * H;
            real *restrict to = y + row * H;
            for (int64_t j = 0; j < H; j++)
                to[j] = a[j] + b[j] + c[j];
        }
    }
    layer_norm_forward(n, row, y, y);
    dropout_apply_batch(drop, batch, H, y);
}

void embedding_output(const struct layer_norm *n, const struct dropout *drop,
                      const struct batch *batch, real *y)
{
    layer_norm_output(n, batch->N, y);
    dropout_apply_batch(drop, batch, n->H, y);
}

static KERNEL void add_row(real *restrict to, const real *restrict from, int64_t H)
{
    for (int64_t j = 0; j < H; j++)
        to[j] += from[j];
}

void embedding_backward(const struct model *m, const struct weights *w, const struct layer_norm *n,
                        const struct dropout *drop, const struct batch *batch, real *d, real *sink)
{
    int64_t H = n->H, row = 0;
    dropout_apply_batch(drop, batch, H, d);
    layer_norm_backward(n, batch->N, d, weights_gradient_or(w, m->ln_w, sink),
                        weights_gradient_or(w, m->ln_b, sink + H));
    real *word = weights_gradient(w, m->word), *type = weights_gradient(w, m->type);
    real *position = weights_gradient(w, m->position);
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        for (int64_t t = 0; t < T; t++, row++) {
            if (word && batch->ids[row] != m->config.pad_token_id)
                add_row(word + batch->ids[row] * H, d + row * H, H);
            if (type)
                add_row(type + batch->types[row] * H, d + row * H, H);
            if (position)
                add_row(position + t * H, d + row * H, H);
        }
    }
}
