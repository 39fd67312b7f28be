/*
 * scratch: a folder for commands that work on a job as training does, but must leave nothing.
 *
 *     MT_TRY(scratch_open(&s, world, job_path, &options));
 *     ... run_open(&run, world, job_path, &s.options) ...     // its run_dir is the scratch folder
 *     scratch_close(&s);
 */
#ifndef MT_TRAINER_SCRATCH_H
#define MT_TRAINER_SCRATCH_H

#include "trainer/run.h"

enum { SCRATCH_PATH_BYTES = 4096 };

struct scratch {
    const struct comm *world;
    char path[SCRATCH_PATH_BYTES];      /* the folder, the same on all ranks; "" = none */
    char run_dir[SCRATCH_PATH_BYTES];   /* the job's own, which is not touched */
    char cache_dir[SCRATCH_PATH_BYTES]; /* where the job's prefix caches would lie */
    struct run_options options;         /* those of the command, with run_dir = path */
    const char **override;
    char override_text[SCRATCH_PATH_BYTES + 16];
};

/* Collective.  Makes the folder beside the job's run_dir, so on the same file system and seen by
 * all hosts, or else in TMPDIR; shards that the run has packed already are linked into it.
 * Owns: the caller, until scratch_close (also after a failure).  Errors: those of the job file; IO,
 * NOMEM. */
mt_status scratch_open(struct scratch *s, const struct comm *world, const char *job_path,
                       const struct run_options *options) MT_CHECKED;

/* Collective.  Removes the folder and all in it; keeps the error record as it is. */
void scratch_close(struct scratch *s);

/* Local.  The nearest folder above a path (or the path itself) that is there. */
void scratch_nearest_dir(char out[SCRATCH_PATH_BYTES], const char *path);

#endif
