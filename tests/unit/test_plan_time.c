#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "trainer/plan/plan_time.h"

/* From tables of normal order statistics (Harter, 1961), 1000 by numerical integration. */
static void the_slowest_of_many_is_that_of_normal_order_statistics(void **state)
{
    (void)state;
    static const struct {
        int32_t count;
        double expected;
    } cases[] = {{1, 0.0},      {2, 0.56419},   {4, 1.02938},   {8, 1.42360},
                 {16, 1.76599}, {100, 2.50759}, {1000, 3.24144}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (fabs(plan_slowest(cases[i].count) - cases[i].expected) > 0.03)
            fail_msg("of %d: %g, expected %g", cases[i].count, plan_slowest(cases[i].count),
                     cases[i].expected);
}

static void backward_hides_all_but_the_last_bucket_and_what_is_ready_late(void **state)
{
    (void)state;
    const struct reduce_time t = {.reduce_s = 1.1, .norm_s = 0.1, .chain_s = 0.05};
    /* nothing hidden: everything is left */
    assert_true(fabs(plan_exposed_s(&t, 0.0, 0.2) - 1.1) < 1e-12);
    /* 0.3 s of the early 0.8 s are hidden */
    assert_true(fabs(plan_exposed_s(&t, 0.3, 0.2) - 0.8) < 1e-12);
    /* all that is early is hidden; the late fifth and the norm are not */
    assert_true(fabs(plan_exposed_s(&t, 5.0, 0.2) - 0.3) < 1e-12);
    /* nothing is late: the last bucket's own way and the norm */
    assert_true(fabs(plan_exposed_s(&t, 5.0, 0.0) - 0.15) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_slowest_of_many_is_that_of_normal_order_statistics),
        cmocka_unit_test(backward_hides_all_but_the_last_bucket_and_what_is_ready_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
