/*
 * phase_step: what the phase under way asks of a step.
 */
#ifndef MT_TRAINER_PHASE_STEP_H
#define MT_TRAINER_PHASE_STEP_H

#include "trainer/run.h"

/* Local.  Where the passes of the next step begin, what they train and drop; *factor is the share
 * of the peak rates.  A pure function of the job and run->machine. */
void phase_step_plan_pass(const struct run *run, double *factor, struct pass_plan *plan);

/* Local.  For lanes_run: its roots begin the reducer's step, and a depth whose gradients are
 * finished lets it take up everything from its first tensor upwards. */
struct lanes_listener phase_step_listener(struct run *run);

#endif
