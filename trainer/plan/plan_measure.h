/* plan_measure: a short rehearsal of each phase on the ranks that are here. */
#ifndef MT_TRAINER_PLAN_MEASURE_H
#define MT_TRAINER_PLAN_MEASURE_H

#include "trainer/plan/plan.h"

/* Collective.  Some steps of each phase with its own lanes, reducer and update, on the run's data;
 * a cached boundary is stood for by numbers of the same shape.  Also a forward pass over some
 * blocks, two saves and an export into run_dir, which must be a scratch folder: parameters are
 * changed.  open_s: what run_open took.  The same numbers on all ranks.
 * Errors: those of a step and of a save; STOPPED. */
mt_status plan_measure(struct plan *p, struct run *run, double open_s) MT_CHECKED;

#endif
