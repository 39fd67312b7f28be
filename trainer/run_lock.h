/*
 * run_lock: no second run works in a run's folder (io/folder_lock.h).
 *
 * Rank 0 holds the lock from before anything is written until the run is closed.  Commands that
 * only read take none.
 */
#ifndef MT_TRAINER_RUN_LOCK_H
#define MT_TRAINER_RUN_LOCK_H

#include "trainer/run.h"

/* Collective.  Makes run_dir and locks it; waits some seconds for one who is about to leave, longer
 * where SLURM has put the job back.  Owns: the run, until run_close.  Errors: CONFIG where another
 * run holds it (who, where, since when); STOPPED; IO, NOMEM. */
mt_status run_lock_take(struct run *run) MT_CHECKED;

/* Collective.  To be called before a save: IO where the lock was lost to another run. */
mt_status run_lock_check(struct run *run) MT_CHECKED;

#endif
