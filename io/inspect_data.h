/*
 * inspect_data: what a shard, a manifest or a folder of shards holds, as text for a person.
 */
#ifndef MT_IO_INSPECT_DATA_H
#define MT_IO_INSPECT_DATA_H

#include <stdio.h>

#include "comm/base/status.h"

/* Local.  Whether the path looks like packed data: a .h5 shard, a manifest.json of ours, or a
 * folder with either. */
bool inspect_data_is(const char *path);

/* Local.  Counts, length histogram, label balance per task, unknown-token and truncation rates,
 * vocabulary hash, format version.  With with_hash every token is read and checked and the content
 * hash is printed.  Errors: as dataset_open, dataset_content_hash. */
mt_status inspect_data_print(FILE *out, const char *path, bool with_hash) MT_CHECKED;

#endif
