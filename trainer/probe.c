/*
 * One path per set of rows: fits from the strongest l2 to the weakest, each from the last one's
 * solution, judged on rows held out (dev, or each fold in turn).  Classes without a row in train
 * are left out of the fit: their unpenalised bias would run to minus infinity.  So the fit sees
 * dense class numbers 0..P-1 (struct classes maps them), the result all K.
 *
 * Cost: grid x iterations x 4 rows dim classes multiply-adds, folds times that without dev.
 */
#include "trainer/probe.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "trainer/optim/logistic.h"

/* Options with every default filled in. */
struct plan {
    struct probe_options o;
    double l2[PROBE_GRID_MAX]; /* from strong to weak */
};

/* A set of rows to fit on, with its classes renumbered. */
struct subset {
    int64_t *rows;
    int32_t *labels; /* dense */
    int64_t count;
    int32_t *dense;  /* [K] number among the present, -1 = absent */
    double *weights; /* [present] */
    double weight_sum;
    int32_t present;
};

static void subset_release(struct subset *s)
{
    mt_free(&s->rows);
    mt_free(&s->labels);
    mt_free(&s->dense);
    mt_free(&s->weights);
}

static double class_weight(const struct probe_options *o, int32_t k)
{
    return o->class_weights != NULL ? o->class_weights[k] : 1;
}

/* Rows with a label that counts, but for those of fold `without` (fold[i] per row; NULL = all). */
static mt_status subset_make(struct subset *s, const struct probe_data *data,
                             const struct probe_options *o, const int32_t *fold, int32_t without)
{
    mt_status st;
    memset(s, 0, sizeof *s);
    MT_TRY_GOTO(st, mt_alloc(&s->rows, data->rows, sizeof *s->rows, "rows of a fit"), done);
    MT_TRY_GOTO(st, mt_alloc(&s->labels, data->rows, sizeof *s->labels, "labels of a fit"), done);
    MT_TRY_GOTO(st, mt_alloc(&s->dense, o->classes, sizeof *s->dense, "classes of a fit"), done);
    MT_TRY_GOTO(st, mt_alloc(&s->weights, o->classes, sizeof *s->weights, "class weights"), done);
    for (int64_t i = 0; i < data->rows; i++) {
        int32_t k = data->labels[i];
        if (k < 0 || !(class_weight(o, k) > 0) || (fold != NULL && fold[i] == without))
            continue;
        s->dense[k] = 1;
        s->rows[s->count] = i;
        s->labels[s->count++] = k;
        s->weight_sum += class_weight(o, k);
    }
    for (int32_t k = 0; k < o->classes; k++) {
        bool present = s->dense[k] != 0;
        s->dense[k] = present ? s->present : -1;
        if (present)
            s->weights[s->present++] = class_weight(o, k);
    }
    for (int64_t i = 0; i < s->count; i++)
        s->labels[i] = s->dense[s->labels[i]];
done:
    if (st != MT_OK)
        subset_release(s);
    return st;
}

/* The fit's parameters as a plain head on raw features: z = (x - mean) * scale unfolded. */
static void fold_back(struct probe_result *r, const struct logistic *l, const struct subset *s,
                      const double *parameters)
{
    for (int32_t k = 0; k < r->classes; k++) {
        double *w = r->weight + (int64_t)k * r->dim;
        int32_t p = s->dense[k];
        r->bias[k] = p < 0 ? PROBE_ABSENT_BIAS : parameters[logistic_index(l, p, r->dim)];
        for (int32_t d = 0; d < r->dim; d++) {
            w[d] = p < 0 ? 0 : parameters[logistic_index(l, p, d)] * l->scale[d];
            r->bias[k] -= w[d] * l->mean[d];
        }
    }
}

static void sum_fits(struct lbfgs_result *sum, const struct lbfgs_result *fit)
{
    sum->iterations += fit->iterations;
    sum->evaluations += fit->evaluations;
    sum->value += fit->value;
    sum->gradient_max = fmax(sum->gradient_max, fit->gradient_max);
    if (fit->reason != LBFGS_CONVERGED)
        sum->reason = fit->reason;
}

/* One path on one subset. */
struct path {
    const struct plan *plan;
    struct subset subset;
    struct logistic model;
    double *parameters;
    double *best; /* those of the best trial so far */
};

static void path_release(struct path *p)
{
    logistic_release(&p->model);
    subset_release(&p->subset);
    mt_free(&p->parameters);
    mt_free(&p->best);
}

static mt_status path_init(struct path *p, const struct plan *plan, const struct probe_data *train,
                           const int32_t *fold, int32_t without)
{
    mt_status st;
    memset(p, 0, sizeof *p);
    p->plan = plan;
    MT_TRY_GOTO(st, subset_make(&p->subset, train, &plan->o, fold, without), done);
    if (p->subset.count == 0) {
        st = MT_FAIL(MT_DATA, "none of %lld rows has a label that counts: nothing to train on",
                     (long long)train->rows);
        goto done;
    }
    p->model = (struct logistic){.features = train->features,
                                 .rows = p->subset.rows,
                                 .labels = p->subset.labels,
                                 .weights = p->subset.weights,
                                 .pool = plan->o.pool,
                                 .row_count = p->subset.count,
                                 .dim = plan->o.dim,
                                 .classes = p->subset.present};
    MT_TRY_GOTO(st, logistic_init(&p->model, true), done);
    int64_t n = p->model.parameter_count;
    MT_TRY_GOTO(st, mt_alloc(&p->parameters, n, sizeof(double), "classifier parameters"), done);
    MT_TRY_GOTO(st, mt_alloc(&p->best, n, sizeof(double), "best parameters"), done);
done:
    if (st != MT_OK)
        path_release(p);
    return st;
}

static double path_evaluate(void *context, const double *parameters, double *gradient)
{
    struct path *p = context;
    return logistic_evaluate(&p->model, parameters, gradient);
}

static bool path_should_stop(void *context)
{
    const struct path *p = context;
    const struct probe_options *o = &p->plan->o;
    return o->should_stop != NULL && o->should_stop(o->stop_context);
}

static mt_status path_fit(struct path *p, double l2, struct lbfgs_result *fit)
{
    const struct probe_options *o = &p->plan->o;
    const struct lbfgs_problem problem = {.dim = p->model.parameter_count,
                                          .evaluate = path_evaluate,
                                          .should_stop = path_should_stop,
                                          .context = p};
    const struct lbfgs_options options = {.max_iterations = o->max_iterations,
                                          .gradient_tolerance =
                                              o->tolerance * p->subset.weight_sum};
    p->model.l2 = l2;
    MT_TRY(lbfgs_minimise(&problem, &options, p->parameters, fit));
    if (fit->reason == LBFGS_INTERRUPTED)
        return MT_FAIL(MT_STOPPED, "stopped while fitting the classifier at l2 %g", l2);
    return MT_OK;
}

static void path_keep(struct path *p)
{
    memcpy(p->best, p->parameters, (size_t)p->model.parameter_count * sizeof(double));
}

/* Counts of one trial, kept as integers over all folds. */
struct tally {
    int64_t *block; /* [CLASS_COUNTS_WIDTH * K] */
    double loss_sum;
    int64_t loss_rows;
};

/* Scores labelled rows; with `fold`, only those of fold `only`. */
static mt_status score_rows(const struct probe_result *r, const struct probe_data *data,
                            const int32_t *fold, int32_t only, struct tally *tally,
                            int32_t *predictions)
{
    mt_status st;
    int64_t rows[LOGISTIC_BLOCK_ROWS];
    double *parameters = NULL;
    struct logistic l = {
        .features = data->features, .rows = rows, .dim = r->dim, .classes = r->classes};
    MT_TRY_GOTO(st, logistic_init(&l, false), done);
    MT_TRY_GOTO(st, mt_alloc(&parameters, l.parameter_count, sizeof(double), "head"), done);
    for (int32_t k = 0; k < r->classes; k++) {
        parameters[logistic_index(&l, k, r->dim)] = r->bias[k];
        for (int32_t d = 0; d < r->dim; d++)
            parameters[logistic_index(&l, k, d)] = r->weight[(int64_t)k * r->dim + d];
    }
    struct class_counts counts = class_counts_view(tally->block, r->classes);
    for (int64_t next = 0; next < data->rows;) {
        int32_t B = 0;
        for (; next < data->rows && B < LOGISTIC_BLOCK_ROWS; next++) {
            bool wanted = fold == NULL || fold[next] == only;
            if (wanted && (predictions != NULL || data->labels[next] >= 0))
                rows[B++] = next;
        }
        logistic_score_block(&l, parameters, 0, B);
        for (int32_t b = 0; b < B; b++) {
            int32_t label = data->labels[rows[b]], best = 0;
            for (int32_t k = 1; k < r->classes; k++)
                if (*logistic_score(&l, b, k) > *logistic_score(&l, b, best))
                    best = k;
            if (!isfinite(*logistic_score(&l, b, best))) {
                st = MT_FAIL(MT_DATA, "row %lld has a feature that is not a finite number",
                             (long long)rows[b]);
                goto done;
            }
            if (predictions != NULL)
                predictions[rows[b]] = best;
            class_counts_add(&counts, label, best);
            if (label < 0 || r->bias[label] == PROBE_ABSENT_BIAS)
                continue;
            double sum = 0, most = *logistic_score(&l, b, best);
            for (int32_t k = 0; k < r->classes; k++)
                sum += exp(*logistic_score(&l, b, k) - most);
            tally->loss_sum += log(sum) + most - *logistic_score(&l, b, label);
            tally->loss_rows++;
        }
    }
done:
    mt_free(&parameters);
    logistic_release(&l);
    return st;
}

static double tally_loss(const struct tally *t)
{
    return t->loss_rows > 0 ? t->loss_sum / (double)t->loss_rows : 0;
}

static double tally_accuracy(const struct tally *t, int32_t classes)
{
    struct class_counts c = class_counts_view(t->block, classes);
    return class_counts_metrics(&c).accuracy;
}

/* Fits the whole grid and scores `judge` (of fold f where there are folds); path->best holds the
 * parameters that did best there, r->fit their fit and r->l2 their strength. */
static mt_status path_walk(struct path *path, struct probe_result *r,
                           const struct probe_data *judge, const int32_t *fold, int32_t f,
                           struct tally *tally)
{
    const struct plan *plan = path->plan;
    double best = -1;
    for (int32_t t = 0; t < plan->o.l2_count; t++) {
        struct lbfgs_result fit = {0};
        MT_TRY(path_fit(path, plan->l2[t], &fit));
        sum_fits(&r->trial[t].fit, &fit);
        fold_back(r, &path->model, &path->subset, path->parameters);
        MT_TRY(score_rows(r, judge, fold, f, &tally[t], NULL));
        double accuracy = tally_accuracy(&tally[t], r->classes);
        if (accuracy > best) {
            best = accuracy;
            r->fit = fit;
            r->l2 = plan->l2[t];
            path_keep(path);
        }
    }
    return MT_OK;
}

static bool is_counted(const struct plan *plan, const struct probe_data *data, int64_t row)
{
    return data->labels[row] >= 0 && class_weight(&plan->o, data->labels[row]) > 0;
}

/* fold[row]: which part of train the row is left out with; -1 = never used. */
static mt_status make_folds(int32_t **out, int32_t *folds, const struct plan *plan,
                            const struct probe_data *train, int64_t counted)
{
    int32_t *fold = NULL;
    int64_t i = 0;
    MT_TRY(mt_alloc(&fold, train->rows, sizeof *fold, "folds"));
    *folds = counted < plan->o.folds ? (int32_t)counted : plan->o.folds;
    uint64_t key = rng_key(plan->o.seed, RNG_SHUFFLE, 0);
    for (int64_t row = 0; row < train->rows; row++) {
        bool used = is_counted(plan, train, row);
        fold[row] = used ? (int32_t)(rng_permute(key, counted, i++) % *folds) : -1;
    }
    *out = fold;
    return MT_OK;
}

/* Each part of train in turn is held out; then all of train is fitted at the best strength. */
static mt_status choose_by_folds(struct path *path, struct probe_result *r,
                                 const struct probe_data *train, struct tally *tally)
{
    mt_status st;
    const struct plan *plan = path->plan;
    int32_t *fold = NULL, folds = 0, best = 0;
    MT_TRY(make_folds(&fold, &folds, plan, train, path->subset.count));
    for (int32_t f = 0; f < folds; f++) {
        struct path part;
        MT_TRY_GOTO(st, path_init(&part, plan, train, fold, f), done);
        st = path_walk(&part, r, train, fold, f, tally);
        path_release(&part);
        MT_TRY_GOTO(st, st, done);
    }
    for (int32_t t = 1; t < plan->o.l2_count; t++)
        if (tally_accuracy(&tally[t], r->classes) > tally_accuracy(&tally[best], r->classes))
            best = t;
    r->l2 = plan->l2[best];
    for (int32_t t = 0; t <= best; t++)
        MT_TRY_GOTO(st, path_fit(path, plan->l2[t], &r->fit), done);
    path_keep(path);
done:
    mt_free(&fold);
    return st;
}

/* Tries the grid; path->best, r->l2 and r->fit are the choice's. */
static mt_status choose_l2(struct path *path, struct probe_result *r,
                           const struct probe_data *train, const struct probe_data *dev)
{
    mt_status st;
    int32_t K = r->classes;
    int64_t *blocks = NULL;
    struct tally tally[PROBE_GRID_MAX] = {0};
    r->trial_count = path->plan->o.l2_count;
    MT_TRY_GOTO(st,
                mt_alloc(&blocks, (int64_t)r->trial_count * CLASS_COUNTS_WIDTH * K, sizeof *blocks,
                         "counts per class"),
                done);
    for (int32_t t = 0; t < r->trial_count; t++) {
        tally[t].block = blocks + (int64_t)t * CLASS_COUNTS_WIDTH * K;
        r->trial[t].l2 = path->plan->l2[t];
    }
    if (r->by_folds)
        MT_TRY_GOTO(st, choose_by_folds(path, r, train, tally), done);
    else
        MT_TRY_GOTO(st, path_walk(path, r, dev, NULL, 0, tally), done);
    for (int32_t t = 0; t < r->trial_count; t++) {
        struct class_counts c = class_counts_view(tally[t].block, K);
        r->trial[t].dev = class_counts_metrics(&c);
        r->trial[t].dev_loss = tally_loss(&tally[t]);
    }
done:
    mt_free(&blocks);
    return st;
}

static mt_status score_result(const struct probe_result *r, const struct probe_data *data,
                              struct class_metrics *metrics, double *loss)
{
    struct tally tally = {0};
    MT_TRY(mt_alloc(&tally.block, CLASS_COUNTS_WIDTH * (int64_t)r->classes, sizeof(int64_t),
                    "counts per class"));
    mt_status st = score_rows(r, data, NULL, 0, &tally, NULL);
    struct class_counts c = class_counts_view(tally.block, r->classes);
    *metrics = class_counts_metrics(&c);
    *loss = tally_loss(&tally);
    mt_free(&tally.block);
    return st;
}

static mt_status plan_make(struct plan *p, const struct probe_options *options)
{
    p->o = *options;
    struct probe_options *o = &p->o;
    if (o->l2_min == 0 && o->l2_max == 0) {
        o->l2_min = 1e-3;
        o->l2_max = 1e4;
    }
    o->l2_count = o->l2_min == o->l2_max ? 1 : o->l2_count > 0 ? o->l2_count : 8;
    o->tolerance = o->tolerance > 0 ? o->tolerance : 1e-6;
    o->folds = o->folds > 0 ? o->folds : 5;
    if (o->dim < 1 || o->dim > PROBE_DIM_MAX || o->classes < 2 || o->classes > PROBE_CLASSES_MAX)
        return MT_FAIL(MT_ARG,
                       "a probe of %d features and %d classes; 1..%d and 2..%d are possible",
                       o->dim, o->classes, PROBE_DIM_MAX, PROBE_CLASSES_MAX);
    if (!(o->l2_min > 0 && o->l2_max >= o->l2_min && o->l2_max <= 1e300) ||
        o->l2_count > PROBE_GRID_MAX || (o->l2_count == 1 && o->l2_min != o->l2_max))
        return MT_FAIL(MT_ARG,
                       "a grid of %d l2 strengths in %g .. %g; 2..%d positive ones are "
                       "possible, or a single one",
                       o->l2_count, o->l2_min, o->l2_max, PROBE_GRID_MAX);
    if (o->folds < 2)
        return MT_FAIL(MT_ARG, "%d folds; at least 2 are needed", o->folds);
    for (int32_t k = 0; o->class_weights != NULL && k < o->classes; k++)
        if (!(o->class_weights[k] >= 0 && o->class_weights[k] <= DBL_MAX))
            return MT_FAIL(MT_ARG, "the weight of class %d is %g; it must be finite and >= 0", k,
                           o->class_weights[k]);
    p->l2[0] = o->l2_max;
    for (int32_t t = 1; t < o->l2_count; t++)
        p->l2[t] = o->l2_max * pow(o->l2_min / o->l2_max, t / (double)(o->l2_count - 1));
    return MT_OK;
}

static mt_status check_labels(const struct probe_data *data, int32_t classes, int64_t *labelled)
{
    if (data->rows < 0)
        return MT_FAIL(MT_ARG, "%lld rows", (long long)data->rows);
    *labelled = 0;
    for (int64_t i = 0; i < data->rows; i++) {
        if (data->labels[i] >= classes)
            return MT_FAIL(MT_DATA, "row %lld has label %d, but there are %d classes", (long long)i,
                           data->labels[i], classes);
        *labelled += data->labels[i] >= 0;
    }
    return MT_OK;
}

mt_status probe_train(struct probe_result *out, const struct probe_data *train,
                      const struct probe_data *dev, const struct probe_options *options)
{
    mt_status st;
    struct plan plan;
    int64_t train_labelled, dev_labelled = 0;
    MT_TRY(plan_make(&plan, options));
    MT_TRY(check_labels(train, options->classes, &train_labelled));
    if (dev != NULL)
        MT_TRY(check_labels(dev, options->classes, &dev_labelled));

    struct probe_result r = {.dim = options->dim, .classes = options->classes, .l2 = plan.l2[0]};
    struct path path = {0};
    int64_t n = (int64_t)r.classes * r.dim;
    MT_TRY_GOTO(st, mt_alloc(&r.weight, n, sizeof(double), "probe weights"), done);
    MT_TRY_GOTO(st, mt_alloc(&r.bias, r.classes, sizeof(double), "probe biases"), done);
    MT_TRY_GOTO(st, path_init(&path, &plan, train, NULL, 0), done);
    bool choice = plan.o.l2_count > 1;
    r.by_folds = choice && dev_labelled == 0 && path.subset.count > 1;
    r.train_rows = path.subset.count;
    r.absent_classes = r.classes - path.subset.present;
    if (choice && (dev_labelled > 0 || r.by_folds)) {
        MT_TRY_GOTO(st, choose_l2(&path, &r, train, dev), done);
    } else {
        MT_TRY_GOTO(st, path_fit(&path, r.l2, &r.fit), done);
        path_keep(&path);
    }
    fold_back(&r, &path.model, &path.subset, path.best);
    MT_TRY_GOTO(st, score_result(&r, train, &r.train, &r.train_loss), done);
    if (dev_labelled > 0)
        MT_TRY_GOTO(st, score_result(&r, dev, &r.dev, &r.dev_loss), done);
    *out = r;
done:
    path_release(&path);
    if (st != MT_OK)
        probe_result_release(&r);
    return st;
}

void probe_result_release(struct probe_result *r)
{
    mt_free(&r->weight);
    mt_free(&r->bias);
}

mt_status probe_evaluate(const struct probe_result *r, const struct probe_data *data,
                         struct class_counts *counts, double *loss, int32_t *predictions)
{
    int64_t labelled;
    MT_TRY(check_labels(data, r->classes, &labelled));
    struct tally tally = {0};
    MT_TRY(mt_alloc(&tally.block, CLASS_COUNTS_WIDTH * (int64_t)r->classes, sizeof(int64_t),
                    "counts per class"));
    mt_status st = score_rows(r, data, NULL, 0, &tally, predictions);
    for (int32_t k = 0; st == MT_OK && k < r->classes; k++) {
        counts->true_positives[k] += tally.block[k];
        counts->predicted[k] += tally.block[r->classes + k];
        counts->actual[k] += tally.block[2 * (int64_t)r->classes + k];
    }
    if (st == MT_OK && loss != NULL)
        *loss = tally_loss(&tally);
    mt_free(&tally.block);
    return st;
}
