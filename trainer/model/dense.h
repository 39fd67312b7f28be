/*
 * dense: the products of an encoder layer, in the model's precision.
 *
 * In fp32 an operand is the matrix itself and results are added where they belong.  In bf16 an
 * operand is a rounded copy, made once, by the kernel before where that can, and used by all
 * products that need it; weights are rounded at the product.  By AMX (trainer/model/gemm_amx.h) the
 * copy lies in the unit's blocks, results are added where they belong, and a product goes on into
 * bias and activation while its sums are in cache.  Sums are float, and gradients are added in
 * float.
 */
#ifndef MT_MODEL_DENSE_H
#define MT_MODEL_DENSE_H

#include "comm/base/arena.h"
#include "io/bert_config.h"
#include "trainer/model/bf16.h"
#include "trainer/model/model.h"
#include "trainer/model/weights.h"

/* A matrix that is multiplied: `at` in fp32, `rounded` (then not NULL) in bf16; by AMX in blocks
 * (trainer/model/gemm_amx.h), or as rows. */
struct operand {
    const real *at;
    const uint16_t *rounded;
    bool rows;
};

/* Work space of the products of N rows; all NULL in fp32. */
struct dense_room {
    uint16_t *a, *b; /* [N, max(3H, F)] rounded operands that live at the same time; AMX: [N,F] */
    uint16_t *c;     /* [N,H] */
    uint16_t *inner; /* [N,H] the activation's input; a where that is free until its result */
    uint16_t *w;     /* [H, max(3H, F)]; NULL in bf16 by AMX */
    real *sum;       /* [max(N 3H, H max(3H, F))]; NULL in bf16 by AMX */
    bool amx;
};

struct dense {
    const struct weights *w;
    const struct dense_room *room;
    int64_t N;
};

/* Local.  Takes (or counts) the memory; backward: also for gradients. */
void dense_room_plan(struct dense_room *room, struct arena *a, const struct model *m, int64_t N,
                     bool backward);

/* Local.  x[N,columns] as an operand; `to` is a part of the room, NULL in fp32. */
struct operand dense_operand(const struct dense *d, const real *x, int64_t columns, uint16_t *to);

/* Local.  The same of rows that attention reads or writes. */
struct operand dense_rows_operand(const struct dense *d, struct mixed_rows x, int64_t columns,
                                  uint16_t *to);

/* Local.  Memory for [N,columns] between products and attention: bf16 where AMX multiplies. */
struct mixed_rows dense_rows_plan(struct arena *a, const struct model *m, int64_t N,
                                  int64_t columns);

/* Local.  y[N,out] = x[N,in] W^T. */
void dense_forward(const struct dense *d, real *y, struct operand x, int32_t weight, int64_t in,
                   int64_t out);

/* Local.  dx[N,in] = dy[N,out] W, or adds that to dx. */
void dense_backward_input(const struct dense *d, real *dx, bool add, struct operand dy,
                          int32_t weight, int64_t in, int64_t out);

/* Local.  dx[N,in] = dy[N,out] W, for attention. */
void dense_backward_rows(const struct dense *d, struct mixed_rows dx, struct operand dy,
                         int32_t weight, int64_t in, int64_t out);

/* Local.  Adds dy[N,out]^T x[N,in] into the weight's gradient; nothing where it is frozen. */
void dense_backward_weight(const struct dense *d, int32_t weight, struct operand dy,
                           struct operand x, int64_t in, int64_t out);

/* The layer before the activation, F = `out` wide, and what forward keeps of it. */
struct dense_activation {
    enum activation act;
    int32_t weight, bias;
    real *u;        /* [N,F] before the activation, bias included; NULL: rounded */
    uint16_t *half; /* [N,F] u in bf16, in blocks, where the product writes it */
    real *room;     /* [N,F]; one row in bf16 by oneDNN, NULL in bf16 by AMX */
};

/* Local.  Whether the model's products keep u in bf16, and take operands in blocks. */
bool dense_keeps_half(const struct model *m);

/* Local.  u = x[N,in] W^T + bias; answers act(u), in room->a where it is rounded. */
struct operand dense_activation_forward(const struct dense *d, const struct dense_activation *a,
                                        struct operand x, int64_t in, int64_t F);

/* Local.  act(u) again, in room->b, and du = dy[N,out] W act'(u), in room->a, with W of the layer
 * above; dg[N,F] is where du lies in float (unused by AMX).  Adds the column sums of du into
 * dbias[F].  Where `weight_above` is -1 du is not wanted and is zero. */
struct dense_activation_gradients {
    struct operand g, du;
};
struct dense_activation_gradients dense_activation_backward(const struct dense *d,
                                                            const struct dense_activation *a,
                                                            struct operand dy, int32_t weight_above,
                                                            int64_t F, int64_t out, real *dg,
                                                            real *dbias);

/* Three dense layers H -> H of one input: queries, keys and values. */
struct dense_triple {
    int32_t weight[3], bias[3];
};

/* Local.  y[i][N,H] = x[N,H] W_i^T + b_i. */
void dense_triple_forward(const struct dense *d, const struct mixed_rows y[3], struct operand x,
                          const struct dense_triple *t, int64_t H);

/* Local.  From dy[i][N,H]: adds into the gradients of trainable weights and biases and, where
 * dx is not NULL, adds the gradient of the input to dx[N,H].  Uses room->a; x may be in room->b. */
void dense_triple_backward(const struct dense *d, real *dx, const struct mixed_rows dy[3],
                           struct operand x, const struct dense_triple *t, int64_t H);

#endif
