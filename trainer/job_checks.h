/* job_checks: what is wrong with a job although each of its parts is right. */
#ifndef MT_TRAINER_JOB_CHECKS_H
#define MT_TRAINER_JOB_CHECKS_H

#include "trainer/run.h"

/* Root.  Looks for heads without data, phases that never end, phases without a step, caches that
 * cannot be; the harmless ones are warnings.  Errors: CONFIG, DATA, with file, line, key and mend.
 */
mt_status job_checks_run(const struct run *run) MT_CHECKED;

#endif
