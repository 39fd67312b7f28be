/*
 * save: checkpoints of a run, and the model folder at the end.
 *
 * Training waits only for a copy (trainer/saver.h); the checkpoint becomes visible some steps
 * later.  Its outcome is agreed at the next boundary, at the next save, or where somebody needs it:
 * the end of a phase, a stop, the end of the run.  Where every rank writes its own moments there
 * are two stages: when all have written, rank 0 is told of the parts and commits; when it has, the
 * outcome is agreed.
 */
#ifndef MT_TRAINER_SAVE_H
#define MT_TRAINER_SAVE_H

#include "trainer/run.h"

/* Collective.  Begins a checkpoint at run->machine.step, after waiting for the one before; clears
 * save_due and save_best.  Errors: as save_wait. */
mt_status save_checkpoint(struct run *run) MT_CHECKED;

/* Collective.  Waits for the save that is under way, if any; then `latest` (and `best`) point at
 * it and old ones are gone.  A failure to write is an error or, with train.save_failure = "warn", a
 * loud warning.  Errors: IO, NOMEM. */
mt_status save_wait(struct run *run) MT_CHECKED;

/* Local.  A save is under way and this rank is still writing for it.  At a boundary where no rank
 * is, all call save_proceed. */
bool save_is_at_work(const struct run *run);

/* Collective.  Takes the save that is under way, if any, one stage on, waiting for that stage's
 * threads.  Errors: as save_wait. */
mt_status save_proceed(struct run *run) MT_CHECKED;

/* Collective.  Parameters (not moments) of the best checkpoint; the last ones where there is none.
 */
mt_status save_load_best(struct run *run) MT_CHECKED;

/* Collective.  Exports run_dir/model from the best checkpoint, else from the current parameters. */
mt_status save_export(struct run *run) MT_CHECKED;

/* Root.  Warns, once, where mpirun would kill the ranks before a save is done: Open MPI's parameter
 * odls_base_sigkill_timeout, against save_s or what may be expected. */
void save_warn_kill_timeout(struct run *run);

#endif
