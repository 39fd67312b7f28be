/*
 * saver: one checkpoint that is being written while training goes on.
 *
 * At a boundary rank 0 copies what training is about to change (the arrays of the phase's trainable
 * tensors, and state.json as text) and starts a thread, which writes, commits, links and retains.
 * Frozen tensors are read in place: they change only between phases, and whoever leaves a phase has
 * waited for the thread first.  At most one save is under way.
 *
 *     MT_TRY(saver_start(&run->saver, run));           // rank 0; then training may go on
 *     if (saver_is_written(&run->saver)) ...           // rank 0, cheap, at boundaries
 *     MT_TRY(saver_finish(&run->saver, &result));      // rank 0; waits
 *     saver_release(&run->saver);                      // waits too
 *
 * trainer/save.h makes this collective.
 */
#ifndef MT_TRAINER_SAVER_H
#define MT_TRAINER_SAVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/checkpoint.h"

struct run;

enum { SAVER_PINNED_MAX = 520 };

struct saver {
    /* the same on all ranks */
    bool under_way;
    int64_t step;
    bool best;      /* to be linked as best */
    double stood_s; /* that training has stood still for it, up to now */

    /* rank 0 */
    const struct run *run;
    float *copy[CHECKPOINT_GROUPS]; /* flat blocks; made at the first save, kept */
    bool cannot_copy;               /* no memory for them: saves happen in the foreground */
    uint8_t *groups;                /* [tensors] what the checkpoint holds */
    const uint8_t *copied;          /* [tensors] arrays to be taken from copy; NULL = none */
    char *state, *job;              /* texts */
    int64_t state_bytes, size_bytes;
    struct checkpoint_base *base; /* of the phase; NULL = nothing is shared */
    bool *base_known;
    int64_t pinned[SAVER_PINNED_MAX];
    int32_t pinned_count, frozen_tensors;
    pthread_t thread;
    bool threaded; /* to be joined */
    atomic_bool written;
    atomic_llong arrays; /* written so far: a sign of life */
    double write_s, trace_s;
    mt_status status;
    struct mt_error error;
};

/* Root.  Copies and begins to write the state at run->machine.step; saver->best is set beforehand.
 * Without memory for the copy, or outside a phase, the checkpoint is written before it returns.
 * Borrows the run until saver_finish.  Errors: NOMEM, BUG; those of writing come from saver_finish.
 */
mt_status saver_start(struct saver *s, struct run *run) MT_CHECKED;

/* Local.  Whether the thread has nothing left to do. */
bool saver_is_written(const struct saver *s);

/* Root.  Waits for the thread, calling watchdog_beat as long as it comes forward.  Errors: those of
 * writing: IO, NOMEM. */
mt_status saver_finish(struct saver *s) MT_CHECKED;

/* Local.  Waits and frees; accepts a zeroed one. */
void saver_release(struct saver *s);

#endif
