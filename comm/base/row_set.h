/*
 * row_set: which rows of one matrix a step uses, and what of a flat block that leaves in play.
 *
 * The gradient of an embedding is zero but for the rows of the step's tokens.  Who knows those rows
 * need not clear, add, square or send the others: an addition of zeros changes no bit.
 *
 *     MT_TRY(row_set_init(&set, word->offset, word->shape[0], word->shape[1], &ranges));
 *     row_set_clear(&set);  row_set_add(&set, ids, count) ...      // each step, this rank's ids
 *     MT_TRY(comm_or_i64(comm, set.mask, set.words));              // the ids of all ranks
 *     row_set_list(&set);                                          // set.active is the step's
 */
#ifndef MT_BASE_ROW_SET_H
#define MT_BASE_ROW_SET_H

#include "comm/base/tensors.h"

struct row_set {
    int64_t begin, row_elements, rows; /* where the matrix lies in a flat block */
    const struct range_list *ranges;   /* borrowed: all of a block that takes part */
    int64_t *mask;                     /* [words] bit r % 64 of word r / 64: row r is used */
    int32_t words;
    struct range_list active; /* `ranges` without the rows that are not used */
};

/* Local.  rows x row_elements elements from offset `begin` on, all of them inside one of `ranges`.
 * Every row counts as used at first.  Errors: NOMEM. */
mt_status row_set_init(struct row_set *set, int64_t begin, int64_t rows, int64_t row_elements,
                       const struct range_list *ranges) MT_CHECKED;
void row_set_release(struct row_set *set);

/* Local.  No row is used; the rows ids[count], each in [0, rows), are used too; `active` from the
 * mask. */
void row_set_clear(struct row_set *set);
void row_set_add(struct row_set *set, const int32_t *ids, int64_t count);
void row_set_list(struct row_set *set);

/* Local.  Writes zeros into `ranges`, which may be fewer than the set's, and into the rows of the
 * matrix that mask[words] names: for a block whose other rows are zero already. */
void row_set_zero(const struct row_set *set, const struct range_list *ranges, const int64_t *mask,
                  float *block);

#endif
