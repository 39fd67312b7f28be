/*
 * The idea: both files are read leniently where they say more than is used here, and strictly
 * where they say that text is tokenized in another way than this program does: a wrong id is worse
 * than no id.  All numbers are read as doubles, since model_max_length may be int(1e30).
 */
#include "io/vocab_json.h"

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/vocab.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void vocab_json_init(struct vocab_json *j)
{
    *j = (struct vocab_json){
        .lowercase = -1, .strip_accents = -1, .chinese_chars = -1, .clean_text = -1};
}

void vocab_json_release(struct vocab_json *j)
{
    json_decref((json_t *)j->document);
    mt_free(&j->added);
    mt_free(&j->tokens);
    vocab_json_init(j);
}

static mt_status load_document(struct vocab_json *j, const char *path)
{
    char *text = NULL;
    int64_t count = 0;
    json_error_t error;
    MT_TRY(file_read(&text, &count, path, VOCAB_MAX_JSON_BYTES));
    json_t *root = json_loadb(text, (size_t)count, JSON_DECODE_INT_AS_REAL, &error);
    mt_free(&text);
    if (root == NULL)
        return MT_FAIL(MT_DATA, "%s:%d: not valid JSON: %s", path, error.line, error.text);
    j->document = root;
    if (!json_is_object(root))
        return MT_FAIL(MT_DATA, "%s: not a JSON object", path);
    return MT_OK;
}

static mt_status read_switch(int32_t *out, const json_t *object, const char *key, const char *path)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value))
        return MT_OK;
    if (!json_is_boolean(value))
        return MT_FAIL(MT_DATA, "%s: \"%s\" must be true, false or null", path, key);
    *out = json_is_true(value);
    return MT_OK;
}

/* An id out of a number; -1 where it is none. */
static int32_t id_of(double number)
{
    bool whole = number >= 0 && number < VOCAB_MAX_TOKENS && number == (double)(int32_t)number;
    return whole ? (int32_t)number : -1;
}

static bool is_set(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static mt_status read_added(struct vocab_json *j, int64_t i, double id, const json_t *entry,
                            const char *path)
{
    const char *content = json_string_value(json_object_get(entry, "content"));
    if (content == NULL || content[0] == '\0' || id_of(id) < 0)
        return MT_FAIL(MT_DATA,
                       "%s: added token %lld must have a text \"content\" and an id below %d", path,
                       (long long)i, VOCAB_MAX_TOKENS);
    const json_t *normalized = json_object_get(entry, "normalized");
    bool raw = normalized != NULL ? json_is_false(normalized) : is_set(entry, "special");
    j->added[i] =
        (struct vocab_added){.content = content,
                             .id = id_of(id),
                             .plain = raw && !is_set(entry, "lstrip") && !is_set(entry, "rstrip") &&
                                      !is_set(entry, "single_word")};
    return MT_OK;
}

static mt_status alloc_added(struct vocab_json *j, size_t count, const char *path)
{
    if (count > VOCAB_MAX_TOKENS)
        return MT_FAIL(MT_DATA, "%s: too many added tokens (%zu)", path, count);
    mt_free(&j->added);
    MT_TRY(mt_alloc(&j->added, (int64_t)count, sizeof *j->added, "added tokens"));
    j->added_count = (int32_t)count;
    return MT_OK;
}

mt_status vocab_json_read_config(struct vocab_json *j, const char *path)
{
    if (!file_exists(path))
        return MT_OK;
    MT_TRY(load_document(j, path));
    const json_t *root = j->document;
    MT_TRY(read_switch(&j->lowercase, root, "do_lower_case", path));
    MT_TRY(read_switch(&j->strip_accents, root, "strip_accents", path));
    MT_TRY(read_switch(&j->chinese_chars, root, "tokenize_chinese_chars", path));
    double length = json_number_value(json_object_get(root, "model_max_length"));
    if (length >= 1 && length <= INT32_MAX)
        j->max_length_tokens = (int64_t)length;
    json_t *decoder = json_object_get(root, "added_tokens_decoder");
    if (!json_is_object(decoder))
        return MT_OK;
    MT_TRY(alloc_added(j, json_object_size(decoder), path));
    const char *key = NULL;
    json_t *entry = NULL;
    int64_t i = 0;
    json_object_foreach(decoder, key, entry)
    {
        char *end = NULL;
        double id = strtod(key, &end);
        MT_TRY(read_added(j, i, *end == '\0' && end != key ? id : -1, entry, path));
        i++;
    }
    return MT_OK;
}

/* Fails unless object[key] is the text or is absent (or null). */
static mt_status expect_string(const json_t *object, const char *key, const char *expected,
                               const char *path)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    if (value == NULL || json_is_null(value) || (text != NULL && strcmp(text, expected) == 0))
        return MT_OK;
    return MT_FAIL(MT_DATA,
                   "%s: \"%s\" is \"%.100s\", not \"%s\": not a tokenizer of BERT's kind; give the "
                   "vocab.txt of a BERT model instead",
                   path, key, text != NULL ? text : "(not a text)", expected);
}

static mt_status read_normalizer(struct vocab_json *j, const json_t *normalizer, const char *path)
{
    if (!json_is_object(normalizer))
        return MT_FAIL(MT_DATA,
                       "%s: no normalizer; give the vocab.txt of a BERT model and --cased or not",
                       path);
    MT_TRY(expect_string(normalizer, "type", "BertNormalizer", path));
    MT_TRY(read_switch(&j->lowercase, normalizer, "lowercase", path));
    MT_TRY(read_switch(&j->strip_accents, normalizer, "strip_accents", path));
    MT_TRY(read_switch(&j->chinese_chars, normalizer, "handle_chinese_chars", path));
    return read_switch(&j->clean_text, normalizer, "clean_text", path);
}

static mt_status read_added_list(struct vocab_json *j, const json_t *list, const char *path)
{
    MT_TRY(alloc_added(j, json_array_size(list), path));
    for (int64_t i = 0; i < j->added_count; i++) {
        const json_t *entry = json_array_get(list, (size_t)i);
        const json_t *id = json_object_get(entry, "id");
        MT_TRY(read_added(j, i, json_is_number(id) ? json_number_value(id) : -1, entry, path));
    }
    return MT_OK;
}

static mt_status read_model(struct vocab_json *j, const json_t *model, const char *path)
{
    json_t *vocab = json_object_get(model, "vocab");
    MT_TRY(expect_string(model, "type", "WordPiece", path));
    MT_TRY(expect_string(model, "unk_token", "[UNK]", path));
    MT_TRY(expect_string(model, "continuing_subword_prefix", "##", path));
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    if (longest != NULL && json_number_value(longest) != 100)
        return MT_FAIL(MT_DATA, "%s: max_input_chars_per_word is %g; only 100 is supported", path,
                       json_number_value(longest));
    if (!json_is_object(vocab) || json_object_size(vocab) == 0 ||
        json_object_size(vocab) > VOCAB_MAX_TOKENS)
        return MT_FAIL(MT_DATA, "%s: model.vocab must be an object of 1 to %d tokens", path,
                       VOCAB_MAX_TOKENS);
    const char *key = NULL;
    json_t *value = NULL;
    int32_t count = 0;
    json_object_foreach(vocab, key, value)
    {
        int32_t id = json_is_number(value) ? id_of(json_number_value(value)) : -1;
        if (id < 0)
            return MT_FAIL(MT_DATA, "%s: the id of token \"%.100s\" is not in 0..%d", path, key,
                           VOCAB_MAX_TOKENS - 1);
        count = id >= count ? id + 1 : count;
    }
    MT_TRY(mt_alloc(&j->tokens, count, sizeof *j->tokens, "vocabulary of tokenizer.json"));
    j->token_count = count;
    for (int32_t i = 0; i < count; i++)
        j->tokens[i] = "";
    json_object_foreach(vocab, key, value)
    {
        int32_t id = id_of(json_number_value(value));
        if (j->tokens[id][0] != '\0')
            return MT_FAIL(MT_DATA, "%s: tokens \"%.100s\" and \"%.100s\" share id %d", path,
                           j->tokens[id], key, id);
        j->tokens[id] = key;
    }
    return MT_OK;
}

mt_status vocab_json_read_tokenizer(struct vocab_json *j, const char *path, bool with_model)
{
    MT_TRY(load_document(j, path));
    const json_t *root = j->document;
    MT_TRY(read_normalizer(j, json_object_get(root, "normalizer"), path));
    MT_TRY(expect_string(json_object_get(root, "pre_tokenizer"), "type", "BertPreTokenizer", path));
    if (!with_model)
        return MT_OK;
    MT_TRY(read_model(j, json_object_get(root, "model"), path));
    return read_added_list(j, json_object_get(root, "added_tokens"), path);
}
