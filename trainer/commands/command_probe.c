/* mttrain probe: separate classifiers on stored embeddings, one for each labelled task. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/stop.h"
#include "comm/topology.h"
#include "io/embeddings.h"
#include "io/file.h"
#include "io/json.h"
#include "trainer/commands/arguments.h"
#include "trainer/lines.h"
#include "trainer/probe.h"

struct probe_words {
    struct text_list files, tasks;
    const char *dev, *labels, *dev_labels, *out;
    double l2, l2_min, l2_max;
    int64_t grid, folds, threads, seed, iterations;
};

/* A file of embeddings with labels: its own, or those of a text file. */
struct table {
    const char *path;
    struct embeddings *file;
    float *x; /* [rows,dim] */
    int64_t rows;
    int32_t dim;
    char **lines; /* [rows] of the label file, or NULL */
    int64_t line_count;
};

static void close_table(struct table *t)
{
    embeddings_close(&t->file);
    for (int64_t i = 0; t->lines != NULL && i < t->line_count; i++)
        mt_free(&t->lines[i]);
    mt_free(&t->lines);
    mt_free(&t->x);
}

static mt_status keep_line(void *context, const char *line, int64_t bytes)
{
    struct table *t = context;
    (void)bytes;
    if (t->line_count == t->rows)
        return MT_FAIL(MT_DATA, "the label file has more lines than %s has rows (%lld)", t->path,
                       (long long)t->rows);
    return mt_strdup(&t->lines[t->line_count++], line);
}

static mt_status open_table(struct table *t, const char *path, const char *label_path)
{
    t->path = path;
    MT_TRY(embeddings_open(&t->file, path));
    t->rows = embeddings_rows(t->file);
    t->dim = embeddings_dim(t->file);
    MT_TRY(mt_alloc(&t->x, t->rows * t->dim, sizeof *t->x, "embeddings"));
    MT_TRY(embeddings_read_rows(t->file, 0, t->rows, t->x));
    if (label_path == NULL)
        return MT_OK;
    MT_TRY(mt_alloc(&t->lines, t->rows, sizeof *t->lines, "labels"));
    MT_TRY(lines_each(label_path, keep_line, t));
    if (t->line_count != t->rows)
        return MT_FAIL(MT_DATA,
                       "%s has %lld lines, but %s has %lld rows; one label a line, empty "
                       "for none",
                       label_path, (long long)t->line_count, path, (long long)t->rows);
    return MT_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different labels of a label file, sorted; borrows the lines. */
static mt_status collect_classes(const struct table *t, const char ***out, int32_t *count)
{
    const char **all = NULL;
    int64_t n = 0, kept = 0;
    MT_TRY(mt_alloc(&all, t->rows, sizeof *all, "classes"));
    for (int64_t i = 0; i < t->rows; i++)
        if (t->lines[i][0] != '\0')
            all[n++] = t->lines[i];
    qsort(all, (size_t)n, sizeof *all, by_text);
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || strcmp(all[i], all[kept - 1]) != 0)
            all[kept++] = all[i];
    if (kept > PROBE_CLASSES_MAX) {
        mt_free(&all);
        return MT_FAIL(MT_DATA, "%lld different labels; at most %d are possible", (long long)kept,
                       PROBE_CLASSES_MAX);
    }
    *out = all;
    *count = (int32_t)kept;
    return MT_OK;
}

static int32_t find_class(const char *const *classes, int32_t count, const char *name)
{
    const char *const *hit =
        count > 0 ? bsearch(&name, classes, (size_t)count, sizeof *classes, by_text) : NULL;
    return hit != NULL ? (int32_t)(hit - classes) : -1;
}

/* One task to fit. */
struct fit {
    const char *task;
    int32_t classes;
    const char **name; /* [classes] or NULL = numbers */
    bool name_owned;
    int32_t *train, *dev; /* [rows] labels; dev NULL = none */
};

static void release_fit(struct fit *f)
{
    if (f->name_owned)
        mt_free(&f->name);
    mt_free(&f->train);
    mt_free(&f->dev);
}

static mt_status label_by_lines(struct fit *f, const struct table *train, const struct table *dev)
{
    f->task = "label";
    MT_TRY(collect_classes(train, &f->name, &f->classes));
    f->name_owned = true;
    MT_TRY(mt_alloc(&f->train, train->rows, sizeof *f->train, "labels"));
    for (int64_t i = 0; i < train->rows; i++)
        f->train[i] = find_class(f->name, f->classes, train->lines[i]);
    if (dev->lines == NULL)
        return MT_OK;
    MT_TRY(mt_alloc(&f->dev, dev->rows, sizeof *f->dev, "labels"));
    for (int64_t i = 0; i < dev->rows; i++) {
        f->dev[i] = find_class(f->name, f->classes, dev->lines[i]);
        if (f->dev[i] < 0 && dev->lines[i][0] != '\0')
            return MT_FAIL(MT_DATA, "%s: row %lld has the label \"%.80s\", which no row of %s has",
                           dev->path, (long long)i, dev->lines[i], train->path);
    }
    return MT_OK;
}

static int32_t find_task(const struct table *t, const char *name)
{
    for (int32_t i = 0; t->file != NULL && i < embeddings_task_count(t->file); i++)
        if (strcmp(embeddings_task_name(t->file, i), name) == 0)
            return i;
    return -1;
}

static int32_t most_of(const int32_t *labels, int64_t rows)
{
    int32_t most = -1;
    for (int64_t i = 0; i < rows; i++)
        most = labels[i] > most ? labels[i] : most;
    return most;
}

static mt_status same_classes(const struct table *train, int32_t task, const struct table *dev,
                              int32_t dev_task)
{
    int32_t n = embeddings_class_count(train->file, task);
    bool equal = n == embeddings_class_count(dev->file, dev_task);
    for (int32_t k = 0; equal && k < n; k++)
        equal = strcmp(embeddings_class_name(train->file, task, k),
                       embeddings_class_name(dev->file, dev_task, k)) == 0;
    if (!equal)
        return MT_FAIL(MT_DATA, "%s and %s name the classes of task \"%s\" differently",
                       train->path, dev->path, embeddings_task_name(train->file, task));
    return MT_OK;
}

static mt_status label_by_task(struct fit *f, const struct table *train, const struct table *dev,
                               int32_t task)
{
    f->task = embeddings_task_name(train->file, task);
    f->classes = embeddings_class_count(train->file, task);
    MT_TRY(mt_alloc(&f->train, train->rows, sizeof *f->train, "labels"));
    MT_TRY(embeddings_read_labels(train->file, task, 0, train->rows, f->train));
    int32_t dev_task = find_task(dev, f->task);
    if (dev_task >= 0) {
        MT_TRY(same_classes(train, task, dev, dev_task));
        MT_TRY(mt_alloc(&f->dev, dev->rows, sizeof *f->dev, "labels"));
        MT_TRY(embeddings_read_labels(dev->file, dev_task, 0, dev->rows, f->dev));
    }
    if (f->classes > 0) {
        MT_TRY(mt_alloc(&f->name, f->classes, sizeof *f->name, "class names"));
        f->name_owned = true;
        for (int32_t k = 0; k < f->classes; k++)
            f->name[k] = embeddings_class_name(train->file, task, k);
        return MT_OK;
    }
    int32_t most = most_of(f->train, train->rows);
    if (f->dev != NULL && most_of(f->dev, dev->rows) > most)
        most = most_of(f->dev, dev->rows);
    f->classes = most + 1;
    return MT_OK;
}

static bool should_stop(void *context)
{
    (void)context;
    return stop_requested_local();
}

static void print_metrics(const char *split, const struct class_metrics *m, double loss)
{
    printf("  %-5s %8lld rows   loss %.4f   accuracy %.4f   f1_macro %.4f   mcc %.4f\n", split,
           (long long)m->count, loss, m->accuracy, m->f1_macro, m->mcc);
}

static void print_result(const struct fit *f, const struct probe_result *r, double seconds)
{
    char time[CLOCK_TEXT_BYTES];
    clock_format_duration(time, seconds);
    printf("task %s: %d classes, %lld labelled rows of %d numbers, %s\n", f->task, r->classes,
           (long long)r->train_rows, r->dim, time);
    if (r->trial_count > 1) {
        printf("  %10s %10s %10s %10s %10s %6s %10s  %s\n", "L2",
               r->by_folds ? "folds acc" : "dev acc", "f1_macro", "mcc", "loss", "iter", "gradient",
               "end");
        for (int32_t i = 0; i < r->trial_count; i++) {
            const struct probe_trial *t = &r->trial[i];
            printf("  %10.3g %10.4f %10.4f %10.4f %10.4f %6d %10.1e  %s%s\n", t->l2,
                   t->dev.accuracy, t->dev.f1_macro, t->dev.mcc, t->dev_loss, t->fit.iterations,
                   t->fit.gradient_max / (double)r->train_rows, lbfgs_reason_text(t->fit.reason),
                   t->l2 == r->l2 ? "  <- chosen" : "");
        }
    }
    printf("  L2 %g, chosen %s: %d iterations, %s, largest gradient %.1e a row\n", r->l2,
           r->trial_count <= 1 ? "by hand"
           : r->by_folds       ? "by folds of train"
                               : "on dev",
           r->fit.iterations, lbfgs_reason_text(r->fit.reason),
           r->fit.gradient_max / (double)r->train_rows);
    if (r->absent_classes > 0)
        printf("  %d classes have no row in train and are never predicted\n", r->absent_classes);
    print_metrics("train", &r->train, r->train_loss);
    if (r->dev.count > 0)
        print_metrics("dev", &r->dev, r->dev_loss);
}

static void write_metrics(struct json_writer *w, const char *key, const struct class_metrics *m,
                          double loss)
{
    json_write_object(w, key);
    json_write_int(w, "rows", m->count);
    json_write_real(w, "loss", loss);
    json_write_real(w, "accuracy", m->accuracy);
    json_write_real(w, "f1_macro", m->f1_macro);
    json_write_real(w, "mcc", m->mcc);
    json_write_end(w);
}

static void write_result(struct json_writer *w, const struct fit *f, const struct probe_result *r)
{
    json_write_object(w, NULL);
    json_write_string(w, "task", f->task);
    json_write_int(w, "dim", r->dim);
    json_write_int(w, "classes", r->classes);
    if (f->name != NULL)
        json_write_strings(w, "labels", f->name, f->classes);
    json_write_real(w, "l2", r->l2);
    json_write_bool(w, "l2_by_folds", r->by_folds);
    json_write_int(w, "iterations", r->fit.iterations);
    json_write_string(w, "reason", lbfgs_reason_text(r->fit.reason));
    json_write_real(w, "gradient_max", r->fit.gradient_max / (double)r->train_rows);
    write_metrics(w, "train", &r->train, r->train_loss);
    if (r->dev.count > 0)
        write_metrics(w, "dev", &r->dev, r->dev_loss);
    json_write_array(w, "grid");
    for (int32_t i = 0; i < r->trial_count; i++) {
        json_write_object(w, NULL);
        json_write_real(w, "l2", r->trial[i].l2);
        json_write_real(w, "accuracy", r->trial[i].dev.accuracy);
        json_write_real(w, "loss", r->trial[i].dev_loss);
        json_write_int(w, "iterations", r->trial[i].fit.iterations);
        json_write_string(w, "reason", lbfgs_reason_text(r->trial[i].fit.reason));
        json_write_end(w);
    }
    json_write_end(w);
    json_write_array(w, "weight");
    for (int32_t k = 0; k < r->classes; k++)
        json_write_reals(w, NULL, r->weight + (int64_t)k * r->dim, r->dim);
    json_write_end(w);
    json_write_reals(w, "bias", r->bias, r->classes);
    json_write_end(w);
}

static mt_status fit_one(struct fit *f, const struct table *train, const struct table *dev,
                         const struct probe_words *words, struct pool *pool, struct json_writer *w)
{
    struct probe_data train_data = {train->x, f->train, train->rows};
    struct probe_data dev_data = {dev->x, f->dev, dev->rows};
    struct probe_options options = {.dim = train->dim,
                                    .classes = f->classes,
                                    .l2_min = words->l2 > 0.0 ? words->l2 : words->l2_min,
                                    .l2_max = words->l2 > 0.0 ? words->l2 : words->l2_max,
                                    .l2_count = (int32_t)words->grid,
                                    .folds = (int32_t)words->folds,
                                    .max_iterations = (int32_t)words->iterations,
                                    .seed = (uint64_t)words->seed,
                                    .pool = pool,
                                    .should_stop = should_stop};
    struct probe_result r = {0};
    double begin_s = clock_now_s();
    if (f->classes < 2)
        return MT_FAIL(MT_DATA, "%s: task \"%s\" has %d class%s; a classifier needs two",
                       train->path, f->task, f->classes, f->classes == 1 ? "" : "es");
    MT_TRY(probe_train(&r, &train_data, f->dev != NULL ? &dev_data : NULL, &options));
    print_result(f, &r, clock_now_s() - begin_s);
    if (r.fit.reason != LBFGS_CONVERGED)
        log_warning("task %s: not converged (%s); raise --iterations", f->task,
                    lbfgs_reason_text(r.fit.reason));
    write_result(w, f, &r);
    probe_result_release(&r);
    return MT_OK;
}

static bool is_wanted(const struct probe_words *words, const char *task)
{
    for (int32_t i = 0; i < words->tasks.count; i++)
        if (strcmp(words->tasks.item[i], task) == 0)
            return true;
    return words->tasks.count == 0;
}

static mt_status check_tasks(const struct probe_words *words, const struct table *train)
{
    if (train->lines != NULL)
        return MT_OK;
    if (embeddings_task_count(train->file) == 0)
        return MT_FAIL(MT_DATA,
                       "%s holds no labels; name a text file with one label a line by --labels",
                       train->path);
    for (int32_t i = 0; i < words->tasks.count; i++)
        if (find_task(train, words->tasks.item[i]) < 0)
            return MT_FAIL(MT_ARG, "%s has no labels of task \"%s\" (the first it has is \"%s\")",
                           train->path, words->tasks.item[i], embeddings_task_name(train->file, 0));
    return MT_OK;
}

static mt_status fit_all(const struct table *train, const struct table *dev,
                         const struct probe_words *words, struct pool *pool, struct json_writer *w)
{
    int32_t count = train->lines != NULL ? 1 : embeddings_task_count(train->file);
    MT_TRY(check_tasks(words, train));
    for (int32_t t = 0; t < count; t++) {
        struct fit f = {0};
        if (train->lines == NULL && !is_wanted(words, embeddings_task_name(train->file, t)))
            continue;
        mt_status st = train->lines != NULL ? label_by_lines(&f, train, dev)
                                            : label_by_task(&f, train, dev, t);
        if (st == MT_OK)
            st = fit_one(&f, train, dev, words, pool, w);
        release_fit(&f);
        MT_TRY(st);
    }
    return MT_OK;
}

static mt_status write_file(struct json_writer *w, const char *path)
{
    const char *text;
    int64_t bytes;
    MT_TRY(json_writer_finish(w, &text, &bytes));
    if (path == NULL)
        return MT_OK;
    MT_TRY(file_write_atomic(path, text, bytes));
    log_info("classifiers are in %s", path);
    return MT_OK;
}

static mt_status probe(const struct probe_words *words)
{
    struct table train = {0}, dev = {0};
    struct json_writer w = {0};
    struct pool *pool = NULL;
    int64_t threads = words->threads > 0 ? words->threads : topology_cores();
    mt_status st;
    MT_TRY_GOTO(st, pool_create(&pool, threads < 64 ? (int32_t)threads : 64), done);
    MT_TRY_GOTO(st, open_table(&train, words->files.item[0], words->labels), done);
    if (words->dev != NULL)
        MT_TRY_GOTO(st, open_table(&dev, words->dev, words->dev_labels), done);
    if (words->dev != NULL && dev.dim != train.dim) {
        st = MT_FAIL(MT_DATA, "%s has %d numbers a row, %s has %d", train.path, train.dim, dev.path,
                     dev.dim);
        goto done;
    }
    json_write_object(&w, NULL);
    json_write_string(&w, "embeddings", train.path);
    json_write_array(&w, "tasks");
    MT_TRY_GOTO(st, fit_all(&train, &dev, words, pool, &w), done);
    json_write_end(&w);
    json_write_end(&w);
    st = write_file(&w, words->out);
done:
    json_writer_release(&w);
    close_table(&train);
    close_table(&dev);
    pool_destroy(&pool);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct probe_words words = {0};
    bool help;
    const struct argument table[] = {
        {"--dev", "FILE", ARGUMENT_TEXT, &words.dev,
         "embeddings on which the strength of L2 is chosen (default: folds of the others)"},
        {"--labels", "FILE", ARGUMENT_TEXT, &words.labels,
         "text, one label a line, empty = none (for .npy, or instead of stored ones)"},
        {"--dev-labels", "FILE", ARGUMENT_TEXT, &words.dev_labels, "the same for --dev"},
        {"--task", "T", ARGUMENT_LIST, &words.tasks, "only this task; may be repeated"},
        {"--l2", "X", ARGUMENT_REAL, &words.l2, "this strength of L2; nothing is chosen"},
        {"--l2-min", "X", ARGUMENT_REAL, &words.l2_min, "weakest of the grid (default 1e-3)"},
        {"--l2-max", "X", ARGUMENT_REAL, &words.l2_max, "strongest of the grid (default 1e4)"},
        {"--grid", "N", ARGUMENT_INT, &words.grid, "points of the grid (default 8)"},
        {"--folds", "N", ARGUMENT_INT, &words.folds, "where there is no --dev (default 5)"},
        {"--iterations", "N", ARGUMENT_INT, &words.iterations, "of one fit at most (default 1000)"},
        {"--seed", "N", ARGUMENT_INT, &words.seed, "of the folds (default 0)"},
        {"--threads", "N", ARGUMENT_INT, &words.threads, "default: all cores; the same bits"},
        {"--out", "FILE", ARGUMENT_TEXT, &words.out, "JSON file with the classifiers"},
        {NULL, "EMBEDDINGS", ARGUMENT_REST, &words.files, "an .h5 or .npy file"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_probe, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (words.files.count != 1)
        st = MT_FAIL(MT_ARG, "probe needs one file of embeddings (mttrain embed writes one)");
    else if ((words.dev_labels != NULL && words.dev == NULL) ||
             (words.dev != NULL && (words.labels == NULL) != (words.dev_labels == NULL)))
        st = MT_FAIL(MT_ARG, "--dev, --labels and --dev-labels belong together");
    else if ((words.l2_min > 0.0) != (words.l2_max > 0.0))
        st = MT_FAIL(MT_ARG, "--l2-min and --l2-max belong together");
    else if (words.grid < 0 || words.grid > PROBE_GRID_MAX || words.folds < 0 ||
             words.folds > 1000 || words.iterations < 0 || words.iterations > 1000000)
        st = MT_FAIL(MT_ARG, "--grid takes 2..%d, --folds 2..1000, --iterations 1..1000000",
                     PROBE_GRID_MAX);
    else
        st = probe(&words);
done:
    text_list_release(&words.files);
    text_list_release(&words.tasks);
    return st;
}

const struct command command_probe = {
    "probe",
    "EMBEDDINGS.{h5,npy} [--dev FILE] [--task T] [--out FILE]",
    "Fits a separate classifier to stored embeddings: multinomial logistic regression.",
    "mttrain probe runs/frozen/embeddings/tickets-train.h5 --dev "
    "runs/frozen/embeddings/tickets-dev.h5",
    COMMAND_ROOT,
    run};
