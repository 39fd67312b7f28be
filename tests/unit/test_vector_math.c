/* Stated errors of exp, tanh and the normal distribution in float, against libm in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include "trainer/model/vector.h"
#include "trainer/model/vector_math.h"

static void exp_is_within_2e_7_relative(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = -870000; i <= 880000; i++) {
        float x = (float)i * 1e-4f;
        double e = exp((double)x);
        worst = fmax(worst, fabs((double)real_exp(x) - e) / e);
    }
    assert_true(worst < 2e-7);
}

static void exp_of_vectors_is_within_2e_7_relative(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = -870000; i + VECTOR_LANES <= 880000; i += VECTOR_LANES) {
        float x[VECTOR_LANES], y[VECTOR_LANES];
        for (int l = 0; l < VECTOR_LANES; l++)
            x[l] = (float)(i + l) * 1e-4f;
        vector_store(y, vector_exp(vector_load(x)));
        for (int l = 0; l < VECTOR_LANES; l++) {
            double e = exp((double)x[l]);
            worst = fmax(worst, fabs((double)y[l] - e) / e);
        }
    }
    assert_true(worst < 2e-7);
    float edge[VECTOR_LANES] = {NAN, -INFINITY, 0, 1e30f};
    vector_store(edge, vector_exp(vector_load(edge)));
    assert_true(isnan(edge[0]) && edge[1] >= 0 && edge[1] < 2e-38f && edge[2] == 1);
    assert_true(edge[3] > 1e38f);
}

static void folds_add_and_compare_as_rows_do(void **state)
{
    (void)state;
    vector sum[VECTOR_LANES], largest[VECTOR_LANES];
    float row[VECTOR_LANES][ROW_LANES] = {{0}}, got[2][VECTOR_LANES];
    for (int i = 0; i < VECTOR_LANES; i++) {
        for (int l = 0; l < VECTOR_LANES; l++)
            row[i][l] = sinf((float)(i * VECTOR_LANES + l)) * (float)(1 << l % 13);
        sum[i] = largest[i] = vector_load(row[i]);
    }
    vector_store(got[0], vector_fold_sum(sum));
    vector_store(got[1], vector_fold_largest(largest));
    for (int i = 0; i < VECTOR_LANES; i++) {
        float most = row[i][0];
        for (int l = 1; l < VECTOR_LANES; l++) /* before lanes are added up in place */
            most = fmaxf(most, row[i][l]);
        assert_true(got[0][i] == row_fold_sum(row[i]));
        assert_true(got[1][i] == most);
    }
}

static void exp_saturates(void **state)
{
    (void)state;
    assert_true(real_exp(-1e30f) < 2e-38f && real_exp(-1e30f) >= 0);
    assert_true(real_exp(1e30f) > 1e38f);
    assert_true(real_exp(-INFINITY) < 2e-38f);
    assert_true(real_exp(0) == 1);
}

static void tanh_is_within_its_errors(void **state)
{
    (void)state;
    double absolute = 0, relative = 0;
    for (int i = -1000000; i <= 1000000; i++) {
        float x = (float)i * 1.1e-5f;
        double e = tanh((double)x), error = fabs((double)real_tanh(x) - e);
        absolute = fmax(absolute, error);
        if (e != 0)
            relative = fmax(relative, error / fabs(e));
    }
    assert_true(absolute < 2e-7);
    assert_true(relative < 3e-7);
    assert_true(real_tanh(100) == 1 && real_tanh(-100) == -1);
}

static void normal_is_within_its_errors(void **state)
{
    (void)state;
    double cdf = 0, density = 0, tail = 0;
    for (int i = -1200000; i <= 1200000; i++) {
        float x = (float)i * 1e-5f;
        struct real_normal n = real_normal_of(x);
        double e = 0.5 * erfc(-(double)x / sqrt(2.0));
        double d = exp(-0.5 * (double)x * (double)x) * 0.3989422804014327;
        cdf = fmax(cdf, fabs((double)n.cdf - e));
        density = fmax(density, fabs((double)n.density - d));
        if (x < 0 && x > -3)
            tail = fmax(tail, fabs((double)n.cdf - e) / e);
    }
    assert_true(cdf < 2.5e-7);
    assert_true(density < 1e-7);
    assert_true(tail < 1e-6);
}

static void nan_stays_nan(void **state)
{
    (void)state;
    assert_true(isnan(real_exp(NAN)));
    assert_true(isnan(real_tanh(NAN)));
    assert_true(isnan(real_normal_of(NAN).cdf));
}

static void row_sums_take_every_element_once(void **state)
{
    (void)state;
    float x[70], y[70];
    for (int n = 1; n <= 70; n++) {
        double sum = 0, dot = 0;
        for (int i = 0; i < n; i++) {
            x[i] = (float)((i * 37 + n) % 64 - 40);
            y[i] = (float)(i % 5);
            sum += (double)x[i];
            dot += (double)x[i] * (double)y[i];
        }
        assert_true((double)row_sum(x, n) == sum); /* small integers: exact */
        assert_true((double)row_dot(x, y, n) == dot);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_2e_7_relative),
        cmocka_unit_test(exp_of_vectors_is_within_2e_7_relative),
        cmocka_unit_test(folds_add_and_compare_as_rows_do),
        cmocka_unit_test(exp_saturates),
        cmocka_unit_test(tanh_is_within_its_errors),
        cmocka_unit_test(normal_is_within_its_errors),
        cmocka_unit_test(nan_stays_nan),
        cmocka_unit_test(row_sums_take_every_element_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
