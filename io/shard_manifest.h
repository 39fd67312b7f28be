/*
 * shard_manifest: the list that stands beside packed shards as manifest.json (see FORMAT.md).
 */
#ifndef MT_IO_SHARD_MANIFEST_H
#define MT_IO_SHARD_MANIFEST_H

#include "comm/base/status.h"
#include "io/file.h"

#define MANIFEST_FILE "manifest.json"
#define MANIFEST_FORMAT "mttrain-shards"

enum { MANIFEST_VERSION = 1, MANIFEST_NAME_BYTES = 32, MANIFEST_SHARDS_MAX = 1 << 20 };

struct manifest_shard {
    char file[MANIFEST_NAME_BYTES]; /* a name within the folder */
    int64_t rows, tokens, size_bytes;
    uint64_t hash; /* XXH64 of the file */
};

struct manifest_source {
    char *path; /* as it was given */
    int64_t size_bytes;
    uint64_t hash;
};

struct shard_info;
struct pack_options;

struct shard_manifest {
    struct manifest_shard *shards;
    int32_t shard_count, shard_capacity;
    struct manifest_source *sources;
    int32_t source_count;
};

/* Local.  Adds a shard to the list. */
mt_status shard_manifest_add(struct shard_manifest *m, const struct manifest_shard *s) MT_CHECKED;

/* Local.  Writes DIR/manifest.json: the lists, the options of the packing and the totals (rows,
 * tokens, ..., vocabulary and tasks of `info`).  Errors: IO, NOMEM. */
mt_status shard_manifest_write(const struct shard_manifest *m, const char *dir,
                               const struct pack_options *options,
                               const struct shard_info *info) MT_CHECKED;

/* Local.  Reads the two lists.  Owns them until release.  Errors: IO, DATA, NOMEM. */
mt_status shard_manifest_read(struct shard_manifest *m, const char *dir) MT_CHECKED;

/* Local.  Whether the folder's shards are those of its manifest, byte for byte; reads all of them.
 * go_on: file.h, NULL = never asked.  Errors: DATA naming what is damaged or absent; IO, NOMEM,
 * STOPPED. */
mt_status shard_manifest_verify(const char *dir, file_go_on go_on, void *context) MT_CHECKED;
void shard_manifest_release(struct shard_manifest *m);

#endif
