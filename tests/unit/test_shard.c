/* shard: what is written is read back, in any layout, and a damaged file is an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <hdf5.h>
#include <pthread.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/file.h"
#include "io/h5_lock.h"
#include "io/shard.h"
#include "tests/support/test_dirs.h"

enum { VOCAB = 1000, ROW_MAX = 40 };

static char *mood_names[] = {"bad", "fine", "good"};
static char *topic_names[] = {"a", "b\xC3\xA9", "c d", "e"};

/* Row i of the reference data. */
static int32_t row_length(int64_t i)
{
    return 1 + (int32_t)(rng_philox(1, (uint32_t)i, 0, 0, 0).v[0] % ROW_MAX);
}

static int32_t row_id(int64_t i, int32_t k, int32_t vocab)
{
    return (int32_t)(rng_philox(2, (uint32_t)i, (uint32_t)k, 0, 0).v[0] % (uint32_t)vocab);
}

static int32_t row_label(int64_t i, int32_t task, int32_t classes)
{
    return (int32_t)(rng_philox(3, (uint32_t)i, (uint32_t)task, 0, 0).v[0] %
                     (uint32_t)(classes + 1)) -
           1;
}

static void fill_row(int64_t i, int32_t vocab, int32_t *ids, int32_t *types)
{
    for (int32_t k = 0; k < row_length(i); k++) {
        ids[k] = row_id(i, k, vocab);
        types[k] = k > row_length(i) / 2;
    }
}

/* Two tasks, written in the order "topic", "mood". */
static mt_status write_shard(const char *path, int64_t rows, int32_t vocab, bool types, int gzip)
{
    struct shard_task tasks[2] = {{"topic", 4, topic_names}, {"mood", 3, mood_names}};
    struct shard_info info = {.vocab_size = vocab,
                              .vocab_hash = 0x1234,
                              .source_hash = 0x99,
                              .max_tokens = ROW_MAX,
                              .has_types = types,
                              .tokenizer = "lowercase=1",
                              .task_count = 2,
                              .tasks = tasks};
    struct shard_writer *w = NULL;
    int32_t ids[ROW_MAX], kinds[ROW_MAX], labels[2];
    mt_status st = shard_writer_open(&w, path, &info, gzip);
    for (int64_t i = 0; i < rows && st == MT_OK; i++) {
        fill_row(i, vocab, ids, kinds);
        labels[0] = row_label(i, 0, 4);
        labels[1] = row_label(i, 1, 3);
        struct shard_row row = {ids,       types ? kinds : NULL, labels, row_length(i), i % 2, 1,
                                i % 3 == 0};
        st = shard_writer_append(w, &row);
    }
    if (st == MT_OK)
        st = shard_writer_commit(&w, NULL);
    shard_writer_discard(&w);
    return st;
}

static void expect_rows(const struct shard *s, int64_t rows, int32_t vocab, bool types)
{
    int32_t ids[ROW_MAX], kinds[ROW_MAX], expected[ROW_MAX], expected_kinds[ROW_MAX];
    int32_t mood = shard_find_task(s, "mood"), topic = shard_find_task(s, "topic");
    assert_int_equal(shard_rows(s), rows);
    assert_int_equal(mood, 0); /* sorted by name */
    assert_int_equal(topic, 1);
    for (int64_t n = 0; n < rows; n++) {
        int64_t i = (n * 7919) % rows;
        fill_row(i, vocab, expected, expected_kinds);
        assert_int_equal(shard_length(s, i), row_length(i));
        assert_int_equal(shard_read_rows(s, i, 1, ids, kinds), MT_OK);
        assert_memory_equal(ids, expected, (size_t)row_length(i) * 4);
        for (int32_t k = 0; k < row_length(i); k++)
            assert_int_equal(kinds[k], types ? expected_kinds[k] : 0);
        assert_int_equal(shard_label(s, topic, i), row_label(i, 0, 4));
        assert_int_equal(shard_label(s, mood, i), row_label(i, 1, 3));
    }
}

static void every_row_is_read_back_whatever_the_layout(void **state)
{
    (void)state;
    uint64_t first = 0;
    for (int kind = 0; kind < 4; kind++) {
        bool types = kind % 2 == 1;
        int gzip = kind / 2 * 6;
        const char *path = test_path("a.h5");
        struct shard *s = NULL;
        uint64_t hash;
        assert_int_equal(write_shard(path, 3000, VOCAB, types, gzip), MT_OK);
        assert_int_equal(shard_open(&s, path), MT_OK);
        expect_rows(s, 3000, VOCAB, types);
        const struct shard_info *info = shard_info_of(s);
        assert_true(info->has_types == types && info->compressed == (gzip > 0));
        assert_int_equal(info->vocab_size, VOCAB);
        assert_true(info->vocab_hash == 0x1234 && info->source_hash == 0x99);
        assert_int_equal(info->max_tokens, ROW_MAX);
        assert_int_equal(info->unknown_tokens, 1500);
        assert_int_equal(info->truncated_rows, 1000);
        assert_int_equal(info->replaced_bytes, 3000);
        assert_string_equal(info->tokenizer, "lowercase=1");
        assert_string_equal(info->tasks[1].labels[1], "b\xC3\xA9");
        assert_int_equal(shard_content_hash(s, &hash), MT_OK);
        assert_true(hash == info->content_hash && hash != 0);
        if (kind == 0)
            first = hash;
        assert_true((hash == first) == !types); /* of the content, not of its layout */
        shard_close(&s);
    }
}

static void a_large_vocabulary_takes_wider_ids(void **state)
{
    (void)state;
    const char *path = test_path("wide.h5");
    struct shard *s = NULL;
    for (int gzip = 0; gzip < 2; gzip++) {
        assert_int_equal(write_shard(path, 300, 250000, false, gzip), MT_OK);
        assert_int_equal(shard_open(&s, path), MT_OK);
        expect_rows(s, 300, 250000, false);
        shard_close(&s);
    }
}

static void many_rows_at_once_are_one_after_the_other(void **state)
{
    (void)state;
    enum { ROWS = 1200 };
    static int32_t ids[ROWS * ROW_MAX], types[ROWS * ROW_MAX];
    struct shard *s = NULL;
    assert_int_equal(write_shard(test_path("b.h5"), ROWS, VOCAB, true, 0), MT_OK);
    assert_int_equal(shard_open(&s, test_path("b.h5")), MT_OK);
    assert_int_equal(shard_read_rows(s, 0, ROWS, ids, types), MT_OK);
    for (int64_t i = 0; i < ROWS; i++)
        for (int32_t k = 0; k < row_length(i); k++)
            assert_int_equal(ids[shard_offset(s, i) + k], row_id(i, k, VOCAB));
    assert_int_equal(shard_read_rows(s, ROWS - 1, 2, ids, NULL), MT_ARG);
    assert_int_equal(shard_read_rows(s, -1, 1, ids, NULL), MT_ARG);
    assert_int_equal(shard_read_rows(s, INT64_MAX, 1, ids, NULL), MT_ARG);
    shard_close(&s);
}

static void equal_rows_give_equal_bytes(void **state)
{
    (void)state;
    uint64_t a, b;
    assert_int_equal(write_shard(test_path("c1.h5"), 500, VOCAB, true, 0), MT_OK);
    clock_sleep_s(1.1); /* were times stored, they would differ */
    assert_int_equal(write_shard(test_path("c2.h5"), 500, VOCAB, true, 0), MT_OK);
    assert_int_equal(file_hash(&a, NULL, test_path("c1.h5")), MT_OK);
    assert_int_equal(file_hash(&b, NULL, test_path("c2.h5")), MT_OK);
    assert_true(a == b);
}

static void ten_thousand_labels_and_64_tasks_fit(void **state)
{
    (void)state;
    enum { K = 10000 };
    static char text[K][40];
    static char *names[K];
    static struct shard_task tasks[SHARD_TASKS_MAX];
    int32_t labels[SHARD_TASKS_MAX], id = 5;
    for (int k = 0; k < K; k++) {
        snprintf(text[k], sizeof text[k], "a label with a long name %d", k);
        names[k] = text[k];
    }
    for (int t = 0; t < SHARD_TASKS_MAX; t++) {
        snprintf(tasks[t].name, sizeof tasks[t].name, "task%02d", t);
        tasks[t].classes = t == 0 ? K : 200;
        tasks[t].labels = names;
        labels[t] = t == 0 ? K - 1 : t;
    }
    struct shard_info info = {.vocab_size = 10, .task_count = SHARD_TASKS_MAX, .tasks = tasks};
    struct shard_writer *w = NULL;
    struct shard_row row = {&id, NULL, labels, 1, 0, 0, false};
    assert_int_equal(shard_writer_open(&w, test_path("d.h5"), &info, 0), MT_OK);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(shard_writer_append(w, &row), MT_OK);
    assert_int_equal(shard_writer_commit(&w, NULL), MT_OK);
    struct shard *s = NULL;
    assert_int_equal(shard_open(&s, test_path("d.h5")), MT_OK);
    assert_int_equal(shard_info_of(s)->task_count, SHARD_TASKS_MAX);
    assert_int_equal(shard_info_of(s)->tasks[0].classes, K);
    assert_string_equal(shard_info_of(s)->tasks[0].labels[K - 1], names[K - 1]);
    assert_int_equal(shard_label(s, 0, 4999), K - 1);
    assert_int_equal(shard_label(s, 63, 4999), 63);
    shard_close(&s);
}

static void wrong_rows_and_names_are_refused_by_the_writer(void **state)
{
    (void)state;
    struct shard_task task = {"mood", 3, mood_names};
    struct shard_info info = {.vocab_size = 10, .task_count = 1, .tasks = &task};
    struct shard_writer *w = NULL;
    int32_t good[1] = {9}, bad[1] = {10}, label = 2, bad_label = 3;
    assert_int_equal(shard_writer_open(&w, test_path("e.h5"), &info, 0), MT_OK);
    struct shard_row row = {bad, NULL, &label, 1, 0, 0, false};
    assert_int_equal(shard_writer_append(w, &row), MT_BUG);
    row.ids = good;
    row.labels = &bad_label;
    assert_int_equal(shard_writer_append(w, &row), MT_BUG);
    row.token_count = 0;
    assert_int_equal(shard_writer_append(w, &row), MT_BUG);
    assert_int_equal(shard_writer_commit(&w, NULL), MT_DATA); /* no rows */
    assert_null(w);
    static const char *const names[] = {"", ".", "..", "a/b"};
    for (int i = 0; i < 4; i++) {
        snprintf(task.name, sizeof task.name, "%s", names[i]);
        assert_int_equal(shard_writer_open(&w, test_path("e.h5"), &info, 0), MT_ARG);
    }
    assert_false(file_exists(test_path("e.h5")));
}

/* Another program's file: other types, no content hash. */
struct foreign {
    int64_t offsets[4];
    int64_t ids[6];
    int32_t labels[3];
    const char *format;
    int32_t vocab_size;
    bool soft_link, external, huge_chunk, old, variable;
};

static const struct foreign sound = {
    {0, 1, 4, 6}, {5, 6, 7, 8, 9, 10}, {0, -1, 2}, "mttrain-shard", 11, false, false, false, false,
    false};

static void put_string(hid_t at, const char *name, const char *const *texts, hsize_t count,
                       bool variable)
{
    enum { SIZE = 24 };
    char fixed[4][SIZE] = {{0}};
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : SIZE);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t space = count > 0 ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    for (hsize_t i = 0; i < (count > 0 ? count : 1); i++)
        snprintf(fixed[i], SIZE, "%s", texts[i]);
    hid_t a = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(a >= 0 && H5Awrite(a, type, variable ? (const void *)texts : fixed) >= 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}

static void put_int(hid_t at, const char *name, int32_t value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(at, name, H5T_STD_I32BE, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(a >= 0 && H5Awrite(a, H5T_NATIVE_INT32, &value) >= 0);
    H5Aclose(a);
    H5Sclose(space);
}

static void put_array(hid_t at, const char *name, hid_t file_type, hid_t memory_type, hsize_t count,
                      const void *values, hid_t list)
{
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t d = H5Dcreate2(at, name, file_type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(d >= 0);
    if (values != NULL)
        assert_true(H5Dwrite(d, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(d);
    H5Sclose(space);
}

static const char *write_foreign(const struct foreign *f)
{
    static const char *const hash[] = {"0000000000001234"};
    const char *path = test_path("foreign.h5");
    h5_enter();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (!f->old)
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    put_string(file, "format", &f->format, 0, f->variable);
    put_int(file, "version", 1);
    put_int(file, "vocab_size", f->vocab_size);
    put_string(file, "vocab_hash", hash, 0, false);
    put_array(file, "offsets", H5T_STD_I64BE, H5T_NATIVE_INT64, 4, f->offsets, H5P_DEFAULT);
    if (f->external)
        H5Pset_external(list, "/etc/hostname", 0, 6);
    hsize_t chunk = (hsize_t)1 << 31;
    if (f->huge_chunk)
        H5Pset_chunk(list, 1, &chunk);
    if (f->soft_link)
        H5Lcreate_external("/etc/other.h5", "/ids", file, "input_ids", H5P_DEFAULT, H5P_DEFAULT);
    else if (f->huge_chunk) {
        hsize_t count = 6, most = H5S_UNLIMITED;
        hid_t space = H5Screate_simple(1, &count, &most);
        hid_t d =
            H5Dcreate2(file, "input_ids", H5T_STD_I8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
        assert_true(d >= 0);
        H5Dclose(d);
        H5Sclose(space);
    } else
        put_array(file, "input_ids", f->external ? H5T_STD_I8LE : H5T_STD_I64BE, H5T_NATIVE_INT64,
                  6, f->external ? NULL : f->ids, list);
    hid_t group = H5Gcreate2(file, "labels", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    put_array(group, "mood", H5T_STD_I32BE, H5T_NATIVE_INT32, 3, f->labels, H5P_DEFAULT);
    hid_t mood = H5Dopen2(group, "mood", H5P_DEFAULT);
    put_string(mood, "names", (const char *const *)mood_names, 3, false);
    H5Dclose(mood);
    H5Gclose(group);
    H5Pclose(list);
    H5Fclose(file);
    h5_leave();
    return path;
}

static void shards_of_other_programs_are_read_too(void **state)
{
    (void)state;
    struct shard *s = NULL;
    int32_t ids[6], types[6];
    assert_int_equal(shard_open(&s, write_foreign(&sound)), MT_OK);
    assert_int_equal(shard_rows(s), 3);
    assert_int_equal(shard_read_rows(s, 1, 2, ids, types), MT_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ids[i], 6 + i);
    assert_int_equal(shard_label(s, 0, 1), -1);
    assert_int_equal(shard_label(s, 0, 2), 2);
    assert_string_equal(shard_info_of(s)->tasks[0].labels[2], "good");
    assert_int_equal(shard_info_of(s)->unknown_tokens, -1);
    shard_close(&s);
}

static void expect_refused(const struct foreign *f, const char *words)
{
    struct shard *s = NULL;
    assert_int_equal(shard_open(&s, write_foreign(f)), MT_DATA);
    assert_null(s);
    assert_non_null(strstr(mt_error_peek()->message, "foreign.h5"));
    if (strstr(mt_error_peek()->message, words) == NULL)
        fail_msg("\"%s\" not in \"%s\"", words, mt_error_peek()->message);
}

static void false_contents_are_refused_with_the_place(void **state)
{
    (void)state;
    struct foreign f = sound;
    f.offsets[2] = 1;
    expect_refused(&f, "row 1 ends at token 1, after 1");
    f = sound;
    f.offsets[0] = 1;
    expect_refused(&f, "row -1");
    f = sound;
    f.offsets[3] = INT64_MAX;
    expect_refused(&f, "row 2 ends at");
    f = sound;
    f.offsets[3] = 7;
    expect_refused(&f, "number of tokens");
    f = sound;
    f.labels[1] = 3;
    expect_refused(&f, "row 1: label 3 of task \"mood\"");
    f = sound;
    f.labels[0] = -2;
    expect_refused(&f, "label -2");
    f = sound;
    f.format = "something";
    expect_refused(&f, "its format is \"something\"");
    f = sound;
    f.soft_link = true;
    expect_refused(&f, "link to elsewhere");
    f = sound;
    f.external = true;
    expect_refused(&f, "stored in other files");
    f = sound;
    f.huge_chunk = true;
    expect_refused(&f, "chunks of more than 64 MiB");
    f = sound;
    f.old = true;
    expect_refused(&f, "h5repack");
    f = sound;
    f.variable = true;
    expect_refused(&f, "not a short text of fixed size");
    f = sound;
    f.vocab_size = 0;
    expect_refused(&f, "\"vocab_size\" is 0");
}

static void an_id_outside_the_vocabulary_names_the_row(void **state)
{
    (void)state;
    struct foreign f = sound;
    struct shard *s = NULL;
    int32_t ids[6];
    uint64_t hash;
    int64_t bad[] = {11, -1, INT64_MAX, (int64_t)1 << 32};
    for (int i = 0; i < 4; i++) {
        f.ids[4] = bad[i];
        assert_int_equal(shard_open(&s, write_foreign(&f)), MT_OK);
        assert_int_equal(shard_read_rows(s, 0, 2, ids, NULL), MT_OK);
        assert_int_equal(shard_read_rows(s, 0, 3, ids, NULL), MT_DATA);
        assert_non_null(strstr(mt_error_peek()->message, "foreign.h5: row 2: token id"));
        assert_int_equal(shard_content_hash(s, &hash), MT_DATA);
        shard_close(&s);
    }
}

static void use_whatever_opens(const char *path)
{
    struct shard *s = NULL;
    if (shard_open(&s, path) != MT_OK)
        return;
    uint64_t hash;
    if (shard_content_hash(s, &hash) != MT_OK)
        mt_error_clear();
    for (int32_t t = 0; t < shard_info_of(s)->task_count; t++)
        for (int64_t row = 0; row < shard_rows(s); row++)
            assert_true(shard_label(s, t, row) < shard_info_of(s)->tasks[t].classes);
    shard_close(&s);
}

static void a_file_cut_short_anywhere_is_an_error(void **state)
{
    (void)state;
    char *bytes;
    int64_t count;
    assert_int_equal(write_shard(test_path("f.h5"), 60, VOCAB, true, 0), MT_OK);
    assert_int_equal(file_read(&bytes, &count, test_path("f.h5"), 1 << 20), MT_OK);
    for (int64_t length = 0; length < count; length += length < 600 ? 13 : 97) {
        struct shard *s = NULL;
        const char *path = test_write_file("cut.h5", bytes, (long)length);
        assert_int_equal(shard_open(&s, path), MT_DATA);
        assert_non_null(strstr(mt_error_peek()->message, "cut.h5"));
    }
    mt_free(&bytes);
}

static void flipped_bytes_never_harm_and_never_pass_as_sound(void **state)
{
    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        char *bytes;
        int64_t count;
        assert_int_equal(write_shard(test_path("g.h5"), 60, VOCAB, true, gzip), MT_OK);
        assert_int_equal(file_read(&bytes, &count, test_path("g.h5"), 1 << 20), MT_OK);
        for (uint32_t i = 0; i < 500; i++) {
            struct rng_block r = rng_philox(5, i, (uint32_t)gzip, 0, 0);
            int64_t at = r.v[0] % (uint32_t)count;
            char old = bytes[at];
            bytes[at] = (char)(old ^ (char)(1u << r.v[1] % 8));
            use_whatever_opens(test_write_file("flip.h5", bytes, (long)count));
            bytes[at] = old;
        }
        mt_free(&bytes);
    }
}

static void flipped_bytes_of_another_program_s_file_never_harm(void **state)
{
    (void)state;
    char *bytes;
    int64_t count;
    assert_int_equal(file_read(&bytes, &count, write_foreign(&sound), 1 << 20), MT_OK);
    for (uint32_t i = 0; i < 700; i++) {
        struct rng_block r = rng_philox(6, i, 0, 0, 0);
        int64_t at = r.v[0] % (uint32_t)count;
        char old = bytes[at];
        bytes[at] = (char)(old ^ (char)(1u << r.v[1] % 8));
        use_whatever_opens(test_write_file("flip.h5", bytes, (long)count));
        bytes[at] = old;
    }
    mt_free(&bytes);
}

static void whichever_call_fails_no_file_is_left_and_nothing_leaks(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    test_dir_remove();
    mt_memory_stats(&before);
    for (int kind = 0; kind < 2; kind++) {
        mt_status st = MT_BUG;
        for (int64_t n = 1; st != MT_OK; n++) {
            struct file_list list;
            kind == 0 ? file_fail_after(n) : mt_memory_fail_after(n);
            st = write_shard(test_path("h.h5"), 5, VOCAB, true, 0);
            file_fail_after(0);
            mt_memory_fail_after(0);
            assert_true(st == MT_OK || st == (kind == 0 ? MT_IO : MT_NOMEM));
            assert_int_equal(file_list_read(&list, test_dir()), MT_OK);
            /* Only when forcing the folder fails does the finished file stand there. */
            for (int32_t i = 0; i < list.count; i++)
                assert_string_equal(list.names[i], "h.h5");
            file_list_release(&list);
        }
        st = MT_BUG;
        for (int64_t n = 1; st != MT_OK; n++) {
            struct shard *s = NULL;
            kind == 0 ? file_fail_after(n) : mt_memory_fail_after(n);
            st = shard_open(&s, test_path("h.h5"));
            file_fail_after(0);
            mt_memory_fail_after(0);
            shard_close(&s);
        }
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void *read_all(void *argument)
{
    const struct shard *s = argument;
    int32_t ids[ROW_MAX], types[ROW_MAX];
    for (int64_t n = 0; n < 4000; n++) {
        int64_t i = (n * 31) % shard_rows(s);
        if (shard_read_rows(s, i, 1, ids, types) != MT_OK || ids[0] != row_id(i, 0, VOCAB))
            return argument;
    }
    return NULL;
}

static void threads_read_at_the_same_time(void **state)
{
    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        struct shard *s = NULL;
        pthread_t thread[4];
        assert_int_equal(write_shard(test_path("i.h5"), 900, VOCAB, true, gzip), MT_OK);
        assert_int_equal(shard_open(&s, test_path("i.h5")), MT_OK);
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, read_all, s), 0);
        for (int i = 0; i < 4; i++) {
            void *failed;
            pthread_join(thread[i], &failed);
            assert_null(failed);
        }
        shard_close(&s);
    }
}

static void h5dump_reads_a_shard(void **state)
{
    (void)state;
    if (system("command -v h5dump > /dev/null") != 0) {
        printf("skipped: h5dump absent\n");
        skip();
    }
    char command[3 * TEST_PATH_BYTES], *text;
    int64_t count;
    assert_int_equal(write_shard(test_path("j.h5"), 20, VOCAB, true, 0), MT_OK);
    snprintf(command, sizeof command, "h5dump %s > %s", test_path("j.h5"), test_path("dump"));
    assert_int_equal(system(command), 0);
    assert_int_equal(file_read(&text, &count, test_path("dump"), 1 << 20), MT_OK);
    static const char *const words[] = {"DATASET \"input_ids\"",
                                        "H5T_STD_U16LE",
                                        "DATASET \"offsets\"",
                                        "H5T_STD_I64LE",
                                        "DATASET \"token_type_ids\"",
                                        "DATASET \"mood\"",
                                        "H5T_STD_I8LE",
                                        "\"mttrain-shard\"",
                                        "ATTRIBUTE \"names\"",
                                        "0000000000001234"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_non_null(strstr(text, words[i]));
    mt_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_read_back_whatever_the_layout),
        cmocka_unit_test(a_large_vocabulary_takes_wider_ids),
        cmocka_unit_test(many_rows_at_once_are_one_after_the_other),
        cmocka_unit_test(equal_rows_give_equal_bytes),
        cmocka_unit_test(ten_thousand_labels_and_64_tasks_fit),
        cmocka_unit_test(wrong_rows_and_names_are_refused_by_the_writer),
        cmocka_unit_test(shards_of_other_programs_are_read_too),
        cmocka_unit_test(false_contents_are_refused_with_the_place),
        cmocka_unit_test(an_id_outside_the_vocabulary_names_the_row),
        cmocka_unit_test(a_file_cut_short_anywhere_is_an_error),
        cmocka_unit_test(flipped_bytes_never_harm_and_never_pass_as_sound),
        cmocka_unit_test(flipped_bytes_of_another_program_s_file_never_harm),
        cmocka_unit_test(whichever_call_fails_no_file_is_left_and_nothing_leaks),
        cmocka_unit_test(threads_read_at_the_same_time),
        cmocka_unit_test(h5dump_reads_a_shard),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
