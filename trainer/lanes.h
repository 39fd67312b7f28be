/*
 * lanes: this rank's share of a step, forward and backward, combined up the lane tree.
 *
 * A step's batch is cut into lanes (io/lane_plan.h); this rank owns a contiguous range of them.
 * Each lane is computed alone by one thread, in slices of at most micro_tokens tokens, about equal,
 * that add into one gradient block; finished lanes are combined in the one fixed tree
 * (comm/lane_tree.h), as far as both children lie on this rank.  What is left are the roots, which
 * comm/reduce.h takes.  So neither threads nor ranks change a bit.  Rows of the word embeddings
 * that no token of the step names stay zero in every block and cost nothing.
 *
 * Memory: one pass per thread, and gradient blocks, of which only the trainable ranges are ever
 * touched: threads + log2(lanes of this rank), up to twice that logarithm where the lanes are no
 * subtree, and with `groups` one more for each group of this rank.
 */
#ifndef MT_TRAINER_LANES_H
#define MT_TRAINER_LANES_H

#include "comm/base/row_set.h"
#include "comm/lane_tree.h"
#include "comm/pool.h"
#include "trainer/model/model.h"
#include "trainer/trace.h"

struct lanes;

/* What is the same for all steps of a phase. */
struct lanes_setup {
    const struct model *model;
    struct pool *pool;
    int32_t lanes;         /* of the whole step, all ranks together */
    int32_t first, count;  /* the lanes of this rank */
    int32_t micro_tokens;  /* a slice holds at most so many tokens, but at least one sentence */
    int32_t max_sentences; /* of one lane */
    int32_t start;         /* depth of the first thing computed: 0, or a cached boundary's */
    int32_t train_from;    /* lowest depth with a trainable tensor */
    bool recompute;        /* activations are computed again in backward (memory) */
    const struct range_list *ranges; /* trainable ranges of a flat block; borrowed */
    struct trace *trace;             /* borrowed; NULL = none */
    int32_t groups; /* lanes are added up to the tree's level of so many nodes, 0 = as far as can
                       be; reducer_options.wire_groups */
    const struct row_set *rows; /* of the word embeddings, all ranks' of the step; borrowed; NULL =
                                   every row is cleared and added */
};

/* Fills out with the boundary input of a slice (see trainer/model/model.h), or NULL for none. */
typedef void (*lanes_boundary)(void *context, const struct batch *slice, real *out);

/* Local.  How many gradient blocks so many threads need: fewer could wait for each other for ever.
 */
int32_t lanes_block_count(const struct lanes_setup *setup, int32_t threads);

/* Local.  Owns its memory.  Errors: NOMEM. */
mt_status lanes_create(struct lanes **out, const struct lanes_setup *setup) MT_CHECKED;
void lanes_destroy(struct lanes **lanes);

/* Hears of a run from the thread that computes: once that lanes_roots are known, then of the depths
 * whose gradients are final in all of them.  Where one thread computes one lane after another, that
 * is from the last lane's backward pass on, and this lane is a root of its own; otherwise at the
 * end, with depth 0. */
struct lanes_listener {
    void (*begin)(void *context);
    pass_depth_done done;
    void *context;
};

/* Local.  Computes the gradients of this rank's lanes; batch[count] in lane order.  listener: NULL
 * = nobody.  Errors: none of its own. */
mt_status lanes_run(struct lanes *l, const float *params, const struct batch *batch,
                    const struct pass_plan *plan, lanes_boundary boundary, void *boundary_context,
                    const struct lanes_listener *listener) MT_CHECKED;

/* Local.  Results of the last run.  Roots: gradient blocks in lane order, scratch for the reducer.
 */
float *const *lanes_roots(const struct lanes *l, int32_t *count);

/* Local.  Which nodes of the tree they are, for reducer_begin_nodes. */
const int32_t *lanes_nodes(const struct lanes *l);

/* Local.  Forward of one sentence alone, for finding out what went wrong; boundary as in lanes_run.
 * sums[task_count]. */
void lanes_forward_one(struct lanes *l, const float *params, const struct batch *one,
                       const struct pass_plan *plan, lanes_boundary boundary,
                       void *boundary_context, struct task_sums *sums);

/* Local.  Sums of one of this rank's lanes, [task_count]. */
const struct task_sums *lanes_sums(const struct lanes *l, int32_t lane_of_rank);

/* Local.  Bytes of activations of all threads, and of gradient blocks (touched ranges). */
int64_t lanes_activation_bytes(const struct lanes *l);
int64_t lanes_gradient_bytes(const struct lanes *l);

#endif
