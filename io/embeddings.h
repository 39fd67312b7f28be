/*
 * embeddings: rows of float32 vectors with optional labels, to .h5, .npy or .tsv, and back.
 *
 *     .h5   dataset `embeddings` [rows, dim], `labels/<task>` [rows] with an attribute of class
 * names .npy  NumPy format 1.0, '<f4', C order (numpy/lib/format.py) .tsv  one row a line, "%.9g"
 * between tabs: enough digits to read the same float back
 *
 * Row i belongs to input line i.  Nothing is visible under the path before the commit.
 */
#ifndef MT_IO_EMBEDDINGS_H
#define MT_IO_EMBEDDINGS_H

#include "comm/base/status.h"

enum { EMBEDDINGS_TASKS_MAX = 64, EMBEDDINGS_CLASSES_MAX = 100000 };

struct embeddings_task {
    const char *name;
    const char *const *classes; /* [class_count] */
    int32_t class_count;
};

struct embeddings_plan {
    int64_t rows;
    int32_t dim;
    const struct embeddings_task *tasks; /* labels to store: .h5 only */
    int32_t task_count;
    const char *model, *pooling; /* attributes of an .h5 file; may be NULL */
};

struct embeddings_writer;

/* Local.  The format follows the ending of path.  Owns: the caller, until embeddings_discard.
 * Errors: ARG for another ending or for labels outside .h5; IO, NOMEM. */
mt_status embeddings_create(struct embeddings_writer **out, const char *path,
                            const struct embeddings_plan *plan) MT_CHECKED;

/* Local.  Rows first .. first+count-1: data [count, dim].  .h5 and .npy take blocks in any order,
 * .tsv only the next rows.  Errors: IO; BUG for rows out of range or, in .tsv, out of order. */
mt_status embeddings_write_rows(struct embeddings_writer *w, int64_t first, int64_t count,
                                const float *data) MT_CHECKED;

/* Local.  Labels of one task for those rows, -1 = none. */
mt_status embeddings_write_labels(struct embeddings_writer *w, int32_t task, int64_t first,
                                  int64_t count, const int32_t *labels) MT_CHECKED;

/* Local.  Makes the file durable and visible.  Errors: IO; BUG where rows are missing. */
mt_status embeddings_commit(struct embeddings_writer *w) MT_CHECKED;

/* Local.  Removes what was not committed; frees. */
void embeddings_discard(struct embeddings_writer **w);

struct embeddings; /* an open file */

/* Local.  Opens .h5 or .npy, float32 or float64 (converted).  Owns: the caller, until
 * embeddings_close.  Errors: ARG for another ending; DATA naming what is wrong; IO. */
mt_status embeddings_open(struct embeddings **out, const char *path) MT_CHECKED;
void embeddings_close(struct embeddings **e);

int64_t embeddings_rows(const struct embeddings *e);
int32_t embeddings_dim(const struct embeddings *e);
int32_t embeddings_task_count(const struct embeddings *e); /* 0 for .npy */
const char *embeddings_task_name(const struct embeddings *e, int32_t task);
int32_t embeddings_class_count(const struct embeddings *e, int32_t task); /* 0 = names unknown */
const char *embeddings_class_name(const struct embeddings *e, int32_t task, int32_t k);

/* Local.  Rows first .. first+count-1 to dst [count, dim], labels (-1 = none) to dst [count].
 * Errors: ARG for rows out of range; IO; DATA, also for a label beyond the task's classes. */
mt_status embeddings_read_rows(struct embeddings *e, int64_t first, int64_t count,
                               float *dst) MT_CHECKED;
mt_status embeddings_read_labels(struct embeddings *e, int32_t task, int64_t first, int64_t count,
                                 int32_t *dst) MT_CHECKED;

#endif
