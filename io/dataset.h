/*
 * dataset: shard files of one data set, seen as one row space 0 .. rows-1.
 *
 * Paths are taken in the order given; what a glob or a folder stands for is sorted by name, and a
 * folder with a manifest.json by the manifest's list.  All shards must agree on vocabulary, tasks
 * and label names.  Reading is safe from several threads.
 */
#ifndef MT_IO_DATASET_H
#define MT_IO_DATASET_H

#include "io/batch.h"
#include "io/shard.h"

struct dataset;

/* Local.  Opens every shard; `name` is used in messages.  Owns: the caller, dataset_close.
 * Errors: IO, NOMEM, DATA (nothing matches, shards that disagree, a file cut short). */
mt_status dataset_open(struct dataset **out, const char *name, const char *const *paths,
                       int32_t path_count) MT_CHECKED;
void dataset_close(struct dataset **d);

const char *dataset_name(const struct dataset *d);
int64_t dataset_rows(const struct dataset *d);
int64_t dataset_tokens(const struct dataset *d);
int32_t dataset_longest_row_tokens(const struct dataset *d);
int32_t dataset_length(const struct dataset *d, int64_t row); /* tokens; O(log shards) */
bool dataset_has_types(const struct dataset *d);

int32_t dataset_task_count(const struct dataset *d);
const struct shard_task *dataset_task(const struct dataset *d, int32_t task); /* borrows */
int32_t dataset_find_task(const struct dataset *d, const char *name);         /* -1 = none */
int32_t dataset_label(const struct dataset *d, int32_t task, int64_t row);    /* -1 = none */
int64_t dataset_labelled_rows(const struct dataset *d, int32_t task);

int32_t dataset_vocab_size(const struct dataset *d);
uint64_t dataset_vocab_hash(const struct dataset *d);
int32_t dataset_shard_count(const struct dataset *d);
const struct shard *dataset_shard(const struct dataset *d, int32_t shard); /* borrows */

/* Local.  Where a row stands, for messages: "path: row 17". */
void dataset_locate(const struct dataset *d, int64_t row, char *text, size_t text_bytes);

/* Local.  DATA unless the shards were made with this vocabulary; names the shard, both hashes and
 * the mend. */
mt_status dataset_check_vocab(const struct dataset *d, uint64_t vocab_hash, int32_t vocab_size,
                              const char *vocab_path) MT_CHECKED;

/* Local.  DATA unless task `task` exists and has exactly these K label names in this order. */
mt_status dataset_check_labels(const struct dataset *d, const char *task, const char *const *labels,
                               int32_t classes) MT_CHECKED;

/* Local.  Tokens of rows first .. first+count-1; as shard_read_rows, across shards. */
mt_status dataset_read_rows(const struct dataset *d, int64_t first, int64_t count, int32_t *ids,
                            int32_t *types) MT_CHECKED;

/* Local.  Adds a row to a batch as its last sentence: ids, types, offsets and sample (set << 40 |
 * row); its labels are set to -1 for every task of the batch.  An empty batch has B = N = 0.
 * Errors: BUG where the batch is full; as shard_read_rows. */
mt_status dataset_append(const struct dataset *d, struct batch *b, int32_t set,
                         int64_t row) MT_CHECKED;

/* Local.  One hash of all ids, types, lengths and labels and of the vocabulary: reads everything
 * once.  Two data sets with the same shards in the same order have the same.  Errors: as
 * shard_content_hash. */
mt_status dataset_content_hash(const struct dataset *d, uint64_t *hash) MT_CHECKED;

#endif
