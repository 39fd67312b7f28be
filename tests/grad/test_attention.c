/* Attention of ragged sentences, with and without dropout, against finite differences. */
#include "tests/grad/grad_check.h"
#include "trainer/model/attention.h"

static struct batch batch;
static struct attention attention;
static real *q, *k, *v, *weight, *context;

static double value(void)
{
    attention_forward(&attention, (struct mixed_rows){context, NULL});
    return grad_dot(context, weight, batch.N * attention.A * attention.D);
}

static void check(int64_t A, int64_t D, double p)
{
    batch = grad_batch(11, 0, NULL);
    int64_t n = batch.N * A * D;
    q = grad_random(n, 1);
    k = grad_random(n, 2);
    v = grad_random(n, 3);
    weight = grad_random(n, 4);
    context = grad_zeros(n);
    attention = (struct attention){
        .A = A,
        .D = D,
        .drop = dropout_make(p, rng_key(3, RNG_DROPOUT, 1), 1, DROPOUT_ATTENTION),
        .batch = &batch,
        .q.full = q,
        .k.full = k,
        .v.full = v,
        .row_max = grad_zeros(batch.N * A),
        .row_scale = grad_zeros(batch.N * A),
        .room = grad_zeros(attention_room_plan(9, D)),
    };
    (void)value();
    real *d = grad_copy(weight, n), *dk = grad_zeros(n), *dv = grad_zeros(n);
    attention_backward(&attention, (struct mixed_rows){context, NULL}, (struct mixed_rows){d, NULL},
                       (struct mixed_rows){dk, NULL}, (struct mixed_rows){dv, NULL});
    grad_check("q", q, n, d, value, 1e-8, 200);
    grad_check("k", k, n, dk, value, 1e-8, 200);
    grad_check("v", v, n, dv, value, 1e-8, 200);
    real *all[] = {
        q, k,  v, weight, context, attention.row_max, attention.row_scale, attention.room,
        d, dk, dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    batch_destroy(&batch);
}

static void attention_has_its_derivative(void **state)
{
    (void)state;
    check(2, 4, 0);
    check(3, 5, 0);
}

static void attention_with_dropout_has_its_derivative(void **state)
{
    (void)state;
    check(2, 4, 0.25);
    check(3, 5, 0.25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_has_its_derivative),
        cmocka_unit_test(attention_with_dropout_has_its_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
