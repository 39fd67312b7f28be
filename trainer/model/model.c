/* See model.h: the table of tensors and their first values. */
#include "trainer/model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/model/gemm.h"

/* Appends a tensor and notes its index. */
static mt_status add(struct model *m, int32_t *index, int32_t depth, int32_t task, int64_t rows,
                     int64_t cols, const char *format, ...) MT_PRINTF(7, 8);

static mt_status add(struct model *m, int32_t *index, int32_t depth, int32_t task, int64_t rows,
                     int64_t cols, const char *format, ...)
{
    char name[2 * TENSOR_NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    MT_TRY(tensor_table_add(&m->table, name, depth, task, rows, cols));
    *index = m->table.count - 1;
    return MT_OK;
}

static mt_status add_embeddings(struct model *m)
{
    const struct bert_config *c = &m->config;
    int64_t H = c->hidden_size;
    MT_TRY(add(m, &m->word, 0, -1, c->vocab_size, H, "embeddings.word_embeddings.weight"));
    MT_TRY(add(m, &m->position, 0, -1, c->max_position_embeddings, H,
               "embeddings.position_embeddings.weight"));
    MT_TRY(
        add(m, &m->type, 0, -1, c->type_vocab_size, H, "embeddings.token_type_embeddings.weight"));
    MT_TRY(add(m, &m->ln_w, 0, -1, H, 0, "embeddings.LayerNorm.weight"));
    MT_TRY(add(m, &m->ln_b, 0, -1, H, 0, "embeddings.LayerNorm.bias"));
    return MT_OK;
}

static mt_status add_layer(struct model *m, int32_t layer)
{
    struct layer_tensors *t = &m->layer[layer];
    int64_t H = m->config.hidden_size, F = m->config.intermediate_size;
    const struct {
        const char *name;
        int32_t *weight, *bias;
        int64_t rows, cols; /* cols 0: a layer norm */
    } part[] = {
        {"attention.self.query", &t->q_w, &t->q_b, H, H},
        {"attention.self.key", &t->k_w, &t->k_b, H, H},
        {"attention.self.value", &t->v_w, &t->v_b, H, H},
        {"attention.output.dense", &t->o_w, &t->o_b, H, H},
        {"attention.output.LayerNorm", &t->ln1_w, &t->ln1_b, H, 0},
        {"intermediate.dense", &t->f1_w, &t->f1_b, F, H},
        {"output.dense", &t->f2_w, &t->f2_b, H, F},
        {"output.LayerNorm", &t->ln2_w, &t->ln2_b, H, 0},
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        MT_TRY(add(m, part[i].weight, layer + 1, -1, part[i].rows, part[i].cols,
                   "encoder.layer.%d.%s.weight", layer, part[i].name));
        MT_TRY(add(m, part[i].bias, layer + 1, -1, part[i].rows, 0, "encoder.layer.%d.%s.bias",
                   layer, part[i].name));
    }
    return MT_OK;
}

static mt_status add_top(struct model *m, bool has_pooler)
{
    int32_t depth = m->config.num_hidden_layers + 1;
    int64_t H = m->config.hidden_size;
    m->pooler_w = m->pooler_b = -1;
    if (has_pooler || m->pooling == POOL_POOLER) {
        MT_TRY(add(m, &m->pooler_w, depth, -1, H, H, "pooler.dense.weight"));
        MT_TRY(add(m, &m->pooler_b, depth, -1, H, 0, "pooler.dense.bias"));
    }
    for (int32_t i = 0; i < m->task_count; i++) {
        const struct model_task *task = &m->task[i];
        MT_TRY(add(m, &m->head_w[i], depth, i, task->classes, H, "heads.%s.weight", task->name));
        MT_TRY(add(m, &m->head_b[i], depth, i, task->classes, 0, "heads.%s.bias", task->name));
    }
    return MT_OK;
}

static mt_status build(struct model *m, bool has_pooler)
{
    int32_t L = m->config.num_hidden_layers;
    MT_TRY(mt_alloc(&m->layer, L, sizeof *m->layer, "table of layers"));
    m->table.layers = L;
    MT_TRY(add_embeddings(m));
    for (int32_t i = 0; i < L; i++)
        MT_TRY(add_layer(m, i));
    MT_TRY(add_top(m, has_pooler));
    return MT_OK;
}

mt_status model_init(struct model *m, const struct bert_config *config, enum pooling pooling,
                     bool has_pooler, const struct model_task *tasks, int32_t task_count)
{
    if (task_count < 0 || task_count > MODEL_TASKS_MAX)
        return MT_FAIL(MT_BUG, "a model has at most %d tasks, not %d", MODEL_TASKS_MAX, task_count);
    gemm_init();
    memset(m, 0, sizeof *m);
    m->config = *config;
    m->pooling = pooling;
    m->task_count = task_count;
    if (task_count > 0)
        memcpy(m->task, tasks, (size_t)task_count * sizeof *tasks);
    mt_status st;
    MT_TRY_GOTO(st, build(m, has_pooler), done);
done:
    if (st != MT_OK)
        model_release(m);
    return st;
}

void model_release(struct model *m)
{
    tensor_table_release(&m->table);
    mt_free(&m->layer);
    memset(m, 0, sizeof *m);
}

mt_status model_set_precision(struct model *m, enum model_precision precision)
{
    const char *why;
    if (precision == MODEL_BF16 && !gemm_has_bf16(&why))
        return MT_FAIL(MT_CONFIG, "bf16 products are not possible here: %s; use fp32", why);
    m->precision = precision;
    return MT_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

void model_init_tensor(const struct model *m, int32_t tensor, uint64_t seed, real *params)
{
    const struct tensor *t = &m->table.entry[tensor];
    real *p = params + t->offset;
    bool norm = ends_with(t->name, "LayerNorm.weight");
    if (norm || ends_with(t->name, ".bias")) {
        for (int64_t i = 0; i < t->count; i++)
            p[i] = norm ? 1 : 0;
        return;
    }
    uint64_t key = rng_key(seed, RNG_INIT, 0);
    uint64_t stream = hash64_of(t->name, (int64_t)strlen(t->name));
    for (int64_t i = 0; i < t->count; i++)
        p[i] = (real)(m->config.initializer_range * rng_normal(key, stream, (uint64_t)i));
    if (tensor == m->word && m->config.pad_token_id >= 0 && m->config.pad_token_id < t->shape[0]) {
        real *row = p + m->config.pad_token_id * t->shape[1];
        memset(row, 0, (size_t)t->shape[1] * sizeof *row);
    }
}

bool model_sets_gradient(const struct model *m, int32_t tensor)
{
    int32_t depth = m->table.entry[tensor].depth;
    if (depth < 1 || depth > m->config.num_hidden_layers)
        return false;
    const struct layer_tensors *t = &m->layer[depth - 1];
    return tensor == t->q_w || tensor == t->k_w || tensor == t->v_w || tensor == t->o_w ||
           tensor == t->f1_w || tensor == t->f2_w;
}

bool model_uses_tensor(const struct model *m, int32_t tensor)
{
    bool pooler = m->pooler_w >= 0 && (tensor == m->pooler_w || tensor == m->pooler_b);
    return !pooler || m->pooling == POOL_POOLER;
}
