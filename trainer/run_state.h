/*
 * run_state: what a run is besides its tensors, as the text state.json of a checkpoint.
 *
 * The phase machine, the sampler's position, update counts, evaluations, the best one, the median
 * window of spikes.  No random state: see comm/base/rng.h.
 */
#ifndef MT_TRAINER_RUN_STATE_H
#define MT_TRAINER_RUN_STATE_H

#include "trainer/run.h"

/* Local.  text is borrowed from w.  Errors: NOMEM. */
mt_status run_state_write(const struct run *run, struct json_writer *w, const char **text,
                          int64_t *bytes) MT_CHECKED;

/* Local.  Takes all of it up.  Errors: DATA for a state that does not fit the job; CONFIG where the
 * training data are others. */
mt_status run_state_read(struct run *run, const struct json_node *root) MT_CHECKED;

#endif
