/*
 * attention: softmax(Q K^T / sqrt(D)) V of every sentence and head, with dropout of the
 * probabilities.
 *
 * Probabilities are never kept: backward makes them again from q, k and two numbers a row (the
 * row's maximum and the reciprocal of its sum), while one head of one sentence is in cache.
 *
 * Source: Vaswani et al., "Attention Is All You Need" (2017); the recomputation and the row term of
 * the softmax gradient follow Dao et al., "FlashAttention" (2022).
 */
#ifndef MT_MODEL_ATTENTION_H
#define MT_MODEL_ATTENTION_H

#include "io/batch.h"
#include "trainer/model/bf16.h"
#include "trainer/model/dropout.h"
#include "trainer/model/real.h"

struct attention {
    int64_t A, D; /* heads, columns of a head; H = A D */
    struct dropout drop;
    const struct batch *batch;
    struct mixed_rows q, k, v; /* [N,H]; bf16: AMX multiplies */
    real *row_max, *row_scale; /* [N,A], written by forward */
    real *room;                /* attention_room_plan for the longest sentence */
};

/* Local.  Elements of `room` for sentences of up to T tokens and heads of D columns. */
int64_t attention_room_plan(int64_t T, int64_t D);

/* Local.  context[N,H], in bf16 where q, k and v are. */
void attention_forward(const struct attention *a, struct mixed_rows context);

/* Local.  d: gradient of the context on entry, dq on return; context as forward made it;
 * sets dk, dv; all [N,H], in bf16 where q, k and v are. */
void attention_backward(const struct attention *a, struct mixed_rows context, struct mixed_rows d,
                        struct mixed_rows dk, struct mixed_rows dv);

#endif
