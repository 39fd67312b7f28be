/*
 * batch: sentences of several data sets, concatenated without padding.
 *
 * B sentences with N tokens in all; sentence b owns tokens offsets[b] .. offsets[b+1]-1, [CLS] and
 * [SEP] included.  Every sentence has at least one token.
 */
#ifndef MT_IO_BATCH_H
#define MT_IO_BATCH_H

#include "comm/base/status.h"

/* A sentence of a job: which data set (its position in the job) and which row of it. */
struct sample {
    int32_t set;
    int32_t length_tokens; /* filled from the shards' offsets */
    int64_t row;
};

struct batch {
    int32_t B, N;
    int32_t task_count;
    int32_t *ids;     /* [N] */
    int32_t *types;   /* [N] token types */
    int32_t *offsets; /* [B+1] */
    int64_t *sample;  /* [B] set << 40 | row: names the sentence in dropout and in messages */
    int32_t *labels;  /* [task_count][sentence_capacity]; -1 = no label */
    int32_t sentence_capacity, token_capacity;
};

/* Local.  Owns its arrays.  Errors: NOMEM. */
mt_status batch_create(struct batch *b, int32_t sentence_capacity, int32_t token_capacity,
                       int32_t task_count) MT_CHECKED;
void batch_destroy(struct batch *b);

/* Labels of one task: B entries. */
static inline int32_t *batch_labels(const struct batch *b, int32_t task)
{
    return b->labels + (int64_t)task * b->sentence_capacity;
}

/* Local.  A view of sentences first .. first+count-1 that borrows b's arrays: offsets still count
 * from b's beginning, so a kernel uses offsets[s] - offsets[0]. */
struct batch batch_slice(const struct batch *b, int32_t first, int32_t count);

#endif
