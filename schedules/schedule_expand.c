/*
 * See schedule.h.  `gradual`: one declared phase becomes one phase a layer.
 *
 * Each new phase is a copy of the declared one that trains top(k) beside what it trains itself.
 * Without `every` the phases share the declared one's part of the run equally, which needs its
 * beginning and end as fractions of the run; so that a schedule file fits any depth.
 */
#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/pattern.h"
#include "schedules/schedule.h"

/* The fraction of the run at which the phase ends; 1 without any condition; negative = unknown. */
static double run_fraction(const struct phase *p)
{
    double end = p->until_count == 0 ? 1 : -1;
    for (int32_t i = 0; i < p->until_count; i++)
        if (p->until[i].at.unit == DURATION_RUN)
            end = p->until[i].at.amount;
    return p->length.unit == DURATION_UNSET ? end : -1;
}

static mt_status layer_count(const struct phase *p, const char *key, const char *text,
                             int32_t layers, int32_t *out)
{
    *out = pattern_top(text, layers);
    if (strcmp(text, "none") == 0)
        *out = 0;
    if (strcmp(text, "all") == 0)
        *out = layers;
    if (*out >= 0)
        return MT_OK;
    return MT_FAIL(MT_CONFIG,
                   "%s.gradual.%s: expected \"none\", \"top(4)\", \"top(25%%)\" or "
                   "\"all\", got \"%s\"",
                   p->where == NULL ? "phases" : p->where, key, text);
}

/* Gives phase `out`, a copy of p, its place: the k-th of n. */
static void set_end(struct phase *out, const struct phase *p, double begin, double end, int32_t k,
                    int32_t n)
{
    if (k == n - 1)
        return;
    struct duration every = p->gradual.every;
    if (every.unit == DURATION_PHASE)
        every = (struct duration){DURATION_RUN, every.amount * (end - begin)};
    if (every.unit != DURATION_UNSET) {
        out->length = every;
        return;
    }
    double at = begin + (end - begin) * (k + 1) / n;
    for (int32_t i = 0; i < out->until_count; i++)
        if (out->until[i].at.unit == DURATION_RUN)
            out->until[i].at.amount = at;
}

static mt_status add_until(struct phase *p)
{
    if (p->until_count > 0)
        return MT_OK;
    mt_free(&p->until);
    MT_TRY(mt_alloc(&p->until, 1, sizeof *p->until, "a condition"));
    p->until_count = 1;
    p->until[0].at = (struct duration){DURATION_RUN, 1};
    p->until[0].above = p->until[0].below = NAN;
    return MT_OK;
}

/* Makes the k-th of n phases of p in *out; `top` layers, or everything. */
static mt_status make_phase(struct phase *out, const struct phase *p, int32_t top, bool everything,
                            double begin, double end, int32_t k, int32_t n)
{
    char name[160], pattern[32];
    MT_TRY(options_copy(&phase_options, out, p));
    mt_free(&out->gradual.from);
    mt_free(&out->gradual.to);
    memset(&out->gradual, 0, sizeof out->gradual);
    (void)snprintf(pattern, sizeof pattern, "top(%d)", top);
    (void)snprintf(name, sizeof name, everything ? "%.120s-all" : "%.120s-top%d", p->name, top);
    MT_TRY(options_set_string(&out->name, name));
    MT_TRY(add_until(out));
    set_end(out, p, begin, end, k, n);
    if (p->train.where == NULL) { /* not given: the heads are what is trained from the start */
        MT_TRY(options_set_string(&out->train.item[0], "heads.*"));
        MT_TRY(string_list_add(&out->train, "pooler.*"));
    }
    return string_list_add(&out->train, everything ? "*" : pattern);
}

static mt_status check_shares(const struct phase *p, double begin, double end)
{
    enum duration_unit unit = p->gradual.every.unit;
    if (unit != DURATION_UNSET && unit != DURATION_PHASE)
        return MT_OK;
    if (begin >= 0 && end > begin)
        return MT_OK;
    return MT_FAIL(
        MT_CONFIG,
        "%s.gradual: give `every` as steps, epochs or a share of the run (\"0.5ep\"), or "
        "let this phase and the one before end at fractions of the run",
        p->where == NULL ? "phases" : p->where);
}

static mt_status expand_phase(struct schedule *out, const struct phase *p, double begin,
                              int32_t layers)
{
    int32_t from, to;
    const char *first = p->gradual.from == NULL ? "top(1)" : p->gradual.from;
    bool all = strcmp(p->gradual.to, "all") == 0;
    MT_TRY(layer_count(p, "from", first, layers, &from));
    MT_TRY(layer_count(p, "to", p->gradual.to, layers, &to));
    if (to < from)
        return MT_FAIL(MT_CONFIG, "%s.gradual: goes from %s down to %s; it must rise",
                       p->where == NULL ? "phases" : p->where, first, p->gradual.to);
    double end = run_fraction(p);
    MT_TRY(check_shares(p, begin, end));
    int32_t n = to - from + 1 + (all ? 1 : 0);
    if (n > SCHEDULE_PHASES - out->count)
        return MT_FAIL(MT_CONFIG, "%s.gradual: more than %d phases",
                       p->where == NULL ? "phases" : p->where, SCHEDULE_PHASES);
    MT_TRY(mt_grow(&out->phase, out->count, out->count + n, sizeof *out->phase, "phases"));
    for (int32_t k = 0; k < n; k++) {
        bool everything = all && k == n - 1;
        struct phase *added = &out->phase[out->count++];
        MT_TRY(make_phase(added, p, from + k, everything, begin, end, k, n));
    }
    return MT_OK;
}

static mt_status expand(const struct schedule *s, struct schedule *out, int32_t layers)
{
    double begin = 0;
    for (int32_t i = 0; i < s->count; i++) {
        const struct phase *p = &s->phase[i];
        if (p->gradual.to != NULL) {
            MT_TRY(expand_phase(out, p, begin, layers));
        } else {
            if (out->count == SCHEDULE_PHASES)
                return MT_FAIL(MT_CONFIG, "more than %d phases", SCHEDULE_PHASES);
            MT_TRY(mt_grow(&out->phase, out->count, out->count + 1, sizeof *out->phase, "phases"));
            MT_TRY(options_copy(&phase_options, &out->phase[out->count++], p));
        }
        begin = run_fraction(p);
    }
    return MT_OK;
}

mt_status schedule_expand(struct schedule *s, int32_t layers)
{
    bool any = false;
    for (int32_t i = 0; i < s->count; i++)
        any = any || s->phase[i].gradual.to != NULL;
    if (!any)
        return MT_OK;
    struct schedule expanded = {0};
    mt_status st = expand(s, &expanded, layers);
    if (st != MT_OK) {
        schedule_release(&expanded);
        return st;
    }
    expanded.name = s->name;
    s->name = NULL;
    schedule_release(s);
    *s = expanded;
    return MT_OK;
}
