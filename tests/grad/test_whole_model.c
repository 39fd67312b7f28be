/* A whole two-layer model against finite differences: every tensor, every pooling mode, dropout,
 * frozen parts; this covers the embeddings and the order of the passes. */
#include "tests/grad/grad_check.h"
#include "trainer/model/model.h"

enum { L = 2, H = 12, V = 11, TASKS = 2 };

static const struct model_task tasks[TASKS] = {{"alpha", 3}, {"beta", 4}};
static const int32_t classes[TASKS] = {3, 4};
static const real class_weight[4] = {1, 0.5, 2, 1.5};

static struct model model;
static struct batch batch;
static struct pass *pass;
static struct pass_plan plan;
static struct task_loss loss[TASKS];
static real *params;
static const real *boundary;

static void make(enum pooling pooling, enum activation act, double dropout)
{
    struct bert_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = V;
    c.hidden_size = H;
    c.num_hidden_layers = L;
    c.num_attention_heads = 3;
    c.intermediate_size = 20;
    c.max_position_embeddings = 9;
    c.type_vocab_size = 2;
    c.hidden_act = act;
    c.layer_norm_eps = 1e-12;
    assert_int_equal(model_init(&model, &c, pooling, false, tasks, TASKS), MT_OK);
    batch = grad_batch(V, TASKS, classes);
    for (int32_t i = 0; i < batch.N; i++) /* without the padding row, which gets no gradient */
        batch.ids[i] = 1 + batch.ids[i] % (V - 1);
    params = grad_random(model.table.total, 5);
    for (int64_t i = 0; i < model.table.total; i++)
        params[i] *= (real)0.4;
    for (int32_t i = 0; i < model.table.count; i++)
        if (strstr(model.table.entry[i].name, "LayerNorm.weight"))
            for (int64_t j = 0; j < H; j++)
                params[model.table.entry[i].offset + j] += 1;
    assert_int_equal(pass_create(&pass, &model, batch.N, batch.B, 0), MT_OK);
    loss[0] = (struct task_loss){true, 1, (real)0.1, NULL};
    loss[1] = (struct task_loss){true, (real)0.7, 0, class_weight};
    plan = (struct pass_plan){.hidden_dropout = (real)dropout,
                              .attention_dropout = (real)dropout,
                              .head_dropout = (real)dropout,
                              .dropout_key = rng_key(5, RNG_DROPOUT, 17),
                              .loss = loss};
    boundary = NULL;
}

static void unmake(void)
{
    pass_destroy(&pass);
    batch_destroy(&batch);
    model_release(&model);
    free(params);
}

static double value(void)
{
    struct task_sums sums[TASKS];
    pass_forward(pass, params, &batch, &plan, boundary);
    pass_sums(pass, sums);
    double total = 0;
    for (int t = 0; t < TASKS; t++)
        total += (double)loss[t].weight * sums[t].loss;
    return total;
}

/* Gradients of the tensors in the mask; the caller frees. */
static real *gradients(const uint8_t *mask, pass_depth_done done, void *context)
{
    real *grads = grad_zeros(model.table.total);
    plan.trainable = mask;
    (void)value();
    pass_backward(pass, params, grads, done, context);
    plan.trainable = NULL;
    return grads;
}

static uint8_t everything[256];

static void check_all(int64_t samples)
{
    memset(everything, 1, sizeof everything);
    real *grads = gradients(everything, NULL, NULL);
    for (int32_t i = 0; i < model.table.count; i++) {
        const struct tensor *t = &model.table.entry[i];
        grad_check(t->name, params + t->offset, t->count, grads + t->offset, value, 1e-7, samples);
    }
    free(grads);
}

static void every_tensor_has_its_derivative(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_GELU, 0);
    check_all(60);
    unmake();
}

static void every_tensor_has_its_derivative_with_dropout(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_GELU, 0.2);
    check_all(60);
    unmake();
}

static void every_pooling_mode_has_its_derivative(void **state)
{
    (void)state;
    for (int mode = 0; mode < POOL_COUNT; mode++) {
        make((enum pooling)mode, ACT_GELU_NEW, 0.1);
        check_all(4);
        unmake();
    }
}

static void an_inactive_task_gives_no_gradient(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_SILU, 0.1);
    loss[0].active = false;
    check_all(4);
    unmake();
}

struct depths {
    int32_t seen[8], count;
};

static void note_depth(void *context, int32_t depth)
{
    struct depths *d = context;
    d->seen[d->count++] = depth;
}

/* Bits of the whole model's gradients where the mask trains, zero elsewhere. */
static void check_frozen(const uint8_t *mask, int32_t lowest, int32_t train_from)
{
    real *full = gradients(everything, NULL, NULL);
    int32_t before = plan.train_from;
    plan.train_from = train_from;
    struct depths depths = {.count = 0};
    real *part = gradients(mask, note_depth, &depths);
    plan.train_from = before;
    for (int32_t i = 0; i < model.table.count; i++) {
        const struct tensor *t = &model.table.entry[i];
        for (int64_t j = t->offset; j < t->offset + t->count; j++)
            if (part[j] != (mask[i] ? full[j] : 0))
                fail_msg("%s[%lld] = %.17g, whole model %.17g", t->name, (long long)(j - t->offset),
                         (double)part[j], (double)full[j]);
    }
    assert_int_equal(depths.count, L + 2 - lowest);
    for (int32_t i = 0; i < depths.count; i++)
        assert_int_equal(depths.seen[i], L + 1 - i);
    free(full);
    free(part);
}

static void partly_frozen_gradients_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    make(POOL_POOLER, ACT_GELU, 0);
    memset(everything, 1, sizeof everything);
    uint8_t mask[256];
    for (int32_t i = 0; i < model.table.count; i++) { /* each tensor alone */
        memset(mask, 0, sizeof mask);
        mask[i] = 1;
        int32_t depth = model.table.entry[i].depth;
        check_frozen(mask, depth, 0);
        check_frozen(mask, depth, depth);
    }
    for (int32_t depth = 0; depth <= L + 1; depth++) { /* all from a depth upwards */
        for (int32_t i = 0; i < model.table.count; i++)
            mask[i] = model.table.entry[i].depth >= depth;
        check_frozen(mask, depth, depth);
    }
    for (int32_t skip = 0; skip < 3; skip++) { /* every third tensor frozen */
        int32_t lowest = L + 1;
        for (int32_t i = 0; i < model.table.count; i++) {
            mask[i] = i % 3 != skip;
            if (mask[i] && model.table.entry[i].depth < lowest)
                lowest = model.table.entry[i].depth;
        }
        check_frozen(mask, lowest, 0);
    }
    unmake();
}

static void a_boundary_changes_no_bit(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_GELU, 0.3);
    memset(everything, 1, sizeof everything);
    for (int32_t depth = 1; depth <= L + 1; depth++) {
        int64_t rows = depth <= L ? batch.N : batch.B;
        real *cut = grad_zeros(rows * H);
        plan.start = 0;
        plan.train_from = depth;
        boundary = NULL;
        real *whole = gradients(everything, NULL, NULL);
        double expected = value();
        pass_forward_boundary(pass, params, &batch, &plan, NULL, depth, cut);
        plan.start = depth;
        boundary = cut;
        real *from_cut = gradients(everything, NULL, NULL);
        assert_true(value() == expected);
        assert_memory_equal(whole, from_cut, (size_t)model.table.total * sizeof *whole);
        free(whole);
        free(from_cut);
        free(cut);
    }
    unmake();
}

static void boundaries_compose(void **state)
{
    (void)state;
    make(POOL_MAX, ACT_GELU, 0.3);
    plan.train_from = L + 2;
    real *one = grad_zeros(batch.N * H), *two = grad_zeros(batch.N * H);
    real *features = grad_zeros(batch.B * H);
    double expected = value();
    pass_forward_boundary(pass, params, &batch, &plan, NULL, 1, one);
    plan.start = 1;
    pass_forward_boundary(pass, params, &batch, &plan, one, 2, two);
    plan.start = 2;
    pass_forward_boundary(pass, params, &batch, &plan, two, 3, features);
    plan.start = 3;
    boundary = features;
    assert_true(value() == expected);
    free(one);
    free(two);
    free(features);
    unmake();
}

static void the_padding_row_gets_no_gradient(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_GELU, 0);
    memset(everything, 1, sizeof everything);
    batch.ids[2] = model.config.pad_token_id;
    real *grads = gradients(everything, NULL, NULL);
    const real *row = grads + model.table.entry[model.word].offset;
    for (int j = 0; j < H; j++)
        assert_true(row[j] == 0);
    free(grads);
    unmake();
}

static void backward_adds(void **state)
{
    (void)state;
    make(POOL_MEAN, ACT_GELU, 0.1);
    memset(everything, 1, sizeof everything);
    real *once = gradients(everything, NULL, NULL);
    plan.trainable = everything;
    real *twice = grad_copy(once, model.table.total);
    (void)value();
    pass_backward(pass, params, twice, NULL, NULL);
    for (int64_t i = 0; i < model.table.total; i++)
        assert_true(fabs((double)(twice[i] - 2 * once[i])) < 1e-12 * (1 + fabs((double)once[i])));
    free(once);
    free(twice);
    unmake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_has_its_derivative),
        cmocka_unit_test(every_tensor_has_its_derivative_with_dropout),
        cmocka_unit_test(every_pooling_mode_has_its_derivative),
        cmocka_unit_test(an_inactive_task_gives_no_gradient),
        cmocka_unit_test(partly_frozen_gradients_have_the_bits_of_the_whole),
        cmocka_unit_test(a_boundary_changes_no_bit),
        cmocka_unit_test(boundaries_compose),
        cmocka_unit_test(the_padding_row_gets_no_gradient),
        cmocka_unit_test(backward_adds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
