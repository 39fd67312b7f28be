/* The model's table, first values, and what its passes promise about bits, memory and sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/model/model.h"

static struct bert_config config(int32_t H, int32_t A, int32_t V)
{
    struct bert_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = V;
    c.hidden_size = H;
    c.num_hidden_layers = 2;
    c.num_attention_heads = A;
    c.intermediate_size = 3 * H + 1;
    c.max_position_embeddings = 40;
    c.type_vocab_size = 2;
    c.hidden_act = ACT_GELU;
    c.initializer_range = 0.02;
    c.layer_norm_eps = 1e-12;
    return c;
}

static const struct model_task tasks[3] = {{"one", 3}, {"two", 2}, {"three", 4}};

struct work {
    struct model model;
    float *params;
    struct batch batch;
    uint8_t trainable[256];
    struct task_loss loss[3];
    struct pass_plan plan;
};

/* Sentences of 1, 2, 3 ... tokens, then one as long as positions allow. */
static void make(struct work *w, struct bert_config c, int32_t sentences, int32_t task_count)
{
    memset(w, 0, sizeof *w);
    assert_int_equal(model_init(&w->model, &c, POOL_MEAN, false, tasks, task_count), MT_OK);
    assert_int_equal(mt_alloc(&w->params, w->model.table.total, sizeof(float), "parameters"),
                     MT_OK);
    for (int32_t i = 0; i < w->model.table.count; i++)
        model_init_tensor(&w->model, i, 42, w->params);
    int32_t capacity = sentences * c.max_position_embeddings;
    assert_int_equal(batch_create(&w->batch, sentences, capacity, task_count), MT_OK);
    struct batch *b = &w->batch;
    for (int32_t s = 0; s < sentences; s++) {
        int32_t T = s + 1 < sentences ? s % 13 + 1 : c.max_position_embeddings;
        for (int32_t t = 0; t < T; t++) {
            b->ids[b->N] = (int32_t)((int64_t)(b->N + 1) * 7919 % c.vocab_size);
            b->types[b->N++] = t > T / 2;
        }
        b->offsets[++b->B] = b->N;
        b->sample[s] = 100 + s;
        for (int32_t t = 0; t < task_count; t++)
            batch_labels(b, t)[s] = (s + t) % 5 == 0 ? -1 : s % tasks[t].classes;
    }
    memset(w->trainable, 1, sizeof w->trainable);
    for (int t = 0; t < 3; t++)
        w->loss[t] = (struct task_loss){true, 1, 0, NULL};
    w->plan = (struct pass_plan){.trainable = w->trainable,
                                 .hidden_dropout = 0.1f,
                                 .attention_dropout = 0.1f,
                                 .head_dropout = 0.1f,
                                 .dropout_key = rng_key(1, RNG_DROPOUT, 2),
                                 .loss = w->loss};
}

static void unmake(struct work *w)
{
    batch_destroy(&w->batch);
    mt_free(&w->params);
    model_release(&w->model);
}

static void expect_tensor(const struct model *m, const char *name, int32_t depth, int64_t rows,
                          int64_t cols, bool decays)
{
    int32_t i = tensor_table_find(&m->table, name);
    if (i < 0)
        fail_msg("no tensor %s", name);
    assert_int_equal(m->table.entry[i].depth, depth);
    assert_int_equal(m->table.entry[i].shape[0], rows);
    assert_int_equal(m->table.entry[i].shape[1], cols);
    assert_int_equal(m->table.entry[i].decays, decays);
}

static void tensors_have_the_names_and_shapes_of_hugging_face(void **state)
{
    (void)state;
    struct bert_config c = config(8, 2, 11);
    struct model m;
    assert_int_equal(model_init(&m, &c, POOL_MEAN, true, tasks, 2), MT_OK);
    assert_int_equal(m.table.count, 5 + 2 * 16 + 2 + 2 * 2);
    expect_tensor(&m, "embeddings.word_embeddings.weight", 0, 11, 8, true);
    expect_tensor(&m, "embeddings.position_embeddings.weight", 0, 40, 8, true);
    expect_tensor(&m, "embeddings.token_type_embeddings.weight", 0, 2, 8, true);
    expect_tensor(&m, "embeddings.LayerNorm.weight", 0, 8, 1, false);
    expect_tensor(&m, "encoder.layer.1.attention.self.query.weight", 2, 8, 8, true);
    expect_tensor(&m, "encoder.layer.1.attention.self.value.bias", 2, 8, 1, false);
    expect_tensor(&m, "encoder.layer.0.attention.output.dense.weight", 1, 8, 8, true);
    expect_tensor(&m, "encoder.layer.0.attention.output.LayerNorm.bias", 1, 8, 1, false);
    expect_tensor(&m, "encoder.layer.0.intermediate.dense.weight", 1, 25, 8, true);
    expect_tensor(&m, "encoder.layer.0.output.dense.weight", 1, 8, 25, true);
    expect_tensor(&m, "encoder.layer.0.output.LayerNorm.weight", 1, 8, 1, false);
    expect_tensor(&m, "pooler.dense.weight", 3, 8, 8, true);
    expect_tensor(&m, "heads.two.weight", 3, 2, 8, true);
    expect_tensor(&m, "heads.two.bias", 3, 2, 1, false);
    assert_false(model_uses_tensor(&m, m.pooler_w));
    assert_true(model_uses_tensor(&m, m.head_b[1]));
    model_release(&m);
    assert_int_equal(model_init(&m, &c, POOL_POOLER, false, tasks, 1), MT_OK);
    assert_true(model_uses_tensor(&m, m.pooler_w));
    model_release(&m);
}

static void another_head_leaves_first_values_alone(void **state)
{
    (void)state;
    struct work a, b;
    make(&a, config(8, 2, 11), 2, 1);
    make(&b, config(8, 2, 11), 2, 3);
    for (int32_t i = 0; i < a.model.table.count; i++) {
        const struct tensor *t = &a.model.table.entry[i];
        const struct tensor *u = &b.model.table.entry[tensor_table_find(&b.model.table, t->name)];
        assert_memory_equal(a.params + t->offset, b.params + u->offset,
                            (size_t)t->count * sizeof(float));
    }
    unmake(&a);
    unmake(&b);
}

static void first_values_are_those_of_bert(void **state)
{
    (void)state;
    struct work w;
    make(&w, config(32, 4, 500), 2, 1);
    const struct tensor *word = &w.model.table.entry[w.model.word];
    const float *p = w.params + word->offset;
    double sum = 0, square = 0;
    for (int64_t i = 0; i < word->count; i++) {
        if (i < 32)
            assert_true(p[i] == 0); /* the padding row */
        sum += (double)p[i];
        square += (double)p[i] * (double)p[i];
    }
    double n = (double)(word->count - 32);
    assert_true(fabs(sum / n) < 5 * 0.02 / sqrt(n));
    assert_true(fabs(sqrt(square / n) / 0.02 - 1) < 0.03);
    assert_true(w.params[w.model.table.entry[w.model.ln_w].offset] == 1);
    assert_true(w.params[w.model.table.entry[w.model.layer[1].f1_b].offset] == 0);
    unmake(&w);
}

struct thread {
    pthread_t id;
    const struct work *work;
    float *grads;
    struct task_sums sums[3];
};

static void *run(void *context)
{
    struct thread *t = context;
    const struct work *w = t->work;
    struct pass *p;
    if (pass_create(&p, &w->model, w->batch.N, w->batch.B, 0) != MT_OK)
        return NULL;
    for (int repeat = 0; repeat < 3; repeat++) {
        memset(t->grads, 0, (size_t)w->model.table.total * sizeof *t->grads);
        pass_forward(p, w->params, &w->batch, &w->plan, NULL);
        pass_sums(p, t->sums);
        pass_backward(p, w->params, t->grads, NULL, NULL);
    }
    pass_destroy(&p);
    return t;
}

static void gradient_bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct work w;
    make(&w, config(48, 4, 101), 24, 2);
    struct thread alone = {.work = &w}, several[THREADS];
    size_t bytes = (size_t)w.model.table.total * sizeof(float);
    alone.grads = malloc(bytes);
    assert_non_null(run(&alone));
    for (int i = 0; i < THREADS; i++) {
        several[i] = (struct thread){.work = &w, .grads = malloc(bytes)};
        assert_int_equal(pthread_create(&several[i].id, NULL, run, &several[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *done;
        pthread_join(several[i].id, &done);
        assert_non_null(done);
        assert_memory_equal(several[i].grads, alone.grads, bytes);
        assert_true(several[i].sums[1].loss == alone.sums[1].loss);
        free(several[i].grads);
    }
    free(alone.grads);
    unmake(&w);
}

static void passes_allocate_nothing(void **state)
{
    (void)state;
    struct work w;
    struct mt_memory_stats before, after;
    make(&w, config(16, 2, 31), 6, 2);
    struct thread t = {.work = &w, .grads = calloc((size_t)w.model.table.total, sizeof(float))};
    struct pass *p;
    assert_int_equal(pass_create(&p, &w.model, w.batch.N, w.batch.B, 0), MT_OK);
    mt_memory_stats(&before);
    pass_forward(p, w.params, &w.batch, &w.plan, NULL);
    pass_backward(p, w.params, t.grads, NULL, NULL);
    mt_memory_stats(&after);
    assert_true(after.allocations == before.allocations);
    pass_destroy(&p);
    assert_null(p);
    pass_destroy(&p);
    free(t.grads);
    unmake(&w);
}

static void a_frozen_prefix_needs_less_memory(void **state)
{
    (void)state;
    struct work w;
    make(&w, config(16, 2, 31), 6, 2);
    int64_t bytes[5];
    for (int32_t from = 0; from <= 4; from++) {
        struct pass *p;
        assert_int_equal(pass_create(&p, &w.model, 200, 6, from), MT_OK);
        bytes[from] = pass_bytes(p);
        pass_destroy(&p);
    }
    assert_true(bytes[0] > bytes[1] && bytes[1] > bytes[2] && bytes[2] > bytes[3]);
    assert_true(bytes[3] == bytes[4]);
    unmake(&w);
}

/* Whole training passes at odd sizes; values are held by the derivative and parity tests. */
/* Gradients of a pass, and its sums, for plans that train from `from` on. */
static void backward_of(struct pass **p, struct work *w, float *grads, struct task_sums sums[3])
{
    memset(grads, 0, (size_t)w->model.table.total * sizeof *grads);
    pass_forward(*p, w->params, &w->batch, &w->plan, NULL);
    pass_sums(*p, sums);
    pass_backward(*p, w->params, grads, NULL, NULL);
    pass_destroy(p);
}

static void check_recomputing(enum model_precision precision)
{
    struct bert_config c = config(16, 2, 50);
    c.num_hidden_layers = 4;
    for (int32_t from = 0; from <= 4; from++) {
        struct work w;
        struct pass *kept, *again;
        struct task_sums kept_sums[3], again_sums[3];
        float *a = NULL, *b = NULL;
        int64_t measured, plain;
        make(&w, c, 6, 3);
        if (model_set_precision(&w.model, precision) != MT_OK) {
            unmake(&w);
            skip(); /* no processor or library for it */
        }
        w.plan.train_from = from;
        for (int32_t i = 0; i < w.model.table.count; i++)
            w.trainable[i] = w.model.table.entry[i].depth >= from;
        int64_t total = w.model.table.total;
        assert_int_equal(mt_alloc(&a, total, sizeof *a, "gradients"), MT_OK);
        assert_int_equal(mt_alloc(&b, total, sizeof *b, "gradients"), MT_OK);
        assert_int_equal(pass_create(&kept, &w.model, w.batch.N, w.batch.B, from), MT_OK);
        assert_int_equal(pass_create_recomputing(&again, &w.model, w.batch.N, w.batch.B, from),
                         MT_OK);
        assert_int_equal(pass_measure(&measured, &w.model, w.batch.N, w.batch.B, from, true),
                         MT_OK);
        assert_int_equal(measured, pass_bytes(again));
        plain = pass_bytes(kept);
        backward_of(&kept, &w, a, kept_sums);
        backward_of(&again, &w, b, again_sums);
        assert_memory_equal(a, b, (size_t)total * sizeof *a);
        assert_memory_equal(kept_sums, again_sums, sizeof kept_sums);
        double size = 0.0;
        for (int64_t i = 0; i < total; i++)
            size += fabs((double)a[i]);
        assert_true(size > 0.0);
        assert_true(from == 4 ? measured == plain : measured < plain);
        mt_free(&a);
        mt_free(&b);
        unmake(&w);
    }
}

static void recomputing_gives_the_same_bits_in_less_memory(void **state)
{
    (void)state;
    check_recomputing(MODEL_FP32);
}

static void recomputing_gives_the_same_bits_in_bf16(void **state)
{
    (void)state;
    check_recomputing(MODEL_BF16);
}

static void check_size(struct bert_config c, int32_t sentences)
{
    struct work w;
    make(&w, c, sentences, 3);
    struct thread t = {.work = &w, .grads = calloc((size_t)w.model.table.total, sizeof(float))};
    assert_non_null(run(&t));
    assert_true(isfinite(t.sums[0].loss));
    int64_t nonzero = 0;
    for (int64_t i = 0; i < w.model.table.total; i++) {
        assert_true(isfinite(t.grads[i]));
        nonzero += t.grads[i] != 0;
    }
    assert_true(nonzero > 0);
    free(t.grads);
    unmake(&w);
}

static void odd_sizes_work(void **state)
{
    (void)state;
    check_size(config(8, 2, 11), 3);
    check_size(config(15, 3, 7), 5);
    check_size(config(1, 1, 2), 2);
    check_size(config(36, 4, 70001), 17);
    struct bert_config c = config(8, 2, 11);
    c.max_position_embeddings = 1;
    check_size(c, 1);
}

static void a_slice_is_a_batch(void **state)
{
    (void)state;
    struct work w;
    make(&w, config(16, 2, 31), 7, 2);
    struct batch slice = batch_slice(&w.batch, 3, 2), copy;
    assert_int_equal(batch_create(&copy, 2, slice.N, 2), MT_OK);
    copy.B = 2;
    copy.N = slice.N;
    for (int32_t s = 0; s < 2; s++) {
        copy.offsets[s + 1] = slice.offsets[s + 1] - slice.offsets[0];
        copy.sample[s] = slice.sample[s];
        for (int32_t t = 0; t < 2; t++)
            batch_labels(&copy, t)[s] = batch_labels(&slice, t)[s];
    }
    memcpy(copy.ids, slice.ids, (size_t)slice.N * sizeof *copy.ids);
    memcpy(copy.types, slice.types, (size_t)slice.N * sizeof *copy.types);
    struct task_sums of_slice[2], of_copy[2];
    struct pass *p;
    assert_int_equal(pass_create(&p, &w.model, 200, 7, 0), MT_OK);
    pass_forward(p, w.params, &slice, &w.plan, NULL);
    pass_sums(p, of_slice);
    pass_forward(p, w.params, &copy, &w.plan, NULL);
    pass_sums(p, of_copy);
    assert_true(of_slice[0].loss == of_copy[0].loss && of_slice[1].loss == of_copy[1].loss);
    assert_int_equal(of_slice[1].labelled, of_copy[1].labelled);
    pass_destroy(&p);
    batch_destroy(&copy);
    unmake(&w);
}

static void running_out_of_memory_is_an_error(void **state)
{
    (void)state;
    struct bert_config c = config(8, 2, 11);
    struct model m;
    struct pass *p = NULL;
    mt_status st = MT_NOMEM;
    int n = 0;
    while (st != MT_OK && ++n < 50) {
        mt_memory_fail_after(n);
        st = model_init(&m, &c, POOL_MEAN, true, tasks, 2);
        if (st != MT_OK)
            continue;
        st = pass_create(&p, &m, 20, 4, 0);
        if (st != MT_OK)
            model_release(&m);
    }
    mt_memory_fail_after(0);
    assert_true(n > 3 && n < 50);
    pass_destroy(&p);
    model_release(&m);
}

static int nothing_is_left(void **state)
{
    (void)state;
    struct mt_memory_stats stats;
    mt_memory_stats(&stats);
    return stats.live_blocks == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_have_the_names_and_shapes_of_hugging_face),
        cmocka_unit_test(another_head_leaves_first_values_alone),
        cmocka_unit_test(first_values_are_those_of_bert),
        cmocka_unit_test(gradient_bits_do_not_depend_on_threads),
        cmocka_unit_test(passes_allocate_nothing),
        cmocka_unit_test(a_frozen_prefix_needs_less_memory),
        cmocka_unit_test(recomputing_gives_the_same_bits_in_less_memory),
        cmocka_unit_test(recomputing_gives_the_same_bits_in_bf16),
        cmocka_unit_test(odd_sizes_work),
        cmocka_unit_test(a_slice_is_a_batch),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
