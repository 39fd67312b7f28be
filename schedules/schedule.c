/* See schedule.h.  What can be said of all phases together; all of it arithmetic on the file. */
#include "schedules/schedule.h"

#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/pattern.h"

/* Steps up to `amount` epochs or steps; an accumulated epoch must not cost a step by rounding. */
static int64_t round_up(double steps)
{
    double n = ceil(steps - 1e-6);
    return n < 9e18 ? (int64_t)(n > 0 ? n : 0) : INT64_MAX;
}

static int64_t add_steps(int64_t step, int64_t more)
{
    return more > INT64_MAX - step ? INT64_MAX : step + more;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The step at which the run reaches `epochs`, from a phase's beginning. */
static int64_t step_at_epoch(double epochs, double steps_per_epoch, int64_t step, double epoch)
{
    return add_steps(step, round_up((epochs - epoch) * steps_per_epoch));
}

/* The end that one duration sets; INT64_MAX where it says nothing about steps. */
static int64_t duration_end(struct duration d, bool from_phase, const struct run_length *run,
                            double steps_per_epoch, int64_t step, double epoch)
{
    int64_t end = INT64_MAX;
    switch (d.unit) {
    case DURATION_STEPS:
        return add_steps(from_phase ? step : 0, round_up(d.amount));
    case DURATION_EPOCHS:
        return step_at_epoch(d.amount + (from_phase ? epoch : 0), steps_per_epoch, step, epoch);
    case DURATION_RUN:
        if (run->max_steps > 0)
            end = add_steps(from_phase ? step : 0, round_up(d.amount * (double)run->max_steps));
        if (run->epochs > 0)
            end = least(end, step_at_epoch(d.amount * run->epochs + (from_phase ? epoch : 0),
                                           steps_per_epoch, step, epoch));
        return end;
    case DURATION_UNSET:
    case DURATION_PHASE:
    case DURATION_SECONDS:
    case DURATION_TOKENS:
        break;
    }
    return end;
}

int64_t schedule_phase_end(const struct schedule *s, int32_t phase, const struct run_length *run,
                           int64_t step, double epoch)
{
    const struct phase *p = &s->phase[phase];
    double per_epoch = run->steps_per_epoch[phase];
    if (p->classifier == CLASSIFIER_PROBE)
        return step;
    int64_t end = run->max_steps > 0 ? run->max_steps : INT64_MAX;
    if (run->epochs > 0)
        end = least(end, step_at_epoch(run->epochs, per_epoch, step, epoch));
    end = least(end, duration_end(p->length, true, run, per_epoch, step, epoch));
    for (int32_t i = 0; i < p->until_count; i++) {
        end = least(end, duration_end(p->until[i].at, false, run, per_epoch, step, epoch));
        end = least(end, duration_end(p->until[i].length, true, run, per_epoch, step, epoch));
    }
    return end > step ? end : step;
}

void schedule_phase_bounds(const struct schedule *s, const struct run_length *run, int64_t *begin,
                           int64_t *end)
{
    int64_t step = 0;
    double epoch = 0;
    for (int32_t i = 0; i < s->count; i++) {
        begin[i] = step;
        end[i] = schedule_phase_end(s, i, run, step, epoch);
        epoch += (double)(end[i] - step) / run->steps_per_epoch[i];
        step = end[i];
    }
}

int64_t schedule_run_steps(const struct schedule *s, const struct run_length *run)
{
    int64_t begin[SCHEDULE_PHASES], end[SCHEDULE_PHASES];
    schedule_phase_bounds(s, run, begin, end);
    return s->count > 0 ? end[s->count - 1] : 0;
}

static int64_t part_steps(struct duration d, const struct run_length *run, int32_t phase,
                          int64_t run_steps, int64_t phase_steps)
{
    const struct duration_scale scale = {run->steps_per_epoch[phase], run_steps, phase_steps};
    int64_t steps = duration_steps(d, &scale);
    return steps < 0 ? 0 : least(steps, phase_steps);
}

int64_t schedule_warmup_steps(const struct phase *p, const struct run_length *run, int32_t phase,
                              int64_t run_steps, int64_t phase_steps)
{
    return part_steps(p->warmup, run, phase, run_steps, phase_steps);
}

int64_t schedule_decay_steps(const struct phase *p, const struct run_length *run, int32_t phase,
                             int64_t run_steps, int64_t phase_steps)
{
    return part_steps(p->decay, run, phase, run_steps, phase_steps);
}

void schedule_release(struct schedule *s)
{
    for (int32_t i = 0; i < s->count; i++)
        options_release(&phase_options, &s->phase[i]);
    mt_free(&s->phase);
    mt_free(&s->name);
    s->count = 0;
}

/* Replaces each "$frozen_head" in *field. */
static mt_status replace_head(char **field, const char *head)
{
    static const char variable[] = "$frozen_head";
    if (*field == NULL || strstr(*field, variable) == NULL)
        return MT_OK;
    struct text t = {0};
    const char *at = *field;
    for (const char *hit; (hit = strstr(at, variable)) != NULL; at = hit + strlen(variable)) {
        text_add_bytes(&t, at, hit - at);
        text_add(&t, head);
    }
    text_add(&t, at);
    char *replaced;
    MT_TRY(text_finish(&t, &replaced));
    mt_free(field);
    *field = replaced;
    return MT_OK;
}

static mt_status replace_heads(struct string_list *list, const char *head)
{
    for (int32_t i = 0; i < list->count; i++)
        MT_TRY(replace_head(&list->item[i], head));
    return MT_OK;
}

static void inherit(double *field, double value)
{
    if (isnan(*field))
        *field = value;
}

static mt_status complete_phase(struct phase *p, int32_t index, const struct schedule_defaults *d)
{
    inherit(&p->lr, d->lr);
    inherit(&p->weight_decay, d->weight_decay);
    inherit(&p->layer_decay, d->layer_decay);
    inherit(&p->final_lr, d->final_lr);
    inherit(&p->power, d->power);
    inherit(&p->temperature, d->temperature);
    p->shape = p->shape == SHAPE_INHERIT ? d->shape : p->shape;
    p->cache = p->cache == CACHE_INHERIT ? d->cache : p->cache;
    p->warmup = p->warmup.unit == DURATION_UNSET ? d->warmup : p->warmup;
    p->decay = p->decay.unit == DURATION_UNSET ? d->decay : p->decay;
    p->sentences = p->sentences == 0 ? d->sentences : p->sentences;
    if (p->sampling == SAMPLING_INHERIT) {
        p->sampling = d->sampling;
        bool own = p->weights.count > 0;
        for (int32_t i = 0; !own && i < d->weights->count; i++) {
            MT_TRY(mt_grow(&p->weights.name, i, i + 1, sizeof *p->weights.name, "weights"));
            p->weights.count = i + 1;
            MT_TRY(mt_grow(&p->weights.value, i, i + 1, sizeof *p->weights.value, "weights"));
            MT_TRY(mt_strdup(&p->weights.name[i], d->weights->name[i]));
            p->weights.value[i] = d->weights->value[i];
        }
    }
    if (p->name == NULL) {
        char name[32];
        (void)snprintf(name, sizeof name, "phase%d", index + 1);
        MT_TRY(mt_strdup(&p->name, name));
    }
    MT_TRY(replace_heads(&p->train, d->frozen_head));
    MT_TRY(replace_heads(&p->freeze, d->frozen_head));
    MT_TRY(replace_heads(&p->tasks, d->frozen_head));
    for (int32_t i = 0; i < p->rate_count; i++)
        MT_TRY(replace_heads(&p->rates[i].match, d->frozen_head));
    for (int32_t i = 0; i < p->until_count; i++)
        MT_TRY(replace_head(&p->until[i].metric, d->frozen_head));
    return MT_OK;
}

mt_status schedule_complete(struct schedule *s, const struct schedule_defaults *d)
{
    if (s->count == 0) {
        mt_free(&s->phase);
        MT_TRY(mt_alloc(&s->phase, 1, sizeof *s->phase, "a phase"));
        MT_TRY(options_parse(&phase_options, &s->phase[0], NULL, NULL));
        s->count = 1;
        MT_TRY(options_set_string(&s->phase[0].name, "all"));
        if (s->name == NULL)
            MT_TRY(mt_strdup(&s->name, "full"));
    }
    for (int32_t i = 0; i < s->count; i++)
        MT_TRY(complete_phase(&s->phase[i], i, d));
    return MT_OK;
}
