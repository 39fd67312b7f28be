/* See phase_machine.h.  State is numbers only; the schedule and the run's length are asked anew. */
#include "schedules/phase_machine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *phase_end_name(enum phase_end e)
{
    static const char *const names[] = {"not ended", "steps",   "tokens", "time",   "threshold",
                                        "plateau",   "command", "fitted", "run end"};
    return (unsigned)e < sizeof names / sizeof names[0] ? names[e] : "?";
}

double phase_machine_epoch(const struct phase_machine *m, const struct run_length *run)
{
    if (m->finished || m->step == m->phase_begin_step)
        return m->phase_begin_epoch;
    return m->phase_begin_epoch +
           (double)(m->step - m->phase_begin_step) / run->steps_per_epoch[m->phase];
}

void phase_machine_replan(struct phase_machine *m, const struct schedule *s,
                          const struct run_length *run)
{
    if (m->finished)
        return;
    int64_t end = schedule_phase_end(s, m->phase, run, m->phase_begin_step, m->phase_begin_epoch);
    m->phase_end_step = end > m->step ? end : m->step;
}

/* Begins `phase`, or the first after it that has steps or a classifier to fit. */
static void enter(struct phase_machine *m, const struct schedule *s, const struct run_length *run,
                  int32_t phase)
{
    m->phase_begin_epoch = phase_machine_epoch(m, run);
    m->phase_begin_step = m->step;
    m->phase_begin_tokens = m->tokens;
    m->phase_begin_seconds = m->seconds;
    for (int i = 0; i < PHASE_CONDITIONS; i++) {
        m->best[i] = 0;
        m->bad_evals[i] = -1;
    }
    for (m->phase = phase; m->phase < s->count; m->phase++) {
        m->phase_end_step = m->step;
        phase_machine_replan(m, s, run);
        if (m->phase_end_step > m->step || s->phase[m->phase].classifier == CLASSIFIER_PROBE)
            return;
        m->ended_step[m->phase] = m->step;
        m->ended_by[m->phase] = ENDED_RUN;
    }
    m->finished = true;
}

void phase_machine_start(struct phase_machine *m, const struct schedule *s,
                         const struct run_length *run)
{
    memset(m, 0, sizeof *m);
    enter(m, s, run, 0);
}

void phase_machine_end_now(struct phase_machine *m, const struct schedule *s,
                           const struct run_length *run, enum phase_end by)
{
    if (m->finished)
        return;
    m->ended_step[m->phase] = m->step;
    m->ended_by[m->phase] = by;
    enter(m, s, run, m->phase + 1);
}

void phase_machine_honour(struct phase_machine *m, int32_t phase, int64_t step, enum phase_end by)
{
    if (phase < m->phase || phase >= SCHEDULE_PHASES || step <= m->step)
        return;
    m->ended_step[phase] = step;
    m->ended_by[phase] = by;
}

static bool reached(struct duration d, enum duration_unit unit, double amount)
{
    return d.unit == unit && amount >= d.amount;
}

static enum phase_end condition_after_step(const struct phase_machine *m, const struct phase *p)
{
    double tokens = (double)(m->tokens - m->phase_begin_tokens);
    double seconds = m->seconds - m->phase_begin_seconds;
    bool honour = m->ended_by[m->phase] != ENDED_NOT;
    if (honour && m->step >= m->ended_step[m->phase])
        return (enum phase_end)m->ended_by[m->phase];
    if (m->step >= m->phase_end_step)
        return ENDED_STEPS;
    bool by_tokens = reached(p->length, DURATION_TOKENS, tokens);
    bool by_time = reached(p->length, DURATION_SECONDS, seconds);
    for (int32_t i = 0; i < p->until_count; i++) {
        const struct until *u = &p->until[i];
        by_tokens = by_tokens || reached(u->at, DURATION_TOKENS, (double)m->tokens) ||
                    reached(u->length, DURATION_TOKENS, tokens);
        by_time = by_time || reached(u->at, DURATION_SECONDS, m->seconds) ||
                  reached(u->length, DURATION_SECONDS, seconds);
    }
    if (by_tokens)
        return ENDED_TOKENS;
    return by_time && !honour ? ENDED_TIME : ENDED_NOT;
}

bool phase_machine_after_step(struct phase_machine *m, const struct schedule *s,
                              const struct run_length *run, int64_t tokens, double seconds)
{
    if (m->finished)
        return false;
    m->step++;
    m->tokens += tokens;
    m->seconds += seconds;
    enum phase_end by = condition_after_step(m, &s->phase[m->phase]);
    if (by == ENDED_NOT)
        return false;
    phase_machine_end_now(m, s, run, by);
    return true;
}

/* Takes note of a value of condition i; whether the phase ends by it. */
static enum phase_end condition_after_eval(struct phase_machine *m, int32_t i,
                                           const struct until *u, const struct metric *metric,
                                           double value)
{
    double gain = metric_rises(metric) ? value - m->best[i] : m->best[i] - value;
    if (isfinite(value) && (m->bad_evals[i] < 0 || gain > u->min_delta)) {
        m->best[i] = value;
        m->bad_evals[i] = 0;
    } else if (m->bad_evals[i] >= 0) {
        m->bad_evals[i]++;
    }
    if ((!isnan(u->above) && value >= u->above) || (!isnan(u->below) && value <= u->below))
        return ENDED_THRESHOLD;
    return u->patience > 0 && m->bad_evals[i] >= u->patience ? ENDED_PLATEAU : ENDED_NOT;
}

bool phase_machine_after_eval(struct phase_machine *m, const struct schedule *s,
                              const struct run_length *run, const char *const *task_names,
                              int32_t task_count, metric_lookup lookup, void *context)
{
    if (m->finished || m->step == m->phase_begin_step)
        return false;
    const struct phase *p = &s->phase[m->phase];
    enum phase_end by = ENDED_NOT;
    for (int32_t i = 0; i < p->until_count && i < PHASE_CONDITIONS; i++) {
        struct metric metric;
        double value;
        if (p->until[i].metric == NULL || !metric_parse(&metric, p->until[i].metric) ||
            !metric_value(&metric, task_names, task_count, lookup, context, &value))
            continue;
        enum phase_end holds = condition_after_eval(m, i, &p->until[i], &metric, value);
        by = by == ENDED_NOT ? holds : by;
    }
    if (by == ENDED_NOT)
        return false;
    phase_machine_end_now(m, s, run, by);
    return true;
}

/* The state as a table: fixed fields, then arrays by condition, then arrays by phase. */
enum { FIXED = 10 };
static const struct {
    const char *name;
    size_t offset;
    bool is_real;
} fixed_fields[FIXED - 2] = {
    {"step", offsetof(struct phase_machine, step), false},
    {"tokens", offsetof(struct phase_machine, tokens), false},
    {"seconds", offsetof(struct phase_machine, seconds), true},
    {"phase_begin_step", offsetof(struct phase_machine, phase_begin_step), false},
    {"phase_end_step", offsetof(struct phase_machine, phase_end_step), false},
    {"phase_begin_tokens", offsetof(struct phase_machine, phase_begin_tokens), false},
    {"phase_begin_seconds", offsetof(struct phase_machine, phase_begin_seconds), true},
    {"phase_begin_epoch", offsetof(struct phase_machine, phase_begin_epoch), true},
};

int32_t phase_machine_field_count(int32_t phases)
{
    return FIXED + 2 * PHASE_CONDITIONS + 2 * phases;
}

void phase_machine_get(const struct phase_machine *m, int32_t phases, int32_t index,
                       struct phase_field *out)
{
    memset(out, 0, sizeof *out);
    int32_t i = index - FIXED;
    if (index == 0) {
        (void)snprintf(out->name, sizeof out->name, "finished");
        out->integer = m->finished;
    } else if (index == 1) {
        (void)snprintf(out->name, sizeof out->name, "phase");
        out->integer = m->phase;
    } else if (index < FIXED) {
        const char *field = (const char *)m + fixed_fields[index - 2].offset;
        (void)snprintf(out->name, sizeof out->name, "%s", fixed_fields[index - 2].name);
        out->is_real = fixed_fields[index - 2].is_real;
        memcpy(out->is_real ? (void *)&out->real : (void *)&out->integer, field, 8);
    } else if (i < PHASE_CONDITIONS) {
        (void)snprintf(out->name, sizeof out->name, "best[%d]", i);
        out->is_real = true;
        out->real = m->best[i];
    } else if (i < 2 * PHASE_CONDITIONS) {
        (void)snprintf(out->name, sizeof out->name, "bad_evals[%d]", i - PHASE_CONDITIONS);
        out->integer = m->bad_evals[i - PHASE_CONDITIONS];
    } else if (i < 2 * PHASE_CONDITIONS + phases) {
        i -= 2 * PHASE_CONDITIONS;
        (void)snprintf(out->name, sizeof out->name, "ended_step[%d]", i);
        out->integer = m->ended_step[i];
    } else {
        i -= 2 * PHASE_CONDITIONS + phases;
        (void)snprintf(out->name, sizeof out->name, "ended_by[%d]", i);
        out->integer = m->ended_by[i];
    }
}

bool phase_machine_set(struct phase_machine *m, int32_t phases, const struct phase_field *field)
{
    struct phase_field known;
    int32_t index = 0;
    int32_t count = phase_machine_field_count(phases);
    for (; index < count; index++) {
        phase_machine_get(m, phases, index, &known);
        if (strcmp(known.name, field->name) == 0)
            break;
    }
    if (index == count)
        return false;
    int32_t i = index - FIXED;
    double real = field->is_real ? field->real : (double)field->integer;
    if (!known.is_real && field->is_real)
        return false;
    if (index == 0)
        m->finished = field->integer != 0;
    else if (index == 1)
        m->phase =
            (int32_t)(field->integer < 0 || field->integer > INT32_MAX ? -1 : field->integer);
    else if (index < FIXED)
        memcpy((char *)m + fixed_fields[index - 2].offset,
               known.is_real ? (const void *)&real : (const void *)&field->integer, 8);
    else if (i < PHASE_CONDITIONS)
        m->best[i] = real;
    else if (i < 2 * PHASE_CONDITIONS)
        m->bad_evals[i - PHASE_CONDITIONS] = field->integer;
    else if (i < 2 * PHASE_CONDITIONS + phases)
        m->ended_step[i - 2 * PHASE_CONDITIONS] = field->integer;
    else
        m->ended_by[i - 2 * PHASE_CONDITIONS - phases] =
            field->integer < ENDED_NOT || field->integer > ENDED_RUN ? -1 : (int32_t)field->integer;
    return true;
}

mt_status phase_machine_check(const struct phase_machine *m, const struct schedule *s)
{
    bool good = m->phase >= 0 && m->phase <= s->count && m->finished == (m->phase == s->count);
    good = good && m->step >= 0 && m->tokens >= 0 && m->phase_begin_tokens >= 0 &&
           m->phase_begin_tokens <= m->tokens && m->phase_begin_step >= 0 &&
           m->phase_begin_step <= m->step;
    good = good && isfinite(m->seconds) && m->seconds >= 0 && isfinite(m->phase_begin_seconds) &&
           isfinite(m->phase_begin_epoch) && m->phase_begin_epoch >= 0;
    good = good && (m->finished || m->phase_end_step >= m->step);
    for (int i = 0; i < PHASE_CONDITIONS; i++)
        good = good && isfinite(m->best[i]) && m->bad_evals[i] >= -1;
    for (int32_t i = 0; i < s->count && i < SCHEDULE_PHASES; i++)
        good = good && m->ended_by[i] >= 0 && m->ended_step[i] >= 0;
    if (good)
        return MT_OK;
    return MT_FAIL(MT_DATA,
                   "the saved place in the schedule does not fit it (phase %d of %d, step "
                   "%lld)",
                   m->phase, s->count, (long long)m->step);
}
