/*
 * See shard_format.h: what shard_open does inside the HDF5 library.
 *
 * What the library would do for a stranger is narrowed down first: no soft or external links, no
 * virtual or external storage, no filters but deflate, shuffle and checksum, no giant chunks, no
 * sizes without stored bytes.  Offsets and labels are checked one by one as they are read.
 */
#include "io/shard_format.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/h5_lock.h"

enum {
    BLOCK = 32 << 10,
    CHUNK_BYTES_MAX = 64 << 20,
    NAMES_BYTES_MAX = 64 << 20,
    DEFLATE_RATIO_MAX = 1100 /* of zlib: 1032 */
};

static const char MEND[] = SHARD_MEND;

#define H5_OK(call) (!file_fault_now() && (call) >= 0)

static mt_status bad(const struct shard *s, const char *what)
{
    (void)H5Eclear2(H5E_DEFAULT);
    return MT_FAIL(MT_DATA, "%s: %s; %s", s->path, what, MEND);
}

/* Attributes. */

/* Texts of variable size lie in the global heap, which has no checksum: the library crashes on a
 * damaged one, so they are not read. */
static bool is_fixed_text(hid_t type)
{
    return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
}

/* A string attribute of fixed size; absent = "" where it is optional. */
static mt_status get_text(const struct shard *s, const char *name, bool required, char *text,
                          size_t text_bytes)
{
    text[0] = '\0';
    htri_t there = H5Aexists(s->file, name);
    if (there == 0 && !required)
        return MT_OK;
    hid_t a = there > 0 ? H5Aopen(s->file, name, H5P_DEFAULT) : -1;
    if (a < 0)
        return MT_FAIL(MT_DATA, "%s: has no attribute \"%s\"; is it a shard? %s", s->path, name,
                       MEND);
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    mt_status st = MT_OK;
    if (is_fixed_text(type) && H5Sget_simple_extent_npoints(space) == 1 &&
        H5Tget_size(type) < text_bytes) {
        size_t size = H5Tget_size(type);
        if (!H5_OK(H5Aread(a, type, text)))
            st = h5_fail(MT_DATA, s->path, "read an attribute");
        text[size] = '\0';
    } else {
        st = MT_FAIL(MT_DATA, "%s: attribute \"%s\" is not a short text of fixed size; %s", s->path,
                     name, MEND);
    }
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    (void)H5Aclose(a);
    return st;
}

static mt_status get_hash(const struct shard *s, const char *name, bool required, uint64_t *hash)
{
    char text[64];
    *hash = 0;
    MT_TRY(get_text(s, name, required, text, sizeof text));
    if (text[0] != '\0' && !hash64_parse(hash, text))
        return MT_FAIL(MT_DATA, "%s: attribute \"%s\" is not a hash of 16 digits; %s", s->path,
                       name, MEND);
    return MT_OK;
}

/* A whole number within least..most; -1 where it is absent and optional. */
static mt_status get_number(const struct shard *s, const char *name, bool required, int64_t least,
                            int64_t most, int64_t *value)
{
    *value = -1;
    htri_t there = H5Aexists(s->file, name);
    if (there == 0 && !required)
        return MT_OK;
    hid_t a = there > 0 ? H5Aopen(s->file, name, H5P_DEFAULT) : -1;
    if (a < 0)
        return MT_FAIL(MT_DATA, "%s: has no attribute \"%s\"; is it a shard? %s", s->path, name,
                       MEND);
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    mt_status st = MT_OK;
    int64_t found = 0;
    if (H5Tget_class(type) != H5T_INTEGER || H5Sget_simple_extent_npoints(space) != 1)
        st =
            MT_FAIL(MT_DATA, "%s: attribute \"%s\" is not a whole number; %s", s->path, name, MEND);
    else if (!H5_OK(H5Aread(a, H5T_NATIVE_INT64, &found)))
        st = h5_fail(MT_DATA, s->path, "read an attribute");
    else if (found < least || found > most)
        st = MT_FAIL(MT_DATA, "%s: attribute \"%s\" is %lld, not within %lld..%lld; %s", s->path,
                     name, (long long)found, (long long)least, (long long)most, MEND);
    else
        *value = found;
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    (void)H5Aclose(a);
    return st;
}

static mt_status read_attributes(struct shard *s)
{
    struct shard_info *info = &s->info;
    char format[64];
    int64_t version, vocab_size, max_tokens, rows, tokens;
    MT_TRY(get_text(s, SHARD_A_FORMAT, true, format, sizeof format));
    if (strcmp(format, SHARD_FORMAT) != 0)
        return MT_FAIL(MT_DATA, "%s: its format is \"%s\", not \"%s\"", s->path, format,
                       SHARD_FORMAT);
    MT_TRY(get_number(s, SHARD_A_VERSION, true, 1, INT32_MAX, &version));
    if (version != SHARD_FORMAT_VERSION)
        return MT_FAIL(MT_DATA, "%s: has format version %lld; this program reads version %d; %s",
                       s->path, (long long)version, SHARD_FORMAT_VERSION, MEND);
    MT_TRY(get_number(s, SHARD_A_VOCAB_SIZE, true, 1, INT32_MAX, &vocab_size));
    MT_TRY(get_hash(s, SHARD_A_VOCAB_HASH, true, &info->vocab_hash));
    MT_TRY(get_hash(s, SHARD_A_SOURCE_HASH, false, &info->source_hash));
    MT_TRY(get_hash(s, SHARD_A_CONTENT_HASH, false, &info->content_hash));
    MT_TRY(get_text(s, SHARD_A_TOKENIZER, false, info->tokenizer, sizeof info->tokenizer));
    MT_TRY(get_number(s, SHARD_A_MAX_TOKENS, false, 0, INT32_MAX, &max_tokens));
    MT_TRY(get_number(s, SHARD_A_ROWS, false, 1, SHARD_ROWS_MAX, &rows));
    MT_TRY(get_number(s, SHARD_A_TOKENS, false, 1, UINT32_MAX, &tokens));
    MT_TRY(get_number(s, SHARD_A_UNKNOWN, false, 0, INT64_MAX, &info->unknown_tokens));
    MT_TRY(get_number(s, SHARD_A_TRUNCATED, false, 0, INT64_MAX, &info->truncated_rows));
    MT_TRY(get_number(s, SHARD_A_REPLACED, false, 0, INT64_MAX, &info->replaced_bytes));
    info->version = (int32_t)version;
    info->vocab_size = (int32_t)vocab_size;
    info->max_tokens = max_tokens < 0 ? 0 : (int32_t)max_tokens;
    info->rows = rows;
    info->tokens = tokens;
    return MT_OK;
}

/* Datasets. */

static mt_status check_link(const struct shard *s, hid_t parent, const char *name, bool *there)
{
    H5L_info_t link;
    htri_t exists = H5Lexists(parent, name, H5P_DEFAULT);
    *there = exists > 0;
    if (exists < 0 || (exists > 0 && !H5_OK(H5Lget_info(parent, name, &link, H5P_DEFAULT))))
        return h5_fail(MT_DATA, s->path, "look up a dataset");
    if (exists > 0 && link.type != H5L_TYPE_HARD)
        return MT_FAIL(MT_DATA, "%s: \"%s\" is a link to elsewhere, which is not followed; %s",
                       s->path, name, MEND);
    return MT_OK;
}

static bool filters_allowed(hid_t list)
{
    int count = H5Pget_nfilters(list);
    for (int i = 0; i < count; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return false;
    }
    return count >= 0;
}

/* What is wrong with the way a dataset is stored, or NULL. */
static const char *storage_fault(hid_t dataset, hid_t list, int64_t count, int64_t size)
{
    H5D_layout_t layout = H5Pget_layout(list);
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
        return "a dataset is stored elsewhere (virtual), which is not followed";
    if (layout == H5D_CONTIGUOUS && H5Pget_external_count(list) != 0)
        return "a dataset is stored in other files, which are not read";
    if (layout == H5D_CHUNKED) {
        hsize_t chunk;
        if (H5Pget_chunk(list, 1, &chunk) != 1 || chunk > CHUNK_BYTES_MAX / (hsize_t)size)
            return "a dataset has chunks of more than 64 MiB";
    }
    if (!filters_allowed(list))
        return "a dataset has a filter other than deflate, shuffle and fletcher32";
    hsize_t stored = H5Dget_storage_size(dataset);
    if ((hsize_t)count * (hsize_t)size / DEFLATE_RATIO_MAX > stored)
        return "a dataset has a size, but nothing is stored for it";
    return NULL;
}

/* Opens a dataset of whole numbers with one dimension. */
static mt_status open_dataset(const struct shard *s, hid_t parent, const char *name, int64_t most,
                              hid_t *dataset, int64_t *count)
{
    bool there;
    hsize_t extent = 0;
    MT_TRY(check_link(s, parent, name, &there));
    if (!there)
        return MT_FAIL(MT_DATA, "%s: has no dataset \"%s\"; is it a shard? %s", s->path, name,
                       MEND);
    hid_t d = file_fault_now() ? -1 : H5Dopen2(parent, name, H5P_DEFAULT);
    if (d < 0)
        return h5_fail(MT_DATA, s->path, "open a dataset");
    hid_t type = H5Dget_type(d), space = H5Dget_space(d), list = H5Dget_create_plist(d);
    const char *fault = NULL;
    mt_status st = MT_OK;
    if (H5Tget_class(type) != H5T_INTEGER || H5Tget_size(type) < 1 || H5Tget_size(type) > 8)
        fault = "does not hold whole numbers";
    else if (H5Sget_simple_extent_ndims(space) != 1 ||
             H5Sget_simple_extent_dims(space, &extent, NULL) != 1)
        fault = "does not have one dimension";
    else if (extent < 1 || extent > (hsize_t)most)
        fault = "is empty or too long for one shard";
    else
        fault = storage_fault(d, list, (int64_t)extent, (int64_t)H5Tget_size(type));
    if (fault != NULL)
        st = MT_FAIL(MT_DATA, "%s: dataset \"%s\": %s; %s", s->path, name, fault, MEND);
    (void)H5Eclear2(H5E_DEFAULT);
    (void)H5Pclose(list);
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    if (st != MT_OK) {
        (void)H5Dclose(d);
        return st;
    }
    *dataset = d;
    *count = (int64_t)extent;
    return MT_OK;
}

mt_status shard_read_block(const struct shard *s, hid_t dataset, hid_t type, int64_t first,
                           int64_t count, void *values)
{
    hsize_t start = (hsize_t)first, size = (hsize_t)count;
    hid_t memory = H5Screate_simple(1, &size, NULL);
    hid_t file = H5Dget_space(dataset);
    mt_status st = MT_OK;
    if (!H5_OK(H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &size, NULL)) ||
        !H5_OK(H5Dread(dataset, type, memory, file, H5P_DEFAULT, values)))
        st = h5_fail(MT_DATA, s->path, "read a dataset");
    (void)H5Sclose(file);
    (void)H5Sclose(memory);
    return st;
}

/* The bytes of a number that can be fetched from the file as they are; 0 = it takes the library. */
static int32_t direct_width(hid_t type)
{
    if (H5Tequal(type, H5T_STD_U8LE) > 0)
        return 1;
    if (H5Tequal(type, H5T_STD_U16LE) > 0)
        return 2;
    if (H5Tequal(type, H5T_STD_U32LE) > 0 || H5Tequal(type, H5T_STD_I32LE) > 0)
        return 4;
    return 0;
}

/* Opens a dataset of tokens and, where its layout allows, notes its place instead. */
static mt_status open_column(struct shard *s, const char *name, struct column *column)
{
    int64_t count;
    MT_TRY(open_dataset(s, s->file, name, UINT32_MAX, &column->dataset, &count));
    if (count != s->info.tokens)
        return bad(s, "its datasets and attributes differ in the number of tokens");
    hid_t type = H5Dget_type(column->dataset), list = H5Dget_create_plist(column->dataset);
    int32_t width = direct_width(type);
    haddr_t at = HADDR_UNDEF;
    if (H5Pget_layout(list) == H5D_CONTIGUOUS && width > 0)
        at = H5Dget_offset(column->dataset);
    (void)H5Pclose(list);
    (void)H5Tclose(type);
    (void)H5Eclear2(H5E_DEFAULT);
    if (at == HADDR_UNDEF)
        return MT_OK;
    if (at > (haddr_t)s->file_bytes || count * width > s->file_bytes - (int64_t)at)
        return bad(s, "a dataset reaches beyond the end of the file");
    column->at = (int64_t)at;
    column->width = width;
    (void)H5Dclose(column->dataset);
    column->dataset = -1;
    return MT_OK;
}

static mt_status read_offsets(struct shard *s)
{
    hid_t dataset;
    int64_t count, last = 0, *block = NULL;
    MT_TRY(open_dataset(s, s->file, SHARD_OFFSETS, (int64_t)SHARD_ROWS_MAX + 1, &dataset, &count));
    mt_status st = MT_OK;
    if (count < 2 || (s->info.rows >= 0 && s->info.rows != count - 1)) {
        st = bad(s, "its datasets and attributes differ in the number of rows");
        goto done;
    }
    s->info.rows = count - 1;
    MT_TRY_GOTO(st, mt_alloc(&s->offsets, count, sizeof *s->offsets, "row offsets"), done);
    MT_TRY_GOTO(st, mt_alloc(&block, BLOCK, sizeof *block, "row offsets"), done);
    for (int64_t at = 0, n; at < count; at += n) {
        n = count - at < BLOCK ? count - at : BLOCK;
        MT_TRY_GOTO(st, shard_read_block(s, dataset, H5T_NATIVE_INT64, at, n, block), done);
        for (int64_t i = 0; i < n; i++) {
            int64_t row = at + i - 1;
            /* Compared before subtracting: a difference of any two int64 may overflow. */
            if (row < 0 ? block[i] != 0
                        : block[i] <= last || block[i] > last + SHARD_ROW_TOKENS_MAX ||
                              block[i] > (int64_t)UINT32_MAX) {
                st = MT_FAIL(MT_DATA, "%s: row %lld ends at token %lld, after %lld; %s", s->path,
                             (long long)row, (long long)block[i], (long long)last, MEND);
                goto done;
            }
            if (row >= 0 && block[i] - last > s->info.longest_row_tokens)
                s->info.longest_row_tokens = (int32_t)(block[i] - last);
            last = block[i];
            s->offsets[at + i] = (uint32_t)last;
        }
    }
    if (s->info.tokens >= 0 && s->info.tokens != last)
        st = bad(s, "its datasets and attributes differ in the number of tokens");
    s->info.tokens = last;
done:
    mt_free(&block);
    (void)H5Dclose(dataset);
    return st;
}

/* Labels. */

static mt_status keep_name(const struct shard *s, struct shard_task *task, int32_t k,
                           const char *text, size_t bytes)
{
    size_t length = strnlen(text, bytes);
    if (length > SHARD_LABEL_BYTES_MAX)
        return MT_FAIL(MT_DATA, "%s: task \"%s\" has a label of more than %d bytes", s->path,
                       task->name, SHARD_LABEL_BYTES_MAX);
    MT_TRY(mt_alloc(&task->labels[k], (int64_t)length + 1, 1, "label name"));
    memcpy(task->labels[k], text, length);
    return MT_OK;
}

static mt_status read_names(const struct shard *s, struct shard_task *task, hid_t a, hid_t type)
{
    size_t size = H5Tget_size(type);
    char *bytes;
    if (size == 0 || size > NAMES_BYTES_MAX / (size_t)task->classes)
        return bad(s, "its label names are too long");
    MT_TRY(mt_alloc(&bytes, task->classes, size, "label names"));
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&task->labels, task->classes, sizeof *task->labels, "label names"),
                done);
    if (!H5_OK(H5Aread(a, type, bytes))) {
        st = h5_fail(MT_DATA, s->path, "read label names");
        goto done;
    }
    for (int32_t k = 0; k < task->classes; k++)
        MT_TRY_GOTO(st, keep_name(s, task, k, bytes + (size_t)k * size, size), done);
done:
    mt_free(&bytes);
    return st;
}

static mt_status open_names(const struct shard *s, struct shard_task *task, hid_t dataset)
{
    hid_t a = H5Aexists(dataset, SHARD_NAMES) > 0 ? H5Aopen(dataset, SHARD_NAMES, H5P_DEFAULT) : -1;
    if (a < 0)
        return MT_FAIL(MT_DATA,
                       "%s: " SHARD_LABELS "/%s has no attribute \"%s\" with its labels; %s",
                       s->path, task->name, SHARD_NAMES, MEND);
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    mt_status st;
    if (!is_fixed_text(type) || count < 1 || count > SHARD_CLASSES_MAX) {
        st = bad(s, "its label names are not a list of texts of fixed size, of a possible length");
    } else {
        task->classes = (int32_t)count;
        st = read_names(s, task, a, type);
    }
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    (void)H5Aclose(a);
    return st;
}

static void store_label(struct label_column *c, int64_t row, int32_t value)
{
    if (c->width == 1)
        ((int8_t *)c->values)[row] = (int8_t)value;
    else if (c->width == 2)
        ((int16_t *)c->values)[row] = (int16_t)value;
    else
        ((int32_t *)c->values)[row] = value;
}

static mt_status read_labels(struct shard *s, struct shard_task *task, struct label_column *c,
                             hid_t dataset)
{
    int64_t rows = s->info.rows;
    int32_t *block;
    c->width = task->classes <= 128 ? 1 : task->classes <= 32768 ? 2 : 4;
    MT_TRY(mt_alloc(&c->values, rows, (size_t)c->width, "labels"));
    MT_TRY(mt_alloc(&block, BLOCK, sizeof *block, "labels"));
    mt_status st = MT_OK;
    for (int64_t at = 0, n; at < rows; at += n) {
        n = rows - at < BLOCK ? rows - at : BLOCK;
        MT_TRY_GOTO(st, shard_read_block(s, dataset, H5T_NATIVE_INT32, at, n, block), done);
        for (int64_t i = 0; i < n; i++) {
            if (block[i] < -1 || block[i] >= task->classes) {
                st = MT_FAIL(MT_DATA, "%s: row %lld: label %d of task \"%s\", which has %d; %s",
                             s->path, (long long)(at + i), block[i], task->name, task->classes,
                             MEND);
                goto done;
            }
            store_label(c, at + i, block[i]);
        }
    }
done:
    mt_free(&block);
    return st;
}

static mt_status read_task(struct shard *s, hid_t group, int32_t t)
{
    struct shard_task *task = &s->info.tasks[t];
    char name[SHARD_TASK_NAME_BYTES];
    ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)t, name,
                                        sizeof name, H5P_DEFAULT);
    if (length < 1 || length >= (ssize_t)sizeof name)
        return bad(s, "a task has a name of more than 63 bytes");
    memcpy(task->name, name, sizeof name);
    hid_t dataset;
    int64_t count;
    MT_TRY(open_dataset(s, group, name, SHARD_ROWS_MAX, &dataset, &count));
    mt_status st;
    MT_TRY_GOTO(st, open_names(s, task, dataset), done);
    if (count != s->info.rows) {
        st = bad(s, "its datasets differ in the number of rows");
        goto done;
    }
    MT_TRY_GOTO(st, read_labels(s, task, &s->labels[t], dataset), done);
done:
    (void)H5Dclose(dataset);
    return st;
}

static mt_status read_tasks(struct shard *s)
{
    bool there;
    H5G_info_t group_info;
    MT_TRY(check_link(s, s->file, SHARD_LABELS, &there));
    if (!there)
        return MT_OK;
    hid_t group = file_fault_now() ? -1 : H5Gopen2(s->file, SHARD_LABELS, H5P_DEFAULT);
    if (group < 0)
        return h5_fail(MT_DATA, s->path, "open the group " SHARD_LABELS);
    mt_status st = MT_OK;
    if (!H5_OK(H5Gget_info(group, &group_info))) {
        st = h5_fail(MT_DATA, s->path, "list the group " SHARD_LABELS);
        goto done;
    }
    if (group_info.nlinks > SHARD_TASKS_MAX) {
        st = bad(s, "it has more than 64 tasks");
        goto done;
    }
    int32_t count = (int32_t)group_info.nlinks;
    MT_TRY_GOTO(st, mt_alloc(&s->info.tasks, count, sizeof *s->info.tasks, "tasks"), done);
    MT_TRY_GOTO(st, mt_alloc(&s->labels, count, sizeof *s->labels, "tasks"), done);
    s->info.task_count = count;
    for (int32_t t = 0; t < count; t++)
        MT_TRY_GOTO(st, read_task(s, group, t), done);
done:
    (void)H5Gclose(group);
    return st;
}

static mt_status open_file(struct shard *s)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    (void)H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    (void)H5Pset_file_locking(access, false, true); /* some network file systems have no locks */
#endif
    s->file = file_fault_now() ? -1 : H5Fopen(s->path, H5F_ACC_RDONLY, access);
    mt_status st = MT_OK;
    if (s->file < 0)
        st = h5_fail(MT_DATA, s->path,
                     "open as an HDF5 file (damaged, cut short, or another kind?)");
    (void)H5Pclose(access);
    return st;
}

static bool is_chunked(hid_t dataset)
{
    hid_t list = H5Dget_create_plist(dataset);
    bool chunked = H5Pget_layout(list) == H5D_CHUNKED;
    (void)H5Pclose(list);
    return chunked;
}

mt_status shard_load(struct shard *s)
{
    bool there;
    MT_TRY(h5_check_file(s->path));
    MT_TRY(open_file(s));
    MT_TRY(read_attributes(s));
    MT_TRY(read_offsets(s));
    MT_TRY(open_column(s, SHARD_IDS, &s->ids));
    MT_TRY(check_link(s, s->file, SHARD_TYPES, &there));
    s->info.has_types = there;
    if (there)
        MT_TRY(open_column(s, SHARD_TYPES, &s->types));
    MT_TRY(read_tasks(s));
    s->info.compressed = s->ids.dataset >= 0 && is_chunked(s->ids.dataset);
    if (s->ids.dataset < 0 && s->types.dataset < 0) {
        (void)H5Fclose(s->file);
        s->file = -1;
    }
    return MT_OK;
}
