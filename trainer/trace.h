/*
 * trace: what every thread of every rank did in a few chosen steps, for chrome://tracing or
 * Perfetto.
 *
 * A span is a kind, a row (thread), a begin and an end.  Spans go into a block that is taken when
 * the trace is opened; what does not fit is counted and told.  Outside the chosen steps recording
 * is a load and a branch, and without a trace (NULL) every function here returns at once.
 *
 *     MT_TRY(trace_open(&t, world, path, first, last));
 *     trace_step(t, step);                                  // each step, before anything else
 *     double begin_s = trace_begin(t);
 *     ...
 *     trace_end(t, TRACE_UPDATE, TRACE_ROW_MAIN, 0, begin_s);
 *     if (trace_is_due(t, steps_done, saving)) MT_TRY(trace_write(t));
 *     trace_close(&t);
 *
 * Spans of one row nest or do not meet.  Ranks of one host share a clock; that of another host is
 * set against rank 0's when the trace is opened (medians over barriers: some ten microseconds).
 *
 * Format: "Trace Event Format" of the Chromium project, JSON object form, complete events ("X").
 */
#ifndef MT_TRAINER_TRACE_H
#define MT_TRAINER_TRACE_H

#include "comm/world.h"
#include "trainer/model/timing.h"

enum trace_kind {
    TRACE_STEP,
    TRACE_WAIT_DATA,
    TRACE_LANES, /* forward and backward of this rank's lanes */
    TRACE_LANE,
    TRACE_FORWARD,  /* of one depth */
    TRACE_BACKWARD, /* of one depth */
    TRACE_GROUP,    /* of kernels, see timing.h */
    TRACE_WAIT_REDUCTION,
    TRACE_BUCKET,
    TRACE_UPDATE,
    TRACE_EVALUATION,
    TRACE_SAVE,  /* that training stands still for */
    TRACE_WRITE, /* of a checkpoint, in the background */
    TRACE_KINDS
};

/* Rows of a rank: the main thread is worker 0 of the pool, whose others follow. */
enum { TRACE_ROW_MAIN = 0, TRACE_ROW_REDUCTION = 2000, TRACE_ROW_SAVER = 3000 };

struct trace;

/* Local.  "10" or "10-12".  Errors: ARG. */
mt_status trace_parse_steps(const char *text, int64_t *first, int64_t *last) MT_CHECKED;

/* Collective.  Steps first..last, counted from 1.  The file is written at the end; its folder must
 * be there now.  Owns its memory.  Errors: IO, NOMEM, MPI. */
mt_status trace_open(struct trace **out, const struct comm *world, const char *path, int64_t first,
                     int64_t last) MT_CHECKED;
void trace_close(struct trace **t);

/* Local.  A step begins: from now on, until the next one does, spans are kept or not. */
void trace_step(struct trace *t, int64_t step);

/* Local, any thread.  The time, where spans are kept now, else 0; and a span that began then.
 * detail: lane, depth, bytes of a bucket, or whatever the kind has. */
double trace_begin(const struct trace *t);
void trace_end(struct trace *t, enum trace_kind kind, int32_t row, int64_t detail, double begin_s);

/* A lane on one thread; passes tell their depths and groups of kernels by themselves. */
struct trace_lane {
    struct trace *trace;
    int32_t row;
    struct timing own, *timing;
    double begin_s;
};
/* Local.  On the thread that computes the lane. */
void trace_lane_begin(struct trace_lane *lane, struct trace *t, int32_t worker);
void trace_lane_end(struct trace_lane *lane, int32_t number);

/* Local.  A reduce_watch (comm/reduce.h) whose context is the trace. */
void trace_bucket(void *context, int32_t bucket, int64_t elements, bool done);

/* Local, the same on all ranks.  Whether all chosen steps are over, with what followed from them,
 * and the trace was not written yet; `saving`: a checkpoint is being written. */
bool trace_is_due(const struct trace *t, int64_t steps_done, bool saving);

/* Collective.  Ends recording and writes the file of all ranks, atomically; says so.  Does nothing
 * where it was written already or no chosen step came.  Errors: IO, NOMEM, MPI. */
mt_status trace_write(struct trace *t) MT_CHECKED;

#endif
