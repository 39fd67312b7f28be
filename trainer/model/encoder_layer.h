/*
 * encoder_layer: self-attention and feed-forward block of BERT, each with residual and layer norm.
 *
 *     c  = attention(x Wq, x Wk, x Wv)      h1 = norm1(dropout(c Wo) + x)
 *     u  = h1 W1 + b1    g = act(u)         y  = norm2(dropout(g W2) + h1)
 */
#ifndef MT_MODEL_ENCODER_LAYER_H
#define MT_MODEL_ENCODER_LAYER_H

#include "comm/base/arena.h"
#include "trainer/model/dense.h"
#include "trainer/model/layer_norm.h"
#include "trainer/model/model.h"
#include "trainer/model/weights.h"

/* What forward leaves for backward: 6 H + F + 2 A + 2 numbers a token. */
struct layer_keep {
    struct mixed_rows q, k, v, context; /* [N,H] */
    real *row_max, *row_scale;          /* [N,A] */
    real *xhat1, *xhat2;                /* [N,H] */
    real *rstd1, *rstd2;                /* [N] */
    real *u;                            /* [N,F]; NULL where bf16 keeps u_half instead */
    uint16_t *u_half;                   /* [N,F], in blocks */
};

/* Room that all layers use in turn. */
struct layer_scratch {
    real *h1;                           /* [N,H] */
    real *g;                            /* [N,F]; in bf16 one row, none by AMX */
    real *attention;                    /* attention_room_plan(T, D) */
    uint16_t *lanes;                    /* [H + DROPOUT_SLACK] */
    real *dy;                           /* [N,H], backward only */
    struct mixed_rows dcontext, dk, dv; /* [N,H], backward only */
    real *dg;                           /* [N,F], backward only; none in bf16 by AMX */
    real *sink;                         /* [3][max(H,F)], backward only */
    struct dense_room dense;            /* bf16 only */
};

/* One layer of one pass. */
struct layer_call {
    const struct model *model;
    const struct weights *w;
    const struct batch *batch;
    const struct layer_tensors *tensors;
    struct layer_keep *keep;
    const struct layer_scratch *scratch;
    bool follows; /* forward of the layer below ran just before: its output is an operand already */
    int32_t depth;
    double hidden_dropout, attention_dropout; /* 0 in evaluation mode */
    uint64_t dropout_key;
};

/* Local.  Takes (or counts) the memory for N tokens. */
void layer_keep_plan(struct layer_keep *keep, struct arena *a, const struct model *m, int64_t N);
void layer_scratch_plan(struct layer_scratch *s, struct arena *a, const struct model *m, int64_t N,
                        bool backward);

/* Local.  y[N,H] from x[N,H]; y may be x. */
void encoder_layer_forward(const struct layer_call *c, const real *x, real *y);

/* Local.  What forward left in keep, again and with the same bits, but for xhat2 and rstd2, which
 * must be there still. */
void encoder_layer_again(const struct layer_call *c, const real *x);

/* Local.  The output of forward again, the same bits. */
void encoder_layer_output(const struct layer_call *c, real *y);

/* Whether the layer has a tensor to train. */
bool encoder_layer_trains(const struct layer_call *c);

/* Local.  In place d[N,H]: gradient of y -> gradient of x where `input` asks for it (else d is left
 * in some state); adds into the gradients of the layer's trainable tensors and stops below the
 * lowest of them. */
void encoder_layer_backward(const struct layer_call *c, const real *x, real *d, bool input);

#endif
