/*
 * The reading half of shard.h.
 *
 * The library finds the datasets (shard_load.c); the bytes of a contiguous one are then fetched by
 * pread, one call a row, with no lock and no state, so that a batch of random rows costs
 * microseconds and a file that is cut short meanwhile is an error and not a signal (as it would be
 * with mmap).  Everything else, such as compressed files of other programs, goes through H5Dread
 * under the library's lock.
 *
 * Offsets are kept as uint32 and labels in 1, 2 or 4 bytes: a row with one task costs 5 bytes.
 */
#include "io/shard.h"

#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/h5_lock.h"
#include "io/shard_format.h"

enum { BLOCK = 32 << 10, DIRECT_BYTES = 8 << 10 };

static const char MEND[] = SHARD_MEND;

mt_status shard_open(struct shard **out, const char *path)
{
    struct shard *s;
    MT_TRY(mt_alloc(&s, 1, sizeof *s, "shard"));
    s->fd = -1;
    s->file = s->ids.dataset = s->types.dataset = -1;
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&s->path, path), done);
    MT_TRY_GOTO(st, file_fd_open(&s->fd, &s->file_bytes, path), done);
    h5_enter();
    st = shard_load(s);
    h5_leave();
done:
    if (st == MT_OK)
        *out = s;
    else
        shard_close(&s);
    return st;
}

void shard_close(struct shard **shard)
{
    struct shard *s = *shard;
    if (s == NULL)
        return;
    if (s->file >= 0) {
        h5_enter();
        if (s->ids.dataset >= 0)
            (void)H5Dclose(s->ids.dataset);
        if (s->types.dataset >= 0)
            (void)H5Dclose(s->types.dataset);
        (void)H5Fclose(s->file);
        (void)H5Eclear2(H5E_DEFAULT);
        h5_leave();
    }
    file_fd_close(&s->fd);
    for (int32_t t = 0; t < s->info.task_count; t++) {
        struct shard_task *task = &s->info.tasks[t];
        for (int32_t k = 0; task->labels != NULL && k < task->classes; k++)
            mt_free(&task->labels[k]);
        mt_free(&task->labels);
        mt_free(&s->labels[t].values);
    }
    mt_free(&s->info.tasks);
    mt_free(&s->labels);
    mt_free(&s->offsets);
    mt_free(&s->path);
    mt_free(shard);
}

const struct shard_info *shard_info_of(const struct shard *s)
{
    return &s->info;
}

const char *shard_path(const struct shard *s)
{
    return s->path;
}

int32_t shard_find_task(const struct shard *s, const char *name)
{
    for (int32_t t = 0; t < s->info.task_count; t++)
        if (strcmp(s->info.tasks[t].name, name) == 0)
            return t;
    return -1;
}

int64_t shard_rows(const struct shard *s)
{
    return s->info.rows;
}

int32_t shard_length(const struct shard *s, int64_t row)
{
    return (int32_t)(s->offsets[row + 1] - s->offsets[row]);
}

int64_t shard_offset(const struct shard *s, int64_t row)
{
    return s->offsets[row];
}

int32_t shard_label(const struct shard *s, int32_t task, int64_t row)
{
    const struct label_column *c = &s->labels[task];
    if (c->width == 1)
        return ((const int8_t *)c->values)[row];
    if (c->width == 2)
        return ((const int16_t *)c->values)[row];
    return ((const int32_t *)c->values)[row];
}

static mt_status read_direct(const struct shard *s, const struct column *c, int64_t first,
                             int64_t count, int32_t *values)
{
    union {
        uint8_t one[DIRECT_BYTES];
        uint16_t two[DIRECT_BYTES / 2];
        int32_t four[DIRECT_BYTES / 4];
    } raw;
    int64_t most = DIRECT_BYTES / c->width;
    for (int64_t at = 0, n; at < count; at += n) {
        n = count - at < most ? count - at : most;
        MT_TRY(
            file_fd_read_at(s->fd, &raw, n * c->width, c->at + (first + at) * c->width, s->path));
        for (int64_t i = 0; i < n; i++)
            values[at + i] = c->width == 1 ? raw.one[i] : c->width == 2 ? raw.two[i] : raw.four[i];
    }
    return MT_OK;
}

static mt_status read_column(const struct shard *s, const struct column *c, int64_t first,
                             int64_t count, int32_t *values)
{
    if (c->dataset < 0)
        return read_direct(s, c, first, count, values);
    h5_enter();
    mt_status st = shard_read_block(s, c->dataset, H5T_NATIVE_INT32, first, count, values);
    h5_leave();
    return st;
}

/* Position of the first value outside 0..limit-1, or -1. */
static int64_t find_outside(const int32_t *values, int64_t count, int32_t limit)
{
    for (int64_t i = 0; i < count; i++)
        if (values[i] < 0 || values[i] >= limit)
            return i;
    return -1;
}

static int64_t row_of_token(const struct shard *s, int64_t token)
{
    int64_t low = 0, high = s->info.rows;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (s->offsets[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static mt_status read_tokens(const struct shard *s, int64_t first, int64_t count, int32_t *ids,
                             int32_t *types)
{
    MT_TRY(read_column(s, &s->ids, first, count, ids));
    int64_t at = find_outside(ids, count, s->info.vocab_size);
    if (at >= 0)
        return MT_FAIL(MT_DATA, "%s: row %lld: token id %d, but the vocabulary has %d; %s", s->path,
                       (long long)row_of_token(s, first + at), ids[at], s->info.vocab_size, MEND);
    if (types == NULL)
        return MT_OK;
    if (!s->info.has_types) {
        memset(types, 0, (size_t)count * sizeof *types);
        return MT_OK;
    }
    MT_TRY(read_column(s, &s->types, first, count, types));
    at = find_outside(types, count, 2);
    if (at >= 0)
        return MT_FAIL(MT_DATA, "%s: row %lld: token type %d is neither 0 nor 1; %s", s->path,
                       (long long)row_of_token(s, first + at), types[at], MEND);
    return MT_OK;
}

mt_status shard_read_rows(const struct shard *s, int64_t first, int64_t count, int32_t *ids,
                          int32_t *types)
{
    if (first < 0 || count < 0 || first > s->info.rows - count)
        return MT_FAIL(MT_ARG, "%s: %lld rows from %lld of %lld were asked for", s->path,
                       (long long)count, (long long)first, (long long)s->info.rows);
    if (count == 0)
        return MT_OK;
    int64_t begin = s->offsets[first];
    return read_tokens(s, begin, s->offsets[first + count] - begin, ids, types);
}

static mt_status hash_tokens(const struct shard *s, uint64_t *ids_hash, uint64_t *types_hash)
{
    struct hash64 ids_sum, types_sum;
    int32_t *ids, *types;
    hash64_init(&ids_sum, 0);
    hash64_init(&types_sum, 0);
    MT_TRY(mt_alloc(&ids, 2 * (int64_t)BLOCK, sizeof *ids, "tokens"));
    types = s->info.has_types ? ids + BLOCK : NULL;
    mt_status st = MT_OK;
    for (int64_t at = 0, n; at < s->info.tokens; at += n) {
        n = s->info.tokens - at < BLOCK ? s->info.tokens - at : BLOCK;
        MT_TRY_GOTO(st, read_tokens(s, at, n, ids, types), done);
        hash64_add(&ids_sum, ids, n * 4);
        if (types != NULL)
            hash64_add(&types_sum, types, n * 4);
    }
    *ids_hash = hash64_value(&ids_sum);
    *types_hash = types != NULL ? hash64_value(&types_sum) : 0;
done:
    mt_free(&ids);
    return st;
}

mt_status shard_content_hash(const struct shard *s, uint64_t *hash)
{
    const struct shard_info *info = &s->info;
    uint64_t ids, types;
    struct hash64 sum, part;
    MT_TRY(hash_tokens(s, &ids, &types));
    hash64_init(&sum, 0);
    hash64_add_int(&sum, info->rows);
    hash64_add_int(&sum, info->tokens);
    hash64_add_int(&sum, (int64_t)ids);
    hash64_add_int(&sum, (int64_t)types);
    hash64_init(&part, 0);
    for (int64_t row = 0; row < info->rows; row++) {
        int32_t length = shard_length(s, row);
        hash64_add(&part, &length, sizeof length);
    }
    hash64_add_int(&sum, (int64_t)hash64_value(&part));
    for (int32_t t = 0; t < info->task_count; t++) {
        hash64_init(&part, 0);
        for (int64_t row = 0; row < info->rows; row++) {
            int32_t label = shard_label(s, t, row);
            hash64_add(&part, &label, sizeof label);
        }
        hash64_add_string(&sum, info->tasks[t].name);
        hash64_add_int(&sum, (int64_t)hash64_value(&part));
    }
    uint64_t found = hash64_value(&sum);
    if (info->content_hash != 0 && found != info->content_hash)
        return MT_FAIL(MT_DATA,
                       "%s: its content does not have the hash that it carries: it is "
                       "damaged or was changed; %s",
                       s->path, MEND);
    *hash = found;
    return MT_OK;
}
