/*
 * See safetensors.h.
 *
 * The header goes through jansson into a table of entries; the sum of what they claim must tile the
 * data part exactly, so sorting them by offset and comparing neighbours finds every hole and
 * overlap. A header above HEADER_MAX_BYTES is refused though the format allows 100 MB: a BERT's is
 * below 1 MB, and a parsed tree takes many times the text.  Look-up is a binary search over names.
 */
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"

enum {
    FORMAT_HEADER_MAX_BYTES = 100000000,
    HEADER_MAX_BYTES = 16 << 20,
    LENGTH_BYTES = 8,
    ENTRIES_MAX = 1 << 20
};

struct safetensors {
    char *path;
    struct file_map map;
    struct safetensors_entry *entry; /* in the order of data */
    int32_t *by_name;                /* indexes of entry, ascending names */
    char *names;
    int32_t count;
    int64_t data_at; /* where the data part begins in the file */
};

static const struct {
    const char *name;
    int32_t bits;
} DTYPES[SAFETENSORS_DTYPE_COUNT] = {
#define X(name, bits) {#name, bits},
    SAFETENSORS_DTYPE_LIST(X)
#undef X
};

const char *safetensors_dtype_name(enum safetensors_dtype d)
{
    return DTYPES[d].name;
}

static bool dtype_parse(enum safetensors_dtype *out, const char *name)
{
    for (int i = 0; i < SAFETENSORS_DTYPE_COUNT; i++)
        if (strcmp(DTYPES[i].name, name) == 0) {
            *out = (enum safetensors_dtype)i;
            return true;
        }
    return false;
}

/* Shape of one tensor, and the elements it takes. */
static mt_status read_shape(struct safetensors_entry *e, const struct json_node *shape,
                            const char *where)
{
    int64_t ndim = json_node_count(shape);
    if (!json_node_is_array(shape) || ndim > SAFETENSORS_DIMS_MAX)
        return MT_FAIL(MT_DATA, "%s: tensor %.100s: shape is not an array of at most %d sizes",
                       where, e->name, (int)SAFETENSORS_DIMS_MAX);
    e->ndim = (int32_t)ndim;
    e->count = 1;
    for (int32_t i = 0; i < e->ndim; i++) {
        int64_t size;
        if (!json_node_int(json_node_at(shape, i), &size) || size < 0 ||
            __builtin_mul_overflow(e->count, size, &e->count))
            return MT_FAIL(MT_DATA, "%s: tensor %.100s: size %d of its shape makes no sense", where,
                           e->name, i);
        e->shape[i] = size;
    }
    return MT_OK;
}

static mt_status read_entry(struct safetensors_entry *e, const struct json_node *value,
                            int64_t data_bytes, const char *where)
{
    const char *dtype = json_node_string(json_node_get(value, "dtype"));
    const struct json_node *offsets = json_node_get(value, "data_offsets");
    int64_t begin, end, bits;
    if (dtype == NULL || !dtype_parse(&e->dtype, dtype))
        return MT_FAIL(MT_DATA, "%s: tensor %.100s: dtype %.20s is unknown", where, e->name,
                       dtype == NULL ? "(none)" : dtype);
    MT_TRY(read_shape(e, json_node_get(value, "shape"), where));
    if (json_node_count(offsets) != 2 || !json_node_int(json_node_at(offsets, 0), &begin) ||
        !json_node_int(json_node_at(offsets, 1), &end) || begin < 0 || end < begin)
        return MT_FAIL(MT_DATA, "%s: tensor %.100s: data_offsets are not [begin, end]", where,
                       e->name);
    if (end > data_bytes)
        return MT_FAIL(MT_DATA,
                       "%s: truncated: tensor %.100s ends at byte %" PRId64
                       " of the data, the file has %" PRId64 ": download it again",
                       where, e->name, end, data_bytes);
    if (__builtin_mul_overflow(e->count, (int64_t)DTYPES[e->dtype].bits, &bits) ||
        bits / 8 != end - begin)
        return MT_FAIL(MT_DATA,
                       "%s: tensor %.100s: its shape and dtype take another number of bytes than "
                       "the %" PRId64 " it has",
                       where, e->name, end - begin);
    e->begin_bytes = begin;
    e->size_bytes = end - begin;
    return MT_OK;
}

static mt_status check_metadata(const struct json_node *metadata, const char *where)
{
    const char *key;
    const struct json_node *value;
    void *iter = NULL;
    if (!json_node_is_object(metadata))
        return MT_FAIL(MT_DATA, "%s: __metadata__ is not an object", where);
    while (json_node_next(metadata, &iter, &key, &value))
        if (json_node_string(value) == NULL)
            return MT_FAIL(MT_DATA, "%s: __metadata__: %.100s is not a string", where, key);
    return MT_OK;
}

static int compare_begin(const void *a, const void *b)
{
    const struct safetensors_entry *x = a, *y = b;
    if (x->begin_bytes != y->begin_bytes)
        return x->begin_bytes < y->begin_bytes ? -1 : 1;
    if (x->size_bytes != y->size_bytes)
        return x->size_bytes < y->size_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b, void *entries)
{
    const struct safetensors_entry *e = entries;
    return strcmp(e[*(const int32_t *)a].name, e[*(const int32_t *)b].name);
}

/* Room for the entries and their names. */
static mt_status take_tables(struct safetensors *f, const struct json_node *root)
{
    const char *key;
    const struct json_node *value;
    void *iter = NULL;
    int64_t count = json_node_count(root), name_bytes = 1;
    if (count > ENTRIES_MAX)
        return MT_FAIL(MT_DATA, "%s: header names more than %d tensors", f->path, (int)ENTRIES_MAX);
    while (json_node_next(root, &iter, &key, &value)) {
        if (strlen(key) >= SAFETENSORS_NAME_BYTES)
            return MT_FAIL(MT_DATA, "%s: tensor name longer than %d bytes: %.60s...", f->path,
                           SAFETENSORS_NAME_BYTES - 1, key);
        name_bytes += (int64_t)strlen(key) + 1;
    }
    MT_TRY(mt_alloc(&f->entry, count, sizeof *f->entry, "tensor entries"));
    MT_TRY(mt_alloc(&f->by_name, count, sizeof *f->by_name, "tensor entries"));
    return mt_alloc(&f->names, name_bytes, 1, "tensor names");
}

static mt_status read_entries(struct safetensors *f, const struct json_node *root)
{
    const char *key;
    const struct json_node *value;
    void *iter = NULL;
    int64_t data_bytes = f->map.size_bytes - f->data_at, at = 0;
    if (!json_node_is_object(root))
        return MT_FAIL(MT_DATA, "%s: header is not a JSON object", f->path);
    MT_TRY(take_tables(f, root));
    for (char *name = f->names; json_node_next(root, &iter, &key, &value);) {
        if (strcmp(key, "__metadata__") == 0) {
            MT_TRY(check_metadata(value, f->path));
            continue;
        }
        size_t bytes = strlen(key) + 1;
        memcpy(name, key, bytes);
        f->entry[f->count].name = name;
        name += bytes;
        MT_TRY(read_entry(&f->entry[f->count], value, data_bytes, f->path));
        f->count++;
    }
    if (f->count > 0)
        qsort(f->entry, (size_t)f->count, sizeof *f->entry, compare_begin);
    for (int32_t i = 0; i < f->count; i++) {
        if (f->entry[i].begin_bytes != at)
            return MT_FAIL(MT_DATA, "%s: %s in the data before tensor %.100s", f->path,
                           f->entry[i].begin_bytes > at ? "a hole" : "an overlap",
                           f->entry[i].name);
        at += f->entry[i].size_bytes;
        f->by_name[i] = i;
    }
    if (at != data_bytes)
        return MT_FAIL(MT_DATA,
                       "%s: header says %" PRId64 " bytes of data, the file has %" PRId64
                       ": download it again",
                       f->path, at, data_bytes);
    if (f->count > 0)
        qsort_r(f->by_name, (size_t)f->count, sizeof *f->by_name, compare_name, f->entry);
    return MT_OK;
}

static mt_status read_header(struct safetensors *f)
{
    uint64_t length = 0;
    struct json_doc *doc = NULL;
    if (f->map.size_bytes < LENGTH_BYTES)
        return MT_FAIL(MT_DATA,
                       "%s: truncated: %" PRId64 " bytes, not even a header: download it "
                       "again",
                       f->path, f->map.size_bytes);
    memcpy(&length, f->map.bytes, LENGTH_BYTES);
    if (length > FORMAT_HEADER_MAX_BYTES)
        return MT_FAIL(MT_DATA, "%s: header of %" PRIu64 " bytes: this is not a safetensors file",
                       f->path, length);
    if (length > (uint64_t)(f->map.size_bytes - LENGTH_BYTES))
        return MT_FAIL(MT_DATA,
                       "%s: truncated: header says %" PRIu64 " bytes, file has %" PRId64
                       ": download it again",
                       f->path, length, f->map.size_bytes - LENGTH_BYTES);
    if (length > HEADER_MAX_BYTES)
        return MT_FAIL(MT_DATA, "%s: header of %" PRIu64 " bytes; at most %d are read here",
                       f->path, length, (int)HEADER_MAX_BYTES);
    const char *text = (const char *)f->map.bytes + LENGTH_BYTES;
    if (length == 0 || text[0] != '{')
        return MT_FAIL(
            MT_DATA, "%s: header does not begin with '{': this is not a safetensors file", f->path);
    f->data_at = LENGTH_BYTES + (int64_t)length;
    MT_TRY(json_doc_parse(&doc, text, (int64_t)length, f->path));
    mt_status st = read_entries(f, json_doc_root(doc));
    json_doc_destroy(&doc);
    return st;
}

mt_status safetensors_open(struct safetensors **out, const char *path)
{
    struct safetensors *f;
    MT_TRY(mt_alloc(&f, 1, sizeof *f, "a safetensors file"));
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&f->path, path), done);
    MT_TRY_GOTO(st, file_map_open(&f->map, path), done);
    MT_TRY_GOTO(st, read_header(f), done);
    *out = f;
    f = NULL;
done:
    safetensors_close(&f);
    return st;
}

void safetensors_close(struct safetensors **file)
{
    struct safetensors *f = *file;
    if (f == NULL)
        return;
    file_map_close(&f->map);
    mt_free(&f->path);
    mt_free(&f->entry);
    mt_free(&f->by_name);
    mt_free(&f->names);
    mt_free(file);
}

int32_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensors_entry *safetensors_at(const struct safetensors *file, int32_t i)
{
    return &file->entry[i];
}

const struct safetensors_entry *safetensors_by_name(const struct safetensors *file, int32_t i)
{
    return &file->entry[file->by_name[i]];
}

const char *safetensors_path(const struct safetensors *file)
{
    return file->path;
}

const void *safetensors_bytes(const struct safetensors *file, const struct safetensors_entry *e)
{
    return file->map.bytes + file->data_at + e->begin_bytes;
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name)
{
    int32_t low = 0, high = file->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        const struct safetensors_entry *e = &file->entry[file->by_name[middle]];
        int order = strcmp(name, e->name);
        if (order == 0)
            return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

float safetensors_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

float safetensors_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u;
    uint32_t fraction = bits & 1023u, wide;
    float value;
    if (exponent == 0) { /* zero and subnormal: fraction * 2^-24, exact in a float */
        value = (float)fraction * 0x1p-24f;
        memcpy(&wide, &value, sizeof wide);
        wide |= sign;
    } else {
        uint32_t widened = exponent == 31 ? 255u : exponent + 112u;
        wide = sign | widened << 23 | fraction << 13;
    }
    memcpy(&value, &wide, sizeof value);
    return value;
}

mt_status safetensors_copy_f32(const struct safetensors *file, const struct safetensors_entry *e,
                               float *dst)
{
    const unsigned char *src = safetensors_bytes(file, e);
    switch (e->dtype) { /* the data may stand at any address: element by memcpy */
    case SAFETENSORS_F32:
        if (e->size_bytes > 0)
            memcpy(dst, src, (size_t)e->size_bytes);
        return MT_OK;
    case SAFETENSORS_F64:
        for (int64_t i = 0; i < e->count; i++) {
            double value;
            memcpy(&value, src + 8 * i, sizeof value);
            dst[i] = (float)value;
        }
        return MT_OK;
    case SAFETENSORS_F16:
    case SAFETENSORS_BF16:
        for (int64_t i = 0; i < e->count; i++) {
            uint16_t bits;
            memcpy(&bits, src + 2 * i, sizeof bits);
            dst[i] = e->dtype == SAFETENSORS_F16 ? safetensors_from_f16(bits)
                                                 : safetensors_from_bf16(bits);
        }
        return MT_OK;
    default:
        return MT_FAIL(MT_DATA, "%s: tensor %.100s is %s; F64, F32, F16 and BF16 can be read",
                       file->path, e->name, DTYPES[e->dtype].name);
    }
}

static int compare_item(const void *a, const void *b)
{
    const struct safetensors_item *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int64_t item_bytes(const struct safetensors_item *item)
{
    int64_t count = 1;
    for (int32_t i = 0; i < item->ndim; i++)
        count *= item->shape[i];
    return count * (int64_t)sizeof(float);
}

static void write_header(struct json_writer *h, const struct safetensors_item **sorted,
                         int32_t count)
{
    int64_t at = 0;
    json_write_object(h, NULL);
    json_write_object(h, "__metadata__");
    json_write_string(h, "format", "pt");
    json_write_end(h);
    for (int32_t i = 0; i < count; i++) {
        int64_t end = at + item_bytes(sorted[i]);
        json_write_object(h, sorted[i]->name);
        json_write_string(h, "dtype", "F32");
        json_write_ints(h, "shape", sorted[i]->shape, sorted[i]->ndim);
        json_write_ints(h, "data_offsets", (const int64_t[]){at, end}, 2);
        json_write_end(h);
        at = end;
    }
    json_write_end(h);
}

static mt_status write_file(struct file_writer *w, const struct safetensors_item **sorted,
                            int32_t count)
{
    static const char spaces[LENGTH_BYTES] = "        ";
    struct json_writer h = {0};
    const char *text;
    int64_t bytes;
    mt_status st;
    write_header(&h, sorted, count);
    MT_TRY_GOTO(st, json_writer_finish(&h, &text, &bytes), done);
    int64_t padding = (LENGTH_BYTES - bytes % LENGTH_BYTES) % LENGTH_BYTES;
    uint64_t length = (uint64_t)(bytes + padding);
    MT_TRY_GOTO(st, file_writer_write(w, &length, LENGTH_BYTES), done);
    MT_TRY_GOTO(st, file_writer_write(w, text, bytes), done);
    MT_TRY_GOTO(st, file_writer_write(w, spaces, padding), done);
    for (int32_t i = 0; i < count; i++)
        MT_TRY_GOTO(st, file_writer_write(w, sorted[i]->data, item_bytes(sorted[i])), done);
done:
    json_writer_release(&h);
    return st;
}

mt_status safetensors_write(const char *path, const struct safetensors_item *items, int32_t count)
{
    const struct safetensors_item **sorted = NULL;
    struct file_writer w = {.fd = -1};
    mt_status st;
    MT_TRY(mt_alloc(&sorted, count, sizeof *sorted, "tensor order"));
    for (int32_t i = 0; i < count; i++)
        sorted[i] = &items[i];
    if (count > 0)
        qsort(sorted, (size_t)count, sizeof *sorted, compare_item);
    for (int32_t i = 1; i < count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            st = MT_FAIL(MT_BUG, "two tensors named %s", sorted[i]->name);
            goto done;
        }
    MT_TRY_GOTO(st, file_writer_open(&w, path), done);
    MT_TRY_GOTO(st, write_file(&w, sorted, count), done);
    MT_TRY_GOTO(st, file_writer_commit(&w), done);
done:
    file_writer_discard(&w);
    mt_free(&sorted);
    return st;
}
