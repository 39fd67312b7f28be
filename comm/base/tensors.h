/*
 * tensors: the one table of named tensors, and sorted lists of ranges of a flat block.
 *
 * Parameters, gradients and both Adam moments are one flat block each.  This table says where each
 * tensor lies in all four of them, and drives everything that goes by name: loading, the optimizer,
 * the reduction, freezing, checkpoints.  Names are those of Hugging Face's BertModel without a
 * prefix ("encoder.layer.3.output.dense.weight"), then "heads.<task>.weight" and ".bias".
 *
 * Invariants: entries stand in ascending offset; each offset is a multiple of TENSOR_ALIGN
 * elements; the gaps between tensors are padding that is zero in every block and stays so.
 */
#ifndef MT_BASE_TENSORS_H
#define MT_BASE_TENSORS_H

#include "comm/base/hash.h"
#include "comm/base/status.h"

enum { TENSOR_NAME_BYTES = 128, TENSOR_ALIGN = 16 };

struct tensor {
    char name[TENSOR_NAME_BYTES];
    int32_t ndim;     /* 1 or 2 */
    int64_t shape[2]; /* shape[1] = 1 where ndim is 1 */
    int64_t offset;   /* first element in a flat block */
    int64_t count;    /* shape[0] * shape[1] */
    int32_t depth;    /* 0 = embeddings, 1..L = encoder layer depth-1, L+1 = pooler and heads */
    int32_t task;     /* index of the head's task, -1 = shared by all */
    bool decays;      /* weight decay applies: weights, not biases or layer norms */
};

struct tensor_table {
    struct tensor *entry;
    int32_t count, capacity;
    int32_t layers; /* L */
    int64_t total;  /* elements of a flat block, padding included */
};

/* Local.  Appends a tensor behind the last; decays follows from the name (".bias" and "LayerNorm"
 * do not).  Errors: NOMEM; BUG for a name that is there already or too long. */
mt_status tensor_table_add(struct tensor_table *t, const char *name, int32_t depth, int32_t task,
                           int64_t rows, int64_t cols /* 0 = a vector */) MT_CHECKED;
void tensor_table_release(struct tensor_table *t);

/* Local.  Index of the name, or -1. */
int32_t tensor_table_find(const struct tensor_table *t, const char *name);

/* Local.  A hash of names, shapes and order: two blocks may be exchanged iff it is equal. */
uint64_t tensor_table_hash(const struct tensor_table *t);

struct range {
    int64_t begin, end; /* elements of a flat block; end is one past the last */
};

struct range_list {
    struct range *r;
    int32_t count, capacity;
    int64_t elements; /* sum of lengths */
};

/* Local.  The ranges of all tensors whose mask is nonzero (mask[table->count]); neighbours melt
 * together, padding between them included.  Replaces what `out` held (it may be zeroed). */
mt_status range_list_of(struct range_list *out, const struct tensor_table *table,
                        const uint8_t *mask) MT_CHECKED;
void range_list_release(struct range_list *list);

/* Goes over the parts of [begin, end) that lie in a list, ascending:
 *     for (struct range_walk w = range_walk_over(list, begin, end); range_walk_next(&w, &piece);)
 */
struct range_walk {
    const struct range_list *list;
    int32_t next;
    int64_t begin, end;
};

/* Local.  Finds the first range by halving; then each step is a few instructions. */
struct range_walk range_walk_over(const struct range_list *list, int64_t begin, int64_t end);

/* Local.  The next part, never empty; false where there is none. */
bool range_walk_next(struct range_walk *w, struct range *piece);

/* Local.  Elements of [begin, end) that lie in the list. */
int64_t range_list_within(const struct range_list *list, int64_t begin, int64_t end);

#endif
