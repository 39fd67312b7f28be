/*
 * The inverse Hessian is never formed: the last m steps s and gradient changes y give its product
 * with the gradient in 4 m n operations.  A step must satisfy the strong Wolfe conditions, so every
 * pair has s.y > 0 and the model stays positive definite.
 *
 * Within rounding of the minimum the value no longer tells which of two points is lower, but its
 * slope still does: there a step is taken on the slope alone, as long as the value has not risen by
 * more than its own rounding.  A plain backtracking search was refused: it stalls before 1e-6.
 *
 * Cost: one evaluation an iteration as a rule; memory (2 m + 4) n.
 */
#include "trainer/optim/lbfgs.h"

#include <math.h>
#include <string.h>

#include "comm/base/memory.h"

#define SUFFICIENT 1.0e-4   /* c1 of the Wolfe conditions */
#define CURVATURE 0.9       /* c2 */
#define VALUE_NOISE 1.0e-12 /* of |value|: what summation may be off by */

enum { WIDEN_MAX = 40, ZOOM_MAX = 40, HISTORY_MAX = 100 };

struct pairs {
    int32_t capacity, count, next;
    double *s, *y; /* [capacity][n] */
    double sy[HISTORY_MAX], alpha[HISTORY_MAX];
};

/* A point of the line x + step * direction. */
struct trial {
    double step, value, slope;
};

struct search {
    const struct lbfgs_problem *problem;
    const double *x, *direction;
    double *x_new, *gradient_new;
    struct trial origin;
    int32_t evaluations;
};

static const char *const REASON_TEXT[LBFGS_REASON_COUNT] = {
    [LBFGS_CONVERGED] = "converged",
    [LBFGS_MAX_ITERATIONS] = "iteration limit",
    [LBFGS_PRECISION] = "limit of rounding",
    [LBFGS_INTERRUPTED] = "interrupted",
};

const char *lbfgs_reason_text(enum lbfgs_reason reason)
{
    return REASON_TEXT[reason];
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double max_abs(const double *a, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = fabs(a[i]);
        if (!(v <= most)) /* a NaN stays */
            most = v;
    }
    return most;
}

static void add_scaled(double *a, double factor, const double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        a[i] += factor * b[i];
}

static void pairs_add(struct pairs *p, const struct search *line, const double *gradient, int64_t n)
{
    double *s = p->s + (int64_t)p->next * n, *y = p->y + (int64_t)p->next * n;
    for (int64_t i = 0; i < n; i++) {
        s[i] = line->x_new[i] - line->x[i];
        y[i] = line->gradient_new[i] - gradient[i];
    }
    double sy = dot(s, y, n);
    if (!(sy > 1e-300) || sy < 1e-16 * dot(y, y, n))
        return;
    p->sy[p->next] = sy;
    p->next = (p->next + 1) % p->capacity;
    if (p->count < p->capacity)
        p->count++;
}

/* direction = -H gradient by the two-loop recursion. */
static void pairs_direction(struct pairs *p, double *direction, const double *gradient, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        direction[i] = -gradient[i];
    if (p->count == 0)
        return;
    for (int32_t back = 1; back <= p->count; back++) {
        int32_t i = (p->next - back + p->capacity) % p->capacity;
        p->alpha[i] = dot(p->s + (int64_t)i * n, direction, n) / p->sy[i];
        add_scaled(direction, -p->alpha[i], p->y + (int64_t)i * n, n);
    }
    int32_t last = (p->next - 1 + p->capacity) % p->capacity;
    const double *y = p->y + (int64_t)last * n;
    double scale = p->sy[last] / dot(y, y, n);
    for (int64_t i = 0; i < n; i++)
        direction[i] *= scale;
    for (int32_t back = p->count; back >= 1; back--) {
        int32_t i = (p->next - back + p->capacity) % p->capacity;
        double beta = dot(p->y + (int64_t)i * n, direction, n) / p->sy[i];
        add_scaled(direction, p->alpha[i] - beta, p->s + (int64_t)i * n, n);
    }
}

static struct trial search_try(struct search *line, double step)
{
    int64_t n = line->problem->dim;
    for (int64_t i = 0; i < n; i++)
        line->x_new[i] = line->x[i] + step * line->direction[i];
    struct trial t = {.step = step};
    t.value = line->problem->evaluate(line->problem->context, line->x_new, line->gradient_new);
    t.slope = dot(line->gradient_new, line->direction, n);
    line->evaluations++;
    if (!isfinite(t.value) || !isfinite(t.slope))
        t.value = t.slope = INFINITY;
    return t;
}

static bool is_low_enough(const struct search *line, const struct trial *t)
{
    return t->value <= line->origin.value + SUFFICIENT * t->step * line->origin.slope;
}

static bool is_acceptable(const struct search *line, const struct trial *t)
{
    const struct trial *o = &line->origin;
    if (is_low_enough(line, t) && fabs(t->slope) <= CURVATURE * fabs(o->slope))
        return true;
    return t->value <= o->value + VALUE_NOISE * fabs(o->value) &&
           t->slope >= CURVATURE * o->slope && t->slope <= (2 * SUFFICIENT - 1) * o->slope;
}

/* The minimum of the cubic through both ends, kept off them by a tenth of the interval. */
static double interpolate(const struct trial *lo, const struct trial *hi)
{
    double width = hi->step - lo->step, step = lo->step + 0.5 * width;
    if (isfinite(hi->value)) {
        double d1 = lo->slope + hi->slope - 3 * (lo->value - hi->value) / (lo->step - hi->step);
        double root = sqrt(d1 * d1 - lo->slope * hi->slope);
        double d2 = width > 0 ? root : -root;
        double cubic = hi->step - width * (hi->slope + d2 - d1) / (hi->slope - lo->slope + 2 * d2);
        if (isfinite(cubic))
            step = cubic;
    }
    double share = (step - lo->step) / width;
    return lo->step + width * fmin(fmax(share, 0.1), 0.9);
}

/* lo is the lower end and its slope points at hi; a good step lies between. */
static bool search_zoom(struct search *line, struct trial lo, struct trial hi, struct trial *out)
{
    for (int i = 0; i < ZOOM_MAX; i++) {
        double step = interpolate(&lo, &hi);
        if (step == lo.step || step == hi.step)
            return false;
        struct trial t = search_try(line, step);
        if (is_acceptable(line, &t)) {
            *out = t;
            return true;
        }
        if (!is_low_enough(line, &t) || t.value >= lo.value) {
            hi = t;
        } else {
            if (t.slope * (hi.step - lo.step) >= 0)
                hi = lo;
            lo = t;
        }
    }
    return false;
}

static bool search_run(struct search *line, double first_step, struct trial *out)
{
    struct trial last = line->origin;
    double step = first_step;
    for (int i = 0; i < WIDEN_MAX; i++) {
        struct trial t = search_try(line, step);
        if (is_acceptable(line, &t)) {
            *out = t;
            return true;
        }
        if (!is_low_enough(line, &t) || (i > 0 && t.value >= last.value))
            return search_zoom(line, last, t, out);
        if (t.slope >= 0)
            return search_zoom(line, t, last, out);
        last = t;
        step *= 2;
    }
    return false;
}

static void iterate(struct pairs *pairs, struct search *line, double *x, double *gradient,
                    double *direction, const struct lbfgs_options *options, struct lbfgs_result *r)
{
    const struct lbfgs_problem *problem = line->problem;
    int64_t n = problem->dim;
    int32_t max_iterations = options->max_iterations > 0 ? options->max_iterations : 1000;
    for (;;) {
        r->gradient_max = max_abs(gradient, n);
        r->reason = LBFGS_CONVERGED;
        if (r->gradient_max <= options->gradient_tolerance)
            return;
        r->reason = LBFGS_MAX_ITERATIONS;
        if (r->iterations >= max_iterations)
            return;
        r->reason = LBFGS_INTERRUPTED;
        if (problem->should_stop != NULL && problem->should_stop(problem->context))
            return;

        pairs_direction(pairs, direction, gradient, n);
        double slope = dot(gradient, direction, n);
        struct trial best = {0};
        bool found = false;
        if (slope < 0) {
            double first = 1;
            if (pairs->count == 0)
                first = fmin(1, 1 / sqrt(-slope));
            line->origin = (struct trial){.step = 0, .value = r->value, .slope = slope};
            found = search_run(line, first, &best);
        }
        if (!found) {
            r->reason = LBFGS_PRECISION;
            if (pairs->count == 0)
                return;
            pairs->count = 0; /* again from steepest descent */
            continue;
        }
        pairs_add(pairs, line, gradient, n);
        memcpy(x, line->x_new, (size_t)n * sizeof *x);
        memcpy(gradient, line->gradient_new, (size_t)n * sizeof *gradient);
        r->value = best.value;
        r->iterations++;
    }
}

mt_status lbfgs_minimise(const struct lbfgs_problem *problem, const struct lbfgs_options *options,
                         double *x, struct lbfgs_result *result)
{
    int64_t n = problem->dim;
    int32_t history = options->history > 0 ? options->history : 10;
    if (history > HISTORY_MAX || n < 1 || n > INT64_MAX / (2 * HISTORY_MAX + 4))
        return MT_FAIL(MT_ARG, "L-BFGS: history %d of %lld variables; history is at most %d",
                       history, (long long)n, HISTORY_MAX);
    double *work = NULL;
    MT_TRY(mt_alloc(&work, (2 * (int64_t)history + 4) * n, sizeof *work, "L-BFGS vectors"));
    double *gradient = work, *direction = work + n;
    struct pairs pairs = {
        .capacity = history, .s = work + 4 * n, .y = work + (4 + (int64_t)history) * n};
    struct search line = {.problem = problem,
                          .x = x,
                          .direction = direction,
                          .x_new = work + 2 * n,
                          .gradient_new = work + 3 * n};
    struct lbfgs_result r = {0};
    mt_status st = MT_OK;
    r.value = problem->evaluate(problem->context, x, gradient);
    if (!isfinite(r.value) || !isfinite(max_abs(gradient, n))) {
        st = MT_FAIL(MT_NUMERIC, "L-BFGS: the value or gradient at the beginning is not finite");
        goto done;
    }
    iterate(&pairs, &line, x, gradient, direction, options, &r);
    r.evaluations = line.evaluations + 1;
    *result = r;
done:
    mt_free(&work);
    return st;
}
