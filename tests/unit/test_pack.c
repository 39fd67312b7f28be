/* pack: text becomes shards that hold the tokenizer's ids and the labels, streaming, repeatably. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/dataset.h"
#include "io/file.h"
#include "io/inspect_data.h"
#include "io/pack.h"
#include "io/tokenizer.h"
#include "tests/support/shared_data.h"
#include "tests/support/test_dirs.h"

static struct vocab vocab;

static int open_vocab(void **state)
{
    static const char *const tokens[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                         "good",  "bad",   "film",  "a",     "b",
                                         "##s",   "the",   "app",   "is"};
    (void)state;
    return vocab_create(&vocab, tokens, sizeof tokens / sizeof tokens[0], vocab_flags_default(true),
                        "test") == MT_OK
               ? 0
               : -1;
}

static int close_vocab(void **state)
{
    (void)state;
    vocab_close(&vocab);
    return 0;
}

static mt_status pack_one(const struct pack_options *o, const char *file, const char *out,
                          struct pack_result *result)
{
    return pack_files(o, &vocab, &file, 1, out, result);
}

static struct dataset *open_folder(const char *dir)
{
    struct dataset *d = NULL;
    mt_status st = dataset_open(&d, "test", &dir, 1);
    if (st != MT_OK)
        fail_msg("%s", mt_error_peek()->message);
    return d;
}

static void expect_ids(const struct dataset *d, int64_t row, const int32_t *ids, int32_t count)
{
    int32_t found[64], types[64];
    assert_int_equal(dataset_length(d, row), count);
    assert_int_equal(dataset_read_rows(d, row, 1, found, types), MT_OK);
    assert_memory_equal(found, ids, (size_t)count * 4);
}

static const char two_tasks[] = "sentence\tcategory\tmood\n"
                                "Good films\tfact\tgood\n"
                                "the app is bad\tapp\tbad\n"
                                "zzz\t\tbad\n"
                                "a b\tfact\t \n";

static void two_tasks_on_one_sentence_and_missing_labels(void **state)
{
    (void)state;
    static const char *const moods[] = {"bad", "good"};
    struct pack_label labels[] = {{"category", "category", NULL, 0}, {"mood", "mood", moods, 2}};
    struct pack_options o = {.labels = labels, .label_count = 2, .max_tokens = 5};
    struct pack_result result;
    test_dir_remove();
    const char *out = test_path("packed");
    assert_int_equal(pack_one(&o, test_write_text("t.tsv", two_tasks), out, &result), MT_OK);
    assert_int_equal(result.rows, 4);
    assert_int_equal(result.unknown_tokens, 1);
    assert_int_equal(result.truncated_rows, 1);
    assert_int_equal(result.shard_count, 1);
    struct dataset *d = open_folder(out);
    expect_ids(d, 0, (int32_t[]){2, 5, 7, 10, 3}, 5);
    expect_ids(d, 1, (int32_t[]){2, 11, 12, 13, 3}, 5);
    expect_ids(d, 2, (int32_t[]){2, 1, 3}, 3);
    int32_t category = dataset_find_task(d, "category"), mood = dataset_find_task(d, "mood");
    static const int32_t expected[4][2] = {{1, 1}, {0, 0}, {-1, 0}, {1, -1}};
    for (int64_t row = 0; row < 4; row++) {
        assert_int_equal(dataset_label(d, category, row), expected[row][0]);
        assert_int_equal(dataset_label(d, mood, row), expected[row][1]);
    }
    assert_string_equal(dataset_task(d, category)->labels[1],
                        "fact"); /* learned names are sorted */
    assert_int_equal(dataset_labelled_rows(d, category), 3);
    assert_int_equal(dataset_check_labels(d, "mood", moods, 2), MT_OK);
    assert_int_equal(dataset_check_vocab(d, vocab_hash(&vocab), vocab.count, "v"), MT_OK);
    assert_int_equal(dataset_check_vocab(d, 1, vocab.count, "vocab.txt"), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "shard-00000.h5"));
    dataset_close(&d);
}

static void pairs_have_types_0_and_1(void **state)
{
    (void)state;
    struct pack_options o = {.text_column = "x", .pair_column = "y"};
    test_dir_remove();
    const char *out = test_path("packed");
    const char *file =
        test_write_text("p.jsonl", "{\"x\":\"good\",\"y\":\"a b\"}\n{\"x\":\"a\",\"y\":\"\"}\n");
    assert_int_equal(pack_one(&o, file, out, NULL), MT_OK);
    struct dataset *d = open_folder(out);
    int32_t ids[8], types[8];
    assert_true(dataset_has_types(d));
    assert_int_equal(dataset_length(d, 0), 6);
    assert_int_equal(dataset_read_rows(d, 0, 1, ids, types), MT_OK);
    assert_memory_equal(ids, ((int32_t[]){2, 5, 3, 8, 9, 3}), 24);
    assert_memory_equal(types, ((int32_t[]){0, 0, 0, 1, 1, 1}), 24);
    dataset_close(&d);
}

static void an_unknown_label_names_line_label_choices_and_the_nearest(void **state)
{
    (void)state;
    static const char *const moods[] = {"positive", "negative"};
    struct pack_label label = {"mood", "mood", moods, 2};
    struct pack_options o = {.labels = &label, .label_count = 1};
    test_dir_remove();
    const char *file = test_write_text("u.csv", "text,mood\n\"a\nb\",positive\nc,postive\n");
    assert_int_equal(pack_one(&o, file, test_path("packed"), NULL), MT_DATA);
    const char *message = mt_error_peek()->message;
    assert_non_null(strstr(message, "u.csv:4: "));
    assert_non_null(strstr(message, "\"postive\" is not a label of task \"mood\""));
    assert_non_null(strstr(message, "did you mean \"positive\"?"));
    assert_non_null(strstr(message, "\"positive\", \"negative\""));
    struct file_list list;
    assert_int_equal(file_list_read(&list, test_dir()), MT_OK);
    assert_int_equal(list.count, 1); /* the text alone */
    file_list_release(&list);
}

static void numbers_are_labels_by_their_text(void **state)
{
    (void)state;
    static const char *const names[] = {"0", "1"};
    struct pack_label label = {"mood", "1", names, 2};
    struct pack_options o = {.labels = &label, .label_count = 1, .format = {.headerless = true}};
    test_dir_remove();
    assert_int_equal(pack_one(&o, test_write_text("n.tsv", "a\t1\nb\t0\n"), test_path("x"), NULL),
                     MT_OK);
    struct dataset *d = open_folder(test_path("x"));
    assert_int_equal(dataset_label(d, 0, 0), 1);
    assert_int_equal(dataset_label(d, 0, 1), 0);
    dataset_close(&d);
    label.column = "label";
    o.format.headerless = false;
    assert_int_equal(pack_one(&o, test_write_text("n.jsonl", "{\"text\":\"a\",\"label\":1}\n"),
                              test_path("y"), NULL),
                     MT_OK);
}

static void what_cannot_be_packed_says_where_and_leaves_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *words;
        mt_status status;
    } list[] = {{"a.tsv", "text\tl\n", "no rows", MT_DATA},
                {"b.tsv", "", "is empty", MT_DATA},
                {"c.tsv", "txt\tl\na\tb\n", "no column \"text\"", MT_DATA},
                {"d.jsonl", "{\"text\":\"a\",\"l\":1}\n{\"l\":2}\n",
                 "d.jsonl:2: nothing under the key \"text\"", MT_DATA},
                {"e.jsonl", "{\"text\":\"a\",\"l\":[1]}\n", "e.jsonl:1: key \"l\" holds", MT_DATA},
                {"f.tsv", "text\tl\na\t\n", "has no label in any row", MT_DATA},
                {"g.tsv", "text\tl\na\tb\tc\n", "g.tsv:2: has 3 fields", MT_DATA},
                {"h.xyz", "text\tl\na\tb\n", "does not tell its format", MT_ARG}};
    struct pack_label label = {"t", "l", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        test_dir_remove();
        mt_status st =
            pack_one(&o, test_write_text(list[i].name, list[i].text), test_path("out"), NULL);
        assert_int_equal(st, list[i].status);
        if (strstr(mt_error_peek()->message, list[i].words) == NULL)
            fail_msg("\"%s\" not in \"%s\"", list[i].words, mt_error_peek()->message);
        assert_false(file_exists(test_path("out")));
    }
    test_dir_remove();
    const char *file = test_write_text("i.tsv", "text\tl\na\tb\n");
    assert_int_equal(file_make_dir(test_path("out/keep")), MT_OK);
    assert_int_equal(pack_one(&o, file, test_path("out"), NULL), MT_ARG);
    assert_true(file_exists(test_path("out/keep")));
    o.max_tokens = 2;
    assert_int_equal(pack_one(&o, file, test_path("o2"), NULL), MT_ARG);
}

/* `rows` rows of words of the vocabulary, some of them with bytes that are not UTF-8. */
static const char *write_many(const char *name, int rows)
{
    const char *path = test_path(name);
    FILE *f = fopen(path, "w");
    fputs("text\tmood\n", f);
    for (int i = 0; i < rows; i++) {
        for (int k = 0; k <= i % 13; k++)
            fprintf(f, "%s ",
                    k % 3 == 0    ? "good"
                    : k % 3 == 1  ? "films"
                    : i % 50 == 0 ? "\xFF"
                                  : "the");
        fprintf(f, "\t%s\n", i % 5 == 0 ? "" : i % 2 ? "yes" : "no");
    }
    fclose(f);
    return path;
}

static void hash_folder(const char *dir, uint64_t *hash)
{
    struct file_list list;
    struct hash64 sum;
    hash64_init(&sum, 0);
    assert_int_equal(file_list_read(&list, dir), MT_OK);
    for (int32_t i = 0; i < list.count; i++) {
        char *path;
        uint64_t one;
        assert_int_equal(file_path_join(&path, dir, list.names[i]), MT_OK);
        assert_int_equal(file_hash(&one, NULL, path), MT_OK);
        hash64_add_string(&sum, list.names[i]);
        hash64_add_int(&sum, (int64_t)one);
        mt_free(&path);
    }
    file_list_release(&list);
    *hash = hash64_value(&sum);
}

static void equal_input_gives_equal_bytes_and_the_cut_does_not_change_the_rows(void **state)
{
    (void)state;
    struct pack_label label = {"mood", "mood", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1, .shard_rows = 300};
    struct pack_result result;
    uint64_t a, b;
    int32_t x[64], y[64];
    test_dir_remove();
    const char *file = write_many("m.tsv", 1000);
    assert_int_equal(pack_one(&o, file, test_path("a"), &result), MT_OK);
    assert_int_equal(result.shard_count, 4);
    assert_true(result.replaced_bytes > 0);
    assert_int_equal(pack_one(&o, file, test_path("b"), NULL), MT_OK);
    hash_folder(test_path("a"), &a);
    hash_folder(test_path("b"), &b);
    assert_true(a == b);
    o.shard_rows = 0;
    o.shard_tokens = 2000;
    o.gzip_level = 4;
    assert_int_equal(pack_one(&o, file, test_path("c"), &result), MT_OK);
    assert_true(result.shard_count > 2);
    struct dataset *first = open_folder(test_path("a")), *second = open_folder(test_path("c"));
    assert_int_equal(dataset_rows(first), 1000);
    assert_int_equal(dataset_rows(second), 1000);
    for (int64_t row = 0; row < 1000; row++) {
        int32_t length = dataset_length(first, row);
        assert_int_equal(length, dataset_length(second, row));
        assert_int_equal(dataset_read_rows(first, row, 1, x, NULL), MT_OK);
        assert_int_equal(dataset_read_rows(second, row, 1, y, NULL), MT_OK);
        assert_memory_equal(x, y, (size_t)length * 4);
        assert_int_equal(dataset_label(first, 0, row), dataset_label(second, 0, row));
    }
    dataset_close(&first);
    dataset_close(&second);
}

static int64_t peak_of(int rows)
{
    struct pack_label label = {"mood", "mood", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1};
    struct mt_memory_stats stats;
    test_dir_remove();
    assert_int_equal(pack_one(&o, write_many("m.tsv", rows), test_path("out"), NULL), MT_OK);
    mt_memory_stats(&stats);
    assert_true(stats.peak_bytes > 0);
    return stats.peak_bytes;
}

static void memory_does_not_grow_with_the_file(void **state)
{
    (void)state;
    int64_t small = peak_of(1000), large = peak_of(100000);
    assert_true(large <= small + 4096);
}

static void the_key_changes_with_whatever_changes_the_shards(void **state)
{
    (void)state;
    static const char *const names[] = {"yes", "no"};
    struct pack_label label = {"mood", "mood", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1};
    uint64_t key[8];
    const char *file = test_write_text("k.tsv", "text\tmood\na\tyes\n");
    const char *same = test_write_text("k2.tsv", "text\tmood\na\tyes\n");
    assert_int_equal(pack_key(&o, &vocab, &file, 1, &key[0]), MT_OK);
    assert_int_equal(pack_key(&o, &vocab, &same, 1, &key[1]), MT_OK);
    assert_true(key[0] == key[1]);
    o.max_tokens = 9;
    assert_int_equal(pack_key(&o, &vocab, &file, 1, &key[1]), MT_OK);
    o.max_tokens = 0;
    label.names = names;
    label.name_count = 2;
    assert_int_equal(pack_key(&o, &vocab, &file, 1, &key[2]), MT_OK);
    label.names = NULL;
    o.format.bad_bytes = TEXT_ERROR;
    assert_int_equal(pack_key(&o, &vocab, &file, 1, &key[3]), MT_OK);
    o.format.bad_bytes = TEXT_REPLACE;
    file = test_write_text("k.tsv", "text\tmood\nb\tyes\n");
    assert_int_equal(pack_key(&o, &vocab, &file, 1, &key[4]), MT_OK);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_true(key[i] != key[j]);
}

static void whichever_call_fails_the_folder_is_absent_or_whole(void **state)
{
    (void)state;
    struct pack_label label = {"mood", "mood", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1};
    struct mt_memory_stats before, after;
    test_dir_remove();
    (void)test_write_text("w.tsv", "text\tmood\na\tyes\nb\tno\n");
    mt_memory_stats(&before);
    for (int kind = 0; kind < 2; kind++) {
        mt_status st = MT_BUG;
        for (int64_t n = 1; st != MT_OK; n++) {
            kind == 0 ? file_fail_after(n) : mt_memory_fail_after(n);
            st = pack_one(&o, test_path("w.tsv"), test_path("out"), NULL);
            file_fail_after(0);
            mt_memory_fail_after(0);
            assert_true(st == MT_OK || st == (kind == 0 ? MT_IO : MT_NOMEM));
            if (file_exists(test_path("out"))) {
                struct dataset *d = open_folder(test_path("out"));
                assert_int_equal(dataset_rows(d), 2);
                dataset_close(&d);
                assert_int_equal(file_remove(test_path("out")), MT_OK);
            }
        }
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void count_progress(void *context, int64_t done, int64_t total, int64_t rows)
{
    int64_t *last = context;
    assert_true(done >= last[0] && done <= total && rows >= last[1]);
    last[0] = done;
    last[1] = rows;
    last[2] = total;
}

static void progress_rises_to_the_end(void **state)
{
    (void)state;
    int64_t last[3] = {0, 0, 0};
    struct pack_options o = {.progress = count_progress, .progress_context = last};
    test_dir_remove();
    const char *files[] = {write_many("a.tsv", 2000), write_many("b.tsv", 700)};
    assert_int_equal(pack_files(&o, &vocab, files, 2, test_path("out"), NULL), MT_OK);
    assert_int_equal(last[0], last[2]);
    assert_int_equal(last[1], 2700);
}

static void the_report_shows_counts_lengths_and_balance(void **state)
{
    (void)state;
    struct pack_label label = {"mood", "mood", NULL, 0};
    struct pack_options o = {.labels = &label, .label_count = 1, .shard_rows = 400};
    char *text;
    int64_t count;
    test_dir_remove();
    assert_int_equal(pack_one(&o, write_many("m.tsv", 1000), test_path("out"), NULL), MT_OK);
    assert_true(inspect_data_is(test_path("out")));
    assert_true(inspect_data_is(test_path("out/shard-00001.h5")));
    assert_false(inspect_data_is(test_path("m.tsv")));
    FILE *f = fopen(test_path("report"), "w");
    assert_int_equal(inspect_data_print(f, test_path("out"), true), MT_OK);
    fclose(f);
    assert_int_equal(file_read(&text, &count, test_path("report"), 1 << 20), MT_OK);
    static const char *const words[] = {"shards             3",
                                        "rows               1000",
                                        "task mood: 2 labels, 800 rows labelled, 200 without",
                                        "unknown tokens     0",
                                        "content hash",
                                        "source "};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(text, words[i]) == NULL)
            fail_msg("\"%s\" not in\n%s", words[i], text);
    mt_free(&text);
}

static void public_data_sets_are_packed_whole(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(vocab_path, "data/vocab/bert-base-uncased-vocab.txt");
    SHARED_DATA_OR_SKIP(sst, "data/sst2/dev.tsv");
    SHARED_DATA_OR_SKIP(trec, "data/trec/TREC.test.all");
    SHARED_DATA_OR_SKIP(banking, "data/banking77/test.csv");
    SHARED_DATA_OR_SKIP(cite, "data/sci-cite/dev.txt");
    struct {
        const char *path, *text, *label;
        struct text_format format;
        int64_t rows;
        int32_t classes;
    } list[] = {{sst, "0", "1", {.headerless = true}, 872, 2},
                {trec, "1", "0", {.headerless = true, .delimiter = ' '}, 500, 6},
                {banking, "text", "category", {0}, 3080, 77},
                {cite, NULL, "label", {.kind = TEXT_JSONL}, 916, 3}};
    struct vocab v;
    assert_int_equal(vocab_open(&v, vocab_path, VOCAB_CASE_LOWER), MT_OK);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct pack_label label = {"task", list[i].label, NULL, 0};
        struct pack_options o = {.text_column = list[i].text,
                                 .labels = &label,
                                 .label_count = 1,
                                 .max_tokens = 128,
                                 .format = list[i].format};
        test_dir_remove();
        mt_status st = pack_files(&o, &v, &list[i].path, 1, test_path("out"), NULL);
        if (st != MT_OK)
            fail_msg("%s", mt_error_peek()->message);
        struct dataset *d = open_folder(test_path("out"));
        uint64_t hash;
        assert_int_equal(dataset_rows(d), list[i].rows);
        assert_int_equal(dataset_task(d, 0)->classes, list[i].classes);
        assert_int_equal(dataset_labelled_rows(d, 0), list[i].rows);
        assert_int_equal(dataset_content_hash(d, &hash), MT_OK);
        dataset_close(&d);
    }
    vocab_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_does_not_grow_with_the_file), /* first: the peak never falls */
        cmocka_unit_test(two_tasks_on_one_sentence_and_missing_labels),
        cmocka_unit_test(pairs_have_types_0_and_1),
        cmocka_unit_test(an_unknown_label_names_line_label_choices_and_the_nearest),
        cmocka_unit_test(numbers_are_labels_by_their_text),
        cmocka_unit_test(what_cannot_be_packed_says_where_and_leaves_nothing),
        cmocka_unit_test(equal_input_gives_equal_bytes_and_the_cut_does_not_change_the_rows),
        cmocka_unit_test(the_key_changes_with_whatever_changes_the_shards),
        cmocka_unit_test(whichever_call_fails_the_folder_is_absent_or_whole),
        cmocka_unit_test(progress_rises_to_the_end),
        cmocka_unit_test(the_report_shows_counts_lengths_and_balance),
        cmocka_unit_test(public_data_sets_are_packed_whole),
    };
    return cmocka_run_group_tests_name("pack", tests, open_vocab, close_vocab);
}
