/* The six pooling modes against finite differences. */
#include "tests/grad/grad_check.h"
#include "trainer/model/pooling.h"

enum { H = 13 };

static struct batch batch;
static enum pooling mode;
static real *hidden, *weight, *out;
static int32_t *where;

static double value(void)
{
    pooling_forward(mode, &batch, H, hidden, out, where);
    return grad_dot(out, weight, batch.B * H);
}

static void every_mode_has_its_derivative(void **state)
{
    (void)state;
    batch = grad_batch(11, 0, NULL);
    hidden = grad_random(batch.N * H, 1);
    weight = grad_random(batch.B * H, 2);
    out = grad_zeros(batch.B * H);
    where = calloc((size_t)(batch.B * H), sizeof *where);
    real *d = grad_random(batch.N * H, 3);
    for (int m = 0; m < POOL_COUNT; m++) {
        mode = (enum pooling)m;
        (void)value();
        pooling_backward(mode, &batch, H, weight, where, d);
        grad_check(pooling_name(mode), hidden, batch.N * H, d, value, 1e-9, 400);
    }
    free(hidden);
    free(weight);
    free(out);
    free(where);
    free(d);
    batch_destroy(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_mode_has_its_derivative)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
