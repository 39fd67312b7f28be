/*
 * model_weights: the tensors of a Hugging Face folder, in one file or several.
 *
 * Looks up by the names of BertModel and finds them under the names that folders really use: with
 * the prefix "bert.", and LayerNorm.gamma/beta for weight/bias.
 */
#ifndef MT_IO_MODEL_WEIGHTS_H
#define MT_IO_MODEL_WEIGHTS_H

#include "io/safetensors.h"

enum { WEIGHTS_FILES_MAX = 64 };

struct model_weights {
    struct safetensors *file[WEIGHTS_FILES_MAX];
    uint8_t *used[WEIGHTS_FILES_MAX]; /* [tensors of the file] marked by model_weights_find */
    int32_t file_count;
};

/* Local.  Opens model.safetensors, or all files that model.safetensors.index.json names.  Owns: w,
 * until model_weights_close.  Errors: IO; DATA, also where there is only a pytorch_model.bin. */
mt_status model_weights_open(struct model_weights *w, const char *dir) MT_CHECKED;
void model_weights_close(struct model_weights *w); /* accepts a zeroed one */

/* Local.  The entry of a name and its file, marked as used; NULL where there is none. */
const struct safetensors_entry *model_weights_find(struct model_weights *w, const char *name,
                                                   const struct safetensors **file);

#endif
