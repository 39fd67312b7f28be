#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "tests/golden/probe_golden.h"
#include "trainer/optim/logistic.h"
#include "trainer/probe.h"

enum { ROWS = 203, DIM = 13, CLASSES = 5 };

static float features[ROWS * DIM];
static int32_t labels[ROWS];

/* Gaussian clouds, one a class, `distance` apart. */
static void make_clouds(double distance, int32_t classes)
{
    uint64_t key = rng_key(7, RNG_TEST, 0);
    for (int i = 0; i < ROWS; i++) {
        labels[i] = (int32_t)(rng_philox(key, (uint32_t)i, 9, 9, 9).v[0] % (uint32_t)classes);
        for (int d = 0; d < DIM; d++) {
            double centre = distance * rng_normal(key, 2, (uint64_t)(labels[i] * DIM + d));
            features[i * DIM + d] = (float)(centre + rng_normal(key, 1, (uint64_t)(i * DIM + d)));
        }
    }
}

static struct probe_data clouds(int first, int count)
{
    return (struct probe_data){
        .features = features + first * DIM, .labels = labels + first, .rows = count};
}

static void assert_nothing_left(void)
{
    struct mt_memory_stats m;
    mt_memory_stats(&m);
    assert_int_equal(m.live_blocks, 0);
}

static void gradient_matches_central_differences(void **state)
{
    (void)state;
    make_clouds(0.5, CLASSES);
    int64_t rows[ROWS];
    double weights[CLASSES] = {1, 0.3, 2, 1, 5}, g[8 * (DIM + 1)], none[8 * (DIM + 1)],
           x[8 * (DIM + 1)] = {0};
    for (int i = 0; i < ROWS; i++)
        rows[i] = i;
    struct logistic l = {.features = features,
                         .rows = rows,
                         .labels = labels,
                         .weights = weights,
                         .row_count = ROWS,
                         .dim = DIM,
                         .classes = CLASSES,
                         .l2 = 0.7};
    assert_int_equal(logistic_init(&l, true), MT_OK);
    assert_int_equal(l.parameter_count, 8 * (DIM + 1));
    for (int k = 0; k < CLASSES; k++)
        for (int d = 0; d <= DIM; d++)
            x[logistic_index(&l, k, d)] = rng_normal(3, 0, (uint64_t)(k * (DIM + 1) + d));
    logistic_evaluate(&l, x, g);
    for (int k = 0; k < CLASSES; k++) {
        for (int d = 0; d <= DIM; d++) {
            int64_t i = logistic_index(&l, k, d);
            double at = x[i], h = 1e-5;
            x[i] = at + h;
            double up = logistic_evaluate(&l, x, none);
            x[i] = at - h;
            double down = logistic_evaluate(&l, x, none);
            x[i] = at;
            assert_true(fabs((up - down) / (2 * h) - g[i]) < 1e-6 * (1 + fabs(g[i])));
        }
    }
    for (int k = CLASSES; k < 8; k++)
        for (int d = 0; d <= DIM; d++)
            assert_true(g[logistic_index(&l, k, d)] == 0);
    logistic_release(&l);
    assert_nothing_left();
}

static const struct probe_data GOLDEN = {
    .features = GOLDEN_FEATURES, .labels = GOLDEN_LABELS, .rows = GOLDEN_ROWS};

static const struct probe_options GOLDEN_OPTIONS = {.dim = GOLDEN_DIM,
                                                    .classes = GOLDEN_CLASSES,
                                                    .class_weights = GOLDEN_CLASS_WEIGHTS,
                                                    .l2_min = 0.5,
                                                    .l2_max = 0.5,
                                                    .tolerance = 1e-11};

static void optimum_is_that_of_newtons_method(void **state)
{
    (void)state;
    struct probe_result r;
    assert_true(GOLDEN_L2 == 0.5);
    assert_int_equal(probe_train(&r, &GOLDEN, NULL, &GOLDEN_OPTIONS), MT_OK);
    assert_int_equal(r.fit.reason, LBFGS_CONVERGED);
    assert_int_equal(r.trial_count, 0);
    assert_true(fabs(r.fit.value - GOLDEN_VALUE) < 1e-10);
    for (int i = 0; i < GOLDEN_CLASSES * GOLDEN_DIM; i++)
        assert_true(fabs(r.weight[i] - GOLDEN_WEIGHT[i]) < 1e-8 * (1 + fabs(GOLDEN_WEIGHT[i])));
    for (int k = 0; k < GOLDEN_CLASSES; k++)
        assert_true(fabs(r.bias[k] - GOLDEN_BIAS[k]) < 1e-7);
    probe_result_release(&r);
    assert_nothing_left();
}

static void rows_without_a_label_change_nothing(void **state)
{
    (void)state;
    float f[GOLDEN_ROWS * GOLDEN_DIM];
    int32_t y[GOLDEN_ROWS], n = 0;
    for (int i = 0; i < GOLDEN_ROWS; i++) {
        if (GOLDEN_LABELS[i] < 0)
            continue;
        memcpy(f + n * GOLDEN_DIM, GOLDEN_FEATURES + i * GOLDEN_DIM, GOLDEN_DIM * sizeof *f);
        y[n++] = GOLDEN_LABELS[i];
    }
    assert_true(n < GOLDEN_ROWS);
    const struct probe_data without = {.features = f, .labels = y, .rows = n};
    struct probe_result a, b;
    assert_int_equal(probe_train(&a, &GOLDEN, NULL, &GOLDEN_OPTIONS), MT_OK);
    assert_int_equal(probe_train(&b, &without, NULL, &GOLDEN_OPTIONS), MT_OK);
    assert_int_equal(a.train_rows, n);
    assert_memory_equal(a.weight, b.weight, GOLDEN_CLASSES * GOLDEN_DIM * sizeof(double));
    assert_memory_equal(a.bias, b.bias, GOLDEN_CLASSES * sizeof(double));
    assert_int_equal(a.train.count, n);
    probe_result_release(&a);
    probe_result_release(&b);
}

static void the_folded_head_gives_the_predictions(void **state)
{
    (void)state;
    make_clouds(0.4, CLASSES);
    const struct probe_options o = {.dim = DIM, .classes = CLASSES};
    const struct probe_data train = clouds(0, 150), rest = clouds(150, ROWS - 150);
    struct probe_result r;
    assert_int_equal(probe_train(&r, &train, &rest, &o), MT_OK);
    int32_t guess[ROWS];
    int64_t block[CLASS_COUNTS_WIDTH * CLASSES] = {0};
    struct class_counts c = class_counts_view(block, CLASSES);
    double loss, sum = 0;
    assert_int_equal(probe_evaluate(&r, &rest, &c, &loss, guess), MT_OK);
    for (int i = 0; i < rest.rows; i++) {
        double s[CLASSES], z = 0;
        int best = 0;
        for (int k = 0; k < CLASSES; k++) {
            s[k] = r.bias[k];
            for (int d = 0; d < DIM; d++)
                s[k] += r.weight[k * DIM + d] * (double)rest.features[i * DIM + d];
            best = s[k] > s[best] ? k : best;
        }
        for (int k = 0; k < CLASSES; k++)
            z += exp(s[k] - s[rest.labels[i]]);
        sum += log(z);
        assert_int_equal(guess[i], best);
    }
    assert_true(fabs(loss - sum / (double)rest.rows) < 1e-10);
    struct class_metrics m = class_counts_metrics(&c);
    assert_true(m.accuracy == r.dev.accuracy && m.mcc == r.dev.mcc && loss == r.dev_loss);
    assert_true(r.dev.accuracy > 0.6);
    probe_result_release(&r);
    assert_nothing_left();
}

static void strength_is_the_best_on_dev_and_the_stronger_of_equals(void **state)
{
    (void)state;
    make_clouds(0.25, CLASSES);
    const struct probe_options o = {.dim = DIM, .classes = CLASSES, .l2_count = 9};
    const struct probe_data train = clouds(0, 90), dev = clouds(90, ROWS - 90);
    struct probe_result r;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_OK);
    assert_int_equal(r.trial_count, 9);
    assert_true(r.trial[0].l2 == 1e4 && fabs(r.trial[8].l2 - 1e-3) < 1e-15);
    int chosen = -1;
    for (int t = 0; t < 9; t++) {
        assert_int_equal(r.trial[t].fit.reason, LBFGS_CONVERGED);
        if (r.trial[t].l2 == r.l2)
            chosen = t;
    }
    assert_in_range(chosen, 0, 8);
    for (int t = 0; t < 9; t++) {
        assert_true(r.trial[t].dev.accuracy <= r.trial[chosen].dev.accuracy);
        if (t < chosen)
            assert_true(r.trial[t].dev.accuracy < r.trial[chosen].dev.accuracy);
    }
    assert_true(r.dev.accuracy == r.trial[chosen].dev.accuracy);
    assert_true(r.fit.gradient_max <= 1e-6 * (double)r.train_rows);
    probe_result_release(&r);

    make_clouds(30, 3); /* every strength separates: all are equal */
    struct probe_options weak = o;
    weak.l2_min = 1e-4;
    weak.l2_max = 1e2;
    assert_int_equal(probe_train(&r, &train, &dev, &weak), MT_OK);
    assert_true(r.dev.accuracy == 1 && r.l2 == 1e2);
    probe_result_release(&r);
}

static void threads_do_not_change_a_bit(void **state)
{
    enum { N = 4000, D = 6, K = 3 };
    static float x[N * D];
    static int32_t y[N];
    struct probe_result r[3];
    (void)state;
    for (int i = 0; i < N; i++) {
        y[i] = i % K;
        for (int d = 0; d < D; d++)
            x[i * D + d] = (float)(rng_normal(5, (uint32_t)d, (uint64_t)i) + (d == y[i]));
    }
    const struct probe_data data = {x, y, N};
    for (int k = 0; k < 3; k++) {
        static const int32_t threads[] = {1, 2, 5};
        struct probe_options o = {.dim = D, .classes = K, .l2_min = 1.0, .l2_max = 1.0};
        assert_int_equal(pool_create(&o.pool, threads[k]), MT_OK);
        assert_int_equal(probe_train(&r[k], &data, NULL, &o), MT_OK);
        pool_destroy(&o.pool);
        assert_memory_equal(r[k].weight, r[0].weight, K * D * sizeof(double));
        assert_memory_equal(r[k].bias, r[0].bias, K * sizeof(double));
        assert_int_equal(r[k].fit.reason, LBFGS_CONVERGED);
    }
    for (int k = 0; k < 3; k++)
        probe_result_release(&r[k]);
}

static void separable_data_converge_under_l2(void **state)
{
    (void)state;
    make_clouds(8, 2);
    const struct probe_options o = {.dim = DIM, .classes = 2, .l2_min = 1e-4, .l2_max = 1e-4};
    const struct probe_data train = clouds(0, ROWS);
    struct probe_result r;
    assert_int_equal(probe_train(&r, &train, NULL, &o), MT_OK);
    assert_int_equal(r.fit.reason, LBFGS_CONVERGED);
    assert_true(r.train.accuracy == 1 && r.train_loss < 1e-3);
    for (int i = 0; i < 2 * DIM; i++)
        assert_true(isfinite(r.weight[i]));
    probe_result_release(&r);
}

static void a_class_absent_from_train_is_left_out(void **state)
{
    (void)state;
    make_clouds(1, 3);
    const struct probe_data train = clouds(0, ROWS);
    const struct probe_options three = {.dim = DIM, .classes = 3, .l2_min = 1, .l2_max = 1},
                               four = {.dim = DIM, .classes = 4, .l2_min = 1, .l2_max = 1};
    struct probe_result a, b;
    assert_int_equal(probe_train(&a, &train, NULL, &three), MT_OK);
    for (int i = 0; i < ROWS; i++)
        labels[i] += labels[i] > 0; /* classes 0, 2, 3: class 1 has no row */
    assert_int_equal(probe_train(&b, &train, NULL, &four), MT_OK);
    assert_int_equal(b.absent_classes, 1);
    assert_true(b.bias[1] == PROBE_ABSENT_BIAS);
    assert_memory_equal(b.weight, a.weight, DIM * sizeof(double));
    assert_memory_equal(b.weight + 2 * DIM, a.weight + DIM, 2 * DIM * sizeof(double));
    assert_true(a.train.accuracy == b.train.accuracy && fabs(a.train_loss - b.train_loss) < 1e-12);
    /* met in dev it counts as wrong, and the loss stays a number that tells something */
    labels[0] = 1;
    int64_t block[CLASS_COUNTS_WIDTH * 4] = {0};
    struct class_counts c = class_counts_view(block, 4);
    double loss;
    assert_int_equal(probe_evaluate(&b, &train, &c, &loss, NULL), MT_OK);
    assert_true(c.actual[1] == 1 && c.predicted[1] == 0 && loss < 10);
    probe_result_release(&a);
    probe_result_release(&b);
}

static void one_class_alone_is_predicted_always(void **state)
{
    (void)state;
    make_clouds(1, 1);
    const struct probe_options o = {.dim = DIM, .classes = 3};
    const struct probe_data train = clouds(0, 40);
    struct probe_result r;
    assert_int_equal(probe_train(&r, &train, NULL, &o), MT_OK);
    assert_true(r.train.accuracy == 1 && r.absent_classes == 2 && r.train_loss == 0);
    probe_result_release(&r);
}

static void a_feature_that_does_not_vary_gets_no_weight(void **state)
{
    (void)state;
    make_clouds(0.5, 3);
    for (int i = 0; i < ROWS; i++) {
        features[i * DIM + 4] = 0.1F;
        features[i * DIM + 5] = 0;
    }
    const struct probe_options o = {.dim = DIM, .classes = 3};
    const struct probe_data train = clouds(0, 150), dev = clouds(150, 50);
    struct probe_result r;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_OK);
    for (int k = 0; k < 3; k++)
        assert_true(r.weight[k * DIM + 4] == 0 && r.weight[k * DIM + 5] == 0 &&
                    isfinite(r.bias[k]));
    probe_result_release(&r);
}

static void without_dev_the_strength_comes_from_folds_of_the_seed(void **state)
{
    (void)state;
    make_clouds(0.3, CLASSES);
    labels[3] = labels[77] = -1;
    struct probe_options o = {.dim = DIM, .classes = CLASSES, .seed = 5};
    const struct probe_data train = clouds(0, ROWS);
    struct probe_result a, b;
    assert_int_equal(probe_train(&a, &train, NULL, &o), MT_OK);
    assert_int_equal(probe_train(&b, &train, NULL, &o), MT_OK);
    assert_true(a.by_folds);
    for (int t = 0; t < a.trial_count; t++) {
        assert_int_equal(a.trial[t].dev.count, ROWS - 2); /* each labelled row judged once */
        assert_true(a.trial[t].dev_loss == b.trial[t].dev_loss);
    }
    assert_true(a.l2 == b.l2 && a.dev.count == 0);
    assert_memory_equal(a.weight, b.weight, CLASSES * DIM * sizeof(double));
    probe_result_release(&b);
    o.seed = 6;
    assert_int_equal(probe_train(&b, &train, NULL, &o), MT_OK);
    assert_true(a.trial[6].dev_loss != b.trial[6].dev_loss);
    probe_result_release(&a);
    probe_result_release(&b);
    assert_nothing_left();
}

static void a_single_row_is_enough_to_answer(void **state)
{
    (void)state;
    make_clouds(1, 2);
    const struct probe_options o = {.dim = DIM, .classes = 2};
    for (int n = 1; n <= 3; n++) {
        const struct probe_data train = clouds(0, n);
        struct probe_result r;
        assert_int_equal(probe_train(&r, &train, NULL, &o), MT_OK);
        assert_int_equal(r.train.count, n);
        probe_result_release(&r);
    }
    assert_nothing_left();
}

static bool stop_later(void *context)
{
    return --*(int *)context <= 0;
}

static void bad_input_is_refused_and_says_where(void **state)
{
    (void)state;
    make_clouds(1, 3);
    struct probe_result r;
    struct probe_options o = {.dim = DIM, .classes = 3};
    const struct probe_data train = clouds(0, 100), dev = clouds(100, 50);

    labels[12] = 3;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "row 12 has label 3"));
    labels[12] = 0;
    features[70 * DIM + 2] = NAN;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "row 70"));
    features[70 * DIM + 2] = 0;
    features[110 * DIM] = INFINITY;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "row 10 "));
    features[110 * DIM] = 0;

    int left = 8;
    o.should_stop = stop_later;
    o.stop_context = &left;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_STOPPED);
    o.should_stop = NULL;
    o.l2_min = 1;
    o.l2_max = 0.1;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_ARG);
    o.l2_min = o.l2_max = 0;
    o.classes = 1;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_ARG);
    o.classes = 3;
    for (int i = 0; i < 100; i++)
        labels[i] = -1;
    assert_int_equal(probe_train(&r, &train, &dev, &o), MT_DATA);
    assert_int_equal(probe_train(&r, &train, NULL, &o), MT_DATA);
    assert_nothing_left();
}

static void running_out_of_memory_anywhere_leaves_nothing(void **state)
{
    (void)state;
    make_clouds(1, 3);
    const struct probe_options o = {.dim = DIM, .classes = 3, .l2_count = 2};
    const struct probe_data train = clouds(0, 60);
    mt_status st = MT_NOMEM;
    for (int n = 1; st != MT_OK; n++) {
        struct probe_result r;
        assert_true(n < 500);
        mt_memory_fail_after(n);
        st = probe_train(&r, &train, NULL, &o);
        mt_memory_fail_after(0);
        if (st == MT_OK)
            probe_result_release(&r);
        else
            assert_int_equal(st, MT_NOMEM);
        assert_nothing_left();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_matches_central_differences),
        cmocka_unit_test(optimum_is_that_of_newtons_method),
        cmocka_unit_test(rows_without_a_label_change_nothing),
        cmocka_unit_test(the_folded_head_gives_the_predictions),
        cmocka_unit_test(strength_is_the_best_on_dev_and_the_stronger_of_equals),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(separable_data_converge_under_l2),
        cmocka_unit_test(a_class_absent_from_train_is_left_out),
        cmocka_unit_test(one_class_alone_is_predicted_always),
        cmocka_unit_test(a_feature_that_does_not_vary_gets_no_weight),
        cmocka_unit_test(without_dev_the_strength_comes_from_folds_of_the_seed),
        cmocka_unit_test(a_single_row_is_enough_to_answer),
        cmocka_unit_test(bad_input_is_refused_and_says_where),
        cmocka_unit_test(running_out_of_memory_anywhere_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
