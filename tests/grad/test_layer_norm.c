/* Layer norm, alone and fused with bias, dropout and residual, against finite differences. */
#include "tests/grad/grad_check.h"
#include "trainer/model/layer_norm.h"

enum { SIZE_MAX_H = 37 };

static struct batch batch;
static struct layer_norm norm;
static struct dropout drop;
static real *gamma_, *beta_, *product, *bias, *residual, *weight, *y;
static uint16_t lanes[SIZE_MAX_H + DROPOUT_SLACK];

static void make(int64_t H, double p)
{
    batch = grad_batch(11, 0, NULL);
    gamma_ = grad_random(H, 1);
    beta_ = grad_random(H, 2);
    product = grad_random(batch.N * H, 3);
    bias = grad_random(H, 4);
    residual = grad_random(batch.N * H, 5);
    weight = grad_random(batch.N * H, 6);
    y = grad_zeros(batch.N * H);
    norm =
        (struct layer_norm){H, 1e-12, gamma_, beta_, grad_zeros(batch.N * H), grad_zeros(batch.N)};
    drop = dropout_make(p, rng_key(3, RNG_DROPOUT, 1), 2, DROPOUT_PROJECTION);
}

static void drop_all(void)
{
    real *all[] = {gamma_, beta_, product, bias, residual, weight, y, norm.xhat, norm.rstd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    batch_destroy(&batch);
}

static double plain(void)
{
    layer_norm_forward(&norm, batch.N, product, y);
    return grad_dot(y, weight, batch.N * norm.H);
}

static double fused(void)
{
    memcpy(y, product, (size_t)(batch.N * norm.H) * sizeof *y);
    residual_norm_forward(&norm, &drop, &batch, bias, residual, y, lanes);
    return grad_dot(y, weight, batch.N * norm.H);
}

static void layer_norm_has_its_derivative(void **state)
{
    (void)state;
    make(SIZE_MAX_H, 0);
    (void)plain();
    int64_t H = norm.H, n = batch.N * H;
    real *d = grad_copy(weight, n), *dgamma = grad_zeros(H), *dbeta = grad_zeros(H);
    layer_norm_backward(&norm, batch.N, d, dgamma, dbeta);
    grad_check("x", product, n, d, plain, 1e-8, 200);
    grad_check("gamma", gamma_, H, dgamma, plain, 1e-8, 100);
    grad_check("beta", beta_, H, dbeta, plain, 1e-8, 100);
    free(d);
    free(dgamma);
    free(dbeta);
    drop_all();
}

static void check_fused(int64_t H, double p)
{
    make(H, p);
    (void)fused();
    int64_t n = batch.N * H;
    real *ds = grad_copy(weight, n), *dy = grad_zeros(n);
    real *dgamma = grad_zeros(H), *dbeta = grad_zeros(H), *dbias = grad_zeros(H);
    struct residual_norm_gradients to = {dgamma, dbeta, dbias};
    const real *dproduct = residual_norm_backward(&norm, &drop, &batch, ds, dy, &to, lanes);
    grad_check("product", product, n, dproduct, fused, 1e-8, 200);
    grad_check("residual", residual, n, ds, fused, 1e-8, 200);
    grad_check("bias", bias, H, dbias, fused, 1e-8, 100);
    grad_check("gamma", gamma_, H, dgamma, fused, 1e-8, 100);
    grad_check("beta", beta_, H, dbeta, fused, 1e-8, 100);
    free(ds);
    free(dy);
    free(dgamma);
    free(dbeta);
    free(dbias);
    drop_all();
}

static void residual_norm_has_its_derivative(void **state)
{
    (void)state;
    check_fused(8, 0);
    check_fused(SIZE_MAX_H, 0);
}

static void residual_norm_with_dropout_has_its_derivative(void **state)
{
    (void)state;
    check_fused(8, 0.3);
    check_fused(SIZE_MAX_H, 0.3);
}

static void output_made_again_has_the_same_bits(void **state)
{
    (void)state;
    make(SIZE_MAX_H, 0.1);
    (void)fused();
    int64_t n = batch.N * norm.H;
    real *again = grad_zeros(n);
    layer_norm_output(&norm, batch.N, again);
    assert_memory_equal(again, y, (size_t)n * sizeof *y);
    free(again);
    drop_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_norm_has_its_derivative),
        cmocka_unit_test(residual_norm_has_its_derivative),
        cmocka_unit_test(residual_norm_with_dropout_has_its_derivative),
        cmocka_unit_test(output_made_again_has_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
