#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/rng.h"
#include "comm/lane_tree.h"

static float lane_value(int32_t lane)
{
    struct rng_block b = rng_philox(7, (uint32_t)lane, 0, 0, 0);
    return (float)(rng_uniform(b.v[0], b.v[1]) - 0.5) * (float)(1 << (b.v[2] % 20));
}

/* The tree by its definition. */
static float node_value(int32_t lanes, int32_t node)
{
    if (node >= lanes)
        return lane_value(node - lanes);
    return node_value(lanes, 2 * node) + node_value(lanes, 2 * node + 1);
}

static void ranks_own_all_lanes_once_and_evenly(void **state)
{
    (void)state;
    for (int32_t lanes = 1; lanes <= 64; lanes *= 2)
        for (int32_t ranks = 1; ranks <= lanes; ranks++) {
            int32_t at = 0;
            for (int32_t r = 0; r < ranks; r++) {
                struct lane_range g = lane_tree_range(lanes, ranks, r);
                assert_int_equal(g.begin, at);
                assert_in_range(g.end - g.begin, lanes / ranks, (lanes + ranks - 1) / ranks);
                for (at = g.begin; at < g.end; at++)
                    assert_int_equal(lane_tree_owner(lanes, ranks, at), r);
            }
            assert_int_equal(at, lanes);
        }
}

static void roots_are_the_maximal_subtrees_of_a_range_in_order(void **state)
{
    (void)state;
    const int32_t lanes = 32;
    for (int32_t begin = 0; begin < lanes; begin++)
        for (int32_t end = begin + 1; end <= lanes; end++) {
            int32_t nodes[LANE_ROOTS_MAX], at = begin;
            struct lane_range range = {begin, end};
            int32_t n = lane_tree_roots(lanes, range, nodes);
            for (int32_t i = 0; i < n; i++) {
                struct lane_range g = lane_tree_lanes_of(lanes, nodes[i]);
                assert_int_equal(g.begin, at);
                at = g.end;
                if (nodes[i] > 1) { /* the parent would reach outside */
                    struct lane_range up = lane_tree_lanes_of(lanes, nodes[i] / 2);
                    assert_true(up.begin < begin || up.end > end);
                }
            }
            assert_int_equal(at, end);
        }
}

/* Joins the values of a rank to its roots and answers how many; value 0 .. count-1 are in place. */
static int32_t join(const int32_t *nodes, int32_t count, float *value, int32_t *left)
{
    struct lane_merge merges[64];
    int32_t n = lane_tree_merges(nodes, count, merges, left);
    for (int32_t m = 0; m < n; m++) {
        assert_true(merges[m].into < merges[m].from && merges[m].from <= merges[m].after);
        assert_true(m == 0 || merges[m].after >= merges[m - 1].after);
        value[merges[m].into] += value[merges[m].from];
    }
    return count - n;
}

static void any_rank_count_gives_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (int32_t lanes = 1; lanes <= 64; lanes *= 2) {
        float expected = node_value(lanes, 1);
        for (int32_t ranks = 1; ranks <= lanes; ranks++) {
            int32_t nodes[64], all_nodes[64], left[64], total = 0;
            float value[64], all[64];
            for (int32_t r = 0; r < ranks; r++) {
                struct lane_range g = lane_tree_range(lanes, ranks, r);
                for (int32_t l = g.begin; l < g.end; l++) {
                    nodes[l - g.begin] = lanes + l;
                    value[l - g.begin] = lane_value(l);
                }
                int32_t n = join(nodes, g.end - g.begin, value, left);
                assert_int_equal(n, lane_tree_roots(lanes, g, all_nodes + total));
                for (int32_t i = 0; i < n; i++)
                    all[total++] = value[left[i]];
            }
            assert_int_equal(join(all_nodes, total, all, left), 1);
            assert_int_equal(left[0], 0);
            assert_memory_equal(&all[0], &expected, sizeof expected);
        }
    }
}

static void rows_are_added_in_the_same_tree(void **state)
{
    (void)state;
    double v[16][3], expected;
    for (int l = 0; l < 16; l++)
        for (int j = 0; j < 3; j++)
            v[l][j] = 1.0 / (1 + l + 100 * j);
    expected = 0.0;
    double level[16];
    for (int l = 0; l < 16; l++)
        level[l] = v[l][2];
    for (int n = 16; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++)
            level[i] = level[2 * i] + level[2 * i + 1];
    expected = level[0];
    lane_tree_sum_rows(16, 3, &v[0][0]);
    assert_memory_equal(&v[0][2], &expected, sizeof expected);
}

static void trees_exist_for_powers_of_two_with_no_more_ranks_than_lanes(void **state)
{
    (void)state;
    assert_true(lane_tree_valid(8, 3));
    assert_true(lane_tree_valid(1, 1));
    assert_false(lane_tree_valid(6, 2));
    assert_false(lane_tree_valid(0, 1));
    assert_false(lane_tree_valid(-8, 1));
    assert_false(lane_tree_valid(8, 9));
    assert_false(lane_tree_valid(2 * LANES_MAX, 1));
}

static void the_most_lanes_stay_within_the_limits(void **state)
{
    (void)state;
    static struct lane_merge merges[LANES_MAX];
    static int32_t nodes[LANES_MAX];
    struct lane_range range = {1, LANES_MAX - 1};
    int32_t roots[LANE_ROOTS_MAX], n = range.end - range.begin;
    assert_int_equal(lane_tree_roots(LANES_MAX, range, roots), 30);
    for (int32_t i = 0; i < n; i++)
        nodes[i] = LANES_MAX + range.begin + i;
    assert_int_equal(n - lane_tree_merges(nodes, n, merges, NULL), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_own_all_lanes_once_and_evenly),
        cmocka_unit_test(roots_are_the_maximal_subtrees_of_a_range_in_order),
        cmocka_unit_test(any_rank_count_gives_the_bits_of_the_tree),
        cmocka_unit_test(rows_are_added_in_the_same_tree),
        cmocka_unit_test(trees_exist_for_powers_of_two_with_no_more_ranks_than_lanes),
        cmocka_unit_test(the_most_lanes_stay_within_the_limits),
    };
    return cmocka_run_group_tests_name("lane_tree", tests, NULL, NULL);
}
