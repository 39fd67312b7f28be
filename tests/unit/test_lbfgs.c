#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "trainer/optim/lbfgs.h"

enum { DIM = 50 };

static double rosenbrock(void *context, const double *x, double *g)
{
    (void)context;
    double a = x[1] - x[0] * x[0], b = 1 - x[0];
    g[0] = -400 * x[0] * a - 2 * b;
    g[1] = 200 * a;
    return 100 * a * a + b * b;
}

/* Sum of c_i (x_i - i)^2 with c from 1 to 1e4. */
static double quadratic(void *context, const double *x, double *g)
{
    (void)context;
    double value = 0;
    for (int i = 0; i < DIM; i++) {
        double c = pow(10, 4.0 * i / (DIM - 1)), d = x[i] - i;
        value += c * d * d;
        g[i] = 2 * c * d;
    }
    return value;
}

/* Flat far away, undefined left of 0: log(x)^2 from a start where the full step leaves the domain.
 */
static double bounded_domain(void *context, const double *x, double *g)
{
    (void)context;
    double l = log(x[0]);
    g[0] = 2 * l / x[0];
    return l * l;
}

static double linear(void *context, const double *x, double *g)
{
    (void)context;
    g[0] = -1;
    return -x[0];
}

static double not_a_number(void *context, const double *x, double *g)
{
    (void)context;
    g[0] = x[0];
    return NAN;
}

/* A value whose rounding hides the last digits of the minimum, as a sum over many rows does. */
static double coarse_value(void *context, const double *x, double *g)
{
    (void)context;
    double value = 0;
    for (int i = 0; i < DIM; i++) {
        double d = x[i] - 1.0 / (i + 1), c = 1 + i;
        value += c * d * d;
        g[i] = 2 * c * d;
    }
    return 1e6 + value;
}

static bool stop_at_once(void *context)
{
    (*(int *)context)++;
    return true;
}

static void rosenbrock_is_solved_from_the_classic_start(void **state)
{
    (void)state;
    double x[2] = {-1.2, 1};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 2, .evaluate = rosenbrock};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-10};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_CONVERGED);
    assert_true(fabs(x[0] - 1) < 1e-9 && fabs(x[1] - 1) < 1e-9);
    assert_true(r.gradient_max <= 1e-10 && r.value < 1e-18);
    assert_in_range(r.iterations, 5, 60);
    assert_in_range(r.evaluations, r.iterations, 3 * r.iterations);
}

static void an_ill_conditioned_quadratic_is_solved(void **state)
{
    (void)state;
    double x[DIM] = {0};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = DIM, .evaluate = quadratic};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-8, .max_iterations = 2000};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_CONVERGED);
    for (int i = 0; i < DIM; i++)
        assert_true(fabs(x[i] - i) < 1e-8);
}

static void runs_are_the_same_bits(void **state)
{
    (void)state;
    double a[DIM] = {0}, b[DIM] = {0};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = DIM, .evaluate = quadratic};
    const struct lbfgs_options o = {.history = 5, .gradient_tolerance = 1e-6};
    assert_int_equal(lbfgs_minimise(&p, &o, a, &r), MT_OK);
    assert_int_equal(lbfgs_minimise(&p, &o, b, &r), MT_OK);
    assert_memory_equal(a, b, sizeof a);
}

static void a_step_out_of_the_domain_is_taken_back(void **state)
{
    (void)state;
    double x[1] = {0.05};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 1, .evaluate = bounded_domain};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-9};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_CONVERGED);
    assert_true(fabs(x[0] - 1) < 1e-8);
}

static void rounding_of_the_value_does_not_stop_it_early(void **state)
{
    (void)state;
    double x[DIM] = {0};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = DIM, .evaluate = coarse_value};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-8};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_CONVERGED);
    assert_true(r.gradient_max <= 1e-8);
}

static void a_function_without_minimum_ends_and_says_so(void **state)
{
    (void)state;
    double x[1] = {0};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 1, .evaluate = linear};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-6, .max_iterations = 20};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_not_equal(r.reason, LBFGS_CONVERGED);
    assert_true(isfinite(x[0]));
}

static void the_iteration_limit_is_reported(void **state)
{
    (void)state;
    double x[2] = {-1.2, 1};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 2, .evaluate = rosenbrock};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-10, .max_iterations = 3};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_MAX_ITERATIONS);
    assert_int_equal(r.iterations, 3);
    assert_true(r.value < 24.2);
}

static void a_stop_request_leaves_the_point_as_it_is(void **state)
{
    (void)state;
    int asked = 0;
    double x[2] = {-1.2, 1};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {
        .dim = 2, .evaluate = rosenbrock, .should_stop = stop_at_once, .context = &asked};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-10};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_int_equal(r.reason, LBFGS_INTERRUPTED);
    assert_int_equal(asked, 1);
    assert_true(x[0] == -1.2 && x[1] == 1);
}

static void a_start_at_the_minimum_takes_no_iteration(void **state)
{
    (void)state;
    double x[2] = {1, 1};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 2, .evaluate = rosenbrock};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-10};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_OK);
    assert_true(r.reason == LBFGS_CONVERGED && r.iterations == 0 && r.evaluations == 1);
}

static void a_value_that_is_not_finite_is_an_error(void **state)
{
    (void)state;
    double x[1] = {1};
    struct lbfgs_result r;
    const struct lbfgs_problem p = {.dim = 1, .evaluate = not_a_number};
    const struct lbfgs_options o = {.gradient_tolerance = 1e-6};
    assert_int_equal(lbfgs_minimise(&p, &o, x, &r), MT_NUMERIC);
    struct mt_memory_stats m;
    mt_memory_stats(&m);
    assert_int_equal(m.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rosenbrock_is_solved_from_the_classic_start),
        cmocka_unit_test(an_ill_conditioned_quadratic_is_solved),
        cmocka_unit_test(runs_are_the_same_bits),
        cmocka_unit_test(a_step_out_of_the_domain_is_taken_back),
        cmocka_unit_test(rounding_of_the_value_does_not_stop_it_early),
        cmocka_unit_test(a_function_without_minimum_ends_and_says_so),
        cmocka_unit_test(the_iteration_limit_is_reported),
        cmocka_unit_test(a_stop_request_leaves_the_point_as_it_is),
        cmocka_unit_test(a_start_at_the_minimum_takes_no_iteration),
        cmocka_unit_test(a_value_that_is_not_finite_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
