/*
 * lane_tree: the one fixed binary tree in which lanes are added up.
 *
 * Lanes are the leaves of a complete binary tree, numbered as a heap: node 1 is the root, node k
 * has the children 2k and 2k+1, lane l of `lanes` (a power of two) is node lanes + l.  A node's
 * value is left + right, element by element, in float (or double); this alone decides the bits of a
 * sum, so any way of working through the tree gives the same result.  Rank r of R owns a contiguous
 * range of lanes; what it can add up alone are the maximal complete subtrees within it, its roots.
 *
 * All functions are pure arithmetic and never fail: lanes is a power of two and 1 <= R <= lanes.
 */
#ifndef MT_COMM_LANE_TREE_H
#define MT_COMM_LANE_TREE_H

#include "comm/base/status.h"

enum { LANES_MAX = 65536, LANE_ROOTS_MAX = 32 }; /* a range has at most 2 log2(lanes) roots */

struct lane_range {
    int32_t begin, end; /* lanes; end is one past the last */
};

/* Local.  Of n > 0. */
static inline bool is_power_of_two(int32_t n)
{
    return (n & (n - 1)) == 0;
}

/* Local.  Whether the tree exists for this many lanes and ranks. */
bool lane_tree_valid(int32_t lanes, int32_t ranks);

/* Local.  The lanes of a rank: consecutive, in rank order, counts differing by one at most. */
struct lane_range lane_tree_range(int32_t lanes, int32_t ranks, int32_t rank);

/* Local.  The rank that owns a lane. */
int32_t lane_tree_owner(int32_t lanes, int32_t ranks, int32_t lane);

/* Local.  Writes the nodes of the range's maximal complete subtrees in lane order and answers how
 * many. */
int32_t lane_tree_roots(int32_t lanes, struct lane_range range, int32_t nodes[LANE_ROOTS_MAX]);

/* Local.  The lanes below a node. */
struct lane_range lane_tree_lanes_of(int32_t lanes, int32_t node);

/* value[into] = value[into] + value[from]; possible as soon as value[after] is there (values
 * arriving in order), so somebody who makes one value at a time needs few blocks at once. */
struct lane_merge {
    int32_t into, from, after;
};

/* Local.  The additions that join `count` values, which stand for `nodes` in lane order without a
 * gap, as far as the tree allows: merges[count - 1] is filled with the answer's number of steps.
 * Where all lanes are covered one value is left, at index 0.  left[count], where not NULL, gets the
 * indexes of the values that are left, in lane order (count minus the answer). */
int32_t lane_tree_merges(const int32_t *nodes, int32_t count, struct lane_merge *merges,
                         int32_t *left);

/* Local.  into[i] = into[i] + from[i]: the addition of the tree. */
void lane_tree_add(float *into, const float *from, int64_t count);

/* Local.  values[lanes][width], one row a lane; adds the rows up in the tree, in place, total in
 * row 0. */
void lane_tree_sum_rows(int32_t lanes, int32_t width, double *values);

#endif
