/*
 * probe: a separate classifier on fixed features: multinomial logistic regression with L2.
 *
 * Minimises  sum_i c(y_i) * -log softmax(W z_i + b)[y_i]  +  l2/2 * |W|^2  over the labelled rows,
 * where z are the features standardised over these rows and b is not penalised (scikit-learn's
 * StandardScaler and LogisticRegression with C = 1/l2).  The scaling is then folded into W and b,
 * so the result is a plain linear head on the raw features.
 *
 * The strength l2 is the one with the best accuracy on dev data over a logarithmic grid, or by
 * k-fold split of train where dev has no labels; of equals the stronger wins.  Each fit begins at
 * the solution of the next stronger one.
 *
 * A row of dev whose class no row of train has counts as wrong and is left out of the mean loss.
 *
 * Pure: no MPI, the same bits with any number of threads and on every rank that holds the same
 * features.
 */
#ifndef MT_TRAINER_PROBE_H
#define MT_TRAINER_PROBE_H

#include "comm/pool.h"
#include "trainer/metrics.h"
#include "trainer/optim/lbfgs.h"

enum { PROBE_GRID_MAX = 64, PROBE_CLASSES_MAX = 4096, PROBE_DIM_MAX = 65536 };

/* The bias of a class that no row of train has: it is never predicted. */
#define PROBE_ABSENT_BIAS (-1.0e4)

struct probe_data {
    const float *features; /* [rows,dim] */
    const int32_t *labels; /* [rows] 0..classes-1, or -1 = no label: skipped */
    int64_t rows;
};

struct probe_options {
    int32_t dim, classes;
    const double *class_weights; /* [classes] >= 0; NULL = all 1 */
    double l2_min, l2_max;       /* both 0 = 1e-3 .. 1e4; equal = that one, nothing to choose */
    int32_t l2_count;            /* points of the grid, both ends included; 0 = 8 */
    double tolerance;            /* of max |gradient| / n; 0 = 1e-6 */
    int32_t max_iterations;      /* of one fit; 0 = 1000 */
    int32_t folds;               /* where there is no dev; 0 = 5 */
    uint64_t seed;               /* of the folds */
    struct pool *pool;           /* borrowed; NULL = the calling thread alone; the same bits */
    bool (*should_stop)(void *context); /* NULL = never; true ends with MT_STOPPED */
    void *stop_context;
};

/* One strength tried. */
struct probe_trial {
    double l2;
    struct class_metrics dev; /* on dev, or on the parts of train left out */
    double dev_loss;          /* mean cross-entropy there */
    struct lbfgs_result fit;  /* of the folds: sums of iterations, the worst gradient and reason */
};

struct probe_result {
    int32_t dim, classes;
    double *weight; /* [classes,dim] */
    double *bias;   /* [classes] */
    double l2;
    struct lbfgs_result fit; /* gradient_max: of the sum; divide by train_rows for a mean */
    int64_t train_rows;      /* labelled */
    int32_t absent_classes;  /* without a row in train */
    bool by_folds;
    int32_t trial_count;
    struct probe_trial trial[PROBE_GRID_MAX]; /* from strong to weak */
    struct class_metrics train, dev;          /* dev: zeros where there is none */
    double train_loss, dev_loss;              /* mean cross-entropy */
};

/* Local.  dev may be NULL.  Owns: the caller, probe_result_release.  Errors: ARG; DATA for a label
 * out of range, a feature that is not finite, or no labelled row at all; NOMEM; STOPPED. */
mt_status probe_train(struct probe_result *out, const struct probe_data *train,
                      const struct probe_data *dev, const struct probe_options *options) MT_CHECKED;
void probe_result_release(struct probe_result *r);

/* Local.  Counts and mean cross-entropy of a trained classifier on labelled rows.  counts: added
 * to, K = r->classes; loss and predictions[rows] (also of rows without a label; of equal scores
 * the first class): may be NULL.  Errors: DATA for a label out of range; NOMEM. */
mt_status probe_evaluate(const struct probe_result *r, const struct probe_data *data,
                         struct class_counts *counts, double *loss,
                         int32_t *predictions) MT_CHECKED;

#endif
