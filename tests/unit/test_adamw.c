/* AdamW against its formula in double, and its independence of how ranges are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "comm/base/rng.h"
#include "trainer/optim/adamw.h"

enum { COUNT = 1003, STEPS = 5 };
static const double lr = 1e-2, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.1, scale = 0.25;

static float normal(uint64_t stream, int i)
{
    return (float)rng_normal(rng_key(1, RNG_TEST, 0), stream, (uint64_t)i);
}

static void update(float *p, float *m, float *v, const float *g, int64_t count, int step)
{
    adamw_update(p, m, v, g, count, lr, beta1, beta2, eps, decay, 1 - pow(beta1, step),
                 1 - pow(beta2, step), scale);
}

static void steps_follow_the_formula(void **state)
{
    (void)state;
    static float p[COUNT], m[COUNT], v[COUNT], g[COUNT];
    static double P[COUNT], M[COUNT], V[COUNT];
    for (int i = 0; i < COUNT; i++)
        P[i] = (double)(p[i] = normal(0, i));
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < COUNT; i++)
            g[i] = i % 7 ? normal((uint64_t)step, i) : 0;
        update(p, m, v, g, COUNT, step);
        for (int i = 0; i < COUNT; i++) {
            double x = (double)g[i] * scale;
            P[i] -= lr * decay * P[i];
            M[i] = beta1 * M[i] + (1 - beta1) * x;
            V[i] = beta2 * V[i] + (1 - beta2) * x * x;
            P[i] -= lr / (1 - pow(beta1, step)) * M[i] /
                    (sqrt(V[i]) / sqrt(1 - pow(beta2, step)) + eps);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(fabs((double)p[i] - P[i]) < 2e-6);
        assert_true(fabs((double)m[i] - M[i]) < 1e-6);
        assert_true(fabs((double)v[i] - V[i]) < 1e-6);
    }
}

static void bits_do_not_depend_on_the_cut(void **state)
{
    (void)state;
    static float whole[3][COUNT], cut[3][COUNT], g[COUNT];
    for (int i = 0; i < COUNT; i++)
        whole[0][i] = cut[0][i] = normal(0, i);
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < COUNT; i++)
            g[i] = normal((uint64_t)step, i);
        update(whole[0], whole[1], whole[2], g, COUNT, step);
        for (int64_t i = 0, n = step; i < COUNT; i += n, n = n * 5 % 61) {
            int64_t count = n < COUNT - i ? n : COUNT - i;
            update(cut[0] + i, cut[1] + i, cut[2] + i, g + i, count, step);
        }
    }
    assert_memory_equal(whole, cut, sizeof whole);
}

static void padding_stays_zero(void **state)
{
    (void)state;
    float p[16] = {0}, m[16] = {0}, v[16] = {0}, g[16] = {0};
    const float zero[16] = {0};
    update(p, m, v, g, 16, 1);
    assert_memory_equal(p, zero, sizeof p);
    assert_memory_equal(m, zero, sizeof m);
    assert_memory_equal(v, zero, sizeof v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_formula),
        cmocka_unit_test(bits_do_not_depend_on_the_cut),
        cmocka_unit_test(padding_stays_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
