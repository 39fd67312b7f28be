/* See job_checks.h. */
#include "trainer/job_checks.h"

#include <math.h>

#include "comm/base/log.h"
#include "comm/base/memory.h"

static mt_status check_task(const struct run *run, int32_t t)
{
    const struct job_task *task = &run->job.tasks[t];
    const struct dataset *d = run->corpora.set[SPLIT_TRAIN][task->set];
    int32_t column = run->corpora.column[SPLIT_TRAIN][task->set][t];
    int32_t classes = run->model.task[t].classes;
    int64_t *count = NULL;
    if (d == NULL || column < 0 || dataset_labelled_rows(d, column) == 0)
        return MT_FAIL(MT_DATA,
                       "%s: no row of the training data of \"%s\" has a label of task \"%s\", so "
                       "its head would learn nothing; check its column, or leave the task out",
                       task->where, run->job.data[task->set].name, task->name);
    MT_TRY(mt_alloc(&count, classes, sizeof *count, "rows of classes"));
    for (int64_t row = 0; row < dataset_rows(d); row++)
        if (dataset_label(d, column, row) >= 0)
            count[dataset_label(d, column, row)]++;
    for (int32_t k = 0; k < classes; k++)
        if (count[k] == 0)
            log_warning("%s: no training row has the label \"%s\"", task->where,
                        run->corpora.labels[t].item[k]);
    mt_free(&count);
    d = run->corpora.set[SPLIT_DEV][task->set];
    column = run->corpora.column[SPLIT_DEV][task->set][t];
    if (d == NULL || column < 0 || dataset_labelled_rows(d, column) == 0)
        log_warning("%s: no dev data, so task \"%s\" is never evaluated", task->where, task->name);
    return MT_OK;
}

/* Whether something other than steps and thresholds ends a phase for certain. */
static bool ends_by_itself(const struct phase *p)
{
    bool ends = p->classifier == CLASSIFIER_PROBE || p->length.unit == DURATION_SECONDS ||
                p->length.unit == DURATION_TOKENS;
    for (int32_t i = 0; i < p->until_count; i++) {
        const struct until *u = &p->until[i];
        ends = ends || u->at.unit == DURATION_SECONDS || u->at.unit == DURATION_TOKENS ||
               u->length.unit == DURATION_SECONDS || u->length.unit == DURATION_TOKENS ||
               u->patience > 0;
    }
    return ends;
}

static bool ends_early(const struct phase *p)
{
    bool early = ends_by_itself(p) && p->classifier != CLASSIFIER_PROBE;
    for (int32_t i = 0; i < p->until_count; i++)
        early = early || p->until[i].metric != NULL;
    return early;
}

static bool has_metric(const struct phase *p)
{
    for (int32_t i = 0; i < p->until_count; i++)
        if (p->until[i].metric != NULL)
            return true;
    return false;
}

static mt_status check_phase(const struct run *run, int32_t i, int64_t begin, int64_t end,
                             bool may_begin_early)
{
    const struct phase_plan *plan = &run->plan[i];
    const struct phase *p = plan->phase;
    const char *where = p->where != NULL ? p->where : run->job.file;
    bool any_dev = false;
    if (end == INT64_MAX && !ends_by_itself(p))
        return MT_FAIL(MT_CONFIG,
                       "%s.until: phase \"%s\" may never end%s; bound it (until = \"5ep\"), or the "
                       "run (train.epochs, train.max_steps)",
                       where, p->name,
                       p->until_count > 0 ? ", since its metric may never get there" : "");
    for (int32_t set = 0; set < run->job.data_count; set++)
        any_dev = any_dev || run->corpora.set[SPLIT_DEV][set] != NULL;
    if (has_metric(p) && !any_dev)
        return MT_FAIL(MT_CONFIG,
                       "%s.until: a metric is asked for, but the job has no dev data; name some "
                       "in data.dev",
                       where);
    if (end <= begin && !plan->probe && !may_begin_early)
        log_warning("%s: phase \"%s\" has no step: it would begin at step %lld, and end by then",
                    where, p->name, (long long)begin);
    if (p->cache == CACHE_ON && plan->train_from == 0)
        log_warning("%s: cache = \"on\" has no effect: nothing below the trained tensors is frozen",
                    where);
    if (p->frozen_dropout && plan->train_from > 0)
        log_info("%s: frozen_dropout = true rules out the cache", where);
    return MT_OK;
}

mt_status job_checks_run(const struct run *run)
{
    int64_t begin[SCHEDULE_PHASES], end[SCHEDULE_PHASES];
    bool early = false;
    for (int32_t t = 0; t < run->job.task_count; t++)
        MT_TRY(check_task(run, t));
    schedule_phase_bounds(&run->job.schedule, &run->length, begin, end);
    for (int32_t i = 0; i < run->job.schedule.count; i++) {
        MT_TRY(check_phase(run, i, begin[i], end[i], early));
        early = early || ends_early(run->plan[i].phase);
    }
    return MT_OK;
}
