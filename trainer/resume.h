/*
 * resume: where a run begins, and where it goes back to.
 */
#ifndef MT_TRAINER_RESUME_H
#define MT_TRAINER_RESUME_H

#include "trainer/run.h"

/* Collective.  Takes up the newest valid checkpoint of run_dir ("auto"), none ("never", and then
 * run_dir must hold none), or the given one; opens metrics.jsonl and honours decisions.jsonl.  A
 * job that differs from the checkpoint's: harmless keys are noted, keys that change the result need
 * --accept-changes and are recorded as events "change", others are refused.
 * Errors: DATA (damaged, sizes or labels that differ), CONFIG, IO. */
mt_status resume_run(struct run *run, const struct run_options *options) MT_CHECKED;

/* Collective.  Puts the run back to the newest valid checkpoint of run_dir, outside any phase, and
 * drops the events after it.  Errors: DATA where there is none; IO. */
mt_status resume_rollback(struct run *run) MT_CHECKED;

#endif
