/*
 * shard_format: the names in a shard file, shared by its writer and its reader (see FORMAT.md).
 */
#ifndef MT_IO_SHARD_FORMAT_H
#define MT_IO_SHARD_FORMAT_H

#define SHARD_FORMAT "mttrain-shard"

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

#endif
