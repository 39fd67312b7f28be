/*
 * corpora: the data sets of a job, opened by every rank, and what their labels mean.
 *
 * Shards (.h5 files, packed folders) are used as they are.  Text tables are packed by rank 0 into
 * run_dir/shards/NAME-SPLIT-KEY at the first start; KEY is a hash of files, vocabulary and options,
 * so a later start finds them again and a changed file is packed anew.
 */
#ifndef MT_TRAINER_CORPORA_H
#define MT_TRAINER_CORPORA_H

#include "comm/world.h"
#include "io/dataset.h"
#include "io/pack.h"
#include "io/vocab.h"
#include "jobs/job.h"

enum split { SPLIT_TRAIN, SPLIT_DEV, SPLIT_TEST, SPLIT_COUNT };

const char *split_name(enum split s); /* Local.  "train", "dev", "test" */
bool split_parse(enum split *out, const char *name);

struct corpora {
    int32_t set_count, task_count;
    struct dataset *set[SPLIT_COUNT][JOB_DATA_MAX]; /* NULL = the job names no such files */
    /* Label column of each set and task; -1 = the set has no labels of that task. */
    int32_t column[SPLIT_COUNT][JOB_DATA_MAX][JOB_TASKS_MAX];
    /* Class names of each task: from the job, else learned from its training data. */
    struct string_list labels[JOB_TASKS_MAX];
};

/* Collective.  Packs what is not packed yet into folders of shards_dir and opens everything.
 * Owns: the caller, until corpora_close (also after a failure).  Errors: DATA (missing or empty
 * files, an unknown label, a vocabulary that does not fit the shards), CONFIG, IO, NOMEM; STOPPED
 * where rank 0 is asked to stop while it packs. */
mt_status corpora_open(struct corpora *c, const struct comm *world, const struct job *job,
                       const struct vocab *vocab, const char *shards_dir) MT_CHECKED;
void corpora_close(struct corpora *c);

/* Local.  Whether a file of a data set needs no packing: shards, a packed folder, its manifest. */
bool corpora_is_packed(const struct job_data *d, const char *path);

/* How the text tables of one data set are read; the label names are borrowed from the corpora, and
 * not set where c is NULL. */
struct corpora_packing {
    struct pack_options options; /* its labels are `label` */
    struct pack_label label[JOB_TASKS_MAX];
};
/* Local. */
void corpora_describe_packing(struct corpora_packing *p, const struct corpora *c,
                              const struct job *job, int32_t set);

/* Local.  A hash of one data set's content: of its shards' own content hashes, or of all they hold
 * where they carry none.  Errors: IO, DATA. */
mt_status corpora_set_hash(const struct dataset *d, uint64_t *hash) MT_CHECKED;

/* Local.  The same over all training sets of the job, in order: a run goes on with equal data only.
 */
mt_status corpora_hash(const struct corpora *c, uint64_t *hash) MT_CHECKED;

#endif
