/* A folder's lock keeps out the living, not the dead, and tells who holds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "io/folder_lock.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static struct folder_lock lock;
static struct folder_holder other;
static enum folder_lock_state state;

static const char *folder(void)
{
    expect_ok(file_make_dir(test_path("run")));
    return test_path("run");
}

static int end_lock(void **context)
{
    (void)context;
    folder_lock_release(&lock);
    return file_remove(test_path("run")) != MT_OK;
}

/* A process that holds the lock until it is killed. */
static pid_t make_holder(void)
{
    int pipes[2];
    char byte = 0;
    const char *dir = folder();
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool taken =
            folder_lock_try(&lock, dir, &state, &other) == MT_OK && state == FOLDER_LOCK_TAKEN;
        if (!taken || write(pipes[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    (void)close(pipes[1]);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    (void)close(pipes[0]);
    return pid;
}

static void end_holder(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_living_holder_is_named_and_a_killed_one_keeps_nobody_out(void **context)
{
    (void)context;
    char host[64];
    assert_int_equal(gethostname(host, sizeof host), 0);
    pid_t pid = make_holder();
    mt_status st = folder_lock_try(&lock, folder(), &state, &other);
    enum folder_lock_state seen = state;
    end_holder(pid);
    expect_ok(st);
    assert_int_equal(seen, FOLDER_LOCK_HELD);
    assert_int_equal(other.pid, pid);
    assert_string_equal(other.host, host);
    assert_int_equal(strlen(other.since), strlen("2026-01-01T00:00:00Z"));
    assert_false(lock.open);
    expect_ok(folder_lock_try(&lock, folder(), &state, &other));
    assert_int_equal(state, FOLDER_LOCK_TAKEN);
    expect_ok(folder_lock_check(&lock));
}

static void it_is_kept_against_its_own_process_and_gone_when_given_back(void **context)
{
    (void)context;
    struct folder_lock second;
    expect_ok(folder_lock_try(&lock, folder(), &state, &other));
    assert_int_equal(state, FOLDER_LOCK_TAKEN);
    expect_ok(folder_lock_try(&second, folder(), &state, &other));
    assert_int_equal(state, FOLDER_LOCK_HELD);
    assert_int_equal(other.pid, getpid());
    folder_lock_release(&second);
    assert_true(file_exists(test_path("run/lock")));
    folder_lock_release(&lock);
    assert_false(file_exists(test_path("run/lock")));
    folder_lock_release(&lock);
}

static void the_record_of_another_host_is_in_doubt_until_it_is_claimed(void **context)
{
    (void)context;
    (void)folder();
    (void)test_write_text("run/lock", "elsewhere 12 2026-01-01T00:00:00Z\n");
    expect_ok(folder_lock_try(&lock, folder(), &state, &other));
    assert_int_equal(state, FOLDER_LOCK_DOUBTFUL);
    assert_string_equal(other.host, "elsewhere");
    assert_int_equal(other.pid, 12);
    assert_string_equal(other.since, "2026-01-01T00:00:00Z");
    folder_lock_release(&lock); /* not claimed: not ours to remove */
    assert_true(file_exists(test_path("run/lock")));
    expect_ok(folder_lock_try(&lock, folder(), &state, &other));
    expect_ok(folder_lock_claim(&lock));
    expect_ok(folder_lock_check(&lock));
    folder_lock_release(&lock);
    assert_false(file_exists(test_path("run/lock")));
}

static void a_lock_lost_to_another_is_found_and_left_to_it(void **context)
{
    (void)context;
    expect_ok(folder_lock_try(&lock, folder(), &state, &other));
    expect_ok(file_remove(test_path("run/lock")));
    expect_ok(folder_lock_check(&lock)); /* a file that is gone names nobody */
    (void)test_write_text("run/lock", "elsewhere 12 2026-01-01T00:00:00Z\n");
    expect_fail(folder_lock_check(&lock), MT_IO, "process 12 on elsewhere");
    folder_lock_release(&lock);
    assert_true(file_exists(test_path("run/lock")));
}

static void any_bytes_may_stand_in_the_record(void **context)
{
    (void)context;
    static const char *const texts[] = {" ",         "\n",
                                        "\x01\x02",  "one",
                                        "a b c d",   "a 99999999999999999999999999999 x",
                                        "%s%n 1 %s", "\xff\xfe 1 2"};
    char longest[4096];
    memset(longest, 'h', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i <= sizeof texts / sizeof *texts; i++) {
        (void)folder();
        (void)test_write_text("run/lock", i < sizeof texts / sizeof *texts ? texts[i] : longest);
        expect_ok(folder_lock_try(&lock, folder(), &state, &other));
        assert_int_not_equal(state, FOLDER_LOCK_HELD);
        expect_ok(folder_lock_claim(&lock));
        expect_ok(folder_lock_check(&lock));
        folder_lock_release(&lock);
    }
}

static void a_link_in_its_place_is_not_followed(void **context)
{
    (void)context;
    (void)folder();
    (void)test_write_text("elsewhere", "kept");
    assert_int_equal(symlink("../elsewhere", test_path("run/lock")), 0);
    expect_fail(folder_lock_try(&lock, folder(), &state, &other), MT_IO, "lock");
    int64_t size;
    expect_ok(file_size(&size, test_path("elsewhere")));
    assert_int_equal(size, 4);
}

static void failing_calls_leave_no_lock_behind(void **context)
{
    (void)context;
    for (int64_t n = 1; n <= 2; n++) {
        (void)folder();
        file_fail_after(n);
        mt_status st = folder_lock_try(&lock, test_path("run"), &state, &other);
        file_fail_after(0);
        expect_fail(st, MT_IO, "lock");
        assert_false(lock.open);
        expect_ok(folder_lock_try(&lock, folder(), &state, &other));
        assert_int_equal(state, FOLDER_LOCK_TAKEN);
        folder_lock_release(&lock);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_living_holder_is_named_and_a_killed_one_keeps_nobody_out,
                                  end_lock),
        cmocka_unit_test_teardown(it_is_kept_against_its_own_process_and_gone_when_given_back,
                                  end_lock),
        cmocka_unit_test_teardown(the_record_of_another_host_is_in_doubt_until_it_is_claimed,
                                  end_lock),
        cmocka_unit_test_teardown(a_lock_lost_to_another_is_found_and_left_to_it, end_lock),
        cmocka_unit_test_teardown(any_bytes_may_stand_in_the_record, end_lock),
        cmocka_unit_test_teardown(a_link_in_its_place_is_not_followed, end_lock),
        cmocka_unit_test_teardown(failing_calls_leave_no_lock_behind, end_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
