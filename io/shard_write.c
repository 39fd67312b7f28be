/*
 * The writing half of shard.h.
 *
 * The number of rows is not known before the last one, and a contiguous dataset cannot grow, so
 * rows are spooled as int32 to files without a name (4 bytes a token) and copied by blocks into
 * datasets of the final size.  Refused: chunked datasets rewritten at the end (the same copying,
 * through more of the library) and rows kept in memory (memory would follow the shard's size).
 *
 * The file is written in the library's 1.10 format, whose metadata carry checksums, without times.
 */
#include "io/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/h5_lock.h"
#include "io/shard_format.h"

enum { BLOCK = 64 << 10, CHUNK = 32 << 10, ALIGN_BYTES = 64 };

/* int32 values on their way to a dataset. */
struct spool {
    int fd;
    int32_t *buffer; /* [BLOCK] */
    int64_t buffered, written;
};

struct shard_writer {
    char *path, *temp_path;
    struct shard_info info; /* owns its tasks */
    int32_t gzip_level;
    struct spool ids, types, lengths, labels; /* labels: task_count a row */
};

/* An answer of the library, or the injected failure of a test. */
#define H5_OK(call) (!file_fault_now() && (call) >= 0)

static mt_status spool_open(struct spool *s, const char *path)
{
    s->fd = file_fault_now() ? -1 : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->fd < 0)
        return MT_FAIL(MT_IO, "%s: cannot create this temporary file: %s", path, strerror(errno));
    if (unlink(path) != 0) { /* it would stay among the shards */
        mt_status st = MT_FAIL(MT_IO, "%s: cannot remove this temporary file's name: %s", path,
                               strerror(errno));
        file_fd_close(&s->fd);
        return st;
    }
    MT_TRY(mt_alloc(&s->buffer, BLOCK, sizeof *s->buffer, "spool buffer"));
    return MT_OK;
}

static void spool_close(struct spool *s)
{
    file_fd_close(&s->fd);
    mt_free(&s->buffer);
}

static mt_status spool_flush(struct spool *s, const char *path)
{
    const char *from = (const char *)s->buffer;
    int64_t left = s->buffered * (int64_t)sizeof *s->buffer;
    while (left > 0) {
        errno = EIO;
        ssize_t n = file_fault_now() ? -1 : write(s->fd, from, (size_t)left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return MT_FAIL(MT_IO, "%s: cannot write its temporary file: %s; free some space there",
                           path, strerror(errno));
        from += n;
        left -= n;
    }
    s->written += s->buffered;
    s->buffered = 0;
    return MT_OK;
}

static mt_status spool_add(struct spool *s, const int32_t *values, int64_t count, const char *path)
{
    while (count > 0) {
        int64_t room = BLOCK - s->buffered;
        int64_t n = count < room ? count : room;
        memcpy(s->buffer + s->buffered, values, (size_t)n * sizeof *values);
        s->buffered += n;
        values += n;
        count -= n;
        if (s->buffered == BLOCK)
            MT_TRY(spool_flush(s, path));
    }
    return MT_OK;
}

static mt_status copy_task(struct shard_task *to, const struct shard_task *from)
{
    const char *name = from->name;
    if (name[0] == '\0' || strnlen(name, sizeof to->name) == sizeof to->name ||
        strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return MT_FAIL(MT_ARG,
                       "\"%s\" cannot be the name of a task: it must not be empty, hold a "
                       "slash, or be . or ..",
                       name);
    if (from->classes < 1 || from->classes > SHARD_CLASSES_MAX)
        return MT_FAIL(MT_ARG, "task \"%s\" has %d labels; 1 to %d are possible", name,
                       from->classes, SHARD_CLASSES_MAX);
    memcpy(to->name, name, sizeof to->name);
    MT_TRY(mt_alloc(&to->labels, from->classes, sizeof *to->labels, "label names"));
    to->classes = from->classes;
    for (int32_t k = 0; k < from->classes; k++) {
        if (strlen(from->labels[k]) > SHARD_LABEL_BYTES_MAX)
            return MT_FAIL(MT_ARG, "task \"%s\": a label of more than %d bytes: \"%.40s...\"", name,
                           SHARD_LABEL_BYTES_MAX, from->labels[k]);
        MT_TRY(mt_strdup(&to->labels[k], from->labels[k]));
    }
    return MT_OK;
}

static mt_status open_spools(struct shard_writer *w)
{
    struct {
        struct spool *spool;
        const char *name;
        bool wanted;
    } list[] = {{&w->ids, "ids", true},
                {&w->types, "types", w->info.has_types},
                {&w->lengths, "lengths", true},
                {&w->labels, "labels", w->info.task_count > 0}};
    int64_t room = (int64_t)strlen(w->temp_path) + 16;
    char *name;
    MT_TRY(mt_alloc(&name, room, 1, "temporary name"));
    mt_status st = MT_OK;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        (void)snprintf(name, (size_t)room, "%s.%s", w->temp_path, list[i].name);
        if (list[i].wanted)
            MT_TRY_GOTO(st, spool_open(list[i].spool, name), done);
    }
done:
    mt_free(&name);
    return st;
}

mt_status shard_writer_open(struct shard_writer **out, const char *path,
                            const struct shard_info *info, int32_t gzip_level)
{
    if (info->task_count < 0 || info->task_count > SHARD_TASKS_MAX)
        return MT_FAIL(MT_ARG, "%d label columns; at most %d are possible", info->task_count,
                       SHARD_TASKS_MAX);
    struct shard_writer *w;
    MT_TRY(mt_alloc(&w, 1, sizeof *w, "shard writer"));
    w->info = *info;
    w->info.version = SHARD_FORMAT_VERSION;
    w->info.rows = w->info.tokens = w->info.unknown_tokens = 0;
    w->info.truncated_rows = w->info.replaced_bytes = 0;
    w->info.longest_row_tokens = 0;
    w->info.task_count = 0;
    w->info.tasks = NULL;
    w->info.compressed = gzip_level > 0;
    w->gzip_level = gzip_level;
    w->ids.fd = w->types.fd = w->lengths.fd = w->labels.fd = -1;
    int64_t room = (int64_t)strlen(path) + 32;
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&w->path, path), done);
    MT_TRY_GOTO(st, mt_alloc(&w->temp_path, room, 1, "temporary name"), done);
    (void)snprintf(w->temp_path, (size_t)room, "%s.tmp-%ld", path, (long)getpid());
    MT_TRY_GOTO(st, mt_alloc(&w->info.tasks, info->task_count, sizeof *w->info.tasks, "tasks"),
                done);
    for (int32_t i = 0; i < info->task_count; i++) {
        w->info.task_count = i + 1;
        MT_TRY_GOTO(st, copy_task(&w->info.tasks[i], &info->tasks[i]), done);
    }
    MT_TRY_GOTO(st, open_spools(w), done);
    *out = w;
done:
    if (st != MT_OK)
        shard_writer_discard(&w);
    return st;
}

void shard_writer_discard(struct shard_writer **writer)
{
    struct shard_writer *w = *writer;
    if (w == NULL)
        return;
    spool_close(&w->ids);
    spool_close(&w->types);
    spool_close(&w->lengths);
    spool_close(&w->labels);
    for (int32_t i = 0; i < w->info.task_count; i++) {
        struct shard_task *task = &w->info.tasks[i];
        for (int32_t k = 0; k < task->classes; k++)
            mt_free(&task->labels[k]);
        mt_free(&task->labels);
    }
    mt_free(&w->info.tasks);
    mt_free(&w->temp_path);
    mt_free(&w->path);
    mt_free(writer);
}

static mt_status check_row(const struct shard_writer *w, const struct shard_row *row)
{
    const struct shard_info *info = &w->info;
    if (row->token_count < 1 || row->token_count > SHARD_ROW_TOKENS_MAX)
        return MT_FAIL(MT_BUG, "a row of %d tokens", row->token_count);
    if (info->rows == SHARD_ROWS_MAX || info->tokens + row->token_count > (int64_t)UINT32_MAX)
        return MT_FAIL(MT_BUG, "%s: too large for one shard", w->path);
    for (int32_t i = 0; i < row->token_count; i++) {
        if (row->ids[i] < 0 || row->ids[i] >= info->vocab_size)
            return MT_FAIL(MT_BUG, "token id %d of a vocabulary of %d", row->ids[i],
                           info->vocab_size);
        if (row->types != NULL && (row->types[i] < 0 || row->types[i] > 1))
            return MT_FAIL(MT_BUG, "token type %d", row->types[i]);
    }
    for (int32_t t = 0; t < info->task_count; t++)
        if (row->labels[t] < -1 || row->labels[t] >= info->tasks[t].classes)
            return MT_FAIL(MT_BUG, "label %d of task \"%s\", which has %d", row->labels[t],
                           info->tasks[t].name, info->tasks[t].classes);
    return MT_OK;
}

mt_status shard_writer_append(struct shard_writer *w, const struct shard_row *row)
{
    struct shard_info *info = &w->info;
    MT_TRY(check_row(w, row));
    MT_TRY(spool_add(&w->ids, row->ids, row->token_count, w->path));
    if (info->has_types && row->types != NULL)
        MT_TRY(spool_add(&w->types, row->types, row->token_count, w->path));
    const int32_t none = 0;
    for (int32_t i = 0; info->has_types && row->types == NULL && i < row->token_count; i++)
        MT_TRY(spool_add(&w->types, &none, 1, w->path));
    MT_TRY(spool_add(&w->lengths, &row->token_count, 1, w->path));
    MT_TRY(spool_add(&w->labels, row->labels, info->task_count, w->path));
    info->rows++;
    info->tokens += row->token_count;
    info->unknown_tokens += row->unknown_tokens;
    info->truncated_rows += row->truncated;
    info->replaced_bytes += row->replaced_bytes;
    if (row->token_count > info->longest_row_tokens)
        info->longest_row_tokens = row->token_count;
    return MT_OK;
}

int64_t shard_writer_rows(const struct shard_writer *w)
{
    return w->info.rows;
}

int64_t shard_writer_tokens(const struct shard_writer *w)
{
    return w->info.tokens;
}

/* The library's handles while a file is made; -1 = none. */
struct h5_out {
    hid_t file, labels_group;
    hid_t ids, offsets, types, labels[SHARD_TASKS_MAX];
    const char *path;
    int32_t gzip_level;
};

static mt_status create_dataset(const struct h5_out *h, hid_t parent, const char *name, hid_t type,
                                int64_t count, hid_t *out)
{
    hsize_t size = (hsize_t)count, chunk = size < CHUNK ? size : CHUNK;
    hid_t space = H5Screate_simple(1, &size, NULL);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    bool ok = H5_OK(H5Pset_obj_track_times(list, false)) &&
              H5_OK(H5Pset_fill_time(list, H5D_FILL_TIME_NEVER));
    if (h->gzip_level > 0)
        ok = ok && H5_OK(H5Pset_chunk(list, 1, &chunk)) && H5_OK(H5Pset_shuffle(list)) &&
             H5_OK(H5Pset_deflate(list, (unsigned)h->gzip_level));
    else
        ok = ok && H5_OK(H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY));
    if (ok)
        *out = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    ok = ok && H5_OK(*out);
    mt_status st = ok ? MT_OK : h5_fail(MT_IO, h->path, "create a dataset");
    (void)H5Pclose(list);
    (void)H5Sclose(space);
    return st;
}

/* Strings of equal size (the longest one's, at least 1), as an array or, with count 0, one. */
static mt_status put_strings(const struct h5_out *h, hid_t object, const char *name,
                             const char *const *texts, int32_t count)
{
    size_t size = 1;
    int32_t n = count > 0 ? count : 1;
    for (int32_t i = 0; i < n; i++)
        size = strlen(texts[i]) > size ? strlen(texts[i]) : size;
    char *bytes;
    MT_TRY(mt_alloc(&bytes, n, size + 1, "attribute"));
    for (int32_t i = 0; i < n; i++)
        memcpy(bytes + (size_t)i * (size + 1), texts[i], strlen(texts[i]));
    hsize_t extent = (hsize_t)n;
    hid_t type = H5Tcopy(H5T_C_S1);
    hid_t space = count > 0 ? H5Screate_simple(1, &extent, NULL) : H5Screate(H5S_SCALAR);
    (void)H5Tset_size(type, size + 1);
    (void)H5Tset_cset(type, H5T_CSET_UTF8);
    hid_t a =
        file_fault_now() ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    mt_status st = MT_OK;
    if (a < 0 || !H5_OK(H5Awrite(a, type, bytes)))
        st = h5_fail(MT_IO, h->path, "write an attribute");
    if (a >= 0)
        (void)H5Aclose(a);
    (void)H5Tclose(type);
    (void)H5Sclose(space);
    mt_free(&bytes);
    return st;
}

static mt_status put_text(const struct h5_out *h, const char *name, const char *text)
{
    return put_strings(h, h->file, name, &text, 0);
}

static mt_status put_hash(const struct h5_out *h, const char *name, uint64_t hash)
{
    char text[HASH_TEXT_BYTES];
    hash64_format(text, hash);
    return put_text(h, name, text);
}

static mt_status put_number(const struct h5_out *h, const char *name, int64_t value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = file_fault_now()
                  ? -1
                  : H5Acreate2(h->file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    mt_status st = MT_OK;
    if (a < 0 || !H5_OK(H5Awrite(a, H5T_NATIVE_INT64, &value)))
        st = h5_fail(MT_IO, h->path, "write an attribute");
    if (a >= 0)
        (void)H5Aclose(a);
    (void)H5Sclose(space);
    return st;
}

static mt_status write_block(const struct h5_out *h, hid_t dataset, hid_t type, int64_t first,
                             int64_t count, const void *values)
{
    hsize_t start = (hsize_t)first, size = (hsize_t)count;
    hid_t memory = H5Screate_simple(1, &size, NULL);
    hid_t file = H5Dget_space(dataset);
    mt_status st = MT_OK;
    if (!H5_OK(H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &size, NULL)) ||
        !H5_OK(H5Dwrite(dataset, type, memory, file, H5P_DEFAULT, values)))
        st = h5_fail(MT_IO, h->path, "write (is the disk full?)");
    (void)H5Sclose(file);
    (void)H5Sclose(memory);
    return st;
}

/* The next values of a spool into its own buffer; 0 at the end. */
static mt_status spool_next(struct spool *s, int64_t at, int64_t most, int64_t *count,
                            const char *path)
{
    int64_t left = s->written - at;
    *count = left < most ? left : most;
    MT_TRY(file_fd_read_at(s->fd, s->buffer, *count * 4, at * 4, path));
    return MT_OK;
}

static mt_status copy_tokens(const struct h5_out *h, struct spool *s, hid_t dataset, uint64_t *hash)
{
    struct hash64 sum;
    hash64_init(&sum, 0);
    for (int64_t at = 0, n; at < s->written; at += n) {
        MT_TRY(spool_next(s, at, BLOCK, &n, h->path));
        hash64_add(&sum, s->buffer, n * 4);
        MT_TRY(write_block(h, dataset, H5T_NATIVE_INT32, at, n, s->buffer));
    }
    *hash = hash64_value(&sum);
    return MT_OK;
}

static mt_status copy_offsets(const struct h5_out *h, struct spool *s, uint64_t *hash)
{
    int64_t *ends, total = 0;
    struct hash64 sum;
    hash64_init(&sum, 0);
    MT_TRY(mt_alloc(&ends, BLOCK, sizeof *ends, "offsets"));
    mt_status st;
    MT_TRY_GOTO(st, write_block(h, h->offsets, H5T_NATIVE_INT64, 0, 1, &total), done);
    for (int64_t at = 0, n; at < s->written; at += n) {
        MT_TRY_GOTO(st, spool_next(s, at, BLOCK, &n, h->path), done);
        hash64_add(&sum, s->buffer, n * 4);
        for (int64_t i = 0; i < n; i++)
            ends[i] = total += s->buffer[i];
        MT_TRY_GOTO(st, write_block(h, h->offsets, H5T_NATIVE_INT64, at + 1, n, ends), done);
    }
    *hash = hash64_value(&sum);
done:
    mt_free(&ends);
    return st;
}

/* Labels were spooled row by row and are stored task by task. */
static mt_status copy_labels(const struct h5_out *h, struct spool *s, int32_t tasks, int64_t rows,
                             uint64_t *hashes)
{
    if (tasks == 0)
        return MT_OK;
    struct hash64 sum[SHARD_TASKS_MAX];
    for (int32_t t = 0; t < tasks; t++)
        hash64_init(&sum[t], 0);
    int64_t step = BLOCK / tasks;
    int32_t *column;
    MT_TRY(mt_alloc(&column, step, sizeof *column, "labels"));
    mt_status st = MT_OK;
    for (int64_t row = 0, n; row < rows; row += n / tasks) {
        MT_TRY_GOTO(st, spool_next(s, row * tasks, step * tasks, &n, h->path), done);
        for (int32_t t = 0; t < tasks; t++) {
            for (int64_t i = 0; i < n / tasks; i++)
                column[i] = s->buffer[i * tasks + t];
            hash64_add(&sum[t], column, n / tasks * 4);
            MT_TRY_GOTO(st, write_block(h, h->labels[t], H5T_NATIVE_INT32, row, n / tasks, column),
                        done);
        }
    }
    for (int32_t t = 0; t < tasks; t++)
        hashes[t] = hash64_value(&sum[t]);
done:
    mt_free(&column);
    return st;
}

static hid_t label_type(int32_t classes)
{
    return classes <= 128 ? H5T_STD_I8LE : classes <= 32768 ? H5T_STD_I16LE : H5T_STD_I32LE;
}

static mt_status create_file(struct h5_out *h)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    mt_status st = MT_OK;
    if (!H5_OK(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110)) ||
        !H5_OK(H5Pset_alignment(access, ALIGN_BYTES, ALIGN_BYTES)) ||
        !H5_OK(H5Pset_obj_track_times(creation, false)) ||
        !H5_OK(h->file = H5Fcreate(h->path, H5F_ACC_TRUNC, creation, access)))
        st = h5_fail(MT_IO, h->path, "create");
    (void)H5Pclose(creation);
    (void)H5Pclose(access);
    return st;
}

static mt_status create_group(struct h5_out *h)
{
    hid_t list = H5Pcreate(H5P_GROUP_CREATE);
    mt_status st = MT_OK;
    if (!H5_OK(H5Pset_obj_track_times(list, false)) ||
        !H5_OK(h->labels_group = H5Gcreate2(h->file, SHARD_LABELS, H5P_DEFAULT, list, H5P_DEFAULT)))
        st = h5_fail(MT_IO, h->path, "create the group " SHARD_LABELS);
    (void)H5Pclose(list);
    return st;
}

static mt_status lay_out(struct h5_out *h, const struct shard_info *info)
{
    hid_t id_type = info->vocab_size <= 65536 ? H5T_STD_U16LE : H5T_STD_U32LE;
    MT_TRY(create_file(h));
    MT_TRY(create_dataset(h, h->file, SHARD_IDS, id_type, info->tokens, &h->ids));
    MT_TRY(create_dataset(h, h->file, SHARD_OFFSETS, H5T_STD_I64LE, info->rows + 1, &h->offsets));
    if (info->has_types)
        MT_TRY(create_dataset(h, h->file, SHARD_TYPES, H5T_STD_U8LE, info->tokens, &h->types));
    MT_TRY(create_group(h));
    for (int32_t t = 0; t < info->task_count; t++) {
        const struct shard_task *task = &info->tasks[t];
        MT_TRY(create_dataset(h, h->labels_group, task->name, label_type(task->classes), info->rows,
                              &h->labels[t]));
        MT_TRY(put_strings(h, h->labels[t], SHARD_NAMES, (const char *const *)task->labels,
                           task->classes));
    }
    return MT_OK;
}

static mt_status put_attributes(const struct h5_out *h, const struct shard_info *info)
{
    MT_TRY(put_text(h, SHARD_A_FORMAT, SHARD_FORMAT));
    MT_TRY(put_number(h, SHARD_A_VERSION, info->version));
    MT_TRY(put_number(h, SHARD_A_VOCAB_SIZE, info->vocab_size));
    MT_TRY(put_hash(h, SHARD_A_VOCAB_HASH, info->vocab_hash));
    MT_TRY(put_hash(h, SHARD_A_SOURCE_HASH, info->source_hash));
    MT_TRY(put_hash(h, SHARD_A_CONTENT_HASH, info->content_hash));
    MT_TRY(put_text(h, SHARD_A_TOKENIZER, info->tokenizer));
    MT_TRY(put_number(h, SHARD_A_MAX_TOKENS, info->max_tokens));
    MT_TRY(put_number(h, SHARD_A_ROWS, info->rows));
    MT_TRY(put_number(h, SHARD_A_TOKENS, info->tokens));
    MT_TRY(put_number(h, SHARD_A_UNKNOWN, info->unknown_tokens));
    MT_TRY(put_number(h, SHARD_A_TRUNCATED, info->truncated_rows));
    MT_TRY(put_number(h, SHARD_A_REPLACED, info->replaced_bytes));
    return MT_OK;
}

/* Positions of the tasks in order of name, as a reader finds them. */
static void sort_tasks(const struct shard_info *info, int32_t *order)
{
    for (int32_t i = 0; i < info->task_count; i++) {
        int32_t at = i;
        for (; at > 0 && strcmp(info->tasks[order[at - 1]].name, info->tasks[i].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static mt_status copy_all(struct shard_writer *w, struct h5_out *h)
{
    struct shard_info *info = &w->info;
    uint64_t ids, types = 0, lengths, labels[SHARD_TASKS_MAX] = {0};
    int32_t order[SHARD_TASKS_MAX];
    MT_TRY(copy_tokens(h, &w->ids, h->ids, &ids));
    if (info->has_types)
        MT_TRY(copy_tokens(h, &w->types, h->types, &types));
    MT_TRY(copy_offsets(h, &w->lengths, &lengths));
    MT_TRY(copy_labels(h, &w->labels, info->task_count, info->rows, labels));
    struct hash64 sum;
    hash64_init(&sum, 0);
    hash64_add_int(&sum, info->rows);
    hash64_add_int(&sum, info->tokens);
    hash64_add_int(&sum, (int64_t)ids);
    hash64_add_int(&sum, (int64_t)types);
    hash64_add_int(&sum, (int64_t)lengths);
    sort_tasks(info, order);
    for (int32_t i = 0; i < info->task_count; i++) {
        hash64_add_string(&sum, info->tasks[order[i]].name);
        hash64_add_int(&sum, (int64_t)labels[order[i]]);
    }
    info->content_hash = hash64_value(&sum);
    return MT_OK;
}

/* Closes every handle; false where the library could not write the rest. */
static bool close_out(struct h5_out *h)
{
    bool ok = true;
    hid_t datasets[] = {h->ids, h->offsets, h->types};
    for (size_t i = 0; i < sizeof datasets / sizeof datasets[0]; i++)
        if (datasets[i] >= 0)
            ok = H5Dclose(datasets[i]) >= 0 && ok;
    for (int32_t t = 0; t < SHARD_TASKS_MAX; t++)
        if (h->labels[t] >= 0)
            ok = H5Dclose(h->labels[t]) >= 0 && ok;
    if (h->labels_group >= 0)
        ok = H5Gclose(h->labels_group) >= 0 && ok;
    if (h->file >= 0)
        ok = H5Fclose(h->file) >= 0 && ok;
    return ok && !file_fault_now();
}

static mt_status write_file(struct shard_writer *w)
{
    struct h5_out h = {-1, -1, -1, -1, -1, {0}, w->temp_path, w->gzip_level};
    for (int32_t t = 0; t < SHARD_TASKS_MAX; t++)
        h.labels[t] = -1;
    mt_status st;
    MT_TRY_GOTO(st, lay_out(&h, &w->info), done);
    MT_TRY_GOTO(st, copy_all(w, &h), done);
    MT_TRY_GOTO(st, put_attributes(&h, &w->info), done);
done:
    if (!close_out(&h) && st == MT_OK)
        st = h5_fail(MT_IO, w->temp_path, "write (is the disk full?)");
    return st;
}

mt_status shard_writer_commit(struct shard_writer **writer, struct shard_info *totals)
{
    struct shard_writer *w = *writer;
    struct spool *spools[] = {&w->ids, &w->types, &w->lengths, &w->labels};
    mt_status st = MT_OK;
    if (w->info.rows == 0) {
        st = MT_FAIL(MT_DATA, "%s: a shard must have rows", w->path);
        goto done;
    }
    for (size_t i = 0; i < sizeof spools / sizeof spools[0]; i++)
        MT_TRY_GOTO(st, spool_flush(spools[i], w->path), done);
    h5_enter();
    st = write_file(w);
    h5_leave();
    if (st != MT_OK)
        goto done;
    MT_TRY_GOTO(st, file_sync(w->temp_path), done);
    MT_TRY_GOTO(st, file_rename(w->temp_path, w->path), done);
    if (totals != NULL) {
        *totals = w->info;
        totals->task_count = 0;
        totals->tasks = NULL;
    }
done:
    if (st != MT_OK)
        (void)unlink(w->temp_path);
    shard_writer_discard(writer);
    return st;
}
