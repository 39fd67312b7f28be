/*
 * apply: a model over the lines of a text, in order, by all ranks and threads.
 *
 * Rank 0 reads a stretch of lines and hands it to all ranks; blocks of APPLY_BLOCK consecutive
 * lines are dealt out round robin; results come back to rank 0 in input order.  A block's shape
 * depends on the input alone, so the numbers are the same bits at any rank and thread count.
 */
#ifndef MT_TRAINER_APPLY_H
#define MT_TRAINER_APPLY_H

#include "comm/world.h"
#include "io/vocab.h"
#include "trainer/model/model.h"

enum { APPLY_BLOCK = 64 };

enum apply_output {
    APPLY_POOLED, /* [H] the pooled vector */
    APPLY_LOGITS  /* [sum of K] logits of all tasks, one task behind the other */
};

/* Root.  Rows first .. first+count-1 of the input with their lines and results [count, width]. */
typedef mt_status (*apply_consume)(void *context, int64_t first, int32_t count,
                                   const char *const *lines, const float *rows);

struct apply_setup {
    const struct comm *world;
    const struct model *model;
    const float *params;
    const struct vocab *vocab;
    int32_t max_tokens; /* a longer line is cut */
    int32_t threads;
    enum apply_output output;
    const char *path;   /* "-" = standard input */
    int64_t total_rows; /* for the progress line; 0 = unknown */
};

/* Local.  Numbers per line. */
int32_t apply_width(const struct apply_setup *setup);

/* Collective.  Errors: DATA, IO, NOMEM, and those of consume. */
mt_status apply_run(const struct apply_setup *setup, apply_consume consume,
                    void *context) MT_CHECKED;

#endif
