/* replay: one step looked at closely instead of being done, for `mttrain replay`. */
#ifndef MT_TRAINER_REPLAY_H
#define MT_TRAINER_REPLAY_H

#include "trainer/step.h"

/* Collective.  Prints, on rank 0, whether loss and norm are those of run->replay, the loss of each
 * sentence alone (largest first) and the gradient's norm tensor by tensor.  Sets run->replayed and
 * report->skipped.  Errors: NOMEM, MPI. */
mt_status replay_show(struct run *run, const struct step_batch *batch, const struct pass_plan *plan,
                      struct step_report *report, const struct step_gradient *g) MT_CHECKED;

#endif
