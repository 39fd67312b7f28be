/* What a run of lanes tells while it goes on is final, and adds up to what it adds up itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/lanes.h"

enum { LANES = 8, SENTENCES = 5, TOKENS = 12 };

struct work {
    struct model model;
    float *params;
    struct batch batch[LANES];
    uint8_t trainable[256];
    struct task_loss loss;
    struct range range;
    struct range_list ranges;
    struct pass_plan plan;
    struct pool *pool;
    struct lanes *lanes;
    /* what was told */
    int begun, told;
    int32_t roots, node[LANES], depth;
    float *root[LANES], *seen[LANES];
};

static void fill_batch(struct batch *b, int32_t lane)
{
    for (int32_t s = 0; s < SENTENCES; s++) {
        for (int32_t t = 0; t < TOKENS - s; t++)
            b->ids[b->N + t] = (lane * 97 + (b->N + t) * 31) % 50;
        b->N += TOKENS - s;
        b->offsets[++b->B] = b->N;
        b->sample[s] = lane * SENTENCES + s;
        batch_labels(b, 0)[s] = (s + lane) % 3;
    }
}

static void make(struct work *w, int32_t threads, int32_t count, int32_t groups)
{
    static const struct model_task task = {"one", 3};
    struct bert_config c = {.vocab_size = 50,
                            .hidden_size = 16,
                            .num_hidden_layers = 2,
                            .num_attention_heads = 2,
                            .intermediate_size = 40,
                            .max_position_embeddings = TOKENS,
                            .type_vocab_size = 2,
                            .hidden_act = ACT_GELU,
                            .initializer_range = 0.02,
                            .layer_norm_eps = 1e-12};
    memset(w, 0, sizeof *w);
    assert_int_equal(model_init(&w->model, &c, POOL_MEAN, false, &task, 1), MT_OK);
    int64_t total = w->model.table.total;
    assert_int_equal(mt_alloc(&w->params, total, sizeof(float), "parameters"), MT_OK);
    for (int32_t i = 0; i < w->model.table.count; i++)
        model_init_tensor(&w->model, i, 42, w->params);
    for (int32_t i = 0; i < LANES; i++) {
        assert_int_equal(batch_create(&w->batch[i], SENTENCES, SENTENCES * TOKENS, 1), MT_OK);
        fill_batch(&w->batch[i], i);
        assert_int_equal(mt_alloc(&w->seen[i], total, sizeof(float), "what was seen"), MT_OK);
    }
    memset(w->trainable, 1, sizeof w->trainable);
    w->loss = (struct task_loss){true, 1, 0, NULL};
    w->plan = (struct pass_plan){.trainable = w->trainable,
                                 .hidden_dropout = 0.1f,
                                 .dropout_key = rng_key(1, RNG_DROPOUT, 2),
                                 .loss = &w->loss};
    w->range = (struct range){0, total};
    w->ranges = (struct range_list){.r = &w->range, .count = 1, .capacity = 1, .elements = total};
    assert_int_equal(pool_create(&w->pool, threads), MT_OK);
    struct lanes_setup setup = {.model = &w->model,
                                .pool = w->pool,
                                .lanes = LANES,
                                .first = LANES - count,
                                .count = count,
                                .micro_tokens = 2 * TOKENS, /* several slices a lane */
                                .max_sentences = SENTENCES,
                                .ranges = &w->ranges,
                                .groups = groups};
    assert_int_equal(lanes_create(&w->lanes, &setup), MT_OK);
}

static void unmake(struct work *w)
{
    lanes_destroy(&w->lanes);
    pool_destroy(&w->pool);
    for (int32_t i = 0; i < LANES; i++) {
        batch_destroy(&w->batch[i]);
        mt_free(&w->seen[i]);
    }
    mt_free(&w->params);
    model_release(&w->model);
}

static int64_t first_of(const struct work *w, int32_t depth)
{
    for (int32_t i = 0; i < w->model.table.count; i++)
        if (w->model.table.entry[i].depth >= depth)
            return w->model.table.entry[i].offset;
    return w->model.table.total;
}

static void hear_begin(void *context)
{
    struct work *w = context;
    float *const *root = lanes_roots(w->lanes, &w->roots);
    w->begun++;
    w->depth = w->model.config.num_hidden_layers + 3;
    memcpy(w->root, root, (size_t)w->roots * sizeof *root);
    memcpy(w->node, lanes_nodes(w->lanes), (size_t)w->roots * sizeof *w->node);
}

/* Copies what has become final since the last time. */
static void hear_done(void *context, int32_t depth)
{
    struct work *w = context;
    int64_t begin = first_of(w, depth), end = first_of(w, w->depth);
    assert_int_equal(w->begun, 1);
    for (int32_t i = 0; i < w->roots && end > begin; i++)
        memcpy(w->seen[i] + begin, w->root[i] + begin, (size_t)(end - begin) * sizeof(float));
    w->told += end > begin;
    w->depth = depth < w->depth ? depth : w->depth;
}

static void run(struct work *w, int32_t count, bool listens)
{
    struct lanes_listener listener = {hear_begin, hear_done, w};
    assert_int_equal(lanes_run(w->lanes, w->params, w->batch + LANES - count, &w->plan, NULL, NULL,
                               listens ? &listener : NULL),
                     MT_OK);
}

/* The tree over the roots that were told, into the first. */
static void add_up(struct work *w)
{
    struct lane_merge merge[LANES];
    int32_t node[LANES];
    memcpy(node, w->node, sizeof node);
    int32_t merges = lane_tree_merges(node, w->roots, merge, NULL);
    for (int32_t m = 0; m < merges; m++)
        lane_tree_add(w->seen[merge[m].into], w->seen[merge[m].from], w->model.table.total);
}

static void one_thread_tells_of_final_sums_while_its_last_lane_goes_on(void **state)
{
    (void)state;
    const int32_t nodes[][4] = {{2, 6, 14, 15}, {6, 14, 15}, {14, 15}, {15}};
    const int32_t counts[] = {8, 4, 2, 1}, roots[] = {4, 3, 2, 1};
    for (int i = 0; i < 4; i++) {
        struct work w;
        int32_t left;
        make(&w, 1, counts[i], 0);
        run(&w, counts[i], true);
        assert_int_equal(w.begun, 1);
        assert_int_equal(w.depth, 0);
        assert_int_equal(w.told, 4); /* head, two layers, embeddings */
        assert_int_equal(w.roots, roots[i]);
        assert_memory_equal(w.node, nodes[i], (size_t)roots[i] * sizeof **nodes);
        add_up(&w);
        run(&w, counts[i], false);
        float *const *root = lanes_roots(w.lanes, &left);
        assert_int_equal(left, 1);
        assert_memory_equal(w.seen[0], root[0], (size_t)w.model.table.total * sizeof(float));
        unmake(&w);
    }
}

static void groups_are_left_apart(void **state)
{
    (void)state;
    const int32_t nodes[] = {4, 5, 6, 14, 15};
    struct work w;
    make(&w, 1, LANES, 4);
    run(&w, LANES, true);
    assert_int_equal(w.roots, 5);
    assert_memory_equal(w.node, nodes, sizeof nodes);
    unmake(&w);
}

static void several_threads_add_up_first_and_tell_then(void **state)
{
    (void)state;
    struct work w;
    make(&w, 3, LANES, 0);
    run(&w, LANES, true);
    assert_int_equal(w.begun, 1);
    assert_int_equal(w.told, 1);
    assert_int_equal(w.depth, 0);
    assert_int_equal(w.roots, 1);
    assert_int_equal(w.node[0], 1);
    unmake(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_tells_of_final_sums_while_its_last_lane_goes_on),
        cmocka_unit_test(groups_are_left_apart),
        cmocka_unit_test(several_threads_add_up_first_and_tell_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
