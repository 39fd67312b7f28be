/*
 * shard: one ragged HDF5 file of tokenised rows with labels (the layout stands in io/FORMAT.md).
 *
 * Writing streams: rows are spooled to unnamed files beside the target, and at commit the shard is
 * made from them in one go, contiguous (or chunked and compressed), under a temporary name, and
 * renamed.  Memory does not grow with the number of rows.  Equal rows give equal bytes.
 *
 * Reading keeps offsets and labels in memory and fetches ids by pread from the place that the
 * contiguous dataset has in the file, without passing through HDF5; files with another layout or
 * number type are read through HDF5.  Rows may be read by several threads at the same time.
 *
 * Shards come from strangers: opening checks types, shapes, offsets and labels, and every id that
 * is handed out was checked against the vocabulary's size.
 */
#ifndef MT_IO_SHARD_H
#define MT_IO_SHARD_H

#include "comm/base/status.h"

enum {
    SHARD_FORMAT_VERSION = 1,
    SHARD_TASKS_MAX = 64,
    SHARD_TASK_NAME_BYTES = 64,
    SHARD_CLASSES_MAX = 1 << 16,
    SHARD_LABEL_BYTES_MAX = 1024,
    SHARD_TOKENIZER_BYTES = 256,
    SHARD_ROWS_MAX = 1 << 27,
    SHARD_ROW_TOKENS_MAX = 1 << 20
};

/* One task's column of labels. */
struct shard_task {
    char name[SHARD_TASK_NAME_BYTES]; /* no '/', not "." or ".." */
    int32_t classes;                  /* K */
    char **labels;                    /* [K] names */
};

/* What a shard says of itself. */
struct shard_info {
    int32_t version;
    int32_t vocab_size;
    uint64_t vocab_hash;
    uint64_t source_hash;  /* of the text it was made from; 0 = not known */
    uint64_t content_hash; /* see shard_content_hash; 0 = not known */
    int32_t max_tokens;    /* rows were cut to this; 0 = not known */
    bool has_types;
    bool compressed;
    char tokenizer[SHARD_TOKENIZER_BYTES]; /* its options, one line of text */
    int64_t rows, tokens;
    int64_t unknown_tokens, truncated_rows, replaced_bytes; /* -1 = not known */
    int32_t longest_row_tokens;
    int32_t task_count;
    struct shard_task *tasks; /* [task_count] sorted by name in a file; any order for a writer */
};

/* One row to write. */
struct shard_row {
    const int32_t *ids;    /* [token_count] */
    const int32_t *types;  /* [token_count] 0..255, or NULL = all 0; only kept with has_types */
    const int32_t *labels; /* [task_count] in the order of info.tasks, -1 = none */
    int32_t token_count;   /* >= 1 */
    int32_t unknown_tokens;
    int64_t replaced_bytes;
    bool truncated;
};

struct shard_writer;

/* Local.  Begins a shard.  Of `info` it takes vocab_*, source_hash, max_tokens, has_types,
 * tokenizer and tasks (copied); the rest is counted.  gzip_level 0 = contiguous, 1..9 = compressed.
 * Owns: the caller, commit or discard.  Errors: ARG, IO, NOMEM. */
mt_status shard_writer_open(struct shard_writer **out, const char *path,
                            const struct shard_info *info, int32_t gzip_level) MT_CHECKED;

/* Local.  Errors: IO, BUG (an id or label out of range). */
mt_status shard_writer_append(struct shard_writer *w, const struct shard_row *row) MT_CHECKED;

int64_t shard_writer_rows(const struct shard_writer *w);
int64_t shard_writer_tokens(const struct shard_writer *w);

/* Local.  Makes the file, atomically and durably, and releases the writer, also on failure.
 * A shard without rows is an error.  totals (may be NULL) receives the counts, without tasks. */
mt_status shard_writer_commit(struct shard_writer **w, struct shard_info *totals) MT_CHECKED;
void shard_writer_discard(struct shard_writer **w);

struct shard;

/* Local.  Opens and checks everything but the tokens, which are checked as they
 * are read.  Owns: the caller, shard_close.
 * Errors: IO, NOMEM, DATA. */
mt_status shard_open(struct shard **out, const char *path) MT_CHECKED;
void shard_close(struct shard **s);

const struct shard_info *shard_info_of(const struct shard *s); /* borrows */
const char *shard_path(const struct shard *s);

/* Position of a task in info.tasks, or -1. */
int32_t shard_find_task(const struct shard *s, const char *name);

int64_t shard_rows(const struct shard *s);
int32_t shard_length(const struct shard *s, int64_t row); /* tokens of a row, O(1) */
int64_t shard_offset(const struct shard *s, int64_t row); /* first token; row may be rows */
int32_t shard_label(const struct shard *s, int32_t task, int64_t row); /* -1 = none */

/* Local.  Tokens of rows first .. first+count-1, one after the other.  ids [sum of lengths], each
 * in 0..vocab_size-1; types the same (0 without pairs) or NULL.  Errors: ARG, IO, DATA (path, row).
 */
mt_status shard_read_rows(const struct shard *s, int64_t first, int64_t count, int32_t *ids,
                          int32_t *types) MT_CHECKED;

/* Local.  Reads every token and answers the content hash: XXH64 of rows, tokens, then the XXH64 of
 * all ids, of all types (0 without pairs) and of all lengths, then each task's name and the XXH64
 * of its labels, every number as int32 but the first two and the hashes, which are int64.  It does
 * not depend on layout or number types.  Errors: as shard_read_rows; DATA where the file carries
 * another content hash. */
mt_status shard_content_hash(const struct shard *s, uint64_t *hash) MT_CHECKED;

#endif
