/*
 * agree: all ranks leave a function with the same status and the same error record.
 *
 * In a Collective function every Local call that can fail stands inside MT_ALL, so that a rank that
 * fails still arrives at the meeting point and no other rank is left waiting for it:
 *
 *     MT_ALL(comm, shard_reader_open(&reader, path));
 */
#ifndef MT_COMM_AGREE_H
#define MT_COMM_AGREE_H

#include "comm/world.h"

/* Collective.  The largest of all ranks' statuses, in the order of MT_STATUS_LIST; where several
 * ranks share it, the lowest of them is the origin.  On failure every rank gets the origin's record
 * with its rank filled in; frames are carried as text that stays until the next failure.
 * Cost: one allreduce of 8 bytes when all is well.  Errors: what a rank brought; MPI. */
mt_status comm_agree(const struct comm *c, mt_status local) MT_CHECKED;

/* Collective.  Fails with CONFIG on all ranks unless `hash` is equal everywhere; `what` names it
 * ("the effective job"), and the message names the first rank that differs from rank 0. */
mt_status comm_agree_equal(const struct comm *c, const char *what, uint64_t hash) MT_CHECKED;

#define MT_ALL(comm, call) MT_TRY(comm_agree((comm), (call)))
#define MT_ALL_GOTO(st, comm, call, label) MT_TRY_GOTO(st, comm_agree((comm), (call)), label)

#endif
