/*
 * job: the job file as a checked struct; what to train, on what, how, and where it goes.
 *
 * Every key stands in one table (job_options; jobs/JOB.md is printed from it).  Paths are absolute:
 * a relative one in the file is taken from the job file's folder.  Loading needs no other file than
 * the bundle, so all ranks load the same bytes and compare job_hash.
 *
 *     MT_TRY(config_bundle_read(&bundle, path));              // rank 0
 *     MT_TRY(job_load(&job, bundle, overrides, count));       // all ranks
 *     ... schedule_expand(&job.schedule, layers) ...          // once the model's depth is known
 *     job_release(&job);
 */
#ifndef MT_JOBS_JOB_H
#define MT_JOBS_JOB_H

#include "schedules/schedule.h"

enum job_precision { JOB_FP32, JOB_BF16 };
enum job_products {
    JOB_PRODUCTS_AUTO,
    JOB_PRODUCTS_AMX,
    JOB_PRODUCTS_NATIVE,
    JOB_PRODUCTS_OPENBLAS,
    JOB_PRODUCTS_ONEDNN
};
enum job_init { JOB_INIT_PATH, JOB_INIT_RANDOM };
enum job_cased { JOB_CASED_AUTO, JOB_CASED_NO, JOB_CASED_YES };
enum job_utf8 { JOB_UTF8_REPLACE, JOB_UTF8_ERROR };
enum job_format {
    JOB_FORMAT_AUTO,
    JOB_FORMAT_TSV,
    JOB_FORMAT_CSV,
    JOB_FORMAT_JSONL,
    JOB_FORMAT_H5
};
enum job_nonfinite { JOB_NONFINITE_STOP, JOB_NONFINITE_SKIP, JOB_NONFINITE_ROLLBACK };
/* The last three as in enum job_nonfinite, one further. */
enum job_spike { JOB_SPIKE_OFF, JOB_SPIKE_STOP, JOB_SPIKE_SKIP, JOB_SPIKE_ROLLBACK };
enum job_save_failure { JOB_SAVE_WARN, JOB_SAVE_STOP };
enum job_reduction { JOB_REDUCTION_EXACT, JOB_REDUCTION_MPI };
enum job_rows { JOB_ROWS_SPARSE, JOB_ROWS_DENSE };
enum job_wire { JOB_WIRE_FP32, JOB_WIRE_BF16 };

enum { JOB_TASKS_MAX = 64, JOB_DATA_MAX = 64, JOB_LABELS_MAX = 100000, JOB_LANES_MAX = 65536 };

struct job_model {
    char *init;                 /* absolute path, or "random" */
    struct setting_list config; /* keys of Hugging Face's config.json, for "random" */
    char *vocab;                /* NULL = the init folder's */
    int32_t cased;              /* enum job_cased; auto = the init folder's, else no */
    int64_t max_tokens;
    int32_t pooling; /* mean cls max mean_sqrt weightedmean pooler */
    double dropout, attention_dropout, head_dropout; /* NaN = config.json's */
    int32_t precision;                               /* enum job_precision */
    int32_t products;                                /* enum job_products */
};

struct job_data {
    char *where; /* "file:line: data[0]" */
    char *name;
    struct string_list train, dev, test; /* absolute paths */
    int32_t format;                      /* enum job_format; auto = by the file name */
    char *text, *pair;                   /* columns; pair NULL = none */
    char *delimiter;                     /* NULL = by the format */
    bool header;
    int32_t utf8; /* enum job_utf8 */
};

struct job_task {
    char *where;
    char *name, *kind, *data, *column;
    int32_t set;               /* position of `data` in the job */
    struct string_list labels; /* empty = learned from the training data, sorted */
    double weight;
    struct real_list class_weights; /* empty = all 1 */
    double label_smoothing;
};

struct job_batch {
    int64_t sentences;    /* of one step, over all ranks */
    int64_t lanes;        /* a power of two */
    int64_t micro_tokens; /* most tokens of one forward pass within a lane */
    bool recompute;       /* activations again in backward, instead of keeping them */
    int32_t sampling;     /* enum phase_sampling */
    double temperature;
    int64_t cap;                /* data sets count as at most this many rows; 0 = no cap */
    struct weight_list weights; /* of data sets */
};

struct job_train {
    double epochs;     /* 0 = no bound */
    int64_t max_steps; /* 0 = no bound */
    struct duration eval_every, save_every, log_every;
    int64_t keep_last;
    bool keep_phase_ends;
    char *best;           /* a metric (schedules/metric.h) */
    int32_t nonfinite;    /* enum job_nonfinite */
    int32_t spike;        /* enum job_spike */
    double spike_factor;  /* times the running median */
    int32_t save_failure; /* enum job_save_failure */
    bool memory_check;    /* refuse to start what does not fit the host */
    int64_t threads;      /* per rank; 0 = by the processors a rank may use */
    int64_t prefetch;     /* steps of lane batches that are prepared ahead */
};

struct job_optimizer {
    char *kind;                         /* "adamw" */
    double lr, weight_decay, eps, clip; /* clip 0 = none */
    struct real_list betas;             /* 2 */
    bool shard;
    int32_t shape; /* enum phase_shape, of phases that name none */
    struct duration warmup, decay;
    double final_lr, power, layer_decay;
};

struct job_cache {
    int32_t mode;         /* enum phase_cache */
    int64_t memory_bytes; /* per node; 0 = a quarter of the node's memory */
    char *dir;            /* NULL = run_dir/cache */
    int32_t precision;    /* enum job_precision */
};

struct job {
    char *file, *folder; /* the job file as named; its absolute folder */
    char *name, *run_dir;
    int64_t seed;
    struct job_model model;
    struct job_data *data;
    int32_t data_count;
    struct job_task *tasks;
    int32_t task_count;
    struct job_batch batch;
    struct job_train train;
    struct job_optimizer optimizer;
    int32_t reduction;        /* enum job_reduction */
    int32_t reduction_rows;   /* enum job_rows */
    int64_t reduction_bucket; /* elements, 0 = chosen */
    int32_t wire;             /* enum job_wire */
    int64_t wire_groups;      /* 0 = batch.lanes */
    struct job_cache cache;
    double watchdog_s; /* 0 = off */
    bool accept_changes;
    char *frozen_head; /* task that "$frozen_head" in a schedule means; default the last */
    struct schedule schedule;
};

extern const struct option_table job_options;

/* Local.  Reads the job in a bundle (schedules/config.h), applies overrides, checks all that can be
 * checked without other files.  Owns: the caller, until job_release.
 * Errors: NOMEM; CONFIG or ARG with file, line, key and the mend. */
mt_status job_load(struct job *out, const char *bundle, const char *const *overrides,
                   int32_t override_count) MT_CHECKED;
void job_release(struct job *job);

/* Local.  What the reduction rounds to bf16: reducer_options.wire_groups. */
int32_t job_wire_groups(const struct job *job);

/* Local.  The effective job as a job file: loading it gives the same values. */
mt_status job_print(const struct job *job, char **text) MT_CHECKED;

/* Local.  Hash of the effective values whose class is at least `least`: OPTION_HARMLESS = all. */
mt_status job_hash(const struct job *job, enum option_class least, uint64_t *out) MT_CHECKED;

/* What differs between the job of a run and the one it is resumed with. */
struct job_change {
    char *key, *before, *after; /* libconfig text, "" = unset */
    enum option_class change;
};
struct job_changes {
    struct job_change *change;
    int32_t count, capacity;
};

/* Local.  Every key whose value differs, in the order of the table.  Owns: the caller,
 * job_changes_release.  Errors: NOMEM. */
mt_status job_compare(const struct job *before, const struct job *after,
                      struct job_changes *out) MT_CHECKED;
void job_changes_release(struct job_changes *c);

/* Local.  The key reference, jobs/JOB.md. */
mt_status job_document(char **markdown) MT_CHECKED;

/* Local.  The names of tasks and data sets as arrays that borrow the job's strings. */
void job_task_names(const struct job *job, const char *names[JOB_TASKS_MAX]);
void job_data_names(const struct job *job, const char *names[JOB_DATA_MAX]);

#endif
