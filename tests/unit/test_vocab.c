/* Vocabularies from every form in which Hugging Face keeps them, and broken ones. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/vocab.h"

#define BASE "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    assert_int_equal(file_write_atomic(in_dir(name), text, (int64_t)strlen(text)), MT_OK);
}

static int begin(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/mt-vocab-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int end(void **state)
{
    (void)state;
    struct mt_memory_stats s;
    int failed = file_remove(dir) != MT_OK;
    mt_memory_stats(&s);
    return failed || s.live_blocks != 0;
}

static int32_t find(const struct vocab *v, const char *token)
{
    return vocab_find(v, token, (int64_t)strlen(token));
}

static void a_line_is_a_token_and_its_number_the_id(void **state)
{
    (void)state;
    struct vocab v;
    put("vocab.txt", BASE "hello\r\n\n##ing\nlast");
    assert_int_equal(vocab_open(&v, dir, VOCAB_CASE_AUTO), MT_OK);
    assert_int_equal(v.count, 9);
    assert_int_equal(find(&v, "hello"), 5);
    assert_int_equal(find(&v, "##ing"), 7);
    assert_int_equal(find(&v, "last"), 8);
    assert_int_equal(find(&v, ""), -1);
    assert_int_equal(find(&v, "hell"), -1);
    assert_string_equal(vocab_token(&v, 6), "");
    assert_string_equal(vocab_token(&v, 5), "hello");
    assert_string_equal(vocab_token(&v, 9), "");
    assert_true(v.pad == 0 && v.unk == 1 && v.cls == 2 && v.sep == 3 && v.mask == 4);
    assert_true(v.flags.lowercase && v.flags.strip_accents && v.flags.chinese_chars);
    vocab_close(&v);
}

static void of_equal_lines_the_last_counts(void **state)
{
    (void)state;
    struct vocab v;
    put("vocab.txt", BASE "twice\nother\ntwice\n");
    assert_int_equal(vocab_open(&v, in_dir("vocab.txt"), VOCAB_CASE_CASED), MT_OK);
    assert_int_equal(find(&v, "twice"), 7);
    assert_int_equal(v.duplicates, 1);
    assert_false(v.flags.lowercase || v.flags.strip_accents);
    vocab_close(&v);
}

static void switches_come_from_tokenizer_config(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum vocab_case letter_case;
        bool lowercase, strip_accents, chinese_chars;
        int64_t max_length;
    } cases[] = {
        {"{\"do_lower_case\": false, \"model_max_length\": 512}", VOCAB_CASE_AUTO, 0, 0, 1, 512},
        {"{\"do_lower_case\": true, \"strip_accents\": false, \"tokenize_chinese_chars\": false,"
         " \"model_max_length\": 1000000000000000019884624838656}",
         VOCAB_CASE_AUTO, 1, 0, 0, 0},
        {"{\"do_lower_case\": true, \"strip_accents\": null}", VOCAB_CASE_AUTO, 1, 1, 1, 0},
        {"{\"do_lower_case\": true, \"strip_accents\": null}", VOCAB_CASE_CASED, 0, 0, 1, 0},
        {"{\"do_lower_case\": false, \"strip_accents\": true}", VOCAB_CASE_LOWER, 1, 1, 1, 0},
        {"{\"model_max_length\": 1e30}", VOCAB_CASE_AUTO, 1, 1, 1, 0},
    };
    put("vocab.txt", BASE "a\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vocab v;
        put("tokenizer_config.json", cases[i].json);
        assert_int_equal(vocab_open(&v, dir, cases[i].letter_case), MT_OK);
        assert_int_equal(v.flags.lowercase, cases[i].lowercase);
        assert_int_equal(v.flags.strip_accents, cases[i].strip_accents);
        assert_int_equal(v.flags.chinese_chars, cases[i].chinese_chars);
        assert_int_equal(v.max_length_tokens, cases[i].max_length);
        vocab_close(&v);
    }
}

#define NORMALIZER                                                                                 \
    "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true,"                         \
    " \"handle_chinese_chars\": false, \"strip_accents\": null, \"lowercase\": false},"            \
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},"
#define MODEL(rest)                                                                                \
    "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\","                               \
    "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100,"                    \
    "\"vocab\": {\"[UNK]\": 0, \"[SEP]\": 2, \"[CLS]\": 1, \"caf\\u00e9\": 4" rest "}}"

static void tokenizer_json_serves_where_vocab_txt_is_absent(void **state)
{
    (void)state;
    struct vocab v;
    put("tokenizer.json",
        "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 6, \"content\": \"[NEW]\","
        "\"special\": true, \"normalized\": false, \"lstrip\": false}]," NORMALIZER MODEL("") "}");
    assert_int_equal(vocab_open(&v, dir, VOCAB_CASE_AUTO), MT_OK);
    assert_int_equal(v.count, 7);
    assert_int_equal(find(&v, "caf\xC3\xA9"), 4);
    assert_int_equal(find(&v, "[NEW]"), 6);
    assert_string_equal(vocab_token(&v, 3), "");
    assert_true(v.unk == 0 && v.cls == 1 && v.sep == 2 && v.pad == -1 && v.mask == -1);
    assert_int_equal(v.added_count, 4);
    assert_false(v.flags.lowercase || v.flags.strip_accents || v.flags.chinese_chars);
    vocab_close(&v);
    put("vocab.txt", BASE "x\n");
    assert_int_equal(vocab_open(&v, dir, VOCAB_CASE_AUTO), MT_OK);
    assert_int_equal(v.count, 6);
    assert_false(v.flags.lowercase);
    vocab_close(&v);
}

static void broken_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"vocab.txt", "[PAD]\n[CLS]\n[SEP]\n", "token [UNK] is missing"},
        {"vocab.txt", "", "0 lines"},
        {"tokenizer.json", "{\"model\": ", "not valid JSON"},
        {"tokenizer.json", "[]", "not a JSON object"},
        {"tokenizer.json", "{" MODEL("") "}", "no normalizer"},
        {"tokenizer.json", "{" NORMALIZER "\"model\": {\"type\": \"BPE\", \"vocab\": {}}}", "BPE"},
        {"tokenizer.json", "{" NORMALIZER MODEL(", \"x\": 4") "}", "share id 4"},
        {"tokenizer.json", "{" NORMALIZER MODEL(", \"x\": -1") "}", "not in 0.."},
        {"tokenizer.json", "{" NORMALIZER MODEL(", \"x\": 1.5") "}", "not in 0.."},
        {"tokenizer.json", "{" NORMALIZER MODEL(", \"x\": 99999999") "}", "not in 0.."},
        {"tokenizer.json",
         "{\"added_tokens\": [{\"id\": 1, \"content\": \"[NEW]\"}]," NORMALIZER MODEL("") "}",
         "do not belong together"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vocab v;
        put(cases[i].name, cases[i].text);
        assert_int_equal(vocab_open(&v, in_dir(cases[i].name), VOCAB_CASE_AUTO), MT_DATA);
        if (strstr(mt_error_peek()->message, cases[i].message) == NULL ||
            strstr(mt_error_peek()->message, cases[i].name) == NULL)
            fail_msg("case %zu: %s", i, mt_error_peek()->message);
    }
    struct vocab v;
    assert_int_equal(vocab_open(&v, in_dir("absent"), VOCAB_CASE_AUTO), MT_DATA);
}

static void the_hash_names_tokens_order_and_switches(void **state)
{
    (void)state;
    const char *one[] = {"[UNK]", "[CLS]", "[SEP]", "a", "b"};
    const char *two[] = {"[UNK]", "[CLS]", "[SEP]", "b", "a"};
    struct vocab v, w, x;
    assert_int_equal(vocab_create(&v, one, 5, vocab_flags_default(true), "v"), MT_OK);
    assert_int_equal(vocab_create(&w, two, 5, vocab_flags_default(true), "w"), MT_OK);
    assert_int_equal(vocab_create(&x, one, 5, vocab_flags_default(false), "x"), MT_OK);
    assert_true(vocab_hash(&v) != vocab_hash(&w));
    assert_true(vocab_hash(&v) != vocab_hash(&x));
    vocab_close(&w);
    assert_int_equal(vocab_write(&v, in_dir("vocab.txt")), MT_OK);
    assert_int_equal(vocab_open(&w, in_dir("vocab.txt"), VOCAB_CASE_LOWER), MT_OK);
    assert_true(vocab_hash(&v) == vocab_hash(&w));
    vocab_close(&v);
    vocab_close(&w);
    vocab_close(&x);
}

static void a_failing_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    put("vocab.txt", BASE "a\n");
    put("tokenizer_config.json",
        "{\"added_tokens_decoder\": {\"6\": {\"content\": \"[X]\", \"special\": true}}}");
    for (int64_t n = 1;; n++) {
        struct vocab v;
        mt_memory_fail_after(n);
        mt_status st = vocab_open(&v, dir, VOCAB_CASE_AUTO);
        mt_memory_fail_after(0);
        if (st == MT_OK) {
            assert_true(n > 5);
            vocab_close(&v);
            break;
        }
        assert_int_equal(st, MT_NOMEM);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(a_line_is_a_token_and_its_number_the_id),
        CASE(of_equal_lines_the_last_counts),
        CASE(switches_come_from_tokenizer_config),
        CASE(tokenizer_json_serves_where_vocab_txt_is_absent),
        CASE(broken_files_are_refused_by_name),
        CASE(the_hash_names_tokens_order_and_switches),
        CASE(a_failing_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
