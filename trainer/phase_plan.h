/*
 * phase_plan: what a declared phase comes to on a given model and given data.
 *
 * Pure: no training, no numbers of the model.  `mttrain check` and `plan` show it, training obeys
 * it.
 */
#ifndef MT_TRAINER_PHASE_PLAN_H
#define MT_TRAINER_PHASE_PLAN_H

#include "io/sampler.h"
#include "trainer/corpora.h"
#include "trainer/model/model.h"

struct phase_plan {
    const struct phase *phase;  /* borrowed */
    uint8_t *trainable;         /* [tensors] */
    double *lr, *weight_decay;  /* [tensors] peak rates; 0 where frozen */
    bool active[JOB_TASKS_MAX]; /* tasks whose loss counts */
    double loss_weight[JOB_TASKS_MAX];
    int32_t train_from;         /* lowest trained depth; layers + 2 = none */
    int64_t trainable_elements; /* parameters that are trained */
    int32_t frozen_tensors;
    int64_t *eligible[JOB_DATA_MAX]; /* row numbers with an active label; NULL = all rows */
    int64_t rows[JOB_DATA_MAX];      /* eligible rows; 0 = the set is not used */
    double sampling_weight[JOB_DATA_MAX];
    enum sampling sampling;
    double steps_per_epoch;
    bool probe; /* nothing is trained by gradient: a separate classifier is fitted */
};

/* Local.  One phase.  Owns its arrays until phase_plan_release (also after a failure).
 * Errors: CONFIG (patterns, a phase that trains nothing, tasks without data), NOMEM. */
mt_status phase_plan_make(struct phase_plan *plan, const struct job *job, int32_t phase,
                          const struct model *model, const struct corpora *corpora) MT_CHECKED;
void phase_plan_release(struct phase_plan *plan);

/* Local.  The sampler's view of a plan; borrows its arrays. */
struct sampler_spec phase_plan_sampler(const struct phase_plan *plan, const struct job *job);

#endif
