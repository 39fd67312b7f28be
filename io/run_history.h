/*
 * run_history: what metrics.jsonl says of a run, in bounded memory.
 *
 * Events are taken as they come.  A key that is missing leaves a gap (NAN, -1, ""), one that is not
 * known is ignored.  An event of a step that was passed already (a run that began again from
 * before it) replaces that step and all behind it.
 */
#ifndef MT_IO_RUN_HISTORY_H
#define MT_IO_RUN_HISTORY_H

#include "io/curve.h"

enum {
    HISTORY_TEXT_BYTES = 128,
    HISTORY_FACTS_MAX = 48,
    HISTORY_TASKS_MAX = 64,
    HISTORY_EVALS_MAX = 128,
    HISTORY_PHASES_MAX = 512,
    HISTORY_CHECKPOINTS_MAX = 60, /* the last ones */
    HISTORY_WARNINGS_MAX = 100,   /* different ones */
    HISTORY_CLASSES_MAX = 40      /* of a confusion table */
};

struct history_fact {
    char key[40], value[HISTORY_TEXT_BYTES];
};

/* The plain members of an event, in its order, without event, time and iso. */
struct history_facts {
    struct history_fact fact[HISTORY_FACTS_MAX];
    int32_t count;
};

struct history_task {
    char name[HISTORY_TEXT_BYTES];
    struct curve loss;
};

/* One task on one split. */
struct history_eval {
    char split[HISTORY_TEXT_BYTES], task[HISTORY_TEXT_BYTES];
    struct curve loss, accuracy, f1_macro, mcc;
    double last[4]; /* loss, accuracy, f1_macro, mcc; NAN = not said */
    double last_step;
    int32_t classes;                    /* of the last confusion table; 0 = none */
    int64_t *confusion;                 /* [classes][classes] */
    char (*labels)[HISTORY_TEXT_BYTES]; /* [classes]; NULL = numbers */
};

struct history_phase {
    char name[HISTORY_TEXT_BYTES], until[HISTORY_TEXT_BYTES], reason[HISTORY_TEXT_BYTES];
    double begin_step, end_step;    /* end NAN = still going */
    double begin_s, end_s, seconds; /* clock of the events; seconds: as said, or NAN */
    double trainable, total;        /* parameters */
};

struct history_checkpoint {
    char path[HISTORY_TEXT_BYTES];
    double step, seconds, bytes;
    bool best;
};

struct history_warning {
    char message[512];
    double first_step, last_step;
    int64_t times;
};

struct run_history {
    struct history_facts start, done;
    char name[HISTORY_TEXT_BYTES];
    double first_s, last_s, last_step; /* NAN = unknown */
    double parameters;                 /* of the model */
    int64_t starts, stops, lines, bad_lines;
    bool is_done;    /* the last session came to its end */
    bool is_stopped; /* or was stopped, for this reason: */
    char stop_reason[HISTORY_TEXT_BYTES];

    struct curve loss, rate, gradient_norm, speed;
    struct curve wait_data, wait_reduce; /* shares of the time between two events */
    struct history_task *task;
    int32_t task_count;
    struct history_eval *eval;
    int32_t eval_count;
    struct history_phase *phase;
    int32_t phase_count;
    struct history_checkpoint checkpoint[HISTORY_CHECKPOINTS_MAX];
    int32_t checkpoint_count;
    int64_t checkpoints_before; /* not kept */
    struct history_warning *warning;
    int32_t warning_count;
    int64_t warnings_left_out;
};

/* Local.  Reads the events of a file.  Owns: the caller, run_history_release, also after a
 * failure.  Errors: IO, NOMEM. */
mt_status run_history_read(struct run_history *h, const char *path) MT_CHECKED;
void run_history_release(struct run_history *h);

#endif
