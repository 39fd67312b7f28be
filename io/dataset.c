/*
 * See dataset.h.
 *
 * first_row[i] is the row number of shard i's first row; a row is found by binary search over the
 * shards, of which there is one per million rows, so in practice by one or two comparisons.
 */
#include "io/dataset.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/nearest.h"
#include "io/shard_manifest.h"

struct dataset {
    char *name;
    struct shard **shards;
    int64_t *first_row; /* [shard_count+1] once open */
    int32_t shard_count, shard_capacity;
    int64_t tokens;
    int32_t longest_row_tokens;
    bool has_types;
};

static mt_status add_shard(struct dataset *d, const char *path)
{
    if (d->shard_count == MANIFEST_SHARDS_MAX)
        return MT_FAIL(MT_DATA, "data set \"%s\" has more than %d shards", d->name,
                       MANIFEST_SHARDS_MAX);
    if (d->shard_count == d->shard_capacity) {
        int32_t grown = d->shard_capacity == 0 ? 8 : d->shard_capacity * 2;
        MT_TRY(mt_grow(&d->shards, d->shard_capacity, grown, sizeof(struct shard *), "shards"));
        d->shard_capacity = grown;
    }
    MT_TRY(shard_open(&d->shards[d->shard_count], path));
    d->shard_count++;
    return MT_OK;
}

static mt_status check_listed(const struct manifest_shard *listed, const char *path)
{
    int64_t size;
    MT_TRY(file_size(&size, path));
    if (size != listed->size_bytes)
        return MT_FAIL(MT_DATA,
                       "%s: has %lld bytes, its manifest says %lld: it is damaged or was changed; "
                       "pack the text again",
                       path, (long long)size, (long long)listed->size_bytes);
    return MT_OK;
}

static mt_status add_listed(struct dataset *d, const char *dir)
{
    struct shard_manifest m;
    MT_TRY(shard_manifest_read(&m, dir));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < m.shard_count && st == MT_OK; i++) {
        char *path;
        MT_TRY_GOTO(st, file_path_join(&path, dir, m.shards[i].file), done);
        st = check_listed(&m.shards[i], path);
        if (st == MT_OK)
            st = add_shard(d, path);
        if (st == MT_OK && shard_rows(d->shards[d->shard_count - 1]) != m.shards[i].rows)
            st = MT_FAIL(MT_DATA, "%s: has other rows than its manifest says; pack the text again",
                         path);
        mt_free(&path);
    }
done:
    shard_manifest_release(&m);
    return st;
}

static mt_status add_folder(struct dataset *d, const char *dir)
{
    char *path;
    struct file_list list;
    int32_t before = d->shard_count;
    MT_TRY(file_path_join(&path, dir, MANIFEST_FILE));
    bool listed = file_exists(path);
    mt_free(&path);
    if (listed)
        return add_listed(d, dir);
    MT_TRY(file_list_read(&list, dir));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < list.count && st == MT_OK; i++) {
        if (!file_path_has_extension(list.names[i], ".h5"))
            continue;
        MT_TRY_GOTO(st, file_path_join(&path, dir, list.names[i]), done);
        st = add_shard(d, path);
        mt_free(&path);
    }
    if (st == MT_OK && d->shard_count == before)
        st = MT_FAIL(MT_DATA, "%s: this folder holds neither a %s nor .h5 shards", dir,
                     MANIFEST_FILE);
done:
    file_list_release(&list);
    return st;
}

static mt_status add_path(struct dataset *d, const char *path)
{
    if (file_is_dir(path))
        return add_folder(d, path);
    if (strcmp(file_path_base(path), MANIFEST_FILE) == 0) {
        char *dir;
        MT_TRY(file_path_dir(&dir, path));
        mt_status st = add_listed(d, dir);
        mt_free(&dir);
        return st;
    }
    if (file_exists(path) || strpbrk(path, "*?[") == NULL)
        return add_shard(d, path);
    glob_t found;
    int answer = glob(path, 0, NULL, &found);
    if (answer == GLOB_NOMATCH)
        return MT_FAIL(MT_DATA, "%s: no file matches; check the pattern", path);
    if (answer != 0)
        return MT_FAIL(MT_IO, "%s: cannot list the files that match", path);
    mt_status st = MT_OK;
    for (size_t i = 0; i < found.gl_pathc && st == MT_OK; i++)
        st = file_is_dir(found.gl_pathv[i]) ? add_folder(d, found.gl_pathv[i])
                                            : add_shard(d, found.gl_pathv[i]);
    globfree(&found);
    return st;
}

static bool same_tasks(const struct shard_info *a, const struct shard_info *b)
{
    if (a->task_count != b->task_count)
        return false;
    for (int32_t t = 0; t < a->task_count; t++) {
        const struct shard_task *x = &a->tasks[t], *y = &b->tasks[t];
        if (strcmp(x->name, y->name) != 0 || x->classes != y->classes)
            return false;
        for (int32_t k = 0; k < x->classes; k++)
            if (strcmp(x->labels[k], y->labels[k]) != 0)
                return false;
    }
    return true;
}

static mt_status join_shards(struct dataset *d)
{
    MT_TRY(mt_alloc(&d->first_row, (int64_t)d->shard_count + 1, sizeof *d->first_row, "shards"));
    const struct shard_info *first = shard_info_of(d->shards[0]);
    for (int32_t i = 0; i < d->shard_count; i++) {
        const struct shard_info *info = shard_info_of(d->shards[i]);
        const char *differ = NULL;
        if (info->vocab_hash != first->vocab_hash || info->vocab_size != first->vocab_size)
            differ = "vocabularies";
        else if (!same_tasks(info, first))
            differ = "tasks or label names";
        if (differ != NULL)
            return MT_FAIL(
                MT_DATA, "data set \"%s\": %s and %s have different %s; pack their texts together",
                d->name, shard_path(d->shards[0]), shard_path(d->shards[i]), differ);
        d->first_row[i + 1] = d->first_row[i] + info->rows;
        d->tokens += info->tokens;
        d->has_types = d->has_types || info->has_types;
        if (info->longest_row_tokens > d->longest_row_tokens)
            d->longest_row_tokens = info->longest_row_tokens;
    }
    return MT_OK;
}

mt_status dataset_open(struct dataset **out, const char *name, const char *const *paths,
                       int32_t path_count)
{
    struct dataset *d;
    MT_TRY(mt_alloc(&d, 1, sizeof *d, "data set"));
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&d->name, name), done);
    for (int32_t i = 0; i < path_count; i++)
        MT_TRY_GOTO(st, add_path(d, paths[i]), done);
    if (d->shard_count == 0) {
        st = MT_FAIL(MT_DATA, "data set \"%s\" names no files", name);
        goto done;
    }
    MT_TRY_GOTO(st, join_shards(d), done);
    *out = d;
done:
    if (st != MT_OK)
        dataset_close(&d);
    return st;
}

void dataset_close(struct dataset **dataset)
{
    struct dataset *d = *dataset;
    if (d == NULL)
        return;
    for (int32_t i = 0; i < d->shard_count; i++)
        shard_close(&d->shards[i]);
    mt_free(&d->shards);
    mt_free(&d->first_row);
    mt_free(&d->name);
    mt_free(dataset);
}

const char *dataset_name(const struct dataset *d)
{
    return d->name;
}

int64_t dataset_rows(const struct dataset *d)
{
    return d->first_row[d->shard_count];
}

int64_t dataset_tokens(const struct dataset *d)
{
    return d->tokens;
}

int32_t dataset_longest_row_tokens(const struct dataset *d)
{
    return d->longest_row_tokens;
}

bool dataset_has_types(const struct dataset *d)
{
    return d->has_types;
}

/* The shard that holds a row of the data set, and its number there. */
static int32_t find_row(const struct dataset *d, int64_t row, int64_t *row_in_shard)
{
    int32_t low = 0, high = d->shard_count;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (d->first_row[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    *row_in_shard = row - d->first_row[low];
    return low;
}

int32_t dataset_length(const struct dataset *d, int64_t row)
{
    int64_t at;
    int32_t i = find_row(d, row, &at);
    return shard_length(d->shards[i], at);
}

int32_t dataset_task_count(const struct dataset *d)
{
    return shard_info_of(d->shards[0])->task_count;
}

const struct shard_task *dataset_task(const struct dataset *d, int32_t task)
{
    return &shard_info_of(d->shards[0])->tasks[task];
}

int32_t dataset_find_task(const struct dataset *d, const char *name)
{
    return shard_find_task(d->shards[0], name);
}

int32_t dataset_label(const struct dataset *d, int32_t task, int64_t row)
{
    int64_t at;
    int32_t i = find_row(d, row, &at);
    return shard_label(d->shards[i], task, at);
}

int64_t dataset_labelled_rows(const struct dataset *d, int32_t task)
{
    int64_t count = 0;
    for (int32_t i = 0; i < d->shard_count; i++)
        for (int64_t row = 0; row < shard_rows(d->shards[i]); row++)
            count += shard_label(d->shards[i], task, row) >= 0;
    return count;
}

int32_t dataset_vocab_size(const struct dataset *d)
{
    return shard_info_of(d->shards[0])->vocab_size;
}

uint64_t dataset_vocab_hash(const struct dataset *d)
{
    return shard_info_of(d->shards[0])->vocab_hash;
}

int32_t dataset_shard_count(const struct dataset *d)
{
    return d->shard_count;
}

const struct shard *dataset_shard(const struct dataset *d, int32_t shard)
{
    return d->shards[shard];
}

void dataset_locate(const struct dataset *d, int64_t row, char *text, size_t text_bytes)
{
    int64_t at;
    int32_t i = find_row(d, row, &at);
    (void)snprintf(text, text_bytes, "%s: row %lld", shard_path(d->shards[i]), (long long)at);
}

mt_status dataset_check_vocab(const struct dataset *d, uint64_t vocab_hash, int32_t vocab_size,
                              const char *vocab_path)
{
    if (dataset_vocab_hash(d) == vocab_hash && dataset_vocab_size(d) == vocab_size)
        return MT_OK;
    return MT_FAIL(MT_DATA,
                   "data set \"%s\": %s was packed with a vocabulary of %d tokens (hash %016llx), "
                   "but %s has %d (hash %016llx); pack the text again with this vocabulary, or "
                   "name the model that the shards were made for",
                   d->name, shard_path(d->shards[0]), dataset_vocab_size(d),
                   (unsigned long long)dataset_vocab_hash(d), vocab_path, vocab_size,
                   (unsigned long long)vocab_hash);
}

mt_status dataset_check_labels(const struct dataset *d, const char *task, const char *const *labels,
                               int32_t classes)
{
    int32_t t = dataset_find_task(d, task);
    const char *path = shard_path(d->shards[0]);
    if (t < 0)
        return MT_FAIL(MT_DATA,
                       "data set \"%s\": %s has no labels for task \"%s\"; pack the text "
                       "again with that column",
                       d->name, path, task);
    const struct shard_task *found = dataset_task(d, t);
    bool same = found->classes == classes;
    for (int32_t k = 0; same && k < classes; k++)
        same = strcmp(found->labels[k], labels[k]) == 0;
    if (same)
        return MT_OK;
    char stored[NEAREST_TEXT_BYTES], wanted[NEAREST_TEXT_BYTES];
    nearest_list(stored, (const char *const *)found->labels, found->classes);
    nearest_list(wanted, labels, classes);
    return MT_FAIL(MT_DATA,
                   "data set \"%s\": %s has other labels for task \"%s\" (%s) than the job "
                   "(%s); give the job these labels in this order, or pack the text again",
                   d->name, path, task, stored, wanted);
}

mt_status dataset_read_rows(const struct dataset *d, int64_t first, int64_t count, int32_t *ids,
                            int32_t *types)
{
    if (first < 0 || count < 0 || first > dataset_rows(d) - count)
        return MT_FAIL(MT_ARG, "data set \"%s\": %lld rows from %lld of %lld were asked for",
                       d->name, (long long)count, (long long)first, (long long)dataset_rows(d));
    while (count > 0) {
        int64_t at;
        const struct shard *s = d->shards[find_row(d, first, &at)];
        int64_t n = shard_rows(s) - at < count ? shard_rows(s) - at : count;
        int64_t tokens = shard_offset(s, at + n) - shard_offset(s, at);
        MT_TRY(shard_read_rows(s, at, n, ids, types));
        ids += tokens;
        types = types != NULL ? types + tokens : NULL;
        first += n;
        count -= n;
    }
    return MT_OK;
}

mt_status dataset_append(const struct dataset *d, struct batch *b, int32_t set, int64_t row)
{
    if (row < 0 || row >= dataset_rows(d))
        return MT_FAIL(MT_ARG, "data set \"%s\" has no row %lld", d->name, (long long)row);
    int32_t length = dataset_length(d, row);
    if (b->B == b->sentence_capacity || length > b->token_capacity - b->N)
        return MT_FAIL(MT_BUG, "a batch for %d sentences and %d tokens is full",
                       b->sentence_capacity, b->token_capacity);
    MT_TRY(dataset_read_rows(d, row, 1, b->ids + b->N, b->types + b->N));
    b->offsets[b->B] = b->N;
    b->N += length;
    b->offsets[b->B + 1] = b->N;
    b->sample[b->B] = (int64_t)set << 40 | row;
    for (int32_t t = 0; t < b->task_count; t++)
        batch_labels(b, t)[b->B] = -1;
    b->B++;
    return MT_OK;
}

mt_status dataset_content_hash(const struct dataset *d, uint64_t *hash)
{
    struct hash64 sum;
    hash64_init(&sum, 0);
    hash64_add_int(&sum, dataset_vocab_size(d));
    hash64_add_int(&sum, (int64_t)dataset_vocab_hash(d));
    for (int32_t i = 0; i < d->shard_count; i++) {
        uint64_t part;
        MT_TRY(shard_content_hash(d->shards[i], &part));
        hash64_add_int(&sum, (int64_t)part);
    }
    *hash = hash64_value(&sum);
    return MT_OK;
}
