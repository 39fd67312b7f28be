/* The spool's folders and moves, and SLURM's environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "jobs/slurm.h"
#include "jobs/spool.h"

static char spool[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(spool, sizeof spool, "/tmp/mt-spool-XXXXXX");
    return mkdtemp(spool) == NULL;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", spool);
    return system(command);
}

static void put(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", spool, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("x = 1;\n", f);
    (void)fclose(f);
}

static bool there(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", spool, name);
    return access(path, F_OK) == 0;
}

static void jobs_are_taken_in_name_order(void **state)
{
    char name[SPOOL_NAME_BYTES], path[512];
    int64_t count;
    bool taken;
    (void)state;
    assert_int_equal(spool_open(spool), MT_OK);
    assert_int_equal(spool_open(spool), MT_OK);
    assert_int_equal(spool_first(spool, SPOOL_QUEUE, name), MT_OK);
    assert_string_equal(name, "");
    put("queue/b.cfg");
    put("queue/a10.cfg");
    put("queue/a9.cfg");
    put("queue/.a.cfg");
    put("queue/a.cfg.tmp");
    put("queue/notes.txt");
    (void)snprintf(path, sizeof path, "%s/queue/a0.cfg", spool);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(spool_count(spool, SPOOL_QUEUE, &count), MT_OK);
    assert_int_equal(count, 3);
    static const char *const order[] = {"a10.cfg", "a9.cfg", "b.cfg"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(spool_first(spool, SPOOL_QUEUE, name), MT_OK);
        assert_string_equal(name, order[i]);
        assert_int_equal(spool_take(spool, name, &taken), MT_OK);
        assert_true(taken);
        assert_int_equal(spool_first(spool, SPOOL_RUNNING, name), MT_OK);
        assert_string_equal(name, order[i]);
        assert_int_equal(spool_finish(spool, name, i == 1 ? SPOOL_FAILED : SPOOL_DONE,
                                      i == 1 ? "bad: because" : NULL),
                         MT_OK);
    }
    assert_true(there("done/a10.cfg") && there("done/b.cfg") && !there("done/b.cfg.why"));
    assert_true(there("failed/a9.cfg") && there("failed/a9.cfg.why"));
    assert_int_equal(spool_take(spool, "gone.cfg", &taken), MT_OK);
    assert_false(taken);
}

static void a_name_that_comes_again_overwrites_nothing(void **state)
{
    bool taken;
    (void)state;
    for (int i = 0; i < 3; i++) {
        put("queue/again.cfg");
        assert_int_equal(spool_take(spool, "again.cfg", &taken), MT_OK);
        assert_int_equal(spool_finish(spool, "again.cfg", SPOOL_FAILED, "why"), MT_OK);
    }
    assert_true(there("failed/again.cfg") && there("failed/again.2.cfg") &&
                there("failed/again.3.cfg"));
    assert_true(there("failed/again.3.cfg.why"));
    put("running/busy.cfg");
    put("queue/busy.cfg");
    assert_int_equal(spool_take(spool, "busy.cfg", &taken), MT_IO);
    assert_true(there("queue/busy.cfg"));
}

static void what_cannot_be_moved_is_an_error(void **state)
{
    char path[256], name[SPOOL_NAME_BYTES];
    (void)state;
    assert_int_equal(spool_finish(spool, "none.cfg", SPOOL_DONE, NULL), MT_IO);
    (void)snprintf(path, sizeof path, "%s/queue/notes.txt", spool);
    assert_int_equal(spool_open(path), MT_IO);
    assert_int_equal(spool_first("/nonexistent", SPOOL_QUEUE, name), MT_IO);
}

static void slurm_is_read_from_the_environment(void **state)
{
    struct slurm s;
    char line[256];
    (void)state;
    (void)unsetenv("SLURM_JOB_ID");
    slurm_read(&s);
    assert_false(s.present);
    assert_true(slurm_seconds_left(&s, 0) < 0);
    assert_false(slurm_describe(&s, 0, 0, line, sizeof line));
    (void)setenv("SLURM_JOB_ID", "77", 1);
    (void)setenv("SLURM_JOB_NUM_NODES", "4", 1);
    (void)setenv("SLURM_NTASKS", "junk", 1);
    (void)setenv("SLURM_JOB_END_TIME", "1000", 1);
    (void)setenv("SLURM_RESTART_COUNT", "2", 1);
    slurm_read(&s);
    assert_true(s.present);
    assert_int_equal(s.nodes, 4);
    assert_int_equal(s.ranks, -1);
    assert_int_equal(s.restart_count, 2);
    assert_true(slurm_seconds_left(&s, 400) == 600);
    assert_true(slurm_seconds_left(&s, 4000) == 0);
    assert_true(slurm_describe(&s, 400, 0, line, sizeof line));
    assert_string_equal(line, "SLURM job 77 (-) in partition -, start 3");
    assert_true(slurm_describe(&s, 400, 2, line, sizeof line));
    assert_false(slurm_describe(&s, 400, 3, line, sizeof line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_are_taken_in_name_order),
        cmocka_unit_test(a_name_that_comes_again_overwrites_nothing),
        cmocka_unit_test(what_cannot_be_moved_is_an_error),
        cmocka_unit_test(slurm_is_read_from_the_environment),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
