/*
 * comparison: what several finished runs of one job came to, side by side.
 *
 * Read from their metrics.jsonl, so that it also holds for runs that were stopped and resumed.
 */
#ifndef MT_TRAINER_COMPARISON_H
#define MT_TRAINER_COMPARISON_H

#include "io/json.h"
#include "jobs/job.h"

enum { COMPARISON_NAME_BYTES = 96 };

struct comparison_run {
    char name[COMPARISON_NAME_BYTES];
    char run_dir[4096];
    bool done;
    int64_t steps, best_step;
    double best; /* the job's train.best at that step; NaN = not known */
    double accuracy[JOB_TASKS_MAX], f1_macro[JOB_TASKS_MAX]; /* on dev then; NaN = not known */
    double seconds;     /* from start to end, over all starts */
    int64_t parameters; /* trained in some phase, at most at once */
    int64_t peak_bytes; /* of rank 0 */
};

struct comparison {
    const struct job *job; /* borrowed: names of tasks */
    struct comparison_run *run;
    int32_t count;
};

/* Local.  Reads run->run_dir/metrics.jsonl into the rest of *run.  Errors: IO, NOMEM. */
mt_status comparison_read(struct comparison_run *run, const struct job *job) MT_CHECKED;

/* Local.  The table on standard output; compare.json, compare.svg and compare.html in dir.
 * Errors: IO, NOMEM. */
void comparison_print(const struct comparison *c);
mt_status comparison_write(const struct comparison *c, const char *dir) MT_CHECKED;

#endif
