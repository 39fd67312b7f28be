/*
 * control: what commands (trainer/ctl.h) and recorded decisions do to a run at step boundaries.
 *
 * Rank 0 writes what changes the run's course to decisions.jsonl before the other ranks hear of it,
 * so a resumed run does the same at the same step.  Settable: train.log_every, train.save_every,
 * train.eval_every (durations) and lr_scale (all rates times this; 1 = as planned).
 */
#ifndef MT_TRAINER_CONTROL_H
#define MT_TRAINER_CONTROL_H

#include "trainer/step.h"

/* Local.  Rank 0 begins to listen in run_dir; the others do nothing.  What comes before the first
 * step boundary waits for it, but for a stop. */
void control_open(struct run *run);

/* Local.  state: the last word of status.json ("done", "stopped", "failed"). */
void control_close(struct run *run, const char *state);

/* Local.  Whether rank 0 has a command; what the others are told in the boundary exchange. */
bool control_is_pending(const struct run *run);

/* Collective.  Applies the commands that rank 0 has.  Errors: MPI. */
mt_status control_obey(struct run *run) MT_CHECKED;

/* Collective.  A paused run: waits until a command or a stop comes; obeys commands. */
mt_status control_wait(struct run *run) MT_CHECKED;

/* Local.  Applies the recorded settings of this step; to be called after each step. */
void control_apply_settings(struct run *run);

/* Local.  After a resume: settings of earlier steps too, but for what the checkpoint itself holds.
 */
void control_take_up_settings(struct run *run);

/* Local.  Rank 0: what status.json says.  report NULL: the numbers stay. */
void control_tell(struct run *run, const char *state, const struct step_report *report);

#endif
