/* train: the loop over steps, evaluations, saves and phases. */
#ifndef MT_TRAINER_TRAIN_H
#define MT_TRAINER_TRAIN_H

#include "trainer/run.h"

/* Collective.  Trains from where run_open left off to the end of the schedule, and exports.
 * Errors: STOPPED (state saved; start again) and everything a step can meet. */
mt_status train_run(struct run *run) MT_CHECKED;

/* Collective.  run_open, train_run, run_close, with a closing summary on rank 0. */
mt_status train_job(const struct comm *world, const char *job_path,
                    const struct run_options *options) MT_CHECKED;

#endif
