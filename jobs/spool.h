/*
 * spool: the folder through which a daemon is given jobs.
 *
 *     SPOOL/queue/NAME.cfg    put there by rename; taken in name order
 *     SPOOL/running/NAME.cfg  the one that is trained
 *     SPOOL/done/NAME.cfg     or SPOOL/failed/NAME.cfg with NAME.cfg.why beside it
 *
 * Moves are renames within one file system, so a job is in exactly one folder at any instant.
 * Names that begin with a dot or do not end in ".cfg" are not jobs: a half-written file is put as
 * ".NAME" or "NAME.tmp".  A job that goes to a folder that holds its name already gets ".2", ".3"
 * ... before ".cfg".
 */
#ifndef MT_JOBS_SPOOL_H
#define MT_JOBS_SPOOL_H

#include "comm/base/status.h"

enum spool_place { SPOOL_QUEUE, SPOOL_RUNNING, SPOOL_DONE, SPOOL_FAILED, SPOOL_PLACES };

enum { SPOOL_NAME_BYTES = 256, SPOOL_PATH_BYTES = 4096 };

const char *spool_place_name(enum spool_place place); /* "queue" ... */

/* Root.  Makes the spool folder and the four in it where they are missing.  Errors: IO. */
mt_status spool_open(const char *spool) MT_CHECKED;

/* Root.  First job of a folder in name order (bytes); name[0] = '\0' where there is none.
 * Errors: IO. */
mt_status spool_first(const char *spool, enum spool_place place,
                      char name[SPOOL_NAME_BYTES]) MT_CHECKED;

/* Root.  Number of jobs waiting.  Errors: IO. */
mt_status spool_count(const char *spool, enum spool_place place, int64_t *count) MT_CHECKED;

/* Root.  Path of a job.  Errors: ARG where it is too long. */
mt_status spool_path(const char *spool, enum spool_place place, const char *name,
                     char path[SPOOL_PATH_BYTES]) MT_CHECKED;

/* Root.  Moves queue -> running, durable when it returns.  *taken = false where somebody else took
 * or removed it meanwhile.  Errors: IO. */
mt_status spool_take(const char *spool, const char *name, bool *taken) MT_CHECKED;

/* Root.  Moves running -> done or failed; `why` (NULL = none) is written beside it first, so a
 * failed job is never without its reason.  Errors: IO. */
mt_status spool_finish(const char *spool, const char *name, enum spool_place place,
                       const char *why) MT_CHECKED;

#endif
