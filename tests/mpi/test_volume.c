/* What reduce_volume.h says a reduction sends is what the reducer counts, message by message. */
#include "tests/support/mpi_test.h"

#include "comm/base/memory.h"
#include "comm/reduce_volume.h"

/* Lengths around those of blocks, buckets and ranks; `step` of them lie in a flat block. */
static const struct range layouts[][3] = {
    {{0, 200000}, {200016, 200020}, {300000, 316384}},
    {{16, 17}, {32, 48}, {64, 16448}},
    {{0, REDUCE_BLOCK}, {2 * REDUCE_BLOCK, 5 * REDUCE_BLOCK + 1}, {400000, 600000}}};

enum { TOTAL = 600000, STEPS = 2 };

static void count(const struct reduce_volume_setup *setup, const struct range_list *ranges,
                  struct reducer_stats *stats)
{
    struct reducer_options options = {.path = setup->path,
                                      .bucket_elements = setup->bucket_elements,
                                      .whole = setup->gathers && setup->mode == REDUCE_EXACT};
    int32_t nodes[LANE_ROOTS_MAX];
    int32_t roots =
        lane_tree_roots(setup->lanes, lane_tree_range(setup->lanes, world.size, world.rank), nodes);
    float *root[LANE_ROOTS_MAX];
    struct reducer *r = NULL;
    struct reduce_sum sum;
    for (int32_t i = 0; i < roots; i++)
        assert_mt_ok(mt_alloc(&root[i], TOTAL, sizeof(float), "a root"));
    assert_mt_ok(reducer_create(&r, &world, setup->lanes, setup->mode, ranges, &options));
    for (int step = 0; step < STEPS; step++) {
        reducer_begin(r, root, roots);
        assert_mt_ok(reducer_finish(r, &sum));
        if (setup->gathers_blocks || (setup->gathers && setup->mode == REDUCE_MPI))
            assert_mt_ok(reducer_gather(r, root[0]));
    }
    reducer_stats(r, stats);
    reducer_destroy(&r);
    for (int32_t i = 0; i < roots; i++)
        mt_free(&root[i]);
}

static void check(const struct reduce_volume_setup *setup, const struct range_list *ranges)
{
    struct reducer_stats stats;
    struct reduce_volume v;
    count(setup, ranges, &stats);
    assert_mt_ok(reduce_volume_plan(&v, ranges, setup));
    int64_t total = stats.bytes_sent, most = -stats.bytes_sent;
    int64_t rank0[2] = {world.rank == 0 ? stats.bytes_sent : 0,
                        world.rank == 0 ? stats.messages : 0};
    assert_mt_ok(comm_sum_i64(&world, &total, 1));
    assert_mt_ok(comm_sum_i64(&world, rank0, 2));
    assert_mt_ok(comm_min_i64(&world, &most, 1));
    assert_int_equal(stats.steps, STEPS);
    assert_int_equal(total, STEPS * v.total_bytes);
    assert_int_equal(-most, STEPS * v.most_bytes);
    assert_int_equal(rank0[0], STEPS * v.rank0_bytes);
    assert_int_equal(rank0[1], STEPS * v.messages);
}

static void forecast_counts_are_those_of_the_reducer(void **state)
{
    (void)state;
    bool halves = is_power_of_two(world.size);
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++)
        for (int path = REDUCE_PATH_NODE; path < REDUCE_PATH_COUNT; path++)
            for (int way = 0; way < 12; way++) {
                struct range range[3];
                memcpy(range, layouts[l], sizeof range);
                struct range_list ranges = {.r = range, .count = 3, .capacity = 3};
                struct reduce_volume_setup setup = {
                    .lanes = (way & 1) != 0 ? 32 : 8,
                    .ranks = world.size,
                    .mode = REDUCE_EXACT,
                    .path = (enum reduce_path)path,
                    .bucket_elements = (way & 2) != 0 ? 4 * REDUCE_BLOCK : REDUCE_BLOCK,
                    .gathers = way / 4 == 1,
                    .gathers_blocks = way / 4 == 2,
                    .hosts = world.node_count};
                if ((path == REDUCE_PATH_NODE && world.node_count > 1) ||
                    (path == REDUCE_PATH_HALVING && !halves) ||
                    (path == REDUCE_PATH_HOSTS && !reduce_path_hosts_fits(&world)))
                    continue;
                check(&setup, &ranges);
            }
}

static void forecast_bytes_of_the_librarys_sums_are_counted_alike(void **state)
{
    (void)state;
    struct range range = {0, TOTAL / 840 * 840}; /* every share is a whole number */
    struct range_list ranges = {.r = &range, .count = 1, .capacity = 1};
    struct reduce_volume_setup setup = {
        .lanes = 8, .ranks = world.size, .mode = REDUCE_MPI, .gathers = true};
    check(&setup, &ranges);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forecast_counts_are_those_of_the_reducer),
        cmocka_unit_test(forecast_bytes_of_the_librarys_sums_are_counted_alike),
    };
    return mpi_test_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
