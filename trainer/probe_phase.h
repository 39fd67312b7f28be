/* probe_phase: the phase in which the whole network is frozen and separate classifiers are fitted.
 */
#ifndef MT_TRAINER_PROBE_PHASE_H
#define MT_TRAINER_PROBE_PHASE_H

#include "trainer/run.h"

/* Collective.  Takes the pooled vectors of all training and dev sentences from the prefix cache,
 * writes them to run_dir/embeddings/SET-SPLIT.h5 with their labels, fits one multinomial logistic
 * regression a task (trainer/probe.h) and stores it as the task's head.  Nothing of the encoder is
 * touched.  Errors: those of the probe; IO, NOMEM. */
mt_status probe_phase_run(struct run *run) MT_CHECKED;

#endif
