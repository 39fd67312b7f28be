/*
 * See reduce_core.h: the additions of a reduction, in the order of the lane tree, and the norm.
 *
 * The norm is made of one double per canonical block, by the block's owner, always in the same
 * order of additions; all other ranks add 0 to it, so MPI_SUM is exact whatever its order, and the
 * blocks are then added up in order by everybody.
 *
 * A rank sends its roots, (ranks-1)/ranks of n elements each, receives as much, and adds n/ranks
 * elements per root of all ranks.
 */
#include "comm/reduce_core.h"
#include "comm/reduce_kernels.h"

static int64_t block_length(int64_t at, int64_t end)
{
    return end - at < REDUCE_BLOCK ? end - at : REDUCE_BLOCK;
}

void reduce_round(struct reducer *r, int32_t group, float *x, int64_t begin, int64_t end)
{
    struct range p;
    for (struct range_walk w = range_walk_over(r->active, begin, end); range_walk_next(&w, &p);)
        reduce_round_bf16(x + (p.begin - begin), r->lost[group] + p.begin, p.end - p.begin);
}

/* Adds the values up over n elements from flat offset `at` on, which are o elements into the slice;
 * the sum to out[n]. */
static void add_values(struct reducer *r, int64_t at, int64_t o, int64_t n, float *out)
{
    for (int32_t m = 0; m + 1 < r->values; m++) {
        float *into = r->value[r->merge[m].into] + o, *to = m + 2 < r->values ? into : out;
        reduce_add_into(to, into, r->value[r->merge[m].from] + o, n);
        if (r->groups > 0 && r->merge_group[m] > 0)
            reduce_round_bf16(to, r->lost[r->merge_group[m] - 1] + at, n);
    }
}

/* One canonical block at a time, so that what is added stays in cache until it is squared. */
static void sum_slice(struct reducer *r, const struct reduce_slice *s, bool add)
{
    int64_t block = s->first_block;
    for (int64_t at = s->begin; at < s->end; at += REDUCE_BLOCK, block++) {
        double square[REDUCE_PARTS] = {0};
        struct range p;
        struct range_walk w = range_walk_over(r->active, at, at + block_length(at, s->end));
        while (range_walk_next(&w, &p)) {
            float *out = r->root[0] + p.begin;
            if (add)
                add_values(r, p.begin, p.begin - s->begin, p.end - p.begin, out);
            if (r->groups > 0)
                reduce_round_bf16(out, r->lost[r->groups] + p.begin, p.end - p.begin);
            reduce_square_piece(square, p.begin - at, out, p.end - p.begin);
        }
        r->norm[block] = reduce_square_total(square);
    }
}

void reduce_add_slice(struct reducer *r, const struct reduce_slice *s)
{
    sum_slice(r, s, true);
}

void reduce_square_slice(struct reducer *r, const struct reduce_slice *s)
{
    sum_slice(r, s, false);
}

int32_t reduce_group_of(const struct reducer *r, int32_t node)
{
    return r->groups > 0 && node >= r->groups && node < 2 * r->groups ? node - r->groups : -1;
}

/* Rounds the groups among this rank's blocks and joins them, over elements [p.begin, p.end). */
static void join_piece(struct reducer *r, struct range p)
{
    for (int32_t i = 0; i < r->blocks; i++) {
        r->index[i] = r->node[i];
        if (reduce_group_of(r, r->node[i]) >= 0)
            reduce_round(r, reduce_group_of(r, r->node[i]), r->block[i] + p.begin, p.begin, p.end);
    }
    for (int32_t m = 0; m < r->local_merges; m++) {
        int32_t into = r->local_merge[m].into;
        lane_tree_add(r->block[into] + p.begin, r->block[r->local_merge[m].from] + p.begin,
                      p.end - p.begin);
        r->index[into] /= 2;
        if (reduce_group_of(r, r->index[into]) >= 0)
            reduce_round(r, reduce_group_of(r, r->index[into]), r->block[into] + p.begin, p.begin,
                         p.end);
    }
}

void reduce_join_lanes(struct reducer *r, const struct reduce_bucket *b)
{
    for (int64_t at = b->begin; at < b->end; at += REDUCE_BLOCK) {
        struct range p;
        struct range_walk w = range_walk_over(r->active, at, at + block_length(at, b->end));
        while (range_walk_next(&w, &p))
            join_piece(r, p);
    }
}

double reduce_norm2(const struct range_list *ranges, const float *block)
{
    double norm2 = 0.0;
    for (int32_t i = 0; i < ranges->count; i++)
        for (int64_t at = ranges->r[i].begin; at < ranges->r[i].end; at += REDUCE_BLOCK)
            norm2 += reduce_square(block + at, block_length(at, ranges->r[i].end));
    return norm2;
}
