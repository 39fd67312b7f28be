/*
 * label_set: label names of one task and their numbers, looked up by hash.
 */
#ifndef MT_IO_LABEL_SET_H
#define MT_IO_LABEL_SET_H

#include "comm/base/status.h"

struct label_set {
    char **names; /* [count] number -> name */
    int32_t count, capacity;
    int32_t *slots; /* [slot_count] open addressing; a number or -1 */
    int32_t slot_count;
};

/* Local.  The number of a name of `bytes` bytes, or -1. */
int32_t label_set_find(const struct label_set *s, const char *name, int64_t bytes);

/* Local.  Adds a name that is not there yet as number `count`.  Errors: NOMEM; DATA for more than
 * SHARD_CLASSES_MAX names, or one of more than SHARD_LABEL_BYTES_MAX bytes. */
mt_status label_set_add(struct label_set *s, const char *name, int64_t bytes) MT_CHECKED;

/* Local.  Renumbers the names in ascending order: by value where all are whole numbers, otherwise
 * by bytes.  So the numbers do not depend on the order of the rows. */
void label_set_sort(struct label_set *s);

/* Local.  Accepts a zeroed set. */
void label_set_release(struct label_set *s);

#endif
