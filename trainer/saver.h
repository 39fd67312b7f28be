/*
 * saver: what one rank does for a checkpoint that is being written while training goes on.
 *
 * At a boundary rank 0 copies what training is about to change (the arrays of the phase's trainable
 * tensors, and state.json as text) and starts a thread, which writes, commits, links and retains.
 * Frozen tensors are read in place: they change only between phases, and whoever leaves a phase has
 * waited for the thread first.  At most one save is under way.
 *
 * With parts, every rank copies the moments that it owns and has a thread that writes them; rank
 * 0's writes the rest and commits nothing.  When all are done and rank 0 knows the parts
 * (trainer/save_parts.h), a second thread of rank 0 makes a checkpoint of them.
 *
 *     MT_TRY(saver_open(s, run));             // every rank; on rank 0 makes the folder
 *     saver_start(s);                         // then training may go on
 *     if (saver_is_written(s)) ...            // cheap, at boundaries
 *     MT_TRY(saver_finish(s));                // waits for the thread, answers its outcome
 *     saver_seal(s);                          // rank 0, with parts; then saver_finish again
 *     saver_close(s);                         // what was not committed goes away
 *     saver_release(s);                       // waits too
 *
 * Between saver_open and saver_start, and before saver_seal, the ranks agree: trainer/save.h.
 */
#ifndef MT_TRAINER_SAVER_H
#define MT_TRAINER_SAVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/checkpoint_part.h"

struct run;

enum { SAVER_PINNED_MAX = 520 };

struct saver {
    /* the same on all ranks */
    bool under_way;
    bool parts;   /* each rank writes the moments it owns; set beforehand */
    bool sealing; /* the parts are written and known to rank 0 */
    int64_t step;
    bool best;      /* to be linked as best */
    double stood_s; /* that training has stood still for it, up to now */

    /* ranks that write */
    const struct run *run;
    float *copy[CHECKPOINT_GROUPS]; /* flat blocks; made at the first save, kept */
    bool cannot_copy;               /* no memory for them: saves happen in the foreground */
    uint8_t *groups;                /* [tensors] what the checkpoint holds */
    const uint8_t *copied;          /* [tensors] arrays to be taken from copy; NULL = none */
    struct checkpoint_part part;    /* the moments that this rank writes */
    float *moments;                 /* their copy, piece behind piece; kept */
    int64_t *moments_at;            /* [part.count] where each begins */
    int64_t moments_count, moments_capacity;
    pthread_t thread;
    bool threaded; /* to be joined */
    atomic_bool written;
    atomic_llong arrays; /* written so far: a sign of life */
    double write_s, trace_s;
    mt_status status;
    struct mt_error error;

    /* rank 0 */
    struct checkpoint_writer *writer; /* from opening, or a thread, to the commit */
    char *state, *job;                /* texts */
    int64_t state_bytes, size_bytes;
    struct checkpoint_base *base; /* of the phase; NULL = nothing is shared */
    bool *base_known;
    int64_t pinned[SAVER_PINNED_MAX];
    int32_t pinned_count, frozen_tensors;
};

/* Local.  Decides what this rank writes of the state at run->machine.step; saver->best and
 * saver->parts are set beforehand.  With parts, rank 0 makes the folder that all write into.
 * Borrows the run until saver_close.  Errors: NOMEM, IO. */
mt_status saver_open(struct saver *s, struct run *run) MT_CHECKED;

/* Local.  Copies and begins to write.  Without memory for the copy, or outside a phase, all is
 * written before it returns.  Errors come from saver_finish. */
void saver_start(struct saver *s);

/* Local.  Whether this rank has nothing left to do. */
bool saver_is_written(const struct saver *s);

/* Local.  Waits for the thread, calling watchdog_beat as long as it comes forward.  Errors: those
 * of writing: IO, NOMEM, BUG. */
mt_status saver_finish(struct saver *s) MT_CHECKED;

/* Root.  With parts, when all are in saver->writer: begins to commit. */
void saver_seal(struct saver *s);

/* Local.  After saver_finish or a failed saver_open: removes what was not committed.  Keeps the
 * error record. */
void saver_close(struct saver *s);

/* Local.  Waits and frees; accepts a zeroed one. */
void saver_release(struct saver *s);

#endif
