/*
 * The model in float against PyTorch's float64 (tests/golden/make_golden.py).
 *
 * Thresholds, relative to the largest element of each tensor: 2e-6 for hidden states, pooled
 * vectors, logits and losses, 1e-5 for gradients; 3e-5 absolute for parameters after 10 AdamW
 * steps.  torch's own float32 is 7e-7, 5e-6 and 1.1e-5 away from its float64 (metadata of the
 * golden file).
 */
#include "tests/golden/golden_model.h"
#include "trainer/optim/adamw.h"

static void forward_agrees_with_torch(void **state)
{
    (void)state;
    golden_check_forward(2e-6);
}

static void gradients_agree_with_torch(void **state)
{
    (void)state;
    golden_check_gradients(1e-5);
}

enum { STEPS = 10 };
static const double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.01, clip = 1;

/* Gradient sums -> the norm of the mean gradient. */
static double mean_norm(const struct golden *g, double divisor)
{
    double square = 0;
    for (int64_t i = 0; i < g->model.table.total; i++)
        square += (double)g->grads[i] * (double)g->grads[i];
    return sqrt(square) / divisor;
}

static void ten_adamw_steps_agree_with_torch(void **state)
{
    (void)state;
    struct golden g;
    struct pass *p;
    golden_init(&g, POOL_MEAN);
    int64_t total = g.model.table.total;
    float *m = calloc((size_t)total, sizeof *m), *v = calloc((size_t)total, sizeof *v);
    const void *norms = golden_bytes(&g, "norms", STEPS);
    assert_int_equal(pass_create(&p, &g.model, g.batch.N, g.batch.B, 0), MT_OK);
    for (int step = 1; step <= STEPS; step++) {
        struct task_sums sums[GOLDEN_TASKS];
        memset(g.grads, 0, (size_t)total * sizeof *g.grads);
        pass_forward(p, g.params, &g.batch, &g.plan, NULL);
        pass_sums(p, sums);
        pass_backward(p, g.params, g.grads, NULL, NULL);
        double divisor = sums[0].weight + sums[1].weight, norm = mean_norm(&g, divisor);
        assert_true(fabs(norm - golden_value(norms, step - 1)) < 2e-5 * norm);
        double scale = fmin(1, clip / (norm + 1e-6)) / divisor;
        for (int32_t i = 0; i < g.model.table.count; i++) {
            const struct tensor *t = &g.model.table.entry[i];
            if (g.trainable[i])
                adamw_update(g.params + t->offset, m + t->offset, v + t->offset,
                             g.grads + t->offset, t->count, lr, beta1, beta2, eps,
                             t->decays ? decay : 0, 1 - pow(beta1, step), 1 - pow(beta2, step),
                             scale);
        }
    }
    for (int32_t i = 0; i < g.model.table.count; i++) {
        const struct tensor *t = &g.model.table.entry[i];
        char name[TENSOR_NAME_BYTES + 8];
        snprintf(name, sizeof name, "after.%s", t->name);
        /* Adam makes full steps of the rounding noise that stands for a key bias's zero gradient,
         * and parts of a step of it where a gradient is nearly zero: a tenth of one step then. */
        double tolerance = strstr(name, "self.key.bias") ? 2.2 * STEPS * lr : 0.1 * lr;
        if (!g.trainable[i])
            continue;
        double distance = golden_distance(&g, name, g.params + t->offset, t->count, false);
        if (getenv("GOLDEN_VERBOSE"))
            printf("%s: %.2g\n", name, distance);
        if (!(distance <= tolerance))
            fail_msg("%s is %.3g away, more than %.3g", name, distance, tolerance);
    }
    free(m);
    free(v);
    pass_destroy(&p);
    golden_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_agrees_with_torch),
        cmocka_unit_test(gradients_agree_with_torch),
        cmocka_unit_test(ten_adamw_steps_agree_with_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
