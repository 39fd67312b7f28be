/* embeddings_format: what the writer and the reader of embeddings agree on. */
#ifndef MT_IO_EMBEDDINGS_FORMAT_H
#define MT_IO_EMBEDDINGS_FORMAT_H

#include "comm/base/status.h"

enum embeddings_format { EMBEDDINGS_H5, EMBEDDINGS_NPY, EMBEDDINGS_TSV };

/* The class names of all tasks are one attribute, which HDF5 bounds at 64 KiB; without them the
 * labels are numbers. */
enum { EMBEDDINGS_CLASS_TEXT_MAX_BYTES = 60000 };

#define EMBEDDINGS_VALUES_MAX ((int64_t)1 << 48)

/* Local.  The format of a path by its ending; false for any other. */
bool embeddings_format_of(enum embeddings_format *out, const char *path);

#endif
