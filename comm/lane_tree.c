/*
 * See lane_tree.h.
 *
 * Joining is a stack machine: values come in lane order, and whenever the two on top are siblings
 * they become their parent.  What is left of a contiguous range that way is exactly its maximal
 * complete subtrees, and which additions are made does not depend on where a range was cut.
 */
#include "comm/lane_tree.h"

bool lane_tree_valid(int32_t lanes, int32_t ranks)
{
    return lanes >= 1 && lanes <= LANES_MAX && is_power_of_two(lanes) && ranks >= 1 &&
           ranks <= lanes;
}

struct lane_range lane_tree_range(int32_t lanes, int32_t ranks, int32_t rank)
{
    return (struct lane_range){(int32_t)((int64_t)rank * lanes / ranks),
                               (int32_t)((int64_t)(rank + 1) * lanes / ranks)};
}

int32_t lane_tree_owner(int32_t lanes, int32_t ranks, int32_t lane)
{
    return (int32_t)((((int64_t)lane + 1) * ranks - 1) / lanes);
}

int32_t lane_tree_roots(int32_t lanes, struct lane_range range, int32_t nodes[LANE_ROOTS_MAX])
{
    int32_t count = 0;
    for (int32_t at = range.begin; at < range.end;) {
        int32_t node = lanes + at, width = 1;
        while (node % 2 == 0 && at + 2 * width <= range.end) { /* a left child whose parent fits */
            node /= 2;
            width *= 2;
        }
        nodes[count++] = node;
        at += width;
    }
    return count;
}

struct lane_range lane_tree_lanes_of(int32_t lanes, int32_t node)
{
    int32_t width = 1;
    while (node < lanes) {
        node *= 2;
        width *= 2;
    }
    return (struct lane_range){node - lanes, node - lanes + width};
}

int32_t lane_tree_merges(const int32_t *nodes, int32_t count, struct lane_merge *merges,
                         int32_t *left)
{
    int32_t steps = 0, top = 0;
    int32_t node[64], value[64]; /* a stack holds at most two nodes of each of 17 levels */
    for (int32_t i = 0; i < count; i++) {
        node[top] = nodes[i];
        value[top++] = i;
        while (top >= 2 && node[top - 2] % 2 == 0 && node[top - 1] == node[top - 2] + 1) {
            merges[steps++] = (struct lane_merge){value[top - 2], value[top - 1], i};
            node[top - 2] /= 2;
            top--;
        }
    }
    for (int32_t i = 0; i < top && left != NULL; i++)
        left[i] = value[i];
    return steps;
}

void lane_tree_sum_rows(int32_t lanes, int32_t width, double *values)
{
    for (int32_t gap = 1; gap < lanes; gap *= 2)
        for (int32_t lane = 0; lane < lanes; lane += 2 * gap) {
            double *a = values + (int64_t)lane * width;
            const double *b = values + (int64_t)(lane + gap) * width;
            for (int32_t i = 0; i < width; i++)
                a[i] += b[i];
        }
}
