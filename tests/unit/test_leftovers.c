/* What dead writers left goes, what living ones are at stays. */
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
#include "io/leftovers.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static pid_t living, dead;

static int make_processes(void **state)
{
    (void)state;
    living = fork();
    if (living == 0) {
        (void)pause();
        _exit(0);
    }
    dead = fork();
    if (dead == 0)
        _exit(0);
    return living < 0 || dead < 0 || waitpid(dead, NULL, 0) != dead;
}

static int end_processes(void **state)
{
    (void)state;
    (void)kill(living, SIGKILL);
    return waitpid(living, NULL, 0) != living;
}

static const char *of(const char *name, long pid)
{
    static char text[128];
    (void)snprintf(text, sizeof text, "run/%s.tmp-%ld", name, pid);
    return text;
}

static bool stays(const char *name)
{
    return file_exists(test_path(name));
}

static void fresh_folder(void)
{
    expect_ok(file_remove(test_path("run")));
    expect_ok(file_make_dir(test_path("run")));
}

static void files_folders_and_links_of_the_dead_go(void **state)
{
    (void)state;
    char inside[160];
    fresh_folder();
    (void)test_write_text(of("report.html", dead), "half");
    (void)test_write_text(of("own", getpid()), "of an earlier process with our number");
    expect_ok(file_make_dir(test_path(of("shards", dead))));
    (void)snprintf(inside, sizeof inside, "%s/shard-00000.h5", of("shards", dead));
    (void)test_write_text(inside, "half");
    assert_int_equal(symlink("nowhere", test_path(of("latest", dead))), 0);
    expect_ok(leftovers_remove(test_path("run"), NULL, 0.0));
    struct file_list left;
    expect_ok(file_list_read(&left, test_path("run")));
    assert_int_equal(left.count, 0);
    file_list_release(&left);
}

static void what_a_process_leaves_that_nobody_waited_for_goes(void **state)
{
    (void)state;
    pid_t ended = fork();
    if (ended == 0)
        _exit(0);
    assert_true(ended > 0);
    fresh_folder();
    (void)test_write_text(of("report.html", ended), "half");
    expect_ok(leftovers_remove(test_path("run"), NULL, 0.0)); /* waits until it has ended */
    assert_int_equal(kill(ended, 0), 0);                      /* it still has its number */
    assert_false(stays(of("report.html", ended)));
    assert_int_equal(waitpid(ended, NULL, 0), ended);
}

static void what_a_living_process_writes_stays(void **state)
{
    (void)state;
    fresh_folder();
    (void)test_write_text(of("report.html", living), "half");
    (void)test_write_text(of("report.html", 1), "of a process that is not ours");
    expect_ok(leftovers_remove(test_path("run"), NULL, 0.0));
    assert_true(stays(of("report.html", living)));
    assert_true(stays(of("report.html", 1)));
}

static void other_names_stay(void **state)
{
    (void)state;
    static const char *const names[] = {
        "run/x.tmp",   "run/x.tmp-",  "run/x.tmp-12a", "run/x.tmp-99999999999999999999999",
        "run/x.tmp-0", "run/.tmp-12", "run/x-12",      "run/x.tmp-12.h5"};
    fresh_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)test_write_text(names[i], "kept");
    (void)test_write_text(of("1.cmd", dead), "spared");
    expect_ok(leftovers_remove(test_path("run"), ".cmd", 0.0));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(stays(names[i]));
    assert_true(stays(of("1.cmd", dead)));
    expect_ok(leftovers_remove(test_path("absent"), NULL, 0.0));
}

static void what_was_touched_lately_stays_where_other_hosts_write(void **state)
{
    (void)state;
    fresh_folder();
    (void)test_write_text(of("prefix.bin", dead), "perhaps of another host");
    expect_ok(leftovers_remove(test_path("run"), NULL, 3600.0));
    assert_true(stays(of("prefix.bin", dead)));
    expect_ok(leftovers_remove(test_path("run"), NULL, 0.0));
    assert_false(stays(of("prefix.bin", dead)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_folders_and_links_of_the_dead_go),
        cmocka_unit_test(what_a_process_leaves_that_nobody_waited_for_goes),
        cmocka_unit_test(what_a_living_process_writes_stays),
        cmocka_unit_test(other_names_stay),
        cmocka_unit_test(what_was_touched_lately_stays_where_other_hosts_write),
    };
    return cmocka_run_group_tests(tests, make_processes, end_processes);
}
