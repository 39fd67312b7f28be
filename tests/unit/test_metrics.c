/* Expected values: scikit-learn's definitions, worked out by hand beside each case. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "trainer/metrics.h"

#define assert_near(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

static struct class_metrics of_confusion(const int64_t *confusion, int32_t classes)
{
    int64_t block[CLASS_COUNTS_WIDTH * 8] = {0};
    struct class_counts c = class_counts_view(block, classes);
    class_counts_add_confusion(&c, confusion);
    return class_counts_metrics(&c);
}

static void two_classes_match_the_binary_formulas(void **state)
{
    (void)state;
    /* tp 6, fn 2, fp 1, tn 3: mcc = (6*3 - 1*2) / sqrt(7*8*4*5) */
    const int64_t t[4] = {3, 1, 2, 6};
    struct class_metrics m = of_confusion(t, 2);
    assert_int_equal(m.count, 12);
    assert_near(m.accuracy, 9.0 / 12, 1e-12);
    assert_near(m.f1_macro, (2 * 6.0 / 15 + 2 * 3.0 / 9) / 2, 1e-12);
    assert_near(m.mcc, 16.0 / sqrt(1120.0), 1e-12);
}

static void three_classes_match_r_k(void **state)
{
    (void)state;
    /* y_true 0 0 0 1 1 2 2 2 2, y_pred 0 0 1 1 2 2 2 2 0: c = 6, s = 9, t = 3 2 4, p = 3 2 4;
     * R_K = (54 - 29) / sqrt((81 - 29) * (81 - 29)) */
    const int32_t labels[] = {0, 0, 0, 1, 1, 2, 2, 2, 2}, guess[] = {0, 0, 1, 1, 2, 2, 2, 2, 0};
    int64_t block[9] = {0};
    struct class_counts c = class_counts_view(block, 3);
    for (int i = 0; i < 9; i++)
        class_counts_add(&c, labels[i], guess[i]);
    struct class_metrics m = class_counts_metrics(&c);
    assert_near(m.accuracy, 6.0 / 9, 1e-12);
    assert_near(m.f1_macro, (4.0 / 6 + 2.0 / 4 + 6.0 / 8) / 3, 1e-12);
    assert_near(m.mcc, 25.0 / 52, 1e-12);
}

static void counting_and_the_confusion_table_agree(void **state)
{
    (void)state;
    const int64_t t[9] = {5, 1, 0, 2, 7, 3, 0, 0, 4};
    int64_t block[9] = {0};
    struct class_counts c = class_counts_view(block, 3);
    for (int label = 0; label < 3; label++)
        for (int guess = 0; guess < 3; guess++)
            for (int64_t i = 0; i < t[3 * label + guess]; i++)
                class_counts_add(&c, label, guess);
    struct class_metrics a = class_counts_metrics(&c), b = of_confusion(t, 3);
    assert_int_equal(a.count, b.count);
    assert_true(a.accuracy == b.accuracy && a.f1_macro == b.f1_macro && a.mcc == b.mcc);
}

static void missing_labels_are_not_counted(void **state)
{
    (void)state;
    int64_t block[6] = {0};
    struct class_counts c = class_counts_view(block, 2);
    class_counts_add(&c, -1, 1);
    class_counts_add(&c, 1, 1);
    assert_int_equal(class_counts_metrics(&c).count, 1);
    assert_int_equal(c.predicted[1], 1);
}

static void absent_classes_do_not_lower_macro_f1(void **state)
{
    (void)state;
    /* class 2 is neither label nor prediction; class 1 is predicted but never a label: F1 0 */
    const int64_t t[9] = {3, 1, 0, 0, 0, 0, 0, 0, 0};
    struct class_metrics m = of_confusion(t, 3);
    assert_near(m.f1_macro, (6.0 / 7 + 0) / 2, 1e-12);
}

static void extremes_are_exact(void **state)
{
    (void)state;
    const int64_t right[4] = {5, 0, 0, 5}, wrong[4] = {0, 5, 5, 0}, constant[4] = {4, 0, 6, 0};
    assert_near(of_confusion(right, 2).mcc, 1, 0);
    assert_near(of_confusion(wrong, 2).mcc, -1, 0);
    assert_near(of_confusion(wrong, 2).f1_macro, 0, 0);
    assert_near(of_confusion(constant, 2).mcc, 0, 0);
    assert_near(of_confusion(constant, 2).f1_macro, (8.0 / 14) / 2, 1e-12);
}

static void nothing_counted_gives_zeros_not_nan(void **state)
{
    (void)state;
    const int64_t none[4] = {0};
    struct class_metrics m = of_confusion(none, 2);
    assert_true(m.count == 0 && m.accuracy == 0 && m.f1_macro == 0 && m.mcc == 0);
}

static void huge_counts_do_not_overflow(void **state)
{
    (void)state;
    const int64_t n = 1000000000000, t[4] = {3 * n, n, n, 3 * n};
    assert_near(of_confusion(t, 2).mcc, 0.5, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_classes_match_the_binary_formulas),
        cmocka_unit_test(three_classes_match_r_k),
        cmocka_unit_test(counting_and_the_confusion_table_agree),
        cmocka_unit_test(missing_labels_are_not_counted),
        cmocka_unit_test(absent_classes_do_not_lower_macro_f1),
        cmocka_unit_test(extremes_are_exact),
        cmocka_unit_test(nothing_counted_gives_zeros_not_nan),
        cmocka_unit_test(huge_counts_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
