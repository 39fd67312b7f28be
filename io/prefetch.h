/*
 * prefetch: a background thread of each rank that prepares the next steps' lane batches.
 *
 * It walks the sampler from a given step, plans the lanes and reads the sentences of the lanes this
 * rank owns, `depth` steps ahead.  All memory is taken at creation: buffers are sized by the bound
 * of the lane plan, so no step allocates.
 *
 *     MT_TRY(prefetch_create(&p, &config));
 *     MT_TRY(prefetch_start(p, &spec, step, &state));
 *     MT_TRY(prefetch_take(p, &b));  train(b->lane, ...);  prefetch_give_back(p, b);
 *     prefetch_stop(p);                          // at any time; start again at any step
 *     prefetch_destroy(&p);
 *
 * One thread calls these functions; the data sets may be read elsewhere at the same time.
 */
#ifndef MT_IO_PREFETCH_H
#define MT_IO_PREFETCH_H

#include "io/sampler.h"

struct dataset;
struct prefetch;

enum { PREFETCH_DEPTH = 2 };

struct prefetch_config {
    struct dataset *const *sets; /* [set_count]; borrowed until destroy */
    int32_t set_count;
    int32_t task_count;
    const int32_t *label_column; /* [set_count][task_count] column of the set; -1 = none; copied */
    int32_t batch_sentences;     /* of a step at most, over all ranks */
    int32_t max_tokens;          /* a set with a longer sentence is an error (DATA) */
    int32_t lanes;               /* of all ranks */
    int32_t first_lane, lane_count; /* those of this rank: a contiguous range */
    int32_t depth;                  /* steps ready ahead; 0 = PREFETCH_DEPTH */
    double patience_s;              /* prefetch_take gives up after it; 0 = 600 */
};

/* The part of one step that this rank computes. */
struct step_batch {
    int64_t step;
    struct sampler_state after;   /* to be saved once this step is done */
    int32_t sentences;            /* of the step, over all lanes of all ranks */
    int64_t tokens;               /* the same */
    double imbalance;             /* fullest lane over mean lane */
    struct batch *lane;           /* [lane_count] this rank's; B = 0 where a lane is empty */
    const struct sample *samples; /* [sentences] all of the step, lengths filled in */
    const int32_t *labels;        /* [task_count][sentences] all of the step; -1 = no label */
    const int64_t *labelled;      /* [task_count] sentences of the step with a label */
    double wait_s;                /* how long prefetch_take waited for it */
};

/* Local.  Owns the buffers; no thread yet.  Errors: NOMEM, CONFIG, DATA. */
mt_status prefetch_create(struct prefetch **out, const struct prefetch_config *config) MT_CHECKED;

/* Local.  Starts at `step` with the sampler state before it; stops first where it is running.
 * Copies spec; the arrays it points to are borrowed until stop.  Errors: CONFIG (sampler_check; a
 * batch or set count larger than at creation), DATA (rows beyond a set's end), BUG. */
mt_status prefetch_start(struct prefetch *p, const struct sampler_spec *spec, int64_t step,
                         const struct sampler_state *state) MT_CHECKED;

/* Local.  The next step in order; waits for it.  Borrowed by the caller until it is given back, in
 * the order taken; up to depth at a time.  Errors: those of the background thread (DATA, IO ...),
 * which stay until the next start; IO when nothing came within patience_s; BUG when not started or
 * nothing was given back. */
mt_status prefetch_take(struct prefetch *p, struct step_batch **out) MT_CHECKED;
void prefetch_give_back(struct prefetch *p, struct step_batch *batch);

/* Local.  Ends the thread after the sentence it is reading; batches taken become invalid.  A thread
 * that a dead file system holds for 30 s is left behind with its buffers. */
void prefetch_stop(struct prefetch *p);
void prefetch_destroy(struct prefetch **p);

/* Local.  Bytes of the buffers that prefetch_create would take. */
int64_t prefetch_bytes(const struct prefetch_config *config);

/* Local.  Seconds that prefetch_take has waited since creation. */
double prefetch_waited_s(const struct prefetch *p);

#endif
