/* See report_tables.h.  One function a table; each leaves itself out when it has no row. */
#include "io/report_tables.h"

#include <math.h>
#include <stdio.h>

#include "comm/base/clock.h"

static void add_cell(struct markup *m, const char *class, const char *text)
{
    markup_addf(m, "<td%s%s%s>", class != NULL ? " class=\"" : "", class != NULL ? class : "",
                class != NULL ? "\"" : "");
    markup_add_escaped(m, text);
    markup_add(m, "</td>");
}

static void add_number(struct markup *m, double value, int digits)
{
    char text[MARKUP_NUMBER_BYTES];
    markup_format_number(text, value, digits);
    add_cell(m, "n", text);
}

static void add_count(struct markup *m, double value)
{
    char text[MARKUP_NUMBER_BYTES] = "-";
    if (fabs(value) < 9e15)
        markup_format_count(text, (int64_t)value);
    add_cell(m, "n", text);
}

static void add_percent(struct markup *m, double value)
{
    char text[MARKUP_NUMBER_BYTES] = "-";
    if (fabs(value) < 1e6)
        (void)snprintf(text, sizeof text, "%.2f%%", 100 * value);
    add_cell(m, "n", text);
}

static void add_duration(struct markup *m, double seconds)
{
    char text[CLOCK_TEXT_BYTES] = "-";
    if (seconds >= 0 && seconds < 0.95)
        (void)snprintf(text, sizeof text, "%.0f ms", 1e3 * seconds);
    else if (seconds >= 0 && seconds < 10)
        (void)snprintf(text, sizeof text, "%.1f s", seconds);
    else if (seconds >= 0 && seconds < 1e10)
        clock_format_duration(text, seconds);
    add_cell(m, "n", text);
}

static void add_phases(struct markup *m, const struct run_history *h)
{
    if (h->phase_count == 0)
        return;
    markup_add(m, "<h2>Phases</h2>\n<div class=\"t\"><table><tr><th>phase</th><th class=\"n\">from "
                  "step</th><th class=\"n\">to step</th><th class=\"n\">trainable</th><th "
                  "class=\"n\">of all</th><th class=\"n\">time</th><th>until</th>"
                  "<th>ended by</th></tr>\n");
    for (int32_t i = 0; i < h->phase_count; i++) {
        const struct history_phase *p = &h->phase[i];
        markup_add(m, "<tr>");
        add_cell(m, NULL, p->name);
        add_count(m, p->begin_step);
        add_count(m, p->end_step);
        add_count(m, p->trainable);
        add_percent(m, p->total > 0 ? p->trainable / p->total : NAN);
        add_duration(m, isfinite(p->seconds) ? p->seconds : p->end_s - p->begin_s);
        add_cell(m, NULL, p->until);
        add_cell(m, NULL, p->reason);
        markup_add(m, "</tr>\n");
    }
    markup_add(m, "</table></div>\n");
}

static const struct curve_bucket *best_bucket(const struct curve *c)
{
    const struct curve_bucket *best = NULL;
    for (int32_t i = 0; i < c->count; i++)
        if (c->bucket[i].finite > 0 && (best == NULL || c->bucket[i].high > best->high))
            best = &c->bucket[i];
    return best;
}

static const char *class_name(const struct history_eval *e, int32_t k,
                              char number[MARKUP_NUMBER_BYTES])
{
    markup_format_count(number, k);
    return e->labels != NULL ? e->labels[k] : number;
}

/* A cell is the stronger in colour the larger its share of the row. */
static void add_confusion(struct markup *m, const struct history_eval *e)
{
    char number[MARKUP_NUMBER_BYTES];
    markup_add(m, "<figure><h3>");
    markup_add_escaped(m, e->task);
    markup_add(m, e->split[0] != '\0' ? ", " : "");
    markup_add_escaped(m, e->split);
    markup_add(m, "</h3><div class=\"t\"><table class=\"c\"><tr><th>label \\ predicted</th>");
    for (int32_t k = 0; k < e->classes; k++) {
        markup_add(m, "<th class=\"n\">");
        markup_add_escaped(m, class_name(e, k, number));
        markup_add(m, "</th>");
    }
    markup_add(m, "</tr>\n");
    for (int32_t i = 0; i < e->classes; i++) {
        const int64_t *row = e->confusion + (int64_t)i * e->classes;
        int64_t sum = 0;
        markup_add(m, "<tr><th>");
        markup_add_escaped(m, class_name(e, i, number));
        markup_add(m, "</th>");
        for (int32_t j = 0; j < e->classes; j++)
            sum += row[j];
        for (int32_t j = 0; j < e->classes; j++) {
            double share = sum > 0 ? (double)row[j] / (double)sum : 0;
            markup_format_count(number, row[j]);
            markup_addf(m,
                        "<td class=\"n %s\" style=\"--a:%.2f\" title=\"%.1f%% of the row\">%s"
                        "</td>",
                        i == j ? "hit" : "miss", share, 100 * share, number);
        }
        markup_add(m, "</tr>\n");
    }
    markup_add(m, "</table></div></figure>\n");
}

static void add_evals(struct markup *m, const struct run_history *h)
{
    bool tables = false;
    if (h->eval_count == 0)
        return;
    markup_add(m,
               "<h2>Evaluations</h2>\n<div class=\"t\"><table><tr><th>task</th><th>split</th><th "
               "class=\"n\">last step</th><th class=\"n\">loss</th><th class=\"n\">accuracy</th>"
               "<th class=\"n\">macro F1</th><th class=\"n\">MCC</th><th class=\"n\">best "
               "accuracy</th><th class=\"n\">at step</th></tr>\n");
    for (int32_t i = 0; i < h->eval_count; i++) {
        const struct history_eval *e = &h->eval[i];
        const struct curve_bucket *best = best_bucket(&e->accuracy);
        markup_add(m, "<tr>");
        add_cell(m, NULL, e->task);
        add_cell(m, NULL, e->split);
        add_count(m, e->last_step);
        add_number(m, e->last[0], 4);
        add_percent(m, e->last[1]);
        add_percent(m, e->last[2]);
        add_number(m, e->last[3], 3);
        add_percent(m, best != NULL ? best->high : NAN);
        add_count(m, best != NULL ? best->last : NAN);
        markup_add(m, "</tr>\n");
        tables |= e->classes > 0;
    }
    markup_add(m, "</table></div>\n");
    if (!tables)
        return;
    markup_add(m, "<h2>Confusion at the last evaluation</h2>\n<div class=\"g\">\n");
    for (int32_t i = 0; i < h->eval_count; i++)
        if (h->eval[i].classes > 0)
            add_confusion(m, &h->eval[i]);
    markup_add(m, "</div>\n");
}

static void add_checkpoints(struct markup *m, const struct run_history *h)
{
    if (h->checkpoint_count == 0)
        return;
    markup_add(m, "<h2>Checkpoints</h2>\n");
    if (h->checkpoints_before > 0)
        markup_addf(m, "<p>The last %d; %lld came before.</p>\n", h->checkpoint_count,
                    (long long)h->checkpoints_before);
    bool paths = false;
    for (int32_t i = 0; i < h->checkpoint_count; i++)
        paths |= h->checkpoint[i].path[0] != '\0';
    markup_addf(m,
                "<div class=\"t\"><table><tr><th class=\"n\">step</th>%s<th></th><th "
                "class=\"n\">bytes</th><th class=\"n\">time</th></tr>\n",
                paths ? "<th>path</th>" : "");
    for (int32_t i = 0; i < h->checkpoint_count; i++) {
        const struct history_checkpoint *c = &h->checkpoint[i];
        markup_add(m, "<tr>");
        add_count(m, c->step);
        if (paths)
            add_cell(m, NULL, c->path);
        add_cell(m, NULL, c->best ? "best" : "");
        add_count(m, c->bytes);
        add_duration(m, c->seconds);
        markup_add(m, "</tr>\n");
    }
    markup_add(m, "</table></div>\n");
}

static void add_warnings(struct markup *m, const struct run_history *h)
{
    if (h->warning_count == 0)
        return;
    markup_add(m, "<h2>Warnings</h2>\n<div class=\"t\"><table><tr><th>message</th><th class=\"n\">"
                  "times</th><th class=\"n\">first step</th><th class=\"n\">last step</th></tr>\n");
    for (int32_t i = 0; i < h->warning_count; i++) {
        const struct history_warning *w = &h->warning[i];
        markup_add(m, "<tr>");
        add_cell(m, NULL, w->message);
        add_count(m, (double)w->times);
        add_count(m, w->first_step);
        add_count(m, w->last_step);
        markup_add(m, "</tr>\n");
    }
    markup_add(m, "</table></div>\n");
    if (h->warnings_left_out > 0)
        markup_addf(m, "<p>%lld more are in metrics.jsonl.</p>\n", (long long)h->warnings_left_out);
}

void report_add_tables(struct markup *m, const struct run_history *h)
{
    add_phases(m, h);
    add_evals(m, h);
    add_checkpoints(m, h);
    add_warnings(m, h);
}
