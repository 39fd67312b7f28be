/*
 * row_blocks: the canonical blocks in which whole data sets go through the encoder.
 *
 * Evaluation and the prefix cache cut a data set into the same blocks of consecutive rows, a pure
 * function of its lengths: so their bits depend neither on ranks and threads nor on each other.
 */
#ifndef MT_TRAINER_ROW_BLOCKS_H
#define MT_TRAINER_ROW_BLOCKS_H

#include "trainer/corpora.h"

enum { ROW_BLOCK_SENTENCES = 64, ROW_BLOCK_TOKENS = 4096 };

struct row_block {
    int32_t set, rows;
    int64_t first_row;
};

/* Local.  The blocks of one set, at most ROW_BLOCK_TOKENS tokens each (or a single row); block NULL
 * = only count.  Answers how many. */
int64_t row_blocks_cut(const struct dataset *d, int32_t set, struct row_block *block);

/* Local.  Tokens that one block can have, at most. */
int32_t row_blocks_max_tokens(const struct dataset *d);

/* Local.  Reads a block into an emptied batch (labels -1).  Errors: those of dataset_append. */
mt_status row_blocks_read(const struct dataset *d, const struct row_block *block,
                          struct batch *batch) MT_CHECKED;

#endif
