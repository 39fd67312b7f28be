/*
 * A pass: the memory of one batch, and the order of the layers up and down.
 *
 * Layers in training keep what struct layer_keep names; layers below share the top layer's room,
 * which is written last.  A layer's input is not kept: it is the output of the layer below, made
 * again from that layer's xhat by the kernel that made it first, so with the same bits.  Only the
 * input of the lowest layer in training is copied (or is the caller's boundary).
 *
 * A pass that recomputes has room for one layer and, for each below it, the xhat from which its
 * output is made: (L-1) (H+1) numbers a token instead of (L-1) (6 H + F + 2 A + 2).  Backward runs
 * each layer but the top one forward again, without its last product: a fifth more time.
 */
#include "trainer/model/model.h"

#include <string.h>

#include "comm/base/arena.h"
#include "comm/base/memory.h"
#include "trainer/model/embedding.h"
#include "trainer/model/encoder_layer.h"
#include "trainer/model/head.h"
#include "trainer/model/linear.h"
#include "trainer/model/pooling.h"
#include "trainer/model/timing.h"
#include "trainer/model/vector_math.h"

struct pass {
    const struct model *model;
    int32_t max_tokens, max_sentences, train_from;
    bool recompute;
    struct arena arena;

    struct layer_keep *keep; /* [L+1], by depth */
    struct layer_scratch scratch;
    real *embedding_xhat, *embedding_rstd;                    /* [N,H], [N] */
    real *hidden;                                             /* [N,H] running output */
    real *input, *again, *d;                                  /* [N,H] for backward */
    real *features, *pooled, *dropped, *dpooled;              /* [B,H] */
    real *dfeatures;                                          /* [B,H] */
    int32_t *where;                                           /* [B,H] max pooling */
    real *logits[MODEL_TASKS_MAX], *dlogits[MODEL_TASKS_MAX]; /* [B,K] */

    /* of the last forward */
    struct batch batch;
    struct pass_plan plan;
    struct weights weights;
    int32_t lowest_kept;
    bool fresh;               /* the next backward is the first of its gradients */
    const real *lowest_input; /* [N,H] of depth lowest_kept, NULL for depths 0 and L+1 */
    const real *top;          /* [N,H] last hidden states, NULL where they were not computed */
    const real *top_features; /* [B,H] input of depth L+1 */
    struct task_sums sums[MODEL_TASKS_MAX];
};

static int32_t top_depth(const struct pass *p)
{
    return p->model->config.num_hidden_layers + 1;
}

static void plan_layers(struct pass *p, struct arena *a)
{
    const struct model *m = p->model;
    int32_t L = m->config.num_hidden_layers;
    int64_t N = p->max_tokens, H = m->config.hidden_size;
    bool backward = p->train_from <= L;
    layer_scratch_plan(&p->scratch, a, m, N, backward);
    layer_keep_plan(&p->keep[L], a, m, N);
    for (int32_t depth = 1; depth < L; depth++) {
        if (depth >= p->train_from && !p->recompute) {
            layer_keep_plan(&p->keep[depth], a, m, N);
            continue;
        }
        p->keep[depth] = p->keep[L];
        if (depth >= p->train_from) {
            p->keep[depth].xhat2 = ARENA_TAKE(a, real, N * H);
            p->keep[depth].rstd2 = ARENA_TAKE(a, real, N);
        }
    }
    p->embedding_xhat = p->train_from == 0 ? ARENA_TAKE(a, real, N * H) : p->scratch.h1;
    p->embedding_rstd = ARENA_TAKE(a, real, N);
    p->hidden = ARENA_TAKE(a, real, N * H);
    if (!backward)
        return;
    p->input = ARENA_TAKE(a, real, N * H);
    p->again = ARENA_TAKE(a, real, N * H);
    p->d = ARENA_TAKE(a, real, N * H);
}

/* All memory of the pass: run once to measure and once to place. */
static void plan_memory(struct pass *p, struct arena *a)
{
    const struct model *m = p->model;
    int64_t BH = (int64_t)p->max_sentences * m->config.hidden_size;
    plan_layers(p, a);
    p->features = ARENA_TAKE(a, real, BH);
    p->pooled = m->pooling == POOL_POOLER ? ARENA_TAKE(a, real, BH) : NULL;
    p->dropped = ARENA_TAKE(a, real, BH);
    p->dpooled = ARENA_TAKE(a, real, BH);
    p->dfeatures = m->pooling == POOL_POOLER ? ARENA_TAKE(a, real, BH) : NULL;
    p->where = m->pooling == POOL_MAX ? ARENA_TAKE(a, int32_t, BH) : NULL;
    for (int32_t t = 0; t < m->task_count; t++) {
        p->logits[t] = ARENA_TAKE(a, real, (int64_t)p->max_sentences * m->task[t].classes);
        p->dlogits[t] = ARENA_TAKE(a, real, (int64_t)p->max_sentences * m->task[t].classes);
    }
}

/* Takes sizes for its own; gives the bytes of its memory. */
static mt_status init_sizes(struct pass *p, const struct pass *sizes, int64_t *bytes)
{
    struct arena measure;
    *p = *sizes;
    MT_TRY(mt_alloc(&p->keep, p->model->config.num_hidden_layers + 1, sizeof *p->keep,
                    "activations by layer"));
    arena_init_measure(&measure);
    plan_memory(p, &measure);
    *bytes = arena_peak_bytes(&measure);
    return MT_OK;
}

static mt_status create(struct pass **out, const struct pass *sizes)
{
    struct pass *p = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&p, 1, sizeof *p, "pass"), done);
    MT_TRY_GOTO(st, init_sizes(p, sizes, &bytes), done);
    MT_TRY_GOTO(st, arena_init(&p->arena, bytes, "activations"), done);
    plan_memory(p, &p->arena);
    *out = p;
done:
    if (st != MT_OK)
        pass_destroy(&p);
    return st;
}

mt_status pass_create(struct pass **out, const struct model *m, int32_t max_tokens,
                      int32_t max_sentences, int32_t train_from)
{
    struct pass sizes = {.model = m,
                         .max_tokens = max_tokens,
                         .max_sentences = max_sentences,
                         .train_from = train_from};
    return create(out, &sizes);
}

mt_status pass_create_recomputing(struct pass **out, const struct model *m, int32_t max_tokens,
                                  int32_t max_sentences, int32_t train_from)
{
    struct pass sizes = {.model = m,
                         .max_tokens = max_tokens,
                         .max_sentences = max_sentences,
                         .train_from = train_from,
                         .recompute = true};
    return create(out, &sizes);
}

mt_status pass_measure(int64_t *bytes, const struct model *m, int32_t max_tokens,
                       int32_t max_sentences, int32_t train_from, bool recompute)
{
    struct pass p, sizes = {.model = m,
                            .max_tokens = max_tokens,
                            .max_sentences = max_sentences,
                            .train_from = train_from,
                            .recompute = recompute};
    MT_TRY(init_sizes(&p, &sizes, bytes));
    mt_free(&p.keep);
    return MT_OK;
}

void pass_destroy(struct pass **p)
{
    if (!*p)
        return;
    arena_destroy(&(*p)->arena);
    mt_free(&(*p)->keep);
    mt_free(p);
}

int64_t pass_bytes(const struct pass *p)
{
    return p->arena.capacity_bytes;
}

/* Notes what the pass works on; a batch or plan that the pass was not made for is a bug. */
static void begin(struct pass *p, const real *params, const struct batch *batch,
                  const struct pass_plan *plan)
{
    bool fits = batch->N <= p->max_tokens && batch->B <= p->max_sentences &&
                plan->train_from >= p->train_from;
    for (int32_t s = 0; s < batch->B; s++)
        fits &=
            batch->offsets[s + 1] - batch->offsets[s] <= p->model->config.max_position_embeddings;
    if (!fits)
        __builtin_trap();
    p->batch = *batch;
    p->plan = *plan;
    p->weights = (struct weights){&p->model->table, params, NULL, plan->trainable, false};
    p->lowest_kept = plan->train_from > plan->start ? plan->train_from : plan->start;
    p->lowest_input = NULL;
    p->top = NULL;
    p->top_features = NULL;
}

static double rate_at(const struct pass *p, int32_t depth, real rate)
{
    return depth >= p->plan.train_from ? (double)rate : 0;
}

static struct layer_norm embedding_norm(const struct pass *p)
{
    return (struct layer_norm){.H = p->model->config.hidden_size,
                               .eps = (real)p->model->config.layer_norm_eps,
                               .gamma = weights_at(&p->weights, p->model->ln_w),
                               .beta = weights_at(&p->weights, p->model->ln_b),
                               .xhat = p->embedding_xhat,
                               .rstd = p->embedding_rstd};
}

static struct dropout embedding_dropout(const struct pass *p)
{
    return dropout_make(rate_at(p, 0, p->plan.hidden_dropout), p->plan.dropout_key, 0,
                        DROPOUT_EMBEDDING);
}

static struct layer_call layer_at(struct pass *p, int32_t depth)
{
    return (struct layer_call){
        .model = p->model,
        .w = &p->weights,
        .batch = &p->batch,
        .tensors = &p->model->layer[depth - 1],
        .keep = &p->keep[depth],
        .scratch = &p->scratch,
        .depth = depth,
        .hidden_dropout = rate_at(p, depth, p->plan.hidden_dropout),
        .attention_dropout = rate_at(p, depth, p->plan.attention_dropout),
        .dropout_key = p->plan.dropout_key,
    };
}

/* The input of `depth` stays for backward if that is the lowest one in training. */
static void keep_input(struct pass *p, int32_t depth, const real *x)
{
    if (depth != p->lowest_kept || depth == 0)
        return;
    if (x == p->hidden) {
        memcpy(p->input, x, (size_t)(p->batch.N * p->model->config.hidden_size) * sizeof *x);
        timing_mark(TIMING_OTHER);
        x = p->input;
    }
    p->lowest_input = x;
}

/* Depths plan.start .. until-1, at most the encoder's; answers the last hidden states. */
static const real *encode(struct pass *p, const real *boundary, int32_t until)
{
    const real *x = boundary;
    for (int32_t depth = p->plan.start; depth < until && depth < top_depth(p); depth++) {
        timing_depth_begin();
        if (depth == 0) {
            struct layer_norm norm = embedding_norm(p);
            struct dropout drop = embedding_dropout(p);
            embedding_forward(p->model, &p->weights, &norm, &drop, &p->batch, p->hidden);
            timing_mark(TIMING_EMBEDDING);
        } else {
            struct layer_call c = layer_at(p, depth);
            keep_input(p, depth, x);
            c.follows = depth > 1 && depth > p->plan.start;
            encoder_layer_forward(&c, x, p->hidden);
        }
        timing_depth_end(depth, false);
        x = p->hidden;
    }
    return x;
}

/* The input of depth L+1. */
static const real *features(struct pass *p, const real *boundary)
{
    if (p->plan.start == top_depth(p))
        return boundary;
    p->top = encode(p, boundary, top_depth(p));
    pooling_forward(p->model->pooling, &p->batch, p->model->config.hidden_size, p->top, p->features,
                    p->where);
    return p->features;
}

static struct dropout head_dropout(const struct pass *p)
{
    return dropout_make(rate_at(p, top_depth(p), p->plan.head_dropout), p->plan.dropout_key,
                        top_depth(p), DROPOUT_HEAD);
}

static void drop_pooled(const struct pass *p, const real *x, real *y)
{
    struct dropout drop = head_dropout(p);
    int64_t H = p->model->config.hidden_size;
    for (int32_t s = 0; s < p->batch.B; s++)
        dropout_apply(&drop, p->batch.sample[s], 0, H, x + s * H, y + s * H);
}

static void forward_heads(struct pass *p)
{
    const struct model *m = p->model;
    int64_t H = m->config.hidden_size, B = p->batch.B;
    const struct weights *w = &p->weights;
    if (m->pooling == POOL_POOLER) {
        linear_forward(p->pooled, p->top_features, weights_at(w, m->pooler_w),
                       weights_at(w, m->pooler_b), B, H, H);
        for (int64_t i = 0; i < B * H; i++)
            p->pooled[i] = real_tanh(p->pooled[i]);
    }
    drop_pooled(p, pass_pooled(p), p->dropped);
    for (int32_t t = 0; t < m->task_count; t++)
        linear_forward(p->logits[t], p->dropped, weights_at(w, m->head_w[t]),
                       weights_at(w, m->head_b[t]), B, H, m->task[t].classes);
}

static bool task_counts(const struct pass *p, int32_t task)
{
    return p->plan.loss && p->plan.loss[task].active;
}

void pass_forward(struct pass *p, const real *params, const struct batch *batch,
                  const struct pass_plan *plan, const real *boundary)
{
    timing_mark(TIMING_OTHER);
    begin(p, params, batch, plan);
    p->top_features = features(p, boundary);
    timing_depth_begin();
    forward_heads(p);
    memset(p->sums, 0, sizeof p->sums);
    for (int32_t t = 0; t < p->model->task_count; t++)
        if (task_counts(p, t))
            head_loss(batch->B, p->model->task[t].classes, p->logits[t], batch_labels(batch, t),
                      &plan->loss[t], p->dlogits[t], &p->sums[t]);
    timing_mark(TIMING_HEADS);
    timing_depth_end(top_depth(p), false);
}

void pass_forward_boundary(struct pass *p, const real *params, const struct batch *batch,
                           const struct pass_plan *plan, const real *boundary, int32_t depth,
                           real *out)
{
    struct pass_plan evaluation = *plan;
    evaluation.train_from = top_depth(p) + 1;
    evaluation.trainable = NULL;
    evaluation.loss = NULL;
    begin(p, params, batch, &evaluation);
    bool pooled = depth == top_depth(p);
    const real *x = pooled ? features(p, boundary) : encode(p, boundary, depth);
    int64_t rows = pooled ? batch->B : batch->N;
    memcpy(out, x, (size_t)(rows * p->model->config.hidden_size) * sizeof *out);
}

/* The lowest depth in training that has something to train; L+2 = none. */
static int32_t lowest_trained(const struct pass *p)
{
    int32_t lowest = top_depth(p) + 1;
    for (int32_t i = 0; i < p->model->table.count; i++) {
        const struct tensor *t = &p->model->table.entry[i];
        if (weights_trains(&p->weights, i) && t->depth >= p->lowest_kept && t->depth < lowest)
            lowest = t->depth;
    }
    return lowest;
}

/* The mirror of forward_heads; gives the gradient of the features where `below` asks for it. */
static const real *backward_heads(struct pass *p, bool below)
{
    const struct model *m = p->model;
    const struct weights *w = &p->weights;
    int64_t H = m->config.hidden_size, B = p->batch.B;
    bool pooler = m->pooling == POOL_POOLER;
    bool flows =
        below || (pooler && (weights_trains(w, m->pooler_w) || weights_trains(w, m->pooler_b)));
    bool add = false;
    for (int32_t t = 0; t < m->task_count; t++) {
        if (!task_counts(p, t))
            continue;
        struct linear_gradients to = {.dx = flows ? p->dpooled : NULL,
                                      .add_dx = add,
                                      .dw = weights_gradient(w, m->head_w[t]),
                                      .db = weights_gradient(w, m->head_b[t])};
        linear_backward(&to, p->dlogits[t], p->dropped, weights_at(w, m->head_w[t]), B, H,
                        m->task[t].classes);
        add = true;
    }
    if (!flows)
        return NULL;
    drop_pooled(p, p->dpooled, p->dpooled);
    if (!pooler)
        return p->dpooled;
    for (int64_t i = 0; i < B * H; i++)
        p->dpooled[i] *= 1 - p->pooled[i] * p->pooled[i];
    struct linear_gradients to = {.dx = below ? p->dfeatures : NULL,
                                  .dw = weights_gradient(w, m->pooler_w),
                                  .db = weights_gradient(w, m->pooler_b)};
    linear_backward(&to, p->dpooled, p->top_features, weights_at(w, m->pooler_w), B, H, H);
    return p->dfeatures;
}

/* The input of a layer: kept, or the output of the depth below once more. */
static const real *input_of(struct pass *p, int32_t depth)
{
    if (depth == p->lowest_kept)
        return p->lowest_input;
    if (depth == 1) {
        struct layer_norm norm = embedding_norm(p);
        struct dropout drop = embedding_dropout(p);
        embedding_output(&norm, &drop, &p->batch, p->again);
    } else {
        struct layer_call below = layer_at(p, depth - 1);
        encoder_layer_output(&below, p->again);
    }
    return p->again;
}

static void backward_depth(struct pass *p, int32_t depth, int32_t lowest)
{
    if (depth == top_depth(p)) {
        const real *dfeatures = backward_heads(p, lowest < depth);
        if (lowest < depth)
            pooling_backward(p->model->pooling, &p->batch, p->model->config.hidden_size, dfeatures,
                             p->where, p->d);
        timing_mark(TIMING_HEADS);
    } else if (depth > 0) {
        struct layer_call c = layer_at(p, depth);
        const real *x = input_of(p, depth);
        if (p->recompute && depth + 1 < top_depth(p))
            encoder_layer_again(&c, x);
        encoder_layer_backward(&c, x, p->d, lowest < depth);
    } else {
        struct layer_norm norm = embedding_norm(p);
        struct dropout drop = embedding_dropout(p);
        embedding_backward(p->model, &p->weights, &norm, &drop, &p->batch, p->d, p->scratch.sink);
        timing_mark(TIMING_EMBEDDING);
    }
}

void pass_expect_fresh(struct pass *p)
{
    p->fresh = true;
}

/* What products would set, where none runs. */
static void clear_products(const struct pass *p)
{
    const struct model *m = p->model;
    for (int32_t i = 0; i < m->table.count; i++) {
        real *gradient = weights_gradient(&p->weights, i);
        if (gradient && model_sets_gradient(m, i))
            memset(gradient, 0, (size_t)m->table.entry[i].count * sizeof *gradient);
    }
}

void pass_backward(struct pass *p, const real *params, real *grads, pass_depth_done done,
                   void *context)
{
    timing_mark(TIMING_OTHER);
    p->weights.params = params;
    p->weights.grads = grads;
    p->weights.fresh = p->fresh;
    p->fresh = false;
    int32_t lowest = lowest_trained(p);
    bool active = false;
    for (int32_t t = 0; t < p->model->task_count; t++)
        active |= task_counts(p, t);
    if (!active && p->weights.fresh)
        clear_products(p);
    for (int32_t depth = top_depth(p); depth >= lowest; depth--) {
        timing_depth_begin();
        if (active)
            backward_depth(p, depth, lowest);
        timing_depth_end(depth, true);
        if (done)
            done(context, depth);
    }
}

const real *pass_hidden(const struct pass *p)
{
    return p->top;
}

const real *pass_pooled(const struct pass *p)
{
    return p->model->pooling == POOL_POOLER ? p->pooled : p->top_features;
}

const real *pass_logits(const struct pass *p, int32_t task)
{
    return p->logits[task];
}

void pass_sums(const struct pass *p, struct task_sums *out)
{
    memcpy(out, p->sums, (size_t)p->model->task_count * sizeof *out);
}
