/*
 * decisions: what was decided by clock, disk or command, so that whoever resumes decides the same.
 *
 * run_dir/decisions.jsonl, one line each: {"event":"cache","phase":0,"use":true} and
 * {"event":"phase_end","phase":0,"step":120,"by":4}; a command's setting, in force behind step 40,
 * {"event":"set","step":40,"key":"lr_scale","value":"0.5"}; batches that are passed over,
 * {"event":"skip","first":7,"last":7}.  Everything else a run decides is a function
 * of its job and its checkpoints.
 */
#ifndef MT_TRAINER_DECISIONS_H
#define MT_TRAINER_DECISIONS_H

#include "trainer/run.h"

/* Root.  Appends a line.  Errors: IO, NOMEM. */
mt_status decisions_add_cache(const struct run *run, int32_t phase, bool use) MT_CHECKED;
mt_status decisions_add_phase_end(const struct run *run, int32_t phase, int64_t step,
                                  int32_t by) MT_CHECKED;

/* Root.  A setting in force from the next step on; batches to pass over.  Errors: IO, NOMEM. */
mt_status decisions_add_set(const struct run *run, const char *key, const char *value) MT_CHECKED;
mt_status decisions_add_skip(const struct run *run, const struct run_skip *span) MT_CHECKED;

/* Root.  Size of the record so far; 0 where there is none.  Errors: IO, NOMEM. */
mt_status decisions_bytes(const struct run *run, int64_t *bytes) MT_CHECKED;

/* Collective.  Takes up what is recorded: cache decisions, settings, batches to pass over, and ends
 * of phases that lie ahead of run->machine.  No file is fine; a damaged line is passed over.
 * Errors: IO, NOMEM. */
mt_status decisions_honour(struct run *run) MT_CHECKED;

/* Root.  Forgets them, for a run that begins anew.  Errors: IO. */
mt_status decisions_forget(const struct run *run) MT_CHECKED;

#endif
