/*
 * Backward is the mirror of forward, block by block.  Each gradient that flows on lives in one
 * buffer d[N,H]: a residual connection is then an addition into d by the product that ends its
 * block (beta = 1).
 *
 * Kept: inputs of products that cannot be made again cheaply.  h1, y and g are element-wise
 * functions of kept things and are made again.
 */
#include "trainer/model/encoder_layer.h"

#include "trainer/model/attention.h"
#include "trainer/model/gemm_amx.h"
#include "trainer/model/timing.h"

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void layer_keep_plan(struct layer_keep *keep, struct arena *a, const struct model *m, int64_t N)
{
    int64_t H = m->config.hidden_size, A = m->config.num_attention_heads;
    keep->q = dense_rows_plan(a, m, N, H);
    keep->k = dense_rows_plan(a, m, N, H);
    keep->v = dense_rows_plan(a, m, N, H);
    keep->context = dense_rows_plan(a, m, N, H);
    keep->row_max = ARENA_TAKE(a, real, N * A);
    keep->row_scale = ARENA_TAKE(a, real, N * A);
    keep->xhat1 = ARENA_TAKE(a, real, N * H);
    keep->xhat2 = ARENA_TAKE(a, real, N * H);
    keep->rstd1 = ARENA_TAKE(a, real, N);
    keep->rstd2 = ARENA_TAKE(a, real, N);
    bool half = dense_keeps_half(m);
    keep->u = half ? NULL : ARENA_TAKE(a, real, N * m->config.intermediate_size);
    keep->u_half =
        half ? ARENA_TAKE(a, uint16_t, gemm_amx_blocked(N, m->config.intermediate_size)) : NULL;
}

void layer_scratch_plan(struct layer_scratch *s, struct arena *a, const struct model *m, int64_t N,
                        bool backward)
{
    int64_t H = m->config.hidden_size, F = m->config.intermediate_size;
    int64_t T = m->config.max_position_embeddings < N ? m->config.max_position_embeddings : N;
    s->h1 = ARENA_TAKE(a, real, N * H);
    bool half = dense_keeps_half(m);
    s->g = half ? NULL : ARENA_TAKE(a, real, m->precision == MODEL_FP32 ? N * F : F);
    s->attention = ARENA_TAKE(a, real, attention_room_plan(T, H / m->config.num_attention_heads));
    s->lanes = ARENA_TAKE(a, uint16_t, H + DROPOUT_SLACK);
    dense_room_plan(&s->dense, a, m, N, backward);
    if (!backward)
        return;
    s->dy = ARENA_TAKE(a, real, N * H);
    s->dcontext = dense_rows_plan(a, m, N, H);
    s->dk = dense_rows_plan(a, m, N, H);
    s->dv = dense_rows_plan(a, m, N, H);
    s->dg = half ? NULL : ARENA_TAKE(a, real, N * F);
    s->sink = ARENA_TAKE(a, real, 3 * larger(H, F));
}

static struct layer_norm norm_of(const struct layer_call *c, int which)
{
    const struct layer_tensors *t = c->tensors;
    return (struct layer_norm){
        .H = c->model->config.hidden_size,
        .eps = (real)c->model->config.layer_norm_eps,
        .gamma = weights_at(c->w, which == 1 ? t->ln1_w : t->ln2_w),
        .beta = weights_at(c->w, which == 1 ? t->ln1_b : t->ln2_b),
        .xhat = which == 1 ? c->keep->xhat1 : c->keep->xhat2,
        .rstd = which == 1 ? c->keep->rstd1 : c->keep->rstd2,
    };
}

static struct dropout dropout_of(const struct layer_call *c, enum dropout_site_id site)
{
    double p = site == DROPOUT_ATTENTION ? c->attention_dropout : c->hidden_dropout;
    return dropout_make(p, c->dropout_key, c->depth, site);
}

static struct attention attention_of(const struct layer_call *c)
{
    int64_t A = c->model->config.num_attention_heads;
    return (struct attention){
        .A = A,
        .D = c->model->config.hidden_size / A,
        .drop = dropout_of(c, DROPOUT_ATTENTION),
        .batch = c->batch,
        .q = c->keep->q,
        .k = c->keep->k,
        .v = c->keep->v,
        .row_max = c->keep->row_max,
        .row_scale = c->keep->row_scale,
        .room = c->scratch->attention,
    };
}

static struct dense dense_of(const struct layer_call *c)
{
    return (struct dense){c->w, &c->scratch->dense, c->batch->N};
}

static struct dense_triple triple_of(const struct layer_call *c)
{
    const struct layer_tensors *t = c->tensors;
    return (struct dense_triple){{t->q_w, t->k_w, t->v_w}, {t->q_b, t->k_b, t->v_b}};
}

static struct dense_activation activation_of(const struct layer_call *c)
{
    const struct layer_tensors *t = c->tensors;
    return (struct dense_activation){.act = c->model->config.hidden_act,
                                     .weight = t->f1_w,
                                     .bias = t->f1_b,
                                     .u = c->keep->u,
                                     .half = c->keep->u_half,
                                     .room = c->scratch->g};
}

/* Where a layer norm puts its result as an operand, so that nothing need round it; NULL where the
 * products do not take blocks. */
static uint16_t *blocks_of(const struct layer_call *c, uint16_t *room)
{
    return c->scratch->dense.amx ? room : NULL;
}

/* What a layer norm left: in blocks, or x[N,columns] to round where operands are rounded. */
static struct operand operand_of(const struct dense *d, const struct layer_norm *n, const real *x,
                                 uint16_t *room)
{
    if (n->blocks)
        return (struct operand){NULL, n->blocks, false};
    return dense_operand(d, x, n->H, room);
}

/* Forward leaves its output in c, where the next layer finds it. */
static struct operand input_operand(const struct layer_call *c, const real *x)
{
    struct dense dense = dense_of(c);
    const struct dense_room *room = &c->scratch->dense;
    if (c->follows && blocks_of(c, room->c))
        return (struct operand){NULL, room->c, false};
    return dense_operand(&dense, x, c->model->config.hidden_size, room->a);
}

/* Everything up to act(u), which it gives as the operand of the last product. */
static struct operand forward_to_activation(const struct layer_call *c, const real *x)
{
    const struct layer_tensors *t = c->tensors;
    const struct layer_scratch *s = c->scratch;
    struct layer_keep *keep = c->keep;
    int64_t H = c->model->config.hidden_size, F = c->model->config.intermediate_size;
    const struct weights *w = c->w;

    struct dense dense = dense_of(c);
    struct dense_triple triple = triple_of(c);
    dense_triple_forward(&dense, (struct mixed_rows[]){keep->q, keep->k, keep->v},
                         input_operand(c, x), &triple, H);
    struct attention attention = attention_of(c);
    attention_forward(&attention, keep->context);
    timing_mark(TIMING_ATTENTION);

    struct layer_norm norm1 = norm_of(c, 1);
    struct dropout drop1 = dropout_of(c, DROPOUT_PROJECTION);
    norm1.blocks = blocks_of(c, s->dense.inner);
    dense_forward(&dense, s->h1, dense_rows_operand(&dense, keep->context, H, s->dense.a), t->o_w,
                  H, H);
    residual_norm_forward(&norm1, &drop1, c->batch, weights_at(w, t->o_b), x, s->h1, s->lanes);
    timing_mark(TIMING_NORM);

    struct dense_activation inner = activation_of(c);
    struct operand h1 = operand_of(&dense, &norm1, s->h1, s->dense.inner);
    return dense_activation_forward(&dense, &inner, h1, H, F);
}

void encoder_layer_forward(const struct layer_call *c, const real *x, real *y)
{
    const struct layer_tensors *t = c->tensors;
    const struct layer_scratch *s = c->scratch;
    const struct weights *w = c->w;
    struct operand g = forward_to_activation(c, x);
    struct dense dense = dense_of(c);
    struct layer_norm norm2 = norm_of(c, 2);
    struct dropout drop2 = dropout_of(c, DROPOUT_FEED_FORWARD);
    int64_t F = c->model->config.intermediate_size;
    norm2.blocks = blocks_of(c, s->dense.c);
    dense_forward(&dense, y, g, t->f2_w, F, c->model->config.hidden_size);
    residual_norm_forward(&norm2, &drop2, c->batch, weights_at(w, t->f2_b), s->h1, y, s->lanes);
    timing_mark(TIMING_NORM);
}

void encoder_layer_again(const struct layer_call *c, const real *x)
{
    (void)forward_to_activation(c, x);
}

void encoder_layer_output(const struct layer_call *c, real *y)
{
    struct layer_norm norm2 = norm_of(c, 2);
    layer_norm_output(&norm2, c->batch->N, y);
    timing_mark(TIMING_NORM);
}

static bool trains(const struct weights *w, int32_t weight, int32_t bias)
{
    return weights_trains(w, weight) || weights_trains(w, bias);
}

/* How far down backward has to go: each block is needed by what it trains and by all below it. */
struct reach {
    bool attention, projection, norm1, feed1, feed2, any;
};

static struct reach reach_of(const struct layer_call *c, bool input)
{
    const struct layer_tensors *t = c->tensors;
    const struct weights *w = c->w;
    struct reach r;
    r.attention = input || trains(w, t->q_w, t->q_b) || trains(w, t->k_w, t->k_b) ||
                  trains(w, t->v_w, t->v_b);
    r.projection = r.attention || trains(w, t->o_w, t->o_b);
    r.norm1 = r.projection || trains(w, t->ln1_w, t->ln1_b);
    r.feed1 = r.norm1 || trains(w, t->f1_w, t->f1_b);
    r.feed2 = r.feed1 || trains(w, t->f2_w, t->f2_b);
    r.any = r.feed2 || trains(w, t->ln2_w, t->ln2_b);
    return r;
}

bool encoder_layer_trains(const struct layer_call *c)
{
    return reach_of(c, false).any;
}

/* d: gradient of y -> gradient of h1. */
static void feed_forward_backward(const struct layer_call *c, const struct reach *r, real *d)
{
    const struct layer_tensors *t = c->tensors;
    const struct layer_scratch *s = c->scratch;
    const struct weights *w = c->w;
    int64_t N = c->batch->N, H = c->model->config.hidden_size;
    int64_t F = c->model->config.intermediate_size;
    struct layer_norm norm1 = norm_of(c, 1), norm2 = norm_of(c, 2);
    struct dropout drop = dropout_of(c, DROPOUT_FEED_FORWARD);
    struct residual_norm_gradients to = {weights_gradient_or(w, t->ln2_w, s->sink),
                                         weights_gradient_or(w, t->ln2_b, s->sink + H),
                                         weights_gradient_or(w, t->f2_b, s->sink + 2 * H)};
    norm2.blocks = blocks_of(c, s->dense.c);
    const real *dy = residual_norm_backward(&norm2, &drop, c->batch, d, s->dy, &to, s->lanes);
    timing_mark(TIMING_NORM);
    if (!r->feed2)
        return;
    struct dense dense = dense_of(c);
    struct operand dyo = operand_of(&dense, &norm2, dy, s->dense.c);
    struct dense_activation inner = activation_of(c);
    struct dense_activation_gradients gradients =
        dense_activation_backward(&dense, &inner, dyo, r->feed1 ? t->f2_w : -1, F, H, s->dg,
                                  weights_gradient_or(w, t->f1_b, s->sink));
    struct operand duo = gradients.du;
    dense_backward_weight(&dense, t->f2_w, dyo, gradients.g, F, H);
    if (!r->feed1)
        return;
    if (weights_trains(w, t->f1_w)) {
        norm1.blocks = blocks_of(c, s->dense.b);
        layer_norm_output(&norm1, N, s->h1);
        timing_mark(TIMING_NORM);
        dense_backward_weight(&dense, t->f1_w, duo, operand_of(&dense, &norm1, s->h1, s->dense.b),
                              H, F);
    }
    if (r->norm1)
        dense_backward_input(&dense, d, true, duo, t->f1_w, H, F);
}

/* d: gradient of h1 -> gradient of x. */
static void attention_block_backward(const struct layer_call *c, const struct reach *r,
                                     const real *x, real *d, bool input)
{
    const struct layer_tensors *t = c->tensors;
    const struct layer_scratch *s = c->scratch;
    const struct weights *w = c->w;
    int64_t H = c->model->config.hidden_size;
    struct layer_norm norm1 = norm_of(c, 1);
    struct dropout drop = dropout_of(c, DROPOUT_PROJECTION);
    struct residual_norm_gradients to = {weights_gradient_or(w, t->ln1_w, s->sink),
                                         weights_gradient_or(w, t->ln1_b, s->sink + H),
                                         weights_gradient_or(w, t->o_b, s->sink + 2 * H)};
    norm1.blocks = blocks_of(c, s->dense.c);
    const real *dy = residual_norm_backward(&norm1, &drop, c->batch, d, s->dy, &to, s->lanes);
    timing_mark(TIMING_NORM);
    struct dense dense = dense_of(c);
    struct dense_triple triple = triple_of(c);
    struct operand dyo = operand_of(&dense, &norm1, dy, s->dense.c);
    if (weights_trains(w, t->o_w))
        dense_backward_weight(&dense, t->o_w, dyo,
                              dense_rows_operand(&dense, c->keep->context, H, s->dense.b), H, H);
    if (!r->attention)
        return;
    dense_backward_rows(&dense, s->dcontext, dyo, t->o_w, H, H);

    struct attention attention = attention_of(c);
    attention_backward(&attention, c->keep->context, s->dcontext, s->dk, s->dv);
    timing_mark(TIMING_ATTENTION);
    dense_triple_backward(&dense, input ? d : NULL,
                          (struct mixed_rows[]){s->dcontext, s->dk, s->dv},
                          dense_operand(&dense, x, H, s->dense.b), &triple, H);
}

void encoder_layer_backward(const struct layer_call *c, const real *x, real *d, bool input)
{
    struct reach r = reach_of(c, input);
    if (!r.any)
        return;
    feed_forward_backward(c, &r, d);
    if (r.norm1)
        attention_block_backward(c, &r, x, d, input);
}
