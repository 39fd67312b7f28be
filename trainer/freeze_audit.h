/*
 * freeze_audit: what was declared frozen did not change, what was declared trainable did learn.
 */
#ifndef MT_TRAINER_FREEZE_AUDIT_H
#define MT_TRAINER_FREEZE_AUDIT_H

#include "trainer/run.h"

/* Local.  At a phase's start: hashes of its frozen tensors into run->phase.  Errors: NOMEM. */
mt_status freeze_audit_begin(struct run *run) MT_CHECKED;

/* Local.  Takes a frozen tensor's present bytes for its own: a head that was just fitted. */
void freeze_audit_adopt(struct run *run, int32_t tensor);

/* Collective.  Compares the hashes of all frozen tensors with those at the phase's start.
 * Errors: BUG naming the first tensor that changed. */
mt_status freeze_audit_verify(const struct run *run) MT_CHECKED;

/* Collective.  At the end of a phase: looks for trained tensors whose gradient has been zero in all
 * of their updates, so that their first moments are zero; each rank looks at what it owns.  Errors:
 * NOMEM, MPI. */
mt_status freeze_audit_find_untouched(struct run *run) MT_CHECKED;

/* Local.  Index of the next such tensor after `from`; -1 = none left. */
int32_t freeze_audit_next_untouched(const struct run *run, int32_t from);

#endif
