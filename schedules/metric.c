/* See metric.h. */
#include "schedules/metric.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[METRIC_KINDS] = {"loss", "accuracy", "f1_macro", "mcc"};
static const char *const splits[] = {"dev", "test"};
static const char *const overs[] = {"", "mean", "min", "max"};

const char *metric_kind_name(enum metric_kind kind)
{
    return (unsigned)kind < METRIC_KINDS ? kinds[kind] : "?";
}

/* Position in names of the `length` bytes at text, or -1. */
static int find(const char *const *names, int count, const char *text, size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
            return i;
    return -1;
}

bool metric_parse(struct metric *out, const char *text)
{
    struct metric m = {.over = METRIC_ONE};
    size_t length = strlen(text);
    const char *open = strchr(text, '(');
    if (open != NULL) {
        int over = find(overs, 4, text, (size_t)(open - text));
        if (over <= 0 || text[length - 1] != ')')
            return false;
        m.over = (enum metric_over)over;
        length -= (size_t)(open + 1 - text) + 1;
        text = open + 1;
    }
    const char *dot = memchr(text, '.', length);
    if (dot == NULL)
        return false;
    const char *last = text + length;
    while (last[-1] != '.')
        last--;
    int split = find(splits, 2, text, (size_t)(dot - text));
    int kind = find(kinds, METRIC_KINDS, last, (size_t)(text + length - last));
    if (split < 0 || kind < 0)
        return false;
    m.split = (enum metric_split)split;
    m.kind = (enum metric_kind)kind;
    const char *task = dot + 1;
    bool one = task < last;
    if (one != (m.over == METRIC_ONE))
        return false;
    if (one) {
        size_t n = (size_t)(last - 1 - task);
        if (n == 0 || n >= sizeof m.task)
            return false;
        memcpy(m.task, task, n);
    }
    *out = m;
    return true;
}

bool metric_rises(const struct metric *m)
{
    return m->kind != METRIC_LOSS;
}

bool metric_value(const struct metric *m, const char *const *task_names, int32_t task_count,
                  metric_lookup lookup, void *context, double *value)
{
    double sum = 0, least = 0, most = 0;
    int32_t count = 0;
    for (int32_t t = 0; t < task_count; t++) {
        double v;
        if (m->over == METRIC_ONE && strcmp(m->task, task_names[t]) != 0)
            continue;
        if (!lookup(context, m->split, t, m->kind, &v))
            continue;
        sum += v;
        least = count == 0 || v < least ? v : least;
        most = count == 0 || v > most ? v : most;
        count++;
    }
    if (count == 0)
        return false;
    *value = m->over == METRIC_MIN ? least : m->over == METRIC_MAX ? most : sum / count;
    return true;
}
