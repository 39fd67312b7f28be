/*
 * loss_curves OUT.svg NAME=metrics.jsonl...: the training losses of several runs in one picture.
 */
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/chart.h"
#include "io/file.h"
#include "io/run_history.h"

enum { RUNS_MOST = 8 };

struct drawn {
    struct run_history history;
    double x[CURVE_POINTS_MAX], y[CURVE_POINTS_MAX];
    char name[64];
};

static mt_status read_run(struct drawn *d, struct chart_series *s, const char *word)
{
    const char *path = strchr(word, '=');
    if (path == NULL)
        return MT_FAIL(MT_ARG, "%s: expected NAME=metrics.jsonl", word);
    (void)snprintf(d->name, sizeof d->name, "%.*s", (int)(path - word), word);
    MT_TRY(run_history_read(&d->history, path + 1));
    *s = (struct chart_series){.name = d->name, .x = d->x, .y = d->y};
    s->count = curve_means(&d->history.loss, d->x, d->y);
    return MT_OK;
}

static mt_status draw(const char *out, char **words, int32_t count)
{
    struct drawn *runs;
    struct chart_series series[RUNS_MOST];
    struct markup svg;
    mt_status st;
    markup_init(&svg, 16 << 20, "the picture");
    MT_TRY(mt_alloc(&runs, count, sizeof *runs, "runs"));
    for (int32_t i = 0; i < count; i++)
        MT_TRY_GOTO(st, read_run(&runs[i], &series[i], words[i]), done);
    struct chart_spec spec = {.title = "Training loss",
                              .x_label = "step",
                              .series = series,
                              .series_count = count,
                              .standalone = true};
    chart_add(&svg, &spec);
    MT_TRY_GOTO(st, markup_check(&svg), done);
    st = file_write_atomic(out, markup_text(&svg), svg.used_bytes);
done:
    for (int32_t i = 0; i < count; i++)
        run_history_release(&runs[i].history);
    mt_free(&runs);
    markup_release(&svg);
    return st;
}

int main(int argc, char **argv)
{
    mt_status st;
    if (argc < 3 || argc > RUNS_MOST + 2)
        st = MT_FAIL(MT_ARG, "loss_curves OUT.svg NAME=metrics.jsonl... (at most %d)", RUNS_MOST);
    else
        st = draw(argv[1], argv + 2, argc - 2);
    if (st != MT_OK)
        (void)fprintf(stderr, "error: %s\n", mt_error_peek()->message);
    return mt_status_exit_code(st);
}
