/*
 * run: everything that is open while a job is trained.
 *
 *     MT_TRY(run_open(&run, world, path, &options));     // job, data, model, parameters, resume
 *     MT_TRY(train_run(&run));                           // trainer/train.h
 *     run_close(&run);
 *
 * Life times: the job's blocks live as long as the run; what a phase owns (which tensors, their
 * ranges, work space, reducer, prefetcher) is made and dropped by trainer/phase_run.h.
 */
#ifndef MT_TRAINER_RUN_H
#define MT_TRAINER_RUN_H

#include "comm/base/log.h"
#include "comm/pool.h"
#include "comm/reduce.h"
#include "comm/topology.h"
#include "io/checkpoint.h"
#include "io/folder_lock.h"
#include "io/jsonl.h"
#include "io/prefetch.h"
#include "jobs/job.h"
#include "schedules/phase_machine.h"
#include "trainer/ctl.h"
#include "trainer/evaluate.h"
#include "trainer/lanes.h"
#include "trainer/peak_memory.h"
#include "trainer/phase_plan.h"
#include "trainer/products.h"
#include "trainer/saver.h"
#include "trainer/source.h"
#include "trainer/spikes.h"

struct bundle; /* trainer/bundle.h */
struct trace;  /* trainer/trace.h */

/* What the command line adds to a job file. */
struct run_options {
    const char *const *overrides; /* --set key=value */
    int32_t override_count;
    const char *schedule; /* a file whose settings replace the job's of the same name, or NULL */
    const char *resume;   /* auto | never | path of a checkpoint */
    bool accept_changes;
    int64_t replay_step;             /* of `mttrain replay`; 0 = none */
    const struct bundle *replay;     /* what it was then */
    const char *trace;               /* file of the trace, NULL = none */
    int64_t trace_first, trace_last; /* its steps; 0 = the second to fourth from here */
};

enum cache_use { CACHE_UNDECIDED, CACHE_UNUSED, CACHE_USED };

/* A part of one trainable tensor: what one thread updates at a time. */
struct update_piece {
    int32_t tensor;
    int64_t begin, end; /* elements of a flat block */
};

/* The phase that is under way; see trainer/phase_run.h. */
struct phase_run {
    const struct phase_plan *plan;
    struct update_piece *piece; /* [piece_count] the trainable tensors in pieces */
    int32_t piece_count;
    struct range_list ranges; /* of the trainable tensors */
    struct range_list owned;  /* the part that this rank updates */
    int64_t owned_ranges;     /* of all ranks together */
    struct row_set rows;      /* of the word embeddings that a step uses; rows.rows = 0: all */
    struct lanes *lanes;
    struct reducer *reducer;
    lanes_boundary boundary; /* fills in the input of depth `start`; NULL = token ids, depth 0 */
    void *boundary_context;
    int32_t start;
    struct task_loss loss[MODEL_TASKS_MAX];
    int64_t steps, warmup_steps, decay_steps; /* as planned */
    uint64_t *frozen_hash;                    /* [tensors] at the phase's start */
    int64_t *touched;                         /* [tensors] had a gradient; known at its end */
    struct checkpoint_base base;              /* of the frozen tensors, once base_known; rank 0 */
    bool base_known;
    double begin_s;
};

/* The newest evaluation, for metrics that end phases or choose the best checkpoint. */
struct last_eval {
    bool known[SPLIT_COUNT][MODEL_TASKS_MAX];
    double value[SPLIT_COUNT][MODEL_TASKS_MAX][METRIC_KINDS];
};

struct best {
    bool known;
    double value;
    int64_t step;
};

/* How often things happen: the job's, until a command sets another. */
struct run_cadence {
    struct duration log, save, eval;
};

/* A command's setting, as decisions.jsonl has it: in force from the step after `step`. */
struct run_setting {
    int64_t step;
    char key[CTL_TEXT_BYTES], value[CTL_TEXT_BYTES];
};

/* Steps whose batches are passed over. */
struct run_skip {
    int64_t first, last;
};

struct run {
    const struct comm *world;
    struct job job;
    struct folder_lock lock; /* rank 0; trainer/run_lock.h */
    struct topology topology;
    struct vocab vocab;
    struct corpora corpora;
    struct model model;
    struct model_folder about; /* how the model is exported: labels, pooling, tokenizer */
    struct task_loss eval_loss[MODEL_TASKS_MAX]; /* class weights and smoothing, without phases */
    real *class_weight[MODEL_TASKS_MAX];
    float *params, *adam_m, *adam_v; /* flat blocks of model.table.total */
    int64_t *adam_steps;             /* [tensors] updates each tensor has had */
    struct pool *pool;
    struct evaluator *evaluator;
    struct prefetch *prefetch;
    struct prefix_cache *cache; /* of the phase's frozen prefix; NULL = none is used */
    char *cache_dir;
    int32_t cache_use[SCHEDULE_PHASES]; /* enum cache_use: decided once, at a phase's first entry */
    uint64_t data_hash;                 /* of the training data */

    struct phase_plan *plan; /* [schedule.count] */
    double *steps_per_epoch; /* [schedule.count] */
    struct run_length length;
    int64_t run_steps; /* steps if no phase ends early */

    struct phase_machine machine;
    struct sampler_state position;
    int32_t entered; /* the phase whose beginning is done; -1 = none */
    struct phase_run phase;
    struct last_eval evals;
    struct best best, best_saved; /* best_saved: the one whose checkpoint is durable */
    int64_t skipped_steps;        /* non-finite ones under policy "skip" */
    int32_t skipped_in_row;
    double *lane_rows, *lane_work; /* sums of this rank's lanes, and of all of them */

    struct jsonl *events; /* rank 0 */
    struct log_progress progress;
    int64_t resumed_step;                   /* -1 = a fresh start */
    struct products_record products_before; /* of the checkpoint that was taken up */
    double started_s, last_save_s, last_eval_s, last_log_s;
    int64_t last_saved_step;
    struct saver saver;
    bool warned_kill_timeout;
    struct ctl *ctl; /* rank 0 */
    struct ctl_status status;
    struct run_cadence every;
    struct run_setting *setting; /* [setting_count] recorded ones, in file order */
    int32_t setting_count, setting_capacity;
    double lr_scale; /* all rates times this */
    bool paused;
    double step_mean_s;
    struct spikes spikes;
    struct run_skip *skip; /* [skip_count] recorded ones */
    int32_t skip_count, skip_capacity;
    bool rollback_due;
    int64_t replay_step; /* the step that `mttrain replay` shows; 0 = none */
    const struct bundle *replay;
    bool replayed;
    struct trace *trace;             /* NULL = none */
    struct peak_memory peak;         /* known at the end */
    double time_limit_s;             /* end of the scheduler's time (clock_now_s) or INFINITY */
    double save_cost_s, step_cost_s; /* the longest save and step so far */
    bool eval_pending;               /* an evaluation belongs to the step that was done last */
    bool save_due, save_best;        /* at the next boundary; save_best: as the best so far */
    int64_t frozen_checks;           /* tensors found unchanged by the freeze audit, all phases */
    int64_t untouched;               /* tensors declared trainable that never had a gradient */
    char untouched_names[512];
};

/* Collective.  Reads the job on rank 0, locks run_dir and listens for commands there, packs and
 * opens data, builds and loads the model, and takes up the newest valid checkpoint.  Owns: the
 * caller, until run_close (also after a failure).  Errors: everything INTERFACE.md names for a bad
 * job, data or model; STOPPED while it waits for the folder or packs. */
mt_status run_open(struct run *run, const struct comm *world, const char *job_path,
                   const struct run_options *options) MT_CHECKED;
void run_close(struct run *run);

/* Collective.  Job, vocabulary, data, model and plans, but no parameters and nothing written into
 * run_dir: what `check` and `plan` need.  Text is packed into shards_dir. */
mt_status run_open_description(struct run *run, const struct comm *world, const char *job_path,
                               const struct run_options *options,
                               const char *shards_dir) MT_CHECKED;

/* Bytes of parameters, moments and step work space on this rank. */
struct run_memory {
    int64_t parameter_bytes, moment_bytes, gradient_bytes, activation_bytes;
};
/* Local. */
void run_memory(const struct run *run, struct run_memory *out);

#endif
