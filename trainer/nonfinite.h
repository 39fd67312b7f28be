/*
 * nonfinite: what happens when a step's loss or gradient is not finite (job key train.nonfinite) or
 * far above those before it (train.spike).
 *
 * stop      NUMERIC, naming step, phase, task and samples
 * skip      the step leaves the parameters as they were; more than ten in a row are NUMERIC
 * rollback  the run goes back to its newest checkpoint and passes over the step's batch; if that
 *           does not help within ten steps, over all batches since the checkpoint; after three
 *           times NUMERIC.  What is passed over stands in decisions.jsonl.
 *
 * Judged by numbers that are equal on all ranks.  Each time a bundle is written (trainer/bundle.h).
 */
#ifndef MT_TRAINER_NONFINITE_H
#define MT_TRAINER_NONFINITE_H

#include "trainer/step.h"

/* Local.  Whether the batch of a step is to be passed over. */
bool nonfinite_passes_over(const struct run *run, int64_t step);

/* Collective.  Judges the step before it updates anything; report->skipped = it must not,
 * run->rollback_due = the run must go back.  Errors: NUMERIC by the policy; IO, MPI. */
mt_status nonfinite_judge(struct run *run, const struct step_batch *batch,
                          const struct pass_plan *plan, struct step_report *report,
                          bool finite) MT_CHECKED;

/* Local.  The span of steps that a rollback passes over, from the spans recorded so far; false
 * where enough was tried.  checkpoint: the step that the run goes back to. */
bool nonfinite_choose_span(const struct run_skip *skip, int32_t count, int64_t checkpoint,
                           int64_t step, struct run_skip *out);

#endif
