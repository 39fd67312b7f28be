/*
 * memory_check: whether a run fits its hosts, before it takes what it needs.
 *
 * The forecast adds up what training takes on each rank in the phase that takes most, by the sizes
 * that `mttrain plan` shows, and compares the sum over the ranks of a host with what that host has
 * left (trainer/available_memory.h).
 */
#ifndef MT_TRAINER_MEMORY_CHECK_H
#define MT_TRAINER_MEMORY_CHECK_H

#include "trainer/run.h"

/* Bytes of one rank that are still to be taken. */
struct memory_need {
    int64_t parameters, gradients, moments, wire, activations, batches; /* as in plan.h */
    int64_t evaluation;                                                 /* passes of all threads */
    int64_t copy; /* from which checkpoints are written beside training; rank 0 */
    int64_t total;
    int32_t phase; /* the one that takes most */
};

/* Collective.  After the plans and before the blocks are made; threads: of this rank.  Errors:
 * CONFIG on all ranks where the ranks of a host need more than it has, by kinds and with the mends,
 * unless train.memory_check is off: then, and where it is close, a warning. */
mt_status memory_check(const struct run *run, int32_t threads) MT_CHECKED;

/* Local.  What a rank will take. */
mt_status memory_check_forecast(struct memory_need *need, const struct run *run, int32_t rank,
                                int32_t threads) MT_CHECKED;

#endif
