/*
 * pack: text tables -> tokens -> shards and a manifest, in a folder that is complete or absent.
 *
 * Rows keep their order: files in the order given, shards cut every shard_rows rows or shard_tokens
 * tokens, named shard-00000.h5, shard-00001.h5, ...  The folder is built as "DIR.tmp-PID" and
 * renamed at the end.  Memory does not grow with the files.  Equal input gives equal bytes.
 *
 * Label text is trimmed of spaces.  A missing or empty label is -1.  Where a job names the labels,
 * any other is an error; where it does not, they are learned and sorted (label_set.h), by a
 * pass over the files that comes before the packing.
 */
#ifndef MT_IO_PACK_H
#define MT_IO_PACK_H

#include "comm/base/status.h"
#include "io/file.h"
#include "io/text_table.h"

struct vocab;

struct pack_label {
    const char *task;
    const char *column;
    const char *const *names; /* [name_count] allowed labels; NULL = learn them */
    int32_t name_count;
};

/* Called now and then with bytes of text done and in all, and rows packed. */
typedef void (*pack_progress)(void *context, int64_t done_bytes, int64_t total_bytes, int64_t rows);

struct pack_options {
    const char *text_column; /* NULL = "text", or "sentence", or "0" without a header */
    const char *pair_column; /* NULL = no pairs */
    const struct pack_label *labels;
    int32_t label_count;  /* 0 .. SHARD_TASKS_MAX */
    int32_t max_tokens;   /* of a row, [CLS] and [SEP] included; 0 = 512 */
    int32_t gzip_level;   /* 0 = contiguous */
    int64_t shard_rows;   /* 0 = 1 Mi */
    int64_t shard_tokens; /* 0 = 64 Mi */
    struct text_format format;
    pack_progress progress; /* NULL = none */
    void *progress_context;
    file_go_on go_on; /* NULL = never asked */
    void *go_on_context;
};

struct pack_result {
    int64_t rows, tokens, unknown_tokens, truncated_rows, replaced_bytes;
    int32_t shard_count;
};

/* Local.  Packs `files` into folder `out_dir`, which must not exist (or must be an empty folder).
 * result may be NULL.  Errors: ARG, IO, NOMEM, DATA (file:line; also where there is no row);
 * STOPPED by go_on, with nothing left of the folder. */
mt_status pack_files(const struct pack_options *options, const struct vocab *vocab,
                     const char *const *files, int32_t file_count, const char *out_dir,
                     struct pack_result *result) MT_CHECKED;

/* Local.  The cache key of a packing: files' hashes, vocabulary and options (not the
 * files' names).  Reads the files once.  Errors: IO, STOPPED. */
mt_status pack_key(const struct pack_options *options, const struct vocab *vocab,
                   const char *const *files, int32_t file_count, uint64_t *key) MT_CHECKED;

#endif
