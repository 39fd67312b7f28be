/*
 * See reduce_volume.h.  The same plan and slices as the transports use; each formula stands for one
 * of them (comm/reduce_node.c, comm/reduce_wire.c).
 */
#include "comm/reduce_volume.h"

#include "comm/reduce_plan.h"

struct volume {
    const struct reduce_volume_setup *setup;
    struct reduce_plan plan;
    enum reduce_path path;
};

static int32_t log2_of(int32_t n)
{
    int32_t bits = 0;
    while ((1 << bits) < n)
        bits++;
    return bits;
}

/* What a rank sends of a bucket before its slice is summed; *messages is added to (of rank 0
 * alone: counting costs as much as there are ranks). */
static int64_t reduced_elements(const struct volume *v, int32_t bucket, int32_t rank, int32_t roots,
                                int64_t *messages)
{
    const struct reduce_bucket *b = &v->plan.bucket[bucket];
    int32_t ranks = v->setup->ranks;
    int64_t all = b->end - b->begin, sent = 0;
    if (v->setup->mode == REDUCE_MPI)
        return 2 * all * (ranks - 1) / ranks;
    if (v->path == REDUCE_PATH_HALVING) {
        for (int32_t k = 0; k < log2_of(ranks); k++) {
            struct reduce_slice theirs =
                reduce_plan_halved(&v->plan, bucket, rank ^ (1 << k), k + 1);
            sent += theirs.end - theirs.begin;
            *messages += theirs.end > theirs.begin;
        }
        return sent;
    }
    struct reduce_slice mine = reduce_plan_slice(&v->plan, bucket, rank);
    for (int32_t p = 0; p < ranks && rank == 0 && v->path == REDUCE_PATH_DIRECT; p++) {
        struct reduce_slice theirs = reduce_plan_slice(&v->plan, bucket, p);
        *messages += p != rank && theirs.end > theirs.begin ? roots : 0;
    }
    return roots * (all - (mine.end - mine.begin));
}

static int64_t gathered_elements(const struct volume *v, int32_t bucket, int32_t rank)
{
    struct reduce_slice mine = reduce_plan_slice(&v->plan, bucket, rank);
    int64_t readers = v->path == REDUCE_PATH_NODE && v->setup->mode == REDUCE_EXACT
                          ? 1 /* written once, read by all */
                          : v->setup->ranks - 1;
    return readers * (mine.end - mine.begin);
}

static void add_rank(const struct volume *v, int32_t rank, struct reduce_volume *out)
{
    int32_t nodes[LANE_ROOTS_MAX], lanes = v->setup->lanes;
    int32_t roots = lane_tree_roots(lanes, lane_tree_range(lanes, v->setup->ranks, rank), nodes);
    int64_t elements = 0, messages = 0;
    for (int32_t b = 0; b < v->plan.buckets; b++) {
        elements += reduced_elements(v, b, rank, roots, &messages);
        if (v->setup->gathers)
            elements += gathered_elements(v, b, rank);
    }
    int64_t bytes = elements * (int64_t)sizeof(float);
    out->total_bytes += bytes;
    out->most_bytes = bytes > out->most_bytes ? bytes : out->most_bytes;
    if (rank == 0) {
        out->rank0_bytes = bytes;
        out->messages = messages;
    }
}

mt_status reduce_volume_plan(struct reduce_volume *out, const struct range_list *ranges,
                             const struct reduce_volume_setup *setup)
{
    struct volume v = {.setup = setup, .path = setup->path};
    struct reduce_volume total = {0};
    bool halves = (setup->ranks & (setup->ranks - 1)) == 0;
    if (v.path == REDUCE_PATH_AUTO)
        v.path = halves ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    bool exact = setup->mode == REDUCE_EXACT;
    int64_t bucket =
        reduce_plan_bucket_elements(exact && v.path == REDUCE_PATH_NODE, setup->bucket_elements);
    MT_TRY(reduce_plan_init(&v.plan, ranges, bucket, setup->ranks,
                            exact && v.path == REDUCE_PATH_HALVING));
    for (int32_t rank = 0; rank < setup->ranks && setup->ranks > 1; rank++)
        add_rank(&v, rank, &total);
    reduce_plan_release(&v.plan);
    *out = total;
    return MT_OK;
}
