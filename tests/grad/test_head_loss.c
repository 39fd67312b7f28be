/* Cross-entropy with missing labels, label smoothing and class weights against finite differences.
 */
#include "tests/grad/grad_check.h"
#include "trainer/model/head.h"

enum { B = 5, K = 4 };

static const int32_t labels[B] = {2, -1, 0, 3, 2};
static struct task_loss how;
static real *logits;

static double value(void)
{
    struct task_sums sums = {0};
    head_loss(B, K, logits, labels, &how, NULL, &sums);
    return sums.loss * (double)how.weight;
}

static void check(real smoothing, const real *class_weight, real weight, double divisor)
{
    logits = grad_random(B * K, 1);
    how = (struct task_loss){true, weight, smoothing, class_weight};
    real *d = grad_random(B * K, 2);
    struct task_sums sums = {0};
    head_loss(B, K, logits, labels, &how, d, &sums);
    assert_true(fabs(sums.weight - divisor) < 1e-12);
    assert_int_equal(sums.labelled, 4);
    grad_check("logits", logits, B * K, d, value, 1e-9, 100);
    free(logits);
    free(d);
}

static const real class_weight[K] = {0.5, 1, 2, 0.25};

static void cross_entropy_has_its_derivative(void **state)
{
    (void)state;
    check(0, NULL, 1, 4);
    check(0, NULL, 0.3, 4);
}

static void label_smoothing_has_its_derivative(void **state)
{
    (void)state;
    check(0.1, NULL, 1, 4);
}

static void class_weights_have_their_derivative(void **state)
{
    (void)state;
    check(0, class_weight, 1, 4.75);
}

static void smoothing_with_class_weights_has_its_derivative(void **state)
{
    (void)state;
    check(0.2, class_weight, 2.5, 4.75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy_has_its_derivative),
        cmocka_unit_test(label_smoothing_has_its_derivative),
        cmocka_unit_test(class_weights_have_their_derivative),
        cmocka_unit_test(smoothing_with_class_weights_has_its_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
