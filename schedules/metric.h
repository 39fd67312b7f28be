/* metric: names of evaluation results: "dev.sentiment.accuracy", "mean(dev.accuracy)". */
#ifndef MT_SCHEDULES_METRIC_H
#define MT_SCHEDULES_METRIC_H

#include "comm/base/status.h"

enum metric_kind { METRIC_LOSS, METRIC_ACCURACY, METRIC_F1_MACRO, METRIC_MCC, METRIC_KINDS };
enum metric_over { METRIC_ONE, METRIC_MEAN, METRIC_MIN, METRIC_MAX };
enum metric_split { METRIC_DEV, METRIC_TEST };

struct metric {
    enum metric_split split;
    enum metric_kind kind;
    enum metric_over over;
    char task[64]; /* "" where over is not METRIC_ONE */
};

const char *metric_kind_name(enum metric_kind kind); /* "f1_macro" */

/* Local.  "SPLIT.TASK.KIND", or OVER(SPLIT.KIND) with OVER one of mean, min, max: over all tasks
 * that have a value.  False for anything else. */
bool metric_parse(struct metric *out, const char *text);

/* Whether a larger value is better: all but the loss. */
bool metric_rises(const struct metric *m);

/* A value of one task; false where there is none (no such data, no labelled row). */
typedef bool (*metric_lookup)(void *context, enum metric_split split, int32_t task,
                              enum metric_kind kind, double *value);

/* Local.  The metric's value; false where no task has one. */
bool metric_value(const struct metric *m, const char *const *task_names, int32_t task_count,
                  metric_lookup lookup, void *context, double *value);

#endif
