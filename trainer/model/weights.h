/*
 * weights: the flat blocks of parameters and gradients, looked at by tensor index.
 */
#ifndef MT_MODEL_WEIGHTS_H
#define MT_MODEL_WEIGHTS_H

#include "comm/base/tensors.h"
#include "trainer/model/real.h"

struct weights {
    const struct tensor_table *table;
    const real *params;
    real *grads;              /* NULL outside backward */
    const uint8_t *trainable; /* [table->count], NULL = none */
    bool fresh;               /* products set their gradients instead of adding to them */
};

/* Local.  First element of a tensor. */
static inline const real *weights_at(const struct weights *w, int32_t tensor)
{
    return w->params + w->table->entry[tensor].offset;
}

static inline bool weights_trains(const struct weights *w, int32_t tensor)
{
    return w->trainable && w->trainable[tensor];
}

/* Local.  Where a tensor's gradient is added; NULL where it is frozen. */
static inline real *weights_gradient(const struct weights *w, int32_t tensor)
{
    return weights_trains(w, tensor) ? w->grads + w->table->entry[tensor].offset : NULL;
}

/* Local.  The same, but `sink` where it is frozen: a kernel that sums several gradients in one pass
 * stays free of branches. */
static inline real *weights_gradient_or(const struct weights *w, int32_t tensor, real *sink)
{
    return weights_trains(w, tensor) ? w->grads + w->table->entry[tensor].offset : sink;
}

#endif
