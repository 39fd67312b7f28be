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
#include "io/embeddings.h"
#include "io/file.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

enum { ROWS = 37, DIM = 5 };

static float data[ROWS * DIM];
static int32_t labels[ROWS];

static int make_data(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS * DIM; i++)
        data[i] = (float)i / 7.0f - 3.25f;
    for (int i = 0; i < ROWS; i++)
        labels[i] = i % 4 - 1;
    return 0;
}

static const char *const CLASSES[] = {"yes", "no", "ma\"ybe"};
static const struct embeddings_task TASK = {"mood", CLASSES, 3};
static const struct embeddings_plan PLAIN = {.rows = ROWS, .dim = DIM};
static const struct embeddings_plan LABELLED = {
    .rows = ROWS, .dim = DIM, .tasks = &TASK, .task_count = 1, .model = "m", .pooling = "mean"};

/* Writes all rows in blocks, from the last block to the first where the format allows. */
static mt_status write_all(const char *path, const struct embeddings_plan *plan, bool backwards)
{
    struct embeddings_writer *w = NULL;
    mt_status st;
    MT_TRY_GOTO(st, embeddings_create(&w, path, plan), done);
    for (int block = 0; block < 4; block++) {
        int first = 10 * (backwards ? 3 - block : block),
            count = ROWS - first < 10 ? ROWS - first : 10;
        MT_TRY_GOTO(st, embeddings_write_rows(w, first, count, data + first * DIM), done);
        if (plan->task_count > 0)
            MT_TRY_GOTO(st, embeddings_write_labels(w, 0, first, count, labels + first), done);
    }
    MT_TRY_GOTO(st, embeddings_commit(w), done);
done:
    embeddings_discard(&w);
    return st;
}

static void check_rows(const char *path)
{
    struct embeddings *e;
    float back[ROWS * DIM], some[3 * DIM];
    expect_ok(embeddings_open(&e, path));
    assert_int_equal(embeddings_rows(e), ROWS);
    assert_int_equal(embeddings_dim(e), DIM);
    expect_ok(embeddings_read_rows(e, 0, ROWS, back));
    assert_memory_equal(back, data, sizeof data);
    expect_ok(embeddings_read_rows(e, 33, 3, some));
    assert_memory_equal(some, data + 33 * DIM, sizeof some);
    expect_ok(embeddings_read_rows(e, ROWS, 0, some));
    assert_int_equal(embeddings_read_rows(e, 35, 3, back), MT_ARG);
    assert_int_equal(embeddings_read_rows(e, -1, 3, back), MT_ARG);
    assert_int_equal(embeddings_read_rows(e, INT64_MAX, 1, back), MT_ARG);
    embeddings_close(&e);
}

static void blocks_in_any_order_read_back_in_input_order(void **state)
{
    (void)state;
    expect_ok(write_all(test_path("e.h5"), &PLAIN, true));
    check_rows(test_path("e.h5"));
    expect_ok(write_all(test_path("e.npy"), &PLAIN, true));
    check_rows(test_path("e.npy"));
}

static void labels_and_class_names_come_back(void **state)
{
    (void)state;
    struct embeddings *e;
    int32_t back[ROWS];
    const char *path = test_path("l.h5");
    expect_ok(write_all(path, &LABELLED, true));
    check_rows(path);
    expect_ok(embeddings_open(&e, path));
    assert_int_equal(embeddings_task_count(e), 1);
    assert_string_equal(embeddings_task_name(e, 0), "mood");
    assert_int_equal(embeddings_class_count(e, 0), 3);
    assert_string_equal(embeddings_class_name(e, 0, 2), "ma\"ybe");
    assert_string_equal(embeddings_class_name(e, 0, 3), "");
    expect_ok(embeddings_read_labels(e, 0, 0, ROWS, back));
    assert_memory_equal(back, labels, sizeof labels);
    assert_int_equal(embeddings_read_labels(e, 1, 0, 1, back), MT_ARG);
    embeddings_close(&e);
}

static void labels_beyond_the_classes_are_refused(void **state)
{
    (void)state;
    static const int32_t wild[] = {3, -2, INT32_MAX, INT32_MIN};
    struct embeddings *e;
    int32_t back[ROWS], kept = labels[12];
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        labels[12] = wild[i];
        expect_ok(write_all(test_path("w.h5"), &LABELLED, true));
        expect_ok(embeddings_open(&e, test_path("w.h5")));
        assert_int_equal(embeddings_read_labels(e, 0, 0, ROWS, back), MT_DATA);
        expect_ok(embeddings_read_labels(e, 0, 13, ROWS - 13, back));
        embeddings_close(&e);
    }
    labels[12] = kept;
}

static void text_holds_every_float_exactly_and_in_order(void **state)
{
    (void)state;
    struct embeddings_writer *w;
    char *text;
    int64_t bytes;
    const char *path = test_path("e.tsv");
    expect_ok(write_all(path, &PLAIN, false));
    expect_ok(file_read(&text, &bytes, path, 1 << 20));
    char *at = text;
    for (int i = 0; i < ROWS * DIM; i++) {
        assert_true(strtof(at, &at) == data[i]);
        assert_int_equal(*at++, i % DIM == DIM - 1 ? '\n' : '\t');
    }
    assert_int_equal(at - text, bytes);
    mt_free(&text);
    expect_ok(embeddings_create(&w, path, &PLAIN));
    assert_int_equal(embeddings_write_rows(w, 10, 10, data), MT_BUG);
    embeddings_discard(&w);
}

static void nothing_is_visible_before_the_commit(void **state)
{
    (void)state;
    static const char *const names[] = {"v.h5", "v.npy", "v.tsv"};
    for (int i = 0; i < 3; i++) {
        struct embeddings_writer *w;
        expect_ok(embeddings_create(&w, test_path(names[i]), &PLAIN));
        expect_ok(embeddings_write_rows(w, 0, 10, data));
        assert_false(file_exists(test_path(names[i])));
        expect_fail(embeddings_commit(w), MT_BUG, "10 of 37");
        embeddings_discard(&w);
        assert_false(file_exists(test_path(names[i])));
    }
    struct file_list list;
    expect_ok(file_list_read(&list, test_dir()));
    for (int32_t i = 0; i < list.count; i++)
        assert_null(strstr(list.names[i], ".tmp"));
    file_list_release(&list);
}

static void empty_and_impossible_sizes(void **state)
{
    (void)state;
    static const char *const names[] = {"z.h5", "z.npy"};
    const struct embeddings_plan none = {.rows = 0, .dim = 8};
    const struct embeddings_plan huge = {.rows = INT64_MAX, .dim = 8};
    struct embeddings_writer *w;
    for (int i = 0; i < 2; i++) {
        struct embeddings *e;
        expect_ok(embeddings_create(&w, test_path(names[i]), &none));
        expect_ok(embeddings_commit(w));
        embeddings_discard(&w);
        expect_ok(embeddings_open(&e, test_path(names[i])));
        assert_int_equal(embeddings_rows(e), 0);
        embeddings_close(&e);
        assert_int_equal(embeddings_create(&w, test_path(names[i]), &huge), MT_ARG);
    }
    expect_fail(embeddings_create(&w, test_path("x.csv"), &none), MT_ARG, ".npy");
    expect_fail(embeddings_create(&w, test_path("x.npy"), &LABELLED), MT_ARG, "labels");
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"d.npy", "d.h5"};
    for (int k = 0; k < 2; k++) {
        char *text;
        int64_t bytes;
        expect_ok(write_all(test_path(names[k]), k == 1 ? &LABELLED : &PLAIN, true));
        expect_ok(file_read(&text, &bytes, test_path(names[k]), 1 << 20));
        for (int64_t n = 0; n < bytes; n += k == 0 ? 1 : 37) {
            struct embeddings *e;
            const char *cut = test_write_file(k == 0 ? "cut.npy" : "cut.h5", text, n);
            mt_status st = embeddings_open(&e, cut);
            if (k == 0)
                assert_int_equal(st, MT_DATA);
            if (st == MT_OK)
                embeddings_close(&e);
        }
        mt_free(&text);
    }
}

static void a_flipped_bit_of_an_h5_file_never_crashes(void **state)
{
    (void)state;
    char *text;
    int64_t bytes, refused = 0;
    expect_ok(write_all(test_path("b.h5"), &LABELLED, true));
    expect_ok(file_read(&text, &bytes, test_path("b.h5"), 1 << 20));
    for (int64_t at = 0; at < bytes; at++) {
        struct embeddings *e;
        static float rows[ROWS * DIM];
        text[at] = (char)(text[at] ^ (1 << at % 8));
        mt_status st = embeddings_open(&e, test_write_file("flip.h5", text, bytes));
        text[at] = (char)(text[at] ^ (1 << at % 8));
        if (st == MT_OK) {
            if (embeddings_rows(e) == ROWS && embeddings_dim(e) == DIM)
                st = embeddings_read_rows(e, 0, ROWS, rows);
            embeddings_close(&e);
        }
        assert_true(st == MT_OK || st == MT_DATA || st == MT_IO);
        refused += st != MT_OK;
    }
    assert_true(refused > 0);
    mt_free(&text);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dict, *part;
    } bad[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2), }", "'>f4'"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", "C order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "make no sense"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "make no sense"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", "two dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }", "make no sense"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2147483647), }",
         "make no sense"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }", "its header says"},
        {"{'descr': '<f4', 'fortran_order': False}", "NumPy"},
        {"", "NumPy"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char bytes[512] = "\x93NUMPY\x01\x00\x76\x00";
        struct embeddings *e;
        bytes[7] = 0;
        bytes[8] = 0x76;
        bytes[9] = 0;
        memset(bytes + 10, ' ', 118);
        memcpy(bytes + 10, bad[i].dict, strlen(bad[i].dict));
        expect_fail(embeddings_open(&e, test_write_file("h.npy", bytes, 136)), MT_DATA,
                    bad[i].part);
    }
    struct embeddings *e;
    expect_fail(embeddings_open(&e, test_write_text("h.tsv", "1\t2\n")), MT_ARG, ".h5 or .npy");
    expect_fail(embeddings_open(&e, test_path("absent.h5")), MT_DATA, "absent.h5");
    expect_fail(embeddings_open(&e, test_path("absent.npy")), MT_DATA, "absent.npy");
}

static void every_fault_leaves_no_file_or_all_of_it(void **state)
{
    (void)state;
    static const char *const names[] = {"f.h5", "f.npy", "f.tsv"};
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int k = 0; k < 6; k++) {
        bool clean = false;
        for (int64_t n = 1; !clean && n < 200; n++) {
            const char *path = test_path(names[k % 3]);
            expect_ok(file_remove(path));
            if (k < 3)
                file_fail_after(n);
            else
                mt_memory_fail_after(n);
            mt_status st = write_all(path, &PLAIN, k % 3 != 2);
            file_fail_after(0);
            mt_memory_fail_after(0);
            clean = st == MT_OK;
            if (file_exists(path) && k % 3 != 2)
                check_rows(path);
        }
        assert_true(clean);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void numpy_reads_the_file(void **state)
{
    (void)state;
    char command[2 * TEST_PATH_BYTES];
    if (system("/usr/bin/python3 -c 'import numpy' 2>/dev/null") != 0) {
        printf("skipped: numpy absent\n");
        skip();
    }
    expect_ok(write_all(test_path("n.npy"), &PLAIN, true));
    (void)snprintf(command, sizeof command,
                   "/usr/bin/python3 -c \"import numpy as n; a = n.load('%s'); b = (n.arange(185, "
                   "dtype=n.float32) / n.float32(7) - n.float32(3.25)).reshape(37, 5); "
                   "assert a.dtype == n.float32 and (a == b).all()\"",
                   test_path("n.npy"));
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_in_any_order_read_back_in_input_order),
        cmocka_unit_test(labels_and_class_names_come_back),
        cmocka_unit_test(labels_beyond_the_classes_are_refused),
        cmocka_unit_test(text_holds_every_float_exactly_and_in_order),
        cmocka_unit_test(nothing_is_visible_before_the_commit),
        cmocka_unit_test(empty_and_impossible_sizes),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(a_flipped_bit_of_an_h5_file_never_crashes),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(every_fault_leaves_no_file_or_all_of_it),
        cmocka_unit_test(numpy_reads_the_file),
    };
    return cmocka_run_group_tests(tests, make_data, NULL);
}
