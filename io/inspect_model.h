/* inspect_model: a checkpoint, run or model folder described for a person, and hashed. */
#ifndef MT_IO_INSPECT_MODEL_H
#define MT_IO_INSPECT_MODEL_H

#include <stdio.h>

#include "comm/base/status.h"

enum inspect_kind { INSPECT_NOTHING, INSPECT_CHECKPOINT, INSPECT_RUN, INSPECT_MODEL };

/* Local.  What stands at path, by the files in it. */
enum inspect_kind inspect_model_kind(const char *path);

/* Local.  Prints the description: sizes, tensors, optimizer state, tasks, soundness.
 * Errors: DATA, IO. */
mt_status inspect_model_print(FILE *out, const char *path) MT_CHECKED;

/* Local.  One XXH64 in logical order: of a checkpoint, or the newest valid one of a run
 * (checkpoint_hash); of a model folder its parameters alone, tensors in the order of their names.
 * params_only leaves optimizer state out.  Errors: DATA, IO. */
mt_status inspect_model_hash(const char *path, bool params_only, uint64_t *out) MT_CHECKED;

#endif
