/*
 * events: what a run leaves in metrics.jsonl and says on its way.
 *
 * Functions here are Local and do something on rank 0 only, where the file is open.  A file that
 * cannot be written costs the events, not the run: one warning.
 */
#ifndef MT_TRAINER_EVENTS_H
#define MT_TRAINER_EVENTS_H

#include "trainer/probe.h"
#include "trainer/step.h"

/* Sums over the steps since the last step event. */
struct step_window {
    int64_t steps, counted, sentences, tokens, reduced_bytes; /* counted: not passed over */
    double imbalance; /* sum of the fullest lane over the mean lane */
    double busy_s;    /* of this rank, without waiting */
    struct {
        int32_t rank;
        double most_s, least_s;
    } busy; /* the slowest rank, and how long the slowest and the fastest worked */
    double loss, wait_data_s, wait_reduce_s, hidden_reduce_s, seconds;
    struct task_sums task[MODEL_TASKS_MAX];
};

void event_start(struct run *run);
void event_phase_begin(struct run *run);
void event_phase_end(struct run *run, int32_t phase);
void event_step(struct run *run, const struct step_report *last, struct step_window *window);
void event_eval(struct run *run, enum split split, const struct eval_result *results,
                int32_t count);
void event_checkpoint(struct run *run, const struct saver *save);
void event_control(struct run *run, const char *command, const char *key, const char *value);
void event_change(struct run *run, const char *key, const char *before, const char *after,
                  const char *kind);
void event_anomaly(struct run *run, const struct step_report *report, const char *kind,
                   const char *action, const char *bundle);
void event_cache(struct run *run, int64_t bytes);
void event_probe(struct run *run, int32_t task, const struct probe_result *r);
void event_warning(struct run *run, const char *format, ...) MT_PRINTF(2, 3);
void event_stop(struct run *run, const char *reason);
void event_done(struct run *run);

/* The page run_dir/report.html; a failure is a warning. */
void event_report(struct run *run);

/* The closing words: steps, best evaluation, and what the freeze audit found. */
void event_summary(const struct run *run);

#endif
