/* The dense layer against finite differences. */
#include "tests/grad/grad_check.h"
#include "trainer/model/linear.h"

enum { ROWS = 6, IN = 9, OUT = 5 };

static real *x, *w, *b, *weight, *y;

static double value(void)
{
    linear_forward(y, x, w, b, ROWS, IN, OUT);
    return grad_dot(y, weight, ROWS * OUT);
}

static void linear_has_its_derivative(void **state)
{
    (void)state;
    x = grad_random(ROWS * IN, 1);
    w = grad_random(OUT * IN, 2);
    b = grad_random(OUT, 3);
    weight = grad_random(ROWS * OUT, 4);
    y = grad_zeros(ROWS * OUT);
    real *dx = grad_zeros(ROWS * IN), *dw = grad_zeros(OUT * IN), *db = grad_zeros(OUT);
    struct linear_gradients to = {.dx = dx, .dw = dw, .db = db};
    linear_backward(&to, weight, x, w, ROWS, IN, OUT);
    grad_check("x", x, ROWS * IN, dx, value, 1e-9, 100);
    grad_check("w", w, OUT * IN, dw, value, 1e-9, 100);
    grad_check("b", b, OUT, db, value, 1e-9, 100);
    real *all[] = {x, w, b, weight, y, dx, dw, db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(linear_has_its_derivative)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
