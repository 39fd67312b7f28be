#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/inspect_model.h"
#include "tests/support/small_run.h"

struct notes {
    int count;
    char last[2048];
};

static void take_note(void *context, const char *message)
{
    struct notes *n = context;
    n->count++;
    (void)snprintf(n->last, sizeof n->last, "%s", message);
}

static void the_newest_valid_one_is_found_and_damage_reported(void **state)
{
    (void)state;
    const char *run = new_run();
    char path[CHECKPOINT_PATH_BYTES];
    int64_t step;
    struct notes notes = {0, ""};
    expect_ok(checkpoint_find_newest_valid(run, path, &step, take_note, &notes));
    assert_true(step == -1 && path[0] == '\0' && notes.count == 0);
    save(run, 10);
    save(run, 20);
    save(run, 30);
    expect_ok(checkpoint_find_newest_valid(run, path, &step, take_note, &notes));
    assert_true(step == 30 && notes.count == 0);
    overwrite(path_of(run, 30, "state.h5"), 3000, 4);
    expect_ok(file_remove(path_of(run, 20, "manifest.json")));
    expect_ok(checkpoint_find_newest_valid(run, path, &step, take_note, &notes));
    assert_int_equal(step, 10);
    assert_int_equal(notes.count, 2);
    assert_non_null(strstr(notes.last, "manifest.json"));
    expect_ok(checkpoint_verify(path));
}

static int count_steps(const char *run)
{
    int64_t *steps;
    int32_t count;
    expect_ok(checkpoint_list(run, &steps, &count));
    for (int32_t i = 1; i < count; i++)
        assert_true(steps[i - 1] < steps[i]);
    mt_free(&steps);
    return count;
}

static void retention_keeps_the_newest_the_pinned_and_the_linked(void **state)
{
    (void)state;
    const char *run = new_run();
    const int64_t pinned[] = {20};
    for (int64_t step = 10; step <= 60; step += 10)
        save(run, step);
    expect_ok(checkpoint_set_link(run, "best", 30));
    expect_ok(checkpoint_set_link(run, "latest", 60));
    expect_ok(checkpoint_retain(run, 2, pinned, 1));
    assert_int_equal(count_steps(run), 4); /* 20 pinned, 30 best, 50, 60 */
    for (int64_t step = 20; step <= 60; step += 10)
        assert_true(file_exists(path_of(run, step, "manifest.json")) == (step != 40));
}

static void retention_never_removes_the_last_valid_one(void **state)
{
    (void)state;
    const char *run = new_run();
    for (int64_t step = 10; step <= 40; step += 10)
        save(run, step);
    overwrite(path_of(run, 40, "state.h5"), 3000, 4);
    overwrite(path_of(run, 30, "state.h5"), 3000, 4);
    expect_ok(checkpoint_retain(run, 1, NULL, 0));
    assert_true(file_exists(path_of(run, 20, "manifest.json")));
    assert_false(file_exists(path_of(run, 10, "manifest.json")));
    overwrite(path_of(run, 20, "state.h5"), 3000, 4);
    expect_ok(checkpoint_retain(run, 1, NULL, 0));
    assert_int_equal(count_steps(run), 3); /* nothing valid is left: nothing is removed */
}

static void damaged_ones_do_not_count_among_the_last_ones(void **state)
{
    (void)state;
    const char *run = new_run();
    for (int64_t step = 10; step <= 40; step += 10)
        save(run, step);
    expect_ok(file_remove(path_of(run, 30, "state.h5")));
    expect_ok(checkpoint_retain(run, 2, NULL, 0));
    assert_int_equal(count_steps(run), 2);
    expect_ok(checkpoint_verify(path_of(run, 20, ".")));
    expect_ok(checkpoint_verify(path_of(run, 40, ".")));
}

static void retention_removes_stale_folders_but_not_a_writers(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_writer *w;
    uint8_t groups[] = {1, 1, 1, 1, 1};
    char stale[CHECKPOINT_PATH_BYTES];
    save(run, 10);
    (void)snprintf(stale, sizeof stale, "%s/checkpoints/step-00000007.tmp", run);
    expect_ok(file_make_dir(stale));
    expect_ok(checkpoint_begin(&w, run, 20, &table, groups, NULL));
    expect_ok(checkpoint_retain(run, 1, NULL, 0));
    assert_false(file_exists(stale));
    expect_ok(checkpoint_add_block(w, CHECKPOINT_PARAMS, params));
    expect_ok(checkpoint_commit(w));
    checkpoint_discard(&w);
    expect_ok(checkpoint_verify(path_of(run, 20, ".")));
}

static void links_point_at_steps_and_move_in_one_step(void **state)
{
    (void)state;
    const char *run = new_run();
    char link[CHECKPOINT_PATH_BYTES];
    save(run, 10);
    save(run, 20);
    assert_int_equal(checkpoint_get_link(run, "best"), -1);
    expect_ok(checkpoint_set_link(run, "best", 10));
    assert_int_equal(checkpoint_get_link(run, "best"), 10);
    expect_ok(checkpoint_set_link(run, "best", 20));
    assert_int_equal(checkpoint_get_link(run, "best"), 20);
    (void)snprintf(link, sizeof link, "%s/checkpoints/best", run);
    expect_ok(checkpoint_verify(link));
    assert_int_equal(checkpoint_set_link(run, "../x", 20), MT_ARG);
}

static void a_step_can_be_saved_again(void **state)
{
    (void)state;
    const char *run = new_run();
    char temp[CHECKPOINT_PATH_BYTES];
    save(run, 10);
    uint64_t first = hash_of(run, 10);
    params[0] += 1.0f;
    save(run, 10);
    params[0] -= 1.0f;
    assert_true(hash_of(run, 10) != first);
    (void)snprintf(temp, sizeof temp, "%s/checkpoints/step-00000010.tmp", run);
    assert_false(file_exists(temp));
}

static void a_replacement_that_never_arrived_is_undone(void **state)
{
    (void)state;
    const char *run = new_run();
    char aside[CHECKPOINT_PATH_BYTES], path[CHECKPOINT_PATH_BYTES];
    int64_t step;
    save(run, 10);
    (void)snprintf(aside, sizeof aside, "%s/checkpoints/step-00000010.old.tmp", run);
    expect_ok(file_rename(path_of(run, 10, ""), aside));
    expect_ok(checkpoint_find_newest_valid(run, path, &step, NULL, NULL));
    assert_int_equal(step, 10);
}

static void steps_of_an_abandoned_course_are_dropped(void **state)
{
    (void)state;
    const char *run = new_run();
    for (int64_t step = 10; step <= 40; step += 10)
        save(run, step);
    expect_ok(checkpoint_drop_after(run, 20));
    assert_int_equal(count_steps(run), 2);
    expect_ok(checkpoint_verify(path_of(run, 20, ".")));
}

static const char *base_file(const char *run, const struct checkpoint_base *base, const char *end)
{
    static char path[CHECKPOINT_PATH_BYTES];
    char hash[HASH_TEXT_BYTES];
    hash64_format(hash, base->content_hash);
    (void)snprintf(path, sizeof path, "%s/checkpoints/base/%s%s", run, hash, end);
    return path;
}

static void shared_tensors_read_and_hash_as_if_copied(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_base base, again;
    struct checkpoint_reader *r;
    const uint8_t frozen[] = {1, 1, 1, 0, 0};
    uint8_t groups[] = {1, 1, 1, ALL, ALL};
    float *back = small_table_block(&table, 9);
    int64_t whole, part;
    expect_ok(try_save(run, 1, groups, NULL));
    expect_ok(checkpoint_base_write(&base, run, &table, frozen, params));
    expect_ok(try_save(run, 2, groups, &base));
    expect_ok(checkpoint_base_write(&again, run, &table, frozen, params));
    assert_true(base.content_hash == again.content_hash && base.file_hash == again.file_hash);
    expect_ok(try_save(run, 3, groups, &again));
    assert_true(hash_of(run, 1) == hash_of(run, 2));
    assert_true(hash_of(run, 1) == hash_of(run, 3));
    expect_ok(checkpoint_open(&r, path_of(run, 2, "."), true));
    assert_true(checkpoint_is_shared(r, 0) && !checkpoint_is_shared(r, 3));
    expect_ok(checkpoint_read_block(r, CHECKPOINT_PARAMS, &table, back, NULL));
    assert_memory_equal(back, params, (size_t)table.total * 4);
    checkpoint_close(&r);
    expect_ok(file_size(&whole, path_of(run, 1, "state.h5")));
    expect_ok(file_size(&part, path_of(run, 2, "state.h5")));
    assert_true(part < whole);
    checkpoint_base_release(&base);
    checkpoint_base_release(&again);
    mt_free(&back);
}

static void a_checkpoint_is_as_sound_as_the_file_it_shares(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_base base, mended;
    const uint8_t frozen[] = {1, 1, 1, 0, 0};
    uint8_t groups[] = {1, 1, 1, ALL, ALL};
    expect_ok(checkpoint_base_write(&base, run, &table, frozen, params));
    expect_ok(try_save(run, 2, groups, &base));
    expect_ok(checkpoint_verify(path_of(run, 2, ".")));
    overwrite(base_file(run, &base, ".h5"), 2100, 8);
    expect_fail(checkpoint_verify(path_of(run, 2, ".")), MT_DATA, "base/");
    expect_ok(checkpoint_base_write(&mended, run, &table, frozen, params));
    expect_ok(checkpoint_verify(path_of(run, 2, "."))); /* the same bytes again */
    checkpoint_base_release(&mended);
    expect_ok(file_remove(base_file(run, &base, ".h5")));
    expect_fail(checkpoint_verify(path_of(run, 2, ".")), MT_DATA, "missing");
    assert_int_equal(try_save(run, 3, groups, &base), MT_IO);
    assert_false(file_exists(path_of(run, 3, ".")));
    checkpoint_base_release(&base);
}

static void equal_content_is_equal_files_whenever_written(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_base first, later;
    const uint8_t frozen[] = {1, 0, 1, 0, 0};
    expect_ok(checkpoint_base_write(&first, run, &table, frozen, params));
    expect_ok(file_remove(base_file(run, &first, ".json")));
    (void)usleep(1100 * 1000); /* HDF5 counts times in seconds */
    expect_ok(checkpoint_base_write(&later, run, &table, frozen, params));
    assert_true(first.file_hash == later.file_hash && first.file_bytes == later.file_bytes);
    checkpoint_base_release(&first);
    checkpoint_base_release(&later);
}

static void shared_files_go_with_the_last_checkpoint_that_needs_them(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_base one, two;
    const uint8_t frozen[] = {1, 1, 1, 0, 0};
    uint8_t groups[] = {1, 1, 1, ALL, ALL};
    expect_ok(checkpoint_base_write(&one, run, &table, frozen, params));
    expect_ok(try_save(run, 1, groups, &one));
    expect_ok(checkpoint_base_write(&two, run, &table, frozen, adam_m));
    expect_ok(try_save(run, 2, groups, &two));
    expect_ok(checkpoint_retain(run, 2, NULL, 0));
    assert_true(file_exists(base_file(run, &one, ".h5")));
    assert_true(file_exists(base_file(run, &two, ".h5")));
    expect_ok(checkpoint_retain(run, 1, NULL, 0));
    assert_false(file_exists(base_file(run, &one, ".h5")));
    assert_false(file_exists(base_file(run, &one, ".json")));
    assert_true(file_exists(base_file(run, &two, ".h5")));
    expect_ok(checkpoint_verify(path_of(run, 2, ".")));
    checkpoint_base_release(&one);
    checkpoint_base_release(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_valid_one_is_found_and_damage_reported),
        cmocka_unit_test(retention_keeps_the_newest_the_pinned_and_the_linked),
        cmocka_unit_test(retention_never_removes_the_last_valid_one),
        cmocka_unit_test(damaged_ones_do_not_count_among_the_last_ones),
        cmocka_unit_test(retention_removes_stale_folders_but_not_a_writers),
        cmocka_unit_test(links_point_at_steps_and_move_in_one_step),
        cmocka_unit_test(a_step_can_be_saved_again),
        cmocka_unit_test(a_replacement_that_never_arrived_is_undone),
        cmocka_unit_test(steps_of_an_abandoned_course_are_dropped),
        cmocka_unit_test(shared_tensors_read_and_hash_as_if_copied),
        cmocka_unit_test(a_checkpoint_is_as_sound_as_the_file_it_shares),
        cmocka_unit_test(equal_content_is_equal_files_whenever_written),
        cmocka_unit_test(shared_files_go_with_the_last_checkpoint_that_needs_them),
    };
    return cmocka_run_group_tests(tests, make_table, drop_table);
}
