/* Jobs: a whole one, each wrong one's message, what is printed, and the key reference. */
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "jobs/job.h"

/* The example of the manual; line numbers count from `name`. */
static const char manual[] =
    "#@folder /base\n"
    "#@ 1 jobs/x.cfg\n"
    "name    = \"support-desk\";\n"
    "run_dir = \"runs/support-desk\";\n"
    "seed    = 42;\n"
    "model = { init = \"models/bert\"; max_tokens = 128;  pooling = \"mean\"; dropout = 0.1;  "
    "precision = \"fp32\"; };\n"
    "data = ( { name = \"tickets\"; train = [ \"data/tickets.tsv\" ]; dev = [ "
    "\"data/tickets-dev.tsv\" ]; text = \"sentence\"; } );\n"
    "tasks = (\n"
    "  { name = \"category\";  kind = \"classification\"; data = \"tickets\"; column = "
    "\"category\";\n"
    "    labels = [ \"personal\", \"fact\", \"app\" ]; },\n"
    "  { name = \"sentiment\"; data = \"tickets\"; labels = [ \"negative\", \"neutral\", "
    "\"positive\" ]; weight = 1.0; } );\n"
    "batch     = { sentences = 64; lanes = 8; sampling = \"proportional\"; };\n"
    "train     = { epochs = 4.0; eval_every = \"0.5ep\"; save_every = \"10min\"; keep_last = 2; "
    "best = \"mean(dev.accuracy)\"; };\n"
    "optimizer = { kind = \"adamw\"; lr = 5e-5; weight_decay = 0.01; betas = [0.9, 0.999]; eps = "
    "1e-8; clip = 1.0; shard = false; };\n"
    "reduction = \"exact\";\n"
    "phases = (\n"
    "  { name = \"heads\"; until = \"0.3run\"; train = [ \"heads.*\" ]; lr = 1.0e-3; },\n"
    "  { name = \"all\";   until = \"1.0run\"; layer_decay = 0.95; warmup = \"0.06phase\"; shape = "
    "\"cosine\"; } );\n";

static void the_manual_s_job_is_read(void **state)
{
    struct job j;
    (void)state;
    assert_int_equal(job_load(&j, manual, NULL, 0), MT_OK);
    assert_string_equal(j.name, "support-desk");
    assert_string_equal(j.run_dir, "/base/runs/support-desk");
    assert_string_equal(j.model.init, "/base/models/bert");
    assert_string_equal(j.data[0].dev.item[0], "/base/data/tickets-dev.tsv");
    assert_string_equal(j.tasks[1].column, "sentiment");
    assert_int_equal(j.tasks[1].set, 0);
    assert_int_equal(j.batch.sampling, SAMPLING_PROPORTIONAL);
    assert_int_equal(j.schedule.count, 2);
    assert_true(j.schedule.phase[1].lr == 5e-5);
    assert_int_equal(j.schedule.phase[0].shape, SHAPE_LINEAR);
    assert_int_equal(j.schedule.phase[0].sentences, 64);
    assert_string_equal(j.frozen_head, "sentiment");
    assert_true(isnan(j.model.attention_dropout));
    assert_true(j.optimizer.betas.item[1] == 0.999);
    job_release(&j);
}

static void a_short_job_has_sensible_defaults(void **state)
{
    struct job j;
    (void)state;
    assert_int_equal(
        job_load(&j,
                 "#@folder /base\n#@ 1 jobs/short.cfg\nmodel = { init = \"m\"; };\n"
                 "data = ( { name = \"d\"; train = \"a.csv\"; } ); tasks = ( { name = \"t\"; } );",
                 NULL, 0),
        MT_OK);
    assert_string_equal(j.name, "short");
    assert_string_equal(j.run_dir, "/base/runs/short");
    assert_string_equal(j.tasks[0].data, "d");
    assert_int_equal(j.schedule.count, 1);
    assert_true(j.train.epochs == 3 && j.optimizer.lr == 5e-5 && j.optimizer.clip == 1 &&
                j.seed == 42);
    job_release(&j);
}

static uint64_t hash(const struct job *j)
{
    uint64_t h = 0;
    assert_int_equal(job_hash(j, OPTION_HARMLESS, &h), MT_OK);
    return h;
}

static void the_printed_job_loads_to_the_same(void **state)
{
    static const char *const names[] = {"full",        "frozen", "heads-only",
                                        "freeze-head", "staged", "gradual"};
    static const int layers[] = {1, 2, 4, 12, 24};
    char head[sizeof manual];
    (void)state;
    memcpy(head, manual, sizeof head);
    *strstr(head, "phases = (") = '\0';
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 5; k++) {
            char path[512], text[16384], *schedule = NULL, *printed = NULL;
            (void)snprintf(path, sizeof path, "%s/schedules/%s.cfg", MT_TEST_SOURCE_DIR, names[i]);
            assert_int_equal(config_bundle_read(&schedule, path), MT_OK);
            (void)snprintf(text, sizeof text, "%s%s", head, schedule);
            mt_free(&schedule);
            struct job j, back;
            if (job_load(&j, text, NULL, 0) != MT_OK)
                fail_msg("%s", mt_error_peek()->message);
            assert_string_equal(j.schedule.name, names[i]);
            if (k > 0)
                assert_int_equal(schedule_expand(&j.schedule, layers[k]), MT_OK);
            assert_int_equal(job_print(&j, &printed), MT_OK);
            if (job_load(&back, printed, NULL, 0) != MT_OK)
                fail_msg("%s\n%s", mt_error_peek()->message, printed);
            assert_true(hash(&j) == hash(&back));
            struct job_changes c;
            assert_int_equal(job_compare(&j, &back, &c), MT_OK);
            assert_int_equal(c.count, 0);
            job_changes_release(&c);
            mt_free(&printed);
            job_release(&j);
            job_release(&back);
        }
}

static void shipped_schedules_fit_any_depth_and_task(void **state)
{
    static const char *const names[] = {"full", "heads-only", "freeze-head", "staged", "gradual"};
    static const char *const heads[] = {"category", "sentiment"};
    char head[sizeof manual], name[64];
    (void)state;
    memcpy(head, manual, sizeof head);
    *strstr(head, "phases = (") = '\0';
    for (int i = 0; i < 5; i++)
        for (int layers = 1; layers <= 24; layers++) {
            char path[512], text[16384], *schedule = NULL;
            struct tensor_table t = {.layers = layers};
            uint8_t mask[64] = {0};
            (void)snprintf(path, sizeof path, "%s/schedules/%s.cfg", MT_TEST_SOURCE_DIR, names[i]);
            assert_int_equal(config_bundle_read(&schedule, path), MT_OK);
            (void)snprintf(text, sizeof text, "%s%s", head, schedule);
            mt_free(&schedule);
            const char *set = layers % 2 == 0 ? "frozen_head=category" : "frozen_head=sentiment";
            struct job j;
            assert_int_equal(job_load(&j, text, &set, 1), MT_OK);
            assert_int_equal(schedule_expand(&j.schedule, layers), MT_OK);
            assert_int_equal(tensor_table_add(&t, "embeddings.word_embeddings.weight", 0, -1, 2, 2),
                             MT_OK);
            for (int l = 0; l < layers; l++) {
                (void)snprintf(name, sizeof name, "encoder.layer.%d.output.dense.weight", l);
                assert_int_equal(tensor_table_add(&t, name, l + 1, -1, 2, 2), MT_OK);
            }
            for (int h = 0; h < 2; h++) {
                (void)snprintf(name, sizeof name, "heads.%s.weight", heads[h]);
                assert_int_equal(tensor_table_add(&t, name, layers + 1, h, 2, 2), MT_OK);
            }
            int before = 0;
            for (int p = 0; p < j.schedule.count; p++) {
                int n = 0;
                if (phase_trainable(&j.schedule.phase[p], &t, mask) != MT_OK)
                    fail_msg("%s", mt_error_peek()->message);
                for (int k = 0; k < t.count; k++)
                    n += mask[k];
                assert_true(n > 0 && n >= before);
                before = n;
            }
            if (i == 2)
                assert_int_equal(mask[t.count - 1], layers % 2 == 0);
            job_release(&j);
            tensor_table_release(&t);
        }
}

static void fails_with(const char *set, const char *message)
{
    struct job j;
    mt_status st = job_load(&j, manual, &set, 1);
    if (st == MT_OK)
        job_release(&j);
    assert_true(st == MT_CONFIG || st == MT_ARG);
    assert_string_equal(mt_error_peek()->message, message);
}

static void relative_paths_count_from_the_job_s_folder(void **state)
{
    static const struct {
        const char *set, *path;
    } cases[] = {
        {"run_dir=../runs/x", "/runs/x"},   {"run_dir=./a/./b", "/base/a/./b"},
        {"run_dir=/abs/x", "/abs/x"},       {"run_dir=../../../x", "/x"},
        {"run_dir=a/../b", "/base/a/../b"}, {"run_dir=.././y", "/y"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job j;
        assert_int_equal(job_load(&j, manual, &cases[i].set, 1), MT_OK);
        assert_string_equal(j.run_dir, cases[i].path);
        job_release(&j);
    }
}

static void the_example_jobs_load(void **state)
{
    glob_t found;
    (void)state;
    assert_int_equal(glob(MT_TEST_SOURCE_DIR "/jobs/*.cfg", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *text = NULL;
        struct job j;
        assert_int_equal(config_bundle_read(&text, found.gl_pathv[i]), MT_OK);
        if (job_load(&j, text, NULL, 0) != MT_OK)
            fail_msg("%s", mt_error_peek()->message);
        mt_free(&text);
        job_release(&j);
    }
    globfree(&found);
}

static void each_wrong_job_has_its_message(void **state)
{
    static const struct {
        const char *set, *message;
    } cases[] = {
        {"train.epoch=3", "--set train.epoch: unknown key, did you mean \"epochs\"?"},
        {"train.epochs=four", "--set train.epochs: expected a number, got the string \"four\""},
        {"batch.lanes=6", "--set batch.lanes: expected a power of two, got 6"},
        {"batch.sentences=4", "jobs/x.cfg:10: batch.lanes: 8 lanes for 4 sentences: a lane needs "
                              "at least one; lower batch.lanes or "
                              "raise batch.sentences"},
        {"phases[0].sentences=4",
         "--set phases[0].sentences: 4 sentences for 8 lanes: a lane needs at least one"},
        {"tasks[1].name=category", "--set tasks[1].name: a second task named \"category\""},
        {"tasks[1].name=a/b",
         "--set tasks[1].name: \"a/b\": use letters, digits, _ and -, at most 63"},
        {"tasks[0].data=ticket",
         "--set tasks[0].data: there is no data set named \"ticket\", did you mean \"tickets\"?"},
        {"tasks[0].kind=regression",
         "--set tasks[0].kind: expected \"classification\", got \"regression\""},
        {"tasks[0].labels=[\"a\"]",
         "--set tasks[0].labels: a classification needs at least two labels"},
        {"tasks[0].labels=[\"a\",\"b\",\"a\"]",
         "--set tasks[0].labels: the label \"a\" stands twice"},
        {"tasks[0].class_weights=[1.0,2.0]",
         "--set tasks[0].class_weights: 2 weights for 3 labels"},
        {"tasks[0].weight=-1",
         "--set tasks[0].weight: expected a number of at least 0, got the number -1"},
        {"tasks=()", "--set tasks: no task: tasks = ( { name = \"...\"; } )"},
        {"data=()", "--set data: no data set: data = ( { name = \"...\"; train = [ ... ]; } )"},
        {"data[0].train=[]", "--set data[0].train: expected at least one string, got a list"},
        {"data[0].delimiter=ab", "--set data[0].delimiter: expected one character, got \"ab\""},
        {"data={ name = \"d\"; }", "jobs/x.cfg: data.train: is missing: files: .tsv .csv .jsonl "
                                   "are packed at the first start, .h5 shards are "
                                   "used as they are (their contents are compared by hash)"},
        {"model={ }", "jobs/x.cfg: model.init: is missing: Hugging Face folder, run or checkpoint "
                      "to begin from, or `random`"},
        {"model.init=random", "jobs/x.cfg:4: model.vocab: is missing: model.init is \"random\""},
        {"model.config={ hidden_size = 64; }",
         "--set model.config: is for init = \"random\" only; the sizes of this model stand in its "
         "own config.json"},
        {"model.pooling=men", "--set model.pooling: expected one of \"mean\", \"cls\", \"max\", "
                              "\"mean_sqrt\", \"weightedmean\", "
                              "\"pooler\", got the string \"men\""},
        {"model.max_tokens=2",
         "--set model.max_tokens: expected a number from 3 to 65536, got the number 2"},
        {"batch.sampling=explicit",
         "jobs/x.cfg:10: batch.weights: is missing: sampling is \"explicit\""},
        {"batch.weights={ x = 1.0; }", "--set batch.weights: there is no data set named \"x\""},
        {"batch.weights={ tickets = 0; }", "--set batch.weights: all weights are 0"},
        {"train.epochs=0", "--set train.epochs: neither epochs nor max_steps bounds the run"},
        {"train.eval_every=5min", "--set train.eval_every: evaluations decide about the run, so "
                                  "they cannot depend on the clock; use st, "
                                  "ep, run or tok"},
        {"train.save_every=0st",
         "--set train.save_every: expected a duration above 0 in st, ep, run, tok or a time"},
        {"train.best=accuracy", "--set train.best: expected dev.TASK.KIND or mean(dev.KIND) with "
                                "KIND one of loss, accuracy, f1_macro, "
                                "mcc, got \"accuracy\""},
        {"train.best=dev.mood.mcc", "--set train.best: there is no task named \"mood\""},
        {"optimizer.kind=sgd", "--set optimizer.kind: expected \"adamw\", got \"sgd\""},
        {"optimizer.betas=[0.9]", "--set optimizer.betas: expected two numbers, got 1"},
        {"optimizer.warmup=5min", "--set optimizer.warmup: give it in st, ep, run or phase"},
        {"frozen_head=mood", "--set frozen_head: there is no task named \"mood\""},
        {"name=a/b", "--set name: \"a/b\": a name has no / and does not begin with a dot"},
        {"phases[1].name=heads", "jobs/x.cfg:16: phases[1].name: a second phase named \"heads\""},
        {"phases[1].until=0.2run",
         "jobs/x.cfg:16: phases[1].until: 0.2run is not after the phases before it, so it would "
         "have no step "
         "(until counts from the run's beginning; length from the phase's)"},
        {"phases[1].until=0.5phase", "jobs/x.cfg:16: phases[1].until: a phase cannot end at a "
                                     "fraction of itself; use st, ep, run, tok or "
                                     "a time"},
        {"phases[1].until=soon", "--set phases[1].until: expected a duration like \"500st\", "
                                 "\"2ep\", \"0.3run\", \"0.1phase\" or "
                                 "\"90min\", got the string \"soon\""},
        {"phases[1].until={ metric = \"dev.mood.loss\"; patience = 2; }",
         "jobs/x.cfg:16: phases[1].until.metric: there is no task named \"mood\""},
        {"phases[1].until={ metric = \"dev.category.loss\"; }",
         "jobs/x.cfg:16: phases[1].until: a metric needs above, below or patience"},
        {"phases[1].until={ patience = 2; }",
         "jobs/x.cfg:16: phases[1].until: above, below and patience need a metric"},
        {"phases[1].train=[]", "jobs/x.cfg:16: phases[1].train: nothing is trained; for a separate "
                               "classifier on the frozen network add "
                               "classifier = \"probe\""},
        {"phases[1].classifier=probe", "jobs/x.cfg:16: phases[1]: classifier = \"probe\" trains no "
                                       "tensor of the network: write train = "
                                       "[ ]"},
        {"phases[1].train=a[3",
         "--set phases[1].train: \"a[3\": expected a range of numbers like [8-11] or [0-2,7]"},
        {"phases[1].tasks=[\"categry\"]",
         "--set phases[1].tasks: there is no task named \"categry\", did you mean \"category\"?"},
        {"phases[1].loss_weights={ mood = 1; }",
         "--set phases[1].loss_weights: there is no task named \"mood\""},
        {"phases[1].sampling=explicit",
         "jobs/x.cfg:16: phases[1].sampling: \"explicit\" needs weights = { DATA = 1.0; ... }"},
        {"phases[1].warmup=5min",
         "jobs/x.cfg:16: phases[1].warmup: give it in st, ep, run or phase"},
        {"phases[1].warmup=0.1", "--set phases[1].warmup: expected a duration like \"500st\", "
                                 "\"2ep\", \"0.3run\", \"0.1phase\" or "
                                 "\"90min\", got the number 0.1"},
        {"phases[1].gradual.from=top(1)",
         "jobs/x.cfg:16: phases[1].gradual.to is missing: \"all\" or top(4)"},
        {"phases[1].optimizer_state=forget", "--set phases[1].optimizer_state: expected one of "
                                             "\"keep\", \"reset\", \"reset_new\", got the "
                                             "string \"forget\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        fails_with(cases[i].set, cases[i].message);
    const char *set[] = {"phases[1].cache=on", "phases[1].frozen_dropout=true"};
    struct job j;
    assert_int_equal(job_load(&j, manual, set, 2), MT_CONFIG);
    assert_string_equal(
        mt_error_peek()->message,
        "jobs/x.cfg:16: phases[1]: cache = \"on\" and frozen_dropout = true rule each other "
        "out: what is random cannot be computed once");
}

static void differences_are_classified(void **state)
{
    static const char *const set[] = {"train.keep_last=5", "optimizer.lr=1e-4",
                                      "model.max_tokens=64", "tasks[1].labels=[\"a\",\"b\"]"};
    static const struct {
        const char *key, *before, *after;
        enum option_class change;
    } expected[] = {
        {"model.max_tokens", "128", "64", OPTION_INCOMPATIBLE},
        {"tasks[1].labels", "[ \"negative\", \"neutral\", \"positive\" ]", "[ \"a\", \"b\" ]",
         OPTION_INCOMPATIBLE},
        {"train.keep_last", "2", "5", OPTION_HARMLESS},
        {"optimizer.lr", "5e-05", "0.0001", OPTION_TRAJECTORY},
        {"phases[1].lr", "5e-05", "0.0001", OPTION_TRAJECTORY},
    };
    struct job a, b;
    struct job_changes c;
    (void)state;
    assert_int_equal(job_load(&a, manual, NULL, 0), MT_OK);
    assert_int_equal(job_load(&b, manual, set, 4), MT_OK);
    assert_int_equal(job_compare(&a, &b, &c), MT_OK);
    assert_int_equal(c.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(c.change[i].key, expected[i].key);
        assert_string_equal(c.change[i].before, expected[i].before);
        assert_string_equal(c.change[i].after, expected[i].after);
        assert_int_equal(c.change[i].change, expected[i].change);
    }
    job_changes_release(&c);
    assert_true(hash(&a) != hash(&b));
    job_release(&a);
    job_release(&b);
}

static void hostile_jobs_never_crash(void **state)
{
    char text[sizeof manual];
    const size_t length = sizeof manual - 1;
    (void)state;
    srandom(5);
    for (size_t i = 0; i < 6000; i++) {
        struct job j;
        memcpy(text, manual, sizeof text);
        if (i < length)
            text[i] = '\0';
        for (size_t k = 0; i >= length && k < 1 + i % 5; k++) {
            size_t at = (size_t)random() % length;
            text[at] = (char)(i % 2 == 0 ? 33 + random() % 94 : text[(size_t)random() % length]);
        }
        if (job_load(&j, text, NULL, 0) == MT_OK)
            job_release(&j);
    }
}

static void running_out_of_memory_is_clean(void **state)
{
    struct mt_memory_stats m;
    (void)state;
    for (int n = 1;; n += 1 + n / 40) {
        struct job j;
        mt_memory_fail_after(n);
        mt_status st = job_load(&j, manual, NULL, 0);
        mt_memory_fail_after(0);
        if (st == MT_OK)
            job_release(&j);
        mt_memory_stats(&m);
        assert_int_equal(m.live_blocks, 0);
        if (st == MT_OK)
            break;
        assert_int_equal(st, MT_NOMEM);
    }
}

/* MT_WRITE=1 writes the file instead. */
static void the_key_reference_is_up_to_date(void **state)
{
    char *text = NULL, *found = NULL;
    char path[512];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/jobs/JOB.md", MT_TEST_SOURCE_DIR);
    assert_int_equal(job_document(&text), MT_OK);
    FILE *f = fopen(path, getenv("MT_WRITE") != NULL ? "w" : "r");
    assert_non_null(f);
    if (getenv("MT_WRITE") != NULL) {
        assert_true(fputs(text, f) >= 0);
    } else {
        assert_int_equal(mt_alloc(&found, 1 << 20, 1, "a file"), MT_OK);
        assert_true(fread(found, 1, (1 << 20) - 1, f) > 0);
        if (strcmp(found, text) != 0)
            fail_msg("jobs/JOB.md is not what the tables say: run this test once with MT_WRITE=1");
    }
    (void)fclose(f);
    mt_free(&text);
    mt_free(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manual_s_job_is_read),
        cmocka_unit_test(a_short_job_has_sensible_defaults),
        cmocka_unit_test(the_printed_job_loads_to_the_same),
        cmocka_unit_test(shipped_schedules_fit_any_depth_and_task),
        cmocka_unit_test(relative_paths_count_from_the_job_s_folder),
        cmocka_unit_test(the_example_jobs_load),
        cmocka_unit_test(each_wrong_job_has_its_message),
        cmocka_unit_test(differences_are_classified),
        cmocka_unit_test(hostile_jobs_never_crash),
        cmocka_unit_test(running_out_of_memory_is_clean),
        cmocka_unit_test(the_key_reference_is_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
