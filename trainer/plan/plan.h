/*
 * plan: what each phase of a run will do, what it costs, and how long it will take.
 *
 * Facts come from the functions that training itself uses: phase_plan, phase_factor, sizes of
 * passes, lanes and prefetch buffers, the cuts of the reduction, the choice of the prefix cache.
 * Times come from a short rehearsal of each phase on this machine with its own lanes, reducer and
 * update (trainer/plan/plan_measure.h) and a simple model of what else happens
 * (trainer/plan/plan_time.h).
 *
 *     MT_TRY(plan_make(&plan, &run, &target));        // run_open in a scratch folder came before
 *     MT_TRY(plan_measure(&plan, &run));
 *     plan_forecast(&plan);
 *     ... plan_print, plan_json, plan_picture ...
 *     plan_release(&plan);
 */
#ifndef MT_TRAINER_PLAN_H
#define MT_TRAINER_PLAN_H

#include "comm/reduce_time.h"
#include "io/json.h"
#include "io/markup.h"
#include "trainer/run.h"

/* The machine that is asked about. */
struct plan_target {
    int32_t ranks, threads; /* threads of each rank */
    double network_bytes_s; /* of a host, each way; 0 = all ranks on one host */
    double latency_s;       /* of a message between hosts */
    int32_t host_ranks;     /* neighbouring ranks that share a host and its network */
    double spread;          /* of a rank's passes, relative; < 0 = as it is measured here */
    double limit_s;         /* of one submission; INFINITY = none */
    double limit_left_s;    /* of the first one */
    bool here;              /* the very ranks that make the plan */
    const char *cache_dir;  /* where caches would lie; borrowed */
};

/* Tensors with one name: embeddings, one encoder layer, the pooler, one head. */
struct plan_group {
    char name[96];
    int32_t depth;
    int64_t elements, trained; /* parameters */
    double lr_least, lr_most;  /* peak rates of what is trained */
};

/* Bytes, of rank 0. */
struct plan_memory {
    int64_t parameters, gradients, moments, activations, batches;
    int64_t wire;       /* errors of what is rounded to bf16 to be sent */
    int64_t evaluation; /* passes of all threads */
    int64_t copy;       /* from which checkpoints are written beside training */
    int64_t copy_owned; /* the same of other ranks: with shared out moments, those they own */
    int64_t total;
    int32_t gradient_blocks;
};

/* Seconds of a step elsewhere, one after another. */
struct plan_step {
    double passes_s;  /* forward and backward of an average rank */
    double waiting_s; /* for the slowest of all ranks */
    double exposed_s; /* of the sums: what backward does not hide */
    double gather_s;  /* of the owners' parts */
    double update_s;
};

/* What happens how often in a phase, and seconds of it all. */
struct plan_time {
    double fill_s, fit_s, steps_s, evals_s, saves_s, total_s;
    double step_s, eval_s, save_s; /* of one */
    struct plan_step step;         /* what step_s is made of; zeros where it was measured here */
    double evals, saves;           /* how many; the number of best evaluations is a guess */
    double sentences_per_s;
};

/* What the rehearsal of a phase found, on the ranks that are here. */
struct plan_measured {
    double enter_s;                    /* once, when the phase begins */
    double step_s, reduce_s, update_s; /* of a step; reduce_s and update_s are parts of it */
    double fit_row_s;                  /* of one row in one evaluation, for a separate classifier */
    double spread; /* of a step's seconds, relative: half of all lie within 0.67 of it */
    int32_t steps; /* measured; 0 = none */
};

struct plan_phase {
    const struct phase_plan *plan; /* borrowed from the run */
    int64_t begin, end;            /* steps, if no condition ends it earlier */
    double epochs[JOB_TASKS_MAX];  /* passes over a task's data; 0 where its loss does not count */
    double tokens, sentences;      /* of a step, on average */
    struct plan_group *group;      /* [group_count] from the embeddings up */
    int32_t group_count;
    double first_factor, last_factor;     /* of the peak rates at the first and the last step */
    double forward_gflop, backward_gflop; /* of a step */
    struct plan_memory memory;
    struct reduce_volume volume; /* of a step that uses all rows of the word embeddings: a bound */
    int64_t least_bytes;         /* from rank 0, of a step that uses none */
    struct reduce_time reduce;   /* of a step on the target's network; zeros without one */
    bool cached;
    const char *cache_why;
    int64_t cache_bytes;
    int32_t cache_depth, fill_from; /* fill_from: depth of the cache it is filled from, or 0 */
    struct plan_measured measured;
    struct plan_time time;
};

/* What was measured once for all phases. */
struct plan_common {
    double open_s;  /* from the job file to the first phase */
    double token_s; /* of a forward pass over one token, one thread of all that work */
    double fill_tokens, dev_tokens, test_tokens;
    int64_t fill_blocks, dev_blocks, test_blocks;
    double save_fixed_s, save_byte_s;
    double frozen_byte_s; /* of frozen tensors, which a phase's first save writes once */
    double export_s;
};

struct plan {
    const struct run *run; /* borrowed */
    struct plan_target target;
    struct plan_phase *phase;
    int32_t phase_count;
    struct plan_common common;
    int32_t here_ranks, here_threads;
    double total_s;
    double peak_bytes;   /* of rank 0, in its largest phase */
    int32_t submissions; /* within limit_s; 0 = not even one phase step fits */
};

/* Local.  All but times.  Borrows run until plan_release (also after a failure).
 * Errors: NOMEM, CONFIG (ranks and lanes that do not fit). */
mt_status plan_make(struct plan *p, const struct run *run,
                    const struct plan_target *target) MT_CHECKED;
void plan_release(struct plan *p);

/* Local.  The table for people, on standard output. */
void plan_print(const struct plan *p);

/* Local.  The same as one JSON object. */
void plan_json(const struct plan *p, struct json_writer *w);

/* Local.  Rates over steps, and which layers train when, as one SVG picture.  Errors: NOMEM. */
mt_status plan_picture(const struct plan *p, struct markup *out) MT_CHECKED;

#endif
