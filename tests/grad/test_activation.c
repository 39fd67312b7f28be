/* Each activation and the sum of its bias against finite differences. */
#include "tests/grad/grad_check.h"
#include "trainer/model/activation.h"

enum { ROWS = 7, F = 19 };

static enum activation which;
static real *input, *bias, *weight, *u, *g;

static double value(void)
{
    for (int i = 0; i < ROWS * F; i++)
        u[i] = input[i] + bias[i % F];
    activation_values(which, ROWS * F, u, g);
    return grad_dot(g, weight, ROWS * F);
}

static void check(enum activation a)
{
    which = a;
    input = grad_random(ROWS * F, 1);
    bias = grad_random(F, 2);
    weight = grad_random(ROWS * F, 3);
    u = grad_zeros(ROWS * F);
    g = grad_zeros(ROWS * F);
    for (int i = 0; i < ROWS * F; i++)
        input[i] = 2 * input[i] + (a == ACT_RELU && input[i] > 0 ? 10 : 0); /* off the kink */
    for (int i = 0; a == ACT_RELU && i < ROWS * F; i++)
        input[i] = input[i] <= 0 ? input[i] - 10 : input[i];
    (void)value();
    real *again = grad_zeros(ROWS * F), *d = grad_copy(weight, ROWS * F), *dbias = grad_zeros(F);
    for (int i = 0; i < ROWS * F; i += F)
        activation_gradients(a, F, u + i, again + i, d + i, dbias);
    assert_memory_equal(again, g, ROWS * F * sizeof *g);
    grad_check("u", input, ROWS * F, d, value, 1e-8, 200);
    grad_check("bias", bias, F, dbias, value, 1e-8, 200);
    real *all[] = {input, bias, weight, u, g, again, d, dbias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void gelu_has_its_derivative(void **state)
{
    (void)state;
    check(ACT_GELU);
}

static void gelu_new_has_its_derivative(void **state)
{
    (void)state;
    check(ACT_GELU_NEW);
}

static void relu_has_its_derivative(void **state)
{
    (void)state;
    check(ACT_RELU);
}

static void silu_has_its_derivative(void **state)
{
    (void)state;
    check(ACT_SILU);
}

static void tanh_has_its_derivative(void **state)
{
    (void)state;
    check(ACT_TANH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelu_has_its_derivative), cmocka_unit_test(gelu_new_has_its_derivative),
        cmocka_unit_test(relu_has_its_derivative), cmocka_unit_test(silu_has_its_derivative),
        cmocka_unit_test(tanh_has_its_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
