/*
 * shard_format: what the writer and the reader of shards share: the names in the file (FORMAT.md)
 * and an open shard's insides.
 */
#ifndef MT_IO_SHARD_FORMAT_H
#define MT_IO_SHARD_FORMAT_H

#include <hdf5.h>

#include "io/shard.h"

#define SHARD_FORMAT "mttrain-shard"
#define SHARD_MEND "make it again with \"mttrain pack\""

#define SHARD_IDS "input_ids"
#define SHARD_OFFSETS "offsets"
#define SHARD_TYPES "token_type_ids"
#define SHARD_LABELS "labels"
#define SHARD_NAMES "names" /* attribute of labels/TASK */

/* Attributes of the root group. */
#define SHARD_A_FORMAT "format"
#define SHARD_A_VERSION "version"
#define SHARD_A_VOCAB_SIZE "vocab_size"
#define SHARD_A_VOCAB_HASH "vocab_hash"
#define SHARD_A_SOURCE_HASH "source_hash"
#define SHARD_A_CONTENT_HASH "content_hash"
#define SHARD_A_TOKENIZER "tokenizer"
#define SHARD_A_MAX_TOKENS "max_tokens"
#define SHARD_A_ROWS "rows"
#define SHARD_A_TOKENS "tokens"
#define SHARD_A_UNKNOWN "unknown_tokens"
#define SHARD_A_TRUNCATED "truncated_rows"
#define SHARD_A_REPLACED "replaced_bytes"

/* A dataset of token numbers. */
struct column {
    hid_t dataset; /* -1 = read directly, or absent */
    int64_t at;    /* of its first byte in the file, when read directly */
    int32_t width; /* bytes of a number, when read directly */
};

struct label_column {
    void *values; /* [rows] of int8_t, int16_t or int32_t */
    int32_t width;
};

struct shard {
    char *path;
    int fd;
    hid_t file; /* -1 = closed: all columns are read directly */
    int64_t file_bytes;
    struct shard_info info;
    struct column ids, types;
    uint32_t *offsets; /* [rows+1] */
    struct label_column *labels;
};

/* Local.  Opens s->path in the library, checks it, fills info, offsets, labels and the places of
 * the columns; leaves s->file open only where a column must be read through the library.  Between
 * h5_enter and h5_leave; shard_close releases, also after a failure.  Errors: as shard_open. */
mt_status shard_load(struct shard *s) MT_CHECKED;

/* Local.  Values first .. first+count-1 of a dataset, converted to the memory type.  Between
 * h5_enter and h5_leave.  Errors: DATA. */
mt_status shard_read_block(const struct shard *s, hid_t dataset, hid_t type, int64_t first,
                           int64_t count, void *values) MT_CHECKED;

#endif
