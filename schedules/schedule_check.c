/* See schedule.h.  Everything about phases that is wrong on the face of the file. */
#include <math.h>
#include <string.h>

#include "schedules/metric.h"
#include "schedules/pattern.h"
#include "schedules/schedule.h"

struct names {
    const char *const *name;
    int32_t count;
    const char *what;
};

static const char *where(const struct phase *p)
{
    return p->where == NULL ? "phases" : p->where;
}

static mt_status check_name(const char *place, const char *key, const struct names *known,
                            const char *name)
{
    for (int32_t i = 0; i < known->count; i++)
        if (strcmp(known->name[i], name) == 0)
            return MT_OK;
    const char *near = text_nearest(name, known->name, known->count);
    return MT_FAIL(MT_CONFIG, "%s%s: there is no %s named \"%.100s\"%s%s%s", place, key,
                   known->what, name, near == NULL ? "" : ", did you mean \"",
                   near == NULL ? "" : near, near == NULL ? "" : "\"?");
}

static mt_status check_names(const struct string_list *list, const struct names *known)
{
    for (int32_t i = 0; i < list->count; i++)
        MT_TRY(check_name(list->where == NULL ? "phases" : list->where, "", known, list->item[i]));
    return MT_OK;
}

static mt_status check_weights(const struct weight_list *list, const struct names *known)
{
    for (int32_t i = 0; i < list->count; i++)
        MT_TRY(check_name(list->where == NULL ? "phases" : list->where, "", known, list->name[i]));
    return MT_OK;
}

static mt_status check_until(const struct phase *p, const struct until *u,
                             const struct names *tasks)
{
    struct metric m;
    bool threshold = !isnan(u->above) || !isnan(u->below);
    if (u->at.unit == DURATION_PHASE || u->length.unit == DURATION_PHASE)
        return MT_FAIL(MT_CONFIG,
                       "%s.until: a phase cannot end at a fraction of itself; use st, "
                       "ep, run, tok or a time",
                       where(p));
    if (u->metric == NULL && (threshold || u->patience > 0))
        return MT_FAIL(MT_CONFIG, "%s.until: above, below and patience need a metric", where(p));
    if (u->metric == NULL && u->at.unit == DURATION_UNSET && u->length.unit == DURATION_UNSET)
        return MT_FAIL(MT_CONFIG, "%s.until: a condition that says nothing", where(p));
    if (u->metric == NULL)
        return MT_OK;
    if (!metric_parse(&m, u->metric))
        return MT_FAIL(MT_CONFIG,
                       "%s.until.metric: expected dev.TASK.KIND or mean(dev.KIND) with KIND one of "
                       "loss, accuracy, f1_macro, mcc, got \"%.100s\"",
                       where(p), u->metric);
    if (m.over == METRIC_ONE)
        MT_TRY(check_name(where(p), ".until.metric", tasks, m.task));
    if (!threshold && u->patience == 0)
        return MT_FAIL(MT_CONFIG, "%s.until: a metric needs above, below or patience", where(p));
    return MT_OK;
}

static mt_status check_patterns(const struct phase *p, const struct string_list *list)
{
    for (int32_t i = 0; i < list->count; i++)
        MT_TRY(pattern_check(list->item[i], list->where == NULL ? where(p) : list->where));
    return MT_OK;
}

static mt_status check_part(const struct phase *p, const char *key, struct duration d)
{
    if (d.unit != DURATION_SECONDS && d.unit != DURATION_TOKENS)
        return MT_OK;
    return MT_FAIL(MT_CONFIG, "%s.%s: give it in st, ep, run or phase", where(p), key);
}

static mt_status check_training(const struct phase *p)
{
    bool nothing =
        p->train.count == 0 || (p->train.count == 1 && strcmp(p->train.item[0], "none") == 0);
    bool probe = p->classifier == CLASSIFIER_PROBE;
    if (probe && (!nothing || p->gradual.to != NULL))
        return MT_FAIL(MT_CONFIG,
                       "%s: classifier = \"probe\" trains no tensor of the network: "
                       "write train = [ ]",
                       where(p));
    if (nothing && !probe && p->gradual.to == NULL)
        return MT_FAIL(MT_CONFIG,
                       "%s.train: nothing is trained; for a separate classifier on the "
                       "frozen network add classifier = \"probe\"",
                       where(p));
    if (p->frozen_dropout && p->cache == CACHE_ON)
        return MT_FAIL(MT_CONFIG,
                       "%s: cache = \"on\" and frozen_dropout = true rule each other "
                       "out: what is random cannot be computed once",
                       where(p));
    if (p->gradual.to == NULL &&
        (p->gradual.from != NULL || p->gradual.every.unit != DURATION_UNSET))
        return MT_FAIL(MT_CONFIG, "%s.gradual.to is missing: \"all\" or top(4)", where(p));
    if (p->sampling == SAMPLING_EXPLICIT && p->weights.count == 0)
        return MT_FAIL(MT_CONFIG, "%s.sampling: \"explicit\" needs weights = { DATA = 1.0; ... }",
                       where(p));
    return MT_OK;
}

static mt_status check_order(const struct schedule *s)
{
    double before = 0;
    for (int32_t i = 0; i < s->count; i++)
        for (int32_t k = 0; k < s->phase[i].until_count; k++) {
            struct duration at = s->phase[i].until[k].at;
            if (at.unit != DURATION_RUN)
                continue;
            if (at.amount <= before)
                return MT_FAIL(MT_CONFIG,
                               "%s.until: %grun is not after the phases before it, so it would "
                               "have no step (until counts from the run's beginning; length from "
                               "the phase's)",
                               where(&s->phase[i]), at.amount);
            before = s->phase[i].until_count == 1 ? at.amount : before;
        }
    return MT_OK;
}

mt_status schedule_check(const struct schedule *s, const char *const *task_names,
                         int32_t task_count, const char *const *data_names, int32_t data_count)
{
    const struct names tasks = {task_names, task_count, "task"};
    const struct names data = {data_names, data_count, "data set"};
    if (s->count > SCHEDULE_PHASES)
        return MT_FAIL(MT_CONFIG, "phases: %d of them, at most %d", s->count, SCHEDULE_PHASES);
    for (int32_t i = 0; i < s->count; i++) {
        const struct phase *p = &s->phase[i];
        for (int32_t k = 0; k < i; k++)
            if (strcmp(p->name, s->phase[k].name) == 0)
                return MT_FAIL(MT_CONFIG, "%s.name: a second phase named \"%.100s\"", where(p),
                               p->name);
        for (int32_t k = 0; k < p->until_count; k++)
            MT_TRY(check_until(p, &p->until[k], &tasks));
        if (p->length.unit == DURATION_PHASE)
            return MT_FAIL(MT_CONFIG, "%s.length: a phase cannot end at a fraction of itself",
                           where(p));
        MT_TRY(check_part(p, "warmup", p->warmup));
        MT_TRY(check_part(p, "decay", p->decay));
        MT_TRY(check_patterns(p, &p->train));
        MT_TRY(check_patterns(p, &p->freeze));
        for (int32_t k = 0; k < p->rate_count; k++)
            MT_TRY(check_patterns(p, &p->rates[k].match));
        MT_TRY(check_names(&p->tasks, &tasks));
        MT_TRY(check_weights(&p->loss_weights, &tasks));
        MT_TRY(check_weights(&p->weights, &data));
        MT_TRY(check_training(p));
    }
    return check_order(s);
}
