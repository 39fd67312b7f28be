/*
 * See embeddings.h: writing.
 *
 * .h5 and .npy are a header and one array at a known offset, filled by pwrite (block_file.h); .tsv
 * is a stream of text.  All three stand under "NAME.tmp-PID" until the commit.
 */
#include "io/embeddings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/block_file.h"
#include "io/embeddings_format.h"
#include "io/file.h"
#include "io/h5_raw.h"
#include "io/json.h"

enum { NPY_HEADER_BYTES = 128, NUMBER_BYTES = 24, TASK_NAME_MAX_BYTES = 64 };

struct embeddings_writer {
    enum embeddings_format format;
    char *path, *temp;
    int64_t rows, rows_written;
    int32_t dim, task_count;
    struct block_file file; /* .h5, .npy */
    struct file_writer text;
    int64_t data_at;                        /* offset of the vectors in the file */
    int64_t label_at[EMBEDDINGS_TASKS_MAX]; /* offsets of the labels */
    char *line;
};

bool embeddings_format_of(enum embeddings_format *out, const char *path)
{
    static const struct {
        const char *ending;
        enum embeddings_format format;
    } endings[] = {{".h5", EMBEDDINGS_H5},
                   {".hdf5", EMBEDDINGS_H5},
                   {".npy", EMBEDDINGS_NPY},
                   {".tsv", EMBEDDINGS_TSV}};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (file_path_has_extension(path, endings[i].ending)) {
            *out = endings[i].format;
            return true;
        }
    return false;
}

static mt_status check_plan(const struct embeddings_writer *w, const struct embeddings_plan *plan)
{
    if (plan->rows < 0 || plan->dim < 1 || plan->rows > EMBEDDINGS_VALUES_MAX / plan->dim)
        return MT_FAIL(MT_ARG, "%s: %" PRId64 " rows of %d numbers are no size of a file", w->path,
                       plan->rows, plan->dim);
    if (plan->task_count > 0 && w->format != EMBEDDINGS_H5)
        return MT_FAIL(MT_ARG, "%s: only an .h5 file can hold labels", w->path);
    if (plan->task_count > EMBEDDINGS_TASKS_MAX)
        return MT_FAIL(MT_ARG, "%s: more than %d tasks", w->path, (int)EMBEDDINGS_TASKS_MAX);
    for (int32_t t = 0; t < plan->task_count; t++) {
        const char *name = plan->tasks[t].name;
        if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL ||
            strlen(name) >= TASK_NAME_MAX_BYTES)
            return MT_FAIL(MT_ARG, "%s: \"%.80s\" cannot name labels in a file", w->path, name);
    }
    return MT_OK;
}

/* numpy/lib/format.py, version 1.0: magic, header length, a Python dict, padded so that the array
 * begins at a multiple of 64 bytes. */
static mt_status begin_npy(struct embeddings_writer *w)
{
    char header[NPY_HEADER_BYTES + 1];
    uint16_t length = NPY_HEADER_BYTES - 10;
    int n = snprintf(header + 10, sizeof header - 10,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRId64 ", %d), }",
                     w->rows, w->dim);
    memset(header + 10 + n, ' ', (size_t)(NPY_HEADER_BYTES - 10 - n));
    header[NPY_HEADER_BYTES - 1] = '\n';
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    memcpy(header + 8, &length, 2);
    w->data_at = NPY_HEADER_BYTES;
    MT_TRY(block_file_open(&w->file, w->temp, true));
    return block_file_write(&w->file, header, NPY_HEADER_BYTES, 0);
}

/* The class names of every task as JSON texts, one behind the other in `w`; starts[t] is where. */
static mt_status class_texts(struct json_writer *w, const struct embeddings_plan *plan)
{
    json_write_object(w, NULL);
    for (int32_t t = 0; t < plan->task_count; t++)
        json_write_strings(w, plan->tasks[t].name, plan->tasks[t].classes,
                           plan->tasks[t].class_count);
    json_write_end(w);
    const char *text;
    int64_t bytes;
    MT_TRY(json_writer_finish(w, &text, &bytes));
    if (bytes > EMBEDDINGS_CLASS_TEXT_MAX_BYTES) {
        json_writer_reset(w); /* more names than an attribute holds: the numbers must do */
        json_write_object(w, NULL);
        json_write_end(w);
        MT_TRY(json_writer_finish(w, &text, &bytes));
    }
    return MT_OK;
}

static mt_status begin_h5(struct embeddings_writer *w, const struct embeddings_plan *plan)
{
    struct h5_item *items = NULL;
    struct json_writer classes = {0};
    mt_status st;
    MT_TRY_GOTO(st, class_texts(&classes, plan), done);
    const struct h5_attribute attributes[] = {
        {"/", "format", "mttrain-embeddings", 0},
        {"/", "version", NULL, 1},
        {"/", "classes", classes.text, 0},
        {"/", "model", plan->model == NULL ? "" : plan->model, 0},
        {"/", "pooling", plan->pooling == NULL ? "" : plan->pooling, 0},
    };
    MT_TRY_GOTO(st, mt_alloc(&items, plan->task_count + 1, sizeof *items, "a layout"), done);
    items[0] = (struct h5_item){"/embeddings", H5_KIND_F32, 2, {w->rows, w->dim}, 0};
    for (int32_t t = 0; t < plan->task_count; t++) {
        items[t + 1] = (struct h5_item){"", H5_KIND_I32, 1, {w->rows, 1}, 0};
        (void)snprintf(items[t + 1].path, sizeof items[t + 1].path, "/labels/%s",
                       plan->tasks[t].name);
    }
    struct h5_layout layout = {.items = items,
                               .item_count = plan->task_count + 1,
                               .attributes = attributes,
                               .attribute_count =
                                   (int32_t)(sizeof attributes / sizeof *attributes)};
    MT_TRY_GOTO(st, h5_raw_create(w->temp, &layout), done);
    MT_TRY_GOTO(st, block_file_open(&w->file, w->temp, false), done);
    w->data_at = items[0].offset_bytes;
    for (int32_t t = 0; t < plan->task_count; t++)
        w->label_at[t] = items[t + 1].offset_bytes;
done:
    mt_free(&items);
    json_writer_release(&classes);
    return st;
}

static mt_status begin(struct embeddings_writer *w, const char *path,
                       const struct embeddings_plan *plan)
{
    int64_t room = (int64_t)strlen(path) + 32;
    MT_TRY(mt_strdup(&w->path, path));
    if (!embeddings_format_of(&w->format, path))
        return MT_FAIL(MT_ARG, "%s: embeddings are written to .h5, .npy or .tsv", path);
    MT_TRY(check_plan(w, plan));
    w->rows = plan->rows;
    w->dim = plan->dim;
    w->task_count = plan->task_count;
    if (w->format == EMBEDDINGS_TSV) {
        MT_TRY(mt_alloc(&w->line, (int64_t)w->dim * NUMBER_BYTES, 1, "a line of numbers"));
        return file_writer_open(&w->text, path);
    }
    MT_TRY(mt_alloc(&w->temp, room, 1, "a temporary name"));
    (void)snprintf(w->temp, (size_t)room, "%s.tmp-%ld", path, (long)getpid());
    return w->format == EMBEDDINGS_NPY ? begin_npy(w) : begin_h5(w, plan);
}

mt_status embeddings_create(struct embeddings_writer **out, const char *path,
                            const struct embeddings_plan *plan)
{
    struct embeddings_writer *w;
    MT_TRY(mt_alloc(&w, 1, sizeof *w, "an embeddings writer"));
    w->file.fd = -1;
    mt_status st = begin(w, path, plan);
    if (st != MT_OK) {
        embeddings_discard(&w);
        return st;
    }
    *out = w;
    return MT_OK;
}

static mt_status write_lines(struct embeddings_writer *w, int64_t count, const float *data)
{
    for (int64_t r = 0; r < count; r++) {
        int64_t at = 0;
        for (int32_t i = 0; i < w->dim; i++)
            at += snprintf(w->line + at, NUMBER_BYTES, "%.9g%c", (double)data[r * w->dim + i],
                           i == w->dim - 1 ? '\n' : '\t');
        MT_TRY(file_writer_write(&w->text, w->line, at));
    }
    return MT_OK;
}

static mt_status check_rows(const struct embeddings_writer *w, int64_t first, int64_t count)
{
    if (first < 0 || count < 0 || first > w->rows || count > w->rows - first)
        return MT_FAIL(MT_BUG, "%s: rows %" PRId64 " + %" PRId64 " of %" PRId64, w->path, first,
                       count, w->rows);
    return MT_OK;
}

mt_status embeddings_write_rows(struct embeddings_writer *w, int64_t first, int64_t count,
                                const float *data)
{
    MT_TRY(check_rows(w, first, count));
    if (w->format == EMBEDDINGS_TSV) {
        if (first != w->rows_written)
            return MT_FAIL(MT_BUG, "%s: a .tsv file takes its rows in order", w->path);
        MT_TRY(write_lines(w, count, data));
    } else {
        int64_t row_bytes = w->dim * (int64_t)sizeof *data;
        MT_TRY(block_file_write(&w->file, data, count * row_bytes, w->data_at + first * row_bytes));
    }
    w->rows_written += count;
    return MT_OK;
}

mt_status embeddings_write_labels(struct embeddings_writer *w, int32_t task, int64_t first,
                                  int64_t count, const int32_t *labels)
{
    MT_TRY(check_rows(w, first, count));
    if (task < 0 || task >= w->task_count)
        return MT_FAIL(MT_BUG, "%s: labels of a task that it does not hold", w->path);
    return block_file_write(&w->file, labels, count * (int64_t)sizeof *labels,
                            w->label_at[task] + first * (int64_t)sizeof *labels);
}

mt_status embeddings_commit(struct embeddings_writer *w)
{
    if (w->rows_written != w->rows)
        return MT_FAIL(MT_BUG, "%s: %" PRId64 " of %" PRId64 " rows were written", w->path,
                       w->rows_written, w->rows);
    if (w->format == EMBEDDINGS_TSV)
        return file_writer_commit(&w->text);
    MT_TRY(block_file_sync(&w->file));
    block_file_close(&w->file);
    MT_TRY(file_rename(w->temp, w->path));
    mt_free(&w->temp); /* there is nothing left to remove */
    return MT_OK;
}

void embeddings_discard(struct embeddings_writer **w)
{
    struct embeddings_writer *v = *w;
    if (v == NULL)
        return;
    file_writer_discard(&v->text);
    block_file_close(&v->file);
    if (v->temp != NULL)
        (void)unlink(v->temp);
    mt_free(&v->temp);
    mt_free(&v->path);
    mt_free(&v->line);
    mt_free(w);
}
