/* A model in bf16: near the same model in fp32, with bits that depend on its batch alone; and
 * gradients that a pass sets, in both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/model/model.h"

enum { SENTENCES = 24, THREADS = 3, CLASSES = 3 };

struct work {
    struct model model;
    float *params;
    struct batch batch;
    uint8_t trainable[256];
    struct task_loss loss;
    struct pass_plan plan;
};

static void make_in(struct work *w, enum model_precision precision)
{
    static const struct model_task task = {"one", CLASSES};
    struct bert_config c;
    memset(w, 0, sizeof *w);
    bert_config_defaults(&c);
    c.vocab_size = 90;
    c.hidden_size = 64;
    c.num_hidden_layers = 3;
    c.num_attention_heads = 4;
    c.intermediate_size = 160;
    c.max_position_embeddings = 40;
    assert_int_equal(model_init(&w->model, &c, POOL_MEAN, false, &task, 1), MT_OK);
    if (model_set_precision(&w->model, precision) != MT_OK) {
        printf("skipped: %s\n", mt_error_peek()->message);
        mt_error_clear();
        model_release(&w->model);
        skip();
    }
    assert_int_equal(mt_alloc(&w->params, w->model.table.total, sizeof(float), "p"), MT_OK);
    for (int32_t i = 0; i < w->model.table.count; i++)
        model_init_tensor(&w->model, i, 42, w->params);
    for (int64_t i = 0; i < w->model.table.total; i++)
        w->params[i] *= 3; /* so that attention is not flat */
    assert_int_equal(batch_create(&w->batch, SENTENCES, SENTENCES * 40, 1), MT_OK);
    struct batch *b = &w->batch;
    for (int32_t s = 0; s < SENTENCES; s++) {
        for (int32_t t = 0; t < s + 3; t++, b->N++) {
            b->ids[b->N] = 1 + (s * 31 + t * 7) % 89;
            b->types[b->N] = t & 1;
        }
        b->sample[s] = s;
        batch_labels(b, 0)[s] = s % CLASSES;
        b->offsets[++b->B] = b->N;
    }
    memset(w->trainable, 1, sizeof w->trainable);
    w->loss = (struct task_loss){.active = true, .weight = 1};
    w->plan = (struct pass_plan){.trainable = w->trainable,
                                 .hidden_dropout = 0.1f,
                                 .attention_dropout = 0.1f,
                                 .dropout_key = 5,
                                 .loss = &w->loss};
}

static void make(struct work *w)
{
    make_in(w, MODEL_BF16);
}

static void release(struct work *w)
{
    batch_destroy(&w->batch);
    mt_free(&w->params);
    model_release(&w->model);
}

/* Gradients of the model in its present precision. */
static double gradients(const struct work *w, float *grads)
{
    struct pass *p;
    struct task_sums sums;
    assert_int_equal(pass_create(&p, &w->model, w->batch.N, SENTENCES, 0), MT_OK);
    memset(grads, 0, (size_t)w->model.table.total * sizeof *grads);
    pass_forward(p, w->params, &w->batch, &w->plan, NULL);
    pass_sums(p, &sums);
    pass_backward(p, w->params, grads, NULL, NULL);
    pass_destroy(&p);
    return sums.loss;
}

static float *block(const struct work *w)
{
    float *b;
    assert_int_equal(mt_alloc(&b, w->model.table.total, sizeof(float), "g"), MT_OK);
    return b;
}

static void gradients_are_near_those_of_fp32(void **state)
{
    (void)state;
    struct work w;
    make(&w);
    float *half = block(&w), *full = block(&w);
    double loss16 = gradients(&w, half);
    assert_int_equal(model_set_precision(&w.model, MODEL_FP32), MT_OK);
    double loss32 = gradients(&w, full);
    assert_true(fabs(loss16 - loss32) < 0.01 * loss32);
    assert_true(loss16 != loss32);
    for (int32_t i = 0; i < w.model.table.count; i++) {
        const struct tensor *t = &w.model.table.entry[i];
        double dot = 0, a = 0, b = 0;
        for (int64_t k = t->offset; k < t->offset + t->count; k++) {
            dot += (double)half[k] * (double)full[k];
            a += (double)half[k] * (double)half[k];
            b += (double)full[k] * (double)full[k];
        }
        if (strstr(t->name, "self.key.bias") || b == 0) /* truly zero, and so all noise */
            continue;
        double cosine = dot / sqrt(a * b), ratio = sqrt(a / b);
        if (!(cosine > 0.998 && ratio > 0.98 && ratio < 1.02))
            fail_msg("%s: cosine %.5f, length %.4f times", t->name, cosine, ratio);
    }
    mt_free(&half);
    mt_free(&full);
    release(&w);
}

struct job {
    const struct work *w;
    float *grads;
};

static void *compute(void *context)
{
    struct job *j = context;
    gradients(j->w, j->grads);
    return NULL;
}

static void any_thread_computes_the_same_bits(void **state)
{
    (void)state;
    struct work w;
    make(&w);
    float *first = block(&w);
    pthread_t thread[THREADS];
    struct job job[THREADS];
    gradients(&w, first);
    for (int i = 0; i < THREADS; i++) {
        job[i] = (struct job){&w, block(&w)};
        assert_int_equal(pthread_create(&thread[i], NULL, compute, &job[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_memory_equal(job[i].grads, first, (size_t)w.model.table.total * sizeof *first);
        mt_free(&job[i].grads);
    }
    mt_free(&first);
    release(&w);
}

static void fill_settable(const struct model *m, float *grads, float value)
{
    for (int32_t i = 0; i < m->table.count; i++) {
        const struct tensor *t = &m->table.entry[i];
        for (int64_t k = 0; model_sets_gradient(m, i) && k < t->count; k++)
            grads[t->offset + k] = value;
    }
}

static void check_setting_is_adding_to_zeros(enum model_precision precision)
{
    struct work w;
    struct pass *p;
    make_in(&w, precision);
    float *added = block(&w), *set = block(&w);
    gradients(&w, added);
    fill_settable(&w.model, set, 7);
    assert_int_equal(pass_create(&p, &w.model, w.batch.N, SENTENCES, 0), MT_OK);
    for (int turn = 0; turn < 2; turn++) { /* the second adds the same once more */
        pass_forward(p, w.params, &w.batch, &w.plan, NULL);
        if (turn == 0)
            pass_expect_fresh(p);
        pass_backward(p, w.params, set, NULL, NULL);
        for (int64_t k = 0; turn == 0 && k < w.model.table.total; k++)
            assert_true(set[k] == added[k]);
    }
    const struct tensor *t = &w.model.table.entry[w.model.layer[1].f1_w];
    for (int64_t k = t->offset; k < t->offset + t->count; k++)
        if (precision == MODEL_BF16) /* a product that is added whole */
            assert_true(set[k] == 2 * added[k]);
        else /* one chain of roundings goes on */
            assert_true(fabsf(set[k] - 2 * added[k]) <= 1e-5f * fabsf(added[k]) + 1e-7f);
    pass_destroy(&p);
    mt_free(&added);
    mt_free(&set);
    release(&w);
}

static void setting_gradients_is_adding_to_zeros_in_bf16(void **state)
{
    (void)state;
    check_setting_is_adding_to_zeros(MODEL_BF16);
}

static void setting_gradients_is_adding_to_zeros_in_fp32(void **state)
{
    (void)state;
    check_setting_is_adding_to_zeros(MODEL_FP32);
}

static void gradients_that_nothing_sets_are_cleared(void **state)
{
    (void)state;
    struct work w;
    struct pass *p;
    make_in(&w, MODEL_FP32);
    float *grads = block(&w);
    w.loss.active = false;
    fill_settable(&w.model, grads, 7);
    assert_int_equal(pass_create(&p, &w.model, w.batch.N, SENTENCES, 0), MT_OK);
    pass_forward(p, w.params, &w.batch, &w.plan, NULL);
    pass_expect_fresh(p);
    pass_backward(p, w.params, grads, NULL, NULL);
    for (int64_t k = 0; k < w.model.table.total; k++)
        assert_true(grads[k] == 0);
    pass_destroy(&p);
    mt_free(&grads);
    release(&w);
}

static void a_partly_frozen_model_has_the_gradients_of_the_whole_one(void **state)
{
    (void)state;
    struct work w;
    make(&w);
    float *whole = block(&w), *part = block(&w);
    gradients(&w, whole);
    for (int32_t i = 0; i < w.model.table.count; i++)
        w.trainable[i] = i % 3 == 0;
    gradients(&w, part);
    for (int32_t i = 0; i < w.model.table.count; i++) {
        const struct tensor *t = &w.model.table.entry[i];
        for (int64_t k = t->offset; k < t->offset + t->count; k++)
            if (part[k] != (w.trainable[i] ? whole[k] : 0))
                fail_msg("%s differs", t->name);
    }
    mt_free(&whole);
    mt_free(&part);
    release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_near_those_of_fp32),
        cmocka_unit_test(any_thread_computes_the_same_bits),
        cmocka_unit_test(setting_gradients_is_adding_to_zeros_in_bf16),
        cmocka_unit_test(setting_gradients_is_adding_to_zeros_in_fp32),
        cmocka_unit_test(gradients_that_nothing_sets_are_cleared),
        cmocka_unit_test(a_partly_frozen_model_has_the_gradients_of_the_whole_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
