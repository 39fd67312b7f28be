/*
 * bf16 on the wire against the method by its definition, evaluated serially over all lanes: it
 * knows nothing of ranks, so it is ONE expected result for all rank counts.
 */
#include "tests/support/mpi_test.h"
#include "tests/support/reduce_paths.h"

#include <math.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/reduce.h"
#include "comm/reduce_kernels.h"

enum { LANES = 8, STEPS = 4, ELEMENTS = 40000 };

static float lane_value(uint32_t step, int32_t lane, int64_t i)
{
    uint32_t x = rng_philox(5, step * 64 + (uint32_t)lane, (uint32_t)i, 0, 0).v[0];
    return ldexpf((float)(int32_t)x * 0x1p-31f, (int)(x >> 28) - 12);
}

/* bf16 by the book: the nearest of the two neighbours, the even one in the middle. */
static float nearest_bf16(float x)
{
    uint32_t u, low_bits;
    float low, high;
    memcpy(&u, &x, sizeof u);
    low_bits = u & 0xffff0000;
    memcpy(&low, &low_bits, sizeof low);
    if (low == x)
        return x;
    low_bits += 0x10000;
    memcpy(&high, &low_bits, sizeof high);
    double to_low = fabs((double)x - (double)low), to_high = fabs((double)high - (double)x);
    if (to_low == to_high)
        return (u >> 16) % 2 == 0 ? low : high;
    return to_low < to_high ? low : high;
}

static float round_with(float x, float *error)
{
    float value = x + *error, rounded = nearest_bf16(value);
    *error = nearest_bf16(value - rounded);
    return rounded;
}

/* error[node] for all nodes of the groups' level; error[0] is the sum's. */
static float tree_value(int32_t node, int32_t groups, uint32_t step, int64_t i, float *error)
{
    float x = node >= LANES ? lane_value(step, node - LANES, i)
                            : tree_value(2 * node, groups, step, i, error) +
                                  tree_value(2 * node + 1, groups, step, i, error);
    return node >= groups && node < 2 * groups ? round_with(x, &error[node]) : x;
}

static void expect_steps(float *expected /* [STEPS][ELEMENTS] */, int32_t groups)
{
    for (int64_t i = 0; i < ELEMENTS; i++) {
        float error[2 * LANES] = {0};
        for (uint32_t step = 0; step < STEPS; step++)
            expected[step * ELEMENTS + i] =
                round_with(tree_value(1, groups, step, i, error), &error[0]);
    }
}

static void check_path(enum reduce_path path, int32_t groups, bool whole, const float *expected)
{
    struct range range = {0, ELEMENTS};
    struct range_list list = {.r = &range, .count = 1, .capacity = 1};
    struct reducer_options o = {
        .path = path, .wire_groups = groups, .whole = whole, .bucket_elements = REDUCE_BLOCK};
    struct lane_range mine = lane_tree_range(LANES, world.size, world.rank);
    struct reducer *r = NULL;
    float *block[LANES];
    int32_t node[LANES], count = mine.end - mine.begin;
    for (int32_t i = 0; i < count; i++) {
        node[i] = LANES + mine.begin + i;
        assert_mt_ok(mt_alloc(&block[i], ELEMENTS, sizeof(float), "a block"));
    }
    assert_mt_ok(reducer_create(&r, &world, LANES, REDUCE_EXACT, &list, &o));
    for (uint32_t step = 0; step < STEPS; step++) {
        const float *want = expected + (int64_t)step * ELEMENTS;
        struct reduce_sum sum;
        for (int32_t l = 0; l < count; l++)
            for (int64_t i = 0; i < ELEMENTS; i++)
                block[l][i] = lane_value(step, mine.begin + l, i);
        reducer_begin_nodes(r, block, node, count);
        assert_mt_ok(reducer_finish(r, &sum));
        double norm2 = reduce_norm2(&list, want);
        assert_memory_equal(&sum.norm2, &norm2, sizeof norm2);
        if (!reducer_sum_is_whole(r))
            assert_mt_ok(reducer_gather(r, block[0]));
        assert_memory_equal(block[0], want, ELEMENTS * sizeof *want);
    }
    reducer_destroy(&r);
    for (int32_t i = 0; i < count; i++)
        mt_free(&block[i]);
}

static void rounded_sums_are_the_methods_on_every_path(void **state)
{
    (void)state;
    float *expected;
    assert_mt_ok(mt_alloc(&expected, STEPS * ELEMENTS, sizeof *expected, "the expected sums"));
    for (int32_t groups = 1; groups <= LANES; groups *= 2) {
        expect_steps(expected, groups);
        for (int path = REDUCE_PATH_AUTO; path < REDUCE_PATH_COUNT; path++)
            for (int whole = 0; whole < 2; whole++)
                if (path_fits((enum reduce_path)path))
                    check_path((enum reduce_path)path, groups, whole, expected);
    }
    mt_free(&expected);
}

static void nothing_is_lost_over_steps(void **state)
{
    (void)state;
    float x[3] = {1.001f, -3e-5f, 1e30f};
    double sent[3] = {0}, meant[3] = {0};
    uint16_t error[3] = {0};
    for (int step = 0; step < 1000; step++) {
        float y[3];
        memcpy(y, x, sizeof y);
        reduce_round_bf16(y, error, 3);
        for (int i = 0; i < 3; i++) {
            assert_true(y[i] == nearest_bf16(y[i]));
            sent[i] += (double)y[i];
            meant[i] += (double)x[i];
        }
    }
    for (int i = 0; i < 3; i++)
        assert_true(fabs(sent[i] - meant[i]) <= fabs((double)x[i]) * 0.02);
}

static void what_is_not_finite_is_sent_and_forgotten(void **state)
{
    (void)state;
    float x[4] = {INFINITY, NAN, 3.4e38f, 1.0f}, y[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    uint16_t error[4] = {0};
    uint32_t payload = 0x7f800001; /* a NaN by its lowest bit alone */
    memcpy(&x[1], &payload, sizeof x[1]);
    reduce_round_bf16(x, error, 4);
    assert_true(isinf(x[0]) && isnan(x[1]) && isinf(x[2]));
    reduce_round_bf16(y, error, 4);
    for (int i = 0; i < 4; i++)
        assert_true(y[i] == 1.0f);
}

static int64_t bytes_of(int32_t groups, bool whole)
{
    struct range range = {0, 8 * REDUCE_BLOCK};
    struct range_list list = {.r = &range, .count = 1, .capacity = 1};
    struct reducer_options o = {.path = REDUCE_PATH_DIRECT, .wire_groups = groups, .whole = whole};
    struct lane_range mine = lane_tree_range(LANES, world.size, world.rank);
    struct reducer *r = NULL;
    struct reduce_sum sum;
    struct reducer_stats stats;
    float *block[LANES];
    int32_t node[LANES], count = mine.end - mine.begin;
    for (int32_t i = 0; i < count; i++) {
        node[i] = LANES + mine.begin + i;
        assert_mt_ok(mt_alloc(&block[i], range.end, sizeof(float), "a block"));
    }
    assert_mt_ok(reducer_create(&r, &world, LANES, REDUCE_EXACT, &list, &o));
    reducer_begin_nodes(r, block, node, count);
    assert_mt_ok(reducer_finish(r, &sum));
    reducer_stats(r, &stats);
    reducer_destroy(&r);
    for (int32_t i = 0; i < count; i++)
        mt_free(&block[i]);
    return stats.bytes_sent;
}

static void one_group_a_rank_halves_the_bytes(void **state)
{
    (void)state;
    if (!is_power_of_two(world.size))
        skip();
    for (int whole = 0; whole < 2; whole++)
        assert_int_equal(2 * bytes_of(world.size, whole), bytes_of(0, whole));
}

static void groups_that_are_no_level_and_the_library_are_refused(void **state)
{
    (void)state;
    struct range range = {0, 100};
    struct range_list list = {.r = &range, .count = 1, .capacity = 1};
    static const int32_t wrong[] = {3, 16, -1};
    struct reducer *r = NULL;
    for (int i = 0; i < 3; i++) {
        struct reducer_options o = {.wire_groups = wrong[i]};
        assert_int_equal(reducer_create(&r, &world, LANES, REDUCE_EXACT, &list, &o), MT_CONFIG);
        assert_non_null(strstr(mt_error_peek()->message, "wire_groups"));
    }
    struct reducer_options o = {.wire_groups = 8};
    assert_int_equal(reducer_create(&r, &world, LANES, REDUCE_MPI, &list, &o), MT_CONFIG);
    assert_non_null(strstr(mt_error_peek()->message, "wire"));
    assert_null(r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_sums_are_the_methods_on_every_path),
        cmocka_unit_test(nothing_is_lost_over_steps),
        cmocka_unit_test(what_is_not_finite_is_sent_and_forgotten),
        cmocka_unit_test(one_group_a_rank_halves_the_bytes),
        cmocka_unit_test(groups_that_are_no_level_and_the_library_are_refused),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
