/*
 * The history is read once in bounded memory (run_history.h), then written from top to bottom:
 * state and facts, curves, tables.  A part without numbers is left out, not shown empty.
 */
#include "io/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "comm/base/memory.h"
#include "io/chart.h"
#include "io/file.h"
#include "io/report_page.h"
#include "io/report_tables.h"
#include "io/run_history.h"

enum { PAGE_BYTES_MAX = 64 << 20, RAW_BELOW = 40, NAMES_BYTES = 2 * HISTORY_TEXT_BYTES + 4 };

_Static_assert((int)REPORT_POINTS_MAX == (int)CURVE_POINTS_MAX,
               "a curve holds what the report promises");

struct report {
    struct markup page;
    const struct run_history *history;
    struct chart_band *bands; /* [phase_count] */
    struct chart_series *series;
    char (*names)[NAMES_BYTES];
    double *numbers; /* room for the points of all series of one chart */
    int32_t series_capacity;
};

static void add_fact(struct markup *m, const char *key, const char *value)
{
    char words[64];
    (void)snprintf(words, sizeof words, "%s", key);
    for (char *p = words; *p != '\0'; p++)
        *p = *p == '_' ? ' ' : *p;
    markup_add(m, "<div><dt>");
    markup_add_escaped(m, words);
    markup_add(m, "</dt><dd>");
    markup_add_escaped(m, value);
    markup_add(m, "</dd></div>\n");
}

static void add_time_fact(struct markup *m, const char *key, double unix_s)
{
    char text[64];
    struct tm utc;
    if (!(unix_s > 0 && unix_s < 2.5e11))
        return;
    time_t t = (time_t)unix_s;
    if (gmtime_r(&t, &utc) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &utc) > 0)
        add_fact(m, key, text);
}

static void add_head(struct report *r)
{
    struct markup *m = &r->page;
    const struct run_history *h = r->history;
    const char *state = h->is_done      ? "done"
                        : h->is_stopped ? "stopped"
                        : h->lines == 0 ? "no events"
                                        : "running, or interrupted";
    markup_add(m, "<h1>");
    markup_add_escaped(m, h->name[0] != '\0' ? h->name : "run");
    markup_addf(m, " <span class=\"st %s\">%s", h->is_done ? "ok" : "", state);
    if (!h->is_done && h->is_stopped && h->stop_reason[0] != '\0') {
        markup_add(m, ": ");
        markup_add_escaped(m, h->stop_reason);
    }
    markup_add(m, "</span></h1>\n<dl>\n");
    add_time_fact(m, "started", h->first_s);
    add_time_fact(m, h->is_done ? "ended" : "last event", h->last_s);
    if (isfinite(h->last_step)) {
        char text[MARKUP_NUMBER_BYTES];
        markup_format_count(text, (int64_t)fmax(fmin(h->last_step, 9e15), -9e15));
        add_fact(m, "steps done", text);
    }
    if (h->starts > 1) {
        char text[MARKUP_NUMBER_BYTES];
        markup_format_count(text, h->starts);
        add_fact(m, "sessions", text);
    }
    for (int32_t i = 0; i < h->start.count; i++)
        if (strcmp(h->start.fact[i].key, "name") != 0)
            add_fact(m, h->start.fact[i].key, h->start.fact[i].value);
    markup_add(m, "</dl>\n");
    if (h->is_done && h->done.count > 0) {
        markup_add(m, "<h2>Result</h2>\n<dl>\n");
        for (int32_t i = 0; i < h->done.count; i++)
            add_fact(m, h->done.fact[i].key, h->done.fact[i].value);
        markup_add(m, "</dl>\n");
    }
}

static bool has_values(const struct curve *c)
{
    for (int32_t i = 0; i < c->count; i++)
        if (c->bucket[i].finite > 0)
            return true;
    return false;
}

static double *series_room(struct report *r, int32_t at)
{
    return r->numbers + (int64_t)at * 2 * CURVE_POINTS_MAX;
}

/* Adds a curve to series[count..]: smoothed with its raw values behind it, or as it is. */
static int32_t add_series(struct report *r, int32_t count, const struct curve *c, const char *name,
                          int32_t color, bool smooth)
{
    if (!has_values(c) || count + 2 > r->series_capacity)
        return count;
    struct chart_series *s = &r->series[count];
    double *x = series_room(r, count), *y = x + CURVE_POINTS_MAX;
    *s = (struct chart_series){.name = name, .x = x, .y = y, .color = color + 1};
    if (!smooth || c->count < RAW_BELOW) {
        s->count = curve_means(c, x, y);
        s->dots = !smooth && s->count <= RAW_BELOW;
        return count + 1;
    }
    s->name = NULL;
    s->faint = true;
    s->count = curve_extremes(c, x, y);
    s++;
    x = series_room(r, count + 1);
    y = x + CURVE_POINTS_MAX;
    /* behind the last series there is room for the means before they are smoothed */
    double *raw = series_room(r, r->series_capacity);
    *s = (struct chart_series){.name = name, .x = x, .y = y, .color = color + 1};
    s->count = curve_means(c, x, raw);
    curve_smooth(y, raw, (int32_t)s->count, (int32_t)s->count / 60 + 1);
    return count + 2;
}

static void add_chart(struct report *r, int32_t count, struct chart_spec spec)
{
    if (count == 0)
        return;
    spec.x_label = "step";
    spec.series = r->series;
    spec.series_count = count;
    spec.bands = r->bands;
    spec.band_count = r->history->phase_count;
    markup_add(&r->page, "<figure>");
    chart_add(&r->page, &spec);
    markup_add(&r->page, "</figure>\n");
}

static void add_single(struct report *r, const char *title, const struct curve *c, bool smooth,
                       struct chart_spec spec)
{
    spec.title = title;
    add_chart(r, add_series(r, 0, c, title, 0, smooth), spec);
}

/* Whether a curve spans more than a factor of thirty, all above 0. */
static bool spans_decades(const struct curve *c)
{
    double low = INFINITY, high = 0;
    for (int32_t i = 0; i < c->count; i++) {
        const struct curve_bucket *b = &c->bucket[i];
        if (b->finite > 0 && b->low > 0)
            low = fmin(low, b->low);
        if (b->finite > 0)
            high = fmax(high, b->high);
    }
    return high > 30 * low;
}

/* Whether the highest rates of the phases differ by more than a factor of thirty. */
static bool rates_span_decades(const struct run_history *h)
{
    double low = INFINITY, high = 0;
    for (int32_t p = 0; p < h->phase_count; p++) {
        double peak = 0, end = p + 1 < h->phase_count ? h->phase[p + 1].begin_step : INFINITY;
        for (int32_t i = 0; i < h->rate.count; i++) {
            const struct curve_bucket *b = &h->rate.bucket[i];
            if (b->finite > 0 && b->first > h->phase[p].begin_step && b->last <= end)
                peak = fmax(peak, b->high);
        }
        low = peak > 0 ? fmin(low, peak) : low;
        high = fmax(high, peak);
    }
    return high > 30 * low;
}

static void add_losses(struct report *r)
{
    const struct run_history *h = r->history;
    int32_t n = 0, color = 0;
    for (int32_t t = 0; t < h->task_count; t++)
        if (has_values(&h->task[t].loss))
            n = add_series(r, n, &h->task[t].loss, h->task[t].name, color++, true);
    if (color != 1)
        n = add_series(r, n, &h->loss, color > 0 ? "all tasks" : "loss", color, true);
    add_chart(r, n, (struct chart_spec){.title = "Training loss"});
    for (n = 0, color = 0; color < h->eval_count; color++)
        n = add_series(r, n, &h->eval[color].loss, r->names[color], color, false);
    add_chart(r, n, (struct chart_spec){.title = "Evaluation loss"});
}

static void add_qualities(struct report *r)
{
    const struct run_history *h = r->history;
    int32_t n = 0;
    for (int32_t i = 0; i < h->eval_count; i++)
        n = add_series(r, n, &h->eval[i].accuracy, r->names[i], i, false);
    add_chart(r, n, (struct chart_spec){.title = "Accuracy", .y_unit_interval = true});
    n = 0;
    for (int32_t i = 0; i < h->eval_count; i++)
        n = add_series(r, n, &h->eval[i].f1_macro, r->names[i], i, false);
    add_chart(r, n, (struct chart_spec){.title = "Macro F1", .y_unit_interval = true});
}

static void add_waits(struct report *r)
{
    const struct run_history *h = r->history;
    int32_t n = add_series(r, 0, &h->wait_data, "for data", 0, true);
    n = add_series(r, n, &h->wait_reduce, "for the reduction", 1, true);
    add_chart(r, n,
              (struct chart_spec){.title = "Waiting, share of the time",
                                  .y_from_zero = true,
                                  .y_unit_interval = true});
}

static void add_charts(struct report *r)
{
    const struct run_history *h = r->history;
    markup_add(&r->page, "<h2>Curves</h2>\n<div class=\"g\">\n");
    add_losses(r);
    add_qualities(r);
    add_single(r, "Learning rate", &h->rate, false,
               (struct chart_spec){.log_y = rates_span_decades(h)});
    add_single(r, "Gradient norm", &h->gradient_norm, true,
               (struct chart_spec){.log_y = spans_decades(&h->gradient_norm)});
    add_single(r, "Tokens per second", &h->speed, true, (struct chart_spec){.y_from_zero = true});
    add_waits(r);
    markup_add(&r->page, "</div>\n");
}

static void write_page(struct report *r)
{
    const struct run_history *h = r->history;
    report_page_begin(&r->page, h->name[0] != '\0' ? h->name : "run");
    add_head(r);
    add_charts(r);
    report_add_tables(&r->page, h);
    markup_addf(&r->page, "<footer>From %lld events of metrics.jsonl", (long long)h->lines);
    if (h->bad_lines > 0)
        markup_addf(&r->page, "; %lld lines could not be read and were passed over",
                    (long long)h->bad_lines);
    markup_add(&r->page, ".</footer>\n");
    report_page_end(&r->page);
}

/* Room for the widest chart: two series for each task and the total, one for each evaluation. */
static mt_status report_init(struct report *r, const struct run_history *h)
{
    *r = (struct report){.history = h};
    markup_init(&r->page, PAGE_BYTES_MAX, "the report");
    int32_t n = 2 * (h->task_count + 1) > h->eval_count ? 2 * (h->task_count + 1) : h->eval_count;
    r->series_capacity = n + 2;
    MT_TRY(mt_alloc(&r->series, r->series_capacity, sizeof *r->series, "series"));
    MT_TRY(mt_alloc(&r->numbers, (int64_t)(r->series_capacity + 1) * 2 * CURVE_POINTS_MAX,
                    sizeof *r->numbers, "points of a chart"));
    MT_TRY(mt_alloc(&r->bands, h->phase_count, sizeof *r->bands, "phases"));
    MT_TRY(mt_alloc(&r->names, h->eval_count, sizeof *r->names, "names"));
    for (int32_t i = 0; i < h->phase_count; i++) {
        const struct history_phase *p = &h->phase[i];
        double next = i + 1 < h->phase_count ? h->phase[i + 1].begin_step : h->last_step;
        r->bands[i] = (struct chart_band){.begin = p->begin_step,
                                          .end = isfinite(p->end_step) ? p->end_step : next,
                                          .label = p->name};
    }
    for (int32_t i = 0; i < h->eval_count; i++) {
        const struct history_eval *e = &h->eval[i];
        bool both = e->task[0] != '\0' && e->split[0] != '\0';
        (void)snprintf(r->names[i], sizeof r->names[i], "%s%s%s", e->task, both ? ", " : "",
                       e->split);
    }
    return MT_OK;
}

static void report_release(struct report *r)
{
    markup_release(&r->page);
    mt_free(&r->series);
    mt_free(&r->numbers);
    mt_free(&r->bands);
    mt_free(&r->names);
}

mt_status report_write(const char *run_dir)
{
    mt_status st;
    char *events = NULL, *page = NULL;
    struct report r = {0};
    struct run_history *h = NULL;
    MT_TRY_GOTO(st, mt_alloc(&h, 1, sizeof *h, "the history of a run"), done);
    MT_TRY_GOTO(st, file_path_join(&events, run_dir, "metrics.jsonl"), done);
    MT_TRY_GOTO(st, file_path_join(&page, run_dir, "report.html"), done);
    MT_TRY_GOTO(st, run_history_read(h, events), done);
    MT_TRY_GOTO(st, report_init(&r, h), done);
    write_page(&r);
    MT_TRY_GOTO(st, markup_check(&r.page), done);
    MT_TRY_GOTO(st, file_write_atomic(page, markup_text(&r.page), r.page.used_bytes), done);
done:
    report_release(&r);
    if (h != NULL)
        run_history_release(h);
    mt_free(&h);
    mt_free(&events);
    mt_free(&page);
    return st;
}
