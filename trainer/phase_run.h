/*
 * phase_run: entering and leaving a phase, the only place where what is trained changes.
 */
#ifndef MT_TRAINER_PHASE_RUN_H
#define MT_TRAINER_PHASE_RUN_H

#include "trainer/run.h"

/* Collective.  Makes what the phase of run->machine needs: ranges of the trainable tensors, lanes,
 * reducer, prefetcher; on its first entry also applies optimizer_state and start_from.  Leaves the
 * phase before, if any.  Errors: NOMEM, CONFIG, DATA, IO. */
mt_status phase_run_enter(struct run *run) MT_CHECKED;

/* Collective.  As phase_run_enter for trying out steps: says nothing, fills no cache, and leaves
 * moments and parameters as they are.  boundary, context, start: where the lanes' input comes from
 * (struct phase_run).  Errors: NOMEM, CONFIG, DATA, IO. */
mt_status phase_run_rehearse(struct run *run, lanes_boundary boundary, void *context,
                             int32_t start) MT_CHECKED;

/* Local.  What the lanes of a rank are sized by in a phase, with ranks in all; ranges stay NULL. */
struct lanes_setup phase_run_lanes(const struct run *run, const struct phase_plan *plan,
                                   int32_t ranks, int32_t rank, int32_t start);

/* Local.  Which rows of the word embeddings a step uses is known in advance where they are trained:
 * prepares phase.rows, unless the job asks for dense rows.  NULL = all rows.  Errors: NOMEM. */
mt_status phase_run_choose_rows(struct run *run, const uint8_t *trainable) MT_CHECKED;
const struct row_set *phase_run_rows(const struct run *run);

/* Collective.  Before each step's lanes: the rows that lane[count] of any rank names.  Errors: MPI.
 */
mt_status phase_run_agree_rows(struct run *run, const struct batch *lane, int32_t count) MT_CHECKED;

/* Local.  Drops what phase_run_enter made.  Accepts a run that is in no phase. */
void phase_run_leave(struct run *run);

#endif
