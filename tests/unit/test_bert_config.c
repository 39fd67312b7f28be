#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "io/bert_config.h"
#include "io/json.h"
#include "tests/support/shared_data.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static void absent_keys_have_the_defaults_of_bert_base(void **state)
{
    (void)state;
    struct bert_config c, base;
    bert_config_defaults(&base);
    expect_ok(bert_config_read(&c, test_write_text("c.json", "{}")));
    assert_int_equal(c.vocab_size, 30522);
    assert_int_equal(c.hidden_size, 768);
    assert_int_equal(c.intermediate_size, 3072);
    assert_int_equal(c.hidden_act, ACT_GELU);
    assert_true(c.layer_norm_eps == 1e-12 && c.classifier_dropout < 0.0);
    assert_memory_equal(&c, &base, sizeof c);
}

static void a_config_of_the_hub_is_read_with_its_extra_keys(void **state)
{
    (void)state;
    struct bert_config c;
    expect_ok(bert_config_read(
        &c,
        test_write_text("c.json",
                        "{\"architectures\":[\"BertForMaskedLM\"],\"model_type\":\"bert\","
                        "\"hidden_size\":8,\"num_attention_heads\":2,\"num_hidden_layers\":3,"
                        "\"intermediate_size\":16,\"vocab_size\":11,\"hidden_act\":\"gelu_new\","
                        "\"classifier_dropout\":null,\"pooler_fc_size\":768,\"directionality\":"
                        "\"bidi\",\"position_embedding_type\":\"absolute\",\"is_decoder\":false,"
                        "\"layer_norm_eps\":1e-5,\"hidden_dropout_prob\":0,\"use_cache\":true}")));
    assert_int_equal(c.num_hidden_layers, 3);
    assert_int_equal(c.hidden_act, ACT_GELU_NEW);
    assert_true(c.layer_norm_eps == 1e-5 && c.hidden_dropout_prob == 0.0);
}

static void what_is_no_bert_encoder_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"{\"model_type\":\"roberta\"}", "roberta"},
        {"{\"position_embedding_type\":\"relative_key\"}", "relative_key"},
        {"{\"is_decoder\":true}", "is_decoder"},
        {"{\"add_cross_attention\":true}", "add_cross_attention"},
        {"{\"hidden_act\":\"mish\"}", "mish"},
        {"{\"hidden_act\":3}", "hidden_act"},
        {"{\"hidden_size\":769}", "not a multiple"},
        {"{\"hidden_size\":-8}", "hidden_size"},
        {"{\"hidden_size\":1e300}", "hidden_size"},
        {"{\"hidden_size\":8.5}", "hidden_size"},
        {"{\"hidden_size\":\"768\"}", "hidden_size"},
        {"{\"num_hidden_layers\":2000000000}", "num_hidden_layers"},
        {"{\"layer_norm_eps\":\"nan\"}", "layer_norm_eps"},
        {"{\"hidden_dropout_prob\":1.0}", "hidden_dropout_prob"},
        {"{\"pad_token_id\":30522}", "pad_token_id"},
        {"[1]", "object"},
        {"{\"vocab_size\":", "not valid JSON"},
        {"{\"vocab_size\":1,\"vocab_size\":2}", "duplicate"},
        {"", "not valid JSON"},
    };
    struct bert_config c;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_fail(bert_config_read(&c, test_write_text("c.json", bad[i].text)), MT_DATA,
                    bad[i].part);
    expect_fail(bert_config_read(&c, test_path("absent.json")), MT_DATA, "absent.json");
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct bert_config c, back;
    const char *const labels[] = {"neg", "q\"uote", "p\xc3\xb6s"};
    bert_config_defaults(&c);
    c.hidden_size = 48;
    c.num_attention_heads = 6;
    c.hidden_act = ACT_SILU;
    c.layer_norm_eps = 1.0 / 3.0;
    expect_ok(bert_config_write(&c, labels, 3, test_path("w.json")));
    expect_ok(bert_config_read(&back, test_path("w.json")));
    assert_memory_equal(&c, &back, sizeof c);
    struct json_doc *doc;
    expect_ok(json_doc_read(&doc, test_path("w.json"), 1 << 20));
    const struct json_node *names = json_node_get(json_doc_root(doc), "id2label");
    assert_string_equal(json_node_string(json_node_get(names, "1")), "q\"uote");
    assert_string_equal(json_node_string(json_node_get(names, "2")), "p\xc3\xb6s");
    json_doc_destroy(&doc);
}

static void every_field_moves_the_hash(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double value;
    } changes[] = {{"vocab_size", 5},         {"hidden_size", 24},
                   {"num_hidden_layers", 1},  {"max_position_embeddings", 7},
                   {"layer_norm_eps", 1e-6},  {"hidden_dropout_prob", 0.2},
                   {"classifier_dropout", .5}};
    struct bert_config base;
    struct hash64 h;
    bert_config_defaults(&base);
    hash64_init(&h, 0);
    bert_config_hash(&base, &h);
    uint64_t first = hash64_value(&h);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct bert_config c = base;
        assert_true(bert_config_set(&c, changes[i].key, changes[i].value, NULL));
        hash64_init(&h, 0);
        bert_config_hash(&c, &h);
        assert_true(hash64_value(&h) != first);
    }
}

static void unknown_keys_and_wrong_kinds_are_not_set(void **state)
{
    (void)state;
    struct bert_config c;
    bert_config_defaults(&c);
    assert_false(bert_config_set(&c, "hiden_size", 8, NULL));
    assert_false(bert_config_set(&c, "hidden_size", 8, "8"));
    assert_false(bert_config_set(&c, "hidden_size", 8.5, NULL));
    assert_false(bert_config_set(&c, "hidden_size", (double)NAN, NULL));
    assert_false(bert_config_set(&c, "hidden_act", 0, "sinus"));
    assert_true(bert_config_set(&c, "hidden_act", 0, "relu"));
    assert_int_equal(c.hidden_act, ACT_RELU);
}

static void the_shared_tiny_bert_is_read(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(path, "data/tiny-bert/tiny_bert_config.json");
    struct bert_config c;
    expect_ok(bert_config_read(&c, path));
    assert_int_equal(c.hidden_size, 8);
    assert_int_equal(c.max_position_embeddings, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_the_defaults_of_bert_base),
        cmocka_unit_test(a_config_of_the_hub_is_read_with_its_extra_keys),
        cmocka_unit_test(what_is_no_bert_encoder_is_refused),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_field_moves_the_hash),
        cmocka_unit_test(unknown_keys_and_wrong_kinds_are_not_set),
        cmocka_unit_test(the_shared_tiny_bert_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
