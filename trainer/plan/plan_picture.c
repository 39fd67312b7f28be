/* The picture of a plan: two charts of io/chart.h, one below the other, in one SVG. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/chart.h"
#include "trainer/plan/plan.h"

enum { POINTS = 120, WIDTH = 720, RATES_HEIGHT = 300, SERIES_MAX = 8 };

struct picture {
    const struct plan *plan;
    struct chart_band *bands;    /* [phases] */
    const char **row;            /* [groups] */
    double *rate;                /* [phases][groups] */
    double *x, *y;               /* [series][points of all phases] */
    struct chart_series *series; /* [SERIES_MAX] */
};

static void release(struct picture *c)
{
    mt_free(&c->bands);
    mt_free(&c->row);
    mt_free(&c->rate);
    mt_free(&c->x);
    mt_free(&c->y);
    mt_free(&c->series);
}

static int32_t groups_of(const struct plan *p)
{
    return p->phase_count > 0 ? p->phase[0].group_count : 0;
}

static void add_bands(struct picture *c)
{
    const struct plan *p = c->plan;
    int32_t groups = groups_of(p);
    for (int32_t i = 0; i < p->phase_count; i++) {
        const struct plan_phase *ph = &p->phase[i];
        c->bands[i] =
            (struct chart_band){(double)ph->begin, (double)ph->end, ph->plan->phase->name};
        for (int32_t g = 0; g < groups; g++)
            c->rate[(int64_t)i * groups + g] = ph->group[g].trained > 0 ? ph->group[g].lr_most : 0;
    }
    for (int32_t g = 0; g < groups; g++)
        c->row[g] = p->phase[0].group[g].name;
}

/* The rate of one group over all steps, with a gap where it is frozen. */
static void add_curve(struct picture *c, int32_t which, int32_t group)
{
    const struct plan *p = c->plan;
    const struct run *run = p->run;
    int64_t capacity = (int64_t)p->phase_count * POINTS, n = 0;
    double *x = c->x + which * capacity, *y = c->y + which * capacity;
    for (int32_t i = 0; i < p->phase_count; i++) {
        const struct plan_phase *ph = &p->phase[i];
        const struct phase *declared = ph->plan->phase;
        int64_t steps = ph->end - ph->begin;
        int64_t warmup = schedule_warmup_steps(declared, &run->length, i, run->run_steps, steps);
        int64_t decay = schedule_decay_steps(declared, &run->length, i, run->run_steps, steps);
        for (int32_t k = 0; k < POINTS && steps > 0; k++) {
            int64_t step = steps > 1 ? (steps - 1) * k / (POINTS - 1) : 0;
            bool trained = ph->group[group].trained > 0;
            x[n] = (double)(ph->begin + step);
            y[n++] = trained ? ph->group[group].lr_most *
                                   phase_factor(declared, step, steps, warmup, decay)
                             : NAN;
        }
    }
    c->series[which] = (struct chart_series){
        .name = p->phase[0].group[group].name, .kind = CHART_LINE, .x = x, .y = y, .count = n};
}

static mt_status allocate(struct picture *c)
{
    int64_t phases = c->plan->phase_count, groups = groups_of(c->plan);
    MT_TRY(mt_alloc(&c->bands, phases, sizeof *c->bands, "bands"));
    MT_TRY(mt_alloc(&c->row, groups, sizeof *c->row, "rows"));
    MT_TRY(mt_alloc(&c->rate, phases * groups, sizeof *c->rate, "rates"));
    MT_TRY(mt_alloc(&c->x, SERIES_MAX * phases * POINTS, sizeof *c->x, "points"));
    MT_TRY(mt_alloc(&c->y, SERIES_MAX * phases * POINTS, sizeof *c->y, "points"));
    return mt_alloc(&c->series, SERIES_MAX, sizeof *c->series, "series");
}

/* From the top down, at most SERIES_MAX groups, evenly spread. */
static int32_t add_curves(struct picture *c)
{
    int32_t groups = groups_of(c->plan), count = groups < SERIES_MAX ? groups : SERIES_MAX;
    for (int32_t i = 0; i < count; i++)
        add_curve(c, i, count > 1 ? (groups - 1) - i * (groups - 1) / (count - 1) : 0);
    return count;
}

mt_status plan_picture(const struct plan *p, struct markup *out)
{
    struct picture c = {.plan = p};
    mt_status st;
    MT_TRY_GOTO(st, allocate(&c), done);
    add_bands(&c);
    int32_t groups = groups_of(p), curves = add_curves(&c);
    int32_t layers_height = 110 + groups * (groups <= 16 ? 18 : groups <= 32 ? 13 : 7);
    struct chart_spec rates = {.title = "Learning rate",
                               .x_label = "step",
                               .series = c.series,
                               .series_count = curves,
                               .bands = c.bands,
                               .band_count = p->phase_count,
                               .y_from_zero = true,
                               .width = WIDTH,
                               .height = RATES_HEIGHT};
    struct chart_layers layers = {.title = "Trained layers",
                                  .x_label = "step",
                                  .row_names = c.row,
                                  .row_count = groups,
                                  .phases = c.bands,
                                  .phase_count = p->phase_count,
                                  .rate = c.rate,
                                  .width = WIDTH,
                                  .height = layers_height};
    int32_t height = RATES_HEIGHT + layers_height;
    markup_addf(out,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mtc\" width=\"%d\" "
                "height=\"%d\" viewBox=\"0 0 %d %d\">\n<style>",
                WIDTH, height, WIDTH, height);
    chart_add_style(out);
    markup_addf(out, "</style>\n<rect class=\"pa\" width=\"%d\" height=\"%d\"/>\n<g>\n", WIDTH,
                height);
    chart_add(out, &rates);
    markup_addf(out, "</g>\n<g transform=\"translate(0 %d)\">\n", RATES_HEIGHT);
    chart_layers_add(out, &layers);
    markup_add(out, "</g>\n</svg>\n");
    st = markup_check(out);
done:
    release(&c);
    return st;
}
