/* Hidden states, pooler outputs and logits of ../shared/data/tiny-bert within 1e-5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/safetensors.h"
#include "tests/support/shared_data.h"
#include "trainer/model/model.h"

enum { H = 8, LENGTH_MAX = 16, ROWS_MAX = 3 };
static const double tolerance = 1e-5;

struct fixture {
    struct model model;
    float *params;
    struct batch batch;
    struct pass *pass;
};

/* Copies a tensor whatever its name looks like in the file. */
static void load_tensor(const struct fixture *f, struct safetensors *file, int32_t tensor)
{
    const struct tensor *t = &f->model.table.entry[tensor];
    char name[TENSOR_NAME_BYTES + 16];
    const struct safetensors_entry *e = safetensors_find(file, t->name);
    if (!e) {
        snprintf(name, sizeof name, "bert.%s", t->name);
        e = safetensors_find(file, name);
    }
    if (!e && t->task >= 0) {
        snprintf(name, sizeof name, "classifier.%s", t->ndim == 2 ? "weight" : "bias");
        e = safetensors_find(file, name);
    }
    assert_non_null(e);
    assert_int_equal(e->count, t->count);
    assert_int_equal(safetensors_copy_f32(file, e, f->params + t->offset), MT_OK);
}

static void make(struct fixture *f, const char *path, int32_t classes)
{
    const struct model_task task = {"label", classes};
    struct bert_config c;
    struct safetensors *file;
    memset(f, 0, sizeof *f);
    memset(&c, 0, sizeof c);
    c.vocab_size = 11;
    c.hidden_size = H;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 16;
    c.max_position_embeddings = LENGTH_MAX;
    c.type_vocab_size = 2;
    c.layer_norm_eps = 1e-12;
    assert_int_equal(model_init(&f->model, &c, POOL_POOLER, true, &task, classes > 0), MT_OK);
    assert_int_equal(mt_alloc(&f->params, f->model.table.total, sizeof(float), "parameters"),
                     MT_OK);
    assert_int_equal(safetensors_open(&file, path), MT_OK);
    for (int32_t i = 0; i < f->model.table.count; i++)
        load_tensor(f, file, i);
    safetensors_close(&file);
    assert_int_equal(batch_create(&f->batch, ROWS_MAX, ROWS_MAX * LENGTH_MAX, 1), MT_OK);
    assert_int_equal(pass_create(&f->pass, &f->model, ROWS_MAX * LENGTH_MAX, ROWS_MAX, 4), MT_OK);
}

static void unmake(struct fixture *f)
{
    pass_destroy(&f->pass);
    batch_destroy(&f->batch);
    mt_free(&f->params);
    model_release(&f->model);
}

static void add_sentence(struct batch *b, const json_t *ids, const json_t *types, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        b->ids[b->N] = (int32_t)json_integer_value(json_array_get(ids, i));
        b->types[b->N++] = types ? (int32_t)json_integer_value(json_array_get(types, i)) : 0;
    }
    b->offsets[++b->B] = b->N;
}

static void add_sentences(struct batch *b, const json_t *root)
{
    const json_t *ids = json_object_get(root, "sequences");
    for (size_t s = 0; s < json_array_size(ids); s++) {
        const json_t *row = json_array_get(ids, s);
        add_sentence(b, row, json_array_get(json_object_get(root, "token_types"), s),
                     json_array_size(row));
    }
}

static void forward(struct fixture *f)
{
    struct pass_plan plan = {.train_from = 4};
    pass_forward(f->pass, f->params, &f->batch, &plan, NULL);
}

static void expect_row(const char *what, const json_t *row, const float *got)
{
    assert_true(json_array_size(row) > 0);
    for (size_t j = 0; j < json_array_size(row); j++) {
        double e = json_number_value(json_array_get(row, j));
        if (!(fabs((double)got[j] - e) <= tolerance))
            fail_msg("%s[%zu] = %.9g, not %.9g", what, j, (double)got[j], e);
    }
}

static json_t *read_json(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static void hidden_states_and_pooler_agree(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(weights, "data/tiny-bert/tiny_bert.safetensors");
    SHARED_DATA_OR_SKIP(expected, "data/tiny-bert/tiny_bert_hidden.json");
    struct fixture f;
    make(&f, weights, 0);
    json_t *root = read_json(expected);
    add_sentences(&f.batch, root);
    forward(&f);
    for (int32_t s = 0; s < f.batch.B; s++) {
        const json_t *rows = json_array_get(json_object_get(root, "hidden"), (size_t)s);
        for (size_t t = 0; t < json_array_size(rows); t++)
            expect_row("hidden", json_array_get(rows, t),
                       pass_hidden(f.pass) + (f.batch.offsets[s] + (int32_t)t) * H);
        expect_row("pooler", json_array_get(json_object_get(root, "pooler"), (size_t)s),
                   pass_pooled(f.pass) + s * H);
    }
    json_decref(root);
    unmake(&f);
}

static void classifier_logits_agree(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(weights, "data/tiny-bert/tiny_bert_seqcls.safetensors");
    SHARED_DATA_OR_SKIP(expected, "data/tiny-bert/tiny_bert_seqcls_logits.json");
    struct fixture f;
    make(&f, weights, 3);
    json_t *root = read_json(expected);
    add_sentences(&f.batch, root);
    forward(&f);
    for (int32_t s = 0; s < f.batch.B; s++)
        expect_row("logits", json_array_get(json_object_get(root, "logits"), (size_t)s),
                   pass_logits(f.pass, 0) + s * 3);
    json_decref(root);
    unmake(&f);
}

static void reranker_logits_agree(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(weights, "data/tiny-bert/tiny_bert_reranker.safetensors");
    SHARED_DATA_OR_SKIP(expected, "data/tiny-bert/tiny_bert_reranker_logits.json");
    struct fixture f;
    make(&f, weights, 1);
    json_t *root = read_json(expected);
    const json_t *ids = json_object_get(root, "input_ids");
    size_t length = json_array_size(ids); /* the expected logits attend to the trailing zeros too */
    add_sentence(&f.batch, ids, json_object_get(root, "token_type_ids"), length);
    add_sentence(&f.batch, ids, NULL, length);
    forward(&f);
    const float *got = pass_logits(f.pass, 0);
    double logit = json_number_value(json_object_get(root, "logit"));
    double logit_all_seg0 = json_number_value(json_object_get(root, "logit_all_seg0"));
    assert_true(fabs((double)got[0] - logit) <= tolerance);
    assert_true(fabs((double)got[1] - logit_all_seg0) <= tolerance);
    json_decref(root);
    unmake(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_and_pooler_agree),
        cmocka_unit_test(classifier_logits_agree),
        cmocka_unit_test(reranker_logits_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
