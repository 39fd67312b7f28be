/*
 * schedule: the phases of a run in order, and where they begin and end.
 *
 * `until` counts from the run's beginning, `length` from the phase's; conditions on steps, epochs
 * and the run fix the end of a phase in steps when it begins, the others (time, tokens, metrics)
 * are asked while it goes on.  The run itself ends at max_steps or after `epochs`, whichever is
 * first.
 */
#ifndef MT_SCHEDULES_SCHEDULE_H
#define MT_SCHEDULES_SCHEDULE_H

#include "schedules/phase.h"

enum { SCHEDULE_PHASES = 256 };

struct schedule {
    char *name;
    struct phase *phase;
    int32_t count; /* >= 1 after job_load */
};

/* What phases take where they say nothing. */
struct schedule_defaults {
    double lr, weight_decay, layer_decay, final_lr, power;
    int32_t shape, sampling, cache;
    struct duration warmup, decay;
    double temperature;
    const struct weight_list *weights;
    int64_t sentences;
    const char *frozen_head; /* what "$frozen_head" stands for */
};

/* How long the run is.  steps_per_epoch has one entry a phase (batch and sampling may change). */
struct run_length {
    double epochs;     /* <= 0 = no bound */
    int64_t max_steps; /* <= 0 = no bound */
    const double *steps_per_epoch;
};

/* Local.  Fills in what phases leave to the defaults and replaces "$frozen_head"; without any phase
 * makes one that trains everything to the end of the run.  Errors: NOMEM. */
mt_status schedule_complete(struct schedule *s, const struct schedule_defaults *d) MT_CHECKED;

/* Local.  Checks that need nothing but the file: names, conditions, patterns, metrics.
 * Errors: CONFIG. */
mt_status schedule_check(const struct schedule *s, const char *const *task_names,
                         int32_t task_count, const char *const *data_names,
                         int32_t data_count) MT_CHECKED;

/* Local.  Replaces each phase with `gradual` by one phase a layer: what it trains itself plus
 * top(k), k rising, and with to = "all" a last one that trains everything.  Idempotent.
 * Errors: NOMEM, CONFIG. */
mt_status schedule_expand(struct schedule *s, int32_t layers) MT_CHECKED;

/* Local.  Steps of the whole run if no phase ended early: INT64_MAX where nothing bounds it. */
int64_t schedule_run_steps(const struct schedule *s, const struct run_length *run);

/* Local.  The step at which a phase that begins at `step` (at `epoch`) ends by its conditions on
 * steps, epochs, the run, and the run's end; never before `step`. */
int64_t schedule_phase_end(const struct schedule *s, int32_t phase, const struct run_length *run,
                           int64_t step, double epoch);

/* Local.  begin[count], end[count]: steps of each phase if none ended early. */
void schedule_phase_bounds(const struct schedule *s, const struct run_length *run, int64_t *begin,
                           int64_t *end);

/* Local.  Warm-up (or WSD decay) in steps of a phase of phase_steps steps. */
int64_t schedule_warmup_steps(const struct phase *p, const struct run_length *run, int32_t phase,
                              int64_t run_steps, int64_t phase_steps);
int64_t schedule_decay_steps(const struct phase *p, const struct run_length *run, int32_t phase,
                             int64_t run_steps, int64_t phase_steps);

void schedule_release(struct schedule *s);

#endif
