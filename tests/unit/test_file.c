/* file: complete or absent, whichever call fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "tests/support/test_dirs.h"

static void expect_text(const char *path, const char *text)
{
    char *bytes = NULL;
    int64_t count = 0;
    assert_int_equal(file_read(&bytes, &count, path, 1 << 20), MT_OK);
    assert_int_equal(count, (int64_t)strlen(text));
    assert_string_equal(bytes, text);
    mt_free(&bytes);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    const char *path = test_path("a.txt");
    assert_int_equal(file_write_atomic(path, "hello\n", 6), MT_OK);
    expect_text(path, "hello\n");
    assert_int_equal(file_write_atomic(path, "", 0), MT_OK);
    expect_text(path, "");
}

static void a_file_past_the_limit_is_refused_with_its_name(void **state)
{
    (void)state;
    const char *path = test_write_text("big", "0123456789");
    char *bytes = NULL;
    int64_t count;
    assert_int_equal(file_read(&bytes, &count, path, 9), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, path));
    assert_null(bytes);
}

static void missing_files_folders_and_pipes_are_io_errors_that_name_the_path(void **state)
{
    (void)state;
    char *bytes = NULL;
    int64_t count;
    const char *path = test_path("absent");
    assert_int_equal(file_read(&bytes, &count, path, 10), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, path));
    assert_non_null(strstr(mt_error_peek()->message, "No such file"));
    assert_int_equal(file_read(&bytes, &count, test_dir(), 10), MT_IO);
    assert_non_null(strstr(mt_error_peek()->message, "is a folder"));
    const char *pipe_path = test_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(file_read(&bytes, &count, pipe_path, 10), MT_IO);
}

static void a_streamed_file_has_the_size_and_hash_that_the_writer_counted(void **state)
{
    (void)state;
    static char block[700001];
    const char *path = test_path("stream");
    struct file_writer w;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 31);
    assert_int_equal(file_writer_open(&w, path), MT_OK);
    int64_t sizes[] = {1, 100, 300000, 0, 77, 262144, 137679};
    int64_t at = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(file_writer_write(&w, block + at, sizes[i]), MT_OK);
        at += sizes[i];
    }
    assert_int_equal(at, (int64_t)sizeof block);
    assert_false(file_exists(path));
    uint64_t expected = hash64_value(&w.hash), hash;
    int64_t size;
    assert_int_equal(file_writer_commit(&w), MT_OK);
    file_writer_discard(&w);
    assert_int_equal(file_hash(&hash, &size, path), MT_OK);
    assert_int_equal(size, (int64_t)sizeof block);
    assert_true(hash == expected && hash == hash64_of(block, sizeof block));
}

static void a_discarded_file_leaves_nothing(void **state)
{
    (void)state;
    struct file_writer w;
    struct file_list list;
    test_dir_remove();
    assert_int_equal(file_writer_open(&w, test_path("gone")), MT_OK);
    assert_int_equal(file_writer_write(&w, "abc", 3), MT_OK);
    file_writer_discard(&w);
    assert_int_equal(file_list_read(&list, test_dir()), MT_OK);
    assert_int_equal(list.count, 0);
    file_list_release(&list);
}

static void whichever_call_fails_the_old_file_stays_whole_and_no_other_is_left(void **state)
{
    (void)state;
    test_dir_remove();
    const char *path = test_write_text("target", "old");
    bool clean = false;
    int failures = 0;
    for (int64_t n = 1; !clean; n++) {
        file_fail_after(n);
        mt_status st = file_write_atomic(path, "new text", 8);
        clean = st == MT_OK;
        file_fail_after(0);
        struct file_list list;
        assert_int_equal(file_list_read(&list, test_dir()), MT_OK);
        assert_int_equal(list.count, 1);
        file_list_release(&list);
        char *bytes;
        int64_t count;
        assert_int_equal(file_read(&bytes, &count, path, 100), MT_OK);
        assert_true(strcmp(bytes, "new text") == 0 || (!clean && strcmp(bytes, "old") == 0));
        mt_free(&bytes);
        if (!clean) {
            assert_int_equal(st, MT_IO);
            assert_non_null(strstr(mt_error_peek()->message, test_dir()));
            failures++;
        }
    }
    assert_true(failures >= 5);
}

static void whichever_allocation_fails_nothing_leaks(void **state)
{
    (void)state;
    const char *path = test_path("mem");
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int64_t n = 1;; n++) {
        mt_memory_fail_after(n);
        mt_status st = file_write_atomic(path, "x", 1);
        mt_memory_fail_after(0);
        if (st == MT_OK)
            break;
        assert_int_equal(st, MT_NOMEM);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void folders_are_made_listed_in_order_and_removed_whole(void **state)
{
    (void)state;
    test_dir_remove();
    const char *deep = test_path("a/b/c");
    assert_int_equal(file_make_dir(deep), MT_OK);
    assert_int_equal(file_make_dir(deep), MT_OK);
    assert_true(file_is_dir(deep));
    assert_int_equal(file_write_atomic(test_path("a/z"), "1", 1), MT_OK);
    assert_int_equal(file_write_atomic(test_path("a/B"), "1", 1), MT_OK);
    assert_int_equal(symlink(test_dir(), test_path("a/link")), 0);
    assert_int_equal(file_write_atomic(test_path("keep"), "1", 1), MT_OK);
    struct file_list list;
    assert_int_equal(file_list_read(&list, test_path("a")), MT_OK);
    assert_int_equal(list.count, 4);
    assert_string_equal(list.names[0], "B");
    assert_string_equal(list.names[1], "b");
    assert_string_equal(list.names[2], "link");
    assert_string_equal(list.names[3], "z");
    file_list_release(&list);
    assert_int_equal(file_remove(test_path("a")), MT_OK);
    assert_false(file_exists(test_path("a")));
    assert_true(file_exists(test_path("keep"))); /* behind the link */
    assert_int_equal(file_remove(test_path("a")), MT_OK);
    assert_int_equal(file_make_dir(test_path("keep")), MT_IO);
}

static void a_link_is_replaced_in_one_step(void **state)
{
    (void)state;
    char to[64];
    const char *link = test_path("latest");
    assert_int_equal(file_symlink_atomic("step-1", link), MT_OK);
    assert_int_equal(file_symlink_atomic("step-2", link), MT_OK);
    ssize_t n = readlink(link, to, sizeof to);
    assert_int_equal(n, 6);
    assert_memory_equal(to, "step-2", 6);
}

static void a_map_shows_the_bytes_and_an_empty_file_maps_to_nothing(void **state)
{
    (void)state;
    struct file_map m;
    assert_int_equal(file_map_open(&m, test_write_text("m", "mapped")), MT_OK);
    assert_int_equal(m.size_bytes, 6);
    assert_memory_equal(m.bytes, "mapped", 6);
    file_map_close(&m);
    assert_int_equal(file_map_open(&m, test_write_text("e", "")), MT_OK);
    assert_null(m.bytes);
    file_map_close(&m);
}

static void paths_join_and_part_as_posix_says(void **state)
{
    (void)state;
    static const char *const join[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    static const char *const dir[][3] = {
        {"a/b", "a", "b"}, {"b", ".", "b"}, {"/b", "/", "b"}, {"a/b/c", "a/b", "c"}};
    char *out;
    for (size_t i = 0; i < sizeof join / sizeof join[0]; i++) {
        assert_int_equal(file_path_join(&out, join[i][0], join[i][1]), MT_OK);
        assert_string_equal(out, join[i][2]);
        mt_free(&out);
    }
    for (size_t i = 0; i < sizeof dir / sizeof dir[0]; i++) {
        assert_int_equal(file_path_dir(&out, dir[i][0]), MT_OK);
        assert_string_equal(out, dir[i][1]);
        assert_string_equal(file_path_base(dir[i][0]), dir[i][2]);
        mt_free(&out);
    }
    assert_true(file_path_has_extension("a/B.TSV", ".tsv"));
    assert_false(file_path_has_extension(".tsv", ".tsv"));
}

static void reading_past_the_end_is_an_error_and_not_a_short_answer(void **state)
{
    (void)state;
    int fd;
    char bytes[8];
    const char *path = test_write_text("short", "12345");
    assert_int_equal(file_fd_open(&fd, NULL, path), MT_OK);
    assert_int_equal(file_fd_read_at(fd, bytes, 3, 2, path), MT_OK);
    assert_memory_equal(bytes, "345", 3);
    assert_int_equal(file_fd_read_at(fd, bytes, 4, 2, path), MT_DATA);
    file_fd_close(&fd);
    assert_int_equal(fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_file_past_the_limit_is_refused_with_its_name),
        cmocka_unit_test(missing_files_folders_and_pipes_are_io_errors_that_name_the_path),
        cmocka_unit_test(a_streamed_file_has_the_size_and_hash_that_the_writer_counted),
        cmocka_unit_test(a_discarded_file_leaves_nothing),
        cmocka_unit_test(whichever_call_fails_the_old_file_stays_whole_and_no_other_is_left),
        cmocka_unit_test(whichever_allocation_fails_nothing_leaks),
        cmocka_unit_test(folders_are_made_listed_in_order_and_removed_whole),
        cmocka_unit_test(a_link_is_replaced_in_one_step),
        cmocka_unit_test(a_map_shows_the_bytes_and_an_empty_file_maps_to_nothing),
        cmocka_unit_test(paths_join_and_part_as_posix_says),
        cmocka_unit_test(reading_past_the_end_is_an_error_and_not_a_short_answer),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
