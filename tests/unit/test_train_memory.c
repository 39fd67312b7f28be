/* Memory of a whole run: no step allocates after the second one, nothing is left at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/world.h"
#include "tests/support/test_dirs.h"
#include "trainer/control.h"
#include "trainer/phase_run.h"
#include "trainer/run.h"
#include "trainer/step.h"
#include "trainer/train.h"

#ifdef __SANITIZE_ADDRESS__
/* Open MPI's modules stay loaded, so that the leak checker knows them by name. */
int dlclose(void *handle);
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#endif

static struct comm world;

static const char job_text[] =
    "name = \"memory\"; run_dir = \"%s\"; seed = 5;\n"
    "model = { init = \"random\"; vocab = \"%s/jobs/quickstart/vocab.txt\"; max_tokens = 48;\n"
    "  config = { hidden_size = 32; num_hidden_layers = 2; num_attention_heads = 2;\n"
    "             intermediate_size = 64; max_position_embeddings = 48; }; };\n"
    "data = ( { name = \"sentences\"; train = [ \"%s/jobs/quickstart/train.tsv\" ];\n"
    "           dev = [ \"%s/jobs/quickstart/dev.tsv\" ]; text = \"sentence\"; } );\n"
    "tasks = ( { name = \"category\"; }, { name = \"sentiment\"; } );\n"
    "batch = { sentences = 16; lanes = 8; micro_tokens = 64; };\n"
    "train = { max_steps = 60; epochs = 0.0; eval_every = \"20st\"; save_every = \"15st\";\n"
    "          log_every = \"1st\"; threads = %d; };\n"
    "optimizer = { shard = %s; };\n"
    "reduction = \"%s\";\n"
    "phases = ( { name = \"top\"; until = \"0.5run\"; train = [ \"heads.*\", \"top(1)\" ];\n"
    "             cache = \"%s\"; },\n"
    "           { name = \"all\"; until = \"1.0run\"; train = [ \"*\" ]; } );\n";

static const char *write_job(const char *run_dir, int threads, const char *shard,
                             const char *reduction, const char *cache)
{
    static char text[4096];
    const char *tree = MT_TEST_SOURCE_DIR;
    int n = snprintf(text, sizeof text, job_text, run_dir, tree, tree, tree, threads, shard,
                     reduction, cache);
    assert_in_range(n, 1, (int)sizeof text - 1);
    return test_write_text("job.cfg", text);
}

#define assert_fine(call)                                                                          \
    do {                                                                                           \
        if ((call) != MT_OK)                                                                       \
            fail_msg("%s: %s", #call, mt_error_peek()->message);                                   \
    } while (0)

/* Steps of the first phase: batches differ in tokens, and none of them needs more room. */
static void count_step_allocations(int threads, const char *shard, const char *reduction,
                                   const char *cache)
{
    struct run_options options = {.resume = "auto"};
    struct mt_memory_stats before, after;
    struct step_report report;
    struct run *run;
    test_dir_remove();
    const char *path = write_job(test_path("run"), threads, shard, reduction, cache);
    assert_fine(mt_alloc(&run, 1, sizeof *run, "a run"));
    assert_fine(run_open(run, &world, path, &options));
    assert_fine(phase_run_enter(run));
    control_close(run, NULL); /* its thread allocates, too: it writes status.json now and then */
    for (int step = 0; step < 2; step++) {
        assert_fine(train_step(run, &report));
        run->machine.step++;
    }
    mt_memory_stats(&before);
    for (int step = 2; step < 28; step++) {
        assert_fine(train_step(run, &report));
        run->machine.step++;
    }
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
    assert_int_equal(after.live_bytes, before.live_bytes);
    run_close(run);
    mt_free(&run);
}

static void no_step_allocates_after_the_second(void **state)
{
    (void)state;
    count_step_allocations(1, "false", "exact", "off");
    count_step_allocations(2, "false", "exact", "off");
    count_step_allocations(1, "true", "exact", "off");
    count_step_allocations(2, "false", "mpi", "off");
}

static void no_step_on_a_prefix_cache_allocates_after_the_second(void **state)
{
    (void)state;
    count_step_allocations(2, "false", "exact", "on");
}

static int64_t live_blocks(void)
{
    struct mt_memory_stats stats;
    mt_memory_stats(&stats);
    return stats.live_blocks;
}

static int64_t allocations(void)
{
    struct mt_memory_stats stats;
    mt_memory_stats(&stats);
    return stats.allocations;
}

static void a_whole_run_leaves_no_block(void **state)
{
    (void)state;
    struct run_options options = {.resume = "auto"};
    int64_t before = live_blocks();
    test_dir_remove();
    const char *path = write_job(test_path("run"), 2, "true", "exact", "auto");
    assert_fine(train_job(&world, path, &options));
    assert_int_equal(live_blocks(), before);
    assert_fine(train_job(&world, path, &options)); /* complete: looked at again */
    assert_int_equal(live_blocks(), before);
}

/* Any failure on the way in leaves nothing behind either. */
static void a_run_that_fails_to_open_leaves_no_block(void **state)
{
    (void)state;
    static const char *const bad[] = {"seed=-1.5",         "batch.lanes=4096",
                                      "model.vocab=\"/\"", "model.max_tokens=512",
                                      "train.best=\"x\"",  "phases.top.train=[\"none.*\"]"};
    int64_t before = live_blocks();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *set[] = {bad[i]};
        struct run_options options = {.resume = "auto", .overrides = set, .override_count = 1};
        test_dir_remove();
        const char *path = write_job(test_path("run"), 1, "false", "exact", "auto");
        if (train_job(&world, path, &options) == MT_OK)
            fail_msg("%s was accepted", bad[i]);
        if (live_blocks() != before)
            fail_msg("%s: %lld blocks are left (%s)", bad[i], (long long)(live_blocks() - before),
                     mt_error_peek()->message);
    }
}

/* The n-th allocation fails, for n spread over the whole of opening and training.  A run may do
 * without what it asked for (commands, say), and then ends well. */
static void an_allocation_that_fails_anywhere_leaves_no_block(void **state)
{
    (void)state;
    struct run_options options = {.resume = "never"};
    int64_t before = live_blocks(), failed = 0;
    for (int64_t n = 1; n < 100000; n += 1 + n / 8) {
        test_dir_remove();
        const char *path = write_job(test_path("run"), 2, "false", "exact", "auto");
        int64_t made = allocations();
        mt_memory_fail_after(n);
        mt_status st = train_job(&world, path, &options);
        mt_memory_fail_after(0);
        made = allocations() - made;
        if (live_blocks() != before)
            fail_msg("allocation %lld failed: %lld blocks are left (%s)", (long long)n,
                     (long long)(live_blocks() - before), mt_error_peek()->message);
        if (st == MT_OK && made < n - 1)
            break; /* none was left to fail */
        if (st != MT_OK && st != MT_NOMEM)
            fail_msg("allocation %lld failed: %s: %s", (long long)n, mt_status_name(st),
                     mt_error_peek()->message);
        failed++;
    }
    assert_true(failed > 10);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_step_allocates_after_the_second),
        cmocka_unit_test(no_step_on_a_prefix_cache_allocates_after_the_second),
        cmocka_unit_test(a_whole_run_leaves_no_block),
        cmocka_unit_test(a_run_that_fails_to_open_leaves_no_block),
        cmocka_unit_test(an_allocation_that_fails_anywhere_leaves_no_block),
    };
    if (comm_init(&world, &argc, &argv) != MT_OK) {
        fprintf(stderr, "%s\n", mt_error_peek()->message);
        return 1;
    }
    log_init(world.rank, LOG_ERROR);
    int code = cmocka_run_group_tests(tests, NULL, NULL) == 0 ? 0 : 1;
    test_dir_remove();
    code = comm_finalize(&world, code);
    struct mt_memory_stats left;
    mt_memory_stats(&left);
    if (left.live_blocks != 0)
        fprintf(stderr, "%lld blocks are left at the end\n", (long long)left.live_blocks);
    return left.live_blocks != 0 ? 1 : code;
}
