/*
 * evaluate: exact metrics of a split, the same numbers at any rank count.
 *
 * The rows of each data set are cut into canonical blocks (trainer/row_blocks.h); block b belongs
 * to rank b mod R, so every sentence is seen exactly once and no block's shape depends on R. Counts
 * are integers; loss sums are kept per block and added in block order.
 */
#ifndef MT_TRAINER_EVALUATE_H
#define MT_TRAINER_EVALUATE_H

#include "comm/pool.h"
#include "comm/stop.h"
#include "trainer/corpora.h"
#include "trainer/metrics.h"
#include "trainer/prefix_cache.h"

struct evaluator;

struct evaluator_setup {
    const struct comm *world;
    const struct model *model;
    const struct corpora *corpora;
    struct pool *pool;
    const struct task_loss *loss; /* [task_count] class weights and smoothing, as in training */
};

struct eval_result {
    int32_t task;
    double loss; /* mean over labelled sentences (weighted by class weights) */
    struct class_metrics metrics;
    struct class_counts counts;
    const int64_t *confusion; /* [K][K], row = label; NULL where K > EVAL_CONFUSION_MAX */
};

enum { EVAL_CONFUSION_MAX = 64 };

/* Local.  Owns its work space, taken here once.  Errors: NOMEM. */
mt_status evaluator_create(struct evaluator **out, const struct evaluator_setup *setup) MT_CHECKED;
void evaluator_destroy(struct evaluator **e);

/* Collective.  Evaluates all tasks that have labels in the split, from the prefix cache where it
 * holds the rows (NULL = none; the same bits); *count results, valid until the
 * next run, in task order.  Errors: STOPPED where a stop was asked for meanwhile (on all ranks);
 * DATA, IO. */
mt_status evaluator_run(struct evaluator *e, enum split split, const float *params,
                        const struct prefix_cache *cache, const struct eval_result **results,
                        int32_t *count) MT_CHECKED;

#endif
