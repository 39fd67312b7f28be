/*
 * The reference is the tree by its definition, evaluated serially for every element; it knows
 * nothing of ranks, blocks or buckets, so it is ONE expected result for all rank counts.
 */
#include "tests/support/mpi_test.h"
#include "tests/support/reduce_paths.h"

#include <math.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/reduce.h"

enum { LANES_MOST = 16 };

/* A phase's layout: some ranges of a flat block of `total` elements. */
struct layout {
    struct range r[64];
    struct range_list list;
    int64_t total;
};

static const float HOLE = -12345.0f;

static uint32_t draw(uint32_t seed, uint32_t i)
{
    return rng_philox(99, seed, i, 0, 0).v[0];
}

/* Ranges with holes, from a few elements to several canonical blocks. */
static void make_layout(struct layout *l, uint32_t seed, int32_t count, uint32_t longest)
{
    int64_t at = draw(seed, 1000) % 50;
    for (int32_t i = 0; i < count; i++) {
        int64_t length = 1 + draw(seed, (uint32_t)i) % longest;
        l->r[i] = (struct range){at, at + length};
        at += length + 1 + draw(seed, (uint32_t)i + 500) % 40;
    }
    l->total = at;
    l->list = (struct range_list){.r = l->r, .count = count, .capacity = count};
}

/* Values of very different size, so that another order of adding shows in the bits. */
static float lane_value(uint32_t step, int32_t lane, int64_t i)
{
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)lane * 0xbf58476d1ce4e5b9u + step;
    x ^= x >> 31;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 29;
    float v = (float)(int32_t)(uint32_t)x * 0x1p-31f;
    return ldexpf(v, (int)(x >> 60));
}

static float tree_value(int32_t lanes, int32_t node, uint32_t step, int64_t i)
{
    if (node >= lanes)
        return lane_value(step, node - lanes, i);
    return tree_value(lanes, 2 * node, step, i) + tree_value(lanes, 2 * node + 1, step, i);
}

static bool in_layout(const struct layout *l, int64_t i)
{
    for (int32_t k = 0; k < l->list.count; k++)
        if (i >= l->r[k].begin && i < l->r[k].end)
            return true;
    return false;
}

static void fill(float *block, const struct layout *l, int32_t lanes, int32_t node, uint32_t step)
{
    for (int64_t i = 0; i < l->total; i++)
        block[i] = HOLE;
    for (int32_t k = 0; k < l->list.count; k++)
        for (int64_t i = l->r[k].begin; i < l->r[k].end; i++)
            block[i] = tree_value(lanes, node, step, i);
}

/* How a case drives the reducer. */
struct drive {
    int32_t lanes;
    enum reduce_mode mode;
    struct reducer_options options;
    bool from_leaves; /* reducer_begin_nodes with one block a lane */
    bool in_steps;    /* reducer_ready while "backward" comes down */
};

struct bench {
    float *block[LANES_MOST];
    int32_t node[LANE_ROOTS_MAX];
    int32_t count;
    float *expected;
};

static void bench_create(struct bench *b, const struct drive *d, const struct layout *l)
{
    struct lane_range mine = lane_tree_range(d->lanes, world.size, world.rank);
    memset(b, 0, sizeof *b);
    b->count = lane_tree_roots(d->lanes, mine, b->node);
    if (d->from_leaves) {
        b->count = mine.end - mine.begin;
        for (int32_t i = 0; i < b->count; i++)
            b->node[i] = d->lanes + mine.begin + i;
    }
    for (int32_t i = 0; i < b->count; i++)
        assert_mt_ok(mt_alloc(&b->block[i], l->total, sizeof(float), "a block"));
    assert_mt_ok(mt_alloc(&b->expected, l->total, sizeof(float), "the expected sum"));
}

static void bench_destroy(struct bench *b)
{
    for (int32_t i = 0; i < b->count; i++)
        mt_free(&b->block[i]);
    mt_free(&b->expected);
}

static void run_step(struct reducer *r, const struct drive *d, const struct layout *l,
                     struct bench *b, struct reduce_sum *sum)
{
    if (d->from_leaves)
        reducer_begin_nodes(r, b->block, b->node, b->count);
    else
        reducer_begin(r, b->block, b->count);
    for (int64_t at = l->total; d->in_steps && at > 0; at -= 1 + l->total / 5) {
        reducer_ready(r, at);
        usleep((useconds_t)(draw((uint32_t)at, (uint32_t)world.rank) % 500));
    }
    assert_mt_ok(reducer_finish(r, sum));
}

static void check_exact_sum(const struct layout *l, const float *got, const float *expected)
{
    for (int64_t i = 0; i < l->total; i++)
        if (memcmp(&got[i], &expected[i], sizeof *got) != 0)
            fail_msg("element %lld of %lld is %a, expected %a", (long long)i, (long long)l->total,
                     (double)got[i], (double)expected[i]);
}

/* Every element of the ranges has exactly one owner, which holds its sum before any gather. */
static void check_owned(struct reducer *r, const struct layout *l, const float *sum,
                        const float *expected)
{
    struct range_list owned = {0};
    int64_t elements, *mark;
    assert_mt_ok(reducer_owned(r, &owned));
    assert_mt_ok(mt_alloc(&mark, l->total, sizeof *mark, "marks"));
    for (int32_t k = 0; k < owned.count; k++)
        for (int64_t i = owned.r[k].begin; i < owned.r[k].end; i++) {
            mark[i]++;
            assert_memory_equal(&sum[i], &expected[i], sizeof *sum);
        }
    elements = owned.elements;
    assert_mt_ok(comm_sum_i64(&world, mark, (int32_t)l->total));
    assert_mt_ok(comm_sum_i64(&world, &elements, 1));
    for (int64_t i = 0; i < l->total; i++)
        assert_int_equal(mark[i], in_layout(l, i));
    for (int32_t k = 0; k < l->list.count; k++)
        elements -= l->r[k].end - l->r[k].begin;
    assert_int_equal(elements, 0);
    range_list_release(&owned);
    mt_free(&mark);
}

static void check_exact_steps(const struct drive *d, const struct layout *l, int steps)
{
    struct bench b;
    struct reducer *r = NULL;
    struct mt_memory_stats before, after;
    bench_create(&b, d, l);
    assert_mt_ok(reducer_create(&r, &world, d->lanes, d->mode, &l->list, &d->options));
    for (int step = 0; step < steps; step++) {
        struct reduce_sum sum;
        fill(b.expected, l, d->lanes, 1, (uint32_t)step);
        for (int32_t i = 0; i < b.count; i++)
            fill(b.block[i], l, d->lanes, b.node[i], (uint32_t)step);
        mt_memory_stats(&before);
        run_step(r, d, l, &b, &sum);
        mt_memory_stats(&after);
        assert_int_equal(after.allocations, before.allocations);
        if (step == 0)
            check_owned(r, l, b.block[0], b.expected);
        double norm2 = reduce_norm2(&l->list, b.expected);
        assert_memory_equal(&sum.norm2, &norm2, sizeof norm2);
        assert_true(sum.finite);
        assert_true(reducer_sum_is_whole(r) || !d->options.whole);
        if (!reducer_sum_is_whole(r) || step % 3 == 1) /* gathers between steps do no harm */
            assert_mt_ok(reducer_gather(r, b.block[0]));
        check_exact_sum(l, b.block[0], b.expected);
    }
    reducer_destroy(&r);
    bench_destroy(&b);
}

static void sums_have_the_bits_of_the_tree_on_every_path(void **state)
{
    (void)state;
    static const struct {
        uint32_t seed, longest;
        int32_t ranges;
    } cases[] = {{1, 40000, 4}, {2, 100, 12}, {3, 3, 2}, {4, 16384, 3}, {5, 60000, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int path = 0; path < REDUCE_PATH_COUNT; path++)
            for (int way = 0; way < 4; way++) {
                struct layout l;
                struct drive d = {.lanes = way == 1 ? LANES_MOST : 8,
                                  .mode = REDUCE_EXACT,
                                  .from_leaves = way == 1,
                                  .in_steps = way != 2};
                if (!path_fits((enum reduce_path)path) || (path == REDUCE_PATH_AUTO && c > 0))
                    continue; /* the choice made for AUTO is one of the others */
                d.options.path = (enum reduce_path)path;
                d.options.no_thread = way == 2;
                d.options.whole = way == 3;
                d.options.bucket_elements = (int64_t)(1 + c % 2) * REDUCE_BLOCK;
                make_layout(&l, cases[c].seed, cases[c].ranges, cases[c].longest);
                check_exact_steps(&d, &l, cases[c].longest > 20000 ? 1 : 2);
            }
}

static void canonical_blocks_are_cut_at_full_length(void **state)
{
    (void)state;
    struct drive d = {.lanes = 8, .mode = REDUCE_EXACT, .in_steps = true};
    struct layout l = {.total = 5 * REDUCE_BLOCK};
    for (int64_t length = REDUCE_BLOCK - 1; length <= 4 * REDUCE_BLOCK;
         length += REDUCE_BLOCK / 2) {
        l.r[0] = (struct range){0, length};
        l.list = (struct range_list){.r = l.r, .count = 1, .capacity = 1};
        check_exact_steps(&d, &l, 1);
    }
}

static void many_steps_with_ranks_out_of_step_stay_exact(void **state)
{
    (void)state;
    struct layout l;
    make_layout(&l, 11, 5, 3000);
    for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++) {
        struct drive d = {.lanes = 8, .mode = REDUCE_EXACT, .in_steps = true};
        d.options.path = (enum reduce_path)path;
        d.options.bucket_elements = REDUCE_BLOCK;
        for (int whole = 0; whole < 2 && path_fits(d.options.path); whole++) {
            d.options.whole = whole;
            check_exact_steps(&d, &l, 12);
        }
    }
}

static void lanes_equal_to_ranks_and_one_lane_each_work(void **state)
{
    (void)state;
    struct layout l;
    int32_t lanes = 1;
    while (lanes < world.size)
        lanes *= 2;
    make_layout(&l, 21, 4, 30000);
    for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++) {
        struct drive d = {.lanes = lanes, .mode = REDUCE_EXACT};
        d.options.path = (enum reduce_path)path;
        if (path_fits(d.options.path))
            check_exact_steps(&d, &l, 2);
    }
}

static void nothing_to_reduce_is_no_work(void **state)
{
    (void)state;
    struct drive d = {.lanes = 8, .mode = REDUCE_EXACT};
    struct layout l = {.total = 10};
    struct range_list owned = {0};
    for (int path = 0; path < REDUCE_PATH_COUNT; path++) {
        d.options.path = (enum reduce_path)path;
        if (path_fits(d.options.path))
            check_exact_steps(&d, &l, 2);
    }
    range_list_release(&owned);
}

static void an_infinity_or_nan_in_one_lane_is_seen_by_all_ranks(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3.4e38f};
    struct layout l;
    struct bench b;
    struct reducer *r = NULL;
    struct drive d = {.lanes = 8, .mode = REDUCE_EXACT};
    make_layout(&l, 31, 3, 12000);
    bench_create(&b, &d, &l);
    for (int mode = REDUCE_EXACT; mode <= REDUCE_MPI; mode++) {
        assert_mt_ok(reducer_create(&r, &world, d.lanes, (enum reduce_mode)mode, &l.list, NULL));
        for (int step = 0; step < 8; step++) {
            struct reduce_sum sum;
            for (int32_t i = 0; i < b.count; i++)
                fill(b.block[i], &l, d.lanes, b.node[i], (uint32_t)step);
            if (step % 2 == 0 && world.rank == step % world.size)
                b.block[b.count - 1][l.r[1].end - 1] = bad[step / 2];
            run_step(r, &d, &l, &b, &sum);
            assert_int_equal(sum.finite, step % 2 == 1 || bad[step / 2] == 3.4e38f);
        }
        reducer_destroy(&r);
    }
    bench_destroy(&b);
}

static void the_library_way_agrees_within_rounding(void **state)
{
    (void)state;
    struct layout l;
    make_layout(&l, 41, 6, 20000);
    for (int way = 0; way < 2; way++) {
        struct bench b;
        struct reducer *r = NULL;
        struct reduce_sum sum;
        struct drive d = {.lanes = 8, .mode = REDUCE_MPI, .from_leaves = way, .in_steps = true};
        d.options.bucket_elements = REDUCE_BLOCK;
        bench_create(&b, &d, &l);
        assert_mt_ok(reducer_create(&r, &world, d.lanes, d.mode, &l.list, &d.options));
        assert_true(reducer_sum_is_whole(r));
        for (uint32_t step = 0; step < 3; step++) {
            fill(b.expected, &l, d.lanes, 1, step);
            for (int32_t i = 0; i < b.count; i++)
                fill(b.block[i], &l, d.lanes, b.node[i], step);
            run_step(r, &d, &l, &b, &sum);
            for (int64_t i = 0; i < l.total; i++)
                assert_true(fabsf(b.block[0][i] - b.expected[i]) <= 0.05f);
            double norm2 = reduce_norm2(&l.list, b.expected);
            assert_true(fabs(sum.norm2 - norm2) <= 1e-5 * norm2);
            double same[2] = {sum.norm2, -sum.norm2};
            assert_mt_ok(comm_max_f64(&world, same, 2));
            assert_true(same[0] == -same[1]);
        }
        reducer_destroy(&r);
        bench_destroy(&b);
    }
}

static void any_block_can_be_gathered_from_its_owners(void **state)
{
    (void)state;
    struct layout l;
    make_layout(&l, 51, 5, 40000);
    for (int mode = REDUCE_EXACT; mode <= REDUCE_MPI; mode++)
        for (int path = 0; path < REDUCE_PATH_COUNT; path++) {
            struct reducer *r = NULL;
            struct range_list owned = {0};
            struct reducer_options o = {.path = (enum reduce_path)path};
            float *block;
            if (!path_fits(o.path))
                continue;
            assert_mt_ok(mt_alloc(&block, l.total, sizeof *block, "parameters"));
            assert_mt_ok(reducer_create(&r, &world, 8, (enum reduce_mode)mode, &l.list, &o));
            assert_mt_ok(reducer_owned(r, &owned));
            for (int round = 0; round < 3; round++) {
                for (int64_t i = 0; i < l.total; i++)
                    block[i] = HOLE;
                for (int32_t k = 0; k < owned.count; k++)
                    for (int64_t i = owned.r[k].begin; i < owned.r[k].end; i++)
                        block[i] = (float)(i + round);
                assert_mt_ok(reducer_gather(r, block));
                for (int64_t i = 0; i < l.total; i++)
                    assert_true(block[i] == (in_layout(&l, i) ? (float)(i + round) : HOLE));
            }
            range_list_release(&owned);
            reducer_destroy(&r);
            mt_free(&block);
        }
}

static void bytes_sent_are_what_the_method_says(void **state)
{
    (void)state;
    struct layout l = {.total = 64 * REDUCE_BLOCK};
    l.r[0] = (struct range){0, l.total};
    l.list = (struct range_list){.r = l.r, .count = 1, .capacity = 1};
    for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++) {
        struct bench b;
        struct reducer *r = NULL;
        struct reduce_sum sum;
        struct reducer_stats stats;
        struct drive d = {.lanes = 8, .mode = REDUCE_EXACT};
        d.options.path = (enum reduce_path)path;
        if (!path_fits(d.options.path))
            continue;
        bench_create(&b, &d, &l);
        assert_mt_ok(reducer_create(&r, &world, d.lanes, d.mode, &l.list, &d.options));
        assert_int_equal(reducer_path(r), path);
        run_step(r, &d, &l, &b, &sum);
        reducer_stats(r, &stats);
        int64_t sent = stats.bytes_sent, full = l.total * 4;
        assert_int_equal(stats.steps, 1);
        if (is_power_of_two(world.size) && path != REDUCE_PATH_HOSTS)
            assert_int_equal(sent, full / world.size * (world.size - 1));
        reducer_destroy(&r);
        bench_destroy(&b);
    }
}

static void lane_sums_have_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (int32_t lanes = 8; lanes <= LANES_MOST; lanes *= 2) {
        struct lane_range g = lane_tree_range(lanes, world.size, world.rank);
        double mine[LANES_MOST * 3], work[LANES_MOST * 3], total[3], all[LANES_MOST * 3];
        for (int32_t l = 0; l < lanes; l++)
            for (int j = 0; j < 3; j++) {
                all[l * 3 + j] = 1.0 / (l + 2 + 10 * j) * (l % 3 == 0 ? 1e9 : 1.0);
                if (l >= g.begin && l < g.end)
                    mine[(l - g.begin) * 3 + j] = all[l * 3 + j];
            }
        assert_mt_ok(lane_sums(&world, lanes, 3, mine, work, total));
        for (int32_t n = lanes; n > 1; n /= 2)
            for (int32_t i = 0; i < n / 2 * 3; i++)
                work[i] = all[i / 3 * 6 + i % 3] + all[i / 3 * 6 + 3 + i % 3], all[i] = work[i];
        assert_memory_equal(total, all, sizeof total);
    }
}

static void more_ranks_than_lanes_name_the_key_to_raise(void **state)
{
    (void)state;
    struct reducer *r = NULL;
    struct layout l;
    make_layout(&l, 61, 2, 100);
    for (int32_t lanes = 0; lanes < 10; lanes++) {
        if (lane_tree_valid(lanes, world.size))
            continue;
        assert_int_equal(reducer_create(&r, &world, lanes, REDUCE_EXACT, &l.list, NULL), MT_CONFIG);
        assert_non_null(strstr(mt_error_peek()->message, "batch.lanes"));
        assert_null(r);
    }
}

static void plans_that_differ_between_ranks_are_refused(void **state)
{
    (void)state;
    struct reducer *r = NULL;
    struct layout l;
    make_layout(&l, 62, 2, 100);
    l.r[1].end += world.rank;
    if (world.size > 1)
        assert_int_equal(reducer_create(&r, &world, 8, REDUCE_EXACT, &l.list, NULL), MT_CONFIG);
    l.r[1] = l.r[0];
    assert_int_equal(reducer_create(&r, &world, 8, REDUCE_EXACT, &l.list, NULL), MT_BUG);
    assert_null(r);
}

static void no_memory_on_one_rank_at_any_point_fails_on_all(void **state)
{
    (void)state;
    struct layout l;
    make_layout(&l, 63, 2, 100);
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++)
        for (int64_t n = 1;; n++) {
            struct reducer *r = NULL;
            struct reducer_options o = {.path = (enum reduce_path)path};
            if (!path_fits(o.path))
                break;
            mt_memory_fail_after(world.rank == world.size - 1 ? n : 0);
            mt_status st = reducer_create(&r, &world, 8, REDUCE_EXACT, &l.list, &o);
            mt_memory_fail_after(0);
            if (st == MT_OK) {
                reducer_destroy(&r);
                break;
            }
            assert_int_equal(st, MT_NOMEM);
            assert_int_equal(mt_error_peek()->rank, world.size - 1);
            assert_null(r);
            mt_error_clear();
        }
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, before.live_blocks);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_the_tree_on_every_path),
        cmocka_unit_test(canonical_blocks_are_cut_at_full_length),
        cmocka_unit_test(many_steps_with_ranks_out_of_step_stay_exact),
        cmocka_unit_test(lanes_equal_to_ranks_and_one_lane_each_work),
        cmocka_unit_test(nothing_to_reduce_is_no_work),
        cmocka_unit_test(an_infinity_or_nan_in_one_lane_is_seen_by_all_ranks),
        cmocka_unit_test(the_library_way_agrees_within_rounding),
        cmocka_unit_test(any_block_can_be_gathered_from_its_owners),
        cmocka_unit_test(bytes_sent_are_what_the_method_says),
        cmocka_unit_test(lane_sums_have_the_bits_of_the_tree),
        cmocka_unit_test(more_ranks_than_lanes_name_the_key_to_raise),
        cmocka_unit_test(plans_that_differ_between_ranks_are_refused),
        cmocka_unit_test(no_memory_on_one_rank_at_any_point_fails_on_all),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
