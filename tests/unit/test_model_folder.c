#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/inspect_model.h"
#include "io/model_folder.h"
#include "io/safetensors.h"
#include "tests/support/shared_data.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

/* The table of a BERT with L layers, H = 8, A = 2, F = 16, V = 11, P = 16, with or without pooler,
 * and one head of `classes`. */
static void bert_table(struct tensor_table *t, int layers, bool pooler, const char *task,
                       int64_t classes)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } in_layer[] = {
        {"attention.self.query.weight", 8, 8},
        {"attention.self.query.bias", 8, 0},
        {"attention.self.key.weight", 8, 8},
        {"attention.self.key.bias", 8, 0},
        {"attention.self.value.weight", 8, 8},
        {"attention.self.value.bias", 8, 0},
        {"attention.output.dense.weight", 8, 8},
        {"attention.output.dense.bias", 8, 0},
        {"attention.output.LayerNorm.weight", 8, 0},
        {"attention.output.LayerNorm.bias", 8, 0},
        {"intermediate.dense.weight", 16, 8},
        {"intermediate.dense.bias", 16, 0},
        {"output.dense.weight", 8, 16},
        {"output.dense.bias", 8, 0},
        {"output.LayerNorm.weight", 8, 0},
        {"output.LayerNorm.bias", 8, 0},
    };
    char name[TENSOR_NAME_BYTES];
    memset(t, 0, sizeof *t);
    expect_ok(tensor_table_add(t, "embeddings.word_embeddings.weight", 0, -1, 11, 8));
    expect_ok(tensor_table_add(t, "embeddings.position_embeddings.weight", 0, -1, 16, 8));
    expect_ok(tensor_table_add(t, "embeddings.token_type_embeddings.weight", 0, -1, 2, 8));
    expect_ok(tensor_table_add(t, "embeddings.LayerNorm.weight", 0, -1, 8, 0));
    expect_ok(tensor_table_add(t, "embeddings.LayerNorm.bias", 0, -1, 8, 0));
    for (int l = 0; l < layers; l++)
        for (size_t i = 0; i < sizeof in_layer / sizeof *in_layer; i++) {
            (void)snprintf(name, sizeof name, "encoder.layer.%d.%s", l, in_layer[i].name);
            expect_ok(tensor_table_add(t, name, l + 1, -1, in_layer[i].rows, in_layer[i].cols));
        }
    if (pooler) {
        expect_ok(tensor_table_add(t, "pooler.dense.weight", layers + 1, -1, 8, 8));
        expect_ok(tensor_table_add(t, "pooler.dense.bias", layers + 1, -1, 8, 0));
    }
    if (task == NULL)
        return;
    (void)snprintf(name, sizeof name, "heads.%s.weight", task);
    expect_ok(tensor_table_add(t, name, layers + 1, 0, classes, 8));
    (void)snprintf(name, sizeof name, "heads.%s.bias", task);
    expect_ok(tensor_table_add(t, name, layers + 1, 0, classes, 0));
}

static struct model_folder small_folder(void)
{
    static char bad[] = "bad", middle[] = "so so", good[] = "good";
    static char *labels[] = {bad, middle, good};
    static struct folder_task task = {.name = "mood",
                                      .kind = "classification",
                                      .labels = labels,
                                      .label_count = 3,
                                      .dropout = 0.25};
    struct model_folder f = {.pooling = "weightedmean",
                             .has_pooler = true,
                             .tasks = &task,
                             .task_count = 1,
                             .do_lower_case = true,
                             .strip_accents = -1,
                             .tokenize_chinese_chars = true,
                             .max_tokens = 12};
    bert_config_defaults(&f.config);
    (void)bert_config_set(&f.config, "hidden_size", 8, NULL);
    (void)bert_config_set(&f.config, "num_attention_heads", 2, NULL);
    (void)bert_config_set(&f.config, "num_hidden_layers", 2, NULL);
    (void)bert_config_set(&f.config, "intermediate_size", 16, NULL);
    (void)bert_config_set(&f.config, "vocab_size", 11, NULL);
    (void)bert_config_set(&f.config, "max_position_embeddings", 16, NULL);
    (void)snprintf(
        f.vocab_path, sizeof f.vocab_path, "%s",
        test_write_text("v.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\nf\n"));
    return f;
}

static void what_is_written_is_described_and_read_back(void **state)
{
    (void)state;
    struct model_folder f = small_folder(), g;
    struct tensor_table t;
    struct folder_report report;
    bert_table(&t, 2, true, "mood", 3);
    float *params = small_table_block(&t, 4), *back = small_table_block(&t, 0);
    const char *dir = test_path("model/");
    expect_ok(model_folder_write(dir, &f, &t, params));
    expect_ok(model_folder_describe(&g, dir));
    assert_string_equal(g.pooling, "weightedmean");
    assert_memory_equal(&g.config, &f.config, sizeof g.config);
    assert_true(g.has_pooler && g.do_lower_case && g.strip_accents == -1 && !g.normalize);
    assert_int_equal(g.max_tokens, 12);
    assert_non_null(strstr(g.vocab_path, "vocab.txt"));
    assert_int_equal(g.task_count, 1);
    assert_string_equal(g.tasks[0].name, "mood");
    assert_string_equal(g.tasks[0].labels[1], "so so");
    assert_true(g.tasks[0].dropout == 0.25);
    model_folder_release(&g);
    expect_ok(model_folder_read(dir, &t, back, &report));
    assert_memory_equal(back, params, (size_t)t.total * 4);
    assert_true(report.loaded == t.count && report.ignored == 0 && !report.pooler_missing);
    uint64_t hash;
    char text[4096] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    expect_ok(inspect_model_print(out, dir));
    (void)fclose(out);
    assert_non_null(strstr(text, "mood: classification, bad so so good (3)"));
    expect_ok(inspect_model_hash(dir, false, &hash));
    mt_free(&params);
    mt_free(&back);
    tensor_table_release(&t);
}

static void pooler_pooling_is_kept_beside_what_others_understand(void **state)
{
    (void)state;
    struct model_folder f = small_folder(), g;
    struct tensor_table t;
    char *text;
    int64_t bytes;
    bert_table(&t, 2, true, "mood", 3);
    float *params = small_table_block(&t, 4);
    (void)snprintf(f.pooling, sizeof f.pooling, "pooler");
    expect_ok(model_folder_write(test_path("p"), &f, &t, params));
    expect_ok(model_folder_describe(&g, test_path("p")));
    assert_string_equal(g.pooling, "pooler");
    model_folder_release(&g);
    expect_ok(file_read(&text, &bytes, test_path("p/1_Pooling/config.json"), 1 << 20));
    assert_non_null(strstr(text, "\"pooling_mode_cls_token\": true"));
    mt_free(&text);
    mt_free(&params);
    tensor_table_release(&t);
}

static void an_old_folder_is_replaced_whole_and_foreign_files_are_not_lost(void **state)
{
    (void)state;
    struct model_folder f = small_folder(), g;
    struct tensor_table t;
    bert_table(&t, 2, true, "mood", 3);
    float *params = small_table_block(&t, 4);
    expect_ok(model_folder_write(test_path("m"), &f, &t, params));
    f.task_count = 0;
    (void)snprintf(f.pooling, sizeof f.pooling, "cls");
    struct tensor_table bare;
    bert_table(&bare, 2, false, NULL, 0);
    expect_ok(model_folder_write(test_path("m"), &f, &bare, params));
    assert_false(file_exists(test_path("m/heads.json")));
    expect_ok(model_folder_describe(&g, test_path("m")));
    assert_true(g.task_count == 0 && !g.has_pooler && strcmp(g.pooling, "cls") == 0);
    model_folder_release(&g);
    expect_ok(file_write_atomic(test_path("m/thesis.tex"), "x", 1));
    expect_fail(model_folder_write(test_path("m"), &f, &t, params), MT_ARG, "thesis.tex");
    assert_true(file_exists(test_path("m/thesis.tex")));
    expect_fail(model_folder_write(test_write_text("plain", "x"), &f, &t, params), MT_ARG, "plain");
    f.vocab_path[0] = '\0';
    expect_fail(model_folder_write(test_path("fresh"), &f, &t, params), MT_DATA, "vocabulary");
    assert_false(file_exists(test_path("fresh")));
    mt_free(&params);
    tensor_table_release(&t);
    tensor_table_release(&bare);
}

static void every_fault_leaves_the_old_or_the_new_folder(void **state)
{
    (void)state;
    struct model_folder f = small_folder();
    struct tensor_table t;
    struct mt_memory_stats before, after;
    bert_table(&t, 2, true, "mood", 3);
    float *params = small_table_block(&t, 4), *back = small_table_block(&t, 0);
    mt_memory_stats(&before);
    for (int kind = 0; kind < 2; kind++) {
        int good_in_a_row = 0;
        expect_ok(model_folder_write(test_path("k"), &f, &t, params));
        for (int64_t n = 1; good_in_a_row < 8 && n < 1000; n++) {
            if (kind == 0)
                file_fail_after(n);
            else
                mt_memory_fail_after(n);
            mt_status st = model_folder_write(test_path("k"), &f, &t, params);
            file_fail_after(0);
            mt_memory_fail_after(0);
            good_in_a_row = st == MT_OK ? good_in_a_row + 1 : 0;
            assert_true(st == MT_OK || st == (kind == 0 ? MT_IO : MT_NOMEM));
            expect_ok(model_folder_read(test_path("k"), &t, back, NULL));
            assert_memory_equal(back, params, (size_t)t.total * 4);
        }
        assert_int_equal(good_in_a_row, 8);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
    mt_free(&params);
    mt_free(&back);
    tensor_table_release(&t);
}

static const char CONFIG[] =
    "{\"model_type\":\"bert\",\"hidden_size\":8,\"num_attention_heads\":2,\"num_hidden_layers\":1,"
    "\"intermediate_size\":16,\"vocab_size\":11,\"max_position_embeddings\":16,"
    "\"id2label\":{\"0\":\"no\",\"1\":\"yes\"}}";

/* A folder as Hugging Face's task classes wrote it long ago: bert. prefix, gamma and beta. */
static void write_old_folder(const char *dir, const struct tensor_table *t, const float *params,
                             bool pooler)
{
    static char names[64][TENSOR_NAME_BYTES + 8];
    struct safetensors_item items[64];
    char path[TEST_PATH_BYTES + 64];
    int32_t count = 0;
    expect_ok(file_make_dir(dir));
    for (int32_t i = 0; i < t->count; i++) {
        const struct tensor *e = &t->entry[i];
        if (strncmp(e->name, "heads.", 6) == 0 || (!pooler && strncmp(e->name, "pooler.", 7) == 0))
            continue;
        const char *norm = strstr(e->name, "LayerNorm.");
        if (norm != NULL)
            (void)snprintf(names[count], sizeof names[0], "bert.%.*s%s", (int)(norm - e->name + 10),
                           e->name, strcmp(norm + 10, "weight") == 0 ? "gamma" : "beta");
        else
            (void)snprintf(names[count], sizeof names[0], "bert.%s", e->name);
        items[count] = (struct safetensors_item){
            names[count], e->ndim, {e->shape[0], e->shape[1]}, params + e->offset};
        count++;
    }
    items[count++] = (struct safetensors_item){"classifier.weight", 2, {2, 8}, params};
    items[count++] = (struct safetensors_item){"classifier.bias", 1, {2, 1}, params + 16};
    items[count++] = (struct safetensors_item){"cls.predictions.bias", 1, {11, 1}, params};
    items[count++] = (struct safetensors_item){"bert.embeddings.position_ids", 2, {1, 16}, params};
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    expect_ok(safetensors_write(path, items, count));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    expect_ok(file_write_atomic(path, CONFIG, (int64_t)strlen(CONFIG)));
}

static void old_names_prefixes_and_classifiers_are_understood(void **state)
{
    (void)state;
    struct tensor_table t, full;
    struct folder_report report;
    struct model_folder f;
    const char *dir = test_path("old");
    bert_table(&t, 1, true, "classifier", 2);
    float *params = small_table_block(&t, 4), *back = small_table_block(&t, 0);
    write_old_folder(dir, &t, params, false);
    expect_ok(model_folder_describe(&f, dir));
    assert_string_equal(f.pooling, "pooler");
    assert_true(!f.has_pooler && f.task_count == 1);
    assert_string_equal(f.tasks[0].name, "classifier");
    assert_string_equal(f.tasks[0].labels[1], "yes");
    assert_int_equal(f.max_tokens, 16);
    model_folder_release(&f);
    expect_ok(model_folder_read(dir, &t, back, &report));
    assert_true(report.pooler_missing && report.heads_missing == 0);
    assert_int_equal(report.ignored, 1);
    assert_string_equal(report.ignored_names, "cls.predictions.bias");
    for (int32_t i = 0; i < t.count; i++) {
        const struct tensor *e = &t.entry[i];
        const float *want = params + e->offset;
        if (strncmp(e->name, "pooler.", 7) == 0)
            continue;
        if (strncmp(e->name, "heads.", 6) == 0)
            want = e->ndim == 2 ? params : params + 16;
        assert_memory_equal(back + e->offset, want, (size_t)e->count * 4);
    }
    /* another task of the same shape takes it too; of another shape it stays as it was */
    bert_table(&full, 1, false, "other", 2);
    expect_ok(model_folder_read(dir, &full, back, &report));
    assert_int_equal(report.heads_missing, 0);
    tensor_table_release(&full);
    bert_table(&full, 1, false, "other", 5);
    expect_ok(model_folder_read(dir, &full, back, &report));
    assert_int_equal(report.heads_missing, 2);
    tensor_table_release(&full);
    tensor_table_release(&t);
    mt_free(&params);
    mt_free(&back);
}

static void what_does_not_fit_is_refused_with_names_and_shapes(void **state)
{
    (void)state;
    struct tensor_table t, deeper;
    const char *dir = test_path("bad");
    bert_table(&t, 1, true, "classifier", 2);
    bert_table(&deeper, 2, true, NULL, 0);
    float *params = small_table_block(&deeper, 4);
    write_old_folder(dir, &t, params, true);
    expect_fail(model_folder_read(dir, &deeper, params, NULL), MT_DATA,
                "no tensor encoder.layer.1.attention.self.query.weight [8, 8]");
    t.entry[1].shape[0] = 8;
    t.entry[1].count = 64;
    expect_fail(model_folder_read(dir, &t, params, NULL), MT_DATA,
                "bert.embeddings.position_embeddings.weight is [16, 8], the model wants [8, 8]");
    struct model_folder f;
    expect_fail(model_folder_describe(&f, test_dir()), MT_DATA, "config.json");
    expect_ok(file_remove(test_path("bad/model.safetensors")));
    expect_fail(model_folder_describe(&f, dir), MT_DATA, "no model.safetensors");
    expect_ok(file_write_atomic(test_path("bad/pytorch_model.bin"), "PK", 2));
    expect_fail(model_folder_describe(&f, dir), MT_DATA, "save_pretrained");
    expect_fail(model_folder_read(dir, &t, params, NULL), MT_DATA, "save_pretrained");
    mt_free(&params);
    tensor_table_release(&t);
    tensor_table_release(&deeper);
}

static void shards_are_read_and_cannot_lead_out_of_the_folder(void **state)
{
    (void)state;
    struct tensor_table t;
    struct safetensors_item items[64];
    bert_table(&t, 1, false, NULL, 0);
    float *params = small_table_block(&t, 4), *back = small_table_block(&t, 0);
    expect_ok(file_make_dir(test_path("sh")));
    for (int32_t i = 0; i < t.count; i++)
        items[i] = (struct safetensors_item){t.entry[i].name,
                                             t.entry[i].ndim,
                                             {t.entry[i].shape[0], t.entry[i].shape[1]},
                                             params + t.entry[i].offset};
    expect_ok(safetensors_write(test_path("sh/model-00001-of-00002.safetensors"), items, 9));
    expect_ok(safetensors_write(test_path("sh/model-00002-of-00002.safetensors"), items + 9,
                                t.count - 9));
    (void)test_write_text("sh/config.json", CONFIG);
    (void)test_write_text("sh/model.safetensors.index.json",
                          "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
                          "\"b\":\"model-00002-of-00002.safetensors\","
                          "\"c\":\"model-00001-of-00002.safetensors\"}}");
    expect_ok(model_folder_read(test_path("sh"), &t, back, NULL));
    assert_memory_equal(back, params, (size_t)t.total * 4);
    (void)test_write_text("sh/model.safetensors.index.json",
                          "{\"weight_map\":{\"a\":\"../bad/model.safetensors\"}}");
    expect_fail(model_folder_read(test_path("sh"), &t, back, NULL), MT_DATA, "tensor a");
    (void)test_write_text("sh/model.safetensors.index.json", "{}");
    expect_fail(model_folder_read(test_path("sh"), &t, back, NULL), MT_DATA, "weight_map");
    mt_free(&params);
    mt_free(&back);
    tensor_table_release(&t);
}

static void files_of_sentence_transformers_are_understood(void **state)
{
    (void)state;
    struct tensor_table t;
    struct model_folder f;
    const char *dir = test_path("st");
    bert_table(&t, 1, true, NULL, 0);
    float *params = small_table_block(&t, 4);
    write_old_folder(dir, &t, params, true);
    expect_ok(file_make_dir(test_path("st/1_Pooling")));
    (void)test_write_text("st/1_Pooling/config.json",
                          "{\"word_embedding_dimension\":8,\"pooling_mode_cls_token\":true,"
                          "\"pooling_mode_mean_tokens\":true}");
    (void)test_write_text("st/modules.json",
                          "[{\"type\":\"sentence_transformers.models.Transformer\"},"
                          "{\"type\":\"sentence_transformers.models.Normalize\"}]");
    (void)test_write_text("st/sentence_bert_config.json",
                          "{\"max_seq_length\":9,\"do_lower_case\":false}");
    (void)test_write_text("st/tokenizer_config.json",
                          "{\"do_lower_case\":false,\"strip_accents\":true,\"model_max_length\":"
                          "1000000000000000019884624838656}");
    (void)test_write_text("st/tokenizer.json", "{}");
    expect_ok(model_folder_describe(&f, dir));
    assert_string_equal(f.pooling, "cls+mean");
    assert_true(f.normalize && !f.do_lower_case && f.strip_accents == 1 && f.has_pooler);
    assert_int_equal(f.max_tokens, 9);
    assert_true(f.vocab_is_tokenizer_json);
    model_folder_release(&f);
    expect_ok(file_remove(test_path("st/sentence_bert_config.json")));
    expect_ok(model_folder_describe(&f, dir));
    assert_int_equal(f.max_tokens, 16); /* the sentinel 1e30 means no limit of its own */
    model_folder_release(&f);
    mt_free(&params);
    tensor_table_release(&t);
}

static void the_shared_models_are_read(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(weights, "data/tiny-bert/tiny_bert_seqcls.safetensors");
    SHARED_DATA_OR_SKIP(config, "data/tiny-bert/tiny_bert_seqcls_config.json");
    struct tensor_table t;
    struct model_folder f;
    struct folder_report report;
    const char *dir = test_path("tiny");
    expect_ok(file_make_dir(dir));
    assert_int_equal(symlink(weights, test_path("tiny/model.safetensors")), 0);
    assert_int_equal(symlink(config, test_path("tiny/config.json")), 0);
    expect_ok(model_folder_describe(&f, dir));
    assert_int_equal(f.task_count, 1);
    assert_int_equal(f.tasks[0].label_count, 3);
    assert_string_equal(f.tasks[0].labels[2], "pos");
    assert_string_equal(f.pooling, "pooler");
    bert_table(&t, 2, true, "classifier", 3);
    float *params = small_table_block(&t, 1);
    expect_ok(model_folder_read(dir, &t, params, &report));
    assert_int_equal(report.loaded, t.count);
    assert_int_equal(report.ignored, 0);
    model_folder_release(&f);
    mt_free(&params);
    tensor_table_release(&t);
}

static void heads_json_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"{}", "format"},
        {"{\"format\":\"x\",\"version\":1,\"tasks\":[]}", "not a list"},
        {"{\"format\":\"mttrain-heads\",\"version\":2,\"tasks\":[]}", "version"},
        {"{\"format\":\"mttrain-heads\",\"version\":1,\"tasks\":[{}]}", "name"},
        {"{\"format\":\"mttrain-heads\",\"version\":1,\"tasks\":[{\"name\":\"a\",\"kind\":\"b\"}]}",
         "labels"},
        {"{\"format\":\"mttrain-heads\",\"version\":1,\"tasks\":[{\"name\":\"a\",\"kind\":\"b\","
         "\"labels\":[]}]}",
         "labels"},
        {"{\"format\":\"mttrain-heads\",\"version\":1,\"tasks\":[{\"name\":\"a\",\"kind\":\"b\","
         "\"labels\":[\"x\",3]}]}",
         "label 1"},
        {"{\"format\":\"mttrain-heads\",\"version\":1,\"tasks\":[{\"name\":\"\",\"kind\":\"b\"}]}",
         "empty"},
    };
    struct model_folder f = small_folder(), g;
    struct tensor_table t;
    struct mt_memory_stats before, after;
    bert_table(&t, 2, true, "mood", 3);
    float *params = small_table_block(&t, 4);
    expect_ok(model_folder_write(test_path("hj"), &f, &t, params));
    mt_memory_stats(&before);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)test_write_text("hj/heads.json", bad[i].text);
        expect_fail(model_folder_describe(&g, test_path("hj")), MT_DATA, bad[i].part);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
    mt_free(&params);
    tensor_table_release(&t);
}

int main(void)
{
    test_dir_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_described_and_read_back),
        cmocka_unit_test(pooler_pooling_is_kept_beside_what_others_understand),
        cmocka_unit_test(an_old_folder_is_replaced_whole_and_foreign_files_are_not_lost),
        cmocka_unit_test(every_fault_leaves_the_old_or_the_new_folder),
        cmocka_unit_test(old_names_prefixes_and_classifiers_are_understood),
        cmocka_unit_test(what_does_not_fit_is_refused_with_names_and_shapes),
        cmocka_unit_test(shards_are_read_and_cannot_lead_out_of_the_folder),
        cmocka_unit_test(files_of_sentence_transformers_are_understood),
        cmocka_unit_test(the_shared_models_are_read),
        cmocka_unit_test(heads_json_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
