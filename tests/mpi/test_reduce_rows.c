/*
 * A step that names few rows of a matrix: the reducer that knows of it against one that does not,
 * bit for bit, on every path.  What the dense one adds are zeros.
 */
#include "tests/support/mpi_test.h"
#include "tests/support/reduce_paths.h"

#include <math.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/exchange.h"
#include "comm/reduce_volume.h"

enum { LANES_MOST = 16, STEPS = 7 };

/* A matrix with something before and behind it in one range, and a range of its own further on. */
struct layout {
    struct range r[2];
    struct range_list list;
    int64_t begin, rows, row_elements, total;
};

static void make_layout(struct layout *l, int64_t rows, int64_t row_elements)
{
    l->begin = 160;
    l->rows = rows;
    l->row_elements = row_elements;
    l->r[0] = (struct range){16, l->begin + rows * row_elements + 20000};
    l->r[1] = (struct range){l->r[0].end + 10, l->r[0].end + 3010};
    l->total = l->r[1].end + 7;
    l->list = (struct range_list){.r = l->r, .count = 2, .capacity = 2};
}

static uint32_t draw(uint32_t a, uint32_t b, uint32_t c)
{
    return rng_philox(77, a, b, c, 0).v[0];
}

/* Rows of a lane: none in some steps, all in another. */
static bool lane_has_row(uint32_t step, int32_t lane, int64_t row)
{
    if (step == 2 || step == 4)
        return step == 4;
    return draw(step, (uint32_t)lane, (uint32_t)row) % 16 == 0 || (row < 3 && lane % 2 == 0);
}

/* Numbers of many sizes, zeros of both signs, and in step 5 infinities and NaN. */
static float lane_value(uint32_t step, int32_t lane, int64_t i, bool integers)
{
    uint32_t x = draw(step * 100 + (uint32_t)lane, (uint32_t)i, 1);
    if (integers)
        return (float)(int32_t)(x % 2001) - 1000.0f;
    if (x % 11 == 0)
        return -0.0f;
    if (step == 5 && x % 1013 == 0)
        return x % 2 == 0 ? INFINITY : -INFINITY;
    if (step == 5 && i % 1024 == 7 && lane == 3)
        return NAN;
    return ldexpf((float)(int32_t)x * 0x1p-31f, (int)(x >> 27) - 20);
}

struct drive {
    int32_t lanes;
    enum reduce_mode mode;
    struct reducer_options options;
    bool integers;
};

struct bench {
    struct row_set rows;
    int64_t *dirty;
    float *dense[LANES_MOST], *sparse[LANES_MOST];
    int32_t node[LANES_MOST], count;
    int32_t *ids;
};

/* A lane's gradient: what it does not name stays as it is. */
static void fill(float *block, const struct layout *l, const struct drive *d, uint32_t step,
                 int32_t lane)
{
    for (int32_t k = 0; k < l->list.count; k++)
        for (int64_t i = l->r[k].begin; i < l->r[k].end; i++) {
            int64_t row = (i - l->begin) / l->row_elements;
            bool in_matrix = i >= l->begin && row < l->rows;
            if (!in_matrix || lane_has_row(step, lane, row))
                block[i] = lane_value(step, lane, i, d->integers);
        }
}

static void make_bench(struct bench *b, const struct layout *l, const struct drive *d)
{
    struct lane_range mine = lane_tree_range(d->lanes, world.size, world.rank);
    memset(b, 0, sizeof *b);
    assert_mt_ok(row_set_init(&b->rows, l->begin, l->rows, l->row_elements, &l->list));
    assert_mt_ok(mt_alloc(&b->dirty, b->rows.words, sizeof *b->dirty, "dirty rows"));
    assert_mt_ok(mt_alloc(&b->ids, l->rows, sizeof *b->ids, "ids"));
    b->count = mine.end - mine.begin;
    for (int32_t i = 0; i < b->count; i++) {
        b->node[i] = d->lanes + mine.begin + i;
        assert_mt_ok(mt_alloc(&b->dense[i], l->total, sizeof(float), "a block"));
        assert_mt_ok(mt_alloc(&b->sparse[i], l->total, sizeof(float), "a block"));
    }
}

static void drop_bench(struct bench *b)
{
    row_set_release(&b->rows);
    mt_free(&b->dirty);
    mt_free(&b->ids);
    for (int32_t i = 0; i < b->count; i++) {
        mt_free(&b->dense[i]);
        mt_free(&b->sparse[i]);
    }
}

static void prepare_step(struct bench *b, const struct layout *l, const struct drive *d,
                         uint32_t step)
{
    memcpy(b->dirty, b->rows.mask, (size_t)b->rows.words * sizeof *b->dirty);
    row_set_clear(&b->rows);
    for (int32_t i = 0; i < b->count; i++) {
        int64_t count = 0;
        for (int64_t row = 0; row < l->rows; row++)
            if (lane_has_row(step, b->node[i] - d->lanes, row))
                b->ids[count++] = (int32_t)row;
        row_set_add(&b->rows, b->ids, count);
        for (int32_t k = 0; k < l->list.count; k++)
            memset(b->dense[i] + l->r[k].begin, 0,
                   (size_t)(l->r[k].end - l->r[k].begin) * sizeof(float));
        row_set_zero(&b->rows, b->rows.ranges, b->dirty, b->sparse[i]);
        fill(b->dense[i], l, d, step, b->node[i] - d->lanes);
        fill(b->sparse[i], l, d, step, b->node[i] - d->lanes);
    }
    assert_mt_ok(comm_or_i64(&world, b->rows.mask, b->rows.words));
    row_set_list(&b->rows);
}

/* The owned parts, or all, of both sums have the same bits. */
static void check_same(struct reducer *r, const struct layout *l, const struct bench *b)
{
    struct range_list owned = {0};
    assert_mt_ok(reducer_owned(r, &owned));
    const struct range_list *compared = reducer_sum_is_whole(r) ? &l->list : &owned;
    for (int32_t k = 0; k < compared->count; k++)
        for (int64_t i = compared->r[k].begin; i < compared->r[k].end; i++)
            if (memcmp(&b->dense[0][i], &b->sparse[0][i], sizeof(float)) != 0)
                fail_msg("element %lld: %a by all rows, %a by those in use", (long long)i,
                         (double)b->dense[0][i], (double)b->sparse[0][i]);
    range_list_release(&owned);
}

/* Bytes of a step from all ranks, by the arithmetic of the plan. */
static int64_t planned_bytes(struct reducer *r, const struct layout *l, const struct drive *d,
                             const struct range_list *active)
{
    struct reduce_volume volume;
    struct reduce_volume_setup setup = {.lanes = d->lanes,
                                        .ranks = world.size,
                                        .mode = d->mode,
                                        .path = reducer_path(r),
                                        .gathers = d->options.whole && d->mode == REDUCE_EXACT,
                                        .active = active,
                                        .bucket_elements = d->options.bucket_elements,
                                        .wire_groups = d->options.wire_groups,
                                        .hosts = world.node_count};
    assert_mt_ok(reduce_volume_plan(&volume, &l->list, &setup));
    return volume.total_bytes;
}

static void check_steps(const struct layout *l, const struct drive *d)
{
    struct bench b;
    struct reducer *dense = NULL, *sparse = NULL;
    struct reducer_options options = d->options;
    struct reducer_stats all, few;
    int64_t planned_all = 0, planned_few = 0;
    make_bench(&b, l, d);
    assert_mt_ok(reducer_create(&dense, &world, d->lanes, d->mode, &l->list, &options));
    options.rows = &b.rows;
    assert_mt_ok(reducer_create(&sparse, &world, d->lanes, d->mode, &l->list, &options));
    for (uint32_t step = 0; step < STEPS; step++) {
        struct reduce_sum expected, got;
        struct mt_memory_stats before, after;
        prepare_step(&b, l, d, step);
        reducer_begin_nodes(dense, b.dense, b.node, b.count);
        assert_mt_ok(reducer_finish(dense, &expected));
        mt_memory_stats(&before);
        reducer_begin_nodes(sparse, b.sparse, b.node, b.count);
        for (int64_t at = l->total; at > 0; at -= l->total / 3)
            reducer_ready(sparse, at);
        assert_mt_ok(reducer_finish(sparse, &got));
        mt_memory_stats(&after);
        assert_int_equal(after.allocations, before.allocations);
        check_same(sparse, l, &b);
        planned_all += planned_bytes(dense, l, d, NULL);
        planned_few += planned_bytes(sparse, l, d, &b.rows.active);
        if (isnan(expected.norm2))
            assert_true(isnan(got.norm2));
        else
            assert_memory_equal(&got.norm2, &expected.norm2, sizeof got.norm2);
        assert_int_equal(got.finite, expected.finite);
        assert_int_equal(got.finite, step != 5 || d->integers);
    }
    reducer_stats(dense, &all);
    reducer_stats(sparse, &few);
    int64_t told[2] = {all.bytes_sent, few.bytes_sent};
    assert_mt_ok(comm_sum_i64(&world, told, 2));
    assert_int_equal(told[0], planned_all);
    assert_int_equal(told[1], planned_few);
    int64_t saved = all.bytes_sent - few.bytes_sent;
    assert_true(saved >= 0);
    assert_mt_ok(comm_sum_i64(&world, &saved, 1));
    assert_int_equal(saved > 0, world.size > 1);
    reducer_destroy(&dense);
    reducer_destroy(&sparse);
    drop_bench(&b);
}

static void rows_left_out_change_no_bit_on_any_path(void **state)
{
    (void)state;
    static const int64_t shape[][2] = {{300, 24}, {90, 768}, {2000, 5}, {3, 40000}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++)
        for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++)
            for (int whole = 0; whole < 2; whole++) {
                struct layout l;
                struct drive d = {.lanes = s == 1 ? LANES_MOST : 8, .mode = REDUCE_EXACT};
                make_layout(&l, shape[s][0], shape[s][1]);
                d.options.path = (enum reduce_path)path;
                d.options.whole = whole;
                d.options.bucket_elements = (int64_t)(1 + s % 2) * REDUCE_BLOCK;
                if (path_fits(d.options.path))
                    check_steps(&l, &d);
            }
}

static void rows_left_out_change_no_sum_of_the_library(void **state)
{
    (void)state;
    struct layout l;
    struct drive d = {.lanes = 8, .mode = REDUCE_MPI, .integers = true};
    make_layout(&l, 300, 24);
    d.options.bucket_elements = REDUCE_BLOCK;
    check_steps(&l, &d);
}

static void a_gather_copies_rows_that_no_step_uses_too(void **state)
{
    (void)state;
    struct layout l;
    make_layout(&l, 300, 24);
    for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++) {
        struct drive d = {.lanes = 8};
        struct bench b;
        struct reducer *r = NULL;
        struct range_list owned = {0};
        d.options.path = (enum reduce_path)path;
        if (!path_fits(d.options.path))
            continue;
        make_bench(&b, &l, &d);
        prepare_step(&b, &l, &d, 2);
        d.options.rows = &b.rows;
        assert_mt_ok(reducer_create(&r, &world, d.lanes, REDUCE_EXACT, &l.list, &d.options));
        assert_mt_ok(reducer_owned(r, &owned));
        for (int64_t i = 0; i < l.total; i++)
            b.dense[0][i] = -1.0f;
        for (int32_t k = 0; k < owned.count; k++)
            for (int64_t i = owned.r[k].begin; i < owned.r[k].end; i++)
                b.dense[0][i] = (float)i;
        assert_mt_ok(reducer_gather(r, b.dense[0]));
        for (int32_t k = 0; k < l.list.count; k++)
            for (int64_t i = l.r[k].begin; i < l.r[k].end; i++)
                assert_true(b.dense[0][i] == (float)i);
        range_list_release(&owned);
        reducer_destroy(&r);
        drop_bench(&b);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_left_out_change_no_bit_on_any_path),
        cmocka_unit_test(rows_left_out_change_no_sum_of_the_library),
        cmocka_unit_test(a_gather_copies_rows_that_no_step_uses_too),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
