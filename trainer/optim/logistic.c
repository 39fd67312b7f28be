/*
 * Rows are cut into parts of whole blocks, each added up by one thread into a gradient of its own,
 * and the parts are added up in order: threads change no bit.
 *
 * Within a part, rows are standardised and turned a block at a time, so that both products are
 * loops over features that read memory in order: eight rows against four classes, all sums in
 * registers.  Double throughout and sums in one fixed order: single precision was refused because
 * its rounding hides the last digits of the minimum, a library product because its bits vary with
 * its version.
 *
 * Cost: 4 rows dim classes multiply-adds an evaluation, classes rounded up to four; memory beyond
 * the features is a block of rows.
 */
#include "trainer/optim/logistic.h"

#include <math.h>
#include <string.h>

#include "comm/base/memory.h"

enum {
    LANE = LOGISTIC_LANE,
    GROUP = LOGISTIC_GROUP_ROWS,
    BLOCK = LOGISTIC_BLOCK_ROWS,
    GROUPS = BLOCK / GROUP
};

/* Four classes side by side: GCC and Clang vector types, plain arithmetic on any machine. */
typedef double lane __attribute__((vector_size(LANE * sizeof(double))));

static lane lane_load(const double *p)
{
    lane v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void lane_store(double *p, lane v)
{
    memcpy(p, &v, sizeof v);
}

static mt_status measure_scale(struct logistic *l)
{
    int32_t D = l->dim;
    double n = (double)l->row_count;
    for (int64_t i = 0; i < l->row_count; i++) {
        const float *f = l->features + l->rows[i] * D;
        double check = 0;
        for (int32_t d = 0; d < D; d++) {
            l->mean[d] += (double)f[d];
            check += 0 * (double)f[d]; /* NaN where one is not finite */
        }
        if (check != 0)
            return MT_FAIL(MT_DATA, "row %lld has a feature that is not a finite number",
                           (long long)l->rows[i]);
    }
    for (int32_t d = 0; d < D; d++)
        l->mean[d] /= n;
    for (int64_t i = 0; i < l->row_count; i++) {
        const float *f = l->features + l->rows[i] * D;
        for (int32_t d = 0; d < D; d++) {
            double v = (double)f[d] - l->mean[d];
            l->scale[d] += v * v;
        }
    }
    for (int32_t d = 0; d < D; d++) {
        double deviation = sqrt(l->scale[d] / n);
        l->scale[d] = deviation > 1e-10 * fabs(l->mean[d]) ? 1 / deviation : 0;
    }
    return MT_OK;
}

/* As many parts as keep their gradients within some memory, none of few rows. */
static int32_t count_parts(const struct logistic *l)
{
    const int64_t least_rows = 512, most_elements = (int64_t)32 << 20;
    int64_t parts = l->row_count / least_rows, fitting = most_elements / l->parameter_count + 1;
    parts = parts < fitting ? parts : fitting;
    parts = parts < LOGISTIC_PARTS_MAX ? parts : LOGISTIC_PARTS_MAX;
    return parts > 1 ? (int32_t)parts : 1;
}

mt_status logistic_init(struct logistic *l, bool standardise)
{
    mt_status st;
    int32_t D = l->dim, threads = l->pool != NULL ? pool_threads(l->pool) : 1;
    l->panels = (l->classes + LANE - 1) / LANE;
    l->parameter_count = (int64_t)l->panels * (D + 1) * LANE;
    l->parts = l->labels != NULL ? count_parts(l) : 1;
    MT_TRY_GOTO(st, mt_alloc(&l->mean, D, sizeof(double), "feature means"), done);
    MT_TRY_GOTO(st, mt_alloc(&l->scale, D, sizeof(double), "feature scales"), done);
    MT_TRY_GOTO(
        st, mt_alloc(&l->x, (int64_t)threads * D * BLOCK, sizeof(double), "a block of rows"), done);
    MT_TRY_GOTO(
        st,
        mt_alloc(&l->scores, (int64_t)threads * l->panels * BLOCK * LANE, sizeof(double), "scores"),
        done);
    MT_TRY_GOTO(st,
                mt_alloc(&l->part, (l->parts - 1) * l->parameter_count, sizeof(double),
                         "gradients of parts"),
                done);
    if (standardise) {
        MT_TRY_GOTO(st, measure_scale(l), done);
    } else {
        for (int32_t d = 0; d < D; d++)
            l->scale[d] = 1;
    }
done:
    if (st != MT_OK)
        logistic_release(l);
    return st;
}

void logistic_release(struct logistic *l)
{
    mt_free(&l->mean);
    mt_free(&l->scale);
    mt_free(&l->x);
    mt_free(&l->scores);
    mt_free(&l->part);
}

/* x[group][d][row]; rows past count are 0. */
static void load_block(struct logistic *l, int64_t first, int32_t count)
{
    int32_t D = l->dim;
    for (int32_t r = 0; r < BLOCK; r++) {
        double *x = l->x + (int64_t)(r / GROUP) * D * GROUP + r % GROUP;
        const float *f = r < count ? l->features + l->rows[first + r] * D : NULL;
        for (int32_t d = 0; d < D; d++)
            x[(int64_t)d * GROUP] = f != NULL ? ((double)f[d] - l->mean[d]) * l->scale[d] : 0;
    }
}

/* scores[GROUP][LANE] = x^T w + b, with x[dim][GROUP] and w[dim + 1][LANE]. */
static void multiply_scores(double *scores, const double *x, const double *w, int32_t dim)
{
    lane sum[GROUP];
    for (int i = 0; i < GROUP; i++)
        sum[i] = lane_load(w + (int64_t)dim * LANE);
    for (int32_t d = 0; d < dim; d++) {
        lane wd = lane_load(w + (int64_t)d * LANE);
        const double *xd = x + (int64_t)d * GROUP;
        for (int i = 0; i < GROUP; i++)
            sum[i] += xd[i] * wd;
    }
    for (int i = 0; i < GROUP; i++)
        lane_store(scores + i * LANE, sum[i]);
}

/* dw[dim + 1][LANE] += x dscores, and the bias' row likewise. */
static void multiply_gradient(double *dw, const double *x, const double *dscores, int32_t dim)
{
    lane ds[GROUP];
    lane bias = lane_load(dw + (int64_t)dim * LANE);
    for (int i = 0; i < GROUP; i++) {
        ds[i] = lane_load(dscores + i * LANE);
        bias += ds[i];
    }
    for (int32_t d = 0; d < dim; d++) {
        lane sum = lane_load(dw + (int64_t)d * LANE);
        const double *xd = x + (int64_t)d * GROUP;
        for (int i = 0; i < GROUP; i++)
            sum += xd[i] * ds[i];
        lane_store(dw + (int64_t)d * LANE, sum);
    }
    lane_store(dw + (int64_t)dim * LANE, bias);
}

void logistic_score_block(struct logistic *l, const double *parameters, int64_t first,
                          int32_t count)
{
    load_block(l, first, count);
    int64_t panel_size = (int64_t)(l->dim + 1) * LANE;
    for (int32_t p = 0; p < l->panels; p++)
        for (int32_t g = 0; g * GROUP < count; g++)
            multiply_scores(l->scores + ((int64_t)p * BLOCK + g * GROUP) * LANE,
                            l->x + (int64_t)g * l->dim * GROUP, parameters + p * panel_size,
                            l->dim);
}

/* Turns a row of scores into weight * (softmax - onehot); answers weight * cross-entropy. */
static double softmax_row(struct logistic *l, int32_t row, int32_t label)
{
    double most = *logistic_score(l, row, 0), sum = 0;
    double weight = l->weights != NULL ? l->weights[label] : 1;
    double own = *logistic_score(l, row, label);
    for (int32_t k = 1; k < l->classes; k++)
        most = fmax(most, *logistic_score(l, row, k));
    for (int32_t k = 0; k < l->classes; k++) {
        double *s = logistic_score(l, row, k);
        *s = exp(*s - most);
        sum += *s;
    }
    for (int32_t k = 0; k < l->classes; k++)
        *logistic_score(l, row, k) *= weight / sum;
    *logistic_score(l, row, label) -= weight;
    for (int32_t k = l->classes; k < l->panels * LANE; k++)
        *logistic_score(l, row, k) = 0;
    return weight * (log(sum) + most - own);
}

/* One evaluation: what the parts share. */
struct evaluation {
    struct logistic *l;
    const double *parameters;
    double *gradient;
};

/* Loss and gradient of rows first .. end-1, with the work space of `view`. */
static double evaluate_rows(struct logistic *view, const double *parameters, double *gradient,
                            int64_t row, int64_t end)
{
    int64_t panel_size = (int64_t)(view->dim + 1) * LANE;
    double loss = 0;
    memset(gradient, 0, (size_t)view->parameter_count * sizeof *gradient);
    for (int64_t first = row; first < end; first += BLOCK) {
        int32_t count = end - first < BLOCK ? (int32_t)(end - first) : BLOCK;
        logistic_score_block(view, parameters, first, count);
        for (int32_t r = 0; r < count; r++)
            loss += softmax_row(view, r, view->labels[first + r]);
        for (int32_t r = count; r % GROUP != 0; r++)
            for (int32_t k = 0; k < view->panels * LANE; k++)
                *logistic_score(view, r, k) = 0;
        for (int32_t p = 0; p < view->panels; p++)
            for (int32_t g = 0; g * GROUP < count; g++)
                multiply_gradient(
                    gradient + p * panel_size, view->x + (int64_t)g * view->dim * GROUP,
                    view->scores + ((int64_t)p * BLOCK + g * GROUP) * LANE, view->dim);
    }
    return loss;
}

static mt_status evaluate_part(void *context, int32_t index, int32_t worker)
{
    const struct evaluation *e = context;
    struct logistic *l = e->l, view = *l;
    int64_t blocks = (l->row_count + BLOCK - 1) / BLOCK;
    int64_t first = blocks * index / l->parts * BLOCK,
            end = blocks * (index + 1) / l->parts * BLOCK;
    view.x += (int64_t)worker * l->dim * BLOCK;
    view.scores += (int64_t)worker * l->panels * BLOCK * LANE;
    double *gradient = index == 0 ? e->gradient : l->part + (index - 1) * l->parameter_count;
    l->part_loss[index] = evaluate_rows(&view, e->parameters, gradient, first,
                                        end < l->row_count ? end : l->row_count);
    return MT_OK;
}

static void evaluate_parts(struct evaluation *e)
{
    struct logistic *l = e->l;
    if (l->pool != NULL && pool_run(l->pool, evaluate_part, e, l->parts) == MT_OK)
        return;
    for (int32_t p = 0; p < l->parts; p++)
        if (evaluate_part(e, p, 0) != MT_OK)
            return;
}

double logistic_evaluate(void *context, const double *parameters, double *gradient)
{
    struct logistic *l = context;
    struct evaluation e = {l, parameters, gradient};
    int64_t panel_size = (int64_t)(l->dim + 1) * LANE;
    double loss = 0, squares = 0;
    evaluate_parts(&e);
    for (int32_t p = 0; p < l->parts; p++) {
        loss += l->part_loss[p];
        for (int64_t i = 0; p > 0 && i < l->parameter_count; i++)
            gradient[i] += l->part[(p - 1) * l->parameter_count + i];
    }
    for (int32_t p = 0; p < l->panels; p++) {
        const double *w = parameters + p * panel_size;
        double *dw = gradient + p * panel_size;
        for (int64_t i = 0; i < (int64_t)l->dim * LANE; i++) {
            squares += w[i] * w[i];
            dw[i] += l->l2 * w[i];
        }
    }
    return loss + 0.5 * l->l2 * squares;
}
