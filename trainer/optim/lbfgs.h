/*
 * lbfgs: minimum of a smooth function of many variables, from values and gradients.
 *
 * Limited-memory BFGS with a strong Wolfe line search, in double precision.  Deterministic: the
 * bits depend on the function's bits and nothing else.
 */
#ifndef MT_OPTIM_LBFGS_H
#define MT_OPTIM_LBFGS_H

#include "comm/base/status.h"

struct lbfgs_problem {
    int64_t dim;
    /* The value at x[dim], its gradient in gradient[dim]. */
    double (*evaluate)(void *context, const double *x, double *gradient);
    /* Asked once an iteration; true ends with LBFGS_INTERRUPTED.  NULL = never. */
    bool (*should_stop)(void *context);
    void *context;
};

struct lbfgs_options {
    int32_t history;           /* pairs kept, 1..100; 0 = 10 */
    int32_t max_iterations;    /* 0 = 1000 */
    double gradient_tolerance; /* converged when max |gradient| <= this */
};

enum lbfgs_reason {
    LBFGS_CONVERGED,      /* the gradient is as small as asked for */
    LBFGS_MAX_ITERATIONS, /* gave up */
    LBFGS_PRECISION,      /* no step lowers the value any more: the limit of rounding */
    LBFGS_INTERRUPTED,    /* should_stop said so */
    LBFGS_REASON_COUNT
};

const char *lbfgs_reason_text(enum lbfgs_reason reason); /* "converged", ... */

struct lbfgs_result {
    enum lbfgs_reason reason;
    int32_t iterations, evaluations;
    double value, gradient_max;
};

/* Local.  Begins at x[dim] and leaves the best point found there.  Errors: NOMEM; NUMERIC where the
 * value at the beginning is not finite.
 * Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 7.4, 7.5, 3.5 and 3.6;
 * the approximate Wolfe test near the minimum is Hager and Zhang, SIAM J. Optim. 16 (2005). */
mt_status lbfgs_minimise(const struct lbfgs_problem *problem, const struct lbfgs_options *options,
                         double *x, struct lbfgs_result *result) MT_CHECKED;

#endif
