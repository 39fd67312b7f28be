/* plan_time: from what was measured to seconds of the whole run, here or elsewhere. */
#ifndef MT_TRAINER_PLAN_TIME_H
#define MT_TRAINER_PLAN_TIME_H

#include "trainer/plan.h"

/* Local.  Fills in the times of all phases, total_s and submissions. */
void plan_forecast(struct plan *p);

#endif
