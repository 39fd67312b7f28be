/* dataset: several shards are one row space, and shards that do not belong together are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/dataset.h"
#include "io/file.h"
#include "tests/support/test_dirs.h"

static char *names[] = {"no", "yes", "maybe"};

/* Row i of the data set: tokens i, i+1, ... of length 1 + i % 7, label i % 3 - 1. */
static void write_rows(const char *path, int64_t first, int64_t count, uint64_t vocab_hash,
                       int32_t classes)
{
    struct shard_task task = {"mood", classes, names};
    struct shard_info info = {
        .vocab_size = 50000, .vocab_hash = vocab_hash, .task_count = 1, .tasks = &task};
    struct shard_writer *w = NULL;
    assert_int_equal(shard_writer_open(&w, path, &info, 0), MT_OK);
    for (int64_t i = first; i < first + count; i++) {
        int32_t ids[7], label = (int32_t)(i % 3) - 1;
        for (int32_t k = 0; k < 7; k++)
            ids[k] = (int32_t)((i + k) % 50000);
        struct shard_row row = {ids, NULL, &label, 1 + (int32_t)(i % 7), 0, 0, false};
        assert_int_equal(shard_writer_append(w, &row), MT_OK);
    }
    assert_int_equal(shard_writer_commit(&w, NULL), MT_OK);
}

static void write_three(void)
{
    test_dir_remove();
    write_rows(test_path("x-1.h5"), 0, 100, 7, 2);
    write_rows(test_path("x-2.h5"), 100, 1, 7, 2);
    write_rows(test_path("x-3.h5"), 101, 60, 7, 2);
}

static void expect_all(const struct dataset *d, int64_t rows)
{
    int32_t ids[7];
    assert_int_equal(dataset_rows(d), rows);
    for (int64_t i = 0; i < rows; i++) {
        assert_int_equal(dataset_length(d, i), 1 + i % 7);
        assert_int_equal(dataset_label(d, 0, i), i % 3 - 1);
        assert_int_equal(dataset_read_rows(d, i, 1, ids, NULL), MT_OK);
        assert_int_equal(ids[0], i);
    }
}

static void files_globs_and_folders_give_the_same_rows_in_order(void **state)
{
    (void)state;
    write_three();
    const char *files[] = {test_path("x-1.h5"), test_path("x-2.h5"), test_path("x-3.h5")};
    const char *pattern = test_path("x-?.h5"), *folder = test_dir();
    struct {
        const char *const *paths;
        int32_t count;
    } ways[] = {{files, 3}, {&pattern, 1}, {&folder, 1}};
    uint64_t first = 0, hash;
    for (int i = 0; i < 3; i++) {
        struct dataset *d = NULL;
        assert_int_equal(dataset_open(&d, "x", ways[i].paths, ways[i].count), MT_OK);
        assert_int_equal(dataset_shard_count(d), 3);
        expect_all(d, 161);
        assert_int_equal(dataset_content_hash(d, &hash), MT_OK);
        first = i == 0 ? hash : first;
        assert_true(hash == first);
        dataset_close(&d);
    }
}

static void rows_are_read_across_shards(void **state)
{
    (void)state;
    static int32_t ids[161 * 7], types[161 * 7];
    struct dataset *d = NULL;
    write_three();
    const char *folder = test_dir();
    assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_OK);
    assert_int_equal(dataset_read_rows(d, 98, 5, ids, types), MT_OK);
    int64_t at = 0;
    for (int64_t row = 98; row < 103; row++)
        for (int32_t k = 0; k < dataset_length(d, row); k++)
            assert_int_equal(ids[at++], row + k);
    assert_int_equal(dataset_read_rows(d, 160, 2, ids, types), MT_ARG);
    char where[256];
    dataset_locate(d, 103, where, sizeof where);
    assert_non_null(strstr(where, "x-3.h5: row 2"));
    dataset_close(&d);
}

static void a_batch_is_filled_row_by_row_and_says_when_it_is_full(void **state)
{
    (void)state;
    struct dataset *d = NULL;
    struct batch b;
    write_three();
    const char *folder = test_dir();
    assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_OK);
    assert_int_equal(batch_create(&b, 3, 20, 2), MT_OK);
    assert_int_equal(dataset_append(d, &b, 4, 6), MT_OK);   /* 7 tokens */
    assert_int_equal(dataset_append(d, &b, 4, 101), MT_OK); /* 4 */
    assert_int_equal(b.B, 2);
    assert_int_equal(b.N, 11);
    assert_int_equal(b.offsets[0], 0);
    assert_int_equal(b.offsets[1], 7);
    assert_int_equal(b.offsets[2], 11);
    assert_int_equal(b.ids[7], 101);
    assert_true(b.sample[1] == ((int64_t)4 << 40 | 101));
    assert_int_equal(batch_labels(&b, 1)[1], -1);
    assert_int_equal(dataset_append(d, &b, 4, 161), MT_ARG);
    assert_int_equal(dataset_append(d, &b, 4, 6), MT_OK);
    assert_int_equal(dataset_append(d, &b, 4, 0), MT_BUG);
    batch_destroy(&b);
    dataset_close(&d);
}

static void shards_that_differ_are_refused_by_name(void **state)
{
    (void)state;
    struct dataset *d = NULL;
    write_three();
    const char *folder = test_dir();
    write_rows(test_path("x-2.h5"), 100, 1, 8, 2);
    assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "x-2.h5 have different vocabularies"));
    write_rows(test_path("x-2.h5"), 100, 1, 7, 3);
    assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "different tasks or label names"));
    assert_null(d);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    struct dataset *d = NULL;
    test_dir_remove();
    const char *paths[] = {test_path("none-*.h5"), test_path("none.h5"), test_dir()};
    assert_int_equal(dataset_open(&d, "x", &paths[0], 1), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "none-*.h5: no file matches"));
    assert_int_equal(dataset_open(&d, "x", &paths[1], 1), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "none.h5"));
    assert_int_equal(dataset_open(&d, "x", &paths[2], 1), MT_DATA);
    assert_int_equal(dataset_open(&d, "x", NULL, 0), MT_DATA);
}

static void other_labels_than_the_job_s_are_refused(void **state)
{
    (void)state;
    struct dataset *d = NULL;
    static const char *const same[] = {"no", "yes"}, *const turned[] = {"yes", "no"};
    write_three();
    const char *folder = test_dir();
    assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_OK);
    assert_int_equal(dataset_check_labels(d, "mood", same, 2), MT_OK);
    assert_int_equal(dataset_check_labels(d, "mood", turned, 2), MT_DATA);
    assert_int_equal(dataset_check_labels(d, "mood", same, 1), MT_DATA);
    assert_int_equal(dataset_check_labels(d, "topic", same, 2), MT_DATA);
    dataset_close(&d);
}

static void a_manifest_that_lies_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[",
        "{\"format\":\"mttrain-shards\",\"version\":1,\"shards\":[]}",
        "{\"format\":\"mttrain-shards\",\"version\":2,\"shards\":[]}",
        "{\"format\":\"mttrain-shards\",\"version\":1,\"shards\":[{\"file\":\"../x\",\"rows\":1,"
        "\"tokens\":1,\"size_bytes\":1,\"hash\":\"0000000000000000\"}]}",
        "{\"format\":\"mttrain-shards\",\"version\":1,\"shards\":[{\"file\":\"x-1.h5\",\"rows\":"
        "100,"
        "\"tokens\":1,\"size_bytes\":1,\"hash\":\"0000000000000000\"}]}"};
    struct dataset *d = NULL;
    write_three();
    const char *folder = test_dir();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        test_write_text("manifest.json", texts[i]);
        assert_int_equal(dataset_open(&d, "x", &folder, 1), MT_DATA);
    }
}

static void random_rows_are_cheap_and_allocate_nothing(void **state)
{
    (void)state;
    enum { ROWS = 20000, READS = 6400 };
    struct dataset *d = NULL;
    struct mt_memory_stats before, after;
    int32_t ids[7], types[7];
    test_dir_remove();
    write_rows(test_path("y.h5"), 0, ROWS, 7, 2);
    const char *folder = test_dir();
    assert_int_equal(dataset_open(&d, "y", &folder, 1), MT_OK);
    mt_memory_stats(&before);
    double start = clock_now_s();
    for (uint32_t i = 0; i < READS; i++) {
        int64_t row = rng_philox(9, i, 0, 0, 0).v[0] % ROWS;
        assert_int_equal(dataset_read_rows(d, row, 1, ids, types), MT_OK);
    }
    print_message("64 random rows: %.1f us\n", (clock_now_s() - start) / (READS / 64) * 1e6);
    mt_memory_stats(&after);
    assert_int_equal(before.allocations, after.allocations);
    dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_globs_and_folders_give_the_same_rows_in_order),
        cmocka_unit_test(rows_are_read_across_shards),
        cmocka_unit_test(a_batch_is_filled_row_by_row_and_says_when_it_is_full),
        cmocka_unit_test(shards_that_differ_are_refused_by_name),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(other_labels_than_the_job_s_are_refused),
        cmocka_unit_test(a_manifest_that_lies_is_refused),
        cmocka_unit_test(random_rows_are_cheap_and_allocate_nothing),
    };
    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
