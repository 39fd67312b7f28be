/* Phases: rates, masks, bounds, expansion, and the phase machine for every kind of end. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "schedules/phase_machine.h"

static const char *const tasks[] = {"category", "sentiment"};

struct holder {
    struct phase *phase;
    int32_t count;
};
static const struct option rows[] = {
    {.key = "phases",
     .type = OPTION_LIST,
     .offset = offsetof(struct holder, phase),
     .count_offset = offsetof(struct holder, count),
     .table = &phase_options,
     .help = "phases"},
};
static const struct option_table holder_table = {rows, 1, sizeof(struct holder), NULL};

static struct schedule make(const char *phases)
{
    struct config *c = NULL;
    struct holder h;
    static const struct weight_list none;
    const struct schedule_defaults d = {.lr = 1,
                                        .layer_decay = 1,
                                        .shape = SHAPE_LINEAR,
                                        .power = 1,
                                        .sampling = SAMPLING_PROPORTIONAL,
                                        .cache = CACHE_AUTO,
                                        .temperature = 1,
                                        .weights = &none,
                                        .sentences = 32,
                                        .frozen_head = "sentiment"};
    assert_int_equal(config_parse(&c, phases, NULL, 0), MT_OK);
    if (options_parse(&holder_table, &h, c, config_root(c)) != MT_OK)
        fail_msg("%s", mt_error_peek()->message);
    config_close(&c);
    struct schedule s = {NULL, h.phase, h.count};
    assert_int_equal(schedule_complete(&s, &d), MT_OK);
    if (schedule_check(&s, tasks, 2, NULL, 0) != MT_OK)
        fail_msg("%s", mt_error_peek()->message);
    return s;
}

static struct tensor_table make_table(int layers)
{
    struct tensor_table t = {.layers = layers};
    char name[64];
    assert_int_equal(tensor_table_add(&t, "embeddings.word_embeddings.weight", 0, -1, 4, 4), MT_OK);
    for (int l = 0; l < layers; l++) {
        (void)snprintf(name, sizeof name, "encoder.layer.%d.output.dense.weight", l);
        assert_int_equal(tensor_table_add(&t, name, l + 1, -1, 4, 4), MT_OK);
    }
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "heads.%s.weight", tasks[i]);
        assert_int_equal(tensor_table_add(&t, name, layers + 1, i, 4, 4), MT_OK);
        (void)snprintf(name, sizeof name, "heads.%s.bias", tasks[i]);
        assert_int_equal(tensor_table_add(&t, name, layers + 1, i, 4, 0), MT_OK);
    }
    return t;
}

static void near(double a, double b)
{
    assert_true(fabs(a - b) <= 1e-14 * (1 + fabs(b)));
}

static void shapes_follow_their_closed_forms(void **state)
{
    struct phase p = {.final_lr = 0, .power = 2};
    const int64_t T = 100, W = 10;
    (void)state;
    for (int64_t k = 0; k < T; k++) {
        double x = (double)(k - W) / (double)(T - W);
        double rise = (double)k / (double)W;
        p.shape = SHAPE_LINEAR;
        near(phase_factor(&p, k, T, W, 0), k < W ? rise : (double)(T - k) / (double)(T - W));
        p.shape = SHAPE_COSINE;
        near(phase_factor(&p, k, T, W, 0), k < W ? rise : 0.5 * (1 + cos(acos(-1) * x)));
        p.shape = SHAPE_POLYNOMIAL;
        near(phase_factor(&p, k, T, W, 0), k < W ? rise : (1 - x) * (1 - x));
        p.shape = SHAPE_CONSTANT;
        near(phase_factor(&p, k, T, W, 0), k < W ? rise : 1);
        p.shape = SHAPE_INVERSE_SQRT;
        near(phase_factor(&p, k, T, W, 0), k < W ? rise : sqrt((double)W / (double)k));
        near(phase_factor(&p, k, T, 0, 0), 1 / sqrt(((double)k + 10000) / 10000));
        p.shape = SHAPE_WSD;
        near(phase_factor(&p, k, T, W, 20), k < W ? rise : k < 80 ? 1 : (double)(T - k) / 20);
    }
    p.shape = SHAPE_LINEAR;
    p.final_lr = 0.25;
    near(phase_factor(&p, T, T, W, 0), 0.25);
    near(phase_factor(&p, 55, T, W, 0), 0.625);
    near(phase_factor(&p, T + 50, T, W, 0), 0.25);
    near(phase_factor(&p, 0, 0, 0, 0), 0.25);
    near(phase_factor(&p, 5, INT64_MAX, 0, 0), 1);
}

static void rates_follow_depth_and_rules(void **state)
{
    struct schedule s = make(
        "phases = ( { train = [ \"*\" ]; freeze = \"encoder.layer.0\"; lr = 2.0; layer_decay = 0.5;"
        " weight_decay = 0.1; rates = ( { match = \"heads.category\"; lr = 7.0; weight_decay = 0; "
        "},"
        " { match = [ \"heads.*\" ]; lr = 3.0; } ); } );");
    struct tensor_table t = make_table(3);
    uint8_t mask[8];
    double lr[8];
    (void)state;
    assert_int_equal(phase_trainable(&s.phase[0], &t, mask), MT_OK);
    assert_int_equal(phase_rates(&s.phase[0], &t, mask, lr), MT_OK);
    const double expected[] = {2.0 / 16, 0, 0.5, 1.0, 7, 7, 3, 3};
    for (int i = 0; i < 8; i++)
        near(lr[i], expected[i]);
    near(phase_tensor_weight_decay(&s.phase[0], &t.entry[0], 3), 0.1);
    near(phase_tensor_weight_decay(&s.phase[0], &t.entry[4], 3), 0);
    near(phase_tensor_weight_decay(&s.phase[0], &t.entry[6], 3), 0.1);
    near(phase_tensor_weight_decay(&s.phase[0], &t.entry[7], 3), 0);
    assert_int_equal(phase_train_from(&t, mask), 0);
    schedule_release(&s);
    tensor_table_release(&t);
}

static void a_frozen_head_gives_no_loss_unless_named(void **state)
{
    struct schedule s = make(
        "phases = ( { name = \"a\"; freeze = [ \"heads.$frozen_head\" ]; until = \"0.5run\"; },"
        "{ name = \"b\"; freeze = [ \"heads.sentiment\" ]; tasks = [ \"$frozen_head\" ]; },"
        "{ name = \"c\"; train = \"encoder\"; } );");
    struct tensor_table t = make_table(2);
    uint8_t mask[7];
    bool active[2];
    (void)state;
    static const bool expected[3][2] = {{true, false}, {false, true}, {false, false}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(phase_trainable(&s.phase[i], &t, mask), MT_OK);
        phase_active_tasks(&s.phase[i], &t, mask, tasks, 2, active);
        assert_int_equal(active[0], expected[i][0]);
        assert_int_equal(active[1], expected[i][1]);
    }
    assert_int_equal(phase_train_from(&t, mask), 1);
    memset(mask, 0, sizeof mask);
    assert_int_equal(phase_train_from(&t, mask), 4);
    schedule_release(&s);
    tensor_table_release(&t);
}

static void without_a_schedule_everything_is_trained(void **state)
{
    struct schedule s = make("phases = ( );");
    const double per_epoch[] = {25};
    const struct run_length run = {4, 0, per_epoch};
    (void)state;
    assert_int_equal(s.count, 1);
    assert_string_equal(s.phase[0].train.item[0], "*");
    assert_int_equal(schedule_run_steps(&s, &run), 100);
    schedule_release(&s);
}

static void bounds_follow_steps_epochs_and_fractions(void **state)
{
    struct schedule s =
        make("phases = ( { until = \"0.3run\"; }, { until = \"50st\"; }, { length = \"1ep\"; },"
             "{ until = ( \"0.9run\", { length = \"13st\"; } ); }, { } );");
    const double per_epoch[] = {25, 25, 25, 25, 12.5};
    struct run_length run = {4, 0, per_epoch};
    int64_t begin[5], end[5];
    (void)state;
    schedule_phase_bounds(&s, &run, begin, end);
    const int64_t expected[] = {30, 50, 75, 88, 94};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(end[i], expected[i]);
        assert_int_equal(begin[i], i == 0 ? 0 : expected[i - 1]);
    }
    run.max_steps = 60;
    schedule_phase_bounds(&s, &run, begin, end);
    const int64_t capped[] = {18, 50, 60, 60, 60};
    for (int i = 0; i < 5; i++)
        assert_int_equal(end[i], capped[i]);
    schedule_release(&s);
}

static void an_epoch_of_uneven_steps_loses_none(void **state)
{
    struct schedule s = make("phases = ( { until = \"0.1run\"; }, { until = \"0.2run\"; }, { until "
                             "= \"0.3run\"; }, { } );");
    (void)state;
    for (int n = 1; n < 3000; n++) {
        const double per_epoch[] = {n, n, n, n};
        const struct run_length run = {10, 0, per_epoch};
        int64_t begin[4], end[4];
        schedule_phase_bounds(&s, &run, begin, end);
        assert_int_equal(end[0], n);
        assert_int_equal(end[1], 2 * n);
        assert_int_equal(end[2], 3 * n);
        assert_int_equal(end[3], 10 * n);
    }
    schedule_release(&s);
}

static void warmups_are_parts_of_phase_run_or_epoch(void **state)
{
    struct schedule s = make("phases = ( { warmup = \"0.1phase\"; }, { warmup = 7; }, { warmup = "
                             "\"0.5ep\"; }, { warmup = \"0.01run\"; },"
                             "{ warmup = \"900st\"; } );");
    const double per_epoch[] = {10, 10, 10, 10, 10};
    const struct run_length run = {100, 0, per_epoch};
    const int64_t expected[] = {20, 7, 5, 10, 200};
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(schedule_warmup_steps(&s.phase[i], &run, i, 1000, 200), expected[i]);
    schedule_release(&s);
}

static void gradual_becomes_one_phase_a_layer(void **state)
{
    struct schedule s =
        make("phases = ( { name = \"h\"; until = \"0.2run\"; train = \"heads.*\"; },"
             "{ name = \"g\"; until = \"1.0run\"; train = [ \"heads.*\" ]; lr = 0.5; gradual = { "
             "from = \"top(1)\"; to = \"all\"; }; } );");
    const double per_epoch[] = {100, 100, 100, 100, 100, 100};
    const struct run_length run = {1, 0, per_epoch};
    static const char *const names[] = {"h", "g-top1", "g-top2", "g-top3", "g-all"};
    static const int64_t ends[] = {20, 40, 60, 80, 100};
    static const int trained[] = {4, 5, 6, 7, 8};
    struct tensor_table t = make_table(3);
    int64_t begin[6], end[6];
    uint8_t mask[8];
    (void)state;
    assert_int_equal(schedule_expand(&s, 3), MT_OK);
    assert_int_equal(schedule_expand(&s, 3), MT_OK);
    assert_int_equal(s.count, 5);
    schedule_phase_bounds(&s, &run, begin, end);
    for (int i = 0; i < 5; i++) {
        int n = 0;
        assert_string_equal(s.phase[i].name, names[i]);
        assert_int_equal(end[i], ends[i]);
        assert_int_equal(phase_trainable(&s.phase[i], &t, mask), MT_OK);
        for (int k = 0; k < 8; k++)
            n += mask[k];
        assert_int_equal(n, trained[i]);
    }
    assert_true(s.phase[3].lr == 0.5);
    schedule_release(&s);
    s = make("phases = ( { name = \"g\"; gradual = { from = \"none\"; to = \"top(2)\"; every = "
             "\"0.5ep\"; }; } );");
    assert_int_equal(schedule_expand(&s, 3), MT_OK);
    assert_int_equal(s.count, 3);
    schedule_phase_bounds(&s, &run, begin, end);
    assert_int_equal(end[0], 50);
    assert_int_equal(end[1], 100);
    schedule_release(&s);
    s = make("phases = ( { until = \"5ep\"; }, { gradual = { to = \"all\"; }; } );");
    assert_int_equal(schedule_expand(&s, 3), MT_CONFIG);
    assert_int_equal(s.count, 2);
    schedule_release(&s);
    s = make("phases = ( { gradual = { to = \"all\"; }; } );");
    assert_int_equal(schedule_expand(&s, 300), MT_CONFIG);
    schedule_release(&s);
    tensor_table_release(&t);
}

/* Evaluation results by a formula of the step. */
struct results {
    const struct phase_machine *m;
    double values[64];
    int evals;
};
static bool lookup(void *context, enum metric_split split, int32_t task, enum metric_kind kind,
                   double *value)
{
    struct results *r = context;
    if (split != METRIC_DEV || kind == METRIC_MCC)
        return false;
    *value = r->values[r->evals] + (task == 1 ? 0.5 : 0);
    return true;
}

/* Runs with an evaluation every 10 steps, saving and restoring the machine after each step by its
 * fields; writes "name:by@step" of each phase's end. */
static void run_machine(struct schedule *s, const struct run_length *run, const double *values,
                        char *out)
{
    struct phase_machine m;
    struct results r = {.m = &m};
    out[0] = '\0';
    for (int i = 0; values != NULL && i < 20; i++)
        r.values[i] = values[i];
    phase_machine_start(&m, s, run);
    for (int guard = 0; !m.finished && guard < 1000; guard++) {
        if (s->phase[m.phase].classifier == CLASSIFIER_PROBE) {
            phase_machine_end_now(&m, s, run, ENDED_FITTED);
            continue;
        }
        (void)phase_machine_after_step(&m, s, run, 100, 0.5);
        if (m.step % 10 == 0) {
            (void)phase_machine_after_eval(&m, s, run, tasks, 2, lookup, &r);
            r.evals++;
        }
        struct phase_machine back;
        memset(&back, 0, sizeof back);
        for (int32_t i = 0; i < phase_machine_field_count(s->count); i++) {
            struct phase_field f;
            phase_machine_get(&m, s->count, i, &f);
            assert_true(phase_machine_set(&back, s->count, &f));
        }
        assert_memory_equal(&back, &m, sizeof m);
        assert_int_equal(phase_machine_check(&back, s), MT_OK);
    }
    assert_true(m.finished);
    for (int32_t i = 0; i < s->count; i++)
        (void)sprintf(out + strlen(out), "%s%s@%lld", i > 0 ? " " : "",
                      phase_end_name((enum phase_end)m.ended_by[i]), (long long)m.ended_step[i]);
}

static void every_kind_of_end_is_seen_at_its_step(void **state)
{
    static const double rising[20] = {.1, .2, .3, .4, .5, .5, .45, .5, .5, .6,
                                      .6, .6, .6, .6, .6, .6, .6,  .6, .6, .6};
    static const struct {
        const char *phases, *ends;
    } cases[] = {
        {"{ until = \"7st\"; }, { }", "steps@7 steps@100"},
        {"{ until = \"0.5ep\"; }, { length = \"0.25ep\"; }, { }", "steps@25 steps@38 steps@100"},
        {"{ until = \"0.3run\"; }, { length = \"0.1run\"; }", "steps@30 steps@40"},
        {"{ until = \"650tok\"; }, { until = { length = \"650tok\"; }; }, { }",
         "tokens@7 tokens@14 steps@100"},
        {"{ until = \"3.2s\"; }, { length = \"3s\"; }, { }", "time@7 time@13 steps@100"},
        {"{ until = { metric = \"dev.category.accuracy\"; above = 0.4; }; }, { }",
         "threshold@40 steps@100"},
        {"{ until = { metric = \"dev.sentiment.loss\"; below = 0.6; }; }, { }",
         "threshold@10 steps@100"},
        {"{ until = { metric = \"mean(dev.accuracy)\"; patience = 2; }; }, { }",
         "plateau@70 steps@100"},
        {"{ until = { metric = \"mean(dev.accuracy)\"; patience = 2; min_delta = 0.25; }; }, { }",
         "plateau@30 steps@100"},
        {"{ until = { metric = \"dev.category.loss\"; patience = 3; }; }, { }",
         "plateau@40 steps@100"},
        {"{ until = ( \"90st\", { metric = \"max(dev.accuracy)\"; above = 0.85; }, \"1h\" ); }, { "
         "}",
         "threshold@40 steps@100"},
        {"{ until = { metric = \"dev.category.mcc\"; patience = 1; }; }, { }",
         "steps@100 run end@100"},
        {"{ until = \"0.2run\"; }, { train = [ ]; classifier = \"probe\"; }, { }, { name = \"p\"; "
         "train = [ ]; classifier = \"probe\"; }",
         "steps@20 fitted@20 steps@100 fitted@100"},
        {"{ train = [ ]; classifier = \"probe\"; }", "fitted@0"},
        {"{ until = \"200st\"; }, { }", "steps@100 run end@100"},
        {"{ until = ( \"20st\", { at = \"30st\"; metric = \"dev.category.accuracy\"; above = 0.1; "
         "} ); }, { }",
         "threshold@10 steps@100"},
    };
    const double per_epoch[] = {50, 50, 50, 50};
    const struct run_length run = {2, 0, per_epoch};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512], ends[256];
        (void)snprintf(text, sizeof text, "phases = ( %s );", cases[i].phases);
        struct schedule s = make(text);
        run_machine(&s, &run, rising, ends);
        if (strcmp(ends, cases[i].ends) != 0)
            print_message("%s\n", text);
        assert_string_equal(ends, cases[i].ends);
        schedule_release(&s);
    }
}

static void an_end_by_time_is_honoured_by_whoever_resumes(void **state)
{
    struct schedule s = make("phases = ( { until = \"10s\"; }, { } );");
    const double per_epoch[] = {50, 50};
    const struct run_length run = {2, 0, per_epoch};
    struct phase_machine first, again;
    (void)state;
    phase_machine_start(&first, &s, &run);
    while (first.phase == 0)
        (void)phase_machine_after_step(&first, &s, &run, 10, 1);
    assert_int_equal(first.step, 10);
    for (double pace = 0.01; pace < 10; pace *= 10) { /* slower or faster than before */
        phase_machine_start(&again, &s, &run);
        for (int i = 0; i < 3; i++)
            (void)phase_machine_after_step(&again, &s, &run, 10, 1);
        phase_machine_honour(&again, 0, first.ended_step[0], (enum phase_end)first.ended_by[0]);
        assert_int_equal(again.phase_end_step, 100);
        while (again.phase == 0)
            (void)phase_machine_after_step(&again, &s, &run, 10, pace);
        assert_int_equal(again.step, 10);
        assert_int_equal(again.ended_by[0], ENDED_TIME);
    }
    schedule_release(&s);
}

static void a_command_ends_a_phase_and_a_longer_run_moves_its_end(void **state)
{
    struct schedule s = make("phases = ( { until = \"0.5run\"; }, { } );");
    const double per_epoch[] = {50, 50};
    struct run_length run = {2, 0, per_epoch};
    struct phase_machine m;
    (void)state;
    phase_machine_start(&m, &s, &run);
    (void)phase_machine_after_step(&m, &s, &run, 10, 1);
    run.epochs = 4;
    phase_machine_replan(&m, &s, &run);
    assert_int_equal(m.phase_end_step, 100);
    phase_machine_end_now(&m, &s, &run, ENDED_COMMAND);
    assert_int_equal(m.phase, 1);
    assert_int_equal(m.phase_begin_step, 1);
    near(phase_machine_epoch(&m, &run), 0.02);
    assert_int_equal(m.phase_end_step, 200);
    schedule_release(&s);
}

static void a_damaged_state_is_refused(void **state)
{
    struct schedule s = make("phases = ( { until = \"0.5run\"; }, { } );");
    const double per_epoch[] = {50, 50};
    const struct run_length run = {2, 0, per_epoch};
    (void)state;
    for (int field = 0; field < 10; field++) {
        struct phase_machine m;
        struct phase_field f;
        phase_machine_start(&m, &s, &run);
        phase_machine_get(&m, 2, field, &f);
        f.integer = -9;
        f.real = NAN;
        assert_true(phase_machine_set(&m, 2, &f));
        assert_int_equal(phase_machine_check(&m, &s), MT_DATA);
    }
    struct phase_machine m;
    const struct phase_field unknown = {.name = "colour"};
    phase_machine_start(&m, &s, &run);
    assert_false(phase_machine_set(&m, 2, &unknown));
    schedule_release(&s);
}

static void metric_names_are_exact(void **state)
{
    struct metric m;
    (void)state;
    assert_true(metric_parse(&m, "dev.a.b.f1_macro"));
    assert_string_equal(m.task, "a.b");
    assert_true(metric_parse(&m, "min(test.mcc)"));
    assert_int_equal(m.over, METRIC_MIN);
    static const char *const bad[] = {"",
                                      "dev",
                                      "dev.",
                                      "dev.accuracy",
                                      "dev.a.speed",
                                      "train.a.loss",
                                      "mean(dev.a.loss)",
                                      "mean(dev.loss",
                                      "sum(dev.loss)",
                                      "(dev.loss)",
                                      "mean()",
                                      "dev..loss",
                                      "mean(",
                                      "x("};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(metric_parse(&m, bad[i]));
}

static void nothing_is_left_allocated(void **state)
{
    struct mt_memory_stats s;
    (void)state;
    mt_memory_stats(&s);
    assert_int_equal(s.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_follow_their_closed_forms),
        cmocka_unit_test(rates_follow_depth_and_rules),
        cmocka_unit_test(a_frozen_head_gives_no_loss_unless_named),
        cmocka_unit_test(without_a_schedule_everything_is_trained),
        cmocka_unit_test(bounds_follow_steps_epochs_and_fractions),
        cmocka_unit_test(an_epoch_of_uneven_steps_loses_none),
        cmocka_unit_test(warmups_are_parts_of_phase_run_or_epoch),
        cmocka_unit_test(gradual_becomes_one_phase_a_layer),
        cmocka_unit_test(every_kind_of_end_is_seen_at_its_step),
        cmocka_unit_test(an_end_by_time_is_honoured_by_whoever_resumes),
        cmocka_unit_test(a_command_ends_a_phase_and_a_longer_run_moves_its_end),
        cmocka_unit_test(a_damaged_state_is_refused),
        cmocka_unit_test(metric_names_are_exact),
        cmocka_unit_test(nothing_is_left_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
