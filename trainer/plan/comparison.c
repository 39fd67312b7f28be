/* See comparison.h. */
#include "trainer/plan/comparison.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/chart.h"
#include "io/file.h"
#include "trainer/lines.h"

struct reading {
    struct comparison_run *run;
    const struct job *job;
    double start_s, last_s; /* of the start under way */
    double accuracy[JOB_TASKS_MAX], f1_macro[JOB_TASKS_MAX];
    int64_t step; /* of those */
    bool keeps;   /* the best step is known: what it measured stays */
};

static double real_of(const struct json_node *event, const char *key)
{
    double v = NAN;
    return json_node_real(json_node_get(event, key), &v) ? v : NAN;
}

static int64_t int_of(const struct json_node *event, const char *key, int64_t otherwise)
{
    int64_t v = otherwise;
    return json_node_int(json_node_get(event, key), &v) ? v : otherwise;
}

static void read_eval(struct reading *r, const struct json_node *event)
{
    const char *split = json_node_string(json_node_get(event, "split"));
    const char *task = json_node_string(json_node_get(event, "task"));
    int64_t step = int_of(event, "step", -1);
    if (split == NULL || task == NULL || strcmp(split, "dev") != 0)
        return;
    if (r->keeps && step != r->run->best_step)
        return;
    for (int32_t t = 0; t < r->job->task_count; t++) {
        if (strcmp(r->job->tasks[t].name, task) != 0)
            continue;
        r->run->accuracy[t] = real_of(event, "accuracy");
        r->run->f1_macro[t] = real_of(event, "f1_macro");
    }
}

static void read_event(struct reading *r, const struct json_node *event)
{
    const char *name = json_node_string(json_node_get(event, "event"));
    double time = real_of(event, "time");
    if (name == NULL)
        return;
    if (strcmp(name, "start") == 0) {
        r->run->seconds += r->last_s - r->start_s;
        r->start_s = time;
    }
    if (isfinite(time))
        r->last_s = time;
    if (strcmp(name, "phase") == 0) {
        int64_t trained = int_of(event, "trainable_parameters", 0);
        r->run->parameters = trained > r->run->parameters ? trained : r->run->parameters;
    }
    if (strcmp(name, "probe") == 0)
        r->run->parameters += int_of(event, "parameters", 0);
    if (strcmp(name, "eval") == 0)
        read_eval(r, event);
    if (strcmp(name, "done") == 0) {
        r->run->done = true;
        r->run->steps = int_of(event, "step", 0);
        r->run->best_step = int_of(event, "best_step", -1);
        r->run->best = real_of(event, "best");
        r->run->peak_bytes = int_of(event, "peak_rss_bytes", 0);
    }
}

static mt_status read_line(void *context, const char *line, int64_t bytes)
{
    struct json_doc *doc;
    if (json_doc_parse(&doc, line, bytes, "metrics.jsonl") != MT_OK) {
        mt_error_clear();
        return MT_OK;
    }
    read_event(context, json_doc_root(doc));
    json_doc_destroy(&doc);
    return MT_OK;
}

mt_status comparison_read(struct comparison_run *run, const struct job *job)
{
    char *path = NULL;
    mt_status st;
    struct reading first = {.run = run, .job = job};
    for (int32_t t = 0; t < JOB_TASKS_MAX; t++)
        run->accuracy[t] = run->f1_macro[t] = NAN;
    run->best = NAN;
    run->best_step = -1;
    MT_TRY_GOTO(st, file_path_join(&path, run->run_dir, "metrics.jsonl"), done);
    MT_TRY_GOTO(st, lines_each(path, read_line, &first), done);
    run->seconds += first.last_s - first.start_s;
    if (run->best_step >= 0) { /* once more, for what was measured at the best step */
        struct comparison_run again = *run;
        struct reading second = {.run = &again, .job = job, .keeps = true};
        MT_TRY_GOTO(st, lines_each(path, read_line, &second), done);
        memcpy(run->accuracy, again.accuracy, sizeof run->accuracy);
        memcpy(run->f1_macro, again.f1_macro, sizeof run->f1_macro);
    }
done:
    mt_free(&path);
    return st;
}

/* The mean accuracy over tasks: what the picture shows. */
static double quality(const struct comparison *c, const struct comparison_run *r)
{
    double sum = 0.0;
    int32_t n = 0;
    for (int32_t t = 0; t < c->job->task_count; t++)
        if (isfinite(r->accuracy[t])) {
            sum += r->accuracy[t];
            n++;
        }
    return n > 0 ? sum / n : NAN;
}

void comparison_print(const struct comparison *c)
{
    printf("%-16s", "schedule");
    for (int32_t t = 0; t < c->job->task_count; t++)
        printf(" %20.20s", c->job->tasks[t].name);
    printf(" %8s %9s %12s %10s\n%-16s", "steps", "time", "trained", "peak mem", "");
    for (int32_t t = 0; t < c->job->task_count; t++)
        printf(" %20s", "accuracy  f1_macro");
    printf("\n");
    for (int32_t i = 0; i < c->count; i++) {
        const struct comparison_run *r = &c->run[i];
        char time[CLOCK_TEXT_BYTES];
        clock_format_duration(time, r->seconds);
        printf("%-16.16s", r->name);
        for (int32_t t = 0; t < c->job->task_count; t++)
            printf("     %7.4f  %7.4f", r->accuracy[t], r->f1_macro[t]);
        printf(" %8lld %9s %12lld %7.1f MB%s\n", (long long)r->steps, time,
               (long long)r->parameters, 1e-6 * (double)r->peak_bytes,
               r->done ? "" : "  (not finished)");
    }
    printf("dev data at the best step by %s\n",
           c->job->train.best != NULL ? c->job->train.best : "none: at the last one");
}

static void write_json(const struct comparison *c, struct json_writer *w)
{
    json_write_object(w, NULL);
    json_write_string(w, "job", c->job->name);
    json_write_string(w, "best", c->job->train.best);
    json_write_array(w, "schedules");
    for (int32_t i = 0; i < c->count; i++) {
        const struct comparison_run *r = &c->run[i];
        json_write_object(w, NULL);
        json_write_string(w, "name", r->name);
        json_write_string(w, "run_dir", r->run_dir);
        json_write_bool(w, "done", r->done);
        json_write_int(w, "steps", r->steps);
        json_write_int(w, "best_step", r->best_step);
        json_write_real(w, "best", r->best);
        json_write_real(w, "seconds", r->seconds);
        json_write_int(w, "trained_parameters", r->parameters);
        json_write_int(w, "peak_rss_bytes", r->peak_bytes);
        json_write_object(w, "tasks");
        for (int32_t t = 0; t < c->job->task_count; t++) {
            json_write_object(w, c->job->tasks[t].name);
            json_write_real(w, "accuracy", r->accuracy[t]);
            json_write_real(w, "f1_macro", r->f1_macro[t]);
            json_write_end(w);
        }
        json_write_end(w);
        json_write_end(w);
    }
    json_write_end(w);
    json_write_end(w);
}

static mt_status save_json(const struct comparison *c, const char *dir)
{
    struct json_writer w = {.indent = 2};
    const char *text;
    char *path = NULL;
    int64_t bytes;
    mt_status st;
    write_json(c, &w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, "compare.json"), done);
    st = file_write_atomic(path, text, bytes);
done:
    mt_free(&path);
    json_writer_release(&w);
    return st;
}

/* One point a schedule: quality against time. */
static mt_status draw(const struct comparison *c, struct markup *out, bool standalone)
{
    struct chart_series *series = NULL;
    double *point = NULL;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&series, c->count, sizeof *series, "points"), done);
    MT_TRY_GOTO(st, mt_alloc(&point, 2 * c->count, sizeof *point, "points"), done);
    for (int32_t i = 0; i < c->count; i++) {
        point[2 * i] = c->run[i].seconds;
        point[2 * i + 1] = quality(c, &c->run[i]);
        series[i] = (struct chart_series){.name = c->run[i].name,
                                          .kind = CHART_POINTS,
                                          .x = &point[2 * i],
                                          .y = &point[2 * i + 1],
                                          .count = 1};
    }
    struct chart_spec spec = {.title = "Accuracy on dev data, mean over tasks, against time",
                              .x_label = "seconds",
                              .series = series,
                              .series_count = c->count,
                              .y_unit_interval = true,
                              .standalone = standalone,
                              .width = 720,
                              .height = 360};
    chart_add(out, &spec);
    st = markup_check(out);
done:
    mt_free(&series);
    mt_free(&point);
    return st;
}

static void add_table(const struct comparison *c, struct markup *m)
{
    markup_add(m, "<table>\n<tr><th>schedule</th>");
    for (int32_t t = 0; t < c->job->task_count; t++) {
        markup_add(m, "<th>");
        markup_add_escaped(m, c->job->tasks[t].name);
        markup_add(m, " accuracy</th><th>f1_macro</th>");
    }
    markup_add(m, "<th>steps</th><th>time</th><th>trained</th><th>peak memory</th></tr>\n");
    for (int32_t i = 0; i < c->count; i++) {
        const struct comparison_run *r = &c->run[i];
        char time[CLOCK_TEXT_BYTES], count[MARKUP_NUMBER_BYTES];
        clock_format_duration(time, r->seconds);
        markup_format_count(count, r->parameters);
        markup_add(m, "<tr><td>");
        markup_add_escaped(m, r->name);
        markup_add(m, r->done ? "</td>" : " (not finished)</td>");
        for (int32_t t = 0; t < c->job->task_count; t++)
            markup_addf(m, "<td>%.4f</td><td>%.4f</td>", r->accuracy[t], r->f1_macro[t]);
        markup_addf(m, "<td>%lld</td><td>%s</td><td>%s</td><td>%.1f MB</td></tr>\n",
                    (long long)r->steps, time, count, 1e-6 * (double)r->peak_bytes);
    }
    markup_add(m, "</table>\n");
}

static mt_status fill_page(const struct comparison *c, struct markup *m)
{
    markup_add(m, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    markup_add_escaped(m, c->job->name);
    markup_add(m, ": schedules compared</title>\n<style>:root{color-scheme:light dark}"
                  "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
                  "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;"
                  "border-bottom:1px solid #8884}td:first-child,th:first-child{text-align:left}\n");
    chart_add_style(m);
    markup_add(m, "</style></head><body>\n<h1>");
    markup_add_escaped(m, c->job->name);
    markup_add(m, ": schedules compared</h1>\n");
    add_table(c, m);
    MT_TRY(draw(c, m, false));
    markup_add(m, "</body></html>\n");
    return markup_check(m);
}

static mt_status save_markup(const struct comparison *c, const char *dir, const char *name,
                             bool page)
{
    struct markup m;
    char *path = NULL;
    mt_status st;
    markup_init(&m, 16 << 20, name);
    MT_TRY_GOTO(st, page ? fill_page(c, &m) : draw(c, &m, true), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, name), done);
    st = file_write_atomic(path, markup_text(&m), m.used_bytes);
done:
    mt_free(&path);
    markup_release(&m);
    return st;
}

mt_status comparison_write(const struct comparison *c, const char *dir)
{
    MT_TRY(save_json(c, dir));
    MT_TRY(save_markup(c, dir, "compare.svg", false));
    return save_markup(c, dir, "compare.html", true);
}
