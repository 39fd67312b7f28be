/*
 * source: a MODEL as commands name it: a Hugging Face folder, a run directory, or a checkpoint.
 *
 *   folder      has config.json (and no checkpoint manifest)
 *   checkpoint  has manifest.json; config.json, heads.json and vocab.txt lie in it as texts
 *   run         its exported model/, else checkpoints/best, else checkpoints/latest
 */
#ifndef MT_TRAINER_SOURCE_H
#define MT_TRAINER_SOURCE_H

#include "comm/world.h"
#include "io/model_folder.h"
#include "io/vocab.h"
#include "trainer/model/model.h"

struct source {
    char folder[FOLDER_PATH_BYTES]; /* what is really read: a model folder or a checkpoint */
    bool is_checkpoint;
    struct model_folder about; /* sizes, pooling, tasks and labels, tokenizer switches */
    struct vocab vocab;
};

/* Collective.  Finds out what path is and reads its description and vocabulary; no numbers.
 * Owns: the caller, until source_close (also after a failure).  Errors: DATA, IO. */
mt_status source_open(struct source *s, const struct comm *world, const char *path) MT_CHECKED;
void source_close(struct source *s);

/* Collective.  Builds the model that the source describes, with its own tasks, and its parameters.
 * pooling: NULL = the source's own.  Owns: *m until model_release, *params until mt_free.
 * Errors: DATA, IO, NOMEM; ARG for an unknown pooling. */
mt_status source_load(const struct source *s, const struct comm *world, const char *pooling,
                      struct model *m, float **params) MT_CHECKED;

/* Local.  Fills the tensors of a table that the source has; those without (new heads, a pooler)
 * stay as they are and are counted in the report.  Errors: DATA, IO. */
mt_status source_read(const struct source *s, const struct tensor_table *table, float *params,
                      struct folder_report *report) MT_CHECKED;

#endif
