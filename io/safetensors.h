/*
 * safetensors: named tensors in one file, mapped for reading and streamed for writing.
 *
 * A file is checked whole when it is opened: header size, JSON, dtypes, shapes, offsets without
 * hole or overlap, exact file size.  After that a tensor's bytes lie where its entry says.
 * Format: github.com/huggingface/safetensors, README.md "Format" and safetensors/src/tensor.rs.
 */
#ifndef MT_IO_SAFETENSORS_H
#define MT_IO_SAFETENSORS_H

#include "comm/base/status.h"

/* name in the file, bits of an element, alignment rank is the same number */
#define SAFETENSORS_DTYPE_LIST(X)                                                                  \
    X(F64, 64)                                                                                     \
    X(I64, 64)                                                                                     \
    X(U64, 64)                                                                                     \
    X(F32, 32)                                                                                     \
    X(I32, 32)                                                                                     \
    X(U32, 32)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(F16, 16)                                                                                     \
    X(I16, 16)                                                                                     \
    X(U16, 16)                                                                                     \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E4M3, 8)                                                                                  \
    X(I8, 8)                                                                                       \
    X(U8, 8)                                                                                       \
    X(BOOL, 8)

enum safetensors_dtype {
#define X(name, bits) SAFETENSORS_##name,
    SAFETENSORS_DTYPE_LIST(X)
#undef X
        SAFETENSORS_DTYPE_COUNT
};

enum { SAFETENSORS_DIMS_MAX = 8, SAFETENSORS_NAME_BYTES = 256 };

struct safetensors_entry {
    const char *name; /* borrowed from the file's record */
    enum safetensors_dtype dtype;
    int32_t ndim;
    int64_t shape[SAFETENSORS_DIMS_MAX];
    int64_t count;       /* elements: the product of shape, 1 for a scalar */
    int64_t begin_bytes; /* in the data part */
    int64_t size_bytes;
};

struct safetensors; /* an open file */

/* Local.  Maps and checks a file.  Owns: the caller, until safetensors_close; entries and their
 * names live as long.  Errors: IO; DATA, naming file and tensor and, for a file that was cut, both
 * sizes. */
mt_status safetensors_open(struct safetensors **out, const char *path) MT_CHECKED;
void safetensors_close(struct safetensors **file);

/* Local.  Entries in the order of their data. */
int32_t safetensors_count(const struct safetensors *file);
const struct safetensors_entry *safetensors_at(const struct safetensors *file, int32_t i);
const struct safetensors_entry *safetensors_by_name(const struct safetensors *file,
                                                    int32_t i); /* the i-th name, ascending */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);
const char *safetensors_path(const struct safetensors *file);
const void *safetensors_bytes(const struct safetensors *file, const struct safetensors_entry *e);

/* Local.  Converts e->count elements of F64, F32, F16 or BF16 to dst, straight from the mapping;
 * F64 rounds to nearest.  Errors: DATA for another dtype. */
mt_status safetensors_copy_f32(const struct safetensors *file, const struct safetensors_entry *e,
                               float *dst) MT_CHECKED;

const char *safetensors_dtype_name(enum safetensors_dtype d);

/* One float32 tensor to write; data is borrowed. */
struct safetensors_item {
    const char *name;
    int32_t ndim;
    int64_t shape[2];
    const float *data;
};

/* Local.  Writes float32 tensors with the metadata {"format":"pt"}: header padded to 8 bytes, data
 * in the order of names.  Streams; atomic and durable.  Errors: IO, NOMEM; BUG for a name twice. */
mt_status safetensors_write(const char *path, const struct safetensors_item *items,
                            int32_t count) MT_CHECKED;

/* Local.  Conversions of one element, exact. */
float safetensors_from_f16(uint16_t bits);
float safetensors_from_bf16(uint16_t bits);

#endif
