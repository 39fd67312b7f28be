/* Every case of wordpiece_golden.jsonl: ids, token texts and types made by other tokenizers. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <jansson.h>

#include "io/tokenizer.h"

static char shared[4096];

static void find_shared(void)
{
    const char *given = getenv("MT_SHARED");
    snprintf(shared, sizeof shared, "%s", given ? given : MT_TEST_SOURCE_DIR "/../shared");
}

static void encode(struct vocab *v, const json_t *row, struct encoding *e, struct tokenizer **t)
{
    const json_t *text = json_object_get(row, "text"), *pair = json_object_get(row, "text_pair");
    char path[5000];
    snprintf(path, sizeof path, "%s/data/vocab/%s-vocab.txt", shared,
             json_string_value(json_object_get(row, "vocab")));
    enum vocab_case letter_case =
        json_is_true(json_object_get(row, "do_lower_case")) ? VOCAB_CASE_LOWER : VOCAB_CASE_CASED;
    assert_int_equal(vocab_open(v, path, letter_case), MT_OK);
    assert_int_equal(tokenizer_create(t, v, NULL), MT_OK);
    assert_int_equal(tokenizer_encode(*t, json_string_value(text),
                                      (int64_t)json_string_length(text), json_string_value(pair),
                                      (int64_t)json_string_length(pair), 0, e),
                     MT_OK);
}

static int compare_numbers(const char *what, const json_t *expected, const int32_t *got,
                           int32_t count)
{
    if (!json_is_array(expected))
        return 0;
    int same = json_array_size(expected) == (size_t)count;
    for (int32_t i = 0; same && i < count; i++)
        same = json_integer_value(json_array_get(expected, (size_t)i)) == got[i];
    if (!same)
        print_error("%s differ\n", what);
    return !same;
}

static int compare_tokens(const json_t *expected, const struct vocab *v, const int32_t *ids,
                          int32_t count)
{
    if (!json_is_array(expected))
        return 0;
    int same = json_array_size(expected) == (size_t)count;
    for (int32_t i = 0; same && i < count; i++)
        same = strcmp(json_string_value(json_array_get(expected, (size_t)i)),
                      vocab_token(v, ids[i])) == 0;
    if (!same)
        print_error("tokens differ\n");
    return !same;
}

static int run_case(const json_t *row)
{
    struct vocab v;
    struct tokenizer *t = NULL;
    struct encoding e;
    encode(&v, row, &e, &t);
    int bare = !json_is_true(json_object_get(row, "special_tokens_in_ids"));
    int failed =
        compare_numbers("ids", json_object_get(row, "ids"), e.ids + bare, e.count - 2 * bare);
    failed |= compare_numbers("types", json_object_get(row, "type_ids"), e.types, e.count);
    failed |= compare_tokens(json_object_get(row, "tokens"), &v, e.ids + 1, e.count - 2);
    if (failed)
        print_error("case %s: %s\n", json_string_value(json_object_get(row, "case")),
                    json_string_value(json_object_get(row, "text")));
    tokenizer_destroy(&t);
    vocab_close(&v);
    return failed;
}

static void every_stored_case_has_the_same_ids(void **state)
{
    (void)state;
    char path[5000], *line = NULL;
    size_t capacity = 0;
    int cases = 0, failed = 0;
    snprintf(path, sizeof path, "%s/data/tokenizer/wordpiece_golden.jsonl", shared);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        printf("skipped: %s absent\n", path);
        skip();
    }
    while (getline(&line, &capacity, f) > 0) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        failed += run_case(row);
        cases++;
        json_decref(row);
    }
    free(line);
    fclose(f);
    printf("%d cases, %d failed\n", cases, failed);
    assert_true(cases >= 70);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_stored_case_has_the_same_ids)};
    find_shared();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
