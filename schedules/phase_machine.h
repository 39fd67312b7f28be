/*
 * phase_machine: where in the schedule a run is; a pure function of what it was told.
 *
 * It is told of each finished step and each evaluation, with numbers on which all ranks agreed, and
 * answers whether the phase is over.  Its whole state is a list of numbers that a checkpoint keeps,
 * so a resumed run decides as the uninterrupted one did.  The end of a phase by time is decided
 * once: whoever resumes from before it calls phase_machine_honour with the recorded step.
 *
 *     phase_machine_start(&m, schedule, &run);
 *     while (!m.finished) {
 *         if (schedule->phase[m.phase].classifier == CLASSIFIER_PROBE) { // a phase without steps
 *             ... fit ...
 *             phase_machine_end_now(&m, schedule, &run, ENDED_FITTED);
 *             continue;
 *         }
 *         factor = phase_factor(&schedule->phase[m.phase], m.step - m.phase_begin_step, ...);
 *         ... a step ...
 *         if (phase_machine_after_step(&m, schedule, &run, tokens, seconds)) ... new phase ...
 *         if (evaluated && phase_machine_after_eval(&m, schedule, &run, ...)) ... new phase ...
 *     }
 */
#ifndef MT_SCHEDULES_PHASE_MACHINE_H
#define MT_SCHEDULES_PHASE_MACHINE_H

#include "schedules/metric.h"
#include "schedules/schedule.h"

enum phase_end {
    ENDED_NOT,
    ENDED_STEPS, /* steps, epochs, share of the run */
    ENDED_TOKENS,
    ENDED_TIME,
    ENDED_THRESHOLD,
    ENDED_PLATEAU,
    ENDED_COMMAND, /* ctl next-phase */
    ENDED_FITTED,  /* a separate classifier was fitted */
    ENDED_RUN      /* the run was over before its turn came */
};
const char *phase_end_name(enum phase_end e);

struct phase_machine {
    bool finished;
    int32_t phase;                            /* the phase of the next step; count when finished */
    int64_t step;                             /* finished steps of the run */
    int64_t tokens;                           /* of the run */
    double seconds;                           /* of training, over all its starts */
    int64_t phase_begin_step, phase_end_step; /* the end by steps: planned length = difference */
    int64_t phase_begin_tokens;
    double phase_begin_seconds, phase_begin_epoch;
    double best[PHASE_CONDITIONS];       /* of each condition's metric */
    int64_t bad_evals[PHASE_CONDITIONS]; /* since the best; -1 = no evaluation yet */
    int32_t ended_by[SCHEDULE_PHASES];   /* enum phase_end; of the current phase: to honour */
    int64_t ended_step[SCHEDULE_PHASES]; /* valid where ended_by is not ENDED_NOT */
};

/* Local.  At step 0 of the first phase that has steps. */
void phase_machine_start(struct phase_machine *m, const struct schedule *s,
                         const struct run_length *run);

/* Local.  A step of `tokens` real tokens and `seconds` (agreed on by all ranks) is finished.
 * True where the phase changed or the run is over. */
bool phase_machine_after_step(struct phase_machine *m, const struct schedule *s,
                              const struct run_length *run, int64_t tokens, double seconds);

/* Local.  An evaluation after m->step is finished.  True as above. */
bool phase_machine_after_eval(struct phase_machine *m, const struct schedule *s,
                              const struct run_length *run, const char *const *task_names,
                              int32_t task_count, metric_lookup lookup, void *context);

/* Local.  Ends the phase now: on command, or because its classifier is fitted. */
void phase_machine_end_now(struct phase_machine *m, const struct schedule *s,
                           const struct run_length *run, enum phase_end by);

/* Local.  Computes the current phase's end by steps again, for a run whose length was changed. */
void phase_machine_replan(struct phase_machine *m, const struct schedule *s,
                          const struct run_length *run);

/* Local.  Phase `phase` is known to have ended after `step` steps (> the current one) by `by`: it
 * will end there again, and not by time before. */
void phase_machine_honour(struct phase_machine *m, int32_t phase, int64_t step, enum phase_end by);

/* Local.  Epochs of the run that are finished. */
double phase_machine_epoch(const struct phase_machine *m, const struct run_length *run);

/* The state as named numbers, for checkpoints: index 0 .. phase_machine_field_count(phases)-1. */
struct phase_field {
    char name[40];
    bool is_real;
    int64_t integer;
    double real;
};
int32_t phase_machine_field_count(int32_t phases);
void phase_machine_get(const struct phase_machine *m, int32_t phases, int32_t index,
                       struct phase_field *out);

/* Local.  Sets the field of that name; false where there is none. */
bool phase_machine_set(struct phase_machine *m, int32_t phases, const struct phase_field *field);

/* Local.  Errors: DATA where the state does not fit the schedule (a damaged checkpoint). */
mt_status phase_machine_check(const struct phase_machine *m, const struct schedule *s) MT_CHECKED;

#endif
