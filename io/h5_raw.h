/*
 * h5_raw: HDF5 files whose arrays are plain stretches of bytes at known offsets.
 *
 * The HDF5 library lays the file out (contiguous datasets, allocated early, never filled) and
 * closes it; the numbers are then written with pwrite at the offsets it answers, from any thread,
 * in any order, with every failure in our own hands and without the library's lock.
 */
#ifndef MT_IO_H5_RAW_H
#define MT_IO_H5_RAW_H

#include "comm/base/status.h"

enum h5_kind { H5_KIND_F32, H5_KIND_I32 }; /* little-endian, 4 bytes */

enum { H5_PATH_BYTES = 192 };

/* A dataset to lay out; groups on its path are made. */
struct h5_item {
    char path[H5_PATH_BYTES]; /* "/params/pooler.dense.weight" */
    enum h5_kind kind;
    int32_t ndim; /* 1 or 2 */
    int64_t shape[2];
    int64_t offset_bytes; /* answered: where in the file its first element lies; 0 if it is empty */
};

/* An attribute: text, or a number where text is NULL. */
struct h5_attribute {
    const char *object; /* "/" or a dataset's path */
    const char *name;
    const char *text;
    int64_t number;
};

/* A link to an object of another file, by a path relative to this file's folder. */
struct h5_link {
    char path[H5_PATH_BYTES];
    const char *file, *object;
};

struct h5_layout {
    struct h5_item *items;
    int32_t item_count;
    const struct h5_attribute *attributes;
    int32_t attribute_count;
    const struct h5_link *links;
    int32_t link_count;
};

/* Local.  Creates path (replacing it) with this layout and answers each item's offset_bytes; the
 * file is as long as its last array needs, the arrays read as zeros.  Not durable.  Errors: IO. */
mt_status h5_raw_create(const char *path, struct h5_layout *layout) MT_CHECKED;

#endif
