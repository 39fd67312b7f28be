/*
 * save: a run's whole state to a checkpoint and back, and the model folder at the end.
 *
 * state.json holds what is not a tensor: the phase machine, the sampler's position, update counts,
 * the best evaluation.  No random state: see comm/base/rng.h.
 */
#ifndef MT_TRAINER_SAVE_H
#define MT_TRAINER_SAVE_H

#include "trainer/run.h"

/* Collective.  Takes up the newest valid checkpoint of run_dir ("auto"), none ("never", and then
 * run_dir must hold none), or the given one; opens metrics.jsonl.
 * Errors: DATA (damaged, sizes or labels that differ), CONFIG, IO. */
mt_status save_resume(struct run *run, const struct run_options *options) MT_CHECKED;

/* Collective.  Writes a checkpoint at run->machine.step, sets latest (and best, where
 * run->save_best), removes old ones; clears save_due and save_best.  A failure to write is an error
 * or, with train.save_failure = "warn", a loud warning.  Errors: IO, NOMEM. */
mt_status save_checkpoint(struct run *run) MT_CHECKED;

/* Collective.  Parameters (not moments) of the best checkpoint; the last ones where there is none.
 */
mt_status save_load_best(struct run *run) MT_CHECKED;

/* Collective.  Exports run_dir/model from the best checkpoint, else from the current parameters. */
mt_status save_export(struct run *run) MT_CHECKED;

#endif
