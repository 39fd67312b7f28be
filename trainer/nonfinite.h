/* nonfinite: what happens when a loss or gradient is not finite (job key train.nonfinite). */
#ifndef MT_TRAINER_NONFINITE_H
#define MT_TRAINER_NONFINITE_H

#include "trainer/step.h"

/* Collective.  Policy "stop": NUMERIC on all ranks, naming step, phase, task and samples.  Policy
 * "skip": a warning, counted in run->skipped_steps, and MT_OK; more than half of 20 steps in a row
 * skipped is NUMERIC all the same. */
mt_status nonfinite_handle(struct run *run, const struct step_batch *batch,
                           const struct pass_plan *plan,
                           const struct step_report *report) MT_CHECKED;

#endif
