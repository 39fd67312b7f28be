/* golden_model: the tiny BERT of tests/golden/make_golden.py as a model, a batch and a plan, and
 * comparison with what PyTorch computed.  For float and double alike. */
#ifndef MT_TEST_GOLDEN_MODEL_H
#define MT_TEST_GOLDEN_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "trainer/model/model.h"

enum { GOLDEN_TASKS = 2, GOLDEN_MASK = 128 };

struct golden {
    struct safetensors *file;
    struct model model;
    struct batch batch;
    struct task_loss loss[GOLDEN_TASKS];
    struct pass_plan plan;
    real class_weight[5];
    real *params, *grads;
    uint8_t trainable[GOLDEN_MASK]; /* all but an unused pooler */
};

static inline const void *golden_bytes(const struct golden *g, const char *name, int64_t count)
{
    const struct safetensors_entry *e = safetensors_find(g->file, name);
    if (!e || e->count != count)
        fail_msg("%s: not there, or not of %lld elements", name, (long long)count);
    return safetensors_bytes(g->file, e);
}

/* An expected value: element i of a float64 tensor. */
static inline double golden_value(const void *bytes, int64_t i)
{
    double x;
    memcpy(&x, (const char *)bytes + i * (int64_t)sizeof x, sizeof x);
    return x;
}

/* Largest distance, divided by the tensor's largest element where `relative`. */
static inline double golden_distance(const struct golden *g, const char *name, const real *got,
                                     int64_t count, bool relative)
{
    const void *expected = golden_bytes(g, name, count);
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        double e = golden_value(expected, i), distance = fabs((double)got[i] - e);
        worst = distance <= worst ? worst : distance;
        largest = fmax(largest, fabs(e));
    }
    return relative ? worst / fmax(largest, 1e-30) : worst;
}

static inline void golden_expect(const struct golden *g, const char *name, const real *got,
                                 int64_t count, double tolerance)
{
    double distance = golden_distance(g, name, got, count, true);
    if (getenv("GOLDEN_VERBOSE"))
        printf("%s: %.2g\n", name, distance);
    if (!(distance <= tolerance))
        fail_msg("%s is %.3g away, more than %.3g", name, distance, tolerance);
}

static inline void golden_batch(struct golden *g)
{
    static const char *const labels[GOLDEN_TASKS] = {"labels.alpha", "labels.beta"};
    const struct safetensors_entry *ids = safetensors_find(g->file, "ids");
    const struct safetensors_entry *offsets = safetensors_find(g->file, "offsets");
    int32_t N = (int32_t)ids->count, B = (int32_t)offsets->count - 1;
    assert_int_equal(batch_create(&g->batch, B, N, GOLDEN_TASKS), MT_OK);
    g->batch.N = N;
    g->batch.B = B;
    memcpy(g->batch.ids, golden_bytes(g, "ids", N), (size_t)N * sizeof(int32_t));
    memcpy(g->batch.types, golden_bytes(g, "types", N), (size_t)N * sizeof(int32_t));
    memcpy(g->batch.offsets, golden_bytes(g, "offsets", B + 1), (size_t)(B + 1) * sizeof(int32_t));
    for (int32_t t = 0; t < GOLDEN_TASKS; t++)
        memcpy(batch_labels(&g->batch, t), golden_bytes(g, labels[t], B),
               (size_t)B * sizeof(int32_t));
}

static inline void golden_params(struct golden *g)
{
    g->params = calloc((size_t)g->model.table.total, sizeof(real));
    g->grads = calloc((size_t)g->model.table.total, sizeof(real));
    for (int32_t i = 0; i < g->model.table.count; i++) {
        const struct tensor *t = &g->model.table.entry[i];
        char name[TENSOR_NAME_BYTES + 8];
        snprintf(name, sizeof name, "param.%s", t->name);
        const char *bytes = golden_bytes(g, name, t->count);
        for (int64_t j = 0; j < t->count; j++) {
            float x;
            memcpy(&x, bytes + j * (int64_t)sizeof x, sizeof x);
            g->params[t->offset + j] = (real)x;
        }
        g->trainable[i] = model_uses_tensor(&g->model, i);
    }
}

static inline void golden_init(struct golden *g, enum pooling pooling)
{
    static const struct model_task tasks[GOLDEN_TASKS] = {{"alpha", 3}, {"beta", 5}};
    struct bert_config c;
    memset(g, 0, sizeof *g);
    memset(&c, 0, sizeof c);
    assert_int_equal(
        safetensors_open(&g->file, MT_TEST_SOURCE_DIR "/tests/golden/tiny_bert.safetensors"),
        MT_OK);
    c.vocab_size = 97;
    c.hidden_size = 32;
    c.num_hidden_layers = 3;
    c.num_attention_heads = 4;
    c.intermediate_size = 64;
    c.max_position_embeddings = 16;
    c.type_vocab_size = 2;
    c.hidden_act = ACT_GELU;
    c.layer_norm_eps = 1e-12;
    assert_int_equal(model_init(&g->model, &c, pooling, true, tasks, GOLDEN_TASKS), MT_OK);
    golden_batch(g);
    golden_params(g);
    const void *weights = golden_bytes(g, "class_weight.beta", 5);
    for (int i = 0; i < 5; i++)
        g->class_weight[i] = (real)golden_value(weights, i);
    g->loss[0] = (struct task_loss){true, 1, (real)0.1, NULL};
    g->loss[1] = (struct task_loss){true, 1, 0, g->class_weight};
    g->plan = (struct pass_plan){.trainable = g->trainable, .loss = g->loss};
}

static inline void golden_release(struct golden *g)
{
    free(g->params);
    free(g->grads);
    batch_destroy(&g->batch);
    model_release(&g->model);
    safetensors_close(&g->file);
}

/* Every hidden state, the pooled vectors of every mode, logits and losses. */
static inline void golden_check_forward(double tolerance)
{
    for (int mode = 0; mode < POOL_COUNT; mode++) {
        struct golden g;
        struct pass *p;
        char name[64];
        golden_init(&g, (enum pooling)mode);
        int64_t N = g.batch.N, B = g.batch.B, H = g.model.config.hidden_size;
        int32_t L = g.model.config.num_hidden_layers;
        assert_int_equal(pass_create(&p, &g.model, g.batch.N, g.batch.B, 0), MT_OK);
        real *hidden = calloc((size_t)(N * H), sizeof *hidden);
        for (int32_t depth = 1; depth <= L; depth++) {
            pass_forward_boundary(p, g.params, &g.batch, &g.plan, NULL, depth, hidden);
            snprintf(name, sizeof name, "hidden.%d", depth - 1);
            golden_expect(&g, name, hidden, N * H, tolerance);
        }
        pass_forward(p, g.params, &g.batch, &g.plan, NULL);
        snprintf(name, sizeof name, "hidden.%d", L);
        golden_expect(&g, name, pass_hidden(p), N * H, tolerance);
        snprintf(name, sizeof name, "pooled.%s", pooling_name((enum pooling)mode));
        golden_expect(&g, name, pass_pooled(p), B * H, tolerance);
        if (mode == POOL_MEAN) {
            struct task_sums sums[GOLDEN_TASKS];
            pass_sums(p, sums);
            golden_expect(&g, "logits.alpha", pass_logits(p, 0), B * 3, tolerance);
            golden_expect(&g, "logits.beta", pass_logits(p, 1), B * 5, tolerance);
            real alpha[2] = {(real)sums[0].loss, (real)sums[0].weight};
            real beta[2] = {(real)sums[1].loss, (real)sums[1].weight};
            golden_expect(&g, "loss.alpha", alpha, 2, tolerance);
            golden_expect(&g, "loss.beta", beta, 2, tolerance);
        }
        free(hidden);
        pass_destroy(&p);
        golden_release(&g);
    }
}

/* Every gradient by name.  Those of key biases are zero in exact arithmetic (a constant added to a
 * row of scores changes no probability): held to be small beside the query biases'. */
static inline void golden_check_gradients(double tolerance)
{
    struct golden g;
    struct pass *p;
    golden_init(&g, POOL_MEAN);
    assert_int_equal(pass_create(&p, &g.model, g.batch.N, g.batch.B, 0), MT_OK);
    pass_forward(p, g.params, &g.batch, &g.plan, NULL);
    pass_backward(p, g.params, g.grads, NULL, NULL);
    for (int32_t i = 0; i < g.model.table.count; i++) {
        const struct tensor *t = &g.model.table.entry[i];
        const real *got = g.grads + t->offset;
        char name[TENSOR_NAME_BYTES + 8];
        snprintf(name, sizeof name, "grad.%s", t->name);
        if (strstr(name, "self.key.bias")) {
            for (int64_t j = 0; j < t->count; j++)
                assert_true(fabs((double)got[j]) <= tolerance);
        } else if (g.trainable[i]) {
            golden_expect(&g, name, got, t->count, tolerance);
        }
    }
    pass_destroy(&p);
    golden_release(&g);
}

#endif
