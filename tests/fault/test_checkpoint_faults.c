/*
 * A save, its replacement and its retention, broken at every point: each input and output call and
 * each allocation fails once, and the process is killed before each system call that changes the
 * disk.  So with all arrays in one file, with shared ones, and with moments in parts.  After each
 * there is a valid checkpoint, and none that is visible and damaged.
 *
 * The system calls are wrapped in this program: a definition here stands before the C library's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "tests/support/small_parts.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

enum { POINTS_MAX = 3000 };

static long kill_before; /* the number of the wrapped call that does not happen; 0 = never */
static long calls;

static void count_call(void)
{
    if (kill_before > 0 && ++calls == kill_before)
        (void)kill(getpid(), SIGKILL);
}

int fsync(int fd)
{
    count_call();
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    count_call();
    return (int)syscall(SYS_rename, from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    count_call();
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}

int unlink(const char *path)
{
    count_call();
    return (int)syscall(SYS_unlink, path);
}

int rmdir(const char *path)
{
    count_call();
    return (int)syscall(SYS_rmdir, path);
}

int mkdir(const char *path, mode_t mode)
{
    count_call();
    return (int)syscall(SYS_mkdir, path, mode);
}

int symlink(const char *target, const char *link)
{
    count_call();
    return (int)syscall(SYS_symlink, target, link);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    count_call();
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
    count_call();
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    count_call();
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

int ftruncate(int fd, off_t length)
{
    count_call();
    return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    count_call();
    return (int)syscall(SYS_ftruncate, fd, length);
}

static const uint8_t ALL = CHECKPOINT_BIT(CHECKPOINT_PARAMS) | CHECKPOINT_BIT(CHECKPOINT_ADAM_M) |
                           CHECKPOINT_BIT(CHECKPOINT_ADAM_V);

static struct tensor_table table;
static float *old_params, *new_params;

static int make_table(void **state)
{
    (void)state;
    small_table_make(&table);
    old_params = small_table_block(&table, 1);
    new_params = small_table_block(&table, 2);
    return 0;
}

static int drop_table(void **state)
{
    (void)state;
    mt_free(&old_params);
    mt_free(&new_params);
    tensor_table_release(&table);
    return 0;
}

enum { WHOLE = 0, SHARES = 1, PARTS = 2 }; /* frozen tensors shared; moments in parts */

static mt_status save(const char *run, int64_t step, const float *params, int how)
{
    struct checkpoint_writer *w = NULL;
    struct checkpoint_base base = {.offset = NULL};
    const uint8_t part =
        1 | CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_M) | CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_V);
    const uint8_t last = how & PARTS ? part : ALL;
    const uint8_t frozen[] = {1, 1, 1, 0, 0}, groups[] = {1, 1, 1, last, last};
    mt_status st;
    if (how & SHARES)
        MT_TRY_GOTO(st, checkpoint_base_write(&base, run, &table, frozen, params), done);
    MT_TRY_GOTO(st, checkpoint_begin(&w, run, step, &table, groups, how & SHARES ? &base : NULL),
                done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_PARAMS, params), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_M, params), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_V, params), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", "{}", 2), done);
    if (how & PARTS)
        MT_TRY_GOTO(st, small_parts_write(w, run, step, &table, groups, params, params, 3, 10),
                    done);
    MT_TRY_GOTO(st, checkpoint_commit(w), done);
done:
    checkpoint_discard(&w);
    checkpoint_base_release(&base);
    return st;
}

/* What a trainer does at a save: the checkpoint, the link, the retention. */
static mt_status save_link_retain(const char *run, int64_t step, const float *params, int how)
{
    MT_TRY(save(run, step, params, how));
    MT_TRY(checkpoint_set_link(run, "latest", step));
    return checkpoint_retain(run, 1, NULL, 0);
}

static void count_damaged(void *context, const char *message)
{
    (void)message;
    (*(int *)context)++;
}

/* The newest checkpoint is of one of the two steps, whole, with the numbers of its save, and every
 * visible one is sound. */
static int64_t check_run(const char *run, int64_t step_old, int64_t step_new)
{
    char path[CHECKPOINT_PATH_BYTES];
    int64_t step, *steps;
    int32_t count;
    int damaged = 0;
    struct checkpoint_reader *r;
    uint8_t present[5];
    float *back = small_table_block(&table, 9);
    expect_ok(checkpoint_find_newest_valid(run, path, &step, count_damaged, &damaged));
    assert_int_equal(damaged, 0);
    assert_true(step == step_old || step == step_new);
    expect_ok(checkpoint_open(&r, path, true));
    expect_ok(checkpoint_read_block(r, CHECKPOINT_PARAMS, &table, back, NULL));
    size_t bytes = (size_t)table.total * sizeof *back;
    bool is_old = memcmp(back, old_params, bytes) == 0,
         is_new = memcmp(back, new_params, bytes) == 0;
    expect_ok(checkpoint_read_block(r, CHECKPOINT_ADAM_V, &table, back, present));
    checkpoint_close(&r); /* the moments of this test are the parameters again */
    assert_true(present[3] && memcmp(back, is_new ? new_params : old_params, bytes) == 0);
    assert_true(is_new || (is_old && step == step_old));
    expect_ok(checkpoint_list(run, &steps, &count));
    for (int32_t i = 0; i < count; i++) {
        expect_ok(checkpoint_path(path, run, steps[i]));
        expect_ok(checkpoint_verify(path));
    }
    mt_free(&steps);
    mt_free(&back);
    return is_new ? step_new : step_old;
}

static const char *fresh_run(int64_t step_old, int how)
{
    static char run[TEST_PATH_BYTES + 16];
    (void)snprintf(run, sizeof run, "%s/run", test_dir());
    expect_ok(file_remove(run));
    expect_ok(save_link_retain(run, step_old, old_params, how));
    return run;
}

/* Whether the fault that was asked for never came: then a run was clean.  Asks it away. */
static bool io_fault_is_left(void)
{
    bool left = false;
    for (int i = 0; i < POINTS_MAX && !left; i++)
        left = file_fault_now();
    return left;
}

static bool allocation_fault_is_left(void)
{
    bool left = false;
    for (int i = 0; i < POINTS_MAX && !left; i++) {
        char *block = NULL;
        left = mt_alloc(&block, 1, 1, "a question") != MT_OK;
        mt_free(&block);
    }
    mt_error_clear();
    return left;
}

/* Steps of the old and the new save, and how both are laid out. */
static const struct {
    int64_t step_old, step_new;
    int how;
} CASES[] = {{1, 2, WHOLE}, {1, 1, WHOLE}, {1, 2, SHARES}, {1, 2, SHARES | PARTS}, {1, 1, PARTS}};

enum { CASE_COUNT = 5 };

static void every_failed_call_leaves_a_valid_checkpoint(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int c = 0; c < CASE_COUNT; c++) {
        bool clean = false;
        int64_t n;
        for (n = 1; !clean && n < POINTS_MAX; n++) {
            const char *run = fresh_run(CASES[c].step_old, CASES[c].how);
            file_fail_after(n);
            mt_status st = save_link_retain(run, CASES[c].step_new, new_params, CASES[c].how);
            clean = io_fault_is_left();
            int64_t got = check_run(run, CASES[c].step_old, CASES[c].step_new);
            assert_true(!clean || st == MT_OK);
            if (st == MT_OK)
                assert_int_equal(got, CASES[c].step_new);
            if (n % 5 != 0)
                continue;
            expect_ok(save_link_retain(run, CASES[c].step_new, new_params, CASES[c].how));
            assert_int_equal(check_run(run, CASES[c].step_old, CASES[c].step_new),
                             CASES[c].step_new);
        }
        assert_true(clean);
        printf("%d input and output calls failed in turn\n", (int)n - 2);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void every_failed_allocation_leaves_a_valid_checkpoint(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int c = 0; c < CASE_COUNT; c++) {
        bool clean = false;
        int64_t n;
        for (n = 1; !clean && n < POINTS_MAX; n++) {
            const char *run = fresh_run(CASES[c].step_old, CASES[c].how);
            mt_memory_fail_after(n);
            mt_status st = save_link_retain(run, CASES[c].step_new, new_params, CASES[c].how);
            clean = allocation_fault_is_left();
            (void)check_run(run, CASES[c].step_old, CASES[c].step_new);
            assert_true(st == MT_OK || st == MT_NOMEM);
            assert_true(!clean || st == MT_OK);
        }
        assert_true(clean);
        printf("%d allocations failed in turn\n", (int)n - 2);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void a_kill_before_any_system_call_leaves_a_valid_checkpoint(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++) {
        bool finished = false;
        long n;
        for (n = 1; !finished && n < POINTS_MAX; n++) {
            const char *run = fresh_run(CASES[c].step_old, CASES[c].how);
            int end;
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                calls = 0;
                kill_before = n;
                mt_status st = save_link_retain(run, CASES[c].step_new, new_params, CASES[c].how);
                kill_before = 0;
                _exit(st == MT_OK ? 0 : 1);
            }
            assert_int_equal(waitpid(child, &end, 0), child);
            finished = WIFEXITED(end);
            assert_true(finished ? WEXITSTATUS(end) == 0 : WTERMSIG(end) == SIGKILL);
            (void)check_run(run, CASES[c].step_old, CASES[c].step_new);
            if (n % 5 != 0)
                continue;
            expect_ok(save_link_retain(run, CASES[c].step_new, new_params, CASES[c].how));
            assert_int_equal(check_run(run, CASES[c].step_old, CASES[c].step_new),
                             CASES[c].step_new);
        }
        assert_true(finished && n > 20);
        printf("%ld kills\n", n - 2);
    }
}

static void a_reader_survives_every_fault(void **state)
{
    (void)state;
    const char *run = fresh_run(1, SHARES | PARTS);
    char path[CHECKPOINT_PATH_BYTES];
    struct mt_memory_stats before, after;
    expect_ok(checkpoint_path(path, run, 1));
    mt_memory_stats(&before);
    for (int kind = 0; kind < 2; kind++) {
        bool clean = false;
        for (int64_t n = 1; !clean && n < POINTS_MAX; n++) {
            struct checkpoint_reader *r = NULL;
            uint64_t hash = 0;
            if (kind == 0)
                file_fail_after(n);
            else
                mt_memory_fail_after(n);
            mt_status st = checkpoint_open(&r, path, true);
            if (st == MT_OK)
                st = checkpoint_hash(r, false, &hash);
            file_fail_after(0);
            mt_memory_fail_after(0);
            checkpoint_close(&r);
            assert_true(st == MT_OK || st == (kind == 0 ? MT_IO : MT_NOMEM));
            clean = st == MT_OK;
        }
        assert_true(clean);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

int main(void)
{
    test_dir_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_call_leaves_a_valid_checkpoint),
        cmocka_unit_test(every_failed_allocation_leaves_a_valid_checkpoint),
        cmocka_unit_test(a_kill_before_any_system_call_leaves_a_valid_checkpoint),
        cmocka_unit_test(a_reader_survives_every_fault),
    };
    return cmocka_run_group_tests(tests, make_table, drop_table);
}
